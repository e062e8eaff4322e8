"""Recorded by each supported Python into the traces beside it: `python tests/replay/elsewhere/program.py TRACE`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from flowtrace import dump, override, traced_node


class Kind(StrEnum):
    SMALL = "small"


@dataclass(frozen=True)
class Order:
    item: str
    prices: tuple[Decimal, ...]
    kind: Kind | None = None


@traced_node(component="elsewhere")
def described(order: Order, *, when: datetime) -> dict[str, object]:
    match order:
        case Order(kind=Kind.SMALL):
            size = f"{order.kind!r:>{20}}"
        case _:
            size = "unknown"
    return {"size": size, "total": sum(order.prices), "when": when, "order": order}


@traced_node(component="elsewhere")
def numbers(count: int) -> Iterator[tuple[int, int]]:
    yield from ((number, number**2) for number in range(count))


@traced_node(component="elsewhere")
async def gathered(names: set[str]) -> list[str]:
    return sorted([await asyncio.sleep(0, name.upper()) for name in names])


@traced_node(component="elsewhere")
def failing(order: Order) -> Decimal:
    return order.prices[5]


if __name__ == "__main__":
    with override(mode="on", out_path="unused.json", capture_inputs=True, capture_outputs=True):
        tea = Order("tea", (Decimal("1.5"), Decimal("2.5")), Kind.SMALL)
        described(tea, when=datetime(2026, 11, 24, tzinfo=UTC))
        list(numbers(3))
        asyncio.run(gathered({"a", "b"}))
        with suppress(IndexError):
            failing(tea)
        dump(sys.argv[1])
