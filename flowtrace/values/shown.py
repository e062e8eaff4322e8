"""A captured value as text for people: in Python's words (``None``, ``Decimal('1.50')``, ``Line(sku='A-1')``).

Whatever shows values uses this, so that a value looks the same everywhere. Nothing of a value's class is loaded.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from typing import Any, Final

from flowtrace.values.encoded import TAG
from flowtrace.values.json import bytes_of_tree

TOO_DEEP: Final = "(nested too deeply to be shown)"
_LONGEST_NUMBER: Final = 400  # hex digits; Python limits how many decimal digits it writes
_RECORDS: Final = frozenset({"dataclass", "struct", "attrs", "pydantic", "namedtuple", "namespace"})
_SIMPLE: Final = {"decimal": "Decimal", "uuid": "UUID", "date": "date", "time": "time", "datetime": "datetime"}
_ITEMS: Final = {
    **dict.fromkeys(("list", "deque"), ("[", "]")),
    **dict.fromkeys(("set", "frozenset"), ("{", "}")),
    "tuple": ("(", ")"),
}


class _Text:
    """Something that `repr` writes as a text that is ready."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def value_text(value: object) -> str:
    """Return a captured value in Python's words, on one line.

    Args:
        value: JSON-like objects of canonical JSON.

    Returns:
        The text, with what is not printable in texts escaped; names in it may still hold anything.
    """
    data = bytes_of_tree(value)
    if data is None:
        return TOO_DEEP
    try:
        return repr(_shown(value) if b'"$py"' in data else value)
    except RecursionError:
        return TOO_DEEP


def _shown(value: Any) -> Any:
    """Return a value with a `_Text` in the place of each tagged form."""
    if isinstance(value, list):
        return [_shown(item) for item in value]
    if not isinstance(value, dict):
        return value
    if TAG not in value:
        return {name: _shown(item) for name, item in value.items()}
    try:
        return _Text(_form(value))
    except (LookupError, TypeError, ValueError, AttributeError):  # it is of another form than flowtrace's
        return _Text(_call(str(value[TAG]), _fields(value)))


def _form(form: dict[str, Any]) -> str:
    kind = form[TAG]
    if kind in _RECORDS:
        return _record(kind, form)
    if kind in _ITEMS:
        return _items(kind, form)
    make = _KINDS.get(kind)
    return _call(str(kind), _fields(form)) if make is None else make(form)


def _text(value: Any) -> str:
    return repr(_shown(value))


def _class(form: dict[str, Any], default: str = "") -> str:
    """Return the name of a form's class without its module."""
    name = form.get("class", default)
    return name.rpartition(":")[2] if isinstance(name, str) else default


def _fields(form: dict[str, Any]) -> list[str]:
    return [f"{name}={_text(item)}" for name, item in form.items() if name != TAG]


def _call(name: str, arguments: list[str]) -> str:
    return f"{name}({', '.join(arguments)})"


def _record(kind: str, form: dict[str, Any]) -> str:
    fields = {**form["fields"], **form.get("state", {})}
    return _call(_class(form, "SimpleNamespace" if kind == "namespace" else kind), _members(fields))


def _members(fields: dict[str, Any]) -> list[str]:
    return [f"{name}={_text(item)}" for name, item in fields.items()]


def _items(kind: str, form: dict[str, Any]) -> str:
    opener, closer = _ITEMS[kind]
    items = [_text(item) for item in form["items"]]
    text = f"{opener}{', '.join(items)}{',' if kind == 'tuple' and len(items) == 1 else ''}{closer}"
    name = _class(form, "" if kind in ("list", "tuple", "set") else kind)
    if kind in ("set", "frozenset") and not items:
        return f"{name or kind}()"
    return f"{name}({text})" if name else text


def _dict(form: dict[str, Any]) -> str:
    text = f"{{{', '.join(f'{_text(key)}: {_text(item)}' for key, item in form['items'])}}}"
    return f"{_class(form)}({text})" if "class" in form else text


def _number(form: dict[str, Any]) -> str:
    if "hex" in form:
        return str(int(form["hex"], 16)) if len(form["hex"]) < _LONGEST_NUMBER else str(form["hex"])
    return _of_class(form)


def _of_class(form: dict[str, Any]) -> str:
    """Return a value of a class that holds one: ``Name('Ada')``."""
    return f"{_class(form)}({_text(form['value'])})" if "class" in form else str(form["value"])


def _bytes(form: dict[str, Any]) -> str:
    text = repr(b64decode(form["base64"], validate=True))
    return text if form[TAG] == "bytes" else f"{form[TAG]}({text})"


def _simple(form: dict[str, Any]) -> str:
    rest = [str(form[name]) for name in ("offset", "zone") if name in form]
    return _call(_SIMPLE[form[TAG]], [" ".join([repr(form["value"])[:-1], *rest]) + "'"])


def _timedelta(form: dict[str, Any]) -> str:
    return _call("timedelta", [f"{name}={form[name]}" for name in ("days", "seconds", "microseconds") if form[name]])


def _path(form: dict[str, Any]) -> str:
    return f"{'PurePath' if form.get('pure') else 'Path'}({form['value']!r})"


def _exception(form: dict[str, Any]) -> str:
    return _call(_class(form), [_text(item) for item in form["args"]])


def _cut(form: dict[str, Any]) -> str:
    seen = f", after {form['count']}" if "count" in form else ""
    size = f", {form['size']} bytes" if "size" in form else ""
    return f"<cut: {form['reason']}{seen}{size}>"


def _named(form: dict[str, Any]) -> str:
    name = form["class"] if form[TAG] == "type" else form["name"]
    return f"<{'class' if form[TAG] == 'type' else form[TAG]} {name.replace(':', '.')}>"


def _generator(form: dict[str, Any]) -> str:
    returned = f", returned={_text(form['returned'])}" if form.get("returned") is not None else ""
    return f"generator({_text(form['items'])}{returned})"


_KINDS: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "dict": _dict,
    "int": _number,
    "float": _of_class,
    "str": _of_class,
    "bool": _of_class,
    **dict.fromkeys(("bytes", "bytearray"), _bytes),
    **dict.fromkeys(_SIMPLE, _simple),
    "complex": lambda form: str(complex(form["real"], form["imag"])),
    "fraction": lambda form: f"Fraction({form['numerator']}, {form['denominator']})",
    "timedelta": _timedelta,
    "zone": lambda form: f"ZoneInfo({form['zone']!r})",
    "path": _path,
    "ip": _of_class,
    "range": lambda form: (
        f"range({form['start']}, {form['stop']}" + (f", {form['step']})" if form["step"] != 1 else ")")
    ),
    "slice": lambda form: _call("slice", [_text(form[name]) for name in ("start", "stop", "step")]),
    "pattern": lambda form: f"re.compile({form['pattern']!r})",
    "enum": lambda form: f"{_class(form)}.{form['name']}",
    "exception": _exception,
    **dict.fromkeys(("type", "function", "module"), _named),
    "opaque": lambda form: f"<{_class(form)}, opaque>",
    "cut": _cut,
    "cycle": lambda form: f"<itself, {form['up']} up>",
    "missing": lambda _: "<not set>",
    "ellipsis": lambda _: "...",
    "notimplemented": lambda _: "NotImplemented",
    "codec": _of_class,
    "generator": _generator,
    "numpy.scalar": lambda form: f"{form['dtype'].lstrip('<>|=')}({_text(form['value'])})",
}
