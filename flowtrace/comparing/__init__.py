"""The first step that differs between two traces, and why.

Door: `diff`.
"""
