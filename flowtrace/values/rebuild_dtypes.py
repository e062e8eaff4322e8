"""The types of columns from their texts: of polars, Arrow and NumPy. Nothing is evaluated; other texts are refused."""

from __future__ import annotations

import ast
from typing import Any, Final

from flowtrace.errors import RebuildError
from flowtrace.host.system import re

_LONGEST: Final = 20_000
_POLARS_PLAIN: Final = re.compile(
    r"U?Int(8|16|32|64|128)|Float(16|32|64)|String|Boolean|Binary|Date|Time|Null|Categorical", re.ASCII
)
_POLARS_MADE: Final = frozenset({"List", "Array", "Struct", "Decimal", "Enum", "Datetime", "Duration", "Categorical"})
_ARROW_LISTS: Final = {"list": "list_", "large_list": "large_list", "fixed_size_list": "list_"}


def _refused(text: str) -> RebuildError:
    return RebuildError(f"a column of {text:.80} can't be rebuilt")


def polars_type(text: str, polars: Any) -> Any:
    """Return a dtype of polars from its text, such as ``List(Datetime(time_unit='us', time_zone=None))``."""
    if len(text) > _LONGEST:
        raise _refused(text)
    try:
        return _polars_part(ast.parse(text, mode="eval").body, polars)
    except (SyntaxError, ValueError, TypeError) as error:
        raise _refused(text) from error


def _polars_part(node: ast.expr, polars: Any) -> Any:
    if isinstance(node, ast.Name) and _POLARS_PLAIN.fullmatch(node.id):
        return getattr(polars, node.id)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _POLARS_MADE:
        named = {part.arg: _polars_part(part.value, polars) for part in node.keywords if part.arg}
        return getattr(polars, node.func.id)(*(_polars_part(part, polars) for part in node.args), **named)
    if isinstance(node, ast.Dict):
        names = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(names, (_polars_part(part, polars) for part in node.values), strict=True))
    return ast.literal_eval(node)


def numpy_type(text: str, numpy: Any) -> Any:
    """Return a dtype of NumPy from its text, which is that of a list or a dictionary where it has fields."""
    if text == "StringDType()":
        return numpy.dtypes.StringDType()
    record = text.removeprefix("(numpy.record, ")
    if record != text:
        return numpy.dtype((numpy.record, numpy_type(record.removesuffix(")"), numpy)))
    return numpy.dtype(ast.literal_eval(text) if text[:1] in ("[", "{") and len(text) < _LONGEST else text)


def arrow_type(text: str, pyarrow: Any) -> Any:
    """Return a type of Arrow from its text, such as ``struct<a: int64, b: list<item: string>>``."""
    reader = _ArrowReader(text, pyarrow)
    found = reader.type()
    if reader.rest:
        raise _refused(text)
    return found


class _ArrowReader:
    """Reads the text of one type from its beginning to its end.

    Args:
        text: the text.
        pyarrow: the library.

    Attributes:
        rest: what was not read yet.
    """

    def __init__(self, text: str, pyarrow: Any) -> None:
        self.rest = text
        self._text = text
        self._pyarrow = pyarrow

    def _take(self, expression: str) -> re.Match[str]:
        found = re.match(expression, self.rest)
        if found is None:
            raise _refused(self._text)
        self.rest = self.rest[found.end() :]
        return found

    def _goes_on(self, begin: str) -> bool:
        if not self.rest.startswith(begin):
            return False
        self.rest = self.rest[len(begin) :]
        return True

    def type(self) -> Any:
        """Read a type."""
        name = self._take(r"\w+")[0]
        if name in _ARROW_LISTS and self._goes_on("<"):
            item = self._field()
            self._take(">")
            sizes = [int(self._take(r"\[(\d+)\]")[1])] if name == "fixed_size_list" else []
            return getattr(self._pyarrow, _ARROW_LISTS[name])(item, *sizes)
        if self._goes_on("<"):
            return self._with_parts(name)
        if self._goes_on("("):
            return getattr(self._pyarrow, self._name_of_decimal(name))(
                *map(int, self._take(r"(\d+), (-?\d+)\)").groups())
            )
        return self._with_unit(name, self._take(r"(?:\[([^\]]*)\])?"))

    def _name_of_decimal(self, name: str) -> str:
        if re.fullmatch(r"decimal(32|64|128|256)", name) is None:
            raise _refused(self._text)
        return name

    def _with_unit(self, name: str, unit: re.Match[str]) -> Any:
        if name == "fixed_size_binary":
            return self._pyarrow.binary(int(unit[1]))
        if name == "timestamp" and ", tz=" in unit[1]:
            return self._pyarrow.timestamp(*unit[1].split(", tz=", 1))
        return self._pyarrow.type_for_alias(name + unit[0])

    def _field(self) -> Any:
        name = self._take(r"([^<>]*?): ")[1]
        found = self.type()
        return self._pyarrow.field(name, found, nullable=not self._goes_on(" not null"))

    def _with_parts(self, name: str) -> Any:
        if name == "struct":
            fields: list[Any] = []
            while not self._goes_on(">"):
                fields.append(self._field())
                self._goes_on(", ")
            return self._pyarrow.struct(fields)
        if name == "map":
            key, _, item = self.type(), self._take(", "), self.type()
            is_sorted = self._goes_on(", keys_sorted")
            self._take(">")
            return self._pyarrow.map_(key, item, keys_sorted=is_sorted)
        if name == "dictionary":
            self._take("values=")
            values = self.type()
            self._take(", indices=")
            indices = self.type()
            return self._pyarrow.dictionary(indices, values, self._take(r", ordered=([01])>")[1] == "1")
        raise _refused(self._text)
