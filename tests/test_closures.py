"""A function that closes over something lets go of it when the program lets go of the function, recorded or not."""

import gc
import json
import weakref

import pytest

import flowtrace


class Held:
    pass


def kept_by(make):
    """Call a function that closes over an object, drop it, and return what is left of the object."""
    held = Held()
    function = make(held)
    function(1)
    reference = weakref.ref(held)
    del function, held
    gc.collect()
    return reference()


def plain(held):
    @flowtrace.traced_node
    def function(value):
        return value, held is None

    return function


def recursive(held):
    @flowtrace.traced_node
    def function(value):
        return function(value - 1) if value else held is None

    return function


def generator(held):
    @flowtrace.traced_node
    def function(value):
        yield value, held

    return lambda value: len(list(function(value)))


def method(held):
    class Local:
        @flowtrace.traced_node
        def method(self, value):
            return value, held is None

    return Local().method


@pytest.mark.parametrize("mode", ["off", "on", "always"])
@pytest.mark.parametrize("make", [plain, recursive, generator, method])
def test_no_step_keeps_what_a_function_closes_over(tmp_path, make, mode):
    flowtrace.configure(mode=mode, out_path=tmp_path / "trace.json", capture_inputs=True)
    assert kept_by(make) is None


def test_the_steps_of_a_function_that_is_gone_have_their_parameters(tmp_path):
    path = tmp_path / "trace.json"
    flowtrace.configure(mode="on", out_path=path, capture_inputs=True)

    @flowtrace.traced_node
    def outer():
        kept_by(with_parameters)
        raise ValueError("no")

    def with_parameters(held):
        @flowtrace.traced_node
        def function(first, second=2, *others, third=3):
            return held is None

        return function

    with pytest.raises(ValueError, match="no"):
        outer()
    step = json.loads(path.read_text())["steps"][0]
    assert step["invocation_json"]["payload"] == {"first": 1, "second": 2, "others": [], "third": 3}
    assert step["code"]["line"] > 0
