"""Many threads, many tasks, one file: no wrong parent, no lost step, no torn file."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import flowtrace
from flowtrace import flow, load_trace, traced_node
from flowtrace.instrument.subjects import node_subject
from flowtrace.recording.node import Node
from flowtrace.recording.state import CURRENT, STATE, running
from flowtrace.testing import recording
from flowtrace.trace.reading import parse_trace
from tests.programs import run_program


@traced_node(component="c", operation="leaf")
def leaf(owner, number):
    return (owner, number)


@traced_node(component="c", operation="branch")
def branch(owner, number):
    return [leaf(owner, number), leaf(owner, number + 1)]


@traced_node(component="c", operation="async_leaf")
async def async_leaf(owner, number):
    await asyncio.sleep(0)
    return (owner, number)


@traced_node(component="c", operation="async_branch")
async def async_branch(owner, number):
    return await asyncio.gather(async_leaf(owner, number), async_leaf(owner, number + 1))


def check(traces, owners, branches):
    """Every flow has all of its own steps and no other's, and each leaf has a branch of its flow as its parent."""
    assert sorted(trace.flow.id for trace in traces) == sorted(owners)
    for trace in traces:
        assert len(trace.steps) == 3 * branches
        assert trace.dropped_steps == 0
        by_id = {step.step_id: step for step in trace.steps}
        assert len(by_id) == 3 * branches
        for step in trace.steps:
            payload = step.invocation_json["payload"]
            assert payload["owner"] == trace.flow.id
            if step.operation.endswith("leaf"):
                parent = by_id[step.parent_step_id]
                assert parent.operation.endswith("branch")
                assert payload["number"] - parent.invocation_json["payload"]["number"] in (0, 1)
            else:
                assert step.parent_step_id is None


def test_16_threads_each_in_their_own_flow():
    start = threading.Barrier(16)

    def work(owner):
        start.wait()
        with flow(owner):
            for number in range(0, 60, 2):
                branch(owner, number)

    owners = [f"thread-{number}" for number in range(16)]
    with recording(buffer_size=1000, capture_inputs=True) as recorded, ThreadPoolExecutor(16) as pool:
        list(pool.map(work, owners))
    check(recorded.traces, owners, 30)


@pytest.mark.slow
def test_1000_tasks_each_in_their_own_flow():
    async def work(owner):
        async with flow(owner):
            for number in range(0, 6, 2):
                await async_branch(owner, number)

    async def main():
        await asyncio.gather(*map(work, owners))

    owners = [f"task-{number}" for number in range(1000)]
    with recording(buffer_size=1000, capture_inputs=True) as recorded:
        asyncio.run(main())
    check(recorded.traces, owners, 3)


def test_many_threads_in_one_flow_lose_no_step(tmp_path):

    with flowtrace.override(mode="always", out_path=tmp_path / "t.json", buffer_size=100_000):
        with flow("one"), ThreadPoolExecutor(8) as pool:
            context = contextvars.copy_context()
            futures = [pool.submit(context.copy().run, branch, "one", number) for number in range(500)]
            assert all(future.result() for future in futures)
    trace = load_trace(tmp_path / "t.json")
    assert len(trace.steps) == 1500
    assert len({step.step_id for step in trace.steps}) == 1500


@pytest.mark.slow
def test_a_reader_sees_a_whole_file_at_every_moment_of_10_000_rewrites(tmp_path):
    path = tmp_path / "trace.json"
    stop = threading.Event()
    seen = []

    def read():
        while not stop.is_set():
            data = path.read_bytes()
            seen.append(parse_trace(data).flow.version)
            time.sleep(0.0005)  # leaves the interpreter lock to the writer

    with flowtrace.override(mode="on", out_path=path):
        for number in range(10_000):
            with flow("f", version=str(number)):
                leaf("f", number)
                assert flowtrace.dump() == path  # a burst of runs would be written less often
            if number == 0:
                reader = threading.Thread(target=read)
                reader.start()
    stop.set()
    reader.join()
    assert len(set(seen)) > 10
    assert [int(version) for version in seen] == sorted(map(int, seen))
    assert [entry.name for entry in tmp_path.iterdir()] == ["trace.json"]


@traced_node(component="c", operation="submitter")
def submitter(submit):
    return submit(leaf, "one", 1)


def parents(recorded):
    (trace,) = recorded.traces
    by_id = {step.step_id: step.operation for step in trace.steps}
    return [(step.operation, by_id.get(step.parent_step_id)) for step in trace.steps]


def test_a_thread_pools_task_has_the_submitting_step_as_its_parent():
    with recording() as recorded, ThreadPoolExecutor(1) as pool:
        assert submitter(lambda *call: pool.submit(*call).result()) == ("one", 1)
        assert submitter.__wrapped__(lambda *call: list(pool.map(call[0], ["one"], [1]))) == [("one", 1)]
    first, second = recorded.traces
    assert first.steps[0].parent_step_id == first.steps[1].step_id
    assert second.steps[0].parent_step_id is None


def test_to_thread_and_run_in_executor_have_the_awaiting_step_as_their_parent():
    @traced_node(component="c", operation="awaiting")
    async def awaiting():
        await asyncio.to_thread(leaf, "to_thread", 1)
        await asyncio.get_running_loop().run_in_executor(None, leaf, "executor", 2)

    with recording() as recorded:
        asyncio.run(awaiting())
    assert parents(recorded) == [("leaf", "awaiting"), ("leaf", "awaiting"), ("awaiting", None)]


def test_a_plain_thread_has_a_one_line_way():
    def in_thread(function, *arguments):
        thread = threading.Thread(target=flowtrace.propagate(function), args=arguments)
        thread.start()
        thread.join()

    with recording() as recorded:
        submitter(in_thread)
    assert parents(recorded) == [("leaf", "submitter"), ("submitter", None)]
    assert flowtrace.propagate(leaf) is leaf


def test_thread_pools_are_patched_only_while_tracing_is_on():
    submit = ThreadPoolExecutor.submit
    with recording():
        assert ThreadPoolExecutor.submit is not submit
        with flowtrace.override(mode="off"):
            assert ThreadPoolExecutor.submit is submit
    assert ThreadPoolExecutor.submit is submit


@pytest.mark.parametrize("blackbox", [None, "app.ring"])
def test_a_call_that_ends_in_another_context_than_it_began_in_leaves_that_as_it_was(blackbox, tmp_path):
    """As with coroutines of other frameworks that switch stacks below Python."""
    flowtrace.configure(mode="on", out_path=tmp_path / "t.json", blackbox=blackbox and str(tmp_path / blackbox))
    subject = node_subject(Node("component", "operation", "node"))
    for _ in range(3):
        step = contextvars.copy_context().run(subject.begin, subject, (1,), {}, False)
        subject.end(step, 2)
        failing = contextvars.copy_context().run(subject.begin, subject, (1,), {}, False)
        subject.fail(failing, ValueError())
        assert (CURRENT.get(), running()) == (None, [])
    assert len(STATE.recorder.buffer.newest()) == 6


def test_a_pool_task_sees_the_hosts_context_variables_as_without_us():
    variable = contextvars.ContextVar("variable", default="default")

    @traced_node
    def task():
        seen = variable.get()
        variable.set("changed in the worker")
        return seen

    def twice():
        variable.set("changed by the submitter")
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(task).result(), pool.submit(task).result()

    undecorated = contextvars.copy_context().run(twice)
    with recording(), flow("f"):
        assert contextvars.copy_context().run(twice) == undecorated == ("default", "changed in the worker")


@pytest.mark.costly
@pytest.mark.parametrize("pure", ["0", "1"])
def test_threads_are_told_by_their_names_though_they_have_ended(pure, tmp_path):
    program = """
        import threading
        from concurrent.futures import ThreadPoolExecutor
        from flowtrace import flow, propagate, traced_node

        meet = threading.Barrier(3)

        @traced_node
        def job(wait):
            if wait:
                meet.wait(60)

        with flow("threads"):
            for name in ("first", "second", "third"):  # the system may give each of them the same identifier
                thread = threading.Thread(target=propagate(job), args=[False], name=name)
                thread.start()
                thread.join()
            with ThreadPoolExecutor(3, thread_name_prefix="painter") as pool:
                list(pool.map(job, [True] * 3))
            job(False)
    """
    run_program(tmp_path, program, FLOWTRACE_OUT="t.json", FLOWTRACE_MODE="always", FLOWTRACE_PURE=pure)
    names = [step.thread for step in load_trace(tmp_path / "t.json").steps]
    assert sorted(names) == ["MainThread", "first", "painter_0", "painter_1", "painter_2", "second", "third"]
