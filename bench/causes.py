"""Why goals of the benchmark are missed: the page shows a cause where its row misses, and only there."""

from __future__ import annotations

# By the key of the row, as `benchmark.py` prints it; no full stop at the end.
CAUSES: dict[str, str] = {}
