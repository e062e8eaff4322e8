"""The page of messages: every warning and error that flowtrace can say, found in its code, with what to do about it.

A warning that has no explanation here, an explanation of none, and an error class that no group names stop the build.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parent.parent / "flowtrace"
_PART = "…"

WARNINGS = {
    "failed to write trace": (
        "the trace could not be written to `path`: `reason` says why. The program goes on, and it is tried again",
        "[Where is my trace?](../howto/where.md#it-could-not-be-written); `flowtrace doctor` tries the path beforehand",
    ),
    "environment variable is not usable and counts as unset": (
        "`variable` has a value that it does not take; `reason` says what it takes",
        "one of the values in [the table](environment.md)",
    ),
    "environment variable has an unknown placeholder": (
        "a path has something in braces that flowtrace does not know; it stays there as text",
        "`{run_id}`, `{flow_id}`, `{pid}` or `{timestamp}`",
    ),
    "path has an unknown placeholder": ("the same, of a path that code gave", "the same"),
    "another process writes to this path, so this one adds its pid": (
        "a process that still runs has its trace at `path`; this one's is at `instead`",
        "nothing; or `{pid}` in the path, so that names are known beforehand",
    ),
    "failed to remove an old trace": (
        "a trace beyond `FLOWTRACE_MAX_FILES` could not be removed and stays",
        "look who owns the folder; [what may be removed](../howto/many-files.md#what-may-be-removed)",
    ),
    "a slow run was not written: the trace of a failure is there; with {run_id} in its path there is room for both": (
        "a run that was slow would have taken the place of a failure's trace",
        "`{run_id}` in the path",
    ),
    "recording the values of a node takes too much of the time: for now they are left out": (
        "values took more than `FLOWTRACE_MAX_OVERHEAD` of the time; those of `node` are left out until that falls",
        "pass less to that node, decorate another one, or allow more: [what bounds it](../why/cost.md#what-bounds-it)",
    ),
    "validation issue": (
        "a node reported an issue, or its values were not valid, and `FLOWTRACE_VALIDATION` is `warn`",
        "look at the node; the step in the trace has the same",
    ),
    "a node is not validated": (
        "`validate` or `validate_output` of this node could not be made into a check; `reason` says why",
        "mend what `traced_node` was given",
    ),
    "dump signal is not installed": (
        "`FLOWTRACE_DUMP_SIGNAL` could not be followed; `reason` says why",
        "[What is a running program doing?](../howto/now.md#from-outside)",
    ),
    "a snapshot was asked for, and tracing is off": (
        "the dump signal came while tracing is off: there is nothing to write",
        "switch tracing on",
    ),
    "black box can't be used": (
        "the file of `FLOWTRACE_BLACKBOX` could not be opened or mapped; recording goes on without it",
        "a path that can be written, with room for its size",
    ),
    "black box has no room for more steps in flight": (
        "more calls run at once than the black box has room for; the further ones are not in it",
        "nothing, where the last ones matter less; the trace itself has them",
    ),
    "black box has no room for more nodes": (
        "the program has more nodes than the black box can name; steps of the further ones are not in it",
        "decorate fewer functions where the black box counts",
    ),
    "made a trace of a process that died": (
        "this process found the black box of one that had been killed, and wrote its trace to `path`",
        "`flowtrace show` it",
    ),
    "failed to write the trace of a process that died": (
        "it found one, and could not write its trace; the black box stays",
        "`flowtrace recover`, once `reason` is mended",
    ),
    f"{_PART}: tracing is off here": (
        "flowtrace does not record in this kind of interpreter; the program runs as if undecorated",
        "run it in a main interpreter of CPython with a GIL",
    ),
    "flowtrace could not do its work; the program is not affected": (
        "a fault of flowtrace's own: `doing` says at what, `error` is its type",
        "report it, with these two and the version",
    ),
}
"""What each warning means, and what to do."""


class Group(NamedTuple):
    """Errors of one kind.

    Attributes:
        title: the heading.
        said: what they mean, and what to do.
        classes: the names of the classes, or of the functions that say it.
        under: the part of the package in which a class counts; needed for classes that are not flowtrace's own.
    """

    title: str
    said: str
    classes: tuple[str, ...]
    under: str = ""


GROUPS = (
    Group(
        "Settings in code",
        "`ConfigError`: a setting has a value that it does not take. The message says what it takes.",
        ("ConfigError",),
    ),
    Group(
        "Decorators and flows",
        "`TypeError`, at the line of the decorator or of `flow`: mend that line.",
        ("TypeError",),
        "instrument/",
    ),
    Group(
        "Codecs",
        "`CodecError`: what `register_codec` was given. [Teach it your classes](../howto/codecs.md).",
        ("CodecError",),
    ),
    Group(
        "Values that are not valid",
        "`InvocationValidationError`, only with `FLOWTRACE_VALIDATION=error`: the call got or gave what its node does"
        " not take.",
        ("InvocationValidationError",),
    ),
    Group(
        "Trace files and payload files",
        "`TraceFileError` and `PayloadFileError`: the file is not a trace of version 1, or a part of it is wrong,"
        " which the message names as a JSON Pointer. `flowtrace validate` lists all that is wrong with a file.",
        ("TraceFileError", "PayloadFileError", "_RefusedError"),
    ),
    Group(
        "Black boxes",
        "`RingFileError`: the file is not the ring of a black box, or belongs to somebody else. [When the process is"
        " killed](../howto/black-box.md).",
        ("RingFileError",),
    ),
    Group(
        "Following a value",
        "`ProvenanceError`: there is no such step or value in the trace; the message says what there is.",
        ("ProvenanceError",),
    ),
    Group(
        "Replay: the input is not there",
        "The step is skipped with this reason. Capture inputs where it fails (`FLOWTRACE_CAPTURE_INPUTS=1`), keep"
        " payload files beside their trace, or choose another step.",
        ("NotCapturedError",),
    ),
    Group(
        "Replay: the function is not found or not allowed",
        "The step is skipped. Replay in the program's own folder (`--folder`), name a module that you trust"
        " (`--import`), or what makes the object of a method (`--receiver`): [what replay calls](replay.md).",
        ("NotFoundError", "UnfitError"),
    ),
    Group(
        "Replay: a value can't be rebuilt",
        "`RebuildError`, or a step that is skipped. An annotation of the parameter, or a codec for the class, says"
        " what to make: [arguments and receivers](replay.md#arguments-and-receivers).",
        ("RebuildError", "ValueError", "LookupError"),
        "values/rebuild",
    ),
    Group(
        "Replay: stubs", "The step is skipped, or its stub has no answer left. Name fewer stubs.", ("NoAnswerError",)
    ),
    Group(
        "Replay and emitted tests, as a whole",
        "`ReplayError`: what was asked for can't be done with this trace, or a test of it can't be written. Choose"
        " another step.",
        ("ReplayError",),
    ),
    Group(
        "Recorded outputs in a test",
        "`NotRecordedError`: the node was called with an input that the trace does not have. Call it as it was"
        " recorded, or record again.",
        ("NotRecordedError", "_problem"),
        "replaying/",
    ),
    Group(
        "Extras",
        "`MissingExtraError`: the message has the command that installs what is missing.",
        ("MissingExtraError",),
    ),
    Group(
        "The command line",
        "One line on standard error, and exit code 2. `--help` of the command has examples.",
        ("UsageError", "BadParameter", "UnreadableError", "say", "FlowtraceError"),
    ),
    Group("The server for coding agents", "`flowtrace mcp` answers so, and goes on.", ("RefusedError",)),
)
_OF_ALL = {"ValueError", "LookupError", "TypeError"}


def warnings() -> str:
    """Return the table of warnings.

    Raises:
        LookupError: a warning has no explanation, or an explanation no warning.
    """
    found = {event for path in _modules() if path.name != "log.py" for event in _events(path)} | set(
        _strings_of_fault(PACKAGE / "host" / "log.py")
    )
    if odd := found ^ set(WARNINGS):
        raise LookupError(f"docs/messages.py has to explain, or no longer to explain: {sorted(odd)}")
    lines = ["| warning | what it means | what to do |", "| --- | --- | --- |"]
    lines += [f"| `{event}` | {meaning} | {todo} |" for event, (meaning, todo) in WARNINGS.items()]
    return "\n".join(lines)


def errors() -> str:
    """Return a section for each group of errors, with their texts as they stand in the code.

    Raises:
        LookupError: no group names an error class of flowtrace's own.
    """
    named = {name for group in GROUPS for name in group.classes}
    own = {
        node.name
        for path in (PACKAGE / "errors.py", PACKAGE / "cli/common.py", PACKAGE / "cli/mcp.py")
        for node in _classes(path)
    }
    if missing := own - named:
        raise LookupError(f"docs/messages.py has no group for {sorted(missing)}")
    parts = []
    for group in GROUPS:
        texts = {text for path in _modules() if _is_under(path, group) for text in _texts(path, group)}
        shown = "\n".join(f"- `{text}`" for text in sorted(texts, key=lambda text: text.strip(_PART + " '").lower()))
        parts.append(f"### {group.title}\n\n{group.said}" + (f"\n\n{shown}" if shown else ""))
    return "\n\n".join(parts)


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _classes(path: Path) -> Iterator[ast.ClassDef]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
            yield node


def _is_under(path: Path, group: Group) -> bool:
    return path.relative_to(PACKAGE).as_posix().startswith(group.under)


def _called(node: ast.AST) -> str:
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name
    return ""


def _events(path: Path) -> Iterator[str]:
    """Yield the texts of the warnings of a module.

    Raises:
        LookupError: a text can't be found in the source.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and _called(node) in ("warn", "warn_once")
        ):
            if ast.unparse(node.func.value) != "log":
                continue
            found = list(_written(node.args[0], tree))
            if not found:
                raise LookupError(f"{path}, line {node.lineno}: the text of this warning can't be found")
            yield from found


def _strings_of_fault(path: Path) -> Iterator[str]:
    """Yield what the log itself says of a fault of flowtrace's own."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if _called(node) == "warn_once" and isinstance(node, ast.Call) and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value)


def _texts(path: Path, group: Group) -> Iterator[str]:
    """Yield the texts of the errors of a group that a module has."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if (
            _called(node) in group.classes
            and isinstance(node, ast.Call)
            and not (_called(node) in _OF_ALL and not group.under)
        ):
            values = [*node.args, *(item.value for item in node.keywords)]
            texts = [text for value in values for text in _written(value, tree)]
            yield from (text for text in texts if " " in text.strip(f"{_PART}: ") and "`" not in text)


def _written(node: ast.expr, tree: ast.AST) -> Iterator[str]:
    """Yield the texts that an expression can be, with a mark for each part that is not known before it runs."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else _PART for part in parts)
        case ast.IfExp(body=one, orelse=other):
            yield from _written(one, tree)
            yield from _written(other, tree)
        case ast.Name(id=name):
            for found in ast.walk(tree):
                match found:
                    case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name and value is not node:
                        yield from _written(value, ast.Module([], []))
