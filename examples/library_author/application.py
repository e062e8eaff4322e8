"""An application that uses the `geo` library, and switches its tracing on at run time for one piece of work.

python examples/library_author/application.py [TRACE]
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from geo import Place, distance_km, nearest

import flowtrace

DATA = Path(__file__).resolve().parent.parent / "data"
SEATTLE = Place("Seattle", 47.6062, -122.3321)


def airports(*codes: str) -> list[Place]:
    with (DATA / "airports.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["iata"]: row for row in csv.DictReader(file)}
    return [Place(code, float(rows[code]["latitude"]), float(rows[code]["longitude"])) for code in codes]


def show(path: str) -> None:
    if not Path(path).exists():  # FLOWTRACE_DISABLED is set, and wins over code
        print("no trace")
        return
    trace = flowtrace.load_trace(path)
    depth = {None: 0}
    for step in sorted(trace.steps, key=lambda step: step.step_id or ""):
        depth[step.step_id] = depth.get(step.parent_step_id, 0) + 1
        ending = f"{step.error.code}: {step.error.message}" if step.error else "ok"
        print(f"{'  ' * depth[step.step_id]}{step.operation}: {ending}")


def main(path: str) -> None:
    candidates = airports("SFO", "SEA", "PDX")

    print("off:", nearest(SEATTLE, candidates).name, "- is there a trace?", Path(path).exists())

    with flowtrace.override(mode="always", out_path=path):
        print("on:", nearest(SEATTLE, candidates).name)
        show(path)
        try:
            distance_km(SEATTLE, Place("nowhere", 91.0, 0.0))
        except ValueError as error:
            print("on, and it fails:", error)
        show(path)

    Path(path).unlink(missing_ok=True)
    print("off:", nearest(SEATTLE, candidates).name, "- is there a trace?", Path(path).exists())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "artifacts/geo.json")
