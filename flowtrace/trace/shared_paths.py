"""One path, several processes: each has a path of its own, and the trace of an earlier process is kept.

A file says in ``run.pid`` and ``run.host`` who wrote it. If that process still runs, or ran at the same time as this
one or as the program that forked this one, the path belongs to it, and this process adds its pid to the name.
Otherwise, where the path has no placeholders, the file becomes the predecessor: ``trace.prev.json`` beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EEXIST
from functools import cached_property
from threading import RLock
from typing import Final, NamedTuple, TypeVar

from flowtrace.host import log
from flowtrace.host.signals import let_through
from flowtrace.host.system import open_file, os, re, time
from flowtrace.trace.files import FILE, PLACEHOLDERS, Stamp, is_ours, put_new, read_up_to, stamp_of, temporary_beside
from flowtrace.values.json import loads

_LOADED: Final = time.time_ns()
_RUN: Final = re.compile(rb'\n  "run": (\{\n.*?\n  \})', re.DOTALL)  # a text has no line break, so no value looks so
_ENDS: Final = (1 << 16, 1 << 22)
"""Bytes at the end of a file in which its run is looked for: after it come steps in flight."""
_MOST_PATHS: Final = 1000
_TRIES: Final = 5  # to put a file where other processes put theirs, too
_SECOND: Final = 1_000_000_000
_FORKED_ONLY: Final = 0x40  # PF_FORKNOEXEC, in Linux's include/linux/sched.h
_CLOCKS_DIFFER: Final = _SECOND
"""At most, on one machine: that of the file system has a coarse tick, and clocks are set."""
_ONE_PER_RUN: Final = ("{pid}", "{run_id}", "{timestamp}")
T = TypeVar("T")


class Target(NamedTuple):
    """Where a trace is written.

    Attributes:
        path: the file.
        is_there: a file of ours is there, which may be replaced; False where there is none yet, and if another process
            makes one now, that must not be replaced; None where that is to be found out.
    """

    path: str
    is_there: bool | None = None


class Writer(NamedTuple):
    """The process that wrote a trace."""

    pid: int
    host: str


class SharedPaths:
    """Process-global: the paths that this process writes, and those that it leaves to others."""

    def __init__(self) -> None:
        self._written: dict[str, Stamp | None] = {}
        self._instead: dict[str, str] = {}
        self._lock = RLock()

    @cached_property
    def _started(self) -> int:
        return started_at(_program_of(os.getpid())) or _LOADED

    def has_written(self, path: str) -> bool:
        """Return True if this process has written a file to a path."""
        return self._written.get(path) is not None

    def write(self, path: str, template: str, host: str, write: Callable[[Target], T]) -> tuple[str, T]:
        """Write to a path, or to one beside it that is for this process alone.

        Args:
            path: what the template gives in this process.
            template: an absolute path.
            host: the name of this machine.
            write: writes to a target; raises `FileExistsError` where that must be free, and is not.

        Returns:
            The path, and what ``write`` returned.

        Raises:
            OSError: the path can't be looked at or written to.
        """
        for _ in range(_TRIES):
            target = self._target_for(path, template, host)
            try:
                found = write(target)
            except FileExistsError:  # another process was quicker, and its file stays
                continue
            self._note(target.path)
            return target.path, found
        raise FileExistsError(EEXIST, "other processes keep writing to this path", path)

    def _target_for(self, path: str, template: str, host: str) -> Target:
        """Return where a trace goes that is meant for a path; what another process left there is moved aside."""
        if "{" in template and any(name in template for name in _ONE_PER_RUN):
            return Target(path)
        with self._lock:
            if len(self._instead) + len(self._written) > _MOST_PATHS:
                self._instead.clear()
                self._written.clear()
            target = Target(self._instead[path]) if path in self._instead else self._target_at(path, template, host)
            self._written.setdefault(target.path, None)
        if target.path != path and path not in self._instead:
            self._instead[path] = target.path
            event = "another process writes to this path, so this one adds its pid"
            log.warn_once(event, ("shared path", path), path=path, instead=target.path)
        return target

    def _note(self, path: str) -> None:
        """Remember a file that this process has just written, so that the next write need not read whose it is."""
        if path in self._written:
            try:
                self._written[path] = stamp_of(os.lstat(path))
            except OSError as error:
                let_through(error)

    def _target_at(self, path: str, template: str, host: str) -> Target:
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return Target(path, is_there=False)
        stamp, is_there = stamp_of(status), is_ours(status) or None
        if not (is_there and status.st_size) or self._written.get(path) == stamp:
            return Target(path, is_there)
        writer, me = writer_of(path), Writer(os.getpid(), host)
        if writer == me and path in self._written:
            return Target(path)
        # an earlier process may have had the pid that this one has
        if writer is not None and writer != me and self._runs_beside(writer, stamp.changed, host):
            return Target(path_with_pid(path))
        if path != template or any(name in template for name in PLACEHOLDERS):
            return Target(path)
        return Target(path, is_there=False) if keep_as_predecessor(path, stamp) else Target(path_with_pid(path))

    def _runs_beside(self, writer: Writer, written: int, host: str) -> bool:
        return written > self._started or (writer.host == host and is_running(writer.pid, written))


def path_with_pid(path: str) -> str:
    """Return a path with the pid of this process before its suffix, as that of a child process has it."""
    stem, suffix = os.path.splitext(path)
    return f"{stem}.{os.getpid()}{suffix}"


def predecessor_of(path: str) -> str:
    """Return where the trace is kept that another process had left at a path."""
    stem, suffix = os.path.splitext(path)
    return f"{stem}.prev{suffix}"


def keep_as_predecessor(path: str, stamp: Stamp) -> bool:
    """Make a file the predecessor; what was kept before goes.

    Args:
        path: the file.
        stamp: its stamp when it was looked at. If another process has put its own file there since, that stays.

    Returns:
        True if the path is free for this process; another one may be quicker all the same.
    """
    aside = temporary_beside(path)
    try:
        os.rename(path, aside)
    except FileNotFoundError:  # another process has moved it
        return True
    except OSError as error:
        let_through(error)
        return False
    try:
        if stamp_of(os.lstat(aside)) == stamp:
            os.replace(aside, predecessor_of(path))
            return True
    except OSError as error:  # what stands there is a folder, say
        let_through(error)
    put_new(aside, path)
    return False


def writer_of(path: str) -> Writer | None:
    """Return the process that wrote a trace; None where the file is none, or does not say."""
    try:
        descriptor = os.open(path, FILE)
        try:
            status = os.fstat(descriptor)
            if not is_ours(status):
                return None
            for length in _ENDS:
                os.lseek(descriptor, max(0, status.st_size - length), os.SEEK_SET)
                found = _RUN.findall(read_up_to(length, descriptor))
                if found:
                    return _writer_in(loads(found[-1]))
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        let_through(error)
    return None


def _writer_in(run: object) -> Writer | None:
    if isinstance(run, dict) and type(run.get("pid")) is int and isinstance(run.get("host"), str):
        return Writer(run["pid"], run["host"])
    return None


def is_running(pid: int, since: int) -> bool:
    """Return True if a process of this machine runs, and is the one that had this pid at some time.

    Args:
        pid: its id.
        since: that time, in ns since the Unix epoch.
    """
    if os.name != "posix" or pid <= 0:  # os.kill ends a process on Windows
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:  # it is another user's
        pass
    except (OSError, OverflowError) as error:
        let_through(error)
        return False
    status = _status_of(pid)
    if status is not None and status.has_ended:  # and its parent has not waited for it yet
        return False
    started = started_at(pid)
    return started is None or started <= since + _CLOCKS_DIFFER


def started_at(pid: int) -> int | None:
    """Return when a process started, in ns since the Unix epoch, at the latest; None where Linux does not tell."""
    status = _status_of(pid)
    if status is None or not status.ticks or not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    since_boot = (status.ticks + 1) * _SECOND // os.sysconf("SC_CLK_TCK")
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME) + since_boot


def _program_of(pid: int) -> int:
    """Return the process that a process was forked from, without another program loaded in between; or that itself.

    A server that forks its workers and starts one anew when it has ended is one program: the traces of those that are
    gone are not an earlier program's.
    """
    try:
        while (status := _status_of(pid)) and status.is_forked_only:
            # what adopts the child of one that has ended is another program
            if os.readlink(f"/proc/{pid}/exe") != os.readlink(f"/proc/{status.parent}/exe"):
                break
            pid = status.parent
    except OSError as error:
        let_through(error)
    return pid


class _Status(NamedTuple):
    has_ended: bool
    parent: int
    is_forked_only: bool
    ticks: int


def _status_of(pid: int) -> _Status | None:
    """Read ``/proc/PID/stat`` (https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html), where there is one."""
    try:
        with open_file(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return _Status(fields[0] in b"ZX", int(fields[1]), bool(int(fields[6]) & _FORKED_ONLY), int(fields[19]))
    except (OSError, ValueError, IndexError) as error:
        let_through(error)
        return None
