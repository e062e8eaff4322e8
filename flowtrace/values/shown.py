"""A captured value as people read it: in Python's words (``None``, ``Decimal('1.50')``, ``Line(sku='A-1')``).

Whatever shows values takes its words from here, so that a value looks the same everywhere. Nothing of a value's class
is loaded. Texts in the result are escaped as `repr` does; names of classes and attributes may still hold anything.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from flowtrace.values.arrays_in_short import FindArray, in_short
from flowtrace.values.encoded import TAG
from flowtrace.values.json import bytes_of_tree

TOO_DEEP: Final = "(nested too deeply to be shown)"
MALFORMED: Final = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
"""What is raised where a tagged form is not one of flowtrace's."""
_CONTAINERS: Final = (dict, list)
_BINARY: Final = ("bytes", "bytearray")
_BYTES: Final = 24  # of them are shown where a value is not shown in full
_LONGEST_NUMBER: Final = 400  # hex digits; Python limits how many decimal digits it writes
_BARE: Final = frozenset({"int", "float", "complex", "bytes", "ellipsis", "NotImplementedType", "NAType", "NaTType"})
_NO_TEXT: Final = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|-?inf|nan|b?'.*'|b?\".*\"", re.DOTALL | re.IGNORECASE)
_BRACKETS: Final = {
    **dict.fromkeys(("list", "deque"), ("[", "]")),
    **dict.fromkeys(("set", "frozenset"), ("{", "}")),
    "tuple": ("(", ")"),
}


# --- values without parts


def class_name(name: object) -> str:
    """Return a class's name as its module writes it; a trace has ``module:qualname``."""
    return str(name).rpartition(":")[2]


def leaf(form: dict[str, Any]) -> tuple[str, str] | None:
    """Return the type and the text of a tagged form without parts; None where it has parts, or is of no known kind.

    Raises:
        MALFORMED: it is of another form than flowtrace's.
    """
    make = _LEAVES.get(form[TAG])
    return None if make is None else make(form)


def hidden(form: dict[str, Any]) -> str | None:
    """Return what stands for a part that is opaque or was cut; None for any other form."""
    kind = form[TAG]
    if kind == "opaque":
        return f"opaque: {class_name(form.get('class', '?'))}"
    if kind != "cut":
        return None
    count, size = form.get("count"), form.get("size")
    seen = f" after {count:,}" if isinstance(count, int) and count else ""
    total = f", {size:,} bytes" if isinstance(size, int) and not seen else ""
    return f"cut ({str(form.get('reason', '?'))[:40]}){seen}{total}"


def as_python(kind: str, text: str) -> str:
    """Return the type and the text of a value as Python's ``repr`` would have them.

    Args:
        kind: the type's name.
        text: as `leaf` returns it.
    """
    if kind in _BARE or text.startswith((f"{kind}.", f"{kind}(", "<")):
        return text
    return f"{kind}({text!r})" if kind == "Decimal" or not _NO_TEXT.fullmatch(text) else f"{kind}({text})"


def _of_class(name: str) -> Callable[[dict[str, Any]], tuple[str, str]]:
    return lambda form: (class_name(form.get("class", name)), str(form["value"]))


def _bytes(form: dict[str, Any]) -> tuple[str, str]:
    name = class_name(form.get("class", form[TAG]))
    if "base64" not in form:
        return name, f"<{form.get('size', '?')} bytes>"
    data = b64decode(form["base64"])
    return name, f"{data[:_BYTES]!r}" if len(data) <= _BYTES else f"<{data[:_BYTES]!r}…, {len(data):,} bytes>"


def _integer(form: dict[str, Any]) -> tuple[str, str]:
    digits = form.get("hex", "")
    is_short = isinstance(digits, str) and 0 < len(digits) < _LONGEST_NUMBER
    return class_name(form.get("class", "int")), str(int(digits, 16)) if is_short else str(digits or form["value"])


def _string(form: dict[str, Any]) -> tuple[str, str]:
    text = repr(form["value"]) if "value" in form else repr(b64decode(form["surrogates"]))
    return class_name(form.get("class", "str")), text


def _moment(form: dict[str, Any]) -> tuple[str, str]:
    return form[TAG], f"{form['value']} {form.get('zone', form.get('offset', ''))}".strip()


def _named(form: dict[str, Any]) -> tuple[str, str]:
    return form[TAG], f"<{form[TAG]} {str(form['name']).replace(':', '.')}>"


def _range(form: dict[str, Any]) -> tuple[str, str]:
    return form[TAG], f"{form[TAG]}({', '.join(str(form[name]) for name in ('start', 'stop', 'step'))})"


_LEAVES: Final[dict[str, Callable[[dict[str, Any]], tuple[str, str]]]] = {
    "float": _of_class("float"),
    "bool": _of_class("bool"),
    "int": _integer,
    "str": _string,
    **dict.fromkeys(_BINARY, _bytes),
    "complex": lambda form: ("complex", f"({form['real']:g}{form['imag']:+g}j)"),
    "decimal": _of_class("Decimal"),
    "fraction": lambda form: ("Fraction", f"{form['numerator']}/{form['denominator']}"),
    "uuid": _of_class("UUID"),
    "date": _of_class("date"),
    **dict.fromkeys(("time", "datetime"), _moment),
    "timedelta": lambda form: ("timedelta", str(timedelta(form["days"], form["seconds"], form["microseconds"]))),
    "zone": lambda form: ("ZoneInfo", str(form["zone"])),
    "path": lambda form: ("Path", repr(form["value"])),
    "ip": _of_class("ip"),
    "range": _range,
    "pattern": lambda form: ("Pattern", repr(form["pattern"])),
    "enum": lambda form: (class_name(form["class"]), f"{class_name(form['class'])}.{form['name']}"),
    "type": lambda form: ("type", f"<class {str(form['class']).replace(':', '.')}>"),
    **dict.fromkeys(("function", "module"), _named),
    "ellipsis": lambda _: ("ellipsis", "..."),
    "notimplemented": lambda _: ("NotImplementedType", "NotImplemented"),
    "cycle": lambda form: ("cycle", f"<the value {form['up']} levels up>"),
    "missing": lambda _: ("missing", "<not set>"),
    "numpy.scalar": lambda form: (f"numpy {form['dtype']}", str(form["value"])),
    "numpy.dtype": _of_class("dtype"),
    "pandas.timestamp": _of_class("Timestamp"),
    "pandas.timedelta": _of_class("Timedelta"),
    "pandas.na": lambda _: ("NAType", "NA"),
    "pandas.nat": lambda _: ("NaTType", "NaT"),
    "tensor": lambda form: ("tensor", f"<tensor {form['dtype']}, {' x '.join(map(str, form['shape']))}>"),
}


# --- on one line


def value_text(value: object, find: FindArray | None = None) -> str:
    """Return a captured value on one line.

    Args:
        value: JSON-like objects of canonical JSON.
        find: finds the content of large arrays; of arrays and frames, the first rows are shown then. None shows all
            that the value itself holds.
    """
    if not isinstance(value, _CONTAINERS):
        return repr(value)
    data = bytes_of_tree(value)
    if data is None:
        return TOO_DEEP
    try:
        return _Writer(find).text(value) if b'"$py"' in data else repr(value)
    except RecursionError:
        return TOO_DEEP


def short_text(value: object, length: int) -> str:
    """Return a captured value on one line, cut where it takes more than so many characters."""
    text = value_text(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."


class _Writer:
    """Writes values in words where they are tagged forms, and as `repr` does where they are not."""

    __slots__ = ("_find",)

    def __init__(self, find: FindArray | None) -> None:
        self._find = find

    def text(self, value: Any) -> str:
        """Return a value in words."""
        if isinstance(value, list):
            return f"[{', '.join([self.text(item) for item in value])}]"
        if not isinstance(value, dict):
            return repr(value)
        if TAG not in value:
            return f"{{{', '.join([f'{name!r}: {self.text(item)}' for name, item in value.items()])}}}"
        try:
            return self._form(value)
        except MALFORMED:
            return self._call(str(value[TAG]), {name: item for name, item in value.items() if name != TAG})

    def _form(self, form: dict[str, Any]) -> str:
        kind, name = form[TAG], class_name(form.get("class", form[TAG]))
        missing = hidden(form)
        if missing is not None:
            return f"<{missing}>"
        short = None if self._find is None else in_short(form, self._find)
        if short is not None:
            ((title, rows),) = short.items()
            return f"<{title}: {self.text(rows)}>"
        found = (name, repr(b64decode(form["base64"]))) if kind in _BINARY and "base64" in form else leaf(form)
        return self._with_parts(kind, name, form) if found is None else as_python(*found)

    def _with_parts(self, kind: str, name: str, form: dict[str, Any]) -> str:
        if kind == "dict":
            pairs = ", ".join(f"{self.text(key)}: {self.text(item)}" for key, item in form["items"])
            return f"{name}({{{pairs}}})" if "class" in form else f"{{{pairs}}}"
        if kind in _BRACKETS:
            return self._items(kind, name, form)
        if kind == "exception":
            return f"{name}({', '.join(map(self.text, form['args']))})"
        if kind == "codec":
            return f"{name}({self.text(form['value'])})"
        if isinstance(form.get("fields"), dict):
            return self._call(name, {**form["fields"], **form.get("state", {})})
        return self._call(name, {key: item for key, item in form.items() if key not in (TAG, "class")})

    def _call(self, name: str, arguments: dict[str, Any]) -> str:
        return f"{name}({', '.join(f'{key}={self.text(item)}' for key, item in arguments.items())})"

    def _items(self, kind: str, name: str, form: dict[str, Any]) -> str:
        opener, closer = _BRACKETS[kind]
        items = [self.text(item) for item in form["items"]]
        if kind in ("set", "frozenset") and not items:
            return f"{name}()"
        text = f"{opener}{', '.join(items)}{',' if kind == 'tuple' and len(items) == 1 else ''}{closer}"
        return text if name in ("list", "tuple", "set") else f"{name}({text})"
