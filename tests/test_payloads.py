"""The payload of a call: its bound parameters, as they were before it, whatever the signature and the binding."""

from __future__ import annotations

import functools

import pytest

from flowtrace import traced_node
from flowtrace.testing import recording


def payload_of(call, *args, **kwargs):
    """Return the payload of the one step that a call leaves, everything captured."""
    with recording(capture_inputs=True) as recorded:
        call(*args, **kwargs)
    (step,) = (step for trace in recorded.traces for step in trace.steps)
    return step.invocation_json["payload"]


@traced_node
def positional_only(a, b=2, /, c=3):
    return a


@traced_node
def everything(a, /, b, *args, c, d=4, **kwargs):
    return a


@traced_node
def like_wrapt(wrapped, instance, args, kwargs, *, enabled=None, function=1):
    return wrapped


@traced_node
def keywords(**kwargs):
    return kwargs


@pytest.mark.parametrize(
    ("node", "args", "kwargs", "payload"),
    [
        (positional_only, (1,), {}, {"a": 1, "b": 2, "c": 3}),
        (positional_only, (1, 5), {"c": 6}, {"a": 1, "b": 5, "c": 6}),
        (everything, (1, 2), {"c": 3}, {"a": 1, "b": 2, "args": [], "c": 3, "d": 4, "kwargs": {}}),
        (
            everything,
            (1, 2, 3, 4),
            {"c": 5, "d": 6, "e": 7, "a": 8},
            {"a": 1, "b": 2, "args": [3, 4], "c": 5, "d": 6, "kwargs": {"e": 7, "a": 8}},
        ),
        (
            like_wrapt,
            (),
            {"wrapped": 1, "instance": 2, "args": 3, "kwargs": 4},
            {"wrapped": 1, "instance": 2, "args": 3, "kwargs": 4, "enabled": None, "function": 1},
        ),
        (
            keywords,
            (),
            {"self": 1, "function": 2, "component": 3, "args": 4, "kwargs": 5, "step": 6, "node": 7},
            {"kwargs": {"self": 1, "function": 2, "component": 3, "args": 4, "kwargs": 5, "step": 6, "node": 7}},
        ),
    ],
)
def test_a_payload_is_the_object_of_the_bound_parameters(node, args, kwargs, payload):
    assert payload_of(node, *args, **kwargs) == payload


def test_a_call_that_does_not_fit_the_signature_shows_what_was_passed():
    with recording(capture_inputs=True) as recorded, pytest.raises(TypeError, match="positional_only"):
        positional_only(1, 2, 3, 4, e=5)
    (step,) = recorded.traces[0].steps
    assert step.invocation_json["payload"] == {"args": [1, 2, 3, 4], "kwargs": {"e": 5}}
    assert step.error.message == "positional_only() takes from 1 to 3 positional arguments but 4 were given" or (
        "unexpected keyword argument 'e'" in step.error.message
    )


class Receivers:
    @traced_node
    def method(self, value=1):
        return value

    @traced_node
    @classmethod
    def outside_class(cls, value=1):
        return value

    @classmethod
    @traced_node
    def inside_class(cls, value=1):
        return value

    @traced_node
    @staticmethod
    def outside_static(value=1):
        return value

    @staticmethod
    @traced_node
    def inside_static(value=1):
        return value

    @traced_node
    def __call__(self, value=1):
        return value

    @traced_node
    def odd_name(this, value=1):
        return value

    @classmethod
    @traced_node
    def odd_class(klass, value=1):
        return value


class Heir(Receivers):
    pass


@pytest.mark.parametrize("owner", [Receivers, Heir])
@pytest.mark.parametrize("given", [(), (5,)])
@pytest.mark.parametrize(
    "reach",
    [
        lambda cls: cls().method,
        lambda cls: functools.partial(cls.method, cls()),
        lambda cls: functools.partial(cls.method, self=cls()),
        lambda cls: functools.partial(cls.__dict__.get("method", cls.method), cls()),
        lambda cls: cls.outside_class,
        lambda cls: cls().outside_class,
        lambda cls: cls.inside_class,
        lambda cls: cls().inside_class,
        lambda cls: cls.outside_static,
        lambda cls: cls().outside_static,
        lambda cls: cls.inside_static,
        lambda cls: cls().inside_static,
        lambda cls: cls(),
        lambda cls: cls().__call__,
        lambda cls: cls().odd_name,
        lambda cls: functools.partial(cls.odd_name, cls()),
        lambda cls: cls.odd_class,
    ],
    ids=[
        *("bound", "unbound", "self-by-keyword", "from-dict", "class-outside", "class-outside-instance"),
        *("class-inside", "class-inside-instance", "static-outside", "static-outside-instance", "static-inside"),
        *("static-inside-instance", "call", "call-bound", "odd-name", "odd-name-unbound", "odd-class"),
    ],
)
def test_the_receiver_is_left_out_for_every_binding(reach, given, owner):
    call = reach(owner)
    if isinstance(call, functools.partial) and call.keywords:
        given = ()
    assert payload_of(call, *given) == {"value": given[0] if given else 1}


def test_a_plain_function_keeps_a_parameter_called_self():
    @traced_node
    def plain(self, cls):
        return self

    assert payload_of(plain, 1, 2) == {"self": 1, "cls": 2}
    assert payload_of(plain, 1, cls=2) == {"self": 1, "cls": 2}


def test_arguments_and_defaults_are_taken_as_they_were_before_the_call():
    @traced_node
    def grow(given, kept=[], *, also={}):
        given.append("new")
        kept.append(len(kept))
        also[len(also)] = True
        return kept

    first, second = [], []
    with recording(capture_inputs=True) as recorded:
        grow(first)
        grow(second)
    steps = sorted((trace.steps[0] for trace in recorded.traces), key=lambda step: step.step_id)
    payloads = [step.invocation_json["payload"] for step in steps]
    assert payloads == [
        {"given": [], "kept": [], "also": {}},
        {"given": [], "kept": [0], "also": {"$py": "dict", "items": [[0, True]]}},
    ]


def test_changed_defaults_of_a_function_are_seen():
    @traced_node
    def node(a, b=1, *, c=2):
        return a

    node.__defaults__, node.__kwdefaults__ = (7,), {"c": 8}
    assert payload_of(node, 1) == {"a": 1, "b": 7, "c": 8}


def lonely(cls, by):
    return by


class Adopts:
    lonely = classmethod(traced_node(lonely))


def test_a_function_that_a_class_took_as_a_class_method_has_a_receiver():
    assert payload_of(Adopts.lonely, 2) == {"by": 2}
    assert payload_of(traced_node(lonely), 1, by=2) == {"by": 2, "cls": 1}
