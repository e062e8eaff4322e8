"""The decorator itself: its options, its defaults, what it refuses, what it makes of classes and callables."""

from __future__ import annotations

import asyncio
import functools
import operator
import types

import pytest

import flowtrace
from flowtrace import traced_node
from flowtrace.testing import recording
from tests.ids import stable_repr

HERE = __name__


def steps_of(call, *args, **kwargs):
    """Return the steps that a call leaves, everything captured."""
    with recording(capture_inputs=True, capture_outputs=True) as recorded:
        call(*args, **kwargs)
    return [step for trace in recorded.traces for step in trace.steps]


@traced_node
def same(value):
    return value


def payload_of(call, *args, **kwargs):
    """Return the payload of the one step that a call leaves."""
    (step,) = steps_of(call, *args, **kwargs)
    return step.invocation_json["payload"]


@traced_node
def identity(value):
    return value


@traced_node(component="payments", operation="charge", node_id="charge#1")
def named(value):
    return value


# --- names


def test_a_step_is_named_after_module_and_function_unless_the_decorator_says_otherwise():
    (step,) = steps_of(identity, 1)
    assert (step.component_id, step.operation, step.node_id) == (HERE, "identity", f"{HERE}.identity")
    (step,) = steps_of(named, 1)
    assert (step.component_id, step.operation, step.node_id) == ("payments", "charge", "charge#1")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"component": "c"}, ("c", "identity", "c.identity")),
        ({"operation": "o"}, (HERE, "o", f"{HERE}.o")),
        ({"node_id": "n"}, (HERE, "identity", "n")),
        ({"component": "c", "operation": "o"}, ("c", "o", "c.o")),
        ({"component": None, "operation": None, "node_id": None}, (HERE, "identity", f"{HERE}.identity")),
        ({}, (HERE, "identity", f"{HERE}.identity")),
    ],
)
def test_each_name_has_its_own_default(options, names):
    (step,) = steps_of(traced_node(**options)(identity.__wrapped__), 1)
    assert (step.component_id, step.operation, step.node_id) == names


def test_a_nested_function_and_a_method_carry_their_qualified_name():
    class Local:
        @traced_node
        def method(self):
            return lambda_(1)

    lambda_ = traced_node(lambda value: value)
    here = "test_a_nested_function_and_a_method_carry_their_qualified_name.<locals>"
    assert [step.operation for step in steps_of(Local().method)] == [f"{here}.<lambda>", f"{here}.Local.method"]


# --- the other options


@pytest.mark.parametrize(
    ("option", "setting", "kept"),
    [
        (None, False, False),
        (None, True, True),
        (True, False, True),
        (True, True, True),
        (False, True, False),
        (False, False, False),
    ],
)
def test_capture_inputs_of_a_node_wins_over_the_configuration(option, setting, kept):
    node = traced_node(capture_inputs=option)(identity.__wrapped__)
    with recording(capture_inputs=setting) as recorded:
        node({"a": 1})
    (step,) = recorded.traces[0].steps
    whole = {"component_id": HERE, "operation": "identity", "payload": {"value": {"a": 1}}}
    shown = [step.invocation_json] if kept else []
    assert shown == ([whole] if kept else [])
    assert (step.input_hash.algorithm, step.input_hash.value) == ("blake3", flowtrace.hash_value({"value": {"a": 1}}))


def test_redacted_names_of_a_node_are_added_to_the_built_in_ones_and_to_no_other_node():
    @traced_node(redact=("shelf", "Plate Number"))
    def pay(shelf, plate_number, password, amount):
        return {"shelf": shelf, "amount": amount}

    @traced_node
    def other(shelf):
        return shelf

    hidden = "__REDACTED__"
    (step,) = steps_of(pay, "CH1", "ZH 2", "p", 5)
    payload = {"shelf": hidden, "plate_number": hidden, "password": hidden, "amount": 5}
    assert step.invocation_json["payload"] == payload
    assert step.output_json == {"shelf": hidden, "amount": 5}
    start = "/invocation_json/payload"
    assert sorted(step.redacted) == sorted(
        [f"{start}/shelf", f"{start}/password", f"{start}/plate_number", "/output_json/shelf"]
    )
    assert payload_of(other, "CH1") == {"shelf": "CH1"}


@pytest.mark.parametrize("names", [["iban"], ("iban",), {"iban"}, iter(["iban"]), {"iban": 1}], ids=stable_repr)
def test_redact_takes_any_iterable_of_names_and_reads_it_once(names):
    node = traced_node(redact=names)(lambda iban: iban)
    assert payload_of(node, "CH1") == {"iban": "__REDACTED__"}
    assert payload_of(node, "CH1") == {"iban": "__REDACTED__"}


@pytest.mark.parametrize("errors", [KeyError, (KeyError,), (ValueError, LookupError)])
def test_an_expected_error_stands_in_its_step_and_is_no_failure(errors):
    @traced_node(expected_errors=errors)
    def look_up(key):
        raise error

    error = KeyError("k")
    with recording(mode="on") as recorded, pytest.raises(KeyError) as caught:
        look_up("k")
    assert (recorded.traces, caught.value is error) == ([], True)
    with recording(mode="always") as recorded, pytest.raises(KeyError):
        look_up("k")
    (trace,) = recorded.traces
    assert trace.run.outcome == "ok"
    (step,) = trace.steps
    assert (step.error.code, step.error.message, step.output_hash) == ("node_error", "'k'", None)


def test_an_error_that_is_not_among_the_expected_ones_fails():
    @traced_node(expected_errors=(KeyError,))
    def look_up():
        raise IndexError("i")

    with recording(mode="on") as recorded, pytest.raises(IndexError):
        look_up()
    assert [trace.run.outcome for trace in recorded.traces] == ["failed"]


# --- what is refused


@pytest.mark.parametrize(
    "target",
    [None, 5, "name", [], property(len), functools.cached_property(len), object(), functools.partialmethod(len)],
    ids=lambda target: type(target).__name__,
)
def test_what_cannot_be_called_is_refused_where_it_is_decorated(target):
    with pytest.raises(TypeError, match="traced_node takes a function, a method or a class, not "):
        traced_node(target)
    with pytest.raises(TypeError, match="traced_node takes a function, a method or a class, not "):
        traced_node(component="c")(target)


@pytest.mark.parametrize(
    ("option", "value", "accepts"),
    [
        ("component", 1, "must be text or None, not 1"),
        ("component", b"c", "must be text or None, not b'c'"),
        ("operation", ["o"], r"must be text or None, not \['o'\]"),
        ("node_id", object, "must be text or None, not <class 'object'>"),
        ("capture_inputs", 1, "must be True, False or None, not 1"),
        ("capture_inputs", 0, "must be True, False or None, not 0"),
        ("capture_inputs", "yes", "must be True, False or None, not 'yes'"),
        ("redact", "iban", "must be a sequence of names, not 'iban'"),
        ("redact", b"iban", "must be a sequence of names, not b'iban'"),
        ("redact", 5, "must be a sequence of names, not 5"),
        ("redact", None, "must be a sequence of names, not None"),
        ("redact", [1], r"must be a sequence of names, not \[1\]"),
        ("expected_errors", [KeyError], "must be an exception class or a tuple of them, not "),
        ("expected_errors", None, "must be an exception class or a tuple of them, not None"),
        ("expected_errors", KeyError("k"), "must be an exception class or a tuple of them, not KeyError"),
        ("expected_errors", (KeyError, int), "must be an exception class or a tuple of them, not "),
        ("expected_errors", "KeyError", "must be an exception class or a tuple of them, not 'KeyError'"),
    ],
)
def test_an_option_of_the_wrong_type_is_refused_by_name(option, value, accepts):
    with pytest.raises(TypeError, match=f"^traced_node: {option} {accepts}"):
        traced_node(**{option: value})
    with pytest.raises(TypeError, match=f"^traced_node: {option} {accepts}"):
        traced_node(len, **{option: value})


def test_unknown_options_and_positional_ones_are_refused_as_python_does():
    with pytest.raises(TypeError, match="unexpected keyword argument 'name'"):
        traced_node(name="n")
    with pytest.raises(TypeError, match="positional-only arguments passed as keyword arguments: 'function'"):
        traced_node(function=len)
    with pytest.raises(TypeError, match="takes from 0 to 1 positional arguments but 2 were given"):
        traced_node(len, "component")


# --- double decoration and odd callables


def test_a_function_decorated_twice_leaves_a_step_of_each_node():
    inner = traced_node(operation="inner")(lambda value: value)
    outer = traced_node(operation="outer")(inner)
    steps = steps_of(outer, 4)
    assert [(step.operation, step.invocation_json["payload"]) for step in steps] == [
        ("inner", {"value": 4}),
        ("outer", {"value": 4}),
    ]
    assert steps[0].parent_step_id == steps[1].step_id


def test_a_class_decorated_twice_is_wrapped_once():
    @traced_node
    @traced_node
    class Twice:
        def method(self):
            return 1

        @staticmethod
        def static():
            return 2

    assert len(steps_of(Twice().method)) == 1
    assert len(steps_of(Twice.static)) == 1


class Adder:
    """Called."""

    def __init__(self, by):
        self.by = by

    def __call__(self, value, *, times=1):
        return value + self.by * times

    def method(self, value):
        return value + self.by

    @classmethod
    def named(cls, by):
        return (cls, by)


class Answers:
    """Has an answer to every attribute."""

    def __init__(self, answer):
        self.__dict__["answer"] = answer

    def __call__(self, value):
        return value

    def __getattr__(self, name):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self if self.answer == "self" else self.answer


@pytest.mark.parametrize(
    ("target", "arguments", "operation", "payload"),
    [
        (len, ([1, 2],), "len", {"obj": [1, 2]}),
        (max, (1, 2), "max", {"args": [1, 2], "kwargs": {}}),
        ("abc".join, (["x"],), "str.join", {"iterable": ["x"]}),
        (str.upper, ("a",), "str.upper", {"self": "a"}),
        (functools.partial(int, base=2), ("101",), "int", None),
        (functools.partial(lambda a, b, c=3: a + b + c, 1), (2,), "<lambda>", {"a": 1, "b": 2, "c": 3}),
        (functools.partial(identity.__wrapped__, value=7), (), "identity", {"value": 7}),
        (Adder(2), (1,), "Adder", {"value": 1, "times": 1}),
        (Adder(2).method, (1,), "Adder.method", {"value": 1}),
        (Adder.named, (1,), "Adder.named", {"by": 1}),
        (functools.lru_cache(lambda value: value), (1,), None, {"value": 1}),
        (operator.itemgetter(0), ([5],), "itemgetter", None),
        (types.MethodType(lambda self, value: value, 3), (1,), None, {"value": 1}),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_any_callable_can_be_a_node(target, arguments, operation, payload):
    node = traced_node(target)
    assert node(*arguments) == target(*arguments)
    (step,) = steps_of(node, *arguments)
    assert operation is None or step.operation == operation
    assert payload is None or step.invocation_json["payload"] == payload


@pytest.mark.parametrize("answer", [42, "text", "self", AttributeError("no")], ids=repr)
def test_a_callable_that_answers_every_attribute_can_be_a_node(answer):
    node = traced_node(Answers(answer))
    (step,) = steps_of(node, 5)
    assert step.output_json == 5


def test_looking_at_the_annotations_of_a_wrappers_class_changes_no_function():
    @traced_node
    def typed(number: int) -> str:
        return str(number)

    class Callable:
        def __call__(self):
            return None

    assert type(typed).__annotations__ is not None
    assert typed.__annotations__ == {"number": "int", "return": "str"}
    assert not hasattr(traced_node(Callable()), "__annotations__")
    assert type(traced_node(Callable())).__annotations__ is Callable.__annotations__
    typed.__annotations__ = {"number": "float"}
    assert typed.__wrapped__.__annotations__ == {"number": "float"}
    del typed.__annotations__
    assert typed.__annotations__ == {}


class Unbound:
    @traced_node
    def double(value):
        return [value, value]

    @traced_node
    async def later(self):
        return self


@pytest.mark.parametrize("value", [3, "x", None, [1], {"a": 1}, (1, 2)])
def test_a_value_that_can_be_no_receiver_stays_in_the_payload(value):
    expected = payload_of(same, value)["value"]
    assert payload_of(Unbound.double, value) == {"value": expected}
    assert payload_of(lambda: asyncio.run(Unbound.later(value))) == {"self": expected}


def test_a_receiver_does_not():
    assert payload_of(Unbound.double, Unbound()) == {}
    assert payload_of(lambda: Unbound().double()) == {}


@pytest.mark.parametrize(
    "value", [1, "\ud800", b"x", 2**64, float("nan"), {1: 2}, {"a": b"x"}, {"a": 2**70}, "x" * 3000], ids=ascii
)
def test_the_only_argument_may_be_anything(value):
    with recording(capture_inputs=True, capture_outputs=True, max_value_bytes=2048) as recorded:
        same(value)
        same(value=value)
    by_place, by_name = [step for trace in recorded.traces for step in trace.steps]
    assert by_place.invocation_json == by_name.invocation_json
    assert by_place.input_hash == by_name.input_hash
    assert by_place.input_hash.value == flowtrace.hash_value({"value": value})


# --- a function that is changed later, as reloaders do


def _replaced(number, factor=5):
    return number * factor


CHANGES = {
    "defaults": lambda function: setattr(function, "__defaults__", (10,)),
    "defaults, the function itself": lambda function: setattr(function.__wrapped__, "__defaults__", (10,)),
    "code": lambda function: setattr(function, "__code__", _replaced.__code__),
}
AFTER = {
    "defaults": ({"value": 1, "more": 10}, 11),
    "defaults, the function itself": ({"value": 1, "more": 10}, 11),
    "code": ({"number": 1, "factor": 1}, 1),
}


def changeable():
    @traced_node
    def plain(value, more=1):
        return value + more

    class Owner:
        @traced_node
        def method(self, value, more=1):
            return value + more

    return {"function": (plain, plain), "method": (Owner.method, Owner().method)}


@pytest.mark.parametrize("box", [False, True])
@pytest.mark.parametrize("binding", ["function", "method"])
@pytest.mark.parametrize("change", CHANGES)
def test_each_step_has_the_parameters_of_its_own_call(tmp_path, change, binding, box):
    function, call = changeable()[binding]
    if change == "code" and binding == "method":
        with_receiver = types.FunctionType(eval("lambda self, number, factor: number * factor").__code__, {})
        change_it = functools.partial(setattr, function, "__code__", with_receiver.__code__)
    else:
        change_it = functools.partial(CHANGES[change], function)
    settings = {"blackbox": str(tmp_path / "box.ring")} if box else {}
    with recording(capture_inputs=True, capture_outputs=True, **settings) as recorded:
        call(2)
        call(1)
        change_it()
        call(1)
        call(1)
    found = [(step.invocation_json["payload"], step.output_json) for trace in recorded.traces for step in trace.steps]
    before = [({"value": 2, "more": 1}, 3), ({"value": 1, "more": 1}, 2)]
    assert found == [*before, *[AFTER[change]] * 2]


def test_a_change_after_the_last_call_is_not_in_the_trace():
    @traced_node
    def scaled(value, *, factor=2):
        return value * factor

    with recording(capture_inputs=True) as recorded, flowtrace.flow("all"):
        scaled(3)
        scaled.__kwdefaults__ = {"factor": 7}
    (step,) = recorded.traces[0].steps
    assert step.invocation_json["payload"] == {"value": 3, "factor": 2}


def test_defaults_that_were_changed_to_what_may_change_are_taken_at_the_call():
    @traced_node
    def gathered(value, into=()):
        return [*into, value]

    with recording(capture_inputs=True) as recorded:
        gathered(1)
        gathered.__defaults__ = ([1],)
        gathered(2)
        gathered.__defaults__[0].append(5)
    payloads = [step.invocation_json["payload"] for trace in recorded.traces for step in trace.steps]
    assert payloads == [{"value": 1, "into": []}, {"value": 2, "into": [1]}]
