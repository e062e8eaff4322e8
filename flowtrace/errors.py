"""Every error that flowtrace raises on purpose, as one small tree.

Only code that *uses* flowtrace's own functions ever sees one of these: the host program's calls never do.

FlowtraceError
├── ConfigError     a setting given in code is not usable
├── CodecError      a codec can't be registered
├── RebuildError    canonical JSON can't become a Python value again
├── ReplayError     a trace can't be replayed in the way that was asked for
├── RingFileError   a file is not the ring of a black box
└── TraceFileError  a file is not a version 1 trace
    └── PayloadFileError  a payload file that a trace names can't be read, or must not be
"""

from __future__ import annotations


class FlowtraceError(Exception):
    """Base class of every error that flowtrace raises."""


class ConfigError(FlowtraceError, ValueError):
    """A setting given in code is not usable; the message says which, and what is accepted."""


class CodecError(FlowtraceError, ValueError):
    """A codec can't be registered; the message says why."""


class RebuildError(FlowtraceError, ValueError):
    """Canonical JSON can't become a Python value again.

    Attributes:
        reason: why not.
        pointer: JSON Pointer (RFC 6901) of the offending place; ``""`` is the whole value.
    """

    def __init__(self, reason: str, pointer: str = "") -> None:
        self.reason = reason
        self.pointer = pointer
        super().__init__(f"at {pointer}: {reason}" if pointer else reason)

    def __reduce__(self) -> tuple[type[RebuildError], tuple[str, str]]:
        return type(self), (self.reason, self.pointer)

    def inside(self, token: object) -> RebuildError:
        """Return the same error as seen from the container around its place.

        Args:
            token: the key or index of the place in that container.
        """
        step = str(token).replace("~", "~0").replace("/", "~1")
        return RebuildError(self.reason, f"/{step}{self.pointer}")


class ReplayError(FlowtraceError, ValueError):
    """A trace can't be replayed in the way that was asked for; the message says what is wrong with the wish."""


class RingFileError(FlowtraceError, ValueError):
    """A file is not the ring of a black box.

    Attributes:
        path: the file, as it was named by the caller.
        reason: what is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[type[RingFileError], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class TraceFileError(FlowtraceError, ValueError):
    """A file is not a readable version 1 trace.

    Attributes:
        path: the file, as it was named by the caller.
        pointer: JSON Pointer (RFC 6901) of the offending place; ``""`` is the whole document.
        reason: what is wrong there, and what would be accepted.
    """

    def __init__(self, path: str, pointer: str, reason: str) -> None:
        self.path = path
        self.pointer = pointer
        self.reason = reason
        place = pointer or "(whole document)"
        super().__init__(f"{path}: at {place}: {reason}")

    def __reduce__(self) -> tuple[type[TraceFileError], tuple[str, str, str]]:
        return type(self), (self.path, self.pointer, self.reason)


class PayloadFileError(TraceFileError):
    """A payload file that a trace names can't be read, or must not be; the attributes tell where it is named."""
