"""The run of the pictures: orders are priced, and one product has no price. With `mended`, it is given one."""

from __future__ import annotations

import asyncio
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal

from flowtrace import current_step, flow, traced_node

PRICES = {"assam": "8.40", "oolong": "", "sencha": "14.50", "tin": "3.20", "pot": "62.00"}
ORDERS = {701: ["assam", "tin"], 702: ["sencha"], 703: ["pot", "oolong", "assam"], 704: ["tin", "tin"]}
POOL = ThreadPoolExecutor(2, "stock")
FALLBACK = Decimal("9.90") if "mended" in sys.argv else None


@dataclass(frozen=True)
class Line:
    product: str
    count: int
    price: Decimal | None


class PriceError(Exception):
    """An order that has no price."""


@traced_node(component="catalog", operation="look_up")
async def look_up(product: str) -> dict:
    await asyncio.sleep(0.002)
    price = Decimal(PRICES[product]) if PRICES[product] else FALLBACK
    if price is None:
        current_step().add_validation_issue("no_price", "/price", f"the catalog has no price of {product}")
    return {"product": product, "price": price}


@traced_node(component="stock", operation="reserve")
def reserve(product: str, count: int) -> str:
    time.sleep(0.003)
    return f"{product}/{count}"


@traced_node(component="bank", operation="rate")
def rate(currency: str, api_token: str, attempt: int) -> Decimal:
    time.sleep(0.004)
    if attempt == 1:
        raise ConnectionError("the bank is asleep")
    return Decimal("1.08")


@traced_node(component="orders", operation="price_line")
def price_line(line: Line, discount: Decimal) -> Decimal:
    try:
        return line.price * line.count * (1 - discount)
    except TypeError as error:
        raise PriceError(f"{line.product} has no price") from error


@traced_node(component="orders", operation="price")
async def price(number: int, products: list[str], discount: Decimal) -> Decimal:
    found = await asyncio.gather(*(look_up(product) for product in products))
    lines = [Line(item["product"], 2 + at, item["price"]) for at, item in enumerate(found)]
    list(POOL.map(lambda line: reserve(line.product, line.count), lines))
    total = Decimal(0)
    for line in lines:
        await asyncio.sleep(0.001)
        total += price_line(line, discount)
    return total


@traced_node(component="orders", operation="settle")
async def settle(orders: dict[int, list[str]], api_token: str) -> list[Decimal]:
    for attempt in (1, 2):
        try:
            rate("USD", api_token, attempt)
        except ConnectionError:
            await asyncio.sleep(0.002)
    return [await price(number, products, Decimal("0.12")) for number, products in orders.items()]


with flow("nightly_orders", version="3"):
    asyncio.run(settle(ORDERS, "rt_live_51HqXk2eZvKYlo2C"))
