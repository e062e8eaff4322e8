"""Which step of two traces differs first, and why."""
