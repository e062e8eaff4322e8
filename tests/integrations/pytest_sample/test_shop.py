"""Five failing outcomes, and what must not count as one."""

from pathlib import Path

import pytest
import shop


def test_price_of_cake():  # 1: a call, in a node
    assert shop.price("tea", 2) == 7.0
    shop.price("cake")


@pytest.fixture
def stock():
    return shop.rate("GBP")


def test_stock(stock):  # 2: a setup
    raise AssertionError("never reached")


@pytest.fixture
def till():
    yield []
    shop.rate("JPY")


def test_till(till):  # 3: a teardown
    assert shop.price("tea") == 3.5


def test_each_price(subtests):  # 4: one subtest of two
    for item in ("tea", "cake"):
        with subtests.test(item=item):
            shop.price(item)


@pytest.mark.asyncio
async def test_way_to_nowhere():  # 5: an async test
    assert await shop.deliver("town") == "sent to town"
    await shop.deliver("nowhere")


def test_unknown_item_is_refused():
    with pytest.raises(KeyError):
        shop.price("gold")


@pytest.mark.xfail(raises=TypeError)
def test_cake_is_not_for_sale():
    shop.price("cake")


@pytest.mark.anyio
async def test_way_to_town():
    assert await shop.deliver("town") == "sent to town"


def test_second_time_it_works():  # 1 rerun
    first = not Path("was-here").exists()
    Path("was-here").touch()
    shop.rate("GBP" if first else "EUR")


def test_price_of_tea():
    assert shop.price("tea") == 3.5
