"""A program that stops or moves the clock: no value is lost, the trace has the real times, and nobody's clock moves."""

from __future__ import annotations

import datetime

import pytest

import flowtrace
from flowtrace import traced_node
from flowtrace.testing import recording
from flowtrace.values.encode import encode
from tests.programs import run_program

freezegun = pytest.importorskip("freezegun")
time_machine = pytest.importorskip("time_machine")

LONG_AGO = "2001-02-03T04:05:06"
VALUES = {
    "datetime": datetime.datetime(2026, 1, 2, 3, 4),
    "aware datetime": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "date": datetime.date(2026, 1, 2),
    "time": datetime.time(3, 4),
    "time with a zone": datetime.time(3, 4, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
    "timedelta": datetime.timedelta(1),
    "zone": datetime.timezone(datetime.timedelta(hours=2), "name"),
}
FREEZERS = {
    "freezegun": lambda: freezegun.freeze_time(LONG_AGO),
    "time-machine": lambda: time_machine.travel(f"{LONG_AGO}Z", tick=False),
}


@traced_node
def give(value):
    return value


@pytest.mark.costly
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("freezer", FREEZERS)
def test_a_value_is_the_same_while_the_clock_is_stopped(name, freezer):
    value = VALUES[name]
    before = encode(value)
    with FREEZERS[freezer](), recording(capture_inputs=True) as recorded:
        inside = encode(value)
        give(value)
        steps = [step for trace in recorded.traces for step in trace.steps]
    assert inside == before
    assert [(step.input_hash.value, step.opaque) for step in steps] == [(encode({"value": value}).digest.value, [])]


@pytest.mark.parametrize("freezer", FREEZERS)
def test_a_moment_of_the_stopped_clock_is_told(freezer):
    with FREEZERS[freezer]():
        moments = [encode(datetime.datetime.now()), encode(datetime.date.today())]
    for moment, text in zip(moments, [b'"2001-02-03T04:05:06"', b'"2001-02-03"'], strict=True):
        assert moment.opaque == ()
        assert text in moment.data


def test_the_steps_have_the_real_times(tmp_path):
    before = datetime.datetime.now(datetime.UTC)
    with freezegun.freeze_time(LONG_AGO):
        flowtrace.configure(mode="always", out_path=tmp_path / "t.json")
        give(1)
    trace = flowtrace.load_trace(tmp_path / "t.json")
    started = datetime.datetime.fromisoformat(trace.steps[0].started_at)
    assert before - datetime.timedelta(seconds=1) < started < datetime.datetime.now(datetime.UTC)
    assert trace.steps[0].duration_ns > 0


PROGRAM = f"""
    import datetime, json, time
    from freezegun import freeze_time
    moment = datetime.datetime(2026, 1, 2)
    {{imports}}
    with freeze_time("{LONG_AGO}", auto_tick_seconds=1):
        {{inside}}
        @flowtrace.traced_node
        def give(value):
            return value

        @flowtrace.traced_node
        def fail(value):
            raise ValueError(value)

        flowtrace.configure(mode="always", out_path="t.json", capture_inputs=True)
        before = time.time()
        give(moment)
        try:
            fail(moment)
        except ValueError:
            pass
        print(time.time() - before, type(time.monotonic()).__name__)
    """


@pytest.mark.costly
@pytest.mark.parametrize("pure", ["0", "1"])
@pytest.mark.parametrize("when", ["before", "inside"])
def test_a_clock_that_moves_when_it_is_read_is_not_read_by_us(tmp_path, when, pure):
    line = "import flowtrace"
    program = PROGRAM.format(imports=line if when == "before" else "", inside=line if when == "inside" else "")
    done = run_program(tmp_path, program, FLOWTRACE_PURE=pure)
    assert done.stdout == "1.0 float\n"
    assert done.stderr == ""
    step = flowtrace.load_trace(tmp_path / "t.json").steps[-1]
    assert step.invocation_json["payload"] == {"value": {"$py": "datetime", "value": "2026-01-02T00:00:00"}}
    assert step.started_at > "2026-01"
