"""The last steps in a mapped file that outlives the process.

Door: `keeper`, `recover`.
"""
