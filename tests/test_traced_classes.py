"""Decorating a class: its own public methods become nodes, and everything else stays."""

from __future__ import annotations

import abc
import dataclasses
import enum
import functools
import operator
import weakref
from typing import NamedTuple, Protocol, runtime_checkable

import pytest

import flowtrace
from flowtrace import traced_node
from flowtrace.instrument.proxies import is_traced
from flowtrace.testing import recording

HERE = __name__


def steps_of(call, *args, **kwargs):
    """Return the steps that a call leaves."""
    with recording(capture_inputs=True) as recorded:
        call(*args, **kwargs)
    return [step for trace in recorded.traces for step in trace.steps]


def payload_of(call, *args, **kwargs):
    (step,) = steps_of(call, *args, **kwargs)
    return step.invocation_json["payload"]


@traced_node(component="c")
class Service:
    limit = 3
    convert = int
    add = operator.add

    class Nested:
        def public(self):
            return 1

    def __init__(self, start=0):
        self.start = start

    def __call__(self):
        return self.start

    def __len__(self):
        return 1

    def _private(self):
        return 1

    def __mangled(self):
        return 1

    def public(self, value):
        return self._private() + value

    async def later(self):
        return 1

    def each(self):
        yield 1

    @classmethod
    def build(cls):
        return cls()

    @staticmethod
    def static(value):
        return value

    @property
    def half(self):
        return self.start / 2

    @functools.cached_property
    def cached(self):
        return 1

    @functools.lru_cache(maxsize=1)
    def remembered(self):
        return 1

    @traced_node(operation="own name")
    def own(self):
        return 1


class Child(Service):
    def child(self):
        return 1


def traced_names(cls):
    return {name for name, member in vars(cls).items() if is_traced(getattr(member, "__func__", member))}


def test_decorating_a_class_wraps_its_public_methods_and_nothing_else():
    assert traced_names(Service) == {"public", "later", "each", "build", "static", "own"}
    assert traced_names(Service.Nested) == set()
    assert type(Service) is type
    assert [step.operation for step in steps_of(Service(2).public, 5)] == ["Service.public"]
    assert [step.component_id for step in steps_of(Service.build)] == ["c"]


def test_a_method_with_a_decorator_of_its_own_keeps_that_one():
    (step,) = steps_of(Service().own)
    assert (step.component_id, step.operation) == (HERE, "own name")


def test_what_a_class_inherits_is_not_touched():
    class Base:
        def inherited(self):
            return 1

    @traced_node
    class Derived(Base):
        def defined(self):
            return 1

    assert (traced_names(Base), traced_names(Derived), traced_names(Child)) == (set(), {"defined"}, set())
    assert Derived.inherited is Base.inherited
    assert steps_of(Derived().inherited) == []


def test_a_dataclass_stays_one():
    @traced_node
    @dataclasses.dataclass(order=True, slots=True)
    class Point:
        x: int
        y: int = 0

        def moved(self, by):
            return dataclasses.replace(self, x=self.x + by)

    assert traced_names(Point) == {"moved"}
    assert Point(1) < Point(2)
    assert dataclasses.asdict(Point(1).moved(2)) == {"x": 3, "y": 0}
    assert payload_of(lambda: Point(1).moved(2)) == {"by": 2}
    assert not hasattr(Point(1), "__dict__")


def test_the_order_of_dataclass_and_decorator_does_not_matter():
    @dataclasses.dataclass(frozen=True)
    @traced_node
    class Point:
        x: int

        def doubled(self):
            return Point(self.x * 2)

    assert traced_names(Point) == {"doubled"}
    assert Point(2).doubled() == Point(4)
    assert payload_of(lambda: Point(2).doubled()) == {}


def test_an_enum_keeps_its_members_and_traces_its_methods():
    @traced_node
    class Colour(enum.Enum):
        RED = 1
        BLUE = 2

        def mixed(self, other):
            return self.value + other.value

        @classmethod
        def first(cls):
            return cls.RED

    assert [member.name for member in Colour] == ["RED", "BLUE"]
    assert traced_names(Colour) == {"mixed", "first"}
    assert Colour.first() is Colour(1) is Colour["RED"]
    assert Colour.RED.mixed(Colour.BLUE) == 3


def test_a_named_tuple_keeps_its_fields():
    @traced_node
    class Pair(NamedTuple):
        left: int
        right: int = 2

        def total(self):
            return self.left + self.right

    assert traced_names(Pair) == {"total"}
    assert (Pair(1), Pair._fields, Pair(1)._replace(left=4).total()) == ((1, 2), ("left", "right"), 6)
    assert payload_of(lambda: Pair(1).total()) == {}


def test_a_protocol_is_still_checked_at_run_time():
    @traced_node
    @runtime_checkable
    class Closes(Protocol):
        def close(self): ...

    class Door:
        def close(self):
            return "closed"

    assert isinstance(Door(), Closes)
    assert not isinstance(3, Closes)


def test_an_abstract_class_still_wants_its_methods():
    @traced_node
    class Base(abc.ABC):
        @abc.abstractmethod
        def run(self): ...

        @classmethod
        @abc.abstractmethod
        def make(cls): ...

    @traced_node
    class Whole(Base):
        def run(self):
            return super().run()

        @classmethod
        def make(cls):
            return cls()

    assert Base.__abstractmethods__ == {"run", "make"}
    assert Base.run.__isabstractmethod__
    with pytest.raises(TypeError, match="abstract"):
        Base()
    whole = Whole.make()
    assert [step.operation.rpartition("<locals>.")[2] for step in steps_of(lambda: whole.run())] == [
        "Base.run",
        "Whole.run",
    ]


def test_a_class_with_slots_and_a_metaclass_keeps_both():
    class Meta(type):
        def __call__(cls, *args):
            return (super().__call__(*args), "made")

    @traced_node
    class Slotted(metaclass=Meta):
        __slots__ = ("value",)

        def __init__(self, value):
            self.value = value

        def get(self):
            return self.value

    made, word = Slotted(5)
    assert (type(Slotted), word, made.get(), Slotted.__slots__) == (Meta, "made", 5, ("value",))


def test_lazy_and_hostile_class_attributes_are_not_touched():
    class Lazy:
        def __getattribute__(self, name):
            raise AssertionError(f"touched: {name}")

    class Namespace:
        lazy = Lazy()
        held = staticmethod.__new__(staticmethod, len)  # Python 3.15 takes one argument; the others ignore it

        def method(self):
            return 1

    before = Namespace.__dict__["lazy"]
    assert traced_node(Namespace) is Namespace
    assert Namespace.__dict__["lazy"] is before
    assert traced_names_by_type(Namespace) == {"method"}


def traced_names_by_type(cls):
    return {name for name, member in vars(cls).items() if is_traced(member)}


def test_a_class_of_the_interpreter_is_taken_as_it_is():
    assert traced_node(int) is int


def test_a_weak_reference_to_a_method_outlives_the_switch():
    class Listener:
        @traced_node
        def on_event(self):
            return 1

    listener = Listener()
    method, function = weakref.WeakMethod(listener.on_event), weakref.ref(Listener.on_event)
    for mode in ("off", "on", "off"):
        flowtrace.configure(mode=mode)
        assert method() == listener.on_event
        assert function() == Listener.on_event


def test_the_methods_of_a_class_that_was_renamed_while_off_are_traced():
    flowtrace.configure(mode="off")

    class Renamed:
        @traced_node
        def public(self):
            return 1

    Renamed.__module__, Renamed.__qualname__ = "public", "Other"
    assert [step.operation.rpartition(".")[2] for step in steps_of(lambda: Renamed().public())] == ["public"]


def test_a_method_stays_one_object_by_each_of_its_names():
    @traced_node
    class Host:
        def run(self):
            return "run"

        again = run
        __call__ = run

        @staticmethod
        def static():
            return "static"

        as_static = static

    assert Host.run is Host.again is Host.__call__
    assert vars(Host)["static"] is vars(Host)["as_static"]
    assert (Host()(), Host().again(), Host.as_static()) == ("run", "run", "static")
    assert [step.operation.rpartition(".")[2] for step in steps_of(lambda: [Host()(), Host().again()])] == [
        "run",
        "run",
    ]
