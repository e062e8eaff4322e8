"""Any value to canonical bytes and their hash, what is hidden in it, and back again.

Door: `encode`, `rebuild`, `json`.
"""
