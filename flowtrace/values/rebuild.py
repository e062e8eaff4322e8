"""Python values from their canonical JSON and the annotations of the parameters that take them.

Canonical JSON tags what JSON can't hold, so that most values have their type with them. The annotation decides the
rest: whether an array was a tuple, and which class a tag may name. Nothing is imported, unpickled or evaluated here. A
trace can't choose a class: a tag may name the annotation's class, a loaded subclass of it, or one that ``find_class``
returns.
"""

from __future__ import annotations

import builtins
import collections
import types
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice, repeat
from typing import Any, ClassVar, Final, Generic

from flowtrace.errors import RebuildError
from flowtrace.host.objects import MISSING, class_attribute, class_name, inherits, mro
from flowtrace.host.signals import let_through
from flowtrace.values import codecs
from flowtrace.values.annotations import (
    BASES,
    CONTAINERS,
    MAPPINGS,
    ROWS,
    Annotations,
    Bindings,
    class_below,
    fitting_member,
    hints_of,
    is_sure_of_tuples,
    is_typed_dict,
    members,
    parameters_of,
    shape,
    substitute,
    takes_items_of,
)
from flowtrace.values.encode import canonical_bytes
from flowtrace.values.encoded import npy_content
from flowtrace.values.forms import TAG
from flowtrace.values.json import loads
from flowtrace.values.rebuild_builtin import STANDARD
from flowtrace.values.rebuild_frames import FRAMES
from flowtrace.values.rebuild_records import MAKERS, enum_member, is_of_kind, restore_inner, set_attributes

FindClass = Callable[[str], type | None]
FindArray = Callable[[str], tuple[str, bytes] | None]
_DICTS: Final = {
    f"collections:{cls.__name__}": cls
    for cls in (collections.OrderedDict, collections.Counter, collections.defaultdict)
}
_ITEMS: Final = {"blake3": "items", "items": "items", "values": "values"}
_PLAIN_TYPES: Final = {
    class_name(cls): cls
    for cls in (
        *(object, str, int, float, bool, complex, bytes, bytearray, type(None)),
        *(list, tuple, dict, set, frozenset),
    )
}
_CONTAINERS: Final = frozenset({dict, list})
_MUTABLE: Final = (list, set, deque, bytearray)


def rebuild(content: object, hint: Any = Any) -> Any:
    """Return the Python value of canonical JSON.

    Args:
        content: JSON-like objects, as `json.loads` makes them of canonical JSON.
        hint: an annotation; it names the classes that may be used.

    Returns:
        The value; its canonical bytes are those of ``content``, unless its classes have changed since.

    Raises:
        RebuildError: the content is opaque, cut or malformed, or needs a class that the annotation does not name.
    """
    return Rebuilder().rebuild(content, hint)


def _refuse_finalizer(cls: type) -> None:
    """Refuse a class whose ``__del__`` would run with a state that its own code may never have made."""
    if class_attribute(cls, "__del__") is not MISSING:
        raise RebuildError(f"{class_name(cls)} has a __del__, which would run when the value is dropped")


def _no_class(_name: str) -> type | None:
    return None


def _no_array(_digest: str) -> tuple[str, bytes] | None:
    return None


def _has_atoms_alone(items: Collection[Any]) -> bool:
    """Return True if all items are atoms, which are what they were."""
    return _CONTAINERS.isdisjoint(map(type, items))


class Rebuilder:
    """Rebuilds values, and remembers the annotations of their classes.

    Args:
        find_class: returns the class with a name ``module:qualname`` if it may be used, else None.
        find_array: returns the content of a large array by the hash that stands for it: ``npy`` or ``json``, and the
            file's content; None where it was not kept.

    Attributes:
        unsure_arrays: how many arrays were rebuilt whose annotation does not say if they were lists or tuples.
    """

    def __init__(self, find_class: FindClass = _no_class, find_array: FindArray = _no_array) -> None:
        self.unsure_arrays = 0
        self._find_array = find_array
        self._in_objects = 0
        self._find_class = find_class
        self._hints: dict[int, tuple[type, dict[str, Any]]] = {}
        self._annotations = Annotations()

    def rebuild(self, content: Any, hint: Any = Any) -> Any:
        """Return the Python value of canonical JSON; see `flowtrace.values.rebuild.rebuild`."""
        try:
            return self._value(content, hint)
        except RecursionError:
            raise RebuildError("nested too deeply to be rebuilt") from None

    def _value(self, content: Any, hint: Any) -> Any:
        kind = type(content)
        if kind is dict:
            return self._tagged(content, hint) if TAG in content else self._mapping(content, hint)
        if kind is list:
            return self._array(content, hint)
        return content

    def _inside(self, token: object, content: Any, hint: Any) -> Any:
        try:
            return self._value(content, hint)
        except RebuildError as error:
            raise error.inside(token) from None

    # --- plain JSON

    def _mapping(self, content: dict[str, Any], hint: Any) -> dict[str, Any]:
        if _has_atoms_alone(content.values()):
            return dict(content)
        hint = fitting_member(content, hint)
        origin, arguments = shape(hint)
        if is_typed_dict(origin):
            hints = self._fields_of(origin, dict(zip(parameters_of(origin), arguments, strict=False)))
            return {key: self._inside(key, item, hints.get(key, Any)) for key, item in content.items()}
        inner = arguments[1] if origin in MAPPINGS and len(arguments) == 2 else Any
        return {key: self._inside(key, item, inner) for key, item in content.items()}

    def _array(self, content: list[Any], hint: Any) -> Any:
        array = self._annotations.array(hint)
        if array is None:
            self.unsure_arrays += not is_sure_of_tuples(content, hint)
            origin, arguments = shape(fitting_member(content, hint))
        else:
            self.unsure_arrays += not array.is_sure
            origin, arguments = array.shape
        items = self._items(content, origin, arguments)
        return tuple(items) if origin is tuple else items

    def _items(self, content: list[Any], origin: Any, arguments: tuple[Any, ...]) -> list[Any]:
        if _has_atoms_alone(content):
            return list(content)
        hints: Iterable[Any] = repeat(Any)
        if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
            hints = repeat(arguments[0])
        elif origin is tuple and len(arguments) == len(content):
            hints = arguments
        elif origin in ROWS and arguments:
            hints = repeat(arguments[0])
        return [
            self._inside(at, item, inner)
            for at, (item, inner) in enumerate(zip(content, islice(hints, len(content)), strict=True))
        ]

    def _frozen(self, token: object, content: Any, hint: Any = Any) -> Any:
        """Return a set item or a key, which must be hashable: an array was a tuple there."""
        unsure = self.unsure_arrays
        found = _hashable(self._inside(token, content, hint))
        self.unsure_arrays = unsure
        return found

    # --- tagged forms

    def _tagged(self, content: dict[str, Any], hint: Any) -> Any:
        kind = content[TAG]
        make = self._KINDS.get(kind) if isinstance(kind, str) else None
        if make is None:
            reason = _IMPOSSIBLE.get(kind) if isinstance(kind, str) else None
            raise RebuildError(reason or f"{kind!r:.80} is not a form that can be rebuilt")
        try:
            return make(self, content, hint)
        except (RebuildError, RecursionError):
            raise
        except BaseException as error:  # Rust code panics with one that is no Exception
            let_through(error)
            raise RebuildError(f"this {kind} can't be rebuilt: {type(error).__name__}: {error}") from error

    def _class(self, name: Any, hint: Any, base: type) -> tuple[type, Bindings]:
        """Return the class that a tag names, and the types that the annotation binds its parameters to.

        Args:
            name: ``module:qualname``.
            hint: the annotation of the value.
            base: what it must derive from.
        """
        if not isinstance(name, str):
            raise RebuildError("it does not name its class")
        named = self._annotations.class_named(name, hint, base)
        if named is not None:
            _refuse_finalizer(named[0])
            return named
        found = self._find_class(name)
        if found is not None and inherits(found, base):
            _refuse_finalizer(found)
            return found, {}
        raise RebuildError(f"the class {name:.200} is not the annotation's, nor in a module that may be used")

    def _fields_of(self, cls: type, bindings: Bindings) -> dict[str, Any]:
        if id(cls) not in self._hints:
            self._hints[id(cls)] = (cls, hints_of(cls))  # the class too: while it lives, no other one has its id
        hints = self._hints[id(cls)][1]
        return {name: substitute(hint, bindings) for name, hint in hints.items()} if bindings else hints

    def _subclass_of(self, content: dict[str, Any], hint: Any, base: type, value: Any) -> Any:
        """Return a value as one of the subclass that its tag names; as it is where the tag names none."""
        if "class" not in content:
            return value
        cls, _ = self._class(content["class"], hint, base)
        made: Any = base.__new__(cls, *_parts_of(value, base))
        if base is deque:
            deque.__init__(made, value, value.maxlen)
        elif base in _MUTABLE:
            vars(base)["__init__"](made, value)
        self._restore(made, content)
        return made

    def _restore(self, instance: Any, content: dict[str, Any]) -> None:
        if "state" in content:
            set_attributes(instance, self._named(content["state"], {}))

    def _named(self, content: dict[str, Any], hints: dict[str, Any]) -> dict[str, Any]:
        """Return the values of fields by name, but for those that were not set."""
        return {
            name: self._inside(name, item, hints.get(name, Any))
            for name, item in content.items()
            if not (type(item) is dict and item.get(TAG) == "missing")
        }

    def _standard(self, content: dict[str, Any], hint: Any) -> Any:
        kind, unsure, before = content[TAG], self.unsure_arrays, self._in_objects
        content = self._with_array(content) if kind in FRAMES else content
        inner = {name: item for name, item in content.items() if type(item) in (dict, list) and name != "state"}
        value = (STANDARD.get(kind) or FRAMES[kind])(
            content | {name: self._inside(name, item, Any) for name, item in inner.items()}
        )
        if kind == "array" and len(content["shape"]) == 1 and type(content.get("items")) is list:
            self._in_objects += sum(type(item) is list for item in content["items"])
        self.unsure_arrays = unsure + self._in_objects - before  # the arrays of the form itself are no values
        return self._subclass_of(content, hint, BASES[kind], value) if kind in BASES else value

    def _with_array(self, content: dict[str, Any]) -> dict[str, Any]:
        """Return the form of an array or a column with its content, where it has a hash in its place."""
        for name in {"blake3", "items", "values"} & content.keys():
            digest = content[name]
            found = self._find_array(digest) if type(digest) is str else None
            if found is not None:
                suffix, data = found
                return content | ({"data": npy_content(data)} if suffix == "npy" else {_ITEMS[name]: loads(data)})
        return content

    def _member(self, content: dict[str, Any], hint: Any, base: type) -> Any:
        """Return the annotation's member that a container fits, or else the first one that may be a container's."""
        found = fitting_member(content, hint)
        if found is not Any and takes_items_of(shape(found).origin, base):
            return found
        return next((member for member in members(hint) if takes_items_of(shape(member).origin, base)), Any)

    def _collection(self, content: dict[str, Any], hint: Any) -> Any:
        """A set, a frozenset, a deque, or a list or tuple of a subclass."""
        base = CONTAINERS[content[TAG]]
        hint = self._member(content, hint, base)
        origin, arguments = shape(hint)
        if base in (set, frozenset):
            inner = arguments[0] if arguments else Any
            values: Any = base(self._frozen(at, item, inner) for at, item in enumerate(content["items"]))
        else:
            values = self._items(content["items"], origin, arguments)
            values = deque(values, content["maxlen"]) if base is deque else base(values)
        return self._subclass_of(content, hint, base, values)

    def _dict(self, content: dict[str, Any], hint: Any) -> Any:
        hint = self._member(content, hint, dict)
        _, arguments = shape(hint)
        keys, values = arguments if len(arguments) == 2 else (Any, Any)
        pairs = {
            self._frozen(at, key, keys): self._inside(at, item, values)
            for at, (key, item) in enumerate(content["items"])
        }
        if "class" not in content:
            return pairs
        cls: type = _DICTS.get(content["class"]) or self._class(content["class"], hint, dict)[0]
        base: Any = next(item for item in mro(cls) if item in (collections.OrderedDict, collections.defaultdict, dict))
        made: Any = base.__new__(cls)
        for key, item in pairs.items():
            base.__setitem__(made, key, item)
        self._restore(made, content)
        return made

    def _namedtuple(self, content: dict[str, Any], hint: Any) -> Any:
        cls, bindings = self._record_class(content, hint)
        fields = self._named(content["fields"], self._fields_of(cls, bindings))
        made_of: Any = cls
        if set(fields) - set(made_of._fields):
            raise ValueError("its fields have changed")
        defaults = made_of._field_defaults
        made: Any = tuple.__new__(cls, [fields[name] if name in fields else defaults[name] for name in made_of._fields])
        self._restore(made, content)
        return made

    def _record_class(self, content: dict[str, Any], hint: Any) -> tuple[type, Bindings]:
        cls, bindings = self._class(content.get("class"), hint, object)
        kind = content[TAG]
        if not is_of_kind(kind, cls):
            raise RebuildError(f"{class_name(cls)} is not a {kind} any more")
        return cls, bindings

    def _record(self, content: dict[str, Any], hint: Any) -> Any:
        cls, bindings = self._record_class(content, hint)
        if "base" in content:
            raise RebuildError("a record that is an exception or a container too can't be rebuilt")
        kind = content[TAG]
        fields = self._named(content["fields"], self._fields_of(cls, bindings))
        made = MAKERS[kind](cls, fields, content["fields"].keys() - fields.keys())
        if kind == "pydantic":
            restore_inner(
                made, content.get("unset", ()), self._named(content["state"], {}) if "state" in content else None
            )
            return made
        state = dict(content.get("state", {}))
        alias = state.pop("__orig_class__", None)
        set_attributes(made, self._named(state, {}))
        if alias is not None and (generic := self._alias(alias, cls, hint)) is not None:
            set_attributes(made, {"__orig_class__": generic})
        return made

    def _alias(self, content: Any, cls: type, hint: Any) -> Any:
        """Return the alias by which a generic class was called, as ``Box[int]``; None where it is not known.

        It is the annotation, or has types in its brackets that any trace may name. A value without it has another hash.
        """
        for member in members(hint):
            if shape(member).origin is cls and loads(canonical_bytes(member)) == content:
                return member
        try:
            arguments = tuple(self._type(item, Any) for item in content["arguments"])
        except (KeyError, TypeError, RebuildError):
            return None
        generic, base = vars(Generic), next((item for item in mro(cls) if "__class_getitem__" in vars(item)), None)
        return generic["__class_getitem__"].__get__(None, cls)(arguments) if base is Generic else None

    def _enum(self, content: dict[str, Any], hint: Any) -> Any:
        cls, _ = self._record_class(content, hint)
        return enum_member(cls, content["name"], self._value(content["value"], Any))

    def _namespace(self, content: dict[str, Any], hint: Any) -> Any:
        base = types.SimpleNamespace
        cls: Any = self._class(content["class"], hint, base)[0] if "class" in content else base
        made = base.__new__(cls)
        set_attributes(made, self._named(content["fields"], {}))
        self._restore(made, content)
        return made

    def _exception(self, content: dict[str, Any], hint: Any) -> Any:
        module, _, name = str(content["class"]).partition(":")
        built_in = getattr(builtins, name, None) if module == "builtins" else None
        if isinstance(built_in, type) and issubclass(built_in, BaseException):
            cls: type = built_in
        else:
            cls, _ = self._class(content["class"], hint, BaseException)
        base = next(item for item in mro(cls) if item.__module__ == "builtins")
        made: Any = base.__new__(cls, *self._items(content["args"], list, ()))
        self._restore(made, content)
        for name in {"cause", "context"} & content.keys():
            BaseException.__dict__[f"__{name}__"].__set__(made, self._inside(name, content[name], Any))
        BaseException.__dict__["__suppress_context__"].__set__(made, bool({"cause", "suppress"} & content.keys()))
        return made

    def _type(self, content: dict[str, Any], hint: Any) -> type:
        name = content["class"]
        for member in members(hint):
            origin, arguments = shape(member)
            found = class_below(shape(arguments[0]).origin, name) if origin is type and arguments else None
            if found is not None:
                return found
        # a function that takes a class will call it, so that it is not enough if its module may be used
        if name not in _PLAIN_TYPES:
            raise RebuildError(f"the class {name!s:.200} is an argument, and the annotation does not name it")
        return _PLAIN_TYPES[name]

    def _codec(self, content: dict[str, Any], _hint: Any) -> Any:
        for codec in codecs.REGISTERED.values():
            if class_name(codec.cls) == content["class"]:
                return codec.decode(self._inside("value", content["value"], Any))
        raise RebuildError(f"no codec is registered for {content['class']!s:.200}")

    _KINDS: ClassVar[Mapping[str, Callable[[Any, dict[str, Any], Any], Any]]] = {
        **dict.fromkeys((*STANDARD, *FRAMES), _standard),
        **dict.fromkeys(CONTAINERS, _collection),
        **dict.fromkeys(MAKERS, _record),
        "dict": _dict,
        "namedtuple": _namedtuple,
        "enum": _enum,
        "namespace": _namespace,
        "exception": _exception,
        "type": _type,
        "codec": _codec,
    }


def _parts_of(value: Any, base: type) -> tuple[Any, ...]:
    """Return the arguments with which a class's own ``__new__`` makes an equal value."""
    if base.__module__ == "datetime":
        return tuple(value.__reduce_ex__(4)[1])
    return () if base in _MUTABLE else (value,)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if type(value) in (list, tuple) else value


_IMPOSSIBLE: Final = {
    "opaque": "its content was not recorded: it is opaque",
    "cut": "its content was not recorded: it was cut",
    "cycle": "it holds itself, which can't be rebuilt",
    "alias": "it is an annotation, and a trace must not choose what stands in it",
    "function": "it is a function, and a trace must not choose which one is called",
    "module": "it is a module, and a trace must not choose which one is used",
    "generator": "it is a generator, which can't be rebuilt",
    "array.array": "of an array only the hash was kept",
    "tensor": "of a tensor only the hash was kept",
}
