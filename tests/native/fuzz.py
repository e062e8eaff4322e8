"""Random programs, each once undecorated and once traced: both must do the same, whatever happens to be called.

    python tests/native/fuzz.py [--seed N] [--programs N | --seconds N]

Prints one line for each program: its seed and a hash of what it did and what was recorded of it. The same seeds give
the same lines with the native core and with its pure twin, which `run.py` compares.
"""

from __future__ import annotations

import argparse
import enum
import gc
import hashlib
import random
import sys
import tempfile
import time
import weakref
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count

import flowtrace
from flowtrace.recording.state import CURRENT, running
from flowtrace.testing import fixed_clock, recording

DEEPEST = 4  # calls inside calls
NODES = 7
MOST_CALLS = 60  # of one program: they branch
KINDS = ("plain", "generator", "coroutine", "async generator", "method")


class Expected(Exception):
    """What the programs fail with."""


class Interruption(BaseException):
    """What no `except Exception` catches."""


@dataclass
class Record:
    """A value of which the native core copies the attributes; those of some are changed later, or are too many."""

    name: str
    items: list


@dataclass(slots=True)
class Slotted:
    """Such a value, with its attributes in slots."""

    item: object


class Color(enum.Enum):
    """A value that is its name."""

    RED = 1


ERRORS = (Expected, Interruption, StopIteration, GeneratorExit, KeyError, RecursionError)

# --- values


def value_of(chance, depth=0):
    """Return a random value; atoms more often than not."""
    atoms = (
        None,
        True,
        0,
        -1,
        1 << 62,
        1 << 64,
        -(1 << 200),
        0.1,
        float("nan"),
        float("-inf"),
        "",
        "text",
        "größer",
        "\ud800",
        "x" * 5000,
        b"",
        b"\x00\xff",
        2j,
        range(3),
        ...,
        Color.RED,
        Decimal("1.5"),
        datetime(2024, 2, 29, tzinfo=UTC),
        object(),
    )
    if depth > 3 or chance.random() < 0.6:
        return chance.choice(atoms)
    parts = [value_of(chance, depth + 1) for _ in range(chance.choice((0, 1, 2, 3, 9)))]
    kind = chance.randrange(8)
    if kind == 0:
        return {f"key{number}": part for number, part in enumerate(parts)}
    if kind == 1:
        return {chance.choice(atoms[:7]): part for part in parts}
    if kind == 2:
        record = Record("record", parts)
        if chance.random() < 0.2:
            record.more = parts[:1]
        return record
    if kind == 6:
        return Slotted(parts[0] if parts else None)
    if kind == 3:
        parts.append(parts)  # a cycle
        return parts
    return tuple(parts) if kind == 4 else parts


# --- programs: nodes with a list of actions each, which were chosen before anything runs


class Pause:
    """Gives control to who drives the coroutine."""

    def __await__(self):
        return (yield "pause")


@dataclass
class Plan:
    """What a node does: for each action its name, what it needs, and the node that it calls."""

    kind: str
    actions: list


def plan_of(chance):
    names = ("call", "call", "call", "caught", "give", "fail", "wrong arguments", "return", "drop", "throw", "pause")
    actions = [
        (chance.choice(names), chance.randrange(NODES), value_of(chance), chance.choice(ERRORS))
        for _ in range(chance.randrange(1, 5))
    ]
    return Plan(chance.choice(KINDS), actions)


class Program:
    """A set of nodes that call each other, and what happened in them, as text.

    Attributes:
        happened: one line for each thing that a node saw.
        nodes: the callables.
    """

    def __init__(self, plans, decorate):
        self.plans = plans
        self.happened = []
        self.calls = count()
        self.depth = 0
        self.nodes = [self._node(number, plan, decorate) for number, plan in enumerate(plans)]

    def say(self, *what):
        self.happened.append(" ".join(map(str, what)))

    def _node(self, number, plan, decorate):
        """Make a node of the kind that its plan says."""
        program = self

        def plain(first=None, *more, key=None, **others):
            result = first
            for said, item in program.act(number, plan, "plain"):
                if said == "return":
                    return item
                result = item if said == "give" else result
            return result

        def generator(first=None, *more, key=None, **others):
            for said, item in program.act(number, plan, "generator"):
                if said == "return":
                    return item
                if said in ("give", "pause"):
                    program.say(number, "was sent", type((yield item)).__name__)
            return first

        async def coroutine(first=None, *more, key=None, **others):
            for said, item in program.act(number, plan, "coroutine"):
                if said == "return":
                    return item
                if said in ("give", "pause"):
                    await Pause()
            return first

        async def async_generator(first=None, *more, key=None, **others):
            for said, item in program.act(number, plan, "async generator"):
                if said == "return":
                    return
                if said == "pause":
                    await Pause()
                if said == "give":
                    program.say(number, "was sent", type((yield item)).__name__)

        class Holder:
            def method(self, first=None, *more, key=None, **others):
                return plain(first, *more, key=key, **others)

            method.__qualname__ = f"Holder{number}.method"
            method = decorate(method, f"n{number}")

        made = {"plain": plain, "generator": generator, "coroutine": coroutine, "async generator": async_generator}
        return Holder().method if plan.kind == "method" else decorate(made[plan.kind], f"n{number}")

    def act(self, number, plan, kind):
        """Do what a plan says; yield what only the node itself can do."""
        for name, other, value, error in plan.actions:
            if name in ("call", "caught", "drop", "throw", "wrong arguments"):
                self.call(name, other, value, error)
            elif name == "fail":
                self.say(number, "fails")
                raise error(number)
            else:
                yield name, value

    def call(self, name, number, value, error):
        if self.depth >= DEEPEST or next(self.calls) >= MOST_CALLS:
            return
        self.depth += 1
        try:
            self.say(number, "gave", self.use(name, number, value, error))
        except (*ERRORS, TypeError, RuntimeError) as raised:
            self.say(number, "raised", type(raised).__name__, raised.args, type(raised.__context__).__name__)
            if name == "call":
                raise
        finally:
            self.depth -= 1

    def use(self, name, number, value, error):
        """Call a node, and do with what it gives what the kind of the node allows."""
        node = self.nodes[number]
        if name == "wrong arguments":
            node(value, first=value)
        body = node(value, value, key=value, other=1)
        kind = self.plans[number].kind
        if kind in ("plain", "method"):
            return shown(body)
        steps = iter(body) if kind == "generator" else None
        if kind == "coroutine":
            return drive(body.send, body.throw, body.close, name, error)
        if kind == "generator":
            return drive(steps.send, steps.throw, steps.close, name, error)
        seen = []
        for turn in range(4):
            step = body.asend(None) if name != "throw" or turn != 1 else body.athrow(error("thrown"))
            if name == "drop" and turn == 1:
                step = body.aclose()
            try:
                seen.append(drive(step.send, step.throw, step.close, "call", error))
            except StopAsyncIteration:
                return "stopped", len(seen), seen
        return seen


def drive(send, throw, close, name, error):
    """Advance a body to its end, or do to it in the middle what the name says. Return what it gave, as text."""
    seen = []
    try:
        for turn in range(6):
            if name == "throw" and turn == 1:
                seen.append(shown(throw(error("thrown"))))
            elif name == "drop" and turn == 2:
                return "closed", close(), seen
            else:
                seen.append(shown(send(None)))
    except StopIteration as stop:
        return "returned", shown(stop.value), seen
    close()
    return "left", seen


def shown(value):
    """Return a text for a value that is the same in every process; values are compared by identity inside one."""
    return f"{type(value).__name__}:{len(repr(value)) if type(value) in (str, bytes, int, float) else ''}"


# --- running them


def outcome(plans, chance, decorate):
    """Run a program from each of its nodes. Return what happened, as lines, and a weak reference to the program."""
    program = Program(plans, decorate)
    for number in range(len(plans)):
        program.say("--", number)
        program.calls = count()
        program.call("caught", number, value_of(chance), Expected)
    return program.happened, weakref.ref(program)


def recorded_of(trace):
    """Return what a trace says of its steps, without what differs between processes."""
    return [
        (step.operation, step.input_hash, step.output_hash, step.error and (step.error.code, step.error.message))
        for step in trace.steps
    ]


def settings_of(chance, folder):
    """Return random settings: some with a black box, some with one file that each run overtakes.

    A list that holds itself is looked through up to the work that is allowed: most of the time, with the usual limit.
    """
    changes = {"mode": chance.choice(("off", "on", "always", "always")), "max_overhead": 0, "max_value_work": 3000}
    if chance.random() < 0.3:
        changes["blackbox"] = f"{folder}/app.ring"
    if chance.random() < 0.2:
        changes["out_path"] = f"{folder}/trace.json"
    return changes


def run_one(seed):
    """Run one program in both ways. Return what it did, and what was recorded of it.

    Raises:
        AssertionError: the traced program did something else, or something is left of it.
    """
    plans = [plan_of(random.Random(f"{seed} {number}")) for number in range(NODES)]
    plain, _ = outcome(plans, random.Random(seed), lambda function, name: function)

    def decorate(function, name):
        return flowtrace.traced_node(operation=name, capture_inputs=True)(function)

    with tempfile.TemporaryDirectory() as folder, fixed_clock():
        with recording(**settings_of(random.Random(seed), folder)) as recorded:
            traced, kept = outcome(plans, random.Random(seed), decorate)
    assert traced == plain, (seed, [pair for pair in zip(plain, traced, strict=False) if pair[0] != pair[1]][:3])
    assert running() == [], (seed, running())
    assert CURRENT.get() is None, seed
    gc.collect()
    assert kept() is None, seed
    return plain, sorted(map(str, map(recorded_of, recorded.traces)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="the first program")
    parser.add_argument("--programs", type=int, help="how many")
    parser.add_argument("--seconds", type=float, default=10.0, help="for how long, if --programs does not say how many")
    options = parser.parse_args()
    ends = time.monotonic() + options.seconds
    sys.unraisablehook = lambda left: None  # a generator that ignores GeneratorExit, and is dropped
    for number in count():
        if number == options.programs or (options.programs is None and time.monotonic() > ends):
            return
        seed = options.seed + number
        what = repr(run_one(seed)).encode("utf-8", "surrogateescape")
        print(seed, hashlib.sha256(what).hexdigest(), flush=True)


if __name__ == "__main__":
    main()
