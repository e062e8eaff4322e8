"""Bridges to other libraries: one file a library, imported by the programs that use it.

Door: `logging`, `pytest`.
"""
