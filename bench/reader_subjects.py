"""A long trace for those who read it, of nodes that a replay can call again."""

from __future__ import annotations

import sys
from pathlib import Path

from subjects import Slot

NODES = """
from dataclasses import dataclass

from flowtrace import traced_node


@dataclass
class Order:
    item: str
    count: int
    size: tuple[int, int]


@traced_node(component="shop")
def price(order: Order, rate: float = 1.0) -> float:
    return order.count * rate


@traced_node(component="shop")
def total(item: str, numbers: list[float]) -> dict[str, object]:
    return {"item": item, "sum": sum(numbers)}


@traced_node(component="shop")
def sell(number: int) -> None:
    amount = price(Order("tea", number, (number, 1)), rate=2.0)
    total("tea", [1, amount, number])
"""
OF_A_SALE = 3  # steps


def long_traces(steps: int, names: list[str]) -> dict[str, Slot]:
    """Write the traces of two equal runs, and the module of their functions.

    Args:
        steps: how many of them each trace has, or one or two fewer.
        names: of the files.
    """
    import flowtrace

    Path("bench_shop.py").write_text(NODES, encoding="utf-8")
    sys.path.insert(0, str(Path.cwd()))
    import bench_shop  # type: ignore[import-not-found]  # it was just written

    settings = {"capture_inputs": True, "capture_outputs": True, "buffer_size": steps, "buffer_bytes": 1 << 30}
    settings["max_overhead"] = 0  # no value is left out: two equal runs give equal traces

    def write(_: int) -> dict[str, int]:
        for name in names:
            with flowtrace.override(mode="on", out_path=Path.cwd() / name, **settings):
                for number in range(steps // OF_A_SALE):
                    bench_shop.sell(number)
                flowtrace.dump()
        return {name: Path(name).stat().st_size for name in names}

    return {"once": Slot(write)}
