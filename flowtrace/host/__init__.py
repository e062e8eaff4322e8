"""Our footprint in the program's process: switch, clock, log, forks, signals, hooks, and looking at its objects.

Door: `switch`, `log`, `objects`.
"""
