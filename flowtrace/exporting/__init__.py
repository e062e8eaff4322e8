"""A trace in the formats of other tools: timelines, and rows for databases.

Door: `formats`, `timeline`.
"""
