"""Decorated functions, methods and classes travel: copied, pickled, to other processes, and back."""

from __future__ import annotations

import asyncio
import copy
import functools
import io
import itertools
import pickle

import cloudpickle
import pytest

import flowtrace
from flowtrace import flow, traced_node
from flowtrace.instrument.proxies import is_traced

MODES = ("off", "on", "always")


def plain_double(value):
    return value * 2


@traced_node
def double(value):
    return value * 2


@traced_node
async def double_later(value):
    return value * 2


@traced_node
def each(value):
    yield value


@flow("doubling")
def double_in_flow(value):
    return value * 2


@flow("outer")
@traced_node
@flow("inner")
def double_in_layers(value):
    return value * 2


@traced_node
def broken(value):
    raise ValueError(value)


class Plain:
    def __init__(self, value=1):
        self.value = value
        self.callback = self.method

    def method(self, by=1):
        return (self.value, by)

    @classmethod
    def made(cls, value=1):
        return cls.__name__, value

    @staticmethod
    def static(value=1):
        return value


class Traced:
    def __init__(self, value=1):
        self.value = value
        self.callback = self.method

    @traced_node
    def method(self, by=1):
        return (self.value, by)

    @traced_node
    @classmethod
    def made(cls, value=1):
        return cls.__name__, value

    @classmethod
    @traced_node
    def made_inside(cls, value=1):
        return cls.__name__, value

    @traced_node
    @staticmethod
    def static(value=1):
        return value

    @staticmethod
    @traced_node
    def static_inside(value=1):
        return value

    class Inner:
        @traced_node
        def method(self, by=1):
            return by


@traced_node
class Whole:
    def __init__(self, value=1):
        self.value = value

    def method(self, by=1):
        return (self.value, by)

    @classmethod
    def made(cls, value=1):
        return cls.__name__, value

    @staticmethod
    def static(value=1):
        return value


class Heir(Traced):
    pass


class Callable_:
    def __init__(self):
        self.seen = []

    def __call__(self, value):
        self.seen.append(value)
        return value * 2

    def method(self, value):
        return value * 2


as_partial = traced_node(functools.partial(plain_double))
as_builtin = traced_node(len)
as_object = traced_node(Callable_())
as_bound = traced_node(Callable_().method)
under_another_name = traced_node(plain_double)

FUNCTIONS = {"double": double, "flow": double_in_flow, "layers": double_in_layers}
UNNAMED = {
    "partial": as_partial,
    "object": as_object,
    "bound": as_bound,
    "alias": under_another_name,
}
REACHED = {
    "unbound method": (lambda: Traced.method, lambda got: got(Traced(7), 2) == (7, 2)),
    "bound method": (lambda: Traced(7).method, lambda got: got(by=2) == (7, 2)),
    "inherited bound method": (lambda: Heir(7).method, lambda got: got(2) == (7, 2)),
    "inherited unbound method": (lambda: Heir.method, lambda got: got(Heir(7), 2) == (7, 2)),
    "nested class": (lambda: Traced.Inner.method, lambda got: got(Traced.Inner(), 2) == 2),
    "nested class bound": (lambda: Traced.Inner().method, lambda got: got(2) == 2),
    "class method": (lambda: Traced.made, lambda got: got(3) == ("Traced", 3)),
    "class method of an instance": (lambda: Traced().made, lambda got: got(3) == ("Traced", 3)),
    "class method of an heir": (lambda: Heir.made, lambda got: got(3) == ("Heir", 3)),
    "class method inside": (lambda: Traced.made_inside, lambda got: got(3) == ("Traced", 3)),
    "static method": (lambda: Traced.static, lambda got: got(3) == 3),
    "static method of an instance": (lambda: Traced().static, lambda got: got(3) == 3),
    "static method inside": (lambda: Traced.static_inside, lambda got: got(3) == 3),
    "method of a decorated class": (lambda: Whole(7).method, lambda got: got(2) == (7, 2)),
    "class method of a decorated class": (lambda: Whole.made, lambda got: got(3) == ("Whole", 3)),
    "static method of a decorated class": (lambda: Whole.static, lambda got: got(3) == 3),
}


def in_c(value, protocol):
    return pickle.loads(pickle.dumps(value, protocol))


def in_python(value, protocol):
    stream = io.BytesIO()
    pickle._Pickler(stream, protocol).dump(value)
    return pickle._Unpickler(io.BytesIO(stream.getvalue())).load()


def by_cloudpickle(value, protocol):
    return pickle.loads(cloudpickle.dumps(value, protocol))


PICKLERS = [
    pytest.param(pickler, protocol, id=f"{pickler.__name__}-{protocol}")
    for pickler, protocol in itertools.product((in_c, in_python), range(pickle.HIGHEST_PROTOCOL + 1))
] + [pytest.param(by_cloudpickle, pickle.HIGHEST_PROTOCOL, id="cloudpickle")]


@pytest.fixture(params=MODES)
def mode(request, tmp_path):
    flowtrace.configure(mode=request.param, out_path=tmp_path / "trace.{run_id}.json")
    return request.param


# --- pickle


@pytest.mark.cells
@pytest.mark.parametrize(("travel", "protocol"), PICKLERS)
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_a_module_function_arrives_as_itself(name, travel, protocol, mode):
    function = FUNCTIONS[name]
    assert travel(function, protocol) is function
    assert travel({"f": [function]}, protocol) == {"f": [function]}
    assert function(4) == 8


@pytest.mark.cells
@pytest.mark.parametrize(("travel", "protocol"), PICKLERS)
def test_coroutine_functions_and_generators_arrive_as_themselves(travel, protocol, mode):
    assert travel(double_later, protocol) is double_later
    assert travel(each, protocol) is each
    assert asyncio.run(travel(double_later, protocol)(2)) == 4
    assert list(travel(each, protocol)(2)) == [2]


@pytest.mark.cells
@pytest.mark.parametrize(("travel", "protocol"), PICKLERS)
@pytest.mark.parametrize("name", list(REACHED))
def test_a_method_arrives_working_however_it_was_reached(name, travel, protocol, mode):
    reach, works = REACHED[name]
    assert works(reach())
    assert works(travel(reach(), protocol))


@pytest.mark.parametrize("name", list(REACHED))
def test_a_method_arrives_decorated(name):
    reach, works = REACHED[name]
    arrived = in_c(reach(), 5)
    with flowtrace.testing.recording() as recorded:
        assert works(arrived)
    assert [len(trace.steps) for trace in recorded.traces] == [1]


@pytest.mark.cells
@pytest.mark.parametrize(("travel", "protocol"), PICKLERS)
def test_a_class_and_its_instances_arrive(travel, protocol, mode):
    assert travel(Whole, protocol) is Whole
    assert travel(Traced.Inner, protocol) is Traced.Inner
    assert travel(Whole(5), protocol).method(1) == (5, 1)
    arrived = travel(Traced(5), protocol)
    assert arrived.callback(1) == (5, 1)
    arrived.value = 6
    assert arrived.callback(1) == (6, 1)


@pytest.mark.cells
@pytest.mark.parametrize(("travel", "protocol"), PICKLERS)
@pytest.mark.parametrize("name", list(UNNAMED))
def test_what_no_module_has_under_its_name_arrives_working(name, travel, protocol, mode):
    arrived = travel(UNNAMED[name], protocol)
    assert arrived(4) == 8
    assert is_traced(arrived) is (name == "alias" and travel is by_cloudpickle)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", list(UNNAMED))
def test_a_pickle_names_no_module_of_flowtrace(name, protocol, mode):
    assert b"flowtrace" not in pickle.dumps(UNNAMED[name], protocol).replace(__name__.encode(), b"")


def test_a_decorated_builtin_arrives_as_the_builtin(mode):
    assert in_c(as_builtin, 5) is len


@pytest.mark.parametrize("pickler", [in_c, in_python])
def test_a_local_function_is_refused_as_if_it_were_not_decorated(pickler, mode):
    def local():
        return 1

    local_traced = traced_node(local)
    with pytest.raises((AttributeError, pickle.PicklingError)) as plain_error:
        pickler(local, 5)
    with pytest.raises((AttributeError, pickle.PicklingError)) as error:
        pickler(local_traced, 5)
    assert (type(error.value), str(error.value)) == (type(plain_error.value), str(plain_error.value))


def test_cloudpickle_takes_local_functions_and_classes_by_value_with_their_decorators(mode):
    offset = 5

    @traced_node
    def local(value):
        return value + offset

    @traced_node
    def recursive(value):
        return 0 if value == 0 else 1 + recursive(value - 1)

    class Local:
        @traced_node
        def method(self, value):
            return value + offset

        @traced_node
        @classmethod
        def made(cls, value):
            return cls.__name__, value

        @traced_node
        @staticmethod
        def static(value):
            return value + offset

    send = cloudpickle.dumps
    assert pickle.loads(send(local))(1) == 6
    assert is_traced(pickle.loads(send(local)))
    assert is_traced(vars(pickle.loads(send(Local)))["method"])
    assert pickle.loads(send(recursive))(3) == 3
    assert pickle.loads(send(traced_node(lambda value: value + offset)))(1) == 6
    assert pickle.loads(send(Local))().method(1) == 6
    assert pickle.loads(send(Local().method))(1) == 6
    assert pickle.loads(send(Local.method))(Local(), 1) == 6
    assert pickle.loads(send(Local.made))(1) == ("Local", 1)
    assert pickle.loads(send(Local.static))(1) == 6


# --- copy


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
def test_a_function_is_its_own_copy(copier, mode):
    for function in (*FUNCTIONS.values(), double_later, each, as_builtin, under_another_name):
        assert copier(function) is function
    assert copier([double, double])[1] is double
    assert copier(Whole) is Whole


@pytest.mark.parametrize("cls", [Plain, Traced])
def test_a_bound_method_is_copied_with_its_receiver_only_in_depth(cls, mode):
    one = cls(1)
    shallow, deep = copy.copy(one.method), copy.deepcopy(one.method)
    one.value = 2
    assert (shallow(), deep()) == ((2, 1), (1, 1))
    assert (shallow.__self__ is one, deep.__self__ is one) == (True, False)
    for reach in ("made", "static"):
        assert copy.deepcopy(getattr(one, reach))(4) == getattr(one, reach)(4)


@pytest.mark.parametrize("cls", [Plain, Traced])
def test_a_deep_copy_of_an_object_calls_back_to_itself(cls, mode):
    one = cls(1)
    two = copy.deepcopy(one)
    two.value = 5
    assert (one.callback(), two.callback()) == ((1, 1), (5, 1))
    assert two.callback.__self__ is two


@pytest.mark.parametrize("decorate", [lambda target: target, traced_node], ids=["plain", "traced"])
def test_copies_of_a_callable_object_share_what_plain_ones_share(decorate, mode):
    original = decorate(Callable_())
    shallow, deep = copy.copy(original), copy.deepcopy(original)
    assert [f(2) for f in (original, shallow, deep)] == [4, 4, 4]
    assert (shallow.seen is original.seen, deep.seen is original.seen) == (True, False)
    assert (original.seen, deep.seen) == ([2, 2], [2])


def test_a_copied_callable_object_is_still_a_node():
    with flowtrace.testing.recording() as recorded:
        copy.deepcopy(as_object)(1)
        copy.copy(as_partial)(1)
    assert sorted(trace.steps[0].operation for trace in recorded.traces) == ["Callable_", "plain_double"]
