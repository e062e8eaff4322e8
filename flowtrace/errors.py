"""Every error that flowtrace raises on purpose: one tree, all but its root also a ValueError.

FlowtraceError
├── ConfigError
├── CodecError
├── InvocationValidationError
├── MissingExtraError (an ImportError)
├── NotRecordedError (an AssertionError)
├── RebuildError
├── ReplayError
├── RingFileError
└── TraceFileError
    └── PayloadFileError

Only a caller of flowtrace's own functions sees one of these. A call of a decorated function raises none of them,
but for `InvocationValidationError` where that is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

_LISTED: Final = 5  # issues in the text of an error; all of them are in its attribute


def pointer_token(key: object) -> str:
    """Return a key or an index as one token of a JSON Pointer (RFC 6901)."""
    return str(key).replace("~", "~0").replace("/", "~1")


class FlowtraceError(Exception):
    """Base class of every error that flowtrace raises."""


class ConfigError(FlowtraceError, ValueError):
    """A setting given in code is not usable; the message says which, and what is accepted."""


class CodecError(FlowtraceError, ValueError):
    """A codec can't be registered; the message says why."""


class InvocationValidationError(FlowtraceError, ValueError):
    """With ``FLOWTRACE_VALIDATION=error``, a call was refused: what it was given, or what it returned, is not valid.

    Attributes:
        node_id: whose call it was.
        what: ``"arguments"`` or ``"result"``.
        issues: (code, JSON Pointer, message) of each issue that was found, without secrets in them.
    """

    def __init__(self, node_id: str, what: str, issues: Sequence[tuple[str, str, str]]) -> None:
        self.node_id = node_id
        self.what = what
        self.issues = tuple(issues)
        listed = [f"{code} at {path or '(whole value)'}: {message}" for code, path, message in self.issues[:_LISTED]]
        more = f"; and {len(self.issues) - _LISTED} more" if len(self.issues) > _LISTED else ""
        super().__init__(f"{node_id}: its {what} did not pass validation: {'; '.join(listed)}{more}")

    def __reduce__(self) -> tuple[type[InvocationValidationError], tuple[Any, ...]]:
        return type(self), (self.node_id, self.what, self.issues)


class ProvenanceError(FlowtraceError, ValueError):
    """A trace has no such step or value to follow; the message says what it has."""


class RebuildError(FlowtraceError, ValueError):
    """Canonical JSON can't become a Python value again.

    Attributes:
        reason: why not.
        pointer: JSON Pointer (RFC 6901) of the part that can't; ``""`` is the whole value.
    """

    def __init__(self, reason: str, pointer: str = "") -> None:
        self.reason = reason
        self.pointer = pointer
        super().__init__(f"at {pointer}: {reason}" if pointer else reason)

    def __reduce__(self) -> tuple[type[RebuildError], tuple[str, str]]:
        return type(self), (self.reason, self.pointer)

    def inside(self, token: object) -> RebuildError:
        """Return the same error with a pointer that starts one container further out.

        Args:
            token: the key or index in that container.
        """
        return RebuildError(self.reason, f"/{pointer_token(token)}{self.pointer}")


class ReplayError(FlowtraceError, ValueError):
    """A trace can't be replayed in the way that was asked for; the message says why."""


class NotRecordedError(FlowtraceError, AssertionError):
    """A node that is answered from a trace was called with an input that the trace has no answer for."""


class MissingExtraError(FlowtraceError, ImportError):
    """A package that an extra of flowtrace brings is not installed.

    Attributes:
        extra: the extra.
    """

    def __init__(self, what: str, extra: str, package: str) -> None:
        self.extra = extra
        command = f"pip install 'flowtrace[{extra}]'"
        super().__init__(f"{what} needs the package {package}, which the extra `{extra}` brings: {command}")


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
        pointer: JSON Pointer (RFC 6901) of the part that is wrong; ``""`` is the whole document.
        reason: what is wrong there, and what would be accepted.
    """

    def __init__(self, path: str, pointer: str, reason: str) -> None:
        self.path = path
        self.pointer = pointer
        self.reason = reason
        super().__init__(f"{path}: at {pointer or '(whole document)'}: {reason}")

    def __reduce__(self) -> tuple[type[TraceFileError], tuple[str, str, str]]:
        return type(self), (self.path, self.pointer, self.reason)


class PayloadFileError(TraceFileError):
    """A payload file that a trace names can't be read, or must not be; the attributes say where it is named."""
