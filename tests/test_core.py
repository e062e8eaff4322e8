"""The core of a call: nothing of ours shows. What the pure twin can't hide is marked so."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import copy
import functools
import gc
import inspect
import io
import os
import sys
import threading
import traceback
import types
import typing
import weakref
from pathlib import Path

import pytest
import wrapt

import flowtrace
from flowtrace import traced_node
from flowtrace.calls.core import NATIVE, implementation
from flowtrace.instrument.proxies import is_traced
from flowtrace.recording.state import running
from flowtrace.testing import recording

native_only = pytest.mark.skipif(NATIVE is None, reason="the pure twin has a frame and wrapt's type")


def plain(value, scale=1):
    """Return the product."""
    return value * scale


def test_the_core_that_was_asked_for_is_in_use():
    asked = os.environ.get("FLOWTRACE_PURE")
    assert implementation() in ("native", "pure")
    assert not (asked and implementation() == "native")


# --- bodies


@types.coroutine
def handed_over(value):
    return (yield value)


def test_a_coroutine_that_waits_is_not_awaited_again():
    @traced_node
    async def waits():
        return await handed_over("first")

    async def awaits(body):
        return await body

    with recording():
        body = waits()
        first, second = awaits(body), awaits(body)
        assert first.send(None) == "first"
        with pytest.raises(RuntimeError, match=r"^coroutine is being awaited already$"):
            second.send(None)
        with pytest.raises(StopIteration) as stop:
            first.send("answer")
        assert stop.value.value == "answer"
        with pytest.raises(RuntimeError, match="already awaited"):
            awaits(body).send(None)


def test_a_generator_that_is_marked_after_its_decoration_is_a_coroutine():
    @types.coroutine
    @traced_node
    def body(value):
        return (yield from handed_over(value))

    async def main():
        return await body("first")

    with recording(capture_outputs=True) as recorded:
        running_one = main()
        assert running_one.send(None) == "first"
        with pytest.raises(StopIteration) as stop:
            running_one.send("answer")
    assert stop.value.value == "answer"
    (step,) = [step for trace in recorded.traces for step in trace.steps]
    assert step.output_json == "answer"


@native_only
def test_what_advances_an_async_generator_is_of_the_class_that_it_is_without_us():
    async def numbers():
        yield 1

    with recording():
        plainly, traced = anext(numbers()), anext(traced_node(numbers)())
    assert traced.__class__ is plainly.__class__
    for advance in (plainly, traced):
        advance.close()


def test_an_async_generator_that_its_loop_drops_does_not_run_on():
    """A finalizer of the loop decides what follows; here it does nothing."""
    ended = []

    async def numbers():
        try:
            yield 1
        finally:
            ended.append("ended")

    def dropped(function):
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(finalizer=lambda body: None)
        try:
            body = function()
            with contextlib.suppress(StopIteration):
                anext(body).send(None)
            del body
            gc.collect()
        finally:
            sys.set_asyncgen_hooks(*hooks)
        return list(ended)

    with recording():
        assert dropped(numbers) == dropped(traced_node(numbers)) == []


# --- no frame, no locals


def frames_at_the_error():
    @traced_node
    def fails(password):
        raise LookupError("missing")

    try:
        fails("hunter2-not-shown")
    except LookupError as error:
        return [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)], error
    raise AssertionError


@native_only
def test_a_traceback_has_the_programs_frames_alone():
    with recording():
        names, error = frames_at_the_error()
    assert names == ["frames_at_the_error", "fails"]
    assert "flowtrace" not in "".join(traceback.format_exception(error)).replace(__file__, "")


@native_only
def test_a_callee_finds_its_caller_where_it_is_without_us():
    @traced_node
    def caller():
        return sys._getframe(1).f_code.co_name, inspect.stack()[1].function

    def outer():
        return caller()

    with recording():
        assert outer() == ("outer", "outer")


@native_only
def test_profilers_and_tracers_see_the_programs_calls_alone():
    seen = []

    def look(frame, event, argument):
        if event == "call":
            seen.append(frame.f_code.co_name)

    small = traced_node(plain)
    with recording(mode="on"):
        small(1)
        sys.setprofile(look)
        try:
            small(2)
        finally:
            sys.setprofile(None)
    assert seen == ["plain"]


class Price:
    pass


def price_as_text(price):
    return "price"


def priced(price):
    return price


@native_only
@pytest.mark.parametrize("start", [sys.setprofile, sys.settrace])
def test_a_codec_is_the_users_own_code_and_debuggers_follow_it(start):
    seen = []

    def look(frame, event, argument):
        if event == "call":
            seen.append(frame.f_code.co_name)

    flowtrace.register_codec(Price, price_as_text, lambda text: Price())
    small = traced_node(priced)
    with recording(mode="on"):
        start(look)
        try:
            small(Price())
        finally:
            start(None)
    assert seen == ["price_as_text", "priced", "price_as_text"]


@native_only
def test_a_recursion_goes_as_deep_as_without_us():
    def depth_of(function):
        depth = 0

        def deeper():
            nonlocal depth
            depth += 1
            function_(deeper)

        def function_(what):
            function(what)

        with contextlib.suppress(RecursionError):
            deeper()
        return depth

    def call(what):
        what()

    undecorated = depth_of(call)
    with recording():
        assert abs(depth_of(traced_node(call)) - undecorated) <= undecorated // 10


@pytest.mark.costly
@native_only
def test_a_deep_recursion_ends_in_an_error_and_never_in_a_crash():
    @traced_node
    def deeper(left):
        return deeper(left - 1) if left else 0

    ended = []

    def run():
        try:
            deeper(50_000)
        except RecursionError:
            ended.append("RecursionError")

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    size = threading.stack_size(512 * 1024)
    try:
        with recording():
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
    finally:
        threading.stack_size(size)
        sys.setrecursionlimit(before)
    assert ended == ["RecursionError"]
    assert running() == []


# --- the type of a traced function

ABCS = [
    getattr(collections.abc, name)
    for name in collections.abc.__all__
    if name not in ("ByteString", "Callable", "Hashable")
]
SUPPORTS = [getattr(typing, name) for name in dir(typing) if name.startswith("Supports")]
OPERATIONS = {
    "len": len,
    "iter": iter,
    "next": next,
    "int": int,
    "float": float,
    "bytes": bytes,
    "abs": abs,
    "round": round,
    "reversed": reversed,
    "subscript": lambda value: value[0],
    "contains": lambda value: 1 in value,
    "add": lambda value: value + 1,
    "modulo": lambda value: value % 1,
    "with": lambda value: contextlib.ExitStack().enter_context(value),
    "less": lambda value: value < 1,
}


@native_only
@pytest.mark.parametrize("abc", [*ABCS, *SUPPORTS, contextlib.AbstractContextManager], ids=lambda abc: abc.__name__)
def test_a_traced_function_is_an_instance_of_what_a_function_is(abc):
    assert isinstance(traced_node(plain), abc) is isinstance(plain, abc)


@native_only
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_an_operation_fails_as_on_a_function(operation):
    def message(value):
        with pytest.raises(Exception) as caught:
            operation(value)
        return type(caught.value), str(caught.value)

    assert message(traced_node(plain)) == message(plain)


@native_only
def test_an_exit_stack_takes_a_traced_function_for_a_callback():
    seen = []
    with contextlib.ExitStack() as stack:
        stack.push(traced_node(lambda *details: seen.append(details)))
    assert seen == [(None, None, None)]


def test_a_traced_function_looks_like_the_function():
    traced = traced_node(plain)
    assert isinstance(traced, types.FunctionType)
    assert (repr(traced), traced.__doc__, traced.__name__) == (repr(plain), plain.__doc__, "plain")
    assert inspect.signature(traced) == inspect.signature(plain)
    assert traced.__wrapped__ is plain
    assert inspect.unwrap(traced) is plain
    assert copy.copy(traced) is traced
    assert copy.deepcopy(traced) is traced
    assert weakref.ref(traced)() is traced
    traced.mark = 1
    assert plain.mark == 1
    del traced.mark
    assert not hasattr(plain, "mark")


def test_wraps_around_a_traced_function_changes_what_it_shows_and_not_what_it_does():
    """A decorator is often written so: `functools.wraps` sets ``__wrapped__``, and the traced function runs."""

    def doubled(function):
        @functools.wraps(function)
        @traced_node
        def inner(*args, **options):
            return 2 * function(*args, **options)

        return inner

    traced = doubled(plain)
    assert traced(3, scale=5) == 30
    with recording() as recorded:
        assert traced(3, scale=5) == 30
    (step,) = [step for trace in recorded.traces for step in trace.steps]
    assert step.node_id == f"{__name__}.plain"
    assert (traced.__wrapped__, traced.__name__, traced.__doc__) == (plain, "plain", "Return the product.")
    assert inspect.signature(traced) == inspect.signature(plain)
    assert inspect.unwrap(traced) is plain
    del traced.__wrapped__
    assert traced(3) == 6
    assert inspect.unwrap(traced)(3) == 6


def test_what_a_function_shows_as_wrapped_is_what_it_shows_without_us():
    calls = []

    @functools.lru_cache
    def cached(value):
        calls.append(value)
        return value

    traced = traced_node(cached)
    assert [traced(1), traced(1), traced.__wrapped__(1), traced.__wrapped__(1)] == [1, 1, 1, 1]
    assert calls == [1, 1, 1]
    assert traced.__wrapped__ is cached.__wrapped__
    assert copy.copy(traced) is traced
    assert copy.deepcopy(traced) is traced
    again = functools.wraps(plain)(lambda: None)
    assert traced_node(again).__wrapped__ is plain
    assert traced_node(plain).__wrapped__ is plain


def test_the_attributes_of_a_function_can_be_replaced_as_a_whole():
    traced = traced_node(lambda: None)
    traced.__dict__ = {"one": 1}
    assert (traced.one, vars(traced)) == (1, {"one": 1})


@native_only
def test_a_method_is_a_real_one_and_stays_one_object():
    class Service:
        @traced_node
        def handle(self, value):
            return value

        alias = handle

    service = Service()
    assert Service.handle is Service.handle is Service.alias
    assert type(service.handle) is types.MethodType
    assert service.handle == service.handle
    assert weakref.WeakMethod(service.handle)() == service.handle
    with recording(capture_inputs=True) as recorded:
        assert service.handle(3) == Service.handle(service, 4) - 1 == 3
    assert [step.invocation_json["payload"] for trace in recorded.traces for step in trace.steps] == [
        {"value": 3},
        {"value": 4},
    ]


# --- bodies


@native_only
def test_a_task_shows_the_users_code():
    async def work():
        await asyncio.sleep(0)

    async def main():
        task = asyncio.ensure_future(traced_node(work)())
        await asyncio.sleep(0)
        text, out = repr(task), io.StringIO()
        task.print_stack(file=out)
        await task
        return text, out.getvalue()

    with recording():
        text, stack = asyncio.run(main())
    assert "running at" in text
    assert f"{Path(__file__).name}:" in text
    assert "flowtrace" not in stack.replace(__file__, "")


BODIES = {
    "coroutine": (types.CoroutineType, collections.abc.Coroutine, inspect.iscoroutine),
    "generator": (types.GeneratorType, collections.abc.Generator, inspect.isgenerator),
    "async generator": (types.AsyncGeneratorType, collections.abc.AsyncGenerator, inspect.isasyncgen),
}


def make_body(kind):
    async def coroutine():
        return 1

    def generator():
        yield 1

    async def async_generator():
        yield 1

    return {"coroutine": coroutine, "generator": generator, "async generator": async_generator}[kind]


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_is_an_instance_of_what_it_is_without_us(kind):
    type_, abc, is_kind = BODIES[kind]
    with recording():
        body = traced_node(make_body(kind))()
        assert body.__class__ is type_
        assert isinstance(body, abc)
        assert is_kind(body)
        if kind != "async generator":
            body.close()


def test_a_body_that_is_dropped_ends_its_step_and_runs_its_finally_in_it():
    seen = []

    @traced_node
    def inner():
        seen.append(flowtrace.current_step())

    @traced_node
    def numbers():
        try:
            yield 1
            yield 2
        finally:
            inner()

    with recording(mode="always") as recorded:
        made = numbers()
        next(made)
        del made
        gc.collect()
        assert running() == []
    steps = [step for trace in recorded.traces for step in trace.steps]
    assert sorted({step.operation.rpartition(".")[2] for step in steps}) == ["inner", "numbers"]


# --- values


VALUES = {
    "text": "käse",
    "large integer": 10**40,
    "bytes": b"\x00\xff",
    "nested": {"a": [1, (2, "x"), {"b": None}], "c": [[[[1.5]]]]},
    "tuple": (1, "two", None),
    "empty": [{}, [], ()],
    "deep": [[[[[[[[[[[[1]]]]]]]]]]]],
    "set": {1, 2},
    "many": list(range(5000)),
    "long text": "x" * 100_000,
    "other keys": {1: 2, (3, 4): 5},
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_is_recorded_as_it_was_whatever_the_program_does_to_it(value):
    expected = flowtrace.hash_value({"given": value, "more": {}})
    result = flowtrace.hash_value(value)

    @traced_node
    def changes(given, **more):
        result = copy.deepcopy(given)
        if isinstance(given, list | dict | set):
            given.clear()
        return result

    with recording(mode="always") as recorded:
        kept = changes(copy.deepcopy(value))
        if isinstance(kept, list | dict | set):
            kept.clear()
    (trace,) = recorded.traces
    assert trace.steps[0].input_hash.value == expected
    assert trace.steps[0].output_hash.value == result


@pytest.mark.parametrize(
    ("args", "kwargs", "payload"),
    [
        ((), {}, {"first": 1, "second": 2, "rest": [], "named": {}}),
        ((5,), {"second": 6}, {"first": 5, "second": 6, "rest": [], "named": {}}),
        ((5, 6, 7, 8), {"x": [9]}, {"first": 5, "second": 6, "rest": [7, 8], "named": {"x": [9]}}),
        ((), {"first": 3, "y": 1}, {"first": 3, "second": 2, "rest": [], "named": {"y": 1}}),
    ],
)
def test_arguments_find_their_parameters(args, kwargs, payload):
    @traced_node
    def takes(first=1, second=2, *rest, **named):
        return None

    with recording(mode="always", capture_inputs=True) as recorded:
        takes(*args, **kwargs)
    assert recorded.traces[0].steps[0].invocation_json["payload"] == payload


def test_the_last_steps_are_bounded_in_number_and_in_bytes():
    @traced_node
    def small(number, text):
        return text

    with recording(mode="on", buffer_size=50, buffer_bytes=100_000) as recorded:
        for number in range(500):
            small(number, "x" * 4000)
        flowtrace.dump()
        (trace,) = recorded.traces
    assert 10 <= len(trace.steps) <= 25
    assert trace.dropped_steps == 500 - len(trace.steps)


# --- the fast path opens and closes while calls run


def test_a_call_that_turns_tracing_off_ends_its_step():
    @traced_node
    def turns_off():
        flowtrace.configure(mode="off")
        return 1

    flowtrace.configure(mode="on", out_path="trace.json")
    assert turns_off() == 1
    assert running() == []
    assert not flowtrace.current_step()


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_a_call_during_which_a_black_box_is_opened_ends_in_it(ends, tmp_path):
    @traced_node
    def opens():
        flowtrace.configure(mode="on", out_path="trace.json", blackbox="app.ring")
        if ends == "badly":
            raise LookupError

    flowtrace.configure(mode="on", out_path="trace.json")
    with contextlib.suppress(LookupError):
        opens()
    assert running() == []
    flowtrace.configure(mode="off")


def test_a_generator_goes_on_through_every_switch():
    @traced_node
    def numbers():
        yield from range(8)

    flowtrace.configure(mode="on", out_path="trace.json")
    made, seen = numbers(), []
    for change in ({"mode": "off"}, {"mode": "always"}, {"mode": "on", "blackbox": "app.ring"}, {"mode": "on"}):
        seen += [next(made), next(made)]
        flowtrace.configure(out_path="trace.json", **change)
    assert [*seen, *made] == list(range(8))
    assert running() == []
    flowtrace.configure(mode="off")


def test_a_fork_in_the_middle_of_a_call_ends_it_in_both(tmp_path):
    @traced_node
    def forks():
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        return child

    flowtrace.configure(mode="always", out_path=str(tmp_path / "{pid}.json"))
    if not forks():
        os._exit(0 if not running() else 3)
    assert running() == []
    flowtrace.configure(mode="off")


# --- wrapt composes with wrapt


@wrapt.decorator
def passes(wrapped, instance, args, kwargs):
    SEEN.append((None if instance is None else type(instance).__name__, args))
    return wrapped(*args, **kwargs)


SEEN = []


@native_only
@pytest.mark.parametrize("mode", ["off", "on"])
@pytest.mark.parametrize("over", [True, False], ids=["over", "under"])
@pytest.mark.parametrize("binding", ["function", "method", "class method", "static method"])
def test_a_decorator_of_wrapt_sees_what_it_sees_without_us(binding, over, mode):
    def program(trace):
        def both(function):
            return trace(passes(function)) if over else passes(trace(function))

        @both
        def function(value):
            return value

        class Plain:
            @both
            def method(self, value):
                return value

            @classmethod
            @both
            def on_class(cls, value):
                return value

            @staticmethod
            @both
            def static(value):
                return value

        SEEN.clear()
        calls = {
            "function": (function,),
            "method": (Plain().method, lambda value: Plain.method(Plain(), value)),
            "class method": (Plain.on_class, Plain().on_class),
            "static method": (Plain.static, Plain().static),
        }[binding]
        return [call(1) for call in calls], [seen[0] for seen in SEEN]

    flowtrace.configure(mode=mode, out_path="trace.json")
    expected = program(lambda function: function)
    assert program(traced_node) == expected
    flowtrace.configure(mode="off")


def test_is_traced_knows_what_is_traced():
    assert is_traced(traced_node(plain))
    assert not is_traced(plain)
