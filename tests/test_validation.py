"""``validate=`` and ``validate_output=``: what is found, and what becomes of it in each mode."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import datetime
import pickle
import sys
import traceback
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Literal, TypedDict, Unpack

import msgspec
import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtrace import ValidationIssue, current_step, flow, override, traced_node, validate
from flowtrace.calls.core import NATIVE
from flowtrace.errors import InvocationValidationError
from flowtrace.host import log
from flowtrace.host.signals import OWN_FOLDER
from flowtrace.instrument.validators import Validators
from flowtrace.recording import failure
from flowtrace.recording.state import CURRENT
from flowtrace.testing import recording
from tests.programs import run_program


class Order(pydantic.BaseModel):
    id: int
    total: float


class Row(msgspec.Struct):
    id: int
    price: float


def rows_of(value: dict[str, dict[str, list[int]]]):
    """Take what a pointer leads into."""


VALIDATORS = Validators(rows_of, True, None, yields=False)


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class PointAbove(Point):
    pass


class Options(TypedDict):
    size: int


ITEMS = {"type": "object", "required": ["sku", "count"], "properties": {"count": {"type": "integer", "minimum": 1}}}
SCHEMA = {"type": "object", "properties": {"items": {"type": "array", "items": ITEMS}}}


def issues(step):
    return [(issue.code, issue.path, issue.message) for issue in step.validation_issues]


def found(function, *args, **kwargs):
    """Return what is found in a call, in mode ``warn``, whatever comes of the call."""
    with recording(validation="warn") as traces, contextlib.suppress(Exception):
        function(*args, **kwargs)
    return issues(traces.traces[-1].steps[-1])


def checked(hint, value):
    def node(value):
        return None

    node.__annotations__ = {"value": hint}
    return found(traced_node(validate=True)(node), value)


# --- what is found


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (int, 1, []),
        (int, "1", [("invalid_type", "/value", "Expected `int`, got `str`")]),
        (int, True, []),
        (float, 1, []),
        (float, np.float64(1), []),
        (float, True, []),
        (complex, 1, []),
        (int | None, True, []),
        (list[int], [True], []),
        (set[int], {True}, []),
        (list[float] | None, [np.float64(1)], []),
        (dict[float, list[Point]], {np.float64(1): [PointAbove(1)]}, []),
        (dict[str, dict[int, int]], {"a": {True: 1}}, []),
        (dict[str, dict[int, int]], {"a": {"b": 1}}, [("invalid_type", "/value/a", "Expected `int`, got `str`")]),
        (dict[int, list[int]] | None, {1: ["a"]}, [("invalid_type", "/value/1/0", "Expected `int`, got `str`")]),
        (Sequence[int], range(3), []),
        (Sequence[str], "abc", []),
        (Set[int], {1: 2}.keys(), []),
        (Sequence[int], {1}.__iter__(), [("invalid_type", "/value", "Expected `array`, got `set_iterator`")]),
        (float, "1.0", [("invalid_type", "/value", "Expected `float`, got `str`")]),
        (bytes, "text", [("invalid_type", "/value", "Expected `bytes`, got `str`")]),
        (datetime.date, "2026-01-01", [("invalid_type", "/value", "Expected `date`, got `str`")]),
        (datetime.date, datetime.date(2026, 1, 1), []),
        (list[int], [1, 2, "3"], [("invalid_type", "/value/2", "Expected `int`, got `str`")]),
        (tuple[int, str], (1, 2), [("invalid_type", "/value/1", "Expected `str`, got `int`")]),
        (dict[str, list[int]], {"a": [1], "~": ["1"]}, [("invalid_type", "/value/~0/0", "Expected `int`, got `str`")]),
        (dict[str, dict[str, int]], {"a": {"b/": ""}}, [("invalid_type", "/value/a/b~1", "Expected `int`, got `str`")]),
        (dict[str, int], {1: 1}, [("invalid_type", "/value", "Expected `str`, got `int`")]),
        (Mapping[str, int], collections.OrderedDict(a=1), []),
        (Literal["a", "b"], "c", [("schema_validation", "/value", "Invalid enum value 'c'")]),
        (Row, Row(1, 2.0), []),
        (Row, {"id": 1}, [("missing_required_field", "/value/price", "Object missing required field `price`")]),
        (list[Row], [{"id": 1, "price": "x"}], [("invalid_type", "/value/0/price", "Expected `float`, got `str`")]),
        (Point, Point(1), []),
        (Point, Row(1, 2.0), [("invalid_type", "/value", "Expected `object`, got `Row`")]),
        (Options, {"size": "x"}, [("invalid_type", "/value/size", "Expected `int`, got `str`")]),
        (np.ndarray, np.zeros(2), []),
        (np.ndarray, [0], [("invalid_type", "/value", "Expected `numpy.ndarray`, got `list`")]),
        (Order | None, None, []),
        (Order, Order(id=1, total=2), []),
        (Order, {"id": "1", "total": 2}, []),
        (list[Order], [{"id": 1}], [("missing_required_field", "/value/0/total", "Field required")]),
        (Row | Point, Point(1), []),
        (np.ndarray | int, "x", [("invalid_type", "/value", "Expected `numpy.ndarray`, got `str`")]),
        (Iterator[int], iter([1]), []),
        (Any, object(), []),
        ("NoSuchName", 1, []),
    ],
)  # fmt: skip
def test_annotations_are_checked(hint, value, expected):
    assert checked(hint, value) == expected


def test_both_errors_of_a_model_are_found():
    assert checked(Order, {"id": "x"}) == [
        ("invalid_type", "/value/id", "Input should be a valid integer, unable to parse string as an integer"),
        ("missing_required_field", "/value/total", "Field required"),
    ]


def test_all_kinds_of_parameters_are_checked():
    @traced_node(validate=True)
    def node(first: int, /, second: int = None, *rest: int, third: str, **more: int):  # noqa: RUF013
        return second

    wrong = ("a", 2, 3, "d"), {"third": 5, "fourth": "f"}
    assert found(node, *wrong[0], **wrong[1]) == [
        ("invalid_type", "/first", "Expected `int`, got `str`"),
        ("invalid_type", "/rest/1", "Expected `int`, got `str`"),
        ("invalid_type", "/third", "Expected `str`, got `int`"),
        ("invalid_type", "/more/fourth", "Expected `int`, got `str`"),
    ]
    assert found(node, 1, third="c") == []


def test_named_options_are_checked():
    @traced_node(validate=True)
    def node(**options: Unpack[Options]):
        return options

    assert found(node, size=1) == []
    assert found(node) == [("missing_required_field", "/options/size", "Object missing required field `size`")]


def test_arguments_that_do_not_fit_are_found():
    @traced_node(validate=True)
    def node(first: int, second: int):
        return first

    missing = [("missing_required_field", "/second", "a required argument is missing")]
    assert found(node, 1) == missing
    assert found(node, 1, 2, 3) == [("schema_validation", "", "too many positional arguments")]
    assert found(node, 1, 2, third=3) == [("schema_validation", "", "got an unexpected keyword argument 'third'")]

    @traced_node(validate=True)
    def named(args: int, kwargs: int):
        return args

    assert found(named, 1, "2") == [("invalid_type", "/kwargs", "Expected `int`, got `str`")]


def test_a_schema_is_checked():
    @traced_node(validate=SCHEMA)
    def node(items, note=None):
        return items

    assert found(node, [{"sku": "a", "count": 1}]) == []
    assert found(node, ({"sku": "a", "count": 0}, {"count": "3"}, 4)) == [
        ("schema_validation", "/items/0/count", "does not fit 'minimum' of the schema: 1"),
        ("missing_required_field", "/items/1/sku", "a required property is missing"),
        ("invalid_type", "/items/1/count", "expected integer, got string"),
        ("invalid_type", "/items/2", "expected object, got integer"),
    ]


def test_a_schema_sees_records_as_objects():
    schema = {"properties": {"value": {"type": "object", "required": ["x"], "properties": {"x": {"type": "integer"}}}}}

    @traced_node(validate=schema)
    def node(value):
        return value

    class Model(pydantic.BaseModel):
        x: Any

    assert found(node, Point(1)) == found(node, Model(x=1)) == []
    assert found(node, Point("a")) == [("invalid_type", "/value/x", "expected integer, got string")]
    assert found(node, Model(x=None)) == [("invalid_type", "/value/x", "expected integer, got null")]
    assert found(node, object()) == [("missing_required_field", "/value/x", "a required property is missing")]


def test_many_issues_are_cut():
    @traced_node(validate=SCHEMA)
    def node(items):
        return items

    assert len(found(node, [{}] * 1000)) == 20


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, []),
        (True, []),
        ([], []),
        (object(), []),
        (False, [("schema_validation", "", "the validator returned False")]),
        ("is odd", [("schema_validation", "", "is odd")]),
        (["a", ValidationIssue("odd", "/b", "c")], [("schema_validation", "", "a"), ("odd", "/b", "c")]),
        (ValueError("is odd"), [("schema_validation", "", "is odd")]),
        (AssertionError(), [("schema_validation", "", "AssertionError")]),
        (KeyError("a"), [("schema_validation", "", "'a'")]),
    ],
)
def test_a_callable_is_asked(answer, expected):
    given = []

    def validator(payload):
        given.append(payload)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @traced_node(validate=validator)
    def node(first, second=2):
        return first

    assert found(node, 1) == expected
    assert given == [{"first": 1, "second": 2}]


def test_a_model_is_a_callable_like_any_other():
    @traced_node(validate=Order.model_validate)
    def node(id, total):
        return id

    assert found(node, 1, 2) == []
    assert found(node, 1, "x") == [
        ("invalid_type", "/total", "Input should be a valid number, unable to parse string as a number")
    ]


def parts(value, pointer=""):
    """Yield the parts of a tree, each with its JSON Pointer."""
    yield pointer, value
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from parts(item, failure.pointer_to(pointer, [key]))


NAMES = st.text(max_size=3)
NUMBERS = st.lists(st.integers(-9, 9) | st.just("wrong"), max_size=3)


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, NUMBERS, max_size=3), max_size=3))
def test_a_pointer_leads_to_what_is_wrong(value):
    issues = VALIDATORS.input({"value": value})
    wrong = [pointer for pointer, part in parts(value, "/value") if isinstance(part, str)]
    assert [issue.path for issue in issues] == wrong[:1]


# --- results


def test_results_are_checked():
    @traced_node(validate_output=True)
    def node(value) -> list[int]:
        return value

    assert found(node, [1]) == []
    assert found(node, ["a"]) == [("invalid_type", "/0", "in the result: Expected `int`, got `str`")]


def test_each_yielded_value_is_checked():
    @traced_node(validate_output=True)
    def numbers(values) -> Iterator[int]:
        yield from values

    @traced_node(validate_output={"type": "integer"})
    async def later(values) -> AsyncIterator[int]:
        for value in values:
            yield value

    async def collect(values):
        return [value async for value in later(values)]

    assert found(lambda: list(numbers([1, "2", 3, "4"]))) == [
        ("invalid_type", "/items/1", "in the result: Expected `int`, got `str`"),
        ("invalid_type", "/items/3", "in the result: Expected `int`, got `str`"),
    ]
    assert found(lambda: asyncio.run(collect([1, "2"]))) == [
        ("invalid_type", "/items/1", "in the result: expected integer, got string")
    ]


# --- modes


@traced_node(validate=True)
def plain(value: int):
    return current_step(), value


@traced_node(validate=True)
async def coroutine(value: int):
    await asyncio.sleep(0)
    return current_step(), value


@traced_node(validate=True)
def generator(value: int):
    yield current_step(), value


@traced_node(validate=True)
async def async_generator(value: int):
    yield current_step(), value


class Service:
    @traced_node(validate=True)
    def method(self, value: int):
        return current_step(), value

    @traced_node(validate=True)
    @classmethod
    def class_method(cls, value: int):
        return current_step(), value

    @staticmethod
    @traced_node(validate=True)
    def static_method(value: int):
        return current_step(), value

    @traced_node(validate=True)
    async def coroutine_method(self, value: int):
        return current_step(), value


class Caller:
    def __call__(self, value):
        return current_step(), value


async def first_of(values):
    return [value async for value in values][0]  # noqa: RUF015  # all of it runs


SHAPES = {
    "plain": plain,
    "coroutine": lambda value: asyncio.run(coroutine(value)),
    "generator": lambda value: next(generator(value)),
    "async_generator": lambda value: asyncio.run(first_of(async_generator(value))),
    "method": lambda value: Service().method(value),
    "unbound": lambda value: Service.method(Service(), value),
    "class_method": Service.class_method,
    "static_method": Service.static_method,
    "coroutine_method": lambda value: asyncio.run(Service().coroutine_method(value)),
    "object": traced_node(validate={"properties": {"value": {"type": "integer"}}}, node_id="object")(Caller()),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_call(shape):
    """Off: nothing is looked at; warn: it is reported; error: the body never runs, and its step has failed."""
    call = SHAPES[shape]
    expected = "expected integer, got string" if shape == "object" else "Expected `int`, got `str`"
    with recording(validation="off") as traces:
        assert call("x")[1] == "x"
    assert issues(traces.traces[0].steps[0]) == []

    with recording(validation="warn") as traces:
        step, value = call("x")
        assert (step is not None, value) == (True, "x")
    (trace,) = traces.traces
    assert issues(trace.steps[0]) == [("invalid_type", "/value", expected)]
    assert (trace.steps[0].error, trace.run.outcome) == (None, "ok")

    with recording(validation="error") as traces:
        assert call(1)[1] == 1
        with pytest.raises(InvocationValidationError) as caught:
            call("x")
        assert CURRENT.get() is None
    bad = traces.traces[-1]
    step = bad.steps[-1]
    text = f"{step.node_id}: its arguments did not pass validation: invalid_type at /value: {expected}"
    assert str(caught.value) == text
    assert caught.value.issues == (("invalid_type", "/value", expected),)
    assert (step.error.code, step.error.message) == ("invocation_validation_failed", str(caught.value))
    assert (step.output_hash, bad.run.outcome, bad.run.failed_step_id) == (None, "failed", step.step_id)
    assert issues(step) == [("invalid_type", "/value", expected)]
    assert validate(bad) == []
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    if NATIVE is not None:
        files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert not [file for file in files if file.startswith(OWN_FOLDER)]


def test_a_refused_result():
    log = []

    @traced_node(validate_output=True)
    def node() -> int:
        return "x"

    @traced_node(validate_output=True)
    def numbers() -> Iterator[int]:
        try:
            yield 1
            yield "2"
            log.append("went on")
        finally:
            log.append("closed")

    with recording(validation="error") as traces:
        with pytest.raises(InvocationValidationError, match="its result did not pass validation: invalid_type at"):
            node()
        values = numbers()
        assert next(values) == 1
        with pytest.raises(InvocationValidationError, match="/items/1"):
            next(values)
        assert log == ["closed"]
        assert list(values) == []
    assert [trace.steps[-1].error.code for trace in traces.traces] == ["invocation_validation_failed"] * 2


def test_a_refused_coroutine_is_over():
    async def program():
        waiting = coroutine("x")
        with pytest.raises(InvocationValidationError):
            await waiting
        with pytest.raises(RuntimeError, match="already awaited"):
            await waiting
        values = async_generator("x")
        with pytest.raises(InvocationValidationError):
            await anext(values)
        return [value async for value in values]

    with recording(validation="error"):
        assert asyncio.run(program()) == []


def test_the_caller_may_handle_it():
    with recording(validation="error") as traces, flow("f"):
        with contextlib.suppress(ValueError):
            plain("x")
        assert plain(2)[1] == 2
    assert [(trace.run.outcome, len(trace.steps)) for trace in traces.traces] == [("recovered", 2)]


def test_off_is_the_fast_path():
    @traced_node(validate=lambda payload: pytest.fail("was asked"))
    def node(value):
        return value

    with recording(validation="off") as traces:
        assert node(1) == 1
    assert issues(traces.traces[0].steps[0]) == []
    with recording(mode="off", validation="error"):
        assert node(1) == 1


def test_it_is_turned_on_while_the_program_runs():
    with recording(validation="off"):
        assert plain("x")[1] == "x"
        with override(validation="error"):
            with pytest.raises(InvocationValidationError):
                plain("x")
            waiting = coroutine("x")
        assert asyncio.run(waiting)[1] == "x"
        assert plain("x")[1] == "x"


def test_an_error_that_is_part_of_the_contract_is_none_here():
    @traced_node(validate=True, expected_errors=ValueError)
    def node(value: int):
        return value

    with recording(validation="error") as traces, pytest.raises(InvocationValidationError):
        node("x")
    assert traces.traces[0].run.outcome == "failed"


# --- the host wins


def test_arguments_are_never_changed():
    given = [{"id": "1", "total": 2}], {"a": (1, 2)}

    @traced_node(validate=True)
    def node(orders: list[Order], rows: dict[str, list[int]]):
        return orders, rows

    with recording(validation="error"):
        result = node(*given)
    assert result[0] is given[0]
    assert result[1] is given[1]
    assert given == ([{"id": "1", "total": 2}], {"a": (1, 2)})
    assert type(given[1]["a"]) is tuple


class Once:
    """What gives its items a single time, and does not say so."""

    def __init__(self, items):
        self.items = iter(items)

    def __iter__(self):
        return self.items


@pytest.mark.parametrize("make", [iter, lambda items: (item for item in items), Once], ids=["iter", "gen", "class"])
@pytest.mark.parametrize(
    "hint",
    [list[Order], Iterable[Order], Generator[Order, None, None], list[Order] | set[Order] | None, Sequence[Order]],
)
def test_an_iterator_is_not_used_up(make, hint):
    orders = [Order(id=1, total=2), Order(id=2, total=3)]

    def node(orders, by_name):
        return list(orders), {name: list(found) for name, (found,) in by_name.items()}

    node.__annotations__ = {"orders": hint, "by_name": dict[str, tuple[hint]]}
    with recording(validation="error"):
        result = traced_node(validate=True)(node)(make(orders), {"a": (make(orders),)})
    assert result == (orders, {"a": orders})


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize("mode", ["warn", "error"])
def test_what_is_no_exception_ends_the_call(kind, mode):
    error = kind(3)

    def validator(payload):
        raise error

    @traced_node(validate=validator)
    def node(value):
        return pytest.fail("it ran")

    with recording(validation=mode) as traces, pytest.raises(kind) as caught:
        node(1)
    assert caught.value is error
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[-1] == "validator"
    if NATIVE is not None:
        assert len(names) == 2
    assert traces.traces[0].steps[-1].error.details["type"].endswith(kind.__name__)
    assert CURRENT.get() is None


def test_a_validator_has_the_step_of_its_call():
    @traced_node
    def helper():
        return 1

    def validator(payload):
        helper()
        current_step().add_validation_issue("odd", "/value", "is odd")

    @traced_node(validate=validator)
    def node(value):
        return value

    with recording(validation="warn") as traces:
        node(1)
    inner, outer = traces.traces[0].steps
    assert inner.parent_step_id == outer.step_id
    assert issues(outer) == [("odd", "/value", "is odd")]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"type": "nonsense"}, "no valid JSON Schema, at $.type"),
        ({"$ref": "https://example.invalid/schema.json"}, "_WrappedReferencingError"),
    ],
)
def test_a_validator_of_ours_that_fails_is_logged_once(asked, reason, stderr):
    @traced_node(validate=asked)
    def node(value):
        return value

    with recording(validation="error") as traces:
        assert [node(1), node(2)] == [1, 2]
    log.forget()
    lines = stderr.readouterr().err.splitlines()
    assert len(lines) == 1
    assert reason in lines[0]
    assert [issues(trace.steps[-1]) for trace in traces.traces] == [[], []]


def test_secrets_are_in_no_text(stderr):
    secret = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"

    def validator(payload):
        raise ValueError(f"{payload['password']} and {secret} are not good")

    @traced_node(validate=validator)
    def node(password):
        return password

    with (
        recording(validation="error", capture_inputs=True) as traces,
        pytest.raises(InvocationValidationError) as caught,
    ):
        node("correct horse battery")
    texts = [str(caught.value), repr(caught.value), stderr.readouterr().err, *map(str, caught.value.issues)]
    texts += [str(issues(traces.traces[0].steps[0])), traces.traces[0].steps[0].error.message]
    assert not [text for text in texts if "horse" in text or secret in text]
    assert "are not good" in str(caught.value)


SECRET = "correct horse battery"


class Login(TypedDict):
    password: Literal["none"]


def quotes(value):
    raise ValueError(f"not good: {SECRET}")


@traced_node(validate_output=True)
def refused_by_annotation() -> Login:
    return {"password": SECRET}


@traced_node(validate_output=quotes)
def refused_by_callable():
    return {"password": SECRET}


@traced_node(validate_output=True)
def refused_item() -> Iterator[Login]:
    yield {"password": "none"}
    yield {"password": SECRET}


@traced_node(validate_output=lambda value: "-" * 490 + SECRET)
def refused_and_cut():
    return {"password": SECRET}


@traced_node(validate=lambda payload: "-" * 490 + SECRET)
def refused_arguments(password=SECRET):
    return None


REFUSING = [refused_by_annotation, refused_by_callable, refused_item, refused_and_cut, refused_arguments]


@pytest.mark.parametrize("mode", ["warn", "error"])
@pytest.mark.parametrize("node", REFUSING, ids=lambda node: node.__name__)
def test_secrets_of_what_is_refused_are_in_no_text(node, mode, tmp_path, stderr):
    text = ""
    with recording(validation=mode, blackbox=str(tmp_path / "ring")) as traces:
        try:
            list(node() or ())
        except InvocationValidationError as error:
            text = f"{error} {error.issues}"
        texts = [path.read_text() for path in traces.folder.glob("*.json")]
        texts += [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    log.forget()
    assert len(issues(traces.traces[0].steps[0])) == 1
    assert not [found for found in (text, *texts, stderr.readouterr().err) if "corr" in found]


def test_the_error_is_pickled():
    error = InvocationValidationError("a.b", "arguments", [("c", f"/{number}", "m") for number in range(7)])
    same = pickle.loads(pickle.dumps(error))
    assert (str(same), same.issues) == (str(error), error.issues)
    assert str(error).endswith("c at /4: m; and 2 more")


@pytest.mark.parametrize("asked", [False, 1, "schema", [int]])
def test_what_is_no_validator_is_refused(asked):
    with pytest.raises(
        TypeError, match=r"^traced_node: validate must be True, a JSON Schema \(a dictionary\), a function"
    ):
        traced_node(validate=asked)


def test_an_async_validator_is_refused():
    async def validator(payload):
        return None

    with pytest.raises(TypeError, match="validate_output must be"):
        traced_node(validate_output=validator)


# --- errors of validators inside a node


def test_an_error_of_a_library_becomes_issues():
    @traced_node
    def parse(value):
        return Order.model_validate(value)

    @traced_node
    def convert(value):
        return msgspec.convert(value, list[Row])

    @traced_node
    def outer(function, value):
        return function(value)

    with recording(validation="off") as traces:
        for function, value in ((parse, {"id": "x"}), (convert, [{"id": 1}])):
            with pytest.raises(ValueError):
                outer(function, value)
    steps = [(step.operation.rpartition(".")[2], issues(step)) for trace in traces.traces for step in trace.steps]
    assert steps == [
        (
            "parse",
            [
                ("invalid_type", "/id", "Input should be a valid integer, unable to parse string as an integer"),
                ("missing_required_field", "/total", "Field required"),
            ],
        ),
        ("outer", []),
        ("convert", [("missing_required_field", "/0/price", "Object missing required field `price`")]),
        ("outer", []),
    ]


PROGRAM = """
    import sys
    from flowtrace import traced_node

    @traced_node(validate=True)
    def pay(order: dict[str, int]):
        return order

    @traced_node(validate={"type": "object"})
    def other(order):
        return order

    print(pay({"id": "x"}), other(1))
    print([name for name in ("pydantic", "jsonschema", "flowtrace.instrument.validators") if name in sys.modules])
"""


def test_nothing_is_loaded_where_nothing_is_checked(tmp_path):
    asked = {"FLOWTRACE_MODE": "on", "FLOWTRACE_OUT": "t.json"}
    off = run_program(tmp_path, PROGRAM, **asked, FLOWTRACE_VALIDATION="off", CI="")
    assert off.stdout == "{'id': 'x'} 1\n['flowtrace.instrument.validators']\n"
    on = run_program(tmp_path, PROGRAM, **asked, FLOWTRACE_VALIDATION="warn")
    assert on.stdout == "{'id': 'x'} 1\n['jsonschema', 'flowtrace.instrument.validators']\n"
    assert "code=invalid_type" in on.stderr


def test_the_extra_is_named_where_it_is_missing(tmp_path):
    hidden = "import sys; sys.modules['jsonschema'] = None"
    done = run_program(tmp_path, hidden, PROGRAM, FLOWTRACE_OUT="t.json", FLOWTRACE_VALIDATION="error", code=1)
    assert "InvocationValidationError: __main__.pay: its arguments" in done.stderr
    program = "\n".join(PROGRAM.split("\n")[:-3]) + "\n    print(other(1))"
    done = run_program(tmp_path, hidden, program, FLOWTRACE_OUT="t.json", FLOWTRACE_VALIDATION="error")
    assert done.stdout == "1\n"
    assert "pip install 'flowtrace[validation]'" in done.stderr


def test_the_black_box_has_the_issues_too(tmp_path):
    with recording(validation="warn", blackbox=str(tmp_path / "ring")) as traces:
        plain("x")
        plain(1)
    assert [len(trace.steps[-1].validation_issues) for trace in traces.traces] == [1, 0]


def test_the_program_sees_debuggers_follow_its_validators():
    seen = []

    def validator(payload):
        return None

    @traced_node(validate=validator)
    def node(value):
        return value

    def follow(frame, event, argument):
        seen.append(frame.f_code.co_name)

    with recording(validation="warn"):
        node(0)
        sys.setprofile(follow)
        node(1)
        sys.setprofile(None)
    assert "validator" in seen
    if NATIVE is not None:
        assert "begin" not in seen
