"""The texts in a trace that come from the program: of threads, errors, issues and logs, and lines and places of code.

The source round the lines that an error came through is there for a trace that is read where the program is not. It is
read when a trace of a failure is written, and never in a call. Of a function's code, a trace says where it is, and a
hash that stays the same when it is moved or reformatted.
"""

from __future__ import annotations

import inspect
import linecache
import textwrap
import tokenize
from ast import AST, Lambda, PyCF_ONLY_AST, iter_child_nodes, parse
from collections.abc import Iterable
from functools import lru_cache
from inspect import unwrap
from io import BytesIO, StringIO
from stat import S_ISREG
from sys import _getframe, version_info  # pyright: ignore[reportPrivateUsage]
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final
from zipimport import zipimporter

from flowtrace.host import log
from flowtrace.host.signals import let_through
from flowtrace.host.system import CLOCK, copy_of, os, re
from flowtrace.trace import model
from flowtrace.trace.files import FILE_OR_LINK, MAX_TRACE_BYTES, Stamp, read_up_to, stamp_of
from flowtrace.trace.model import Code, Hash, SourceLines, hash_record
from flowtrace.values.encoded import hash_bytes, syntax
from flowtrace.values.redaction import SecretNames
from flowtrace.values.scrub import Scrubber, without_lookalikes

if TYPE_CHECKING:
    from flowtrace.recording.logs import StepLogs
    from flowtrace.recording.step import Step

MOST_EXCERPTS: Final = 6
MOST_CALLERS: Final = 20
_BEFORE: Final = 6
_AFTER: Final = 3
_WIDTH: Final = 200
_MOST_BYTES: Final = 1 << 20  # of a source file
_read_before: Final[dict[str, Any]] = linecache.cache
_compile: Final = compile
_PARSE: Final = parse.__code__
_dedent: Final = copy_of(textwrap, re=re).dedent
_tokenize: Final = copy_of(tokenize, re=re)
_getblock: Final = copy_of(inspect, tokenize=_tokenize).getblock
_STANDARD_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def source_of(number: int, steps: Iterable[Step], scrubber: Scrubber) -> list[SourceLines]:
    """Return the lines round the program's own frames of an error, and of its causes, in the step where it began.

    After these come the lines of the steps around it that the error went through.

    Args:
        number: of the step; 0 for none.
        steps: those of the trace.
        scrubber: takes secrets out of a text.

    Returns:
        A few excerpts, the innermost first; none where there is no source. A fault of ours is logged.
    """
    if not number:
        return []
    try:
        by_number = {step.number: step for step in steps}
        locations: dict[tuple[str, int], None] = {}
        step = by_number.get(number)
        for _ in range(MOST_CALLERS):
            failure = None if step is None else step.failure
            if step is None or failure is None:
                break
            locations.update(dict.fromkeys(_locations(failure.details or {})))
            step = by_number.get(step.parent)
        return _excerpts(list(locations), scrubber)
    except Exception as error:
        log.internal_fault("read the source of a failure", error)
        return []


def _locations(details: dict[str, Any]) -> list[tuple[str, int]]:
    """Return file and line of the program's own frames, innermost first, and of the last one of each cause."""
    own = [frame for frame in details.get("frames", ()) if _is_own(frame)]
    found = list(reversed(own))
    for item in (*details.get("causes", ()), *details.get("exceptions", ())):
        found += [frame for frame in item.get("frames", ()) if _is_own(frame)][-1:]
    return [(frame["file"], frame["line"]) for frame in found if isinstance(frame["line"], int)]


def _is_own(frame: dict[str, Any]) -> bool:
    file = frame.get("file")
    return isinstance(file, str) and _is_own_file(file)


@lru_cache(maxsize=256)
def _is_own_file(file: str) -> bool:
    if file.startswith("<"):
        return False
    return not file.startswith(_STANDARD_LIBRARY) and not any(part in file for part in _INSTALLED)


def _excerpts(locations: list[tuple[str, int]], scrubber: Scrubber) -> list[SourceLines]:
    found: list[SourceLines] = []
    for file, line in locations:
        if len(found) == MOST_EXCERPTS:
            break
        if any(item.file == file and item.line <= line < item.line + len(item.lines) for item in found):
            continue  # an excerpt that is there shows it
        excerpt = _excerpt(file, line, scrubber)
        if excerpt is not None:
            found.append(excerpt)
    return found


def _excerpt(file: str, line: int, scrubber: Scrubber) -> SourceLines | None:
    """Return the lines round a line; None where there are none, or where hiding a secret has moved them."""
    wanted = _lines_round(file, line)
    if wanted is None:
        return None
    shown = seen_often(scrubber.without_secrets(wanted), scrubber.secret)
    if shown != wanted and shown.count("\n") != wanted.count("\n"):
        return None
    start = max(line - _BEFORE, 1)
    return SourceLines(file=file, line=start, lines=shown.split("\n"))  # a frame has the same name


def _lines_round(file: str, line: int) -> str | None:
    """Return the lines round a line of a file; None where there are none."""
    try:
        status = os.stat(file)
        if status.st_size > _MOST_BYTES:
            return None
        entry = _read_before.get(file, ())
        is_put_there = len(entry) > 1 and entry[1] is None  # by a program, which may put others there
        read = _read_round.__wrapped__ if is_put_there else _read_round
        return read(file, line, stamp_of(status))
    except Exception as error:  # no source, or none that can be read
        let_through(error)
        return None


@lru_cache(maxsize=64)
def _read_round(file: str, line: int, _version: Stamp) -> str | None:
    lines = lines_of(file, None, "")
    if not 1 <= line <= len(lines):
        return None
    start = max(line - _BEFORE, 1)
    return "\n".join(text.rstrip("\r\n")[:_WIDTH] for text in lines[start - 1 : line + _AFTER])


# --- in the record of a step


@lru_cache(maxsize=256)
def seen_often(text: str, secret: SecretNames) -> str:
    """Return a text without what looks like a secret in it: one that many traces have, as the name of a thread."""
    return without_lookalikes(text, secret)


def add_logs(record: model.Step, logs: StepLogs) -> None:
    """Add a step's log records to its record; secrets are still in their texts."""
    lines = logs.lines.copy()
    record.logs = [
        model.LogEntry(
            logged_at=CLOCK.timestamp(line.time),
            level=line.level,
            logger=line.logger or None,
            message=line.message,
            error=line.error,
        )
        for line in lines
    ]
    record.dropped_logs = max(0, logs.total - len(lines)) or None


def scrubbed_step(record: model.Step, scrubber: Scrubber) -> model.Step:
    """Return a step's record without secrets in the texts that came from the program."""
    error = None if record.error is None else scrubbed_error(record.error, scrubber)
    issues = [scrubbed_issue(issue, scrubber) for issue in record.validation_issues]
    logs = [_scrubbed_log(entry, scrubber) for entry in record.logs]
    return model.changed(record, error=error, validation_issues=issues, logs=logs)


def scrubbed_error(error: model.StepError, scrubber: Scrubber) -> model.StepError:
    """Return an error without secrets in it."""
    message, details = scrubber.text(error.message), scrubber.scrubbed(error.details)
    return model.StepError(code=error.code, message=message, details=details)


def log_issues(step: Step, scrubber: Scrubber) -> None:
    """Log the validation issues of a step."""
    for issue in [scrubbed_issue(issue, scrubber) for issue in step.issues or ()]:
        about = {"code": issue.code, "path": issue.path, "message": issue.message}
        log.warn("validation issue", node_id=step.node.node_id, **about)


def scrubbed_issue(issue: model.ValidationIssue, scrubber: Scrubber) -> model.ValidationIssue:
    """Return a validation issue without secrets in it."""
    return model.ValidationIssue(scrubber.text(issue.code), scrubber.text(issue.path), scrubber.text(issue.message))


def _scrubbed_log(entry: model.LogEntry, scrubber: Scrubber) -> model.LogEntry:
    texts = {name: getattr(entry, name) for name in ("level", "logger", "message", "error")}
    return model.changed(entry, **{name: text and scrubber.text(text) for name, text in texts.items()})


# --- where a function is defined


def locate(function: Any) -> Code | None:
    """Return where a function is defined.

    Args:
        function: a function, or any callable with a name.

    Returns:
        Its module, name, file, line and code hash, as far as it has them; None for a callable without a name.
    """
    try:
        return _locate(function)
    except BaseException as error:  # the attributes of a callable object may raise anything
        let_through(error)
        return None


def _locate(function: Any) -> Code | None:
    plain = unwrap(function) if isinstance(function, FunctionType) else function
    name = getattr(plain, "__qualname__", None)
    module = getattr(plain, "__module__", None)
    if not isinstance(name, str) or not isinstance(module, str):
        return None
    code = getattr(plain, "__code__", None)
    if not isinstance(code, CodeType):
        return Code(module=module, qualname=name)
    return Code(
        module=module,
        qualname=name,
        file=code.co_filename,
        line=code.co_firstlineno,
        hash=None if _is_parsing() else _code_hash(code, _archive_of(plain), module),
    )


def _is_parsing() -> bool:
    """Return True where the program is building a syntax tree, and we run in its midst: then we must build none.

    Up to 3.11 the garbage collector, and with it traced code in a finalizer, runs while the nodes of a tree are made. A
    tree that is built meanwhile makes the outer one fail: "AST constructor recursion depth mismatch".
    """
    if version_info >= (3, 12):
        return False
    frame = _getframe()
    while frame.f_back is not None and frame.f_code is not _PARSE:
        frame = frame.f_back
    return frame.f_code is _PARSE


@lru_cache(maxsize=1024)
def _code_hash(code: CodeType, archive: zipimporter | None, module: str) -> Hash | None:
    """Return the hash of a function's syntax tree, or None where its source can't be read."""
    try:
        lines = lines_of(code.co_filename, archive, module)
        source = _dedent("".join(_getblock(lines[code.co_firstlineno - 1 :])))
        tree = _compile(source, "<source>", "exec", PyCF_ONLY_AST)
    except BaseException as error:  # no source, or one that was changed in any way since it was loaded
        let_through(error)
        return None
    node: AST = tree
    if code.co_name == "<lambda>":
        # the source is the whole statement around it, in which it may not be the only one
        lambdas = [item for item in _nodes(tree) if isinstance(item, Lambda)]
        if len(lambdas) != 1:
            return None
        node = lambdas[0]
    return hash_record(hash_bytes(syntax(node).encode("utf-8", "backslashreplace")))


def _nodes(tree: AST) -> list[AST]:
    """Return all nodes of a syntax tree. `ast.walk` imports something in each call, which the program might see."""
    found = [tree]
    for node in found:
        found.extend(iter_child_nodes(node))
    return found


def _archive_of(function: Any) -> zipimporter | None:
    loader = getattr(function, "__globals__", {}).get("__loader__")
    return loader if type(loader) is zipimporter else None


def lines_of(file: str, archive: zipimporter | None, module: str) -> list[str]:
    """Return the lines of a source file as it is now, or what a program has put into `linecache` for code without one.

    `inspect` would look through all modules for the one that the code is from, and ask each of them.
    """
    if file in _read_before and len(entry := _read_before[file]) > 1 and entry[1] is None:
        return list(entry[2])
    if archive is not None:
        return (archive.get_source(module) or "").splitlines(keepends=True)
    if not S_ISREG(os.stat(file).st_mode):  # as `python /dev/stdin` names a pipe that the program may read
        return []
    # no file object: an error of a signal handler could leave it open, which Python warns of
    descriptor = os.open(file, FILE_OR_LINK)
    try:
        data = read_up_to(MAX_TRACE_BYTES, descriptor)
    finally:
        os.close(descriptor)
    encoding, _ = _tokenize.detect_encoding(BytesIO(data).readline)
    return StringIO(data.decode(encoding), newline=None).readlines()
