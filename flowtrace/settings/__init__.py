"""What was asked for: one table of environment variables, one `TraceConfig`."""
