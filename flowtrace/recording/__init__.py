"""One call while it is in memory, the run it belongs to, and when that becomes a file.

Door: `process`, `recorder`.
"""
