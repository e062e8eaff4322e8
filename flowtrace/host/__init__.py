"""Being a guest in the process: switch, clock, log, forks, signals, hooks, and looking at objects.

Door: `switch`, `log`, `objects`.
"""
