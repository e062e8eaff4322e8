"""Where the interpreter goes by the exact type of a function or a body: a traced one is treated as the real one is."""

import asyncio
import collections.abc
import inspect
import operator
import subprocess
import sys
import types
from functools import partial

import pytest

import flowtrace
from flowtrace.calls.core import implementation


def identity(target):
    return target


@pytest.fixture(params=["undecorated", "off", "on", "always"])
def decorate(request, tmp_path):
    if request.param == "undecorated":
        return identity
    flowtrace.configure(mode=request.param, out_path=tmp_path / "trace.json")
    return flowtrace.traced_node


def failing(call, *arguments):
    with pytest.raises(TypeError) as caught:
        call(*arguments)
    return str(caught.value)


def test_a_marked_generator_may_yield_from_a_coroutine(decorate):
    @decorate
    async def returns():
        return 5

    @decorate
    async def waits():
        await asyncio.sleep(0)
        return 6

    @types.coroutine
    def marked(body):
        return (yield from body)

    async def main():
        return await marked(returns()), await marked(waits())

    assert asyncio.run(main()) == (5, 6)


def test_nothing_else_may_iterate_over_a_coroutine(decorate):
    @decorate
    async def coroutine():
        pass

    def unmarked(body):
        yield from body

    def unpacked(body):
        first, second = body
        return first, second

    @types.coroutine
    def loops(body):
        for item in body:
            yield (item,)

    body = coroutine()
    assert not isinstance(body, collections.abc.Iterable)
    assert not hasattr(body, "__iter__")
    assert failing(next, unmarked(body)) == "cannot 'yield from' a coroutine object in a non-coroutine generator"
    for call in (list, iter, lambda given: next(loops(given))):
        assert failing(call, body) == "'coroutine' object is not iterable"
    assert failing(unpacked, body) == "cannot unpack non-iterable coroutine object"
    assert failing(lambda given: [*given], body) == "Value after * must be an iterable, not coroutine"
    body.close()


def test_what_is_awaited_is_of_its_own_type(decorate):
    @decorate
    async def coroutine():
        await asyncio.sleep(0)
        return 3

    @decorate
    async def items():
        yield 1

    body, stream = coroutine(), items()
    awaited = body.__await__()
    assert type(awaited).__name__ == "coroutine_wrapper"
    assert repr(awaited).startswith("<coroutine_wrapper object at 0x")
    assert isinstance(awaited, collections.abc.Generator)
    assert not isinstance(awaited, collections.abc.Awaitable)
    assert not hasattr(awaited, "cr_frame")
    assert list(awaited) == [None]
    for asked, name in (
        (stream.asend(None), "asend"),
        (stream.athrow(ValueError), "athrow"),
        (stream.aclose(), "athrow"),
    ):
        assert type(asked).__name__ == f"async_generator_{name}"
        asked.close()


def test_a_coroutine_that_waits_is_seen_by_the_one_that_waits_for_it(decorate):
    @decorate
    async def inner():
        await asyncio.sleep(0)

    async def outer():
        await inner()

    body = outer()
    body.send(None)
    assert inspect.iscoroutine(body.cr_await)
    assert body.cr_await.__name__ == "inner"
    body.close()


def test_the_type_of_a_function_makes_a_function(decorate):
    @decorate
    def function(first, second=2):
        return first, second

    made = type(function)(function.__code__, globals(), "made", function.__defaults__, function.__closure__)
    by_name = type(function)(code=function.__code__, globals=globals())
    assert (made(1), made.__name__, by_name(3, 4)) == ((1, 2), "made", (3, 4))
    assert type(made) is types.FunctionType


class Watching(type):
    """A metaclass that refuses what is set."""

    def __setattr__(cls, name, value):
        raise TypeError(f"{name} is set")


def test_a_metaclass_sees_nothing_set(decorate):
    class Shop(metaclass=Watching):
        @decorate
        def __new__(cls, *arguments):
            return super().__new__(cls)

        @decorate
        def __init_subclass__(cls, **options):
            cls_names.append(cls.__name__)

        @decorate
        def __class_getitem__(cls, item):
            return cls.__name__, item

    cls_names = []

    class Branch(Shop):
        pass

    assert (type(Branch(1)), Shop[2], cls_names) == (Branch, ("Shop", 2), ["Branch"])
    kinds = [type(vars(Shop)[name]) for name in ("__new__", "__init_subclass__", "__class_getitem__")]
    assert kinds == [staticmethod, classmethod, classmethod]


def test_a_metaclass_sees_nothing_set_where_a_class_is_decorated(decorate):
    @decorate
    class Shop(metaclass=Watching):
        def price(self):
            return 3

        @classmethod
        def name(cls):
            return cls.__name__

    assert (Shop().price(), Shop.name()) == (3, "Shop")


@pytest.mark.parametrize(
    "name", ["__call__", "__get__", "__reduce__", "__deepcopy__", "__hash__", "__eq__", "__repr__"]
)
def test_an_attribute_that_a_program_sets_is_the_functions(decorate, name):
    @decorate
    def function():
        return 1

    setattr(function, name, "mine")
    assert getattr(function, name) == "mine"
    delattr(function, name)
    assert getattr(function, name, None) != "mine"
    assert function() == 1


def test_an_attribute_that_looks_like_a_hook_is_not_called(decorate):
    def function(self):
        return self

    calls = []
    function.__set_name__ = lambda *given: calls.append(given)
    type("Host", (), {"method": decorate(function)})
    assert calls == []


@pytest.mark.skipif(implementation() == "pure", reason="the pure twin has wrapt's type")
@pytest.mark.parametrize(
    "name", ["__name__", "__qualname__", "__doc__", "__code__", "__defaults__", "__globals__", "__dict__"]
)
def test_attributes_are_found_by_the_type_as_well(decorate, name):
    @decorate
    def function(value=1):
        """A function."""

    assert object.__getattribute__(function, name) is getattr(function, name)
    assert inspect.getattr_static(function, name).__get__(function) is getattr(function, name)


class Counting:
    def __call__(self, *given):
        return len(given), *given


@pytest.mark.parametrize(
    "function", [partial(Counting(), 0), Counting(), operator.is_, type], ids=["partial", "object", "built-in", "class"]
)
@pytest.mark.parametrize("kind", [classmethod, staticmethod])
def test_a_class_method_of_what_does_not_bind_gets_its_class(decorate, kind, function):
    class Host:
        method = decorate(kind(function))
        expected = kind(function)

    for given in ((), (Host,), (1, 2)):
        assert told(Host.method, *given) == told(Host.expected, *given)
        assert told(Host().method, *given) == told(Host().expected, *given)


def told(call, *arguments):
    try:
        return call(*arguments)
    except TypeError as error:
        return str(error)


AUDITED = """
import sys
from flowtrace import traced_node

seen = []

@traced_node
def hook(event, arguments):
    seen.append(event)

@traced_node
def work(value):
    return value

sys.addaudithook(hook)
sys.audit("program.asks", 1)
work(1)
sys.audit("program.asks", 2)
print(seen.count("program.asks"), len(seen) < 1000)
"""


@pytest.mark.parametrize("mode", ["off", "on", "always"])
def test_an_audit_hook_can_be_a_node(tmp_path, monkeypatch, mode):
    """It is called for what recording its own calls does, too."""
    monkeypatch.setenv("FLOWTRACE_MODE", mode)
    monkeypatch.setenv("FLOWTRACE_OUT", str(tmp_path / "trace.json"))
    run = subprocess.run([sys.executable, "-c", AUDITED], capture_output=True, encoding="utf-8", timeout=30)
    assert (run.stdout, run.stderr) == ("2 True\n", "")
