"""The part of every call that is ours, in C (`native`) or in Python (`pure`), behind one interface.

Door: `core`.
"""
