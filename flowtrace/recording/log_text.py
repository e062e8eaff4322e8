"""The text of a log record, made without running any code of the program's.

`LogRecord.getMessage` calls ``__str__``, ``__repr__`` or ``__format__`` of what was logged. Here, such a value is
written by the rules of `flowtrace.values`, in Python's words; values of the standard library's own classes as always.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from flowtrace.host.objects import class_attribute, class_name, inherits, is_named, pairs_of
from flowtrace.host.signals import let_through
from flowtrace.host.system import datetime
from flowtrace.recording import failure
from flowtrace.recording.failure import type_of
from flowtrace.values.encode import TAG, encode
from flowtrace.values.json import loads
from flowtrace.values.redaction import MARKER
from flowtrace.values.shown import value_text

if TYPE_CHECKING:
    from flowtrace.recording.node import Policy
    from flowtrace.values.redaction import SecretNames

LONGEST: Final = 1000  # characters of a text
shortened: Final = partial(failure.shortened, longest=LONGEST)
_MOST_ARGUMENTS: Final = 50
_WORK: Final = 1000  # units that one argument may take: well below a millisecond
_NUMBERS: Final = frozenset(map(id, (type(None), bool, int, float)))
"""Ids of classes whose values are filled in as they are. Ids, since a metaclass may have an `__eq__` of its own."""
_ATOMS: Final = _NUMBERS | {id(str)}
_STANDARD: Final = frozenset(
    {
        *("decimal:Decimal", "fractions:Fraction", "uuid:UUID", "datetime:date", "datetime:timedelta"),
        *("pathlib:PosixPath", "pathlib:WindowsPath", "pathlib:PurePosixPath", "pathlib:PureWindowsPath"),
        *("pathlib._local:PosixPath", "pathlib._local:PurePosixPath"),
    }
)
"""Classes whose ``__str__`` needs no other object."""
_MOMENTS: Final = frozenset({"datetime:datetime", "datetime:time"})
_TEXTS_OF_ERRORS: Final = (BaseException.__dict__["__str__"], KeyError.__dict__["__str__"])
_args_of: Final = BaseException.__dict__["args"].__get__
_NOT_SHOWN: Final = ("event", "level", "logger", "timestamp", "exc_info", "stack_info", "stack")
"""Fields of structlog that stand elsewhere in the record, or say nothing about the event."""


class Texts:
    """Makes the texts of log records in one step.

    Args:
        policy: what to keep of values.
        secret: the test for names whose values are hidden.

    Attributes:
        hidden: texts of values that it has hidden.
    """

    __slots__ = ("_policy", "_secret", "hidden")

    def __init__(self, policy: Policy, secret: SecretNames) -> None:
        self._policy = policy
        self._secret = secret
        self.hidden: tuple[str, ...] = ()

    def message(self, message: object, args: object) -> str:
        """Return the text of a record, cut where it is long.

        Args:
            message: the ``msg`` of a `logging.LogRecord`: text with %-directives, or any object; of structlog, the
                fields of an event.
            args: its ``args``.
        """
        if type(message) is not str:
            if type(message) is dict and type(message.get("event")) is str:
                return self.event(message)
            if not inherits(type(message), str):
                return shortened(str(self._argument(message)))
        text = cut(str.__str__(message))  # pyright: ignore[reportArgumentType]
        return shortened(self._filled_in(text, args) if _is_filled(args) else text)

    def event(self, fields: dict[Any, Any], left_out: Iterable[str] = ()) -> str:
        """Return an event of structlog as text: what happened, then each field as ``name=value``.

        Args:
            fields: the event.
            left_out: names of fields that are not shown.
        """
        names = [name for name in list(fields) if type(name) is str and not name.startswith("_")]
        shown = [name for name in names if name not in (*_NOT_SHOWN, *left_out)][:_MOST_ARGUMENTS]
        parts = [f"{name}={self._field(name, fields.get(name))}" for name in shown]
        return shortened(" ".join([str(self._argument(fields.get("event"))), *parts]))

    def error(self, info: object) -> str | None:
        """Return type and text of the exception that a record was made with; None for none.

        Args:
            info: the ``exc_info`` of a record.
        """
        error: Any = info[1] if type(info) is tuple and len(info) == 3 else info
        if not inherits(type(error), BaseException):
            return None
        text = self._error_text(error)
        return shortened(f"{type_of(error)}: {text}" if text is not None else self.value_of(error))

    def _filled_in(self, text: str, args: Any) -> str:
        try:
            if type(args) is tuple and len(args) <= _MOST_ARGUMENTS:
                return text % tuple(map(self._argument, args))
            if type(args) is dict and len(args) <= _MOST_ARGUMENTS:
                return text % {name: self._named(name, item) for name, item in pairs_of(args) if type(name) is str}
        except Exception as error:  # too few of them, or of another kind: what `logging` would complain of
            let_through(error)
        return f"{text} {self.value_of(args)}"

    def _field(self, name: str, value: object) -> str:
        """Return a field of an event; in an object of its own, since its name may be that of a secret."""
        if id(type(value)) in _ATOMS and not self._secret(name):
            return repr(cut(value) if type(value) is str else value)
        shown: Any = self.tree_of({name: value})
        return cut(value_text(shown.get(name, shown) if type(shown) is dict else shown))

    def _named(self, name: str, value: object) -> Any:
        """Return what stands for a value with a name, which may be that of a secret."""
        if not self._secret(name):
            return self._argument(value)
        self.tree_of({name: value})
        return MARKER

    def _argument(self, value: object) -> Any:
        """Return what stands for a value where a text is filled in."""
        kind = type(value)
        if id(kind) in _NUMBERS:
            return value
        if inherits(kind, str):
            return cut(str.__str__(value))  # pyright: ignore[reportArgumentType]
        return _Argument(self, value)

    def text_of(self, value: Any) -> str:
        """Return a value as ``%s`` shows it."""
        if inherits(type(value), BaseException):
            text = self._error_text(value)
            return self.value_of(value) if text is None else text
        return str(value) if _is_standard(value) else self.value_of(value)

    def value_of(self, value: object) -> str:
        """Return a value as ``%r`` shows it."""
        return cut(value_text(self.tree_of(value)))

    def tree_of(self, value: object) -> Any:
        """Return the canonical form of a value; None where it takes too much work."""
        encoded = encode(value, secret=self._secret, redactor=self._policy.redactor, work=_WORK)
        self.hidden += encoded.secrets
        return None if encoded.data is None else loads(encoded.data)

    def _error_text(self, error: Any) -> str | None:
        """Return the text of an error whose class leaves it to Python; None for any other."""
        describe = class_attribute(type(error), "__str__")
        is_plain = all(id(type(item)) in _ATOMS for item in _args_of(error))
        if not is_plain or not any(describe is own for own in _TEXTS_OF_ERRORS):
            return None
        return cut(describe(error))


class _Argument:
    """Stands for a value that is no number and no text: as text in words, as a number where it has one."""

    __slots__ = ("_texts", "_value")

    def __init__(self, texts: Texts, value: object) -> None:
        self._texts = texts
        self._value = value

    def __str__(self) -> str:
        return self._texts.text_of(self._value)

    def __repr__(self) -> str:
        return self._texts.value_of(self._value)

    def __float__(self) -> float:
        return float(_number(self._texts.tree_of(self._value)))

    def __index__(self) -> int:
        return int(_number(self._texts.tree_of(self._value)))


def _is_filled(args: Any) -> bool:
    """Return True if a record has arguments, as ``if args`` does, whose answer may be code of the program."""
    kind = type(args)
    return bool(args) if id(kind) in _ATOMS or kind is tuple or kind is dict else True


def _is_standard(value: Any) -> bool:
    """Return True if a value's class is one of the standard library whose ``__str__`` runs no code of the program's."""
    name = class_name(type(value))
    if name in _MOMENTS:
        zone = value.tzinfo if is_named(type(value)) else value
        return zone is None or type(zone) is datetime.timezone
    return name in _STANDARD and is_named(type(value))


def _number(tree: Any) -> Any:
    """Return the number that a value's canonical form has; TypeError where it has none."""
    found = tree.get("value") if type(tree) is dict else tree
    if type(found) is str and type(tree) is dict and tree.get(TAG) == "decimal":
        return float(found)
    if type(found) not in (bool, int, float):
        raise TypeError("not a number")
    return found


def cut(text: str) -> str:
    """Return a text, or so much of it that what is made of it is cut behind that."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST + 1]}... ({len(text)} characters)"
