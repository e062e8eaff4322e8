"""What is current follows the program, and the program's own context variables are as without us."""

from __future__ import annotations

import contextvars
import decimal
import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtrace import traced_node
from flowtrace.recording.state import CURRENT, current
from flowtrace.testing import recording

GENERATORS = 3
VARIABLES = [contextvars.ContextVar(f"of_the_program_{number}", default=0) for number in range(2)]

actions = st.one_of(
    st.just(("nothing",)),
    st.tuples(st.just("set"), st.integers(0, 1), st.integers(1, 3)),
    st.just(("copy",)),
    st.just(("call",)),
    st.tuples(st.just("resume"), st.integers(0, GENERATORS - 1)),
    st.tuples(st.just("resume in"), st.integers(0, GENERATORS - 1), st.integers(0, 5)),
    st.tuples(st.just("close"), st.integers(0, GENERATORS - 1)),
)


class Program:
    """Does what it is told, in its outermost function and in generators; notes what a program can see."""

    def __init__(self, decorate, bodies):
        self.seen = []
        self.copies = []
        self.running = set()
        # functions, not methods: the native core leaves those to Python that are bound already when they are decorated
        self.call = decorate(lambda: self.look())
        self.bodies = [self.started(decorate, number, body) for number, body in enumerate(bodies)]
        self.outermost = decorate(lambda: self.run_script())

    def started(self, decorate, number, body):
        @decorate
        def stream():
            mine = current()
            for action in body:
                self.do(action)
                self.look()
                assert current() is mine
                yield action
                self.look()
                assert current() is mine

        return stream()

    def look(self):
        self.seen.append([variable.get() for variable in VARIABLES])
        self.seen.append(sorted(item.name for item in contextvars.copy_context() if item is not CURRENT))

    def run_script(self):
        mine = current()
        for action in self.script:
            self.do(action)
            self.look()
            assert current() is mine
        for body in self.bodies:
            body.close()
        assert current() is mine

    def do(self, action):
        kind, *which = action
        if kind == "set":
            VARIABLES[which[0]].set(which[1])
        elif kind == "copy":
            self.copies.append((contextvars.copy_context(), current()))
        elif kind == "call":
            self.call()
        elif kind == "close" and which[0] not in self.running:
            self.bodies[which[0]].close()
        elif kind == "resume":
            self.resume(which[0])
        elif kind == "resume in" and self.copies:
            context, there = self.copies[which[1] % len(self.copies)]
            try:
                context.run(self.resume, which[0])
            except RuntimeError:  # the program is in it already
                self.seen.append("in it")
            else:
                assert context.get(CURRENT) is there

    def resume(self, number):
        if number in self.running:
            return
        before = current()
        self.running.add(number)
        self.seen.append(next(self.bodies[number], "over"))
        self.running.discard(number)
        assert current() is before


def run(decorate, bodies, script):
    program = Program(decorate, bodies)
    program.script = script
    contextvars.Context().run(program.outermost)
    return program


@given(st.lists(st.lists(actions, max_size=5), min_size=3, max_size=3), st.lists(actions, max_size=20))
def test_every_program_sees_its_variables_as_without_us_and_each_body_its_own_step(bodies, script):
    without = run(lambda function: function, bodies, script)
    with recording():
        traced = run(traced_node, bodies, script)
    assert traced.seen == without.seen
    assert [context.get(CURRENT) for context, _ in traced.copies] == [step for _, step in traced.copies]


def items(count):
    yield from range(count)


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "beside-others"])
def test_the_values_of_the_programs_variables_end_when_they_do_without_us(others):
    class Value:
        pass

    def lifetimes(decorate):
        alive = []
        variable = contextvars.ContextVar("variable")
        if others:
            decimal.getcontext()

        def watched():
            value = Value()
            variable.set(value)
            return weakref.ref(value)

        def look(*values):
            alive.append([value() is not None for value in values])

        @decorate
        def changes(value):
            variable.set(None)
            look(value)

        stream = decorate(items)(9)
        first = watched()
        next(stream)
        next(stream)
        second = watched()
        look(first, second)
        changes(second)
        next(stream)
        third = watched()
        next(stream)
        variable.set(None)
        look(first, second, third)
        return alive

    with recording():
        traced = contextvars.Context().run(lifetimes, traced_node)
    assert traced == contextvars.Context().run(lifetimes, lambda function: function)


def test_a_suspended_generator_and_its_step_are_collected():
    class Value:
        pass

    def hold(value):
        holder = [value]
        yield
        yield holder

    with recording():
        value = Value()
        stream = traced_node(hold)(value)
        next(stream)
        value.stream, watched = stream, weakref.ref(value)
        del value, stream
        gc.collect()
        assert watched() is None
