"""A small shop: what the tests of the sample project call."""

import anyio

from flowtrace import traced_node

RATES = {"EUR": 1.0, "USD": 2.0}
PRICES = {"tea": 3.5, "cake": None}


@traced_node(component="bank", operation="rate")
def rate(currency: str) -> float:
    return RATES[currency]


@traced_node(component="shop", operation="price")
def price(item: str, count: int = 1, currency: str = "EUR") -> float:
    return PRICES[item] * count * rate(currency)


@traced_node(component="shop", operation="deliver")
async def deliver(place: str) -> str:
    await anyio.sleep(0)
    if place == "nowhere":
        raise LookupError(f"there is no way to {place}")
    return f"sent to {place}"
