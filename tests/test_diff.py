"""Comparing two traces: which steps are the same call, which differs first, and what can't be told."""

from __future__ import annotations

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtrace import Cause, DivergenceKind, TraceFileError, Verdict, current_step, diff, flow, propagate, traced_node
from flowtrace.comparing.align import align, walk
from flowtrace.testing import recording
from flowtrace.trace.model import to_document
from tests.programs import run_program
from tests.traces import hash_of, run, step, trace

CODE = {"code": "x"}


def found(a, b, **options):
    """Return the divergences as kind, cause, node and the pointers in A and B."""
    return [(item.kind, item.cause, item.node_id, item.a, item.b) for item in diff(a, b, **options).divergences]


def recorded(call, *args, **options):
    with recording(capture_inputs=True, capture_outputs=True, buffer_size=1000, **options) as record, flow("f"):
        call(*args)
    return record.traces[0]


# --- the kinds of divergence


def test_the_same_steps_are_the_same():
    steps = [step("c.a", 1, 2, code="x"), step("c.b", 2, error="no")]
    result = diff(trace(*steps), trace(*steps))
    assert (result.verdict, result.exit_code, result.first, result.compared) == (Verdict.SAME, 0, None, 2)
    assert result.to_json() == {
        "a": "A",
        "b": "B",
        "verdict": "same",
        "first": None,
        "divergences": [],
        "total": 0,
        "groups": [],
        "compared": 2,
        "dropped": {"a": 0, "b": 0},
        "rolled_out": {"a": 0, "b": 0},
        "undecided": 0,
        "is_certain": False,
        "doubts": [],
        "code_changes": [],
        "context": {},
        "timings": None,
    }


@pytest.mark.parametrize(
    ("ours", "theirs", "kind", "cause"),
    [
        ({"result": 1}, {"result": 2}, DivergenceKind.OUTPUT, Cause.NONDETERMINISM),
        ({"error": "no"}, {}, DivergenceKind.ERROR_VANISHED, Cause.NONDETERMINISM),
        ({}, {"error": "no"}, DivergenceKind.ERROR_APPEARED, Cause.NONDETERMINISM),
        ({"error": "no"}, {"error": "other"}, DivergenceKind.ERROR_CHANGED, Cause.NONDETERMINISM),
        ({"given": 1}, {"given": 2}, DivergenceKind.INPUT, Cause.UPSTREAM),
        ({"given": 1, "code": "y"}, {"given": 2}, DivergenceKind.INPUT, Cause.UPSTREAM),
        ({"code": "y", "result": 1}, {"result": 2}, DivergenceKind.CODE, Cause.CODE),
        ({"code": "y", "error": "no"}, {}, DivergenceKind.CODE, Cause.CODE),
        ({"code": None, "result": 1}, {"result": 2}, DivergenceKind.OUTPUT, Cause.UNKNOWN),
        ({"code": None, "result": 1}, {"code": None, "result": 2}, DivergenceKind.OUTPUT, Cause.UNKNOWN),
        ({"state_delta_hash": hash_of(1)}, {}, DivergenceKind.STATE_DELTA, Cause.NONDETERMINISM),
        (
            {"state_delta_hash": hash_of(1)},
            {"state_delta_hash": hash_of(2)},
            DivergenceKind.STATE_DELTA,
            Cause.NONDETERMINISM,
        ),
        (
            {"validation_issues": [{"code": "c", "path": "/a", "message": "m"}]},
            {},
            DivergenceKind.ISSUES,
            Cause.NONDETERMINISM,
        ),
    ],
)
def test_a_step_that_differs_is_named_with_kind_and_cause(ours, theirs, kind, cause):
    same = step("c.before", 0, code="x")
    a, b = (trace(same, step("c.node", **(CODE | fields))) for fields in (ours, theirs))
    assert found(a, b) == [(kind, cause, "c.node", "/steps/1", "/steps/1")]
    assert diff(a, b).verdict is Verdict.DIFFERENT


def test_a_step_of_one_trace_alone_is_missing_or_added():
    short, long = trace(step("c.a"), step("c.c")), trace(step("c.a"), step("c.b"), step("c.c"))
    assert found(long, short) == [(DivergenceKind.MISSING, Cause.CALLER, "c.b", "/steps/1", None)]
    assert found(short, long) == [(DivergenceKind.ADDED, Cause.CALLER, "c.b", None, "/steps/1")]


def test_an_added_call_among_calls_of_the_same_node_does_not_shift_the_others():
    a = trace(*(step("c.a", number) for number in (1, 2, 3)))
    b = trace(*(step("c.a", number) for number in (1, 9, 2, 3)))
    assert found(a, b) == [(DivergenceKind.ADDED, Cause.CALLER, "c.a", None, "/steps/1")]


def test_a_changed_input_between_equal_ones_is_matched_with_its_counterpart():
    a = trace(*(step("c.a", number) for number in (1, 2, 3, 4)))
    b = trace(*(step("c.a", number) for number in (1, 9, 3)))
    assert found(a, b) == [
        (DivergenceKind.INPUT, Cause.UPSTREAM, "c.a", "/steps/1", "/steps/1"),
        (DivergenceKind.MISSING, Cause.CALLER, "c.a", "/steps/3", None),
    ]


def test_steps_in_another_order_are_reordered():
    a = trace(step("c.load", 1), step("c.parse", 2), step("c.save", 3))
    b = trace(step("c.parse", 2), step("c.load", 1), step("c.save", 3))
    assert found(a, b) == [(DivergenceKind.REORDERED, Cause.CALLER, "c.load", "/steps/0", "/steps/1")]


def test_an_error_is_told_by_type_text_and_causes_and_not_by_its_frames():
    def with_details(details):
        failed = step("c.a")
        failed.pop("output_hash")
        failed["error"] = {"code": "node_error", "message": "m", "details": details}
        return trace(failed)

    base = {"type": "ValueError", "frames": [{"file": "a.py", "line": 1, "function": "f"}]}
    assert found(with_details(base), with_details(base | {"frames": []})) == []
    cause = {"relation": "cause", "type": "KeyError", "message": "'k'"}
    one, other = (base | {"causes": [cause | {"frames": [{"file": "a.py", "line": line}]}]} for line in (1, 2))
    assert found(with_details(one), with_details(other)) == []
    for other in (base | {"type": "KeyError"}, base | {"causes": [{"relation": "cause"}]}, base | {"notes": ["n"]}):
        (item,) = found(with_details(base), with_details(other))
        assert item[0] is DivergenceKind.ERROR_CHANGED


def test_another_outcome_counts_where_no_step_tells_of_it():
    steps = [step("c.a", error="no")]
    a, b = trace(*steps, run=run("failed")), trace(*steps, run=run("recovered"))
    (item,) = diff(a, b).divergences
    assert (item.kind, item.node_id, item.a, item.aspects[0].a, item.aspects[0].b) == (
        *(DivergenceKind.OUTCOME, "f", "/run/outcome", "failed", "recovered"),
    )
    assert found(a, trace(*steps, run=run("snapshot"))) == []
    assert diff(a, trace(*steps, run=run("snapshot"))).context == {"outcome": ("failed", "snapshot")}


def test_a_step_that_still_runs_in_one_trace_is_unfinished():
    a = trace(in_flight=[step("c.a", result=None)])
    b = trace(step("c.a"))
    assert found(a, b) == [(DivergenceKind.UNFINISHED, Cause.UNKNOWN, "c.a", "/in_flight/0", "/steps/0")]
    assert found(a, a) == []


# --- causal order


def nested(outer=None, inner=None, second=None):
    """Return a trace in which `outer` calls `inner` twice."""
    return trace(
        step("c.inner", 1, at=10, step_id="2", parent_step_id="1", **(CODE | (inner or {}))),
        step("c.inner", 2, at=20, step_id="3", parent_step_id="1", **(CODE | (second or {}))),
        step("c.outer", at=5, lasts=50_000, step_id="1", **(CODE | (outer or {}))),
    )


def test_the_inner_step_comes_before_the_outer_one_that_differs_because_of_it():
    assert found(nested(), nested({"result": 9}, second={"result": 9})) == [
        (DivergenceKind.OUTPUT, Cause.NONDETERMINISM, "c.inner", "/steps/1", "/steps/1"),
        (DivergenceKind.OUTPUT, Cause.INSIDE, "c.outer", "/steps/2", "/steps/2"),
    ]


def test_a_changed_input_of_the_outer_step_comes_before_everything_inside_it():
    assert [item[2] for item in found(nested(), nested({"given": 5}, {"result": 9}))] == ["c.outer", "c.inner"]


def test_changed_code_of_the_outer_step_comes_before_what_it_changed_inside():
    assert [item[:3] for item in found(nested(), nested({"code": "y"}, second={"result": 9}))] == [
        (DivergenceKind.CODE, Cause.CODE, "c.outer"),
        (DivergenceKind.OUTPUT, Cause.NONDETERMINISM, "c.inner"),
    ]


def test_changed_code_that_changes_nothing_is_told_but_is_no_divergence():
    result = diff(nested(), nested({"code": "y"}))
    assert (result.verdict, result.total) == (Verdict.SAME, 0)
    old, new = (f"m.py:1 blake3:{hash_of(word)['value']}" for word in "xy")
    assert [change.to_json() for change in result.code_changes] == [{"node_id": "c.outer", "a": old, "b": new}]


def test_a_step_tells_which_call_it_is_and_inside_which():
    (item,) = diff(nested(), nested(second={"result": 9})).divergences
    assert (item.node_id, item.occurrence, item.inside) == ("c.inner", 2, "c.outer")


def test_calls_are_counted_within_their_own_caller():
    def twice(result):
        return trace(
            step("c.inner", 1, step_id="2", parent_step_id="1", at=11),
            step("c.outer", 1, step_id="1", at=10, lasts=5000),
            step("c.inner", 1, result, step_id="4", parent_step_id="3", at=21),
            step("c.outer", 2, step_id="3", at=20, lasts=5000),
        )

    (item,) = diff(twice(1), twice(2)).divergences
    assert (item.node_id, item.occurrence, item.a) == ("c.inner", 1, "/steps/2")


# --- concurrency


def test_the_order_of_steps_that_ran_beside_each_other_is_no_difference():
    def beside(first, second):
        return trace(step("c.a", first, at=10, lasts=90_000), step("c.a", second, at=20, lasts=70_000))

    assert found(beside(1, 2), beside(2, 1)) == []
    assert [item[0] for item in found(beside(1, 2), beside(2, 9))] == [DivergenceKind.INPUT]


def test_steps_in_a_row_whose_times_are_cut_do_not_count_as_beside_each_other():
    def in_a_row(first, second):
        return trace(step("c.a", first, at=10, lasts=2_900), step("c.a", second, at=12, lasts=100))

    assert [item[0] for item in found(in_a_row(1, 2), in_a_row(2, 1))] == [DivergenceKind.REORDERED]


@traced_node(component="c")
def work(number):
    return number * 2


@traced_node(component="c")
def share_out(numbers):
    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(propagate(work), numbers))


@pytest.mark.parametrize("seed", range(5))
def test_real_threads_in_another_order_are_no_difference(seed):
    numbers = list(range(30))
    shuffled = random.Random(seed).sample(numbers, len(numbers))
    two = threading.Barrier(2)  # else one quick thread may do all of the work

    @traced_node(component="c")
    def work_beside(number):
        two.wait(60)
        return number * 2

    def job(order):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(propagate(work_beside), order))

    result = diff(recorded(job, numbers), recorded(job, shuffled))
    assert (result.divergences, result.compared) == ([], 30)


def test_steps_of_real_threads_are_told_apart_by_what_they_were_given():
    result = diff(recorded(share_out, [1, 2, 3]), recorded(share_out, [1, 2, 4]))
    assert [(item.kind, item.node_id) for item in result.divergences] == [
        (DivergenceKind.INPUT, "c.share_out"),
        (DivergenceKind.INPUT, "c.work"),
    ]


def in_threads(*numbers):
    """Return a trace of jobs that were given nothing, each in a thread of its own after the one before, two deep."""
    steps = []
    for at, number in enumerate(numbers):
        about = {"lasts": 10, "thread": f"t{number}"}
        job, part, work = (f"{3 * at + inside:016x}" for inside in range(1, 4))
        steps += [
            step("c.work", number, at=100 * at + 30, step_id=work, parent_step_id=part, **about),
            step("c.part", at=100 * at + 20, step_id=part, parent_step_id=job, **about),
            step("c.job", at=100 * at + 10, step_id=job, **about),
        ]
    return trace(*steps)


@pytest.mark.parametrize("order", [(2, 1, 3), (3, 1, 2), (3, 2, 1)])
def test_steps_in_threads_are_told_apart_by_the_calls_inside_them(order):
    assert found(in_threads(1, 2, 3), in_threads(*order)) == []


def test_a_call_inside_a_step_in_a_thread_that_differs_is_told_where_it_is():
    (only,) = found(in_threads(1, 2, 3), in_threads(9, 3, 1))
    assert only == (DivergenceKind.INPUT, Cause.UPSTREAM, "c.work", "/steps/3", "/steps/0")


# --- the buffer


def test_a_missing_step_that_may_have_rolled_out_is_no_divergence():
    numbers = [step("c.a", number) for number in range(10)]
    result = diff(trace(*numbers, dropped=0), trace(*numbers[4:], dropped=4))
    assert (result.divergences, result.compared, result.rolled_out) == ([], 6, (4, 0))
    assert result.verdict is Verdict.SAME_SO_FAR
    assert [doubt.to_json() for doubt in result.doubts] == [
        {"reason": "steps that had rolled out of the buffer", "count": 4, "examples": []}
    ]


def test_a_step_that_can_not_have_rolled_out_is_missing():
    numbers = [step("c.a", number) for number in range(10)]
    a = trace(*numbers[2:], dropped=2)
    b = trace(*numbers[3:8], numbers[9], dropped=3)
    assert found(a, b) == [(DivergenceKind.MISSING, Cause.CALLER, "c.a", "/steps/6", None)]
    assert diff(a, b).rolled_out == (1, 0)


def test_buffers_that_moved_on_are_laid_side_by_side_by_what_they_share():
    same = [step("c.tick") for _ in range(10)]
    assert found(trace(*same[:5], dropped=5), trace(*same[:6], dropped=5)) == [
        (DivergenceKind.ADDED, Cause.CALLER, "c.tick", None, "/steps/5")
    ]


def test_traces_without_a_common_step_are_not_comparable_but_tell_of_changed_code():
    a = trace(step("c.a", 1, code="x"), step("c.a", 2, error="no", code="x"))
    b = trace(*(step("c.a", number, code="y") for number in range(90, 100)), dropped=90)
    result = diff(a, b)
    assert (result.verdict, result.exit_code, result.first, result.total) == (Verdict.NOT_COMPARABLE, 1, None, 0)
    assert result.rolled_out == (2, 0)
    assert [change.node_id for change in result.code_changes] == ["c.a"]


# --- never a wrong equal


def test_equal_hashes_over_opaque_parts_are_told_as_not_wholly_comparable():
    a = trace(step("c.a", opaque=["/invocation_json/payload/lock"]), step("c.b", opaque=["/output_json"]))
    result = diff(a, a)
    assert (result.verdict, result.exit_code) == (Verdict.SAME_SO_FAR, 0)
    assert [doubt.to_json() for doubt in result.doubts] == [
        {
            "reason": "equal hashes over opaque parts: the values may differ there",
            "count": 2,
            "examples": ["/steps/0", "/steps/1"],
        }
    ]


def test_equal_hashes_over_redacted_parts_say_so_unless_they_are_keyed():
    hidden = {"redacted": ["/invocation_json/payload/token"]}
    plain = trace(step("c.a", **hidden))
    assert diff(plain, plain).verdict is Verdict.SAME_SO_FAR
    keyed = trace(step("c.a", input_hash=hash_of(1, "blake3-keyed"), output_hash=hash_of(1, "blake3-keyed"), **hidden))
    assert diff(keyed, keyed).verdict is Verdict.SAME


OPAQUE = {"opaque": ["/invocation_json/payload/client"]}
HIDDEN = {"redacted": ["/invocation_json/payload/token"]}
CUT = {
    "opaque": ["/invocation_json/payload/rows/3"],
    "cut": [{"path": "/invocation_json/payload/rows/3", "reason": "work", "count": 3}],
}


@pytest.mark.parametrize(
    ("fields", "unseen"),
    [
        (OPAQUE, ("opaque at /client",)),
        (HIDDEN, ("redacted at /token",)),
        (CUT, ("cut at /rows/3",)),
        ({"opaque": ["/invocation_json/payload"]}, ("opaque at its root",)),
        ({"opaque": ["/output_json/a"]}, ()),
        (
            {"opaque": [f"/invocation_json/payload/{n}" for n in range(7)]},
            (*(f"opaque at /{n}" for n in range(5)), "2 more"),
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("side", ["a", "b"])
def test_a_step_whose_input_is_not_seen_as_a_whole_is_not_called_nondeterministic(fields, unseen, side):
    a = trace(step("c.a", result=1, code="x", **(fields if side == "a" else {})))
    b = trace(step("c.a", result=2, code="x", **(fields if side == "b" else {})))
    result = diff(a, b)
    assert (result.first.cause, result.first.unseen) == (Cause.UNSEEN if unseen else Cause.NONDETERMINISM, unseen)
    assert (result.verdict, result.is_certain) == (Verdict.DIFFERENT, not unseen)


def test_keyed_hashes_cover_what_is_redacted():
    keyed = hash_of(1, "blake3-keyed")
    a, b = (trace(step("c.a", result=result, code="x", input_hash=keyed, **HIDDEN)) for result in (1, 2))
    assert diff(a, b).first.cause is Cause.NONDETERMINISM


def test_another_input_may_come_from_unseen_parts_of_its_callers_input():
    def calls(given):
        inner = step("c.inner", given, code="x", step_id="0" * 15 + "2", parent_step_id="0" * 15 + "1")
        return trace(inner, step("c.outer", code="x", step_id="0" * 15 + "1", **OPAQUE))

    result = diff(calls(1), calls(2))
    assert (result.first.kind, result.first.node_id) == (DivergenceKind.INPUT, "c.inner")
    assert (result.first.unseen, result.is_certain) == (("opaque at /client",), False)


def test_what_is_certain_counts_wherever_it_is():
    a, b = (
        trace(step("c.a", result=result, code="x", **OPAQUE), step("c.b", result=result, code="x")) for result in (1, 2)
    )
    result = diff(a, b)
    assert [item.cause for item in result.divergences] == [Cause.UNSEEN, Cause.NONDETERMINISM]
    assert result.is_certain


def test_hashes_of_different_kinds_are_not_compared():
    a, b = trace(step("c.a")), trace(step("c.a", input_hash=hash_of(None, "blake3-keyed")))
    result = diff(a, b)
    assert (result.verdict, result.exit_code, result.undecided) == (Verdict.NOT_COMPARABLE, 1, 1)
    assert result.doubts[0].reason == "hashes of different kinds: they can't be compared"


def test_captured_values_are_compared_where_the_hashes_can_not_be():
    def keyed(value):
        return trace(step("c.a", {"x": value}, input_hash=hash_of(value, "blake3-keyed"), captured=True))

    plain = trace(step("c.a", {"x": 1}, captured=True))
    assert diff(plain, keyed(1)).verdict is Verdict.SAME
    ((kind, *_),) = found(plain, keyed(2))
    assert kind is DivergenceKind.INPUT


def test_keyed_hashes_that_differ_may_have_different_keys():
    def keyed(key, value=1):
        return recorded(work, value, hash_key=key)

    assert diff(keyed("k"), keyed("k")).verdict is Verdict.SAME
    assert diff(keyed("k"), keyed("l")).verdict is Verdict.SAME
    bare_a, bare_b = (trace(step("c.a", input_hash=hash_of(value, "blake3-keyed"))) for value in (1, 2))
    (item,) = diff(bare_a, bare_b).divergences
    assert item.aspects[0].note == "keyed hashes differ: the values do, or the keys"


# --- values


def test_the_places_that_differ_are_json_pointers():
    a = trace(step("c.a", {"car": {"a/b": 1, "gone": 2, "list": [1, 2, 3], "same": 0}}, captured=True))
    b = trace(step("c.a", {"car": {"a/b": 1.0, "new": 2, "list": [1, 9, 2, 3], "same": 0}}, captured=True))
    (aspect,) = diff(a, b).divergences[0].aspects
    assert [change.to_json() for change in aspect.changes] == [
        {"pointer": "/car/a~1b", "kind": "changed", "a": 1, "b": 1.0},
        {"pointer": "/car/gone", "kind": "removed", "a": 2},
        {"pointer": "/car/list/1", "kind": "added", "b": 9},
        {"pointer": "/car/new", "kind": "added", "b": 2},
    ]
    assert aspect.note == ""


def test_one_one_point_zero_and_true_are_three_values():
    for ours, theirs in ((1, 1.0), (1, True), (0.0, -0.0), (0, False)):
        a, b = (trace(step("c.a", {"x": value}, captured=True)) for value in (ours, theirs))
        (aspect,) = diff(a, b).divergences[0].aspects
        assert [change.pointer for change in aspect.changes] == ["/x"]


def test_no_more_places_are_shown_than_fit():
    a, b = (trace(step("c.a", {"x": [sign * number for number in range(1, 101)]}, captured=True)) for sign in (1, -1))
    (aspect,) = diff(a, b).divergences[0].aspects
    assert (len(aspect.changes), aspect.left_out) == (20, 80)


def test_payload_files_are_read_where_the_traces_are_files(tmp_path):
    for name, word in (("a", "x"), ("b", "y")):
        with recording(capture_inputs=True, max_value_bytes=10, out_path=str(tmp_path / f"{name}.json")):
            work(word * 50)
    (aspect, _) = diff(tmp_path / "a.json", tmp_path / "b.json").divergences[0].aspects
    assert [(change.pointer, change.a, change.b) for change in aspect.changes] == [("/number", "x" * 50, "y" * 50)]
    next((tmp_path / "b.payloads").iterdir()).unlink()
    (aspect, _) = diff(tmp_path / "a.json", tmp_path / "b.json").divergences[0].aspects
    assert aspect.changes == ()
    assert aspect.note.endswith("can't be read: No such file or directory")


def test_a_value_that_was_cut_is_not_shown():
    cut = {"component_id": "c", "operation": "a", "payload": {"$py": "cut", "reason": "large", "size": 1}}
    a, b = trace(step("c.a", 1, invocation_json=cut)), trace(step("c.a", 2, invocation_json=cut))
    (aspect,) = diff(a, b).divergences[0].aspects
    assert (aspect.changes, aspect.note) == ((), "too large or too deep to be captured")


# --- the envelope, other runners, bounds


def test_what_the_envelopes_say_differently_is_told_and_is_no_divergence():
    a = trace(step("c.a"), run=run("ok", "3.11.7"), runner_version="1", git_sha="abc")
    b = trace(step("c.a"), run=run("ok", "3.13.0"), runner_version="1", git_sha="abd", flow="g")
    result = diff(a, b)
    assert (result.verdict, result.exit_code) == (Verdict.SAME, 0)
    assert result.context == {"flow": ("f", "g"), "commit": ("abc", "abd"), "python": ("3.11.7", "3.13.0")}


def test_traces_of_the_core_alone_are_compared_in_the_order_of_the_file():
    core = [step("a.b", 1), step("a.c", 2), step("a.b", 3)]
    with_more = [dict(item, step_id=f"{at}", at=None) for at, item in enumerate(core)]
    for item in with_more:
        item.pop("at")
    assert found(trace(*core), trace(*with_more)) == []
    assert [item[:3] for item in found(trace(*core), trace(*core[:2], step("a.b", 3, error="no")))] == [
        (DivergenceKind.ERROR_APPEARED, Cause.UNKNOWN, "a.b")
    ]


PROGRAM = """
from dataclasses import dataclass
from enum import Enum
from flowtrace import flow, traced_node

class Size(Enum):
    SMALL = 1

@dataclass
class Item:
    name: str
    size: Size = Size.SMALL

@traced_node(component="shop")
def describe(item: Item, *, words=("a", "b")) -> str:
    "What stands on the label."
    with_words = [f"{item.name!r:>10} {word}" for word in words]
    try:
        return max(with_words, key=lambda text: len(text)) if item.name else [*with_words][3]
    except IndexError as error:
        raise ValueError("no name") from error

@traced_node(component="shop")
def label(names):
    return {name: describe(Item(name), words={name, "x"} and ("x", name)) for name in names}

with flow("labels"):
    label(["tea", "cake"])
    try:
        label([""])
    except ValueError:
        pass
"""


def test_a_trace_of_another_python_has_the_same_hashes_and_code(tmp_path):
    run_program(tmp_path, PROGRAM, FLOWTRACE_MODE="always", FLOWTRACE_OUT="t.json", FLOWTRACE_CAPTURE_INPUTS="1")
    result = diff(Path(__file__).parent / "vectors" / "written-by-3.13.json", tmp_path / "t.json")
    assert (result.verdict, result.compared, result.code_changes) == (Verdict.SAME, 5, [])
    assert result.context.keys() <= {"python", "flowtrace"}


def test_no_more_divergences_are_described_than_asked_for_but_all_are_counted():
    a, b = (trace(*(step("c.a", number, result) for number in range(50))) for result in (1, 2))
    result = diff(a, b, limit=3)
    assert ([item.a for item in result.divergences], result.total) == (["/steps/0", "/steps/1", "/steps/2"], 50)
    assert [group.to_json() for group in result.groups] == [
        {"kind": "output changed", "node_id": "c.a", "count": 50, "a": "/steps/0", "b": "/steps/0"}
    ]


def test_times_are_compared_where_asked_for_and_never_count():
    a, b = trace(step("c.a", duration_ns=1_000_000)), trace(step("c.a", duration_ns=9_000_000))
    assert diff(a, b).timings is None
    result = diff(a, b, timing=True)
    assert result.verdict is Verdict.SAME
    assert [timing.to_json() for timing in result.timings or ()] == [
        {"node_id": "c.a", "a": "/steps/0", "b": "/steps/0", "a_ns": 1_000_000, "b_ns": 9_000_000}
    ]


def test_steps_that_claim_to_be_inside_each_other_are_all_compared():
    knot = [step("c.a", number, step_id=str(number), parent_step_id=str((number + 1) % 4)) for number in range(4)]
    knot += [step("c.a", 7, step_id="7", parent_step_id="7"), step("c.a", 8, step_id="0", parent_step_id="gone")]
    result = diff(trace(*knot), trace(*knot))
    assert (result.compared, result.total) == (6, 0)


@pytest.mark.costly
def test_a_chain_of_any_depth_is_compared():
    chain = [step("c.a", at, step_id=str(at), parent_step_id=str(at + 1)) for at in range(20_000)]
    result = diff(trace(*chain), trace(*chain[:-1], step("c.a", 19_999, 5, step_id="19999")))
    assert (result.compared, result.total) == (20_000, 1)


def test_files_are_named_by_their_paths_and_bad_ones_refused(tmp_path):
    Path("a.json").write_text(json.dumps(to_document(trace())))
    Path("b.json").write_text("{}")
    result = diff("a.json", tmp_path / "a.json")
    assert (result.a, result.b, result.verdict) == ("a.json", str(tmp_path / "a.json"), Verdict.SAME)
    with pytest.raises(TraceFileError, match=r"b\.json: at /trace_version: is absent"):
        diff("a.json", "b.json")
    with pytest.raises(FileNotFoundError):
        diff("a.json", "missing.json")


STEPS = st.lists(
    st.builds(
        step,
        st.sampled_from(["c.a", "c.b"]),
        st.integers(0, 2),
        st.integers(0, 1),
        code=st.sampled_from(["x", "y", None]),
        at=st.none() | st.integers(0, 99),
        step_id=st.sampled_from("0123"),
        parent_step_id=st.sampled_from("0123456"),
        opaque=st.sampled_from([[], ["/output_json"]]),
    ),
    max_size=8,
)


def below(place):
    return [place.pointer, *(pointer for child in place.children for pointer in below(child))]


@given(STEPS, STEPS, st.integers(0, 3), st.integers(0, 3))
def test_every_step_of_any_two_traces_is_accounted_for_once(ours, theirs, dropped_a, dropped_b):
    a, b = trace(*ours, dropped=dropped_a), trace(*theirs, dropped=dropped_b)
    seen_a, seen_b = [], []
    for pair, is_end in walk(align(a, b)):
        if is_end and pair.a and pair.b:
            assert pair.a.node == pair.b.node
            seen_a.append(pair.a.pointer)
            seen_b.append(pair.b.pointer)
        elif is_end:
            (seen_a if pair.a else seen_b).extend(below(pair.either))
    assert sorted(seen_a) == [f"/steps/{at}" for at in range(len(ours))]
    assert sorted(seen_b) == [f"/steps/{at}" for at in range(len(theirs))]


@given(STEPS, STEPS, st.integers(0, 3))
def test_any_trace_is_the_same_as_itself_and_the_report_is_json(ours, theirs, dropped):
    a, b = trace(*ours, dropped=dropped), trace(*theirs)
    assert (diff(a, a).total, diff(a, a).compared) == (0, len(ours))
    result = diff(a, b)
    assert len(result.divergences) == result.total == sum(group.count for group in result.groups)
    assert json.loads(json.dumps(result.to_json())) == result.to_json()


def test_state_deltas_and_issues_of_real_runs_are_compared():
    reported = []

    @traced_node(component="c")
    def node():
        current_step().record_state_delta(len(reported))
        for code in reported:
            current_step().add_validation_issue(code, "/x", "is bad")

    first = recorded(node)
    reported.append("bad")
    ((kind, cause, *_),) = found(first, recorded(node))
    assert (kind, cause) == (DivergenceKind.STATE_DELTA, Cause.NONDETERMINISM)
    (item,) = diff(first, recorded(node)).divergences
    assert [aspect.what for aspect in item.aspects] == ["state_delta", "validation_issues"]
    assert [change.to_json() for change in item.aspects[1].changes] == [
        {"pointer": "/0", "kind": "added", "b": {"code": "bad", "path": "/x", "message": "is bad"}}
    ]
