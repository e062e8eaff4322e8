"""Shared by the commands: exit codes, the TRACE argument, and output that is safe for a terminal."""

from __future__ import annotations

import gc
import os
import stat
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from flowtrace.errors import FlowtraceError
from flowtrace.host.log import json_printable
from flowtrace.host.log import printable as printable
from flowtrace.settings.kinds import TRACE_NAME, in_folder
from flowtrace.trace.files import MAX_TRACE_BYTES, PLACEHOLDERS

if TYPE_CHECKING:
    from rich.console import Console

    from flowtrace.trace.model import Trace
    from flowtrace.trace.skimming import Skimmed

    _ParamType = click.ParamType["TraceSource"]
else:
    _ParamType = click.ParamType  # not generic before click 8.4

EXIT_OK: Final = 0
EXIT_DIFFERS: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
EXIT_PIPE_CLOSED: Final = 141
Line = list[tuple[str, str]]
"""Pieces of printable text with their styles."""
_CHUNK: Final = 1000
_AT_ONCE: Final = 1 << 18  # bytes
_DELETE: Final = b"\x7f"  # the one control character of ASCII that JSON does not escape
_MOST_NAMED: Final = 5  # files
UNBOUNDED: Final = 100_000
"""Columns, where no terminal sets a limit."""
_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])


class UnreadableError(FlowtraceError):
    """An input that is not a file, or too large to be read."""


# --- commands


class Command(click.Command):
    """A command with examples in its help.

    Args:
        examples: command lines, each on its own line, as they would be typed.
    """

    def __init__(self, *args: Any, examples: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = [line.strip() for line in examples.strip().splitlines()]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each example on one line, without wrapping it."""
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def json_option(function: _F) -> _F:
    """Add ``--json``, which the command gets as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(function)


# --- the TRACE argument


@dataclass(frozen=True, slots=True)
class TraceSource:
    """Where a trace is read from.

    Attributes:
        name: its name in messages; may hold unprintable characters.
        path: the file; None for standard input.
    """

    name: str
    path: Path | None

    @contextmanager
    def open(self) -> Generator[BinaryIO]:
        """Open it for a ``with`` block, so that it can be read twice.

        Raises:
            UnreadableError: it is a device, or larger than MAX_TRACE_BYTES.
            OSError: it can't be read.
        """
        if self.path is None:
            yield self._in_memory(sys.stdin.buffer)
            return
        status = self.path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):  # a device may have no end
            raise UnreadableError(f"{self.name}: is not a file")
        if status.st_size > MAX_TRACE_BYTES:
            raise self._too_large()
        with self.path.open("rb") as file:
            # a shell's <(...) is a pipe, which can be read only once
            yield self._in_memory(file) if stat.S_ISFIFO(status.st_mode) else file

    def load(self) -> Trace:
        """Return the trace.

        Raises:
            TraceFileError: it is not a version 1 trace.
            UnreadableError, OSError: as `open` does.
        """
        from flowtrace.trace.reading import read_trace

        return self._read(read_trace)

    def skim(self) -> Skimmed:
        """Return the trace as `load` does, for one look at each step."""
        from flowtrace.trace.skimming import skim

        return self._read(skim)

    def _read(self, read: Callable[[BinaryIO, str], _T]) -> _T:
        with collector_off():
            with self.open() as file:
                found = read(file, self.name)
            gc.freeze()  # later collections need not look at it
        return found

    def _in_memory(self, file: BinaryIO) -> BinaryIO:
        data = file.read(MAX_TRACE_BYTES + 1)
        if len(data) > MAX_TRACE_BYTES:
            raise self._too_large()
        return BytesIO(data)

    def _too_large(self) -> UnreadableError:
        return UnreadableError(f"{self.name}: is larger than {MAX_TRACE_BYTES >> 20} MiB")


class _TraceType(_ParamType):
    """A path, a folder, a path with placeholders, or ``-``."""

    name = "trace"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> TraceSource:
        if isinstance(value, TraceSource):
            return value
        if value == "-":
            return TraceSource("<standard input>", None)
        from flowtrace.trace.reading import recover_command

        path = Path(os.path.expanduser(value))  # where there is no such user, the text stays
        if path.is_dir():
            found = newest_trace(path)
            if found is None:
                ring = next((f"; of a ring file: {recover_command(str(ring))}" for ring in newest_rings(path)), "")
                self.fail(f"there is no trace in the folder '{printable(value)}'{printable(ring)}", param, ctx)
            path = found
        elif not path.exists():
            found = newest_of_template(str(path))
            if found is None:
                self.fail(missing(str(path), newest_traces(path.parent)), param, ctx)
            path = found
        return TraceSource(str(path), path)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


TRACE: Final = _TraceType()


def newest_trace(folder: Path) -> Path | None:
    """Return the newest file of a folder that may be a trace; folders inside it are not searched.

    A broken trace counts, too: otherwise an older one would be taken for the newest.
    """
    return next(newest_traces(folder), None)


def newest_traces(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder that may be traces, the newest first."""
    return filter(may_be_trace, newest_first(folder.glob("*.json")))


def newest_rings(folder: Path) -> list[Path]:
    """Return the ring files in a folder, the newest first."""
    from flowtrace.trace.reading import RING

    return [path for path in newest_first(folder.iterdir()) if _start_of(path, len(RING)) == RING]


def newest_of_template(template: str) -> Path | None:
    """Return the newest file that a path with placeholders may have given; None where there is none."""
    if not any(map(template.__contains__, PLACEHOLDERS)):
        return None
    from flowtrace.trace.retention import TemplatePaths

    found = TemplatePaths(os.path.abspath(in_folder(template, TRACE_NAME))).files()
    newest = max(found, key=lambda pair: pair[1], default=None)
    return None if newest is None else Path(os.path.relpath(newest[0]))


def missing(path: str, others: Iterable[Path]) -> str:
    """Return what to say where there is no file at a path, with the files that may be meant.

    Args:
        path: the path.
        others: files in its folder; those whose names are like its own are found, and win.
    """
    from flowtrace.trace.reading import siblings

    folder = os.path.dirname(path)
    if folder and not os.path.isdir(folder):
        return f"there is no folder '{printable(folder)}'"
    found = siblings(path) or [str(other) for other in islice(others, _MOST_NAMED + 1)]
    names = [f"'{printable(name)}'" for name in found[:_MOST_NAMED]]
    more = " and more" if len(found) > _MOST_NAMED else ""
    are = "are" if len(names) > 1 else "is"
    beside = f"; there {are} {', '.join(names)}{more}" if names else ""
    return f"there is no file '{printable(path)}'{beside}"


def configured_trace() -> TraceSource:
    """Return the trace that a program leaves here: at the path of ``FLOWTRACE_OUT``, or ``trace.json``.

    Raises:
        click.BadParameter: there is none.
    """
    return TRACE.convert(_configured_path(), None, None)


def predecessor(trace: TraceSource | None) -> TraceSource:
    """Return the trace of the process before, which was kept where a later one wrote to the same path.

    Args:
        trace: the later one; None means that at the configured path.

    Raises:
        click.UsageError: standard input has none.
        click.BadParameter: there is none.
    """
    from flowtrace.trace.shared_paths import predecessor_of

    path = Path(_configured_path()) if trace is None else trace.path
    if path is None:
        raise click.UsageError("standard input has no predecessor")
    return TRACE.convert(predecessor_of(str(path)), None, None)


def _configured_path() -> str:
    from flowtrace.settings.variables import parse

    return in_folder(parse(os.environ).config.get("out_path", TRACE_NAME), TRACE_NAME)


def newest_first(paths: Iterable[Path]) -> list[Path]:
    """Return those of some paths that are files, by the time of their last change."""
    files = [path for path in paths if path.is_file()]
    return sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)


def may_be_trace(path: Path) -> bool:
    """Return True if the content of a file begins as that of a trace does, and names its version somewhere."""
    data = _start_of(path, MAX_TRACE_BYTES)
    return data.lstrip()[:1] == b"{" and b'"trace_version"' in data


def _start_of(path: Path, length: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(length)
    except OSError:
        return b""


@contextmanager
def collector_off() -> Generator[None]:
    """Turn the garbage collector off in a ``with`` block: a large trace is many objects, and none is garbage."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# --- output


def printable_lines(text: str) -> list[str]:
    """Return the lines of a text, each made `printable`."""
    return [printable(line.removesuffix("\r")) for line in text.split("\n")]


def shortened(text: str, length: int) -> str:
    """Return text made `printable`; where it is longer than a number of characters, its beginning and its length."""
    return printable(text) if len(text) <= length else f"{printable(text[:length])}... ({len(text):,} characters)"


def several(count: int, noun: str) -> str:
    """Return a number with its noun, which is in the plural for any number but 1."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def say(message: str) -> None:
    """Print a line of flowtrace's own on standard error."""
    click.echo(f"flowtrace: {printable(message)}", err=True)


def make_console() -> Console:
    """Return a console on standard output, in the terminal's colours and width.

    ``NO_COLOR``, ``FORCE_COLOR`` and ``COLUMNS`` count; without a terminal and ``COLUMNS``, lines have no limit. Text
    from a trace must go through `printable`; rich's markup is not interpreted.
    """
    from rich.console import Console

    class PipeConsole(Console):
        """Leaves a closed pipe to `flowtrace.cli.app`."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:  # escape a character that the encoding does not have, instead of failing
        reconfigure(errors="backslashreplace")
    console = PipeConsole(markup=False, emoji=False, highlight=False, soft_wrap=False)
    if not os.environ.get("COLUMNS", "").isdigit() and not sys.stdout.isatty():
        console.width = UNBOUNDED
    return console


def print_lines(console: Console, lines: Iterable[Line]) -> None:
    """Print lines, many at a time; the terminal wraps those that are too long."""
    from rich.segment import Segment, Segments

    remaining = iter(lines)
    if console.color_system is None and not console.is_terminal:  # there are no styles, and much may be written
        while texts := ["".join([text for text, _ in line]) for line in islice(remaining, _CHUNK)]:
            console.file.write("\n".join(texts) + "\n")
        return
    end = Segment.line()
    while chunk := list(islice(remaining, _CHUNK)):
        pieces: list[Segment] = []
        for line in chunk:
            pieces += [Segment(text, console.get_style(style) if style else None) for text, style in line if text]
            pieces.append(end)
        console.print(Segments(pieces), soft_wrap=True, end="")


def write_output(path: str, data: bytes, sources: Iterable[TraceSource | Path]) -> None:
    """Write a file of a command's, in one piece.

    Raises:
        UnreadableError: it can't be written, or is one of the traces that the command has read, which would be lost:
            for a folder, one of the JSON files in it.
    """
    from flowtrace.trace.files import write_atomically

    files = [source if isinstance(source, Path) else source.path for source in sources]
    if os.path.exists(path) and any(file is not None and _is_or_holds(file, path) for file in files):
        raise UnreadableError(f"{path}: is the trace itself, which would be lost: name another file")
    try:
        write_atomically(path, data)
    except OSError as error:  # its message has the name of the temporary file
        raise UnreadableError(f"{path}: {error.strerror}") from error


def _is_or_holds(source: Path, path: str) -> bool:
    """Return True if an existing file is what was read: the source, or a JSON file in the folder that it is."""
    parent = os.path.dirname(path) or os.curdir
    return os.path.samefile(path, source) or (path.endswith(".json") and os.path.samefile(parent, source))


def print_result(as_json: bool, document: Callable[[], object], lines: Callable[[Console], Iterable[Line]]) -> None:
    """Print the result of a command, as JSON for machines or as lines for people."""
    if as_json:
        print_json(document())
    else:
        console = make_console()
        print_lines(console, lines(console))


def print_json(document: object) -> None:
    """Print a JSON-like document as UTF-8 in the layout of the trace file, with a newline at its end.

    Characters that a terminal would obey are escaped, as JSON allows. A document that is nested too deeply for that
    layout is printed on one line, in ASCII.
    """
    print_json_text([json_text(document)])


def json_text(document: object) -> bytes:
    """Return a document's text in that layout; on one line, in ASCII, where it is nested too deeply."""
    import json

    from flowtrace.values.json import pretty

    try:
        return pretty(document)
    except (TypeError, ValueError):
        return json.dumps(document, separators=(",", ":")).encode()


def print_json_text(pieces: Iterable[bytes]) -> None:
    """Print the pieces of a document's text; see `print_json`."""
    sys.stdout.flush()
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        if len(waiting) >= _AT_ONCE:
            sys.stdout.buffer.write(_json_printable(waiting))
            waiting.clear()
    sys.stdout.buffer.write(_json_printable(waiting))
    sys.stdout.buffer.write(b"\n")


def _json_printable(text: bytearray) -> bytes:
    """Return JSON text as `json_printable` does, which has nothing to escape where only ASCII is in it."""
    return bytes(text) if text.isascii() and _DELETE not in text else json_printable(text.decode()).encode()
