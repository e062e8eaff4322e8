"""The bindings: every place where a function can be defined, and how the program reaches it there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from textwrap import indent
from typing import Any

from .shapes import SETTLE, Shape

PARAMETERS = "value, /, other: int = 2, *args: str, key: Plan | None = None, **kwargs: object"


@dataclass(frozen=True)
class Binding:
    """One place of a function.

    Attributes:
        name: what the results call it.
        source: the program, where ``{function}`` at the start of a line stands for the function's source.
        reach: takes the program's names, and returns the function as a user reaches it to call it.
        stored: the same for the object that is really kept there; None where that is the same.
        receiver: the function's first parameter, with a comma.
        itself: how the body names the function; empty where it can't.
        stack: the decorators, outermost first.
        target: name of the function.
    """

    name: str
    source: str
    reach: Callable[[dict[str, Any]], Any]
    stored: Callable[[dict[str, Any]], Any] | None = None
    receiver: str = ""
    itself: str = "target"
    stack: tuple[str, ...] = ("@decorate",)
    target: str = "target"


def _in_class(name: str, reach: Callable[[dict[str, Any]], Any], **changes: Any) -> Binding:
    """Return a binding in a class called Host."""
    values = {
        "source": "class Host:\n    {function}\n",
        "stored": lambda names: names["Host"].__dict__["target"],
        "receiver": "self, ",
        "itself": "self.target",
        **changes,
    }
    return Binding(name, reach=reach, **values)


def _of_object(names: dict[str, Any]) -> Any:
    return names["host"].target


def _of_class(names: dict[str, Any]) -> Any:
    return names["Host"].target


_OBJECT = "class Host:\n    {function}\nhost = Host()\n"
_CHILD = "class Base:\n    {function}\nclass Host(Base):\n    pass\nhost = Host()\n"
_SUPER = """\
class Base:
    {function}
class Host(Base):
    def target(self, /, *args, **kwargs):
        return super().target(*args, **kwargs)
host = Host()
"""
_BOTH = """\
class Base:
    @decorate
    def target(self, *args, **kwargs):
        raise NotImplementedError
class Host(Base):
    {function}
host = Host()
"""
_DATACLASS = """\
@dataclasses.dataclass{options}
class Host:
    number: int = 3
    {function}
host = Host()
"""
_ABSTRACT = """\
class Base(abc.ABC):
    @abc.abstractmethod
    @decorate
    def target(self): ...
class Host(Base):
    {function}
host = Host()
"""
_ABSTRACT_OUTSIDE = """\
class Base(abc.ABC):
    @decorate
    @abc.abstractmethod
    def target(self): ...
class Host(Base):
    {function}
host = Host()
"""
_PROTOCOL = """\
@typing.runtime_checkable
class Form(typing.Protocol):
    @decorate
    def target(self, *args, **kwargs): ...
class Host:
    {function}
host = Host()
assert isinstance(host, Form)
"""
_EXPLICIT_PROTOCOL = """\
class Form(typing.Protocol):
    {function}
class Host(Form):
    pass
host = Host()
"""
_DESCRIPTOR = """\
class Field:
    def __init__(self, function):
        self.function = function
    def __get__(self, instance, owner=None):
        return self if instance is None else self.function.__get__(instance, owner)
class Host:
    {function}
    target = Field(target)
host = Host()
"""
_LAZY = """\
class Host:
    @property
    def target(self):
        {function}
        return target
host = Host()
"""
_CACHED = """\
class Host:
    @functools.cached_property
    def target(self):
        {function}
        return target
host = Host()
"""
_CALLABLE = """\
class Host:
    {function}
target = Host()
"""
_INSTANCE = """\
class Host:
    {function}
target = decorate(Host())
"""
_META = """\
class Meta(type):
    {function}
class Host(metaclass=Meta):
    pass
"""
_NESTED = """\
def outer():
    seen = []
    {function}
    return target
target = outer()
"""
_ENUM = """\
class Host(enum.Enum):
    ONE = 1
    {function}
host = Host.ONE
"""
_NAMED_TUPLE = """\
class Host(typing.NamedTuple):
    number: int = 3
    {function}
host = Host()
"""
_GENERIC = """\
T = typing.TypeVar("T")
class Host(typing.Generic[T]):
    {function}
host = Host[int]()
"""
_PLAIN_WRAPPER = """\
def passing(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper
"""


BINDINGS = (
    Binding("module function", "{function}\n", lambda names: names["target"]),
    Binding("nested function", _NESTED, lambda names: names["target"]),
    Binding("decorated twice", "{function}\n", lambda names: names["target"], stack=("@decorate", "@decorate")),
    Binding(
        "under another decorator",
        _PLAIN_WRAPPER + "{function}\n",
        lambda names: names["target"],
        stack=("@passing", "@decorate"),
    ),
    Binding(
        "over another decorator",
        _PLAIN_WRAPPER + "{function}\n",
        lambda names: names["target"],
        stack=("@decorate", "@passing"),
    ),
    Binding(
        "functools.partial, decorator inside",
        "{function}\ntarget = functools.partial(target)\n",
        lambda names: names["target"],
    ),
    Binding(
        "functools.partial, decorator outside",
        "{function}\ntarget = decorate(functools.partial(target))\n",
        lambda names: names["target"],
        stack=(),
    ),
    _in_class("method", _of_object, source=_OBJECT),
    _in_class(
        "method, reached through the class",
        lambda names: names["Host"].target,
        source="class Host:\n    {function}\n",
    ),
    _in_class(
        "method, decorated when bound",
        lambda names: names["target"],
        stored=None,
        source="class Host:\n    {function}\nhost = Host()\ntarget = decorate(host.target)\n",
        stack=(),
        itself="target",
    ),
    _in_class(
        "method, put into the class later",
        _of_object,
        source="class Host:\n    {function}\nHost.target = decorate(Host.target)\nhost = Host()\n",
        stack=(),
    ),
    _in_class("inherited method", _of_object, source=_CHILD, stored=None),
    _in_class("method called with super()", _of_object, source=_SUPER),
    _in_class("method that overrides a decorated one", _of_object, source=_BOTH),
    _in_class(
        "class method, decorator outside",
        _of_class,
        receiver="cls, ",
        itself="cls.target",
        stack=("@decorate", "@classmethod"),
    ),
    _in_class(
        "class method, decorator inside",
        _of_class,
        receiver="cls, ",
        itself="cls.target",
        stack=("@classmethod", "@decorate"),
    ),
    _in_class(
        "class method, reached through an object",
        _of_object,
        receiver="cls, ",
        itself="cls.target",
        stack=("@decorate", "@classmethod"),
        source=_OBJECT,
    ),
    _in_class(
        "inherited class method",
        _of_class,
        receiver="cls, ",
        itself="cls.target",
        stack=("@decorate", "@classmethod"),
        source=_CHILD,
        stored=None,
    ),
    _in_class(
        "static method, decorator outside",
        _of_class,
        receiver="",
        itself="Host.target",
        stack=("@decorate", "@staticmethod"),
    ),
    _in_class(
        "static method, decorator inside",
        _of_class,
        receiver="",
        itself="Host.target",
        stack=("@staticmethod", "@decorate"),
    ),
    _in_class(
        "static method, reached through an object",
        _of_object,
        receiver="",
        itself="Host.target",
        stack=("@decorate", "@staticmethod"),
        source=_OBJECT,
    ),
    _in_class(
        "metaclass method",
        _of_class,
        source=_META,
        receiver="cls, ",
        itself="cls.target",
        stored=lambda names: names["Meta"].__dict__["target"],
    ),
    _in_class(
        "__call__",
        lambda names: names["target"],
        source=_CALLABLE,
        target="__call__",
        itself="self",
        stored=lambda names: names["Host"].__dict__["__call__"],
    ),
    _in_class(
        "callable object",
        lambda names: names["target"],
        source=_INSTANCE,
        target="__call__",
        itself="self",
        stored=None,
        stack=(),
    ),
    _in_class(
        "decorated class", _of_object, source="@decorate\nclass Host:\n    {function}\nhost = Host()\n", stack=()
    ),
    _in_class(
        "class method of a decorated class",
        _of_class,
        source="@decorate\nclass Host:\n    {function}\n",
        stack=("@classmethod",),
        receiver="cls, ",
        itself="cls.target",
    ),
    _in_class(
        "static method of a decorated class",
        _of_class,
        source="@decorate\nclass Host:\n    {function}\n",
        stack=("@staticmethod",),
        receiver="",
        itself="Host.target",
    ),
    _in_class("dataclass", _of_object, source=_DATACLASS.replace("{options}", "")),
    _in_class(
        "frozen dataclass with slots", _of_object, source=_DATACLASS.replace("{options}", "(frozen=True, slots=True)")
    ),
    _in_class("decorated dataclass", _of_object, source="@decorate\n" + _DATACLASS.replace("{options}", ""), stack=()),
    _in_class(
        "class with __slots__", _of_object, source="class Host:\n    __slots__ = ()\n    {function}\nhost = Host()\n"
    ),
    _in_class("abstract method overridden", _of_object, source=_ABSTRACT),
    _in_class("abstract method overridden, decorator outside", _of_object, source=_ABSTRACT_OUTSIDE),
    _in_class("member of a Protocol", _of_object, source=_PROTOCOL),
    _in_class("method inherited from a Protocol", _of_object, source=_EXPLICIT_PROTOCOL, stored=None),
    _in_class(
        "descriptor of its own",
        _of_object,
        source=_DESCRIPTOR,
        stored=lambda names: names["Host"].__dict__["target"].function,
    ),
    _in_class("property that returns it", _of_object, source=_LAZY, receiver="", itself="target", stored=None),
    _in_class("cached_property that returns it", _of_object, source=_CACHED, receiver="", itself="target", stored=None),
    _in_class(
        "partialmethod",
        _of_object,
        source="class Host:\n    {function}\n    target = functools.partialmethod(target)\nhost = Host()\n",
        stored=None,
    ),
    _in_class("enum member's method", _of_object, source=_ENUM),
    _in_class("named tuple's method", _of_object, source=_NAMED_TUPLE),
    _in_class("method of a generic class", _of_object, source=_GENERIC),
)

_HEADER = """\
from __future__ import annotations
import abc, dataclasses, enum, functools, types, typing
"""


def program(shape: Shape, binding: Binding) -> str:
    """Return the source of a program that defines a function of a shape in a binding, decorated with ``decorate``."""
    stack = [*binding.stack, shape.above] if shape.above else list(binding.stack)
    if shape.below and "@decorate" in stack:
        stack.remove("@decorate")
        stack.append("@decorate")
    lines = [
        *stack,
        f"{shape.head} {binding.target}({binding.receiver}{PARAMETERS}) -> object:",
        shape.body.replace("{itself}", binding.itself),
    ]
    return _HEADER + _place(binding.source, "\n".join(lines))


def lambda_program(shape: Shape) -> str:
    """Return the source of a program whose function is a lambda."""
    expression = f"lambda value, /, other=2, *args, key=None, **kwargs: {shape.expression}"
    settle = "def settle(value, other, args, key, kwargs):\n" + indent(SETTLE, "    ")
    return f"{_HEADER}{settle}target = decorate({expression})\n"


def _place(source: str, function: str) -> str:
    """Put a function's source where ``{function}`` stands, as deep as that is."""
    placed: list[str] = []
    for line in source.splitlines():
        if line.strip() == "{function}":
            placed.append(indent(function, line[: len(line) - len(line.lstrip())]))
        else:
            placed.append(line)
    return "\n".join(placed) + "\n"
