"""Signals: errors that a handler of the program raises inside our code, and our own handler that asks for a snapshot.

A handler may run between any two of our instructions. What a handler of the program raises belongs to the program, so
none of our guards may keep it. Our own handler only starts a thread: the thread waits for our locks as any other does,
so that it sees consistent steps, and the program goes on at once.

Handlers are read and set through `_signal`. The functions of `signal` make an enum member of each handler first, for
which they ask it for its hash, its equality and its number: code of the program.
"""

from __future__ import annotations

import sys
from _thread import interrupt_main, start_new_thread
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from opcode import opmap
from stat import S_ISDIR, S_ISLNK
from threading import Lock
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any, Final

from flowtrace.host.objects import MISSING, class_attribute, inherits, is_wrapper, target_of
from flowtrace.host.system import open_file, os, time

_signal: Final[Any] = import_module("_signal")
OWN_FOLDER: Final = os.path.dirname(os.path.dirname(__file__)) + os.sep
"""The folder of the package: code whose file is in it is ours, any other is the program's."""
traceback_of: Final = BaseException.__dict__["__traceback__"].__get__
# what a `raise` statement or a generator's `throw` leaves in a traceback
_RAISING: Final = {opmap[name] for name in ("RAISE_VARARGS", "RERAISE", "RETURN_GENERATOR", "YIELD_VALUE", "POP_TOP")}
# At these Python looks for what is to be raised from outside: after a call, and where nothing else can fail.
_CALLS: Final = {opmap[name] for name in ("PRECALL", "CALL", "CALL_KW", "CALL_FUNCTION_EX") if name in opmap}
_LOOKING: Final = {code for name, code in opmap.items() if name == "RESUME" or "JUMP_BACKWARD" in name}
_OF_PYTHON: Final = (RecursionError, MemoryError, StopIteration, StopAsyncIteration, GeneratorExit)
_SUSPENDS: Final = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
_arguments_of: Final = BaseException.__dict__["args"].__get__
_MAX_LAYERS: Final = 20  # a handler may be a method of a partial of a method ...
_MAX_WAIT: Final = 2.0  # at exit, in seconds
_INTERRUPT: Final = _signal.SIGINT


def let_through(error: BaseException) -> None:
    """Raise an error again if a signal handler of the program raised it; else do nothing.

    A guard that is about to swallow an error calls this first. Otherwise a timeout that an alarm raises, say, would be
    lost, and the program that waits for it would go on for ever. A guard round code of other libraries, or of a value's
    class, catches BaseException: a panic in Rust is one, and a method may raise SystemExit.

    Args:
        error: the exception that the guard has caught.
    """
    if is_from_handler(error):
        raise error


def is_from_handler(error: BaseException) -> bool:
    """Return True if an error came into the code that ran from outside.

    A signal handler raised it: one of the program, or that of the interpreter for Ctrl-C. Or another thread has sent
    it, by ``PyThreadState_SetAsyncExc``, as timeouts of threads do.
    """
    try:
        return _passed_handler(error)
    except Exception as fault:  # the stack is full, say, or the alarm rings in here
        try:
            is_alarm = _passed_handler(fault)
        except Exception:
            is_alarm = False
        if is_alarm:
            raise
        return False


def _passed_handler(error: BaseException) -> bool:
    codes = []
    entry = innermost = traceback_of(error)
    while entry is not None:
        codes.append(entry.tb_frame.f_code)
        innermost, entry = entry, entry.tb_next
    if type(error) is KeyboardInterrupt and innermost is not None:
        # Ctrl-C has no handler in Python: it comes at an instruction that does not raise by itself
        return codes[-1].co_code[innermost.tb_lasti] not in _RAISING or _is_in_handler(codes)
    return _is_in_handler(codes) or (innermost is not None and _was_sent(error, codes[-1], innermost.tb_lasti))


def _was_sent(error: BaseException, code: CodeType, at: int) -> bool:
    """Return True if another thread has sent an error, which came up at an instruction of some code.

    What is sent is a class: the error has no arguments. One that a function in C raises would have some.
    """
    if issubclass(type(error), _OF_PYTHON) or _arguments_of(error):
        return False
    instruction, is_ours = code.co_code[at], code.co_filename.startswith(OWN_FOLDER)
    if instruction in _LOOKING:  # an error that the program throws into a generator of its own comes up there, too
        return is_ours or not code.co_flags & _SUSPENDS
    return is_ours and instruction in _CALLS


def _is_in_handler(codes: list[CodeType]) -> bool:
    handlers = [_raise_late.__code__]
    if not all(code.co_filename.startswith(OWN_FOLDER) for code in codes):
        handlers += filter(None, [_code_of(_signal.getsignal(number)) for number in _signal.valid_signals()])
    # Not `in`: that two codes are equal can't be found out where the stack is full.
    return any(code is handler for code in codes for handler in handlers)


def _code_of(handler: Any) -> CodeType | None:
    """Return the code that a handler runs, without running any of it; None where none is found.

    A handler is a function, a method, a partial, a function in a wrapt proxy (as ours are), or an object that has
    a `__call__`.
    """
    for _ in range(_MAX_LAYERS):
        cls = type(handler)
        if handler is None or handler is MISSING or cls is int:  # the default, or a signal that is ignored
            return None
        if cls is FunctionType:
            code: CodeType = handler.__code__
            return code
        if cls is MethodType or cls is staticmethod or cls is classmethod:
            handler = handler.__func__
        elif inherits(cls, partial):
            handler = partial.__dict__["func"].__get__(handler)
        # no other proxy than those of ours and wrapt's: a lazy one would run code
        elif is_wrapper(handler):
            handler = target_of(handler)
        else:
            handler = class_attribute(cls, "__call__")
    return None


class Tolerating(suppress):
    """A context that swallows errors of some classes, as `contextlib.suppress`, but none of a signal handler."""

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        return error is not None and bool(super().__exit__(kind, error, traceback)) and not is_from_handler(error)


# --- what is at a path: for `os.path`, an alarm's TimeoutError means that there is nothing


def is_folder(path: str) -> bool:
    """Return True if there is a folder, or a link to one."""
    return S_ISDIR(_mode_of(path, follows=True))


def is_link(path: str) -> bool:
    """Return True if there is a link, wherever it leads."""
    return S_ISLNK(_mode_of(path, follows=False))


def is_taken(path: str) -> bool:
    """Return True if there is something: also a link that leads nowhere."""
    return _mode_of(path, follows=False) != 0


def _mode_of(path: str, *, follows: bool) -> int:
    """Return the mode that `os.stat` gives, which is not 0; 0 where there is nothing, or it can't be looked at."""
    try:
        return os.stat(path, follow_symlinks=follows).st_mode
    except (OSError, ValueError) as error:
        let_through(error)
        return 0


# --- where Python swallows errors


class _Late:
    """Process-global: an error on its way to the program, and the handler of Ctrl-C that it is raised in place of."""

    error: BaseException | None = None
    handler: Any = None


def hook(
    work: Callable[[], object],
    later: Callable[[BaseException], Iterator[object]] | None = None,
    *,
    is_vital: bool = False,
) -> Any:
    """Return a function for a hook whose errors Python only prints, as at a fork.

    Nothing is raised in it. Ctrl-C that comes meanwhile is raised in the program, as soon as the hook is left.

    It is the method of a generator that waits inside its ``try``: a handler may run before the first instruction of a
    function, and no ``try`` of the function would reach that.

    Args:
        work: what the hook does.
        later: takes what is raised in it, and returns what the hook ends with; None means `raise_later`.
        is_vital: work that was interrupted is done once more.
    """
    running = _run(work, later or raise_later, work if is_vital else None)
    next(running)
    return running.__next__


def _run(
    work: Callable[[], object],
    later: Callable[[BaseException], Iterator[object]],
    again: Callable[[], object] | None,
) -> Generator[None]:
    last: Iterator[object] = iter(())
    while True:
        try:
            while True:
                _ = [*last]
                yield
                last = iter(())
                work()
        except GeneratorExit:  # the interpreter ends
            return
        except BaseException as error:
            last = later(error)
            if again is not None:
                again()


def raise_later(error: BaseException) -> Iterator[object]:
    """Raise an error of a signal handler in the program, since it would be swallowed here.

    Args:
        error: what was raised here; one that comes from no handler is dropped.

    Returns:
        An iterator, for ``[*raise_later(error)]``: the error is raised at the first instruction after it at which
        Python looks for signals. That is after a call or a jump; ``yield``, ``raise`` and ``return`` are none.
    """
    if not is_from_handler(error) or _signal.getsignal(_INTERRUPT) is None:  # a handler in C could not be put back
        return iter(())
    if _Late.error is None:
        try:
            _Late.handler = _signal.signal(_INTERRUPT, _raise_late)
        except ValueError:  # this is not the main thread, and the error was sent to it
            return iter(())
    _Late.error = error
    return map(interrupt_main, (_INTERRUPT,))


def _raise_late(*_of_signal: object) -> None:
    error, _Late.error = _Late.error, None
    _signal.signal(_INTERRUPT, _Late.handler)
    if error is None:  # the program has put this function back: the handler is called after all
        interrupt_main(_INTERRUPT)
    else:
        raise error


class SnapshotSignal:
    """Our handler of a signal, and the program's own, which still runs after ours.

    Args:
        number: the signal.
        answer: writes the snapshot; runs in a thread of its own, never twice at once.
    """

    def __init__(self, number: int, answer: Callable[[], None]) -> None:
        self.number = number
        self._answer = answer
        self._previous: Any = None
        self._handler = self._handle  # a bound method is a new object each time
        self._is_installed = False
        self._is_pending = False
        self._answering = Lock()

    def install(self) -> str:
        """Install the handler; only the main thread can.

        Returns:
            Why that was not possible; ``""`` where it was.
        """
        self._previous = _signal.getsignal(self.number)
        # the interpreter knows of no handler: its number for the default, or for an ignored signal
        if self._previous is None or (type(self._previous) is int and _has_native_handler(self.number)):
            return "the program has a handler in C for it, which could not be called from ours"
        try:
            _signal.signal(self.number, self._handler)
        except ValueError:
            return "a handler can only be installed in the main thread; flowtrace.configure() there does it"
        self._is_installed = True
        return ""

    def uninstall(self) -> bool:
        """Restore the previous handler unless the program has installed one since.

        Returns:
            False outside the main thread, where that is not possible.
        """
        if _signal.getsignal(self.number) is self._handler:
            try:
                _signal.signal(self.number, self._previous)
            except ValueError:
                return False
        self._is_installed = False  # a later handler of the program may still call ours
        return True

    def forget_thread(self) -> None:
        """Forget the thread that writes: a forked child does not have it."""
        self._is_pending = False
        self._answering = Lock()

    def wait(self) -> None:
        """Wait until a requested snapshot is written, since the process is about to end."""
        deadline = time.monotonic() + _MAX_WAIT
        while self._is_pending and time.monotonic() < deadline:
            time.sleep(0.001)
        if self._answering.acquire(timeout=_MAX_WAIT):
            self._answering.release()

    def _handle(self, number: int, frame: FrameType | None) -> Any:
        if self._is_installed and not self._is_pending:  # a snapshot that has not begun yet answers this signal too
            self._is_pending = True
            try:
                # not threading.Thread: the signal may have interrupted code that holds a lock of that module
                start_new_thread(self._serve, ())
            except Exception as error:  # no thread can be started: the next signal tries again
                self._is_pending = False
                let_through(error)
        return self._previous(number, frame) if callable(self._previous) else None

    def _serve(self) -> None:
        with self._answering:
            self._is_pending = False
            with suppress(Exception):
                self._answer()


def _has_native_handler(number: int) -> bool:
    """Return True if a library in C has set a handler that Python does not know of; False where this is not Linux."""
    if not sys.platform.startswith("linux"):
        return False
    with (
        Tolerating(OSError, ValueError),
        open_file("/proc/self/status", encoding="ascii", errors="replace") as lines,
    ):
        for line in lines:
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False
