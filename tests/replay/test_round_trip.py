"""For generated functions over every supported annotation: capture, replay and hash agree."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowtrace import ReplayOutcome, replay
from tests.replay.workshop import new_module, record

HEAD = '''
from __future__ import annotations
import dataclasses, datetime, decimal, enum, fractions, pathlib, re, typing, uuid, collections
from typing import *
import attrs, msgspec, pydantic
from flowtrace import traced_node

T = TypeVar("T")
Number = NewType("Number", int)

class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)

class Access(enum.IntFlag):
    READ = 1
    WRITE = 2

class Pair(NamedTuple):
    first: int
    second: tuple[int, ...] = ()

@dataclasses.dataclass
class Line:
    item: str
    at: tuple[float, float]
    children: list[Line] = dataclasses.field(default_factory=list)
    unset: int = dataclasses.field(init=False, default=0)

@dataclasses.dataclass(frozen=True, slots=True)
class Box(Generic[T]):
    content: T

@attrs.frozen
class Attrs:
    name: str
    tags: frozenset[str] = frozenset()

class Struct(msgspec.Struct):
    data: bytes
    when: datetime.date | None = None

class Model(pydantic.BaseModel):
    name: str
    pairs: list[tuple[int, str]] = []

class Typed(TypedDict):
    key: tuple[int, str]

def described(value):
    """Tell all of a value that a trace keeps: not the order of keys and of sets, and not which float is no number."""
    name = type(value).__name__
    if isinstance(value, dict):
        return [name, {repr(key): described(item) for key, item in value.items()}]
    if isinstance(value, (set, frozenset)):
        return [name, sorted(map(repr, value))]
    if isinstance(value, (list, tuple)):
        return [name, *map(described, value)]
    if isinstance(value, float) and value - value != 0:
        return [name, "not finite"]
    fields = getattr(type(value), "__slots__", None) or getattr(type(value), "__struct_fields__", ())
    fields = [field for field in [*getattr(value, "__dict__", fields)] if not field.startswith("_")]
    if isinstance(value, enum.Enum) or not fields or isinstance(value, (type, decimal.Decimal, pathlib.Path)):
        return [name, repr(value)]
    return [name, {field: described(getattr(value, field)) for field in fields}]
'''
NAMES = {}
exec(HEAD, NAMES)
small = st.integers(-5, 5)
words = st.text(max_size=5)
numbers = st.floats(allow_nan=True)
tuples = st.lists(small, max_size=3).map(tuple)
lines = st.recursive(
    st.builds(lambda item, at: ("Line", item, at, []), words, st.tuples(numbers, numbers)),
    lambda inner: st.builds(
        lambda item, at, children: ("Line", item, at, children),
        words,
        st.tuples(numbers, numbers),
        st.lists(inner, max_size=2),
    ),
    max_leaves=3,
)
# annotation, and what makes a value of it inside the module that the function is in
KINDS = [
    ("int", st.integers(-(2**70), 2**70)),
    ("float", numbers),
    ("str", words),
    ("bool", st.booleans()),
    ("bytes", st.binary(max_size=5)),
    ("bytearray", st.binary(max_size=5).map(bytearray)),
    ("complex", st.complex_numbers(allow_nan=False, allow_infinity=False)),
    ("None", st.none()),
    ("object", small),
    ("Any", small | words | st.none()),
    ("Number", small),
    ("Literal['a', 1]", st.sampled_from(["a", 1])),
    ("Annotated[tuple[int, ...], 'x']", tuples),
    ("datetime.datetime", st.datetimes(timezones=st.none() | st.timezones())),
    ("datetime.date", st.dates()),
    ("datetime.time", st.times()),
    ("datetime.timedelta", st.timedeltas()),
    ("decimal.Decimal", st.decimals()),
    ("fractions.Fraction", st.fractions()),
    ("uuid.UUID", st.uuids()),
    ("pathlib.Path", st.sampled_from(["a/b", "/c"]).map(Path)),
    ("set[int]", st.sets(small, max_size=3)),
    ("frozenset[tuple[int, ...]]", st.frozensets(tuples, max_size=3)),
    ("tuple[int, str]", st.tuples(small, words)),
    ("tuple[tuple[int, ...], ...]", st.lists(tuples, max_size=3).map(tuple)),
    ("list[tuple[int, ...]]", st.lists(tuples, max_size=3)),
    ("Sequence[int]", st.lists(small, max_size=3)),
    ("dict[str, tuple[int, ...]]", st.dictionaries(words, tuples, max_size=3)),
    ("Mapping[tuple[int, ...], str]", st.dictionaries(tuples, words, max_size=3)),
    ("Optional[tuple[int, ...]]", st.none() | tuples),
    (
        "tuple[int, int] | list[str] | None",
        st.none() | st.tuples(small, small) | st.lists(words, min_size=1, max_size=2),
    ),
    ("Typed", st.tuples(small, words).map(lambda pair: {"key": pair})),
    ("Colour", st.sampled_from(["RED", "PAIR"]).map(lambda name: ("Colour", name))),
    ("Access", st.sampled_from([0, 1, 2, 3]).map(lambda value: ("Access", value))),
    ("Pair", st.tuples(small, tuples).map(lambda pair: ("Pair", *pair))),
    ("Line", lines),
    ("Box[tuple[int, ...]]", tuples.map(lambda content: ("Box", content))),
    ("list[Box[tuple[int, ...]]]", st.lists(tuples.map(lambda content: ("Box", content)), max_size=2)),
    ("Attrs", st.tuples(words, st.frozensets(words, max_size=2)).map(lambda parts: ("Attrs", *parts))),
    ("Struct", st.tuples(st.binary(max_size=3), st.none() | st.dates()).map(lambda parts: ("Struct", *parts))),
    ("Model", st.lists(st.tuples(small, words), max_size=2).map(lambda pairs: ("Model", pairs))),
    ("type[Colour]", st.just(("type", "Colour"))),
]
BODIES = [
    "return locals()",
    "return described(dict(locals()))",
    "return [type(value).__name__ for value in locals().values()]",
]
SHAPES = ["{name}: {hint}", "*, {name}: {hint}", "{name}: {hint}, /", "*{name}: {hint}", "**{name}: {hint}"]


def made(module, value):
    """Make what the strategies only describe, of the classes of one module."""
    if isinstance(value, list):
        return [made(module, item) for item in value]
    if not (isinstance(value, tuple) and value and isinstance(value[0], str) and hasattr(module, value[0])):
        return value
    name, *parts = value
    cls = getattr(module, name, None)
    if name == "Colour":
        return cls[parts[0]]
    if name == "Line":
        return cls(parts[0], parts[1], made(module, parts[2]))
    if name == "Model":
        return cls(name="m", pairs=parts[0])
    return cls(*parts)


def source_of(functions):
    lines = [HEAD]
    for number, (hint, shape, body) in enumerate(functions):
        parameters = shape.format(name="value", hint=hint)
        decorator = f'@traced_node(component="generated", operation="f{number}")'
        lines.append(f"{decorator}\ndef f{number}({parameters}) -> Any:\n    {body}\n")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """One module with a function for every annotation, way of passing and body, and the functions' names."""
    folder = tmp_path_factory.mktemp("generated")
    functions = list(itertools.product([hint for hint, _ in KINDS], SHAPES, BODIES))
    return folder, new_module(folder, source_of(functions)), {what: f"f{at}" for at, what in enumerate(functions)}


@pytest.mark.costly
@given(st.data())
@settings(max_examples=300)
def test_capture_replay_and_hash_agree(generated, data):
    folder, module, names = generated
    hint, values = data.draw(st.sampled_from(KINDS))
    shape, body = data.draw(st.sampled_from(SHAPES)), data.draw(st.sampled_from(BODIES))
    described = data.draw(values)
    value = module.Colour if described == ("type", "Colour") else made(module, described)
    node = getattr(module, names[hint, shape, body])
    by_name = shape.startswith(("*, ", "**"))
    with tempfile.TemporaryDirectory() as place:
        trace = record(f"{place}/t.json", lambda: node(value=value) if by_name else node(value))
        (item,) = replay(trace, working_folder=folder).steps
    assert (item.outcome, item.reason, item.exact_input) == (ReplayOutcome.SAME_OUTPUT, "", True)
    assert item.step.error is None
