"""The columns: each looks at one thing that a program can see of a function, and wants it as without decorator."""

from __future__ import annotations

import collections.abc
import gc
import inspect
import pydoc
import re
import types
import typing
import weakref
from typing import Any

from .build import FILE, Pair, Program
from .comparing import Column, both, outcome, raised_by, without_addresses
from .composition import wrapt_over, wrapt_under
from .mocks import mocks
from .stacks import debugger, frames, locals_of_frames, profiler, tracebacks
from .type_level import identity, operators, protocols

KEYWORDS = (
    *("self", "cls", "args", "kwargs", "func", "function", "fn", "f", "wrapped", "wrapper", "instance", "owner"),
    *("name", "component", "operation", "node_id", "enabled", "step", "subject", "span", "context", "callable"),
    *("payload", "capture_inputs", "redact", "expected_errors", "result", "error", "body", "drive", "bound"),
)


def user_frames(error: BaseException) -> list[tuple[str, int]]:
    """Return the user's frames of a traceback."""
    found = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename == FILE:
            found.append((code.co_qualname, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found


# --- what a call gives


def result(pair: Pair) -> None:
    """The value is the very object that the function returned."""
    value = object()
    for program in (pair.plain, pair.traced):
        assert program.call(value) is value


def result_object(pair: Pair) -> None:
    """What the call returns, before anything runs it, is of the same kind and has the same names."""

    def look(program: Program) -> Any:
        made = program.reach()(*program.arguments("value"))
        tests = (inspect.iscoroutine, inspect.isgenerator, inspect.isasyncgen, inspect.isawaitable)
        seen = [made.__class__, *(test(made) for test in tests)]
        seen += [getattr(made, "__name__", None), getattr(made, "__qualname__", None)]
        if inspect.iscoroutine(made):
            made.close()
        return seen

    both(pair, look, "kind of the returned object")


def exception(pair: Pair) -> None:
    """The exception is the very object that was raised, with its chain, notes, and a traceback that ends there."""

    def look(program: Program) -> Any:
        raised = ValueError("raised")
        raised.add_note("noted")
        error = raised_by(program, raised)
        assert error is raised, "another exception object"
        cause = error.__cause__
        assert type(cause) is LookupError, "another cause"
        assert error.__context__ is cause, "another context"
        last = error.__traceback__
        while last.tb_next is not None:
            last = last.tb_next
        assert last.tb_frame.f_code.co_filename == FILE, f"the traceback ends in {last.tb_frame.f_code}"
        return user_frames(error), user_frames(cause), error.__notes__, error.__suppress_context__, error.args

    both(pair, look, "exception")


def exception_context(pair: Pair) -> None:
    """A caller that handles another error sees that one as the context."""

    def look(program: Program) -> bool:
        outer = KeyError("outer")
        try:
            raise outer
        except KeyError:
            error = raised_by(program, ValueError("raised"))
        context = error.__cause__.__context__
        assert context is outer or context is None, f"another context: {context!r}"
        return context is outer

    both(pair, look, "context of the error")


def arguments(pair: Pair) -> None:
    """Each argument arrives as the very object that was passed."""
    one, two, three, four = object(), object(), object(), object()

    def see(other: Any, args: Any, kwargs: Any) -> Any:
        return other, args, kwargs

    for program in (pair.plain, pair.traced):
        seen = program.call("value", one, two, key=see, extra=three, more=four)
        assert seen[0] is one, seen
        assert seen[1] == (two,), seen
        assert type(seen[2]) is dict, seen
        assert list(seen[2].items()) == [("extra", three), ("more", four)], seen


def keyword_names(pair: Pair) -> None:
    """An argument may have any name."""
    passed = {name: object() for name in KEYWORDS}
    both(
        pair,
        lambda program: program.call("value", key=lambda other, args, kwargs: (other, args, kwargs), **passed),
        "keywords",
    )


def wrong_arguments(pair: Pair) -> None:
    """A call with wrong arguments fails with the same TypeError, at the call and not later."""

    def look(program: Program) -> Any:
        function = program.reach()
        seen = [
            outcome(function),
            outcome(function, key=1),
            outcome(function, *program.arguments(1, 2), other=3),
        ]
        assert {kind for kind, text in seen} == {"TypeError"}
        return seen

    both(pair, look, "wrong arguments")


def defaults(pair: Pair) -> None:
    """Defaults that are changed in place, or replaced, are the ones that count."""

    def look(program: Program) -> Any:
        function = inspect.unwrap(program.stored())
        function = getattr(function, "__func__", function)
        code = getattr(function, "__code__", None)
        if code is None or not function.__defaults__:
            return "no defaults"
        function.__defaults__ = ("replaced",)
        try:
            return program.call("value", key=lambda other, args, kwargs: other)
        finally:
            function.__defaults__ = (2,)

    def look_directly(program: Program) -> Any:
        function = program.stored()
        try:
            before = function.__defaults__
            function.__defaults__ = ("replaced",)
        except AttributeError as error:
            return str(error)
        try:
            return before, program.call("value", key=lambda other, args, kwargs: other)
        finally:
            function.__defaults__ = before

    both(pair, look_directly, "defaults")
    both(pair, look, "defaults of the original function")


# --- what inspection shows


def signature(pair: Pair) -> None:
    """`inspect.signature` is the same, with and without resolved annotations."""
    both(pair, lambda program: _signature(program.reach()), "signature")
    both(pair, lambda program: _signature(program.stored()), "signature where it is stored")
    both(pair, lambda program: _signature(program.reach(), eval_str=True), "signature, annotations resolved")
    both(pair, lambda program: outcome(_parameters, program), "getcallargs")


def _parameters(program: Program) -> list[str]:
    return list(inspect.getcallargs(program.reach(), *program.arguments(1), x=2))


def _signature(function: Any, **options: Any) -> Any:
    try:
        return inspect.signature(function, **options)
    except (TypeError, ValueError) as error:
        return re.sub(r"<.*>", "", str(error))


NAMES = ("__name__", "__qualname__", "__doc__", "__module__")


def names(pair: Pair) -> None:
    """The names and the docstring are the same."""
    for name in NAMES:
        for look in (Program.reach, Program.stored):
            both(pair, lambda program, look=look, name=name: getattr(look(program), name, "none"), name)


def wrapped(pair: Pair) -> None:
    """`inspect.unwrap` leads to the original function."""

    def look(program: Program) -> Any:
        function = inspect.unwrap(program.reach())
        code = getattr(function, "__code__", None)
        return code and (code.co_filename, code.co_firstlineno, code.co_name)

    both(pair, look, "the original function")


def annotations(pair: Pair) -> None:
    """Annotations are the same, as text and resolved."""
    for look in (Program.reach, Program.stored):
        both(pair, lambda program, look=look: getattr(look(program), "__annotations__", "none"), "__annotations__")
        both(pair, lambda program, look=look: outcome(inspect.get_annotations, look(program)), "get_annotations")
        both(pair, lambda program, look=look: _hints(look(program)), "get_type_hints")


def _hints(function: Any) -> Any:
    try:
        return typing.get_type_hints(function)
    except TypeError as error:
        return re.sub(r"<.*>", "", str(error))


INSPECTIONS = (
    *(inspect.isfunction, inspect.ismethod, inspect.isroutine, inspect.isbuiltin, inspect.isclass, callable),
    *(inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction, inspect.isabstract),
    *(inspect.ismethoddescriptor, inspect.isdatadescriptor, inspect.ismethodwrapper, inspect.isgetsetdescriptor),
)


def kinds(pair: Pair) -> None:
    """The tests of `inspect` and `asyncio` say the same."""
    for test in INSPECTIONS:
        both(pair, lambda program, test=test: test(program.reach()), test.__name__)
        both(pair, lambda program, test=test: test(program.stored()), f"{test.__name__} where it is stored")


TYPES = (
    *(types.FunctionType, types.LambdaType, types.MethodType, types.BuiltinFunctionType, types.CoroutineType),
    *(classmethod, staticmethod, property, type, collections.abc.Callable, collections.abc.Hashable),
)


def instances(pair: Pair) -> None:
    """`isinstance` says the same for every type that a function may be of."""
    for cls in TYPES:
        for look in (Program.reach, Program.stored):
            both(pair, lambda program, look=look, cls=cls: isinstance(look(program), cls), f"isinstance {cls}")


def members(pair: Pair) -> None:
    """What a class shows of its members is the same."""

    def look(program: Program) -> Any:
        cls = program.names.get("Host")
        if cls is None:
            return None
        attributes = [
            (item.name, item.kind, item.defining_class.__name__) for item in inspect.classify_class_attrs(cls)
        ]
        return attributes, sorted(getattr(cls, "__abstractmethods__", ())), list(vars(cls))

    both(pair, look, "members of the class")


CODE = ("__code__", "__defaults__", "__kwdefaults__", "__globals__", "__closure__", "__type_params__")


def code(pair: Pair) -> None:
    """The attributes that only functions have are there, and are those of the function."""

    def look(program: Program, name: str) -> Any:
        function = program.reach()
        value = getattr(function, name, "none")
        if name == "__code__" and value != "none":
            return value.co_name, value.co_flags, value.co_firstlineno, value.co_varnames
        if name == "__globals__" and value != "none":
            return value["__name__"]
        return len(value) if name == "__closure__" and value else value

    for name in CODE:
        both(pair, lambda program, name=name: look(program, name), name)


def bound_to(pair: Pair) -> None:
    """`__self__` and `__func__` are there where they are without the decorator, and say the same."""

    def look(program: Program) -> Any:
        function = program.reach()
        receiver = getattr(function, "__self__", None)
        inner = getattr(function, "__func__", None)
        known = [
            name for name in ("host", "Host", "target") if program.names.get(name) is receiver and receiver is not None
        ]
        return known, receiver is None, inner is None, getattr(inner, "__name__", None)

    both(pair, look, "__self__ and __func__")


def source(pair: Pair) -> None:
    """Its source can be found."""
    both(pair, lambda program: outcome(inspect.getsource, program.reach())[0], "getsource")
    both(
        pair,
        lambda program: (
            inspect.getfile(inspect.unwrap(program.reach()))
            if callable(program.reach()) and hasattr(inspect.unwrap(program.reach()), "__code__")
            else ""
        ),
        "getfile",
    )


def text(pair: Pair) -> None:
    """`repr`, `str` and `help` say the same, apart from addresses."""
    for show in (repr, str):
        both(pair, lambda program, show=show: without_addresses(show(program.reach())), "text")
    both(pair, lambda program: without_addresses(pydoc.render_doc(program.reach())), "help")


# --- the function as an object


def equality(pair: Pair) -> None:
    """Hash, equality and identity behave as without the decorator."""

    def look(program: Program) -> Any:
        one, two = program.reach(), program.reach()
        stored = program.stored()
        return (
            *(one is two, one == two, two == one, one != two, hash(one) == hash(two), len({one, two})),
            *(one == "else", "else" == one, {one: 1}.get(two), one in [two], stored == stored, stored == one),
        )

    both(pair, look, "equality")


def equality_with_original(pair: Pair) -> None:
    """It equals what it is made of in both directions or in none, and equal objects have equal hashes."""
    function = pair.traced.reach()
    original = inspect.unwrap(function)
    assert (function == original) == (original == function)
    if function == original:
        assert hash(function) == hash(original)


def weak_references(pair: Pair) -> None:
    """Weak references, `WeakMethod` and weak dictionaries work, and die when the function does."""

    def look(program: Program) -> Any:
        function = program.reach()
        seen: list[Any] = []
        for make in (weakref.ref, weakref.WeakMethod):
            try:
                reference = make(function)
            except TypeError as error:
                seen.append(re.sub(r"'.*'|<.*>", "", str(error)))
            else:
                seen.append((reference() == function, reference() is not None))
        return seen

    def look_at_stored(program: Program) -> Any:
        stored = program.stored()
        try:
            table = weakref.WeakKeyDictionary({stored: 1})
        except TypeError:
            return "none"
        return table.get(stored), len(table)

    both(pair, look, "weak references")
    both(pair, look_at_stored, "weak references where it is stored")


def attributes(pair: Pair) -> None:
    """Attributes can be set, read and deleted where that is so without the decorator, and fail as there."""

    def look(program: Program) -> Any:
        seen = []
        for function in (program.reach(), program.stored()):
            seen += [
                outcome(getattr, function, "mark"),
                outcome(setattr, function, "mark", "set"),
                outcome(getattr, function, "mark"),
                outcome(hasattr, function, "mark"),
                outcome(lambda function=function: "mark" in vars(function)),
                outcome(lambda function=function: "mark" in dir(function)),
                outcome(getattr, program.reach(), "mark"),
                outcome(delattr, function, "mark"),
                outcome(getattr, function, "mark"),
                outcome(delattr, function, "mark"),
            ]
        return [(kind, re.sub(r"'.*?' object|type object '.*?'", "object", found)) for kind, found in seen]

    both(pair, look, "attributes")


def lifetime(pair: Pair) -> None:
    """Nothing that was passed or returned is kept."""

    class Value:
        pass

    for program in (pair.plain, pair.traced):
        value, extra = Value(), Value()
        references = [weakref.ref(value), weakref.ref(extra)]
        assert program.call(value, extra=extra) is value
        del value, extra
        alive = [reference() for reference in references]
        if any(item is not None for item in alive):
            del alive
            gc.collect()
            alive = [reference() for reference in references]
        assert alive == [None, None], "an argument outlives the call"


BEHAVIOUR: tuple[Column, ...] = (
    *(result, result_object, exception, exception_context, arguments, keyword_names, wrong_arguments),
    *(defaults, equality, weak_references, attributes, lifetime),
    *(frames, tracebacks, locals_of_frames, profiler, debugger, identity, mocks),
)
APPEARANCE: tuple[Column, ...] = (
    *(signature, names, wrapped, annotations, kinds, instances, members, code, bound_to, source, text),
    *(equality_with_original, protocols, operators, wrapt_over, wrapt_under),
)
