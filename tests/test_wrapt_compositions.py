"""Decorators made with wrapt, over and under `traced_node`, on every binding: as they are without it."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from functools import partial

import deprecated.sphinx
import pytest
import wrapt

from flowtrace import configure, traced_node

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
seen = []


def note(wrapped, instance, args, kwargs):
    seen.append((instance, args, kwargs))
    return wrapped(*args, **kwargs)


class Noting:
    """A decorator that is an object."""

    @wrapt.decorator
    def __call__(self, wrapped, instance, args, kwargs):
        return note(wrapped, instance, args, kwargs)


def plainly(function):
    return function


def switched(function):
    return wrapt.decorator(note, enabled=lambda: True)(function)


DECORATORS = {
    "decorator": wrapt.decorator(note),
    "decorator object": Noting(),
    "decorator with a switch": switched,
    "FunctionWrapper": lambda function: wrapt.FunctionWrapper(function, note),
    "synchronized": wrapt.synchronized,
    "deprecated": deprecated.deprecated(version="1.2", reason="another one is better"),
    "versionadded": deprecated.sphinx.versionadded(version="1.2"),
}
if hasattr(wrapt, "lru_cache"):
    DECORATORS["lru_cache"] = wrapt.lru_cache
ORDERS = {
    "over": lambda decorator, trace: lambda function: decorator(trace(function)),
    "under": lambda decorator, trace: lambda function: trace(decorator(function)),
    "between": lambda decorator, trace: lambda function: trace(decorator(trace(function))),
    "both": lambda decorator, trace: lambda function: decorator(trace(decorator(function))),
}


def over(make, member):
    try:
        return make(member)
    except TypeError:  # `deprecated` takes no class methods
        return member


def classes(make):
    class Shop:
        @make
        def method(self, item, count=2):
            return type(self).__name__, item, count

        @partial(over, make)
        @classmethod
        def over_class(cls, item, count=2):
            return cls.__name__, item, count

        @classmethod
        @make
        def under_class(cls, item, count=2):
            return cls.__name__, item, count

        @partial(over, make)
        @staticmethod
        def over_static(item, count=2):
            return item, count

        @staticmethod
        @make
        def under_static(item, count=2):
            return item, count

        @property
        @make
        def name(self):
            return type(self).__name__

        @make
        def __call__(self, item):
            return item

        @make
        def __eq__(self, other):
            return "equal"

        @make
        def __len__(self):
            return 3

        @make
        def depth(self, levels):
            return levels and self.depth(levels - 1)

        @make
        def each(self, count):
            yield from range(count)

        @make
        async def wait(self, count):
            return count

        @make
        async def stream(self, count):
            for number in range(count):
                yield number

        __hash__ = object.__hash__

    class Branch(Shop):
        @make
        def method(self, item, count=2):
            return "branch", super().method(item, count)

    return Shop, Branch


async def items(stream):
    return [item async for item in stream]


METHODS = ("method", "over_class", "under_class", "over_static", "under_static")


def calls(make):
    """Yield what to call, each by a name."""

    def plain(item, count=2):
        return item, count

    function = make(plain)
    shop_class, branch_class = classes(make)
    shop, branch = shop_class(), branch_class()
    yield from {
        "function": lambda: function(1),
        "function by name": lambda: function(item=1, count=3),
        "function without arguments": lambda: function(),
        "function bound by hand": lambda: function.__get__(shop)(),
        "name": lambda: (function.__name__, shop.method.__name__, shop_class.method.__qualname__),
        "signature": lambda: [str(inspect.signature(each)) for each in (function, shop.method, shop_class.method)],
        "kinds": lambda: (
            inspect.iscoroutinefunction(shop.wait),
            inspect.isgeneratorfunction(shop.each),
            inspect.isasyncgenfunction(shop.stream),
            inspect.ismethod(shop.method),
        ),
        "receiver": lambda: shop.method.__self__ is shop,
        "equality": lambda: (shop.method == shop.method, shop.method == branch.method),
        "receiver by name": lambda: shop_class.method(self=shop, item=1),
        "property": lambda: shop.name,
        "call": lambda: shop(1),
        "==": lambda: shop == 3,
        "len": lambda: len(shop),
        "recursion": lambda: shop.depth(4),
        "generator": lambda: list(shop.each(3)),
        "coroutine": lambda: asyncio.run(shop.wait(3)),
        "async generator": lambda: asyncio.run(items(shop.stream(3))),
        "partial": lambda: partial(shop.method, 1)(count=5),
        "map": lambda: list(map(shop.method, "ab")),
    }.items()
    for name in METHODS:
        for owner in (shop, branch):
            kind = type(owner).__name__
            yield f"{kind}.{name}", lambda owner=owner, name=name: getattr(owner, name)("tea", 2)
            yield f"{kind}.{name} by name", lambda owner=owner, name=name: getattr(owner, name)(item="tea")
            yield f"{kind}.{name} without arguments", lambda owner=owner, name=name: getattr(owner, name)()
            receiver = [owner] if name == "method" else []
            yield (
                f"class {kind}.{name}",
                lambda owner=owner, name=name, receiver=receiver: getattr(type(owner), name)(*receiver, "tea"),
            )


def class_calls(make):
    class Shop:
        def __init__(self, price=1):
            self.cost = price

        def price(self):
            return self.cost

        @classmethod
        def made(cls):
            return cls(5).cost

        @staticmethod
        def fixed():
            return 9

    decorated = make(Shop)
    return {
        "method": lambda: decorated(4).price(),
        "class method": lambda: decorated.made(),
        "static method": lambda: decorated.fixed(),
        "isinstance": lambda: isinstance(decorated(), decorated),
        "subclass": lambda: type("Branch", (decorated,), {})(3).price(),
        "name": lambda: (decorated.__name__, type(decorated).__name__),
    }.items()


def told(result):
    text = f"{type(result).__name__}: {result}" if isinstance(result, Exception) else repr(result)
    return re.sub(r"0x[0-9a-f]+|_lru_cache_method_\d+", "...", text)


def transcript(found):
    """Return what each call gave, and what the decorators saw of it."""
    lines = {}
    for name, call in found:
        seen.clear()
        try:
            result = call()
        except Exception as error:
            result = error
        lines[name] = (told(result), told(seen))
    return lines


@pytest.fixture(params=["off", "always"])
def tracing(request, tmp_path):
    configure(mode=request.param, out_path=tmp_path / "t.json", capture_inputs=True)


CASES = [(name, order) for name in DECORATORS for order in ORDERS if (name, order) != ("synchronized", "both")]
"""Twice synchronized, a coroutine waits for itself."""


@pytest.mark.costly
@pytest.mark.parametrize(("name", "order"), CASES)
def test_a_decorator_and_a_node_give_what_the_decorator_gives(tracing, name, order):
    combine, decorator = ORDERS[order], DECORATORS[name]
    expected = transcript(calls(combine(decorator, plainly)))
    assert len(expected) == 60
    assert transcript(calls(combine(decorator, traced_node))) == expected


@pytest.mark.parametrize(("name", "order"), CASES)
def test_a_decorated_class_is_a_node_like_any_other(tracing, name, order):
    combine, decorator = ORDERS[order], DECORATORS[name]
    try:
        expected = transcript(class_calls(combine(decorator, plainly)))
    except Exception as error:
        with pytest.raises(type(error)):
            class_calls(combine(decorator, traced_node))
    else:
        assert transcript(class_calls(combine(decorator, traced_node))) == expected


@pytest.mark.parametrize("name", METHODS)
def test_a_node_that_is_wrapped_later(tracing, name):
    """As tools do that wrap the functions of a library."""

    def patched(make):
        shop_class, branch_class = classes(make)
        wrapt.wrap_function_wrapper(shop_class, name, note)
        shop, branch = shop_class(), branch_class()
        return {
            "instance": lambda: getattr(shop, name)("tea"),
            "subclass": lambda: getattr(branch, name)("tea", count=3),
            "class": lambda: getattr(shop_class, name)(*([shop] if name == "method" else []), "tea"),
        }.items()

    assert transcript(patched(traced_node)) == transcript(patched(plainly))


@pytest.mark.parametrize("order", ["over", "under", "between"])
def test_the_lock_of_a_synchronized_method_is_that_of_the_instance(tracing, order):
    class Account:
        @ORDERS[order](wrapt.synchronized, traced_node)
        def hold(self, started, free):
            started.set()
            return free.wait(60)

    started, free, ended = threading.Event(), threading.Event(), threading.Event()
    ended.set()
    thread = threading.Thread(target=Account().hold, args=(started, free))
    thread.start()
    assert started.wait(60)
    other = threading.Thread(target=Account().hold, args=(threading.Event(), ended))
    other.start()
    other.join(10)
    assert not other.is_alive()  # the first account is still held
    free.set()
    thread.join(10)


@pytest.mark.skipif(not hasattr(wrapt, "lru_cache"), reason="this wrapt has no lru_cache")
def test_what_a_bound_method_has_is_asked_of_the_bound_one():
    def made(trace):
        class Host:
            @trace
            @wrapt.lru_cache
            def method(self, value):
                return value

        host = Host()
        return (
            host.method(1),
            host.method(1),
            Host().method.cache_info(),
            host.method.cache_info(),
            repr(host.method)[:20],
        )

    assert made(traced_node) == made(plainly)
    configure(mode="always", out_path="trace.json")
    assert made(traced_node) == made(plainly)
