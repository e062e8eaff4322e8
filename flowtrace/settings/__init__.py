"""The settings: one table of environment variables, one `TraceConfig`.

Door: `config`, `variables`.
"""
