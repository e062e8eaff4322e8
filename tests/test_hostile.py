"""Arguments, results and exceptions that raise, lie, recurse, block or count: the call goes on, and none is touched."""

from __future__ import annotations

import dataclasses
import enum
import functools
import threading
from pathlib import Path
from unittest import mock

import pytest
from structlog.testing import capture_logs

import flowtrace
from flowtrace import traced_node
from flowtrace.recording import process
from flowtrace.recording.state import running

MODES = ("on", "always")
SPECIAL = """
    __repr__ __str__ __eq__ __ne__ __hash__ __bool__ __len__ __iter__ __next__ __contains__ __getitem__ __setitem__
    __call__ __index__ __int__ __float__ __complex__ __bytes__ __lt__ __format__ __reduce__ __reduce_ex__ __getstate__
    __copy__ __deepcopy__ __dir__ __sizeof__ __array__ __array_interface__ __array_struct__ __array_function__
    __buffer__ __fspath__ __enter__ __exit__ __await__ __aiter__ __length_hint__ __iadd__ __add__ __get__ __set__
    __dataclass_fields__ __attrs_attrs__ keys items value _asdict tolist dtype shape isoformat model_dump dict json
    __json__ _fields
""".split()
seen = []


@pytest.fixture(autouse=True, params=MODES)
def tracing(request, tmp_path):
    """Everything is captured: the harshest setting."""
    flowtrace.configure(mode=request.param, out_path=tmp_path / "trace.json", capture_inputs=True, capture_outputs=True)
    seen.clear()
    with capture_logs() as logs:
        yield request.param
    current = process.CURRENT.get()
    process.CURRENT.set(None)
    assert (current, running(), logs) == (None, [], [])


def note(name, value=None):
    """Return a method that tells of its call and raises."""

    def method(*args, **kwargs):
        seen.append(name)
        raise RuntimeError(name)

    return method


def members(**more):
    return {name: note(name) for name in SPECIAL} | more


def all_attributes(self, name):
    seen.append(name)
    raise RuntimeError(name)


class Meta(type):
    """A class whose own methods raise too."""

    __eq__ = note("Meta.__eq__")
    __hash__ = note("Meta.__hash__")
    __repr__ = note("Meta.__repr__")
    __instancecheck__ = note("Meta.__instancecheck__")
    __subclasscheck__ = note("Meta.__subclasscheck__")
    __getattribute__ = all_attributes
    mro_ = note("Meta.mro")


def make(base, arguments=(), metaclass=type, **more):
    """Return an instance of a class of a base, every special method of which tells of its call and raises."""
    body = members(__getattribute__=all_attributes, __getattr__=all_attributes, **more)
    body["__class__"] = property(note("__class__"))
    cls = type.__new__(metaclass, f"Hostile_{base.__name__}", (base,), body)
    value = base.__new__(cls, *arguments)
    if base in (list, set, dict):
        base.__init__(value, *arguments)
    seen.clear()
    return value


def make_enum_member():
    class Hostile(enum.Enum):
        A = 1
        B = "b"

        @property
        def value(self):
            return note("value")()

    for name in ("__repr__", "__str__", "__hash__", "__bool__", "__eq__", "__len__", "__iter__", "__reduce_ex__"):
        setattr(Hostile, name, note(name))
    Hostile.__getattr__ = all_attributes
    return Hostile._member_map_["A"]


def make_dataclass():
    @dataclasses.dataclass(eq=False, repr=False)
    class Hostile:
        field: object
        other: int = 2

        __repr__ = __hash__ = __eq__ = __bool__ = note("dataclass")
        __getattr__ = all_attributes

        @property
        def computed(self):
            return note("computed")()

    return Hostile(make(object))


HOSTILE = {
    "object": lambda: make(object),
    "metaclass": lambda: make(object, metaclass=Meta),
    "str": lambda: make(str, ("text",)),
    "int": lambda: make(int, (5,)),
    "float": lambda: make(float, (5.5,)),
    "bytes": lambda: make(bytes, (b"raw",)),
    "list": lambda: make(list, ([1, 2],)),
    "tuple": lambda: make(tuple, ([1, 2],)),
    "dict": lambda: make(dict, ({"a": 1},)),
    "set": lambda: make(set, ({1, 2},)),
    "frozenset": lambda: make(frozenset, ({1, 2},)),
    "exception": lambda: make(ValueError, ("text",)),
    "enum member": make_enum_member,
    "dataclass": make_dataclass,
    "class": lambda: type(make(object, metaclass=Meta)),
}


@traced_node
def give_back(value, *more, **options):
    """Touches nothing."""
    return value


@traced_node
async def give_back_later(value):
    return value


@traced_node
def yield_it(value):
    yield value
    return value


@traced_node
async def yield_it_async(value):
    yield value


@traced_node
def raise_beside(value):
    raise error


error = ZeroDivisionError("expected")


class Holder:
    @traced_node
    def method(self, value):
        return value

    @traced_node
    @classmethod
    def made(cls, value):
        return value

    @traced_node
    @staticmethod
    def static(value):
        return value


def finish(coroutine):
    try:
        coroutine.send(None)
    except (StopIteration, StopAsyncIteration) as stop:
        return stop.value


def finish_generator(generator):
    first = next(generator)
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value is first
    return first


CALLS = {
    "plain": give_back,
    "method": Holder().method,
    "unbound": functools.partial(Holder.method, Holder()),
    "class method": Holder.made,
    "static method": Holder.static,
    "coroutine": lambda value: finish(give_back_later(value)),
    "generator": lambda value: finish_generator(yield_it(value)),
    "async generator": lambda value: finish(anext(yield_it_async(value))),
    "by keyword": lambda value: give_back(value=value),
    "among others": lambda value: give_back(value, [value], {"key": value}, (value, {1: [value]}), option=value),
}
# `anext` leaves the generator suspended: its step is in flight until the garbage collector closes it


@pytest.mark.cells
@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize("kind", list(HOSTILE))
def test_a_hostile_value_goes_in_and_out_untouched(kind, call):
    value = HOSTILE[kind]()
    seen.clear()
    assert CALLS[call](value) is value
    assert seen == []


@pytest.mark.parametrize("kind", list(HOSTILE))
def test_a_hostile_value_beside_a_failure_is_not_touched(kind, tmp_path):
    value = HOSTILE[kind]()
    seen.clear()
    with pytest.raises(ZeroDivisionError) as caught:
        raise_beside(value)
    assert (caught.value is error, seen) == (True, [])
    (step,) = flowtrace.load_trace(tmp_path / "trace.json").steps
    assert step.error.message == "expected"
    assert list(step.invocation_json["payload"]) == ["value"]


@pytest.mark.parametrize("kind", list(HOSTILE))
def test_a_hostile_default_is_not_touched(kind):
    value = HOSTILE[kind]()

    @traced_node
    def node(given=value, *, other=value):
        return given

    seen.clear()
    assert (node() is value, node(1), seen) == (True, 1, [])


@pytest.mark.parametrize("kind", list(HOSTILE))
def test_a_hostile_value_in_a_state_delta_or_an_issue_is_not_touched(kind):
    value = HOSTILE[kind]()

    @traced_node
    def node():
        flowtrace.current_step().record_state_delta({"a": value})
        return flowtrace.hash_value([value]) == flowtrace.hash_value([value])

    seen.clear()
    assert (node(), seen) == (True, [])


class Deleted:
    def __del__(self):
        seen.append("__del__")
        self.gone = True


def test_a_finalizer_runs_once_the_caller_lets_go():
    value = Deleted()
    assert give_back(value) is value
    assert seen == []
    del value
    assert seen == ["__del__"]


class Recursive:
    def __getattr__(self, name):
        return getattr(self, name + "x")

    def __repr__(self):
        return f"<{self!r}>"

    def __eq__(self, other):
        return self == other

    def __hash__(self):
        return hash(self)

    def __iter__(self):
        return iter(self)

    def __reduce__(self):
        return self.__reduce__()


class Blocking:
    def __block(self, *args):
        threading.Event().wait()

    __repr__ = __eq__ = __hash__ = __iter__ = __len__ = __bool__ = __reduce__ = __str__ = __block

    def __getattr__(self, name):
        threading.Event().wait()


class Lying:
    """Says that it is something else, and empty."""

    @property
    def __class__(self):
        return dict

    def __len__(self):
        return 10**6

    def __iter__(self):
        while True:
            yield 1

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 1

    keys = items = __iter__


class Mutating:
    """Each look at it changes it."""

    def __init__(self):
        object.__setattr__(self, "count", 0)

    def __getattribute__(self, name):
        own = object.__getattribute__(self, "__dict__")
        own["count"] += 1
        own[f"attribute_{own['count']}"] = name
        return object.__getattribute__(self, name)


class Lazy:
    """The shape of Django's lazy objects: every access, also of its class, makes the real one."""

    def __init__(self, make_it):
        object.__setattr__(self, "_make", make_it)
        object.__setattr__(self, "_wrapped", None)

    def _setup(self, name):
        object.__setattr__(self, "_wrapped", object.__getattribute__(self, "_make")())
        return getattr(object.__getattribute__(self, "_wrapped"), name)

    @property
    def __class__(self):
        return self._setup("__class__")

    def __getattr__(self, name):
        return self._setup(name)

    def __str__(self):
        return str(self._setup("__str__")())

    __repr__ = __str__
    __eq__ = __hash__ = __len__ = __iter__ = __bool__ = note("lazy")


class Query:
    """A descriptor that goes to the database."""

    def __get__(self, instance, owner=None):
        seen.append("query")
        return []


class Model:
    """The shape of an ORM's record: loaded columns in its dictionary, relations behind descriptors."""

    orders = Query()
    customer = Query()

    def __init__(self):
        self.__dict__.update(id=1, name="row", _state=object())

    def __getattr__(self, name):
        seen.append(f"refresh {name}")
        return None


def with_a_cycle():
    value = [{}]
    value[0]["self"] = value
    return value


def with_no_bottom():
    value = []
    for _ in range(20_000):
        value = [value]
    return value


ODD = {
    "recursive": Recursive,
    "blocking": Blocking,
    "lying": Lying,
    "mutating": Mutating,
    "lazy": lambda: Lazy(note("evaluated")),
    "model": Model,
    "mock": mock.Mock,
    "magic mock": mock.MagicMock,
    "async mock": mock.AsyncMock,
    "mock of a class": lambda: mock.create_autospec(Model, instance=True),
    "sentinel": lambda: mock.sentinel.anything,
    "cycle": with_a_cycle,
    "bottomless": with_no_bottom,
    "generator": lambda: (item for item in [1]),
    "file": lambda: Path(__file__).open(),
    "lock": threading.Lock,
    "nan": lambda: float("nan"),
    "surrogates": lambda: "\ud800",
    "large integer": lambda: 10**5000,
    "module": lambda: threading,
    "frame": lambda: __import__("sys")._getframe(),
    "deleted attribute": lambda: object.__new__(dataclasses.make_dataclass("Gone", ["a"], slots=True)),
    "many keys": lambda: {f"key {at}": at for at in range(5_000)},
    "many odd keys": lambda: {(at, None): at for at in range(2_000)},
}


@pytest.mark.costly
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind == "bottomless" else ()) for kind in ODD]
)
def test_an_odd_value_goes_in_and_out_as_it_is(kind):
    value = ODD[kind]()
    seen.clear()
    try:
        assert give_back(value) is value
        assert give_back([value], {"a": value})[0] is value
        assert finish_generator(yield_it(value)) is value
        with pytest.raises(ZeroDivisionError) as caught:
            raise_beside(value)
        assert (caught.value is error, seen) == (True, [])
        if issubclass(type(value), mock.NonCallableMock):
            assert (value.mock_calls, value.method_calls) == ([], [])
        if type(value) is Mutating:
            assert object.__getattribute__(value, "__dict__") == {"count": 0}
        if type(value) is Lazy:
            assert object.__getattribute__(value, "_wrapped") is None
        if kind == "generator":
            assert list(value) == [1]
    finally:
        if kind == "file":
            value.close()
        if kind == "bottomless":  # letting go of it in one piece is Python's affair, not ours
            while value:
                value = value.pop()


@pytest.mark.slow
def test_the_large_and_the_deep_stay_within_their_bounds(tmp_path):
    node = traced_node(lambda value, deep: None)
    large, deep = {f"key {at}": at for at in range(200_000)}, with_no_bottom()
    with pytest.raises(ZeroDivisionError):
        flowtrace.flow("f")(lambda: (node(large, deep), raise_beside(1)))()
    trace = flowtrace.load_trace(tmp_path / "trace.json")
    assert [step.error is None for step in trace.steps] == [True, False]
    assert (tmp_path / "trace.json").stat().st_size < 100_000
    while deep:
        deep = deep.pop()


def test_a_dictionary_that_another_thread_changes_does_no_harm():
    shared = {f"key {at}": {"at": [at]} for at in range(100)}
    stop = threading.Event()

    def change():
        at = 0
        while not stop.wait(0.0001):
            at += 1
            shared[f"new {at % 50}"] = {"nested": {at: object()}}
            shared.pop(f"new {(at + 25) % 50}", None)

    threads = [threading.Thread(target=change) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            assert give_back(shared) is shared
            assert give_back([shared, object()], shared)[0] is shared
            with pytest.raises(ZeroDivisionError):
                raise_beside({"shared": shared})
    finally:
        stop.set()
        for thread in threads:
            thread.join()
