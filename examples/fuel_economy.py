"""The fuel consumption of 406 real cars, and where it breaks: some cars have no figure.

    python examples/fuel_economy.py                                    # a traceback, and nothing on disk
    FLOWTRACE_OUT=artifacts/trace.json python examples/fuel_economy.py # the same, and a file that shows where and why

Only the decorators and the `with flow(...)` line have to do with tracing.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

from flowtrace import flow, traced_node

DATA = Path(__file__).resolve().parent / "data"
LITRES_PER_100_KM = 235.214583  # divided by miles per US gallon

Car = dict[str, Any]


@traced_node(component="fuel", operation="load")
def load(name: str) -> list[Car]:
    cars: list[Car] = json.loads((DATA / name).read_text(encoding="utf-8"))
    return cars


@traced_node(component="fuel", operation="litres_per_100_km")
def litres_per_100_km(car: Car) -> float:
    return round(LITRES_PER_100_KM / car["Miles_per_Gallon"], 2)


@traced_node(component="fuel", operation="summarise")
def summarise(cars: list[Car]) -> dict[str, float]:
    by_origin: dict[str, list[float]] = {}
    for car in cars:
        by_origin.setdefault(car["Origin"], []).append(car["litres"])
    return {origin: round(mean(figures), 2) for origin, figures in sorted(by_origin.items())}


def main() -> None:
    with flow("fuel-economy", version="1"):
        cars = load("auto-mpg.json")
        converted = [{**car, "litres": litres_per_100_km(car)} for car in cars]
        for origin, litres in summarise(converted).items():
            print(f"{origin:<8}{litres:>6.2f} l/100 km")


if __name__ == "__main__":
    main()
