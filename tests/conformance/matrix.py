"""Every shape in every binding and mode, through every column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .bindings import BINDINGS, Binding
from .build import LAMBDA, build_pair, makes_sense
from .columns import APPEARANCE, BEHAVIOUR, Column
from .shapes import SHAPES, Shape
from .subject import MODES, Mode, Subject


class Cell(NamedTuple):
    """One result. ``problem`` is empty where the decorated program did as the undecorated one."""

    shape: str
    binding: str
    mode: str
    column: str
    problem: str


def rows() -> Iterator[tuple[Shape, Binding]]:
    """Give each shape with each binding that makes sense for it."""
    for binding in (LAMBDA, *BINDINGS):
        for shape in SHAPES:
            if makes_sense(shape, binding):
                yield shape, binding


def columns_for(mode: Mode) -> tuple[Column, ...]:
    """Return the columns of a mode: what a function looks like can't change with each of them."""
    return BEHAVIOUR + APPEARANCE if mode.name in ("off", "on") else BEHAVIOUR


def run_row(subject: Subject, shape: Shape, binding: Binding, mode: Mode) -> Iterator[Cell]:
    """Run one program in one mode through every column."""
    subject.set_mode(mode.at_import)
    try:
        pair = build_pair(shape, binding, subject.decorate)
    except Exception as error:
        for column in columns_for(mode):
            yield Cell(shape.name, binding.name, mode.name, column.__name__, f"can't be defined: {error!r:.200}")
        return
    subject.set_mode(mode.at_call)
    for column in columns_for(mode):
        problem = ""
        try:
            column(pair)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"[:600]
        yield Cell(shape.name, binding.name, mode.name, column.__name__, problem)


def run(subject: Subject, modes: tuple[Mode, ...] = MODES) -> Iterator[Cell]:
    """Run the whole matrix."""
    for shape, binding in rows():
        for mode in modes:
            yield from run_row(subject, shape, binding, mode)
