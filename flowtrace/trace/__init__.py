"""The file trace.json: its records, reading, checking and writing it, how many are kept, and where a value came from.

Door: `model`, `files`.
"""
