"""The page of two traces: where they part, why, what follows from it, and both trees in one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flowtrace.cli.common import printable, several, shortened
from flowtrace.cli.diff import CAUSES, brief, code_line, seen_text, step_title
from flowtrace.cli.page.arguments import Arguments
from flowtrace.cli.page.failure import Facts, kind_of, replay_command, run_facts
from flowtrace.cli.page.pairs_data import Pairs
from flowtrace.cli.page.render import render
from flowtrace.cli.page.steps_data import StepValues, packed
from flowtrace.cli.page.value_tree import as_line, shown
from flowtrace.cli.step_text import flow_text, outcome_of, short_name
from flowtrace.trace.outline import outline

if TYPE_CHECKING:
    from flowtrace.comparing.evidence import Side
    from flowtrace.comparing.json_changes import Change
    from flowtrace.comparing.result import Aspect, Divergence, TraceDiff
    from flowtrace.trace.model import Trace

MOST_MARKED: Final = 5_000
_LISTED: Final = 12
_CHANGES: Final = 8
_VALUE: Final = 300
_SHORT: Final = 60


def diff_page(a: Side, b: Side) -> str:
    """Return the HTML text of a page that compares two traces, by the rules of `flowtrace diff`.

    Args:
        a: the first trace.
        b: the one to compare it with.

    Raises:
        FlowtraceError: jinja2 is not installed.
    """
    from flowtrace.comparing.align import align
    from flowtrace.comparing.diff import compare

    result = compare(a, b, limit=MOST_MARKED)
    trees = StepValues(None if a.path is None else Path(a.path))  # payload files of B are not read for this
    arguments = Arguments([*outline(a.trace), *outline(b.trace)], trees.input_of)
    pairs = Pairs(align(a.trace, b.trace), result, arguments.of)
    first = result.first
    facts: Facts = {
        "names": [short_name(result.a), short_name(result.b)],
        "verdict": printable(str(result.verdict)),
        "flow": flow_text(a.trace),
        "compared": f"{several(result.compared, 'step')} compared",
        "total": several(result.total, "divergence") if result.total else "",
        "first": None if first is None else _first(first, result) | {"arguments": pairs.first_arguments},
        "replay": _replay(a, first),
        "runs": _runs(a.trace, b.trace),
        "follows": [_following(divergence) for divergence in result.divergences[1 : _LISTED + 1]],
        "more": max(result.total - 1 - _LISTED, 0),
        "doubts": _doubts(result),
        "code_changes": [
            [short_name(item.node_id), code_line(item.a), code_line(item.b)] for item in result.code_changes
        ],
        "unmarked": max(result.total - len(result.divergences), 0),
        "pairs": packed(pairs.document()),
    }
    return render("diff.html", facts)


# --- the first divergence


def _first(first: Divergence, result: TraceDiff) -> Facts:
    """Return the sentence that says where the traces part, and the values on both sides."""
    given = f"the input is {seen_text(first)}" if first.unseen else "same input"
    cause = CAUSES.get(first.cause)
    changes = [change for aspect in first.aspects if aspect.what == "output" for change in aspect.changes]
    return {
        "node": short_name(first.node_id),
        "title": step_title(first),
        "kind": str(first.kind),
        "cause": cause.format(input=given) if cause is not None and first.kind != "outcome changed" else "",
        "value": _small(changes[0]) if changes else None,
        "inside": short_name(first.inside or ""),
        "sides": [_pointer(first.a), _pointer(first.b)],
        "rows": [row for aspect in first.aspects for row in _rows(aspect)],
        "made_outside": first.kind == "input changed",
        "earlier": several(sum(result.dropped), "earlier step") if any(result.dropped) else "",
    }


def _pointer(pointer: str | None) -> str:
    """Return the number of a step; its pointer where it has none."""
    if pointer is None:
        return ""
    return f"#{pointer[7:]}" if pointer.startswith("/steps/") else printable(pointer)


def _small(change: Change) -> Facts:
    name = change.pointer.rpartition("/")[2] or "it"
    sides = _sides(change, _SHORT)
    return {"name": shortened(name, _SHORT), "a": sides[0], "b": sides[1]}


def _sides(change: Change, width: int) -> list[Facts]:
    kinds = ("added", "removed")
    return [
        {"kind": "absent", "text": "absent"} if change.kind == absent else _value(value, width)
        for value, absent in zip((change.a, change.b), kinds, strict=True)
    ]


def _value(value: Any, width: int) -> Facts:
    if isinstance(value, dict) and {"code", "path", "message"} <= value.keys() <= {"code", "path", "message"}:
        value_text = f"{value['code']} at {value['path']}: {value['message']}"  # a validation issue
        return {"kind": "", "text": shortened(value_text, width)}
    tree = shown(value)
    return {"kind": kind_of(tree)[0], "text": as_line(tree, width)}


def _rows(aspect: Aspect) -> list[Facts]:
    """Return the rows of one thing that differs: one a value, or one for all where no values are there."""
    what = aspect.what.replace("_", " ")
    if not (aspect.changes and aspect.what in ("input", "output", "validation_issues")):
        texts = [code_line(side) if aspect.what == "code" else brief(side) for side in (aspect.a, aspect.b)]
        sides = [{"kind": "absent" if text == "none" else "", "text": text} for text in texts]
        return [{"what": what, "place": "", "sides": sides, "note": shortened(aspect.note, _VALUE)}]
    rows = [
        {"what": what, "place": shortened(change.pointer, _VALUE), "sides": _sides(change, _VALUE), "note": ""}
        for change in aspect.changes[:_CHANGES]
    ]
    left = len(aspect.changes) - len(rows) + aspect.left_out
    rows[-1]["note"] = ". ".join(filter(None, (f"{left:,} more" if left else "", shortened(aspect.note, _VALUE))))
    return rows


def _replay(a: Side, first: Divergence | None) -> Facts:
    """Return the command that calls the first differing step of A again; empty where there is none."""
    if first is None or first.a is None or not first.a.startswith("/steps/"):
        return {"command": "", "why_not": ""}
    entry = next(entry for entry in outline(a.trace) if entry.pointer == first.a)
    return replay_command(a.name, entry)


# --- about the runs, and the rest


def _runs(a: Trace, b: Trace) -> list[tuple[str, str, str, bool]]:
    """Return what is known of both runs: a label, two texts, and whether they differ in what matters."""
    ours, theirs = (dict([("Outcome", _outcome(trace)), *run_facts(trace)]) for trace in (a, b))
    matters = ("Outcome", "Commit", "Digest", "Python")
    return [
        (name, ours.get(name, ""), theirs.get(name, ""), name in matters and ours.get(name) != theirs.get(name))
        for name in {**ours, **theirs}
    ]


def _outcome(trace: Trace) -> str:
    from flowtrace.trace.outline import failed_entry

    failed = failed_entry(trace, outline(trace))
    outcome = printable(outcome_of(trace, failed))
    number = "" if failed is None or failed.number is None else f" #{failed.number}"
    return outcome if failed is None else f"{outcome}:{number} {short_name(failed.step.node_id)}"


def _following(divergence: Divergence) -> Facts:
    sign = {"step missing": "\N{MINUS SIGN}", "step added": "+"}.get(str(divergence.kind), "≠")
    cause = CAUSES.get(divergence.cause, "").format(input="same input")
    steps = "   ".join(f"{side} {_pointer(at)}" for side, at in (("A", divergence.a), ("B", divergence.b)) if at)
    return {
        "sign": sign,
        "node": short_name(divergence.node_id),
        "kind": str(divergence.kind),
        "cause": cause,
        "steps": steps,
    }


def _doubts(result: TraceDiff) -> list[str]:
    found = [f"{doubt.count:,} \N{MULTIPLICATION SIGN} {printable(doubt.reason)}" for doubt in result.doubts]
    ours, theirs = result.rolled_out
    if ours or theirs:
        found.append(f"{several(ours, 'step')} of A and {theirs:,} of B may have their counterparts among dropped ones")
    return found
