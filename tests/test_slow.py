"""Snapshots because something is slow: of steps and flows, at a bounded rate, in the place of no failure's trace."""

from __future__ import annotations

import asyncio

import pytest

import flowtrace
from flowtrace import ConfigError, NodeEvent, TraceConfig, flow, load_trace, traced_node
from flowtrace.recording.throttle import SLOW_BURST
from flowtrace.testing import fixed_clock

MS = 1_000_000
time = [0]


def pass_time(ms):
    time[0] += ms * MS


@traced_node(component="c", operation="work")
def work(ms):
    pass_time(ms)


@traced_node(component="c", operation="each")
def each(ms):
    yield 1
    pass_time(ms)


@traced_node(component="c", operation="fetch")
async def fetch(ms):
    await asyncio.sleep(0)
    pass_time(ms)


@traced_node(component="c", operation="outer")
def outer(*all_ms):
    for ms in all_ms:
        work(ms)


@traced_node(component="c", operation="fail", expected_errors=LookupError)
def fail(error, ms):
    pass_time(ms)
    raise error("no")


@pytest.fixture(params=["{}", "with run_id"])
def slow(request, tmp_path):
    """Tracing with a limit of 100 ms and a clock that stands still unless a test moves it; gives the traces so far."""
    one = request.param == "{}"

    def traces():
        found = [load_trace(path) for path in tmp_path.glob("*.json")]
        return [
            (trace.run.outcome, [step.operation for step in trace.steps], [step.operation for step in trace.in_flight])
            for trace in sorted(found, key=lambda trace: trace.run.started_at)
        ]

    with fixed_clock() as clock:
        time[0] = MS
        clock.now = lambda: time[0]
        path = tmp_path / ("trace.json" if one else "{run_id}.json")
        with flowtrace.override(mode="on", out_path=path, slow="100ms"):
            yield traces


def test_no_snapshot_where_nothing_is_slow(slow):
    work(100)
    list(each(100))
    with flow("f"):
        work(50)
        work(50)
    assert slow() == []


@pytest.mark.parametrize(
    ("call", "operation"),
    [
        (lambda: work(101), "work"),
        (lambda: list(each(101)), "each"),
        (lambda: asyncio.run(fetch(101)), "fetch"),
    ],
)
def test_a_slow_step_shows_what_came_before(slow, call, operation):
    work(1)
    call()
    work(1)
    assert slow() == [("slow", ["work", operation], [])]


def test_a_slow_step_inside_is_written_at_once_and_again_at_the_end(slow):
    seen = []

    @traced_node(component="c", operation="looks")
    def looks():
        work(101)
        seen.extend(slow())
        work(1)

    looks()
    assert seen == [("slow", ["work"], ["looks"])]
    assert slow() == [("slow", ["work", "work", "looks"], [])]


def test_each_slow_step_of_a_long_flow_is_written_when_it_ends(slow):
    with flow("f", slow=0):
        for count in (1, 3, 5):
            work(101)
            assert slow() == [("slow", ["work"] * count, [])]
            work(1)


def test_a_slow_flow_without_a_slow_step(slow):
    with flow("f"):
        work(60)
        work(60)
    assert slow() == [("slow", ["work", "work"], [])]


def test_a_decorated_flow_has_its_own_limit(slow):
    @flow("f", slow=0.01)
    def job():
        work(11)

    job()
    assert slow() == [("slow", ["work"], [])]


def test_a_node_has_its_own_limit(slow):
    @traced_node(component="c", operation="quick", slow="1ms")
    def quick(ms):
        pass_time(ms)

    @traced_node(component="c", operation="patient", slow=0)
    def patient(ms):
        pass_time(ms)

    quick(1)
    patient(5000)
    assert slow() == []
    quick(2)
    assert slow() == [("slow", ["quick", "patient", "quick"], [])]


def test_limits_of_decorators_count_where_the_configuration_has_none(tmp_path):
    @traced_node(component="c", operation="quick", slow=1e-6)
    def quick():
        return sum(range(10_000))

    with flowtrace.override(mode="on", out_path=tmp_path / "t.json"):
        quick()
    assert load_trace(tmp_path / "t.json").run.outcome == "slow"


def test_an_expected_error_may_be_slow_too(slow):
    with pytest.raises(LookupError):
        fail(LookupError, 101)
    assert slow() == [("slow", ["fail"], [])]


def test_what_was_cancelled_after_a_long_time_is_slow(slow):
    async def run():
        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        pass_time(101)
        task.cancel()
        await asyncio.wait([task])

    @traced_node(component="c", operation="waits")
    async def waits():
        await asyncio.sleep(60)

    asyncio.run(run())
    assert slow() == [("slow", ["waits"], [])]


def test_what_fails_is_no_slow_run(slow):
    with pytest.raises(ValueError, match="no"):
        fail(ValueError, 101)
    assert slow() == [("failed", ["fail"], [])]


def test_a_handled_failure_of_the_same_run_counts_for_more(slow):
    with flow("f"):
        with pytest.raises(ValueError, match="no"):
            fail(ValueError, 0)
        work(101)
    assert slow() == [("recovered", ["fail", "work"], [])]


def test_a_slow_run_takes_no_failure_s_place(slow, stderr):
    with pytest.raises(ValueError, match="no"):
        fail(ValueError, 0)
    pass_time(1000)
    work(101)
    work(101)
    assert slow()[0] == ("failed", ["fail"], [])
    assert len(slow()) in (1, 3)  # in files of their own, or in none
    assert stderr.readouterr().err.count("a slow run was not written") == (len(slow()) == 1)


def test_no_more_than_a_burst_and_then_one_a_second(tmp_path):
    with fixed_clock() as clock:
        clock.now = lambda: time[0]
        with flowtrace.override(mode="on", out_path=tmp_path / "{run_id}.json", slow="1ms"):
            for _ in range(SLOW_BURST + 50):
                work(2)
            assert len(list(tmp_path.glob("*.json"))) == SLOW_BURST
            for count in (1, 2):
                pass_time(1000)
                work(2)
                work(2)
                assert len(list(tmp_path.glob("*.json"))) == SLOW_BURST + count


def test_in_mode_always_every_run_is_written_and_the_slow_ones_say_so(tmp_path):
    with fixed_clock() as clock:
        clock.now = lambda: time[0]
        with flowtrace.override(mode="always", out_path=tmp_path / "{run_id}.json", slow="1ms"):
            for _ in range(2 * SLOW_BURST):
                work(2)
                work(1)
    outcomes = sorted(load_trace(path).run.outcome for path in tmp_path.glob("*.json"))
    assert outcomes == ["ok"] * 2 * SLOW_BURST + ["slow"] * 2 * SLOW_BURST


def test_an_engine_s_steps_may_be_slow(slow):
    recorder = flowtrace.get_recorder()
    event = NodeEvent("n", "c", "op", {})
    recorder.on_node_start(event)
    pass_time(101)
    recorder.on_node_end(event, None)
    assert slow() == [("slow", ["op"], [])]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), (" 1.5S ", 1.5), ("2m", 120.0), ("20us", 2e-5), ("1h", 3600.0), ("0", None), ("off", None)],
)
def test_durations_in_the_environment(text, seconds):
    assert TraceConfig.from_env({"FLOWTRACE_SLOW": text}).slow == seconds


@pytest.mark.parametrize("text", ["250", "ms", "-1s", "nan s", "infs", "1e300h", "soon"])
def test_what_is_no_duration_counts_as_unset(text):
    assert TraceConfig.from_env({"FLOWTRACE_SLOW": text}).slow is None
    with pytest.raises(ConfigError, match="it takes a duration such as 250ms"):
        TraceConfig(slow=text)


@pytest.mark.parametrize("wrong", [True, [], "250", -1, float("nan")])
def test_a_decorator_names_what_it_accepts(wrong):
    for decorator in (traced_node, lambda **options: flow("f", **options)):
        with pytest.raises(TypeError, match='slow must be seconds, text such as "250ms", or None, not'):
            decorator(slow=wrong)
