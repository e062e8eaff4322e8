"""`traced_node`, `flow` and the wrappers: with `host` and `calls`, all that `import flowtrace` loads.

Door: `traced_node`, `flow`.
"""
