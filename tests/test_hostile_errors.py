"""Exceptions that raise, lie or loop: each arrives as the very same object, and the trace tells what can be told."""

from __future__ import annotations

import dataclasses
import gc
import traceback
import weakref
from unittest import mock

import pytest
from structlog.testing import capture_logs

import flowtrace
from flowtrace import traced_node
from flowtrace.recording import process
from flowtrace.recording.state import running


@pytest.fixture(autouse=True, params=["on", "always"])
def tracing(request, tmp_path):
    captured = {"capture_inputs": True, "capture_outputs": True, "max_overhead": 0}  # hostile values take long
    flowtrace.configure(mode=request.param, out_path=tmp_path / "trace.json", **captured)
    with capture_logs() as logs:
        yield request.param
    current = process.CURRENT.get()
    process.CURRENT.set(None)
    assert (current, running(), logs) == (None, [], [])


def _refuse(*args, **kwargs):
    raise RuntimeError("touched")


class Text(str):
    __len__ = __str__ = encode = __getitem__ = __format__ = _refuse


class NoText(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class StopText(Exception):
    def __str__(self):
        raise SystemExit(3)


class EndlessText(Exception):
    def __str__(self):
        return str(self)


class OddText(Exception):
    def __str__(self):
        return Text("odd")


class WrongText(Exception):
    def __str__(self):
        return 5


class NoAttributes(Exception):
    def __getattribute__(self, name):
        if name == "__traceback__" or not name.startswith("__"):
            return super().__getattribute__(name)
        raise RuntimeError(name)


class NoNotes(Exception):
    @property
    def __notes__(self):
        raise RuntimeError("notes")


class NoClass(Exception):
    @property
    def __class__(self):
        raise RuntimeError("class")


class LyingClass(Exception):
    @property
    def __class__(self):
        return KeyboardInterrupt


class NoParts(ExceptionGroup):
    @property
    def exceptions(self):
        raise RuntimeError("parts")


class OwnInit(Exception):
    def __init__(self, code, *, detail):
        self.code = code
        self.detail = detail


class OwnNew(Exception):
    def __new__(cls, *args, secret=None):
        made = super().__new__(cls, "made")
        made.secret = secret
        return made

    def __init__(self, *args, secret=None):
        pass


class Frozen(Exception):
    def __setattr__(self, name, value):
        raise AttributeError(f"{name} is read-only")


@dataclasses.dataclass(frozen=True)
class FrozenData(Exception):
    code: int


class Slotted(Exception):
    __slots__ = ("code",)


class Hashless(Exception):
    __hash__ = None

    def __eq__(self, other):
        raise RuntimeError("eq")

    def __bool__(self):
        raise RuntimeError("bool")

    def __repr__(self):
        raise RuntimeError("repr")


def looped():
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def looped_later():
    whole = ValueError("whole")
    whole.__context__ = looped()
    return whole


def caused_by(cause):
    whole = ValueError("whole")
    whole.__cause__ = cause
    return whole


def noted(*notes):
    whole = ValueError("whole")
    whole.__notes__ = list(notes)
    return whole


def noted_with(notes):
    whole = ValueError("whole")
    whole.__notes__ = notes
    return whole


def chain(length):
    first = last = ValueError("0")
    for at in range(1, length):
        following = ValueError(str(at))
        last.__cause__ = following
        last = following
    return first


def grouped(depth):
    whole = ValueError("leaf")
    for _ in range(depth):
        whole = ExceptionGroup("group", [whole])
    return whole


ERRORS = {
    "no text": NoText,
    "stop text": StopText,
    "endless text": EndlessText,
    "odd text": OddText,
    "wrong text": WrongText,
    "no attributes": NoAttributes,
    "no notes": NoNotes,
    "no class": NoClass,
    "lying class": LyingClass,
    "no parts": lambda: NoParts("group", [ValueError(1)]),
    "own init": lambda: OwnInit(1, detail={}),
    "own new": lambda: OwnNew(1, secret=2),
    "frozen data": lambda: FrozenData(3),
    "slotted": Slotted,
    "hashless": Hashless,
    "looped causes": looped,
    "looped context": looped_later,
    "long chain": lambda: chain(5000),
    "cause without text": lambda: caused_by(NoText()),
    "cause that stops": lambda: caused_by(StopText()),
    "cause without attributes": lambda: caused_by(NoAttributes()),
    "cause without class": lambda: caused_by(NoClass()),
    "odd notes": lambda: noted("fine", 3, None, Text("odd"), object(), b"raw", "\ud800"),
    "notes that are text": lambda: noted_with("text"),
    "notes that are nothing": lambda: noted_with(None),
    "notes that are a mock": lambda: noted_with(mock.MagicMock()),
    "deep group": lambda: grouped(50),
    "hostile arguments": lambda: ValueError(Hashless(), Text("odd")),
    "large text": lambda: ValueError("x" * 10_000_000),
    "surrogates": lambda: ValueError("\ud800"),
    "nul": lambda: ValueError("\0"),
}


def raised_by(function, *args):
    try:
        function(*args)
    except BaseException as raised:
        return raised
    raise AssertionError("nothing was raised")


@traced_node(expected_errors=LookupError)
def raise_it(given):
    raise given


@traced_node
async def raise_it_later(given):
    raise given


@traced_node
def raise_it_after_yield(given):
    yield 1
    raise given


def in_a_coroutine(given):
    raise_it_later(given).send(None)


def in_a_generator(given):
    list(raise_it_after_yield(given))


@pytest.mark.costly
@pytest.mark.parametrize("kind", list(ERRORS))
def test_a_hostile_exception_arrives_as_it_is_and_is_told_of(kind, tmp_path):
    path = tmp_path / "trace.json"
    for call in (raise_it, in_a_coroutine, in_a_generator):
        given = ERRORS[kind]()
        path.unlink(missing_ok=True)
        assert raised_by(call, given) is given
        step = flowtrace.load_trace(path).steps[-1]  # with the calls before it in mode "on"
        assert step.error.code == "node_error"
        name = type(given).__qualname__
        assert step.error.details["type"] in (name, f"{__name__}.{name}")
        assert step.error.details["frames"][-1]["function"].startswith("raise_it")
        assert path.stat().st_size < 200_000


@pytest.mark.parametrize("kind", list(ERRORS))
def test_a_hostile_exception_leaves_a_flow_as_it_is(kind, tmp_path):
    given = ERRORS[kind]()

    def run():
        with flowtrace.flow("f"):
            raise given

    assert raised_by(run) is given
    (step,) = flowtrace.load_trace(tmp_path / "trace.json").steps
    assert (step.operation, step.error.code) == ("unknown", "flow_error")


def test_an_exception_that_cannot_be_changed_arrives_as_it_does_without_us():
    given = Frozen("frozen")
    assert raised_by(raise_it, given) is given


def test_an_expected_error_class_whose_check_raises_does_no_harm():
    class Odd(type):
        def __instancecheck__(cls, instance):
            raise RuntimeError("instance check")

        def __subclasscheck__(cls, subclass):
            raise RuntimeError("subclass check")

    class Expected(Exception, metaclass=Odd):
        pass

    with pytest.raises(RuntimeError, match="subclass check"):
        issubclass(ValueError, Expected)
    node = traced_node(expected_errors=Expected)(raise_it.__wrapped__)
    given = ValueError("mine")
    assert raised_by(node, given) is given


def test_what_was_raised_keeps_its_chain_and_its_traceback():
    def inner():
        try:
            raise_it(KeyError("first"))
        except KeyError:
            raise ValueError("second")

    raised = raised_by(traced_node(inner))
    assert (type(raised.__context__), raised.__cause__, raised.__suppress_context__) == (KeyError, None, False)
    assert [frame.name for frame in traceback.extract_tb(raised.__traceback__)][-1] == "inner"
    assert not hasattr(raised, "__notes__")


def test_a_huge_traceback_is_cut_in_the_middle(tmp_path):
    def descend(levels):
        return 1 / 0 if levels == 0 else descend(levels - 1)

    node = traced_node(descend)
    assert type(raised_by(node, 300)) is ZeroDivisionError
    frames = flowtrace.load_trace(tmp_path / "trace.json").steps[0].error.details["frames"]
    assert len(frames) == 41
    assert {"left_out": 261} in frames
    assert frames[-1]["function"].endswith("descend")


def test_an_error_is_not_kept_alive():
    class Marked(Exception):
        pass

    def once():
        given = Marked()
        gone = weakref.ref(given)
        try:
            raise_it(given)
        except Marked:
            pass
        return gone

    gone = once()
    gc.collect()
    assert gone() is None
