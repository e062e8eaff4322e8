"""3,376 US airports through a flow in mode `always`: the buffer keeps the last 20 steps, and the others are counted.

python examples/airports.py [TRACE]
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import flowtrace
from flowtrace import flow, traced_node

DATA = Path(__file__).resolve().parent / "data"


@traced_node(component="airports")
def parse(row: dict[str, str]) -> dict[str, Any]:
    return {**row, "latitude": float(row["latitude"]), "longitude": float(row["longitude"])}


@traced_node(component="airports")
def states_with_most(airports: list[dict[str, Any]], count: int = 3) -> list[tuple[str, int]]:
    return Counter(airport["state"] for airport in airports).most_common(count)


def main(out_path: str) -> None:
    recorder = flowtrace.configure(mode="always", out_path=out_path)

    with (DATA / "airports.csv").open(encoding="utf-8", newline="") as file, flow("airports", version="1"):
        airports = [parse(row) for row in csv.DictReader(file)]
        for state, count in states_with_most(airports):
            print(f"{state}: {count} airports")

    if recorder.is_off:  # FLOWTRACE_DISABLED is set, and wins over code
        print(f"{len(airports)} rows; tracing is disabled")
        return
    trace = flowtrace.load_trace(out_path)
    print(f"{len(airports)} rows, {len(trace.steps)} steps kept, {trace.dropped_steps} dropped")
    print(f"the last one: {trace.steps[-1].node_id}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "artifacts/airports.json")
