"""The tracks of a timeline: nothing is lost, what is on a track nests as the calls did, and durations stay."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from flowtrace.exporting.timeline import duration_of, timeline
from flowtrace.trace.outline import outline
from tests import traces

FAR = 10**12


def recorded(start, lasts, name="c.f", parent=None, at=None, thread="main", **fields):
    """Return a step with a start and a duration in nanoseconds, as a trace has them: the start to the microsecond."""
    ids = {"step_id": f"{at:016x}", **({} if parent is None else {"parent_step_id": f"{parent:016x}"})}
    return traces.step(name, at=start // 1000, lasts=lasts, thread=thread, **ids, **fields)


@st.composite
def call_trees(draw):
    """Draw the calls of one thread: begins and ends in nanoseconds, and the call that each was made in."""
    gaps = st.integers(0, 1500)
    time, open_calls, calls = draw(gaps), [], []
    for begins in draw(st.lists(st.booleans(), max_size=40)):
        time += draw(gaps)
        if begins or not open_calls:
            calls.append([time, None, open_calls[-1] if open_calls else None])
            open_calls.append(len(calls) - 1)
        else:
            calls[open_calls.pop()][1] = time
    while open_calls:
        time += draw(gaps)
        calls[open_calls.pop()][1] = time
    return calls


def checked(entries):
    """Check what holds for every timeline, and return it with the step that each step is nested in."""
    found = timeline(entries)
    begun, ended, inside = {}, {}, {}
    for track in found.tracks:
        open_rows, last = [], 0
        for event in track.events:
            assert event.at >= last
            last = event.at
            if event.begins:
                assert event.row not in begun
                begun[event.row] = event.at
                inside[event.row] = open_rows[-1] if open_rows else None
                open_rows.append(event.row)
            else:
                assert open_rows.pop() == event.row
                ended[event.row] = event.at
        assert open_rows == []
    assert sorted(begun) == sorted(ended) == list(range(len(entries)))
    for row, entry in enumerate(entries):
        assert ended[row] - begun[row] == duration_of(entry.step)
        around = inside[row]
        assert (around is None) == (entry.parent is None or row in found.elsewhere)
        assert around is None or entries[around] is entry.parent
    return found


@given(call_trees())
def test_plain_calls_of_one_thread_nest_on_one_track_though_their_starts_are_cut(calls):
    steps = [recorded(start, end - start, parent=above, at=at) for at, (start, end, above) in enumerate(calls)]
    found = checked(outline(traces.trace(*steps)))
    assert (len(found.tracks), found.elsewhere) == (bool(calls), set())


TIMES = st.integers(0, 20)


@given(st.lists(st.tuples(TIMES, TIMES, st.none() | st.integers(0, 12), st.sampled_from("ab")), max_size=12))
@example([(0, 0, None, "a"), (0, 0, 0, "a"), (0, 0, 1, "a"), (0, 0, 0, "a")])
def test_any_steps_are_on_a_track_and_no_step_is_in_one_that_did_not_call_it(drawn):
    steps = [
        recorded(start * 1000, lasts * 1000, parent=above, at=at, thread=thread)
        for at, (start, lasts, above, thread) in enumerate(drawn)
    ]
    checked(outline(traces.trace(*steps)))


def test_tasks_of_one_thread_get_tracks_and_a_track_that_is_free_is_taken_again():
    steps = [
        recorded(0, 100_000, "c.gather", at=0),
        recorded(1_000, 10_000, "c.one", parent=0, at=1),
        recorded(2_000, 10_000, "c.two", parent=0, at=2),
        recorded(3_000, 5_000, "c.inner", parent=2, at=3),
        recorded(20_000, 5_000, "c.late", parent=0, at=4, thread="other"),
        recorded(30_000, 100_000, "c.outlives", parent=0, at=5),
    ]
    entries = outline(traces.trace(*steps))
    names = [entry.step.node_id for entry in entries]
    found = checked(entries)
    assert [(track.name, [names[event.row] for event in track.events if event.begins]) for track in found.tracks] == [
        ("main", ["c.gather", "c.one"]),
        ("main (2)", ["c.two", "c.inner", "c.outlives"]),
        ("other", ["c.late"]),
    ]
    assert sorted(names[row] for row in found.elsewhere) == ["c.late", "c.outlives", "c.two"]


def test_steps_without_a_start_stand_one_after_the_other():
    steps = [traces.step("c.f", duration_ms=2), traces.step("c.g", duration_ms=3), recorded(5_000, 7, "c.h", at=2)]
    found = checked(outline(traces.trace(*steps)))
    assert [(track.name, [tuple(event) for event in track.events]) for track in found.tracks] == [
        ("main", [(0, 2, True), (7, 2, False)]),
        ("(start not recorded)", [(0, 0, True), (2_000_000, 0, False), (2_000_000, 1, True), (5_000_000, 1, False)]),
    ]


def test_times_that_are_none_count_as_not_recorded():
    steps = [
        recorded(0, 5, at=0) | {"started_at": "1969-12-31T00:00:00Z"},
        recorded(0, 10**30, at=1) | {"started_at": "9999-12-31T00:00:00Z"},
        recorded(0, -5, at=2) | {"started_at": "tomorrow"},
    ]
    found = checked(outline(traces.trace(*steps)))
    assert [track.name for track in found.tracks] == ["(start not recorded)"]
    assert [event.at for event in found.tracks[0].events] == [0, 5, 5, 5 + 2**53 - 1, 5 + 2**53 - 1, 5 + 2**53 - 1]


def test_thousands_of_tasks_at_once_have_a_track_each():
    steps = [recorded(at * 1000, FAR, at=at) for at in range(5000)]
    assert len(timeline(outline(traces.trace(*steps))).tracks) == 5000
