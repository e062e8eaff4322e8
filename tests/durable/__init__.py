"""Long runs under kills and under everything at once; make calls them in full, pytest in short."""
