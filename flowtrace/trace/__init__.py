"""The file trace.json: its records, reading and checking it, writing it atomically, and how many are kept.

Door: `model`, `files`.
"""
