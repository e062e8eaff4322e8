"""The step that a trace names as the one in which its failure began: recorded by identity, whatever failed besides."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import flowtrace
from flowtrace import flow, load_trace, traced_node, validate
from flowtrace.recording.failure import describe
from flowtrace.recording.state import MOST_ERRORS, STATE, ErrorsPassed
from flowtrace.testing import recording


class TranslatedError(Exception):
    """What a program makes of another error."""


@traced_node
def fail(label, error=ValueError):
    raise error(label)


@traced_node
def work(label):
    return label


@traced_node
async def fetch(label, seconds, error=None):
    await asyncio.sleep(seconds)
    if error is not None:
        raise error(label)


def failed_step(program):
    """Run a program in a flow; return the label and the error of the step that the flow's trace names."""
    with recording(capture_inputs=True, buffer_size=2 * MOST_ERRORS) as recorded:
        with contextlib.suppress(BaseException), flow("f"):
            program()
    (trace,) = recorded.traces
    assert [finding for finding in validate(trace) if finding.severity == "error"] == []
    return told(trace)


def told(trace):
    step = trace.failed_step
    if step is None:
        assert trace.run.failed_step_id is None
        return None
    assert step.step_id == trace.run.failed_step_id
    payload = step.invocation_json["payload"] if step.invocation_json else {}
    return payload.get("label", step.operation), step.error.message


def cleans_up():
    try:
        fail("load")
    finally:
        with contextlib.suppress(PermissionError):
            fail("remove", PermissionError)


def fails_in_its_clean_up():
    try:
        fail("load", KeyError)
    finally:
        fail("remove", PermissionError)


def goes_through_others():
    @traced_node
    def outer():
        @traced_node
        def inner():
            fail("deep")

        inner()

    outer()


def translates_outside():
    try:
        fail("average")
    except ValueError as error:
        raise TranslatedError("no report") from error


def translates_while_it_handles():
    try:
        fail("average")
    except ValueError:
        raise TranslatedError("no report")


def translates_inside():
    @traced_node
    def report(label):
        translates_while_it_handles()

    report("report")


def hides_where_it_came_from():
    @traced_node
    def report(label):
        try:
            fail("average")
        except ValueError:
            raise TranslatedError("no report") from None

    report("report")


def raises_the_first_of_its_attempts():
    first = None
    for attempt in range(3):
        try:
            fail(f"attempt {attempt}", TimeoutError if attempt == 0 else OSError)
        except OSError as error:
            first = first or error
    raise first


def raises_the_last_of_its_attempts():
    for attempt in range(5):
        try:
            fail(f"attempt {attempt}")
        except ValueError:
            if attempt == 4:
                raise


def tries_again_while_it_handles(attempt=0):
    try:
        fail(f"attempt {attempt}")
    except ValueError:
        if attempt == 3:
            raise
        tries_again_while_it_handles(attempt + 1)


def raises_again_in_another_node():
    @traced_node
    def give_up(label, error):
        raise error

    kept = None
    try:
        fail("first")
    except ValueError as error:
        kept = error
    give_up("later", kept)


def fails_outside():
    with contextlib.suppress(ValueError):
        fail("handled")
    raise LookupError("no node")


def gathers():
    async def crawl():
        await asyncio.gather(*(fetch(f"page {at}", at * 0.01, OSError if at == 1 else None) for at in range(1, 4)))

    asyncio.run(crawl())


def groups_tasks():
    async def scan():
        async with asyncio.TaskGroup() as group:
            for at in range(1, 4):
                group.create_task(fetch(f"port {at}", at * 0.02, OSError if at == 2 else None))

    asyncio.run(scan())


def keeps_a_group_within_a_node():
    @traced_node
    async def scan(label):
        async with asyncio.TaskGroup() as outer:
            async with asyncio.TaskGroup() as inner:
                inner.create_task(fetch("port 1", 0.01, OSError))
            outer.create_task(fetch("port 2", 0))

    asyncio.run(scan("scan"))


def handles_a_part_of_a_group():
    async def scan():
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fetch("expected", 0, KeyError))
                group.create_task(fetch("port", 0, OSError))
        except* KeyError:
            pass

    asyncio.run(scan())


def opens_a_nursery():
    @traced_node
    async def probe(label, seconds, error=None):
        await trio.sleep(seconds)
        if error is not None:
            raise error(label)

    async def scan():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(probe, "port 1", 5)
            nursery.start_soon(probe, "port 2", 0.01, OSError)

    trio.run(scan)


def uses_a_pool():
    @traced_node
    def convert(label, number):
        time.sleep(0.05 * number)
        if number:
            raise LookupError(label)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(convert, ["0", "1", "2"], range(3)))


def is_cancelled():
    async def waits():
        task = asyncio.create_task(fetch("cancelled", 5))
        await asyncio.sleep(0)
        task.cancel()
        await task

    asyncio.run(waits())


def times_out():
    async def waits():
        async with asyncio.timeout(0.01):
            await fetch("cancelled", 5)

    asyncio.run(waits())


def ends_a_generator():
    @traced_node
    def numbers(label):
        yield 1
        fail("inside")

    list(numbers("numbers"))


def recovers():
    with contextlib.suppress(ValueError):
        fail("handled")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (cleans_up, ("load", "load")),
        (fails_in_its_clean_up, ("remove", "remove")),
        (goes_through_others, ("deep", "deep")),
        (translates_outside, ("average", "average")),
        (translates_while_it_handles, ("average", "average")),
        (translates_inside, ("average", "average")),
        (hides_where_it_came_from, ("report", "no report")),
        (raises_the_first_of_its_attempts, ("attempt 0", "attempt 0")),
        (raises_the_last_of_its_attempts, ("attempt 4", "attempt 4")),
        (tries_again_while_it_handles, ("attempt 3", "attempt 3")),
        (raises_again_in_another_node, ("first", "first")),
        (fails_outside, ("unknown", "no node")),
        (gathers, ("page 1", "page 1")),
        (groups_tasks, ("port 2", "port 2")),
        (keeps_a_group_within_a_node, ("port 1", "port 1")),
        (handles_a_part_of_a_group, ("port", "port")),
        (opens_a_nursery, ("port 2", "port 2")),
        (uses_a_pool, ("1", "1")),
        (is_cancelled, None),
        (times_out, ("unknown", "")),
        (ends_a_generator, ("inside", "inside")),
        (recovers, None),
    ],
)
def test_the_step_in_which_the_error_began(program, expected):
    assert failed_step(program) == expected


def test_the_first_file_of_a_failure_names_its_step_as_well():
    with recording() as recorded, contextlib.suppress(ValueError):
        fail("x")
    (trace,) = recorded.traces
    assert (trace.failed_step.operation, trace.run.failed_step_id) == ("fail", trace.steps[0].step_id)


def test_validation_issues_make_their_step_the_failed_one():
    from flowtrace import current_step

    @traced_node
    def check(label):
        current_step().add_validation_issue("odd", "", "is odd")

    with recording(validation="error") as recorded, contextlib.suppress(ValueError):
        check("a")
        work("b")
    trace = recorded.traces[0]
    assert (trace.run.outcome, trace.failed_step) == ("failed", trace.steps[0])


def test_an_error_at_the_address_of_an_earlier_one_is_another_one(tmp_path):
    @traced_node
    def inner(number):
        raise ValueError(number)

    @traced_node(operation="outer")
    def outer(number, is_off):
        if is_off:
            flowtrace.configure(mode="off")
        try:
            inner(number)
        finally:
            flowtrace.configure(mode="on", out_path=tmp_path / f"{number}.json")

    flowtrace.configure(mode="on", out_path=tmp_path / "earlier.json")
    for number in range(30):  # the later error takes the place of the earlier one in some of them
        for is_off in (False, True):
            with pytest.raises(ValueError, match=str(number)):
                outer(number if is_off else number + 100, is_off)
        trace = load_trace(tmp_path / f"{number}.json")
        assert (trace.failed_step.operation, trace.failed_step.error.message) == ("outer", str(number))


def test_no_error_is_kept_alive_and_few_are_remembered():
    with recording(), contextlib.suppress(ValueError):
        fail("x")
    passed = ErrorsPassed()
    step = type("Step", (), {"number": 1, "parent": 0, "failure": None})
    for number in range(MOST_ERRORS + 5):
        passed.note(ValueError(number), step, describe(ValueError(number)), "", False)
    assert len(passed._noted) <= MOST_ERRORS
    gc.collect()
    assert not any(isinstance(item, BaseException) for item in gc.get_referents(*STATE.passed._noted.values()))


# --- random programs, whose truth is known by construction

_LEAVES = st.sampled_from(["fails", "thread", "task", "generator", "outside"])
_AROUND = st.sampled_from(["node", "again", "cleans", "retries", "from", "group", "pool", "bystander", "loop"])


class Builder:
    """Runs a random program; `truth` is the label of the step in which the error begins that leaves it."""

    def __init__(self):
        self.count = 0
        self.truth = None

    def label(self):
        self.count += 1
        return f"n{self.count}"

    def run(self, leaf, around):
        if around:
            getattr(self, f"_{around[0]}")(lambda: self.run(leaf, around[1:]))
        else:
            getattr(self, f"_{leaf}")()

    def _fails(self):
        self.truth = self.label()
        fail(self.truth)

    def _outside(self):
        self.truth = None
        raise LookupError("outside")

    def _thread(self):
        self.truth = self.label()
        with ThreadPoolExecutor(2) as pool:
            late = pool.submit(fail, self.label(), KeyError)
            pool.submit(fail, self.truth).result()
            late.result()

    def _task(self):
        self.truth = self.label()

        async def tasks():
            async with asyncio.TaskGroup() as group:
                group.create_task(fetch(self.label(), 5))
                group.create_task(fetch(self.truth, 0, OSError))

        asyncio.run(tasks())

    def _generator(self):
        @traced_node
        def items(label):
            yield 1
            raise OSError(label)

        self.truth = self.label()
        for _ in items(self.truth):
            work(self.label())

    def _node(self, inner):
        @traced_node
        def step(label):
            inner()

        label = self.label()
        try:
            step(label)
        finally:
            self.truth = self.truth or label

    def _again(self, inner):
        kept = None
        try:
            inner()
        except BaseException as error:
            kept = error
        work(self.label())
        raise kept

    def _cleans(self, inner):
        try:
            inner()
        finally:
            with contextlib.suppress(OSError):
                fail(self.label(), OSError)

    def _retries(self, inner):
        for _ in range(2):
            with contextlib.suppress(ValueError):
                fail(self.label())
        inner()

    def _from(self, inner):
        try:
            inner()
        except BaseException as error:
            raise TranslatedError(self.label()) from error

    def _group(self, inner):
        try:
            inner()
        except Exception as error:
            raise ExceptionGroup("group", [LookupError("bystander"), error]) from None

    def _pool(self, inner):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(inner).result()

    def _bystander(self, inner):
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(fail, self.label(), OSError)
            try:
                inner()
            finally:
                other.exception()

    def _loop(self, inner):
        async def main():
            late = asyncio.create_task(fetch(self.label(), 5))
            await asyncio.sleep(0)
            try:
                inner_loop = asyncio.get_running_loop()
                await inner_loop.run_in_executor(None, __import__("contextvars").copy_context().run, inner)
            finally:
                late.cancel()

        asyncio.run(main())


class AsyncBuilder(Builder):
    """The same for coroutines: each part is one, and so are the functions around it."""

    async def run(self, leaf, around):
        if around:
            await getattr(self, f"_{around[0]}")(lambda: self.run(leaf, around[1:]))
        else:
            await getattr(self, f"_{leaf}")()

    async def _awaited(self):
        self.truth = self.label()
        await fetch(self.truth, 0, OSError)

    async def _called(self):
        self._fails()

    async def _yielded(self):
        @traced_node
        async def items(label):
            yield 1
            await asyncio.sleep(0)
            raise OSError(label)

        self.truth = self.label()
        async for _ in items(self.truth):
            work(self.label())

    async def _consumed(self):
        @traced_node
        async def items(label):
            yield 1
            yield 2

        async for _ in items(self.label()):
            self._fails()

    async def _threaded(self):
        self.truth = self.label()
        await asyncio.to_thread(fail, self.truth)

    async def _outside(self):
        self.truth = None
        raise LookupError("outside")

    async def _node(self, inner):
        @traced_node
        async def step(label):
            await inner()

        label = self.label()
        try:
            await step(label)
        finally:
            self.truth = self.truth or label

    async def _group(self, inner):
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch(self.label(), 5))
            group.create_task(inner())

    async def _gathered(self, inner):
        others = fetch(self.label(), 0), fetch(self.label(), 5)
        await asyncio.wait_for(asyncio.gather(*others, inner()), 60)

    async def _all_gathered(self, inner):
        results = await asyncio.gather(inner(), fetch(self.label(), 0, KeyError), return_exceptions=True)
        raise results[0]

    async def _retries(self, inner):
        for _ in range(2):
            with contextlib.suppress(OSError):
                await fetch(self.label(), 0, OSError)
        await inner()

    async def _cleans(self, inner):
        try:
            await inner()
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await fetch(self.label(), 5)

    async def _from(self, inner):
        try:
            await inner()
        except Exception as error:
            raise TranslatedError(self.label()) from error

    async def _waits(self, inner):
        task = asyncio.create_task(inner())
        await asyncio.wait([task, asyncio.create_task(fetch(self.label(), 0, KeyError))])
        await task


_ASYNC_LEAVES = st.sampled_from(["awaited", "called", "yielded", "consumed", "threaded", "outside"])
_ASYNC_AROUND = st.sampled_from(
    ["node", "group", "gathered", "all_gathered", "retries", "cleans", "from", "waits"],
)


def outermost_failed_step(program):
    """Run a program outside any flow; return what its last trace names, in the form of `failed_step`."""

    @traced_node
    def main():
        program()

    with recording(capture_inputs=True, buffer_size=2 * MOST_ERRORS) as recorded:
        with contextlib.suppress(BaseException):
            main()
    return told(recorded.traces[-1])


def is_right(found, truth, without):
    return found[0] == (without if truth is None else truth)


@given(_LEAVES, st.lists(_AROUND, max_size=4))
def test_random_programs_name_the_step_that_was_to_blame(leaf, around):
    builder = Builder()
    found = failed_step(lambda: builder.run(leaf, around))
    assert is_right(found, builder.truth, "unknown")


@given(_LEAVES, st.lists(_AROUND, max_size=4))
def test_random_programs_outside_any_flow(leaf, around):
    builder = Builder()
    found = outermost_failed_step(lambda: builder.run(leaf, around))
    assert is_right(found, builder.truth, outermost_failed_step.__qualname__ + ".<locals>.main")


@given(_ASYNC_LEAVES, st.lists(_ASYNC_AROUND, max_size=4), st.booleans())
def test_random_programs_of_coroutines(leaf, around, in_flow):
    builder = AsyncBuilder()
    run = failed_step if in_flow else outermost_failed_step
    found = run(lambda: asyncio.run(builder.run(leaf, around)))
    without = "unknown" if in_flow else outermost_failed_step.__qualname__ + ".<locals>.main"
    assert is_right(found, builder.truth, without)
