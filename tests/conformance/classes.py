"""Decorated functions in classes of every kind, and in the hands of the standard library."""

from __future__ import annotations

import abc
import dataclasses
import enum
import functools
import inspect
import typing

from .transcript import outcome


def descriptors_and_properties(decorate):
    class Field:
        @decorate
        def __set_name__(self, owner, name):
            self.name = name

        @decorate
        def __get__(self, instance, owner=None):
            return self if instance is None else instance.__dict__.get(self.name, "unset")

        @decorate
        def __set__(self, instance, value):
            instance.__dict__[self.name] = [value]

    class Host:
        field = Field()

        def __init__(self):
            self.calls = 0

        @property
        @decorate
        def value(self):
            "The value."
            return self.calls

        @value.setter
        @decorate
        def value(self, new):
            self.calls = new

        @value.deleter
        @decorate
        def value(self):
            self.calls = "deleted"

        @functools.cached_property
        @decorate
        def once(self):
            "Made once."
            self.calls += 1
            return self.calls

        @property
        @decorate
        def broken(self):
            raise AttributeError("inside the getter")

    host = Host()
    seen = [
        host.field,
        type(Host.field).__name__,
        host.once,
        host.once,
        host.value,
        Host.value.__doc__,
        Host.once.__doc__,
    ]
    host.field = 1
    host.value = 7
    seen += [
        host.field,
        host.value,
        host.once,
        outcome(lambda: host.broken),
        outcome(setattr, host, "once", 9),
        host.once,
    ]
    del host.value
    return [*seen, host.value, Host.value.fget.__name__, Host.once.attrname, hasattr(host, "broken")]


def abstract_methods(decorate):
    class Base(abc.ABC):
        @decorate
        @abc.abstractmethod
        def outside(self): ...

        @abc.abstractmethod
        @decorate
        def inside(self): ...

        @property
        @abc.abstractmethod
        @decorate
        def value(self): ...

        @classmethod
        @abc.abstractmethod
        @decorate
        def of_class(cls): ...

        @decorate
        @staticmethod
        @abc.abstractmethod
        def static(): ...

    class Half(Base):
        @decorate
        def outside(self):
            return "outside"

    class Full(Half):
        inside = value = of_class = static = decorate(lambda self=None: "full")

    return (
        sorted(Base.__abstractmethods__),
        outcome(Half),
        sorted(Half.__abstractmethods__),
        Full().outside(),
        Full().inside(),
    )


def dispatch(decorate):
    @functools.singledispatch
    @decorate
    def show(value):
        return "any"

    @show.register
    @decorate
    def _(value: int):
        return "int"

    @show.register(str)
    @decorate
    def _(value):
        return "str"

    class Host:
        @functools.singledispatchmethod
        @decorate
        def show(self, value):
            return "any"

        @show.register
        @decorate
        def _(self, value: int):
            return "int"

    @decorate
    @functools.singledispatch
    def outside(value):
        return "any"

    outside.register(int, lambda value: "int")
    return [show(1), show("x"), show(None), Host().show(1), Host().show("x"), outside(1), outside("x"), show.__name__]


def caches_and_orderings(decorate):
    calls = []

    @functools.lru_cache
    @decorate
    def inside(value):
        calls.append(value)
        return value

    @decorate
    @functools.lru_cache(maxsize=2)
    def outside(value):
        calls.append(value)
        return value

    @functools.total_ordering
    class Version:
        def __init__(self, number):
            self.number = number

        @decorate
        def __eq__(self, other):
            return self.number == other.number

        @decorate
        def __lt__(self, other):
            return self.number < other.number

    seen = [inside(1), inside(1), outside(2), outside(2), calls, inside.cache_info(), outside.cache_info()]
    outside.cache_clear()
    seen += [outside.cache_info(), outside.cache_parameters(), Version(1) >= Version(0), Version(1) <= Version(0)]
    by_key = sorted([3, 1, 2], key=functools.cmp_to_key(decorate(lambda a, b: a - b)))
    return [*seen, by_key, functools.reduce(decorate(lambda a, b: a + b), [1, 2, 3]), list(map(decorate(str), [1]))]


def enums(decorate):
    class Color(enum.Enum):
        RED = 1

        @decorate
        def describe(self):
            return self.name

        @classmethod
        @decorate
        def default(cls):
            return cls.RED

        @decorate
        @staticmethod
        def count():
            return 1

        @decorate
        def _generate_next_value_(name, start, count, last):
            return name.lower()

        GREEN = enum.auto()

        @classmethod
        @decorate
        def _missing_(cls, value):
            return cls.RED

    return [
        *(list(Color.__members__), Color.RED.describe(), Color.default().name, Color.count(), Color("other").name),
        Color.GREEN.value,
    ]


def dataclasses_and_tuples(decorate):
    @dataclasses.dataclass(order=True, slots=True)
    class Point:
        x: int
        y: int = dataclasses.field(default_factory=decorate(lambda: 5))

        @decorate
        def __post_init__(self):
            self.x += 1

        @decorate
        def total(self):
            return self.x + self.y

    class Row(typing.NamedTuple):
        name: str

        @decorate
        def upper(self):
            return self.name.upper()

    point = Point(1)
    return (
        repr(point)[-12:],
        point.total(),
        dataclasses.replace(point, x=4).x,
        Point(1) < Point(2),
        Row("a").upper(),
        Row("a"),
    )


def inheritance(decorate):
    class Left:
        @decorate
        def who(self):
            return ["left"]

        @classmethod
        @decorate
        def of_class(cls):
            return [cls.__name__, "left"]

        @decorate
        @staticmethod
        def static():
            return ["left"]

    class Right:
        @decorate
        def who(self):
            return ["right"]

    class Both(Left, Right):
        @decorate
        def who(self):
            return ["both", *super().who(), *super(Left, self).who(), *Right.who(self), *Left.who(self=self)]

        @decorate
        @classmethod
        def of_class(cls):
            return ["both", *super().of_class()]

        @decorate
        @staticmethod
        def static():
            return ["both", *Left.static()]

    class Later(Both):
        pass

    Later.who = lambda self: ["patched", *Both.who(self)]
    both = Both()
    both.own = decorate(lambda: "own")
    seen = [both.who(), Both.of_class(), both.of_class(), Later.of_class(), Both.static(), both.static(), Later().who()]
    return [
        *seen,
        both.own(),
        Both.who.__qualname__,
        Later.of_class.__self__.__name__,
        Left.who is Left.__dict__["who"],
    ]


def borrowed_functions(decorate):
    def function(first, second=2):
        return type(first).__name__, second

    made = decorate(function)

    class Host:
        method = made
        static = staticmethod(made)
        of_class = classmethod(made)
        fixed = functools.partialmethod(made, 9)

    host = Host()
    return [
        *(made(1), host.method(), Host.method(1), host.static(1), host.of_class(), Host.of_class(3), host.fixed()),
        *(made.__get__(1)(), made.__get__(1, int)(second=3), functools.partial(made, 1)(5), made(first=1, second=0)),
    ]


def class_decoration(decorate):
    @decorate
    class Host:
        """The class."""

        limit = 3
        nested = type("Nested", (), {})
        call = str.upper

        def __init__(self, value):
            self.value = value

        def method(self):
            return self.value

        @property
        def prop(self):
            return self.value

        @classmethod
        def of_class(cls):
            return cls.__name__

        @staticmethod
        def static(value):
            return value

        def _private(self):
            return "private"

        class Inner:
            pass

    host = Host(5)
    seen = [type(Host), Host.__name__, Host.__qualname__, Host.__doc__, host.method(), host.prop, Host.of_class()]
    seen += [
        Host.static(1),
        host._private(),
        host.limit,
        type(Host.nested),
        Host.Inner.__name__,
        isinstance(host, Host),
    ]
    return [*seen, list(inspect.signature(Host).parameters), list(vars(Host)), Host.call is str.upper, Host.__mro__[1:]]


SCENARIOS = (
    *(descriptors_and_properties, abstract_methods, dispatch, caches_and_orderings, enums, dataclasses_and_tuples),
    *(inheritance, borrowed_functions, class_decoration),
)
