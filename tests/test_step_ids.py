"""The ids of the step that runs here: in code, on records of `logging`, and on events of structlog."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
import structlog

import flowtrace
from flowtrace import current_step, flow, get_recorder, propagate, traced_node
from flowtrace.integrations.logging import StepFilter
from flowtrace.integrations.structlog import add_step
from flowtrace.testing import recording

NAMES = ("run_id", "step_id", "component", "operation", "flow_id")
NONE = dict.fromkeys(NAMES)


def ids():
    step = current_step()
    return {name: getattr(step, name) for name in NAMES}


@traced_node(component="shop", operation="price")
def price():
    return ids()


@traced_node(component="shop", operation="total")
def total():
    return [ids(), price(), ids()]


@traced_node(component="shop", operation="each")
def each():
    yield ids()
    yield ids()


@traced_node(component="shop", operation="fetch")
async def fetch():
    await asyncio.sleep(0)
    return ids()


@traced_node(component="shop", operation="fails")
def fails(seen):
    seen.append(ids())
    raise ValueError("no")


def of(trace, step):
    run_id = step.run_id or trace.run.id
    return {
        "run_id": run_id,
        "step_id": step.step_id,
        "component": step.component_id,
        "operation": step.operation,
        "flow_id": trace.flow.id,
    }


def test_the_ids_are_those_of_the_trace_that_is_written_later():
    with recording() as recorded, flow("checkout"):
        outer, inner, again = total()
        items = list(each())
        fetched = asyncio.run(fetch())
    trace = recorded.traces[0]
    by_operation = {step.operation: of(trace, step) for step in trace.steps}
    assert [inner, outer, *items, fetched] == [
        by_operation[name] for name in ("price", "total", "each", "each", "fetch")
    ]
    assert again == outer


def test_outside_any_step_they_are_none_and_so_they_are_in_a_flow_and_where_tracing_is_off():
    assert ids() == NONE
    with recording(), flow("f"):
        assert ids() == NONE
    with flowtrace.override(mode="off"):
        assert price() == NONE
    assert ids() == NONE


@pytest.mark.parametrize("mode", ["on", "always"])
def test_a_call_that_is_all_of_its_run_has_the_id_that_its_file_gets(tmp_path, mode):
    seen = []
    with flowtrace.override(mode=mode, out_path=tmp_path / "t.json"):
        with pytest.raises(ValueError):
            fails(seen)
        trace = flowtrace.load_trace(tmp_path / "t.json")
    assert seen == [of(trace, trace.steps[0])]
    assert trace.flow.id == "process"


def test_a_call_that_is_asked_before_its_first_child_has_one_run_with_it(tmp_path):
    @traced_node
    def asks_first():
        before = current_step().run_id
        child = price()["run_id"]
        assert before == child == current_step().run_id == get_recorder().run_id
        flowtrace.dump(tmp_path / "now.json")
        return before

    with flowtrace.override(mode="on", out_path=tmp_path / "t.json"):
        first, second = asks_first(), asks_first()
        assert first != second
        fails_here = []
        with pytest.raises(ValueError):
            fails(fails_here)
        steps = flowtrace.load_trace(tmp_path / "t.json").steps
    assert [step.run_id for step in steps] == [first, first, second, second, None]


def test_a_run_that_nobody_asks_for_its_id_makes_none(monkeypatch):
    made = count()

    @traced_node
    def plain():
        return current_step().operation

    with recording(mode="on"):
        monkeypatch.setattr("flowtrace.host.system.CLOCK.run_id", lambda: f"{next(made):032x}")
        plain()
        assert next(made) == 0


def test_a_thread_has_the_ids_of_the_step_that_it_was_given():
    @traced_node
    def starts_threads():
        with ThreadPoolExecutor(1) as pool:
            return [ids(), pool.submit(ids).result(), pool.submit(propagate(ids)).result()]

    with recording():
        assert len({tuple(found.items()) for found in starts_threads()}) == 1


def test_a_task_that_outlives_its_flow_says_where_it_was_started():
    async def later(out):
        await asyncio.sleep(0.01)
        out.append(ids())

    @traced_node(component="c", operation="starts")
    async def starts(out):
        return asyncio.create_task(later(out))

    async def main(out):
        async with flow("short"):
            task = await starts(out)
        await task

    out = []
    with recording() as recorded:
        asyncio.run(main(out))
    trace = recorded.traces[0]
    assert out == [of(trace, trace.steps[0])]


def test_what_looks_like_a_secret_in_the_name_of_a_flow_is_hidden_as_in_the_file():
    with recording() as recorded, flow("login password=hunter2secret"):
        found = price()["flow_id"]
    assert found == recorded.traces[0].flow.id
    assert "hunter2secret" not in found


# --- logging


@pytest.fixture
def lines():
    """The lines that a handler with our filter writes of the logger ``shop``."""
    found = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(handler.format(record))
    handler.setFormatter(logging.Formatter("%(message)s %(operation)s %(step_id)s %(flow_id)s"))
    handler.addFilter(StepFilter())
    logger = logging.getLogger("shop")
    logger.addHandler(handler)
    logger.propagate = False
    yield found
    logger.removeHandler(handler)
    logger.propagate = True


def test_a_record_has_the_ids_of_its_step_and_none_outside(lines):
    @traced_node(component="shop", operation="work")
    def work():
        logging.getLogger("shop").warning("inside")
        return current_step().step_id

    logging.getLogger("shop").warning("off")
    with recording():
        number = work()
        logging.getLogger("shop").warning("outside")
        with flow("f"):
            logging.getLogger("shop").warning("in a flow")
    assert lines == [
        "off None None None",
        f"inside work {number} process",
        "outside None None None",
        "in a flow None None f",
    ]


def test_the_filter_leaves_what_a_record_has_already_and_takes_a_prefix():
    record = logging.makeLogRecord({"run_id": "theirs"})
    with recording(), flow("f"):
        run_id = get_recorder().run_id
        assert StepFilter().filter(record)
        assert StepFilter(prefix="flowtrace_").filter(record)
    assert record.run_id == "theirs"
    assert (record.flow_id, record.flowtrace_run_id, record.flowtrace_step_id) == ("f", run_id, None)


def test_the_filter_never_raises_and_runs_no_code_of_the_record(capsys):
    record = logging.makeLogRecord({})

    class Odd(logging.LogRecord):
        def __getattribute__(self, name):
            raise SystemExit(name)

    record.__class__ = Odd
    with recording():
        assert StepFilter().filter(record) is True
        assert StepFilter().filter(None) is True


# --- structlog


def test_an_event_has_the_ids_of_its_step_and_no_more_outside():
    seen = []
    logger = structlog.wrap_logger(
        structlog.PrintLogger(), processors=[add_step, lambda _l, _m, event: seen.append(event)]
    )

    @traced_node(component="shop", operation="work")
    def work():
        with pytest.raises(ValueError):  # nothing is rendered
            logger.info("inside", flow_id="theirs")
        return ids()

    with recording():
        expected = work()
        with pytest.raises(ValueError):
            logger.info("outside")
    assert seen == [{"event": "inside", **expected, "flow_id": "theirs"}, {"event": "outside"}]


def test_the_processor_never_raises():
    with recording(), flow("f"):
        assert add_step(None, "info", None) is None
