"""Long runs under kills; make calls them in full, pytest in short."""
