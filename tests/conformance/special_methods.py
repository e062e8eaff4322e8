"""Methods that Python calls by itself."""

from __future__ import annotations

import asyncio
from typing import Any

from .transcript import drive, outcome


def operators(decorate):
    class Number:
        @decorate
        def __init__(self, value):
            self.value = value

        @decorate
        def __add__(self, other):
            return NotImplemented if isinstance(other, str) else ("add", self.value, other)

        @decorate
        def __radd__(self, other):
            return ("radd", other, self.value)

        @decorate
        def __eq__(self, other):
            return isinstance(other, Number) and self.value == other.value

        @decorate
        def __hash__(self):
            return hash(self.value)

        @decorate
        def __lt__(self, other):
            return self.value < other.value

        @decorate
        def __len__(self):
            return self.value

        @decorate
        def __bool__(self):
            return self.value > 1

        @decorate
        def __repr__(self):
            return f"Number({self.value})"

        @decorate
        def __format__(self, form):
            return f"{self.value}:{form}"

        @decorate
        def __getitem__(self, key):
            return self.value, key

        @decorate
        def __contains__(self, item):
            return item == self.value

        @decorate
        def __index__(self):
            return self.value

        @decorate
        def __call__(self, *args, **kwargs):
            return args, kwargs

    one, two = Number(1), Number(2)
    seen = [one + 2, 2 + one, outcome(lambda: one + "text"), one == Number(1), one != two, {one: 1}[Number(1)]]
    seen += [one < two, sorted([two, one])[0].value, len(two), bool(one), repr(two), f"{two:x}", two[1:3], 2 in two]
    return [*seen, [5, 6, 7][two], two(1, a=2), outcome(Number), outcome(lambda: one()[2])]


def attribute_access(decorate):
    class Record:
        @decorate
        def __getattr__(self, name):
            if name == "missing":
                raise AttributeError(name)
            return f"made {name}"

        @decorate
        def __setattr__(self, name, value):
            object.__setattr__(self, name, [value])

        @decorate
        def __delattr__(self, name):
            object.__delattr__(self, name)

        @decorate
        def __dir__(self):
            return ["one", "two"]

    record = Record()
    record.set = 1
    seen = [record.other, record.set, hasattr(record, "missing"), getattr(record, "missing", "default"), dir(record)]
    del record.set
    return [*seen, record.set]


def iteration(decorate):
    class Count:
        def __init__(self, end):
            self.end = end

        @decorate
        def __iter__(self):
            yield from range(self.end)

        @decorate
        def __reversed__(self):
            yield from reversed(range(self.end))

    class Down:
        def __init__(self, start):
            self.number = start

        def __iter__(self):
            return self

        @decorate
        def __next__(self):
            if not self.number:
                raise StopIteration("done")
            self.number -= 1
            return self.number

    down = Down(1)
    first, *rest = Count(3)
    return (
        list(Count(3)),
        list(reversed(Count(3))),
        list(Down(3)),
        first,
        rest,
        2 in Count(3),
        next(down),
        outcome(next, down),
    )


def context_managers(decorate):
    class Manager:
        @decorate
        def __enter__(self):
            return "entered"

        @decorate
        def __exit__(self, kind, error, traceback):
            log.append((kind, str(error), traceback is None))
            return kind is KeyError

        @decorate
        async def __aenter__(self):
            await asyncio.sleep(0)
            return "entered"

        @decorate
        async def __aexit__(self, kind, error, traceback):
            log.append((kind, str(error), traceback is None))
            return kind is KeyError

    async def main():
        async with Manager() as value:
            log.append(value)
        async with Manager():
            raise KeyError("swallowed")

    def fails():
        with Manager():
            raise ValueError("let through")

    log: list[Any] = []
    with Manager() as value:
        log.append(value)
    with Manager():
        raise KeyError("swallowed")
    drive(main())
    return log, outcome(fails)


def awaitables(decorate):
    class Answer:
        @decorate
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return "answer"

    class Stream:
        def __init__(self):
            self.left = 2

        @decorate
        def __aiter__(self):
            return self

        @decorate
        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    class Generated:
        @decorate
        async def __aiter__(self):
            yield 1
            yield 2

    async def main():
        return await Answer(), [item async for item in Stream()], [item async for item in Generated()]

    return drive(main()), asyncio.run(main())


def class_machinery(decorate):
    log = []

    class Base:
        @decorate
        def __new__(cls, *args, **kwargs):
            log.append(("new", cls.__name__, args))
            return super().__new__(cls)

        @decorate
        def __init_subclass__(cls, /, option=None, **kwargs):
            super().__init_subclass__(**kwargs)
            log.append(("subclass", cls.__name__, option))

        @decorate
        def __class_getitem__(cls, item):
            return cls.__name__, item

        @decorate
        def __set_name__(self, owner, name):
            log.append(("name", owner.__name__, name))

    class Child(Base, option=3):
        field = Base(1)

    child = Child(2, 3)
    seen = [type(child).__name__, Child[int], Base["x"], log]
    for name in ("__new__", "__init_subclass__", "__class_getitem__", "__set_name__"):
        seen.append((name, type(vars(Base)[name]) in (staticmethod, classmethod), callable(getattr(Base, name))))
    return seen


def metaclasses(decorate):
    class Meta(type):
        @decorate
        def __new__(mcs, name, bases, namespace, **options):
            return super().__new__(mcs, name, bases, namespace | {"made": sorted(options)})

        @decorate
        def __call__(cls, *args):
            return ("called", super().__call__(*args).values)

        @decorate
        def __instancecheck__(cls, instance):
            return instance == "instance"

        @decorate
        def __prepare__(name, bases, **options):
            return {"prepared": name}

        __prepare__ = staticmethod(__prepare__)

        @decorate
        def __getitem__(cls, key):
            return cls.__name__, key

    class Host(metaclass=Meta, option=1):
        def __init__(self, *values):
            self.values = values

    return Host.made, Host.prepared, Host(1, 2), isinstance("instance", Host), Host[3]


SCENARIOS = (operators, attribute_access, iteration, context_managers, awaitables, class_machinery, metaclasses)
