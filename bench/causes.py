"""Why goals of the benchmark are missed: the page shows a cause where its row misses, and only there."""

from __future__ import annotations

_BEFORE = "the hot path that the design describes is not built yet"

# By the key of the row, as `benchmark.py` prints it; no full stop at the end.
CAUSES = {
    "off-method": "a decorated method is a wrapper that is bound anew for each call, even while tracing is off",
    "on-otel": _BEFORE,
    "on-box-capture": "each step is packed, checked and copied twice, in Python: at its start and at its end",
    "on-box": "the same, and two hashes at the call, since without capture no value may wait in the file",
    "on-wrapt": _BEFORE,
    "on-generator": _BEFORE,
    "dict-time": "each key is compared with the names to redact, in Python",
    "dict-memory": _BEFORE,
    "dict-memory-captured": _BEFORE,
    "values-memory": _BEFORE,
    "values-memory-captured": _BEFORE,
    "failure": "a trace is written twice, at the failure and at the end of its run, and its folder is synced each time",
    "scale-tasks": _BEFORE,
}
