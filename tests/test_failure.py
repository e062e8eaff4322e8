"""What an error leaves in the trace: text, type, causes, notes, frames; never a value, never an error of its own."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref

import pytest
import trio

import flowtrace
from flowtrace import traced_node
from flowtrace.recording import failure
from flowtrace.recording.failure import (
    MAX_CAUSES,
    MAX_FRAMES,
    MAX_INNER_FRAMES,
    MAX_MESSAGE,
    Inner,
    code_of,
    describe,
    frames,
    head_of,
    message_of,
    origins_of,
    type_of,
)
from flowtrace.values.json import loads, pretty
from tests.cli import commands


def raised(error, cause=None):
    try:
        if cause is None:
            raise error
        raise error from cause
    except BaseException as caught:
        return caught


class Broken(Exception):
    def __str__(self):
        raise RuntimeError

    __repr__ = __str__


class NotText(Exception):
    def __str__(self):
        return 5


class Polite(Exception):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.password = "s3cret"


def test_an_error_that_was_raised_is_described_whole():
    def outer():
        inner()

    def inner():
        secret = "s3cret"
        error = ValueError(f"{len(secret)} is no good")
        error.add_note("try another")
        raise error from KeyError("k")

    with pytest.raises(ValueError) as caught:
        outer()
    own, first = outer.__qualname__.partition(".")[0], outer.__code__.co_firstlineno
    frames_of = [(own, first + 10), (f"{own}.<locals>.outer", first + 1), (f"{own}.<locals>.inner", first + 7)]
    assert describe(caught.value) == (
        "node_error",
        "6 is no good",
        {
            "type": "ValueError",
            "causes": [{"relation": "cause", "type": "KeyError", "message": "'k'"}],  # it was never raised itself
            "notes": ["try another"],
            "frames": [{"file": __file__, "line": line, "function": name} for name, line in frames_of],
        },
    )


def test_an_error_that_was_never_raised_is_its_text():
    assert describe(ValueError("x")) == ("node_error", "x", None)
    assert describe("only text", "flow_error") == ("flow_error", "only text", None)
    assert describe(ValueError()) == ("node_error", "", None)


def test_frames_hold_no_values_and_not_our_own():
    @traced_node
    def node(password):
        raise ValueError("no")

    with pytest.raises(ValueError) as caught:
        node("s3cret")
    details = describe(caught.value).details
    assert "s3cret" not in str(details)
    assert [frame["function"].rpartition(".")[2] for frame in details["frames"]] == [
        "test_frames_hold_no_values_and_not_our_own",
        "node",
    ]
    assert all(set(frame) == {"file", "line", "function"} for frame in details["frames"])


def test_attributes_of_an_error_are_not_told():
    assert "s3cret" not in str(describe(raised(Polite("x"))))


def test_the_chain_is_the_one_that_a_traceback_shows():
    context = raised(KeyError("context"))
    error = ValueError("x")
    error.__context__ = context
    (cause,) = describe(error).details["causes"]
    frames = cause.pop("frames")
    assert cause == {"relation": "context", "type": "KeyError", "message": "'context'"}
    assert frames == [{"file": __file__, "line": raised.__code__.co_firstlineno + 3, "function": "raised"}]
    error.__cause__ = OSError("cause")
    assert describe(error).details["causes"] == [{"relation": "cause", "type": "OSError", "message": "cause"}]
    error.__cause__ = None
    error.__suppress_context__ = True
    assert describe(error).details is None


def test_a_chain_in_a_circle_ends():
    one, other = ValueError("1"), ValueError("2")
    one.__cause__, other.__cause__ = other, one
    assert [cause["message"] for cause in describe(one).details["causes"]] == ["2"]
    one.__cause__ = one
    assert describe(one).details is None


def test_a_long_chain_is_cut():
    error = None
    for number in range(1000):
        error = raised(ValueError(str(number)), error)
    causes = describe(error).details["causes"]
    assert [cause["message"] for cause in causes] == [str(998 - number) for number in range(MAX_CAUSES)]


def test_a_group_tells_its_parts():
    group = raised(ExceptionGroup("many", [ValueError("1"), ExceptionGroup("inner", [KeyError(2)]), Broken()]))
    details = describe(group).details
    assert describe(group).message == "many (3 sub-exceptions)"
    assert details["exceptions"] == [
        {"type": "ValueError", "message": "1"},
        {"type": "ExceptionGroup", "message": "inner (1 sub-exception)"},
        {"type": f"{__name__}.Broken", "message": f"<{__name__}.Broken whose text could not be made>"},
    ]
    huge = raised(ExceptionGroup("many", [ValueError(number) for number in range(500)]))
    assert len(describe(huge).details["exceptions"]) == MAX_CAUSES


def test_a_cause_and_a_member_of_a_group_tell_where_they_were_raised():
    def deep(left):
        if left:
            deep(left - 1)
        raise KeyError("k")

    with pytest.raises(KeyError) as caught:
        deep(30)
    cause = describe(raised(ValueError("x"), caught.value)).details["causes"][0]["frames"]
    member = describe(raised(ExceptionGroup("many", [caught.value]))).details["exceptions"][0]["frames"]
    assert cause == member
    assert [frame.get("left_out") for frame in cause].count(None) == MAX_INNER_FRAMES
    assert cause[MAX_INNER_FRAMES // 2] == {"left_out": 32 - MAX_INNER_FRAMES}
    assert cause[-1] == {"file": __file__, "line": deep.__code__.co_firstlineno + 3, "function": deep.__qualname__}


@pytest.mark.parametrize("cls", [Broken, NotText])
def test_an_error_without_a_text_says_so(cls):
    assert message_of(cls()) == f"<{__name__}.{cls.__name__} whose text could not be made>"
    assert describe(raised(cls())).details["type"] == f"{__name__}.{cls.__name__}"


def test_a_str_subclass_as_text_is_taken_as_plain_text():
    class Odd(str):
        def __len__(self):
            raise RuntimeError

        def encode(self, *arguments):
            raise RuntimeError

    class Error(Exception):
        def __str__(self):
            return Odd("odd")

    message = message_of(Error())
    assert (type(message), message) == (str, "odd")
    error = raised(ValueError())
    error.__notes__ = [Odd("note"), 5, None]
    assert describe(error).details["notes"] == ["note"]
    assert describe(Odd("text")).message == "text"


def test_a_long_text_is_cut_and_says_how_long_it_was():
    message = message_of(ValueError("x" * 1_000_000))
    assert message == "x" * MAX_MESSAGE + "... (1000000 characters)"
    assert message_of(ValueError("x" * MAX_MESSAGE)) == "x" * MAX_MESSAGE
    error = ValueError()
    for _ in range(100):
        error.add_note("y" * 100_000)
    notes = describe(error).details["notes"]
    assert notes == ["y" * MAX_MESSAGE + "... (100000 characters)"] * MAX_CAUSES


def test_text_that_utf8_cannot_hold_is_escaped():
    failure = describe(raised(ValueError("a\ud800b")))
    assert failure.message == "a\\ud800b"
    assert pretty(failure.details)
    name = "n\ud800"
    namespace = {}
    exec(compile("def function(): raise ValueError", "f\udcff.py", "exec"), namespace)
    namespace["function"].__code__ = namespace["function"].__code__.replace(co_qualname=name, co_name=name)
    with pytest.raises(ValueError) as caught:
        namespace["function"]()
    found = describe(caught.value).details["frames"][-1]
    assert loads(pretty(found)) == {"file": "f\\udcff.py", "line": 1, "function": "n\\ud800"}


def test_of_1000_frames_the_first_and_last_are_told():
    def descend(left):
        if left == 0:
            raise ValueError
        descend(left - 1)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(5000)
    try:
        descend(1000)
    except ValueError as error:
        found = frames(error.__traceback__)
    finally:
        sys.setrecursionlimit(limit)
    assert len(found) == MAX_FRAMES + 1
    assert found[MAX_FRAMES // 2] == {"left_out": 1002 - MAX_FRAMES}
    assert found[0]["function"] == "test_of_1000_frames_the_first_and_last_are_told"
    assert found[-1]["line"] == descend.__code__.co_firstlineno + 2


def error_from(depth):
    def descend(number):
        if number:
            descend(number - 1)
        raise ValueError

    return raised_by(descend, depth)


def raised_by(function, *args):
    try:
        function(*args)
    except ValueError as error:
        return error


def entries_of(traceback):
    found = []
    while traceback is not None:
        found.append(traceback)
        traceback = traceback.tb_next
    return found


@pytest.mark.parametrize("depth", [0, 1, MAX_FRAMES - 2, MAX_FRAMES - 1, 3 * MAX_FRAMES])
def test_frames_that_a_step_inside_has_told_are_not_looked_at_again_and_are_the_same(depth):
    entries = entries_of(error_from(depth).__traceback__)
    assert len(entries) == depth + 2
    for start in range(len(entries)):
        inner = None
        for at in (*range(len(entries) - 1, start, -7), start):  # some entries more each time
            known = inner
            found = frames(entries[at], inner=known)
            assert found == frames(entries[at])
            inner = Inner(head_of(entries[at]), found)


def test_another_error_with_the_same_code_has_its_own_frames():
    first, second = (entries_of(error_from(depth).__traceback__) for depth in (5, 6))
    known = Inner(head_of(first[1]), frames(first[1]))
    assert frames(second[0], inner=known) == frames(second[0])


def test_of_an_error_that_comes_through_many_steps_each_looks_at_a_few_frames(tmp_path, monkeypatch):
    flowtrace.configure(mode="on", out_path=tmp_path / "t.json")
    looked_at = []

    def counted(traceback, most=MAX_FRAMES, inner=None):
        entries = [head_of(entry) for entry in entries_of(traceback)]
        looked_at.append(len(entries) if inner is None else entries.index(inner.head))
        return frames(traceback, most, inner)

    def origins(traceback):
        looked_at.append(len(entries_of(traceback)))
        return origins_of(traceback)

    monkeypatch.setattr(failure, "frames", counted)
    monkeypatch.setattr(failure, "origins_of", origins)

    @traced_node
    def descend(number):
        if number:
            descend(number - 1)
        raise ValueError

    depth = 150
    told = frames(raised_by(descend, depth).__traceback__.tb_next)
    assert depth < len(looked_at) <= sum(looked_at) <= 5 * depth
    assert flowtrace.load_trace(tmp_path / "t.json").steps[-1].error.details["frames"] == told


def test_a_recursion_error_is_described():
    def forever():
        forever()

    with pytest.raises(RecursionError) as caught:
        forever()
    details = describe(caught.value).details
    assert details["type"] == "RecursionError"
    assert len(details["frames"]) == MAX_FRAMES + 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError(), "node_error"),
        (StopIteration(), "node_error"),
        (KeyboardInterrupt(), "node_interrupted"),
        (SystemExit(), "node_interrupted"),
        (GeneratorExit(), "node_interrupted"),
        (asyncio.CancelledError(), "node_cancelled"),
        (type("Cancelled", (BaseException,), {})(), "node_cancelled"),
        (type("Mine", (asyncio.CancelledError,), {})(), "node_cancelled"),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), "node_interrupted"),
    ],
    ids=repr,
)
def test_the_code_tells_how_a_node_ended(error, code):
    assert code_of(error) == code


def test_a_type_is_named_as_in_a_traceback():
    assert type_of(KeyError()) == "KeyError"
    assert type_of(Polite()) == f"{__name__}.Polite"
    odd = type("Odd", (Exception,), {"__module__": None})
    assert type_of(odd()) == "?.Odd"


def test_nothing_is_kept_alive():
    class Held:
        pass

    def fail():
        held = Held()
        refs.append(weakref.ref(held))
        raise ValueError("x")

    refs: list = []
    failure = describe(raised(ValueError("x")))
    try:
        fail()
    except ValueError as error:
        failure = describe(error)
    gc.collect()
    assert failure.message == "x"
    assert refs[0]() is None


def test_nothing_is_raised_whatever_an_error_says():
    class Hostile(Exception):
        def __getattribute__(self, name):
            raise RuntimeError(name)

        def __str__(self):
            raise SystemExit

    hostile = raised(Hostile())
    failure = describe(hostile)
    assert failure.code == "node_error"
    assert (
        failure.message
        == f"<{__name__}.test_nothing_is_raised_whatever_an_error_says.<locals>.Hostile whose text could not be made>"
    )


@traced_node(operation="work")
async def work():
    raise ValueError("late")


async def in_asyncio():
    await asyncio.create_task(work(), name="worker 7")


async def in_trio():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, name="worker 8")


@pytest.mark.parametrize(
    ("name", "program"), [("worker 7", lambda: asyncio.run(in_asyncio())), ("worker 8", lambda: trio.run(in_trio))]
)
def test_an_error_names_the_task_that_its_step_failed_in(tmp_path, name, program):
    path = tmp_path / "trace.json"
    with flowtrace.override(out_path=path, mode="on"), pytest.raises((ValueError, ExceptionGroup)):
        program()
    (step,) = flowtrace.load_trace(path).steps
    assert step.error.details["task"] == name
    assert f", task {name}, started " in commands.flowtrace("show", "--step", "0", path).stdout


def test_a_task_s_name_is_kept_in_part_and_only_as_a_text(tmp_path):
    class Odd(asyncio.Task):
        def get_name(self):
            raise RuntimeError("code of the program")

    async def main():
        task = Odd(failing(), name="n" * 300, loop=asyncio.get_running_loop())
        return await task

    async def failing():
        return describe(raised(ValueError())).details

    assert asyncio.run(main())["task"] == "n" * 200
    assert "task" not in describe(raised(ValueError())).details
