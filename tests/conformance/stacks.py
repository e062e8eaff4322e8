"""Columns about the stack: what a function, an error, a profiler and a debugger see of it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from .build import Pair, Program
from .comparing import both, raised_by


def _place(frame: FrameType) -> tuple[str, str, int]:
    return frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_lineno


def frames(pair: Pair) -> None:
    """A function that looks up the stack sees the frames that are there without the decorator."""

    def look(program: Program) -> Any:
        seen = []

        def see(*_: Any) -> None:
            frame: FrameType | None = sys._getframe(1)
            while frame is not None:
                seen.append(_place(frame))
                frame = frame.f_back

        program.call("value", key=see)
        return seen

    both(pair, look, "frames")


def _frames_of(error: BaseException) -> Iterator[FrameType]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def tracebacks(pair: Pair) -> None:
    """A traceback has the frames that it has without the decorator, and no other."""

    def look(program: Program) -> Any:
        error = raised_by(program, ValueError("raised"))
        return [_place(frame)[:2] for frame in _frames_of(error)]

    both(pair, look, "traceback")


def locals_of_frames(pair: Pair) -> None:
    """Only the frames that hold an argument without the decorator do so when an error is reported."""

    def look(program: Program) -> Any:
        secret = object()
        error = raised_by(program, ValueError("raised"), extra=secret)
        found = [(_place(frame)[:2], _holding(frame.f_locals, secret)) for frame in _frames_of(error)]
        return [(place, names) for place, names in found if names]

    both(pair, look, "locals that hold an argument")


def _holding(names: dict[str, Any], secret: object) -> list[str]:
    """Return which of a frame's names lead to an object, at most through one container."""

    def holds(value: Any) -> bool:
        if type(value) is dict:
            value = list(value.values())
        return value is secret or (type(value) in (list, tuple) and any(item is secret for item in value))

    return sorted(name for name, value in names.items() if holds(value))


def _watched(start: Callable[[Any], None], before: Any, hook: Any, program: Program) -> None:
    program = program.reached()
    gc.disable()  # its callbacks, as hypothesis has one, are no calls of the program
    start(hook)
    try:
        program.call("value")
        raised_by(program, ValueError("raised"))
    finally:
        start(before)
        gc.enable()


def profiler(pair: Pair) -> None:
    """A profiler sees the calls of Python and of C that it sees without the decorator."""

    def look(program: Program) -> Any:
        seen = []

        def hook(frame: FrameType, event: str, argument: Any) -> None:
            seen.append((event, argument.__qualname__) if event.startswith("c_") else (event, *_place(frame)[:2]))

        _watched(sys.setprofile, sys.getprofile(), hook, program)
        return seen

    both(pair, look, "calls")


def debugger(pair: Pair) -> None:
    """A debugger that steps through a call stops where it does without the decorator."""

    def look(program: Program) -> Any:
        seen = []

        def hook(frame: FrameType, event: str, argument: Any) -> Any:
            # Python 3.15 tells how its own coroutines and generators end where they are awaited, and of nothing else.
            if sys.version_info < (3, 15) or event != "exception" or argument[0] is not StopIteration:
                seen.append((event, *_place(frame)))
            return hook

        _watched(sys.settrace, sys.gettrace(), hook, program)
        return seen

    both(pair, look, "steps")
