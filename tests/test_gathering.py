"""All traces of one run of a program, as one."""

from __future__ import annotations

from flowtrace import flow, traced_node, validate
from flowtrace.comparing.gather import gather
from flowtrace.testing import recording
from tests.traces import run, step, trace


@traced_node(component="c")
def inner(number):
    return number


@traced_node(component="c")
def outer(number):
    return inner(number)


def outline(joined):
    """Return each step's node with that of the step around it."""
    by_id = {step.step_id: step.node_id for step in joined.steps}
    return [(step.node_id, by_id.get(step.parent_step_id)) for step in joined.steps]


def test_flows_become_steps_around_their_own_and_other_calls_stay_outermost():
    with recording() as recorded:
        outer(1)
        with flow("job", version="2"):
            outer(2)
            inner(3)
    joined = gather(reversed(recorded.traces), "process")
    assert outline(joined) == [
        ("c.inner", "c.outer"),
        ("c.outer", None),
        ("c.inner", "c.outer"),
        ("c.outer", "job"),
        ("c.inner", "job"),
        ("job", None),
    ]
    job = joined.steps[-1]
    assert (job.component_id, job.operation, job.output_json) == ("flow", "2", "ok")
    assert validate(joined) == []


def identified(*numbers, pid=1, **fields):
    started = {"started_at": f"2026-11-24T00:00:00.{min(numbers):06d}Z"}
    steps = [step("c.a", number, step_id=f"{number:016x}") for number in numbers]
    return trace(*steps, run=run("ok") | {"pid": pid} | started, **fields)


def test_a_trace_of_the_process_stands_for_the_others():
    parts = [identified(1), identified(2, 3)]
    assert gather([*parts, identified(1, 2, 3, 4)], "f").steps == identified(1, 2, 3, 4).steps
    assert gather(parts, "f").steps == identified(1, 2, 3).steps


def test_a_trace_of_the_process_that_lost_steps_does_not():
    parts = [identified(1), identified(2, 3)]
    assert gather([*parts, identified(2, 3, dropped=1)], "f").steps == identified(1, 2, 3).steps


def test_processes_are_kept_apart():
    joined = gather([identified(1), identified(1, pid=2)], "f")
    assert [step.step_id for step in joined.steps] == ["0000000000000001", "0001000000000001"]
    assert [step.thread for step in joined.steps] == [None, "None of child 1"]


def test_what_rolled_out_is_added_up():
    assert gather([identified(1, dropped=2), identified(2, dropped=3)], "f").dropped_steps == 5


def test_no_traces_make_an_empty_one():
    assert (gather([], "f").steps, gather([], "f").flow.id) == ([], "f")
