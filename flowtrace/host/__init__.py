"""What we touch of the process we are a guest in: switch, clock, log, forks, signals, hooks, and looking at objects."""
