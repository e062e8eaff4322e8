"""The generator protocol: everything that a consumer can do to a generator, and what it sees."""

from __future__ import annotations

import contextvars
import gc
import inspect
import itertools
import threading
import types
from typing import Any

from .transcript import noise, outcome

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("conformance_generator", default="unset")


def _echo(log: list[Any], returned: Any = "returned") -> Any:
    """Yield what is sent, note what is thrown, and return at "stop"."""
    received = yield "started"
    while received != "stop":
        log.append(received)
        try:
            received = yield received
        except LookupError as error:
            log.append(f"caught {error}")
            received = "after the error"
    return returned


def values_are_sent_and_returned(decorate):
    log: list[Any] = []
    generator = decorate(_echo)(log)
    seen = [outcome(next, generator), outcome(generator.send, "one"), outcome(generator.send, 2)]
    seen += [outcome(generator.send, "stop"), outcome(next, generator), outcome(generator.send, 3)]
    return seen, log


def nothing_can_be_sent_before_the_start(decorate):
    generator = decorate(_echo)([])
    return outcome(generator.send, "early"), outcome(next, generator)


def errors_are_thrown_in(decorate):
    log: list[Any] = []
    generator = decorate(_echo)(log)
    next(generator)
    generator.send("one")
    thrown = KeyError("thrown")
    seen = [outcome(generator.throw, thrown), outcome(generator.throw, LookupError), outcome(generator.send, "two")]
    seen += [outcome(generator.throw, ValueError("not caught")), outcome(next, generator)]
    return seen, log


def a_thrown_error_comes_out_as_the_same_object(decorate):
    generator = decorate(_echo)([])
    next(generator)
    thrown = ValueError("thrown")
    cause = KeyError("cause")
    thrown.__cause__ = cause
    try:
        generator.throw(thrown)
    except ValueError as error:
        return error is thrown, error.__cause__ is cause, error.__context__, error.__suppress_context__
    return "nothing came out"


def an_error_thrown_before_the_start_ends_it(decorate):
    log: list[Any] = []
    generator = decorate(_echo)(log)
    return outcome(generator.throw, ValueError("early")), outcome(next, generator), log


def an_error_has_the_context_of_the_one_thrown_in(decorate):
    def body():
        try:
            yield 1
        except KeyError:
            raise ValueError("from within")  # the KeyError is to be its context

    generator = decorate(body)()
    next(generator)
    return outcome(generator.throw, KeyError("thrown"))


def stop_iteration_thrown_in(decorate):
    def catches():
        try:
            yield 1
        except StopIteration as stop:
            yield ("caught", stop.value)
            return stop.value

    def lets_through():
        yield 1

    seen = []
    for body in (catches, lets_through):
        generator = decorate(body)()
        next(generator)
        seen += [outcome(generator.throw, StopIteration("value")), outcome(next, generator)]
    return seen


def stop_iteration_raised_inside(decorate):
    def body():
        yield 1
        next(iter(()))

    generator = decorate(body)()
    next(generator)
    return outcome(next, generator), outcome(next, generator)


def odd_values_are_returned(decorate):
    def body(value):
        return value
        yield

    made = decorate(body)
    return [outcome(next, made(value)) for value in (None, (), (1, 2), StopIteration(3).value, [StopIteration])]


def an_exception_is_returned(decorate):
    error = ValueError("a value")

    def body():
        yield
        return error

    generator = decorate(body)()
    next(generator)
    try:
        next(generator)
    except StopIteration as stop:
        return stop.value is error
    return "nothing was returned"


def closing(decorate):
    log = []

    def body():
        try:
            yield 1
        except GeneratorExit as error:
            log.append(("exit", str(error)))
            raise
        finally:
            log.append("finally")

    started, fresh, ended = decorate(body)(), decorate(body)(), decorate(body)()
    next(started)
    list(ended)
    return [outcome(item.close) for item in (started, started, fresh, ended)], outcome(next, fresh), log


def a_body_returns_a_value_when_it_is_closed(decorate):
    def body():
        try:
            yield 1
        except GeneratorExit:
            return "last words"

    closed, thrown = decorate(body)(), decorate(body)()
    next(closed)
    next(thrown)
    return outcome(closed.close), outcome(closed.close), outcome(thrown.throw, GeneratorExit), outcome(next, closed)


def a_body_ignores_being_closed(decorate):
    def body():
        for _ in range(3):
            try:
                yield 1
            except GeneratorExit:
                pass
        yield 2

    with noise() as heard:
        generator = decorate(body)()
        next(generator)
        seen = [outcome(generator.close), outcome(generator.throw, GeneratorExit), outcome(next, generator)]
        seen += [outcome(next, generator), outcome(next, generator)]
    return seen, heard


def a_body_fails_when_it_is_closed(decorate):
    def body():
        try:
            yield 1
        finally:
            raise ValueError("in finally")

    with noise() as heard:
        closed, dropped = decorate(body)(), decorate(body)()
        next(closed)
        next(dropped)
        seen = outcome(closed.close), outcome(next, closed)
        del dropped
    return seen, heard


def a_dropped_generator_is_closed_at_once(decorate):
    log = []

    def body():
        try:
            yield 1
        finally:
            log.append("finally")

    with noise() as heard:
        generator = decorate(body)()
        next(generator)
        del generator
        log.append("after del")
        cycle = [decorate(body)()]
        cycle.append(cycle)
        next(cycle[0])
        del cycle
        gc.collect()
        log.append("after collect")
        decorate(body)()
    return log, heard


def delegation(decorate):
    def inner(log):
        try:
            received = yield "inner"
            log.append(received)
            yield received
        except LookupError as error:
            log.append(str(error))
        finally:
            log.append("inner finally")
        return "inner value"

    traced = decorate(inner)

    def outer(log):
        value = yield from traced(log)
        log.append(value)
        yield "outer"

    log: list[Any] = []
    generator = decorate(outer)(log)
    seen = [next(generator), generator.send("sent"), generator.throw(KeyError("thrown")), outcome(next, generator)]
    closed = decorate(outer)(log)
    next(closed)
    closed.close()
    return seen, log


def inspection(decorate):
    states = []

    def body():
        states.append((inspect.getgeneratorstate(holder[0]), holder[0].gi_running))
        states.append(outcome(next, holder[0]))
        states.append(outcome(holder[0].close))
        yield 1

    holder = [decorate(body)()]
    generator = holder[0]
    states += [inspect.getgeneratorstate(generator), generator.gi_running, generator.gi_frame is None]
    next(generator)
    states += [inspect.getgeneratorstate(generator), generator.gi_running, generator.gi_frame is None]
    states += [isinstance(generator.gi_frame, types.FrameType), type(generator.gi_code), generator.gi_suspended]
    list(generator)
    states += [inspect.getgeneratorstate(generator), generator.gi_running, generator.gi_frame]
    states += [generator.__class__, generator.__name__, generator.__qualname__, iter(generator) is generator]
    states += [inspect.isgenerator(generator), inspect.isawaitable(generator), inspect.iscoroutine(generator)]
    states += [hasattr(generator, name) for name in ("__await__", "__len__", "__dict__", "gi_yieldfrom")]
    generator.__name__ = "renamed"
    return [*states, generator.__name__]


def wrong_arguments_fail_at_the_call(decorate):
    def body(value):
        yield value

    return outcome(decorate(body)), outcome(decorate(body), 1, 2), outcome(decorate(body), other=1)


def context_variables_leak_as_they_do(decorate):
    def body():
        VARIABLE.set("set before the yield")
        yield VARIABLE.get()
        yield VARIABLE.get()
        VARIABLE.set("set at the end")

    def main():
        generator = decorate(body)()
        seen = [VARIABLE.get(), next(generator), VARIABLE.get()]
        VARIABLE.set("set by the consumer")
        seen += [next(generator), outcome(next, generator), VARIABLE.get()]
        return seen

    return contextvars.copy_context().run(main)


def a_token_is_reset_in_the_consumers_context(decorate):
    def body():
        token = VARIABLE.set("inside")
        try:
            yield VARIABLE.get()
        finally:
            VARIABLE.reset(token)

    def main():
        generator = decorate(body)()
        return [next(generator), VARIABLE.get(), outcome(generator.close), VARIABLE.get()]

    return contextvars.copy_context().run(main)


def two_are_consumed_in_turn(decorate):
    def body(name):
        for number in range(3):
            received = yield (name, number)
            if received:
                yield received

    made = decorate(body)
    one, two = made("one"), made("two")
    seen = [next(one), next(two), one.send("a"), two.send("b"), next(one), next(two)]
    return seen, list(one), list(two), list(zip(made("x"), made("y"), strict=True))


def consumed_in_another_thread(decorate):
    def body():
        for _ in range(3):
            yield threading.current_thread().name

    generator = decorate(body)()
    seen = [next(generator) == threading.current_thread().name]
    thread = threading.Thread(target=lambda: seen.append(next(generator)), name="other")
    thread.start()
    thread.join()
    seen.append(next(generator) == threading.current_thread().name)
    return seen


def used_by_the_standard_library(decorate):
    def body(count):
        total = 0
        for number in range(count):
            total += number
            yield number
        return total

    made = decorate(body)
    first, *rest = made(4)
    left, right = itertools.tee(made(3))
    return [list(made(3)), sum(made(5)), first, rest, list(left), list(right), list(itertools.chain(made(2), made(1)))]


def an_endless_one_is_left_early(decorate):
    closed = []

    def body():
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    seen = []
    for number in decorate(body)():
        seen.append(number)
        if number == 3:
            break
    gc.collect()
    return seen, closed, list(itertools.islice(decorate(body)(), 2))


def sys_exception_in_the_body_is_the_consumers(decorate):
    def body():
        import sys

        yield repr(sys.exc_info()[1])
        try:
            raise KeyError("inside")
        except KeyError:
            yield repr(sys.exc_info()[1])
        yield repr(sys.exc_info()[1])

    generator = decorate(body)()
    try:
        raise ValueError("outside")
    except ValueError:
        seen = [next(generator)]
    seen += [next(generator), next(generator)]
    return seen


SCENARIOS = (
    *(values_are_sent_and_returned, nothing_can_be_sent_before_the_start, errors_are_thrown_in),
    *(a_thrown_error_comes_out_as_the_same_object, an_error_thrown_before_the_start_ends_it),
    *(an_error_has_the_context_of_the_one_thrown_in, stop_iteration_thrown_in, stop_iteration_raised_inside),
    *(odd_values_are_returned, an_exception_is_returned, closing, a_body_returns_a_value_when_it_is_closed),
    *(a_body_ignores_being_closed, a_body_fails_when_it_is_closed, a_dropped_generator_is_closed_at_once),
    *(delegation, inspection, wrong_arguments_fail_at_the_call, context_variables_leak_as_they_do),
    *(a_token_is_reset_in_the_consumers_context, two_are_consumed_in_turn, consumed_in_another_thread),
    *(used_by_the_standard_library, an_endless_one_is_left_early, sys_exception_in_the_body_is_the_consumers),
)
