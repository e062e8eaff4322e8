"""A pytest test that reproduces a step: readable, self-contained, without the trace."""

from __future__ import annotations

import builtins
import inspect
import os
import re
import sys
from dataclasses import dataclass
from typing import Any, Final

from flowtrace.errors import RebuildError, ReplayError
from flowtrace.recording.failure import MAX_MESSAGE
from flowtrace.replaying.find_function import Target
from flowtrace.replaying.load_script import MAIN, package_of
from flowtrace.replaying.python_source import Group, Source, Writer, layout, quoted
from flowtrace.replaying.report import ReplayOutcome, StepReplay
from flowtrace.trace.model import Step, StepError, UnsetType
from flowtrace.values.annotations import hints_of
from flowtrace.values.digest import ALGORITHM, hash_bytes
from flowtrace.values.encode import canonical_bytes
from flowtrace.values.rebuild import Rebuilder

MADE_BY: Final = "Made by `flowtrace replay --emit-test`."
_ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]{4,}")
_CUT: Final = re.compile(r"\.\.\. \(\d+ characters\)\Z")
_GENERATORS: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


@dataclass(slots=True)
class Reproduction:
    """What a test is made of.

    Attributes:
        replay: the replayed step.
        target: the function.
        args: its positional arguments, as they were before the call.
        kwargs: its keyword arguments, as they were before the call.
        receiver: makes the ``self`` of a method, or None.
        items: how many items are taken of a generator; None for all.
        raised: class of the replayed exception, or None.
        returned: the replayed result, or the items of a generator; None where there is none.
        rebuilder: makes values of the recorded output.
    """

    replay: StepReplay
    target: Target
    args: list[Any]
    kwargs: dict[str, Any]
    receiver: Any
    items: int | None
    raised: type[BaseException] | None
    returned: Any
    rebuilder: Rebuilder


def test_source(made_of: Reproduction, path: str, *, expect_fixed: bool) -> str:
    """Return the source of a test.

    Args:
        made_of: the step, and how it is called.
        path: the file that the test is for; where the function is imported from is told relative to it.
        expect_fixed: the test passes once the recorded behaviour is gone, instead of while it is there.

    Raises:
        ReplayError: a value can't be written, or the output is redacted.
    """
    return _Test(made_of, path, expect_fixed).source()


test_source.__test__ = False  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]  # for pytest


class _Test:
    def __init__(self, made_of: Reproduction, path: str, expect_fixed: bool) -> None:
        self.made_of = made_of
        self.step: Step = made_of.replay.step
        self.expect_fixed = expect_fixed
        self.folder = os.path.dirname(os.path.abspath(path))
        self.root, self.module = _home(made_of.target)
        self.writer = Writer(self.module)
        code = getattr(made_of.target.node.function, "__code__", None)
        self.flags: int = getattr(code, "co_flags", 0)

    def source(self) -> str:
        """Return the whole file."""
        call = self._call()
        name = re.sub(r"\W+", "_", self.step.operation).strip("_").lower() or "step"
        before: list[str] = []
        if self.flags & inspect.CO_ASYNC_GENERATOR:
            if self.made_of.items is not None:
                raise ReplayError("no test can be written of an async generator that was closed before its end")
            before = ["    async def collect():", f"        return [item async for item in {layout(call, 8)}]", ""]
            call = "collect()"
        call = self._driven(call)
        ending, lines = self._failing(call) if self.step.error is not None else self._returning(call)
        body = "\n".join([*before, *lines])
        return f'"""{self._title()}"""\n\n{self._imports()}\n\n\ndef test_{name}_{ending}():\n{body}\n'

    def _title(self) -> str:
        when = f" on {self.step.started_at}" if self.step.started_at else ""
        what = f"The step {self.step.node_id} as flowtrace recorded it{when}."
        title = f"{what}\n\n{MADE_BY}\n"
        return title.encode("ascii", "backslashreplace").decode().replace("\\", "\\\\").replace('"', "'")

    # --- the call

    def _call(self) -> Source:
        target, writer = self.made_of.target, self.writer
        function: Any = target.node.function
        qualname = f"{target.owner.__qualname__}.{function.__name__}" if target.owner else function.__qualname__
        if target.kind != "method":
            opener = writer.reference(target.module.__name__, qualname)
        else:
            receiver = self.made_of.receiver
            module, _, name = receiver.partition(":") if isinstance(receiver, str) else _place_of(receiver)
            opener = f"{writer.reference(module, name)}().{function.__name__}"
            if isinstance(inspect.getattr_static(target.owner, function.__name__), property):
                return opener
        parts: list[tuple[str, Source]] = [("", writer.value(item)) for item in self.made_of.args]
        for name, item in self.made_of.kwargs.items():
            if not name.isidentifier():
                raise ReplayError(f"the argument {name!r:.80} has a name that can't be written into a call")
            parts.append((f"{name}=", writer.value(item)))
        return Group(f"{opener}(", parts, ")")

    def _driven(self, call: Source) -> Source:
        if self.flags & inspect.CO_GENERATOR and self.made_of.items is not None:
            self.writer.modules.add("itertools")
            return Group("list(itertools.islice(", [("", call), ("", str(self.made_of.items))], "))")
        if self.flags & inspect.CO_GENERATOR:
            return Group("list(", [("", call)], ")")
        if self.flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            self.writer.modules.add("asyncio")
            return Group("asyncio.run(", [("", call)], ")")
        return call

    # --- errors

    def _failing(self, call: Source) -> tuple[str, list[str]]:
        error = self.step.error
        assert error is not None
        if self.expect_fixed:
            comment = _one_line(f"it raised {_type_name(error) or 'an error'}: {error.message}")
            return "no_longer_fails", [f"    # {comment}", f"    {layout(call, 4)}"]
        self.writer.modules.add("pytest")
        cls = self._error_class(error)
        lines = [f"    with pytest.raises({cls or 'Exception'}) as caught:", f"        {layout(call, 8)}"]
        name = (_type_name(error) or "").rpartition(".")[2]
        if cls is not None:
            lines.append(f"    assert caught.type is {cls}")
        elif name:
            lines.append(f"    assert caught.type.__name__ == {quoted(name)}")
        return "fails_as_recorded", [*lines, f"    {self._message_check(error.message)}"]

    def _message_check(self, message: str) -> str:
        if len(message) > MAX_MESSAGE and _CUT.search(message):
            return f"assert str(caught.value).startswith({quoted(message[:MAX_MESSAGE])})"
        if _ADDRESS.search(message):
            self.writer.modules.add("re")
            shown = _ADDRESS.sub("0x", message)
            return f'assert re.sub(r"\\b0x[0-9a-fA-F]{{4,}}", "0x", str(caught.value)) == {quoted(shown)}'
        return f"assert str(caught.value) == {quoted(message)}"

    def _error_class(self, error: StepError) -> str | None:
        """Return how the test calls the recorded error's class; None where it can't be imported."""
        name = _type_name(error)
        found = self.made_of.raised
        if found is None or name not in (None, _full_name(found)):
            found = _class_named(name)
        if found is None:
            return None
        try:
            return self.writer.reference(found.__module__, found.__qualname__)
        except ReplayError:
            return None

    # --- results

    def _returning(self, call: Source) -> tuple[str, list[str]]:
        unclear = [pointer for pointer in self.step.redacted if pointer.startswith("/output_json")]
        if unclear:
            raise ReplayError(f"its output is redacted at {unclear[0]}: no test can tell whether it is the same")
        ending = "no_longer_returns_what_was_recorded" if self.expect_fixed else "returns_what_was_recorded"
        sign = "!=" if self.expect_fixed else "=="
        is_known, expected = self._expected()
        if is_known and self._is_equal(expected):
            return ending, self._compared(layout(call, 4, "result = "), f"result {sign} ", self.writer.value(expected))
        self.writer.names["flowtrace", "hash_value"] = "hash_value"
        if is_known:
            other: Source = Group("hash_value(", [("", self.writer.value(expected))], ")")
        else:
            other = quoted(self._hash())
        return ending, self._compared(layout(call, 4, "result = "), f"hash_value(result) {sign} ", other)

    def _compared(self, call: str, lead: str, expected: Source) -> list[str]:
        return [f"    {call}", f"    {layout(expected, 4, f'assert {lead}')}"]

    def _expected(self) -> tuple[bool, Any]:
        """Return whether the recorded output is known as a value, and the value."""
        content: Any = self.step.output_json
        if isinstance(content, UnsetType) and self.made_of.replay.outcome is ReplayOutcome.SAME_OUTPUT:
            content = self.made_of.replay.output_json
        if isinstance(content, UnsetType):
            return False, None
        if self.flags & _GENERATORS and isinstance(content, dict):
            content = content.get("items")
            hint: Any = Any
        else:
            hint = hints_of(inspect.unwrap(self.made_of.target.node.function)).get("return", Any)  # type: ignore[arg-type]
        try:
            expected = self.made_of.rebuilder.rebuild(content, hint)
            Writer(self.module).value(expected)
        except (RebuildError, ReplayError):
            return False, None
        return True, expected

    def _is_equal(self, expected: Any) -> bool:
        """Tell whether ``==`` will do: it takes a tuple for no list, and NaN for no NaN."""
        if self.made_of.replay.outcome is not ReplayOutcome.SAME_OUTPUT:
            return False
        try:
            return (expected == self.made_of.returned) is True
        except Exception:  # an __eq__ of the user's
            return False

    def _hash(self) -> str:
        content = self.step.output_json
        recorded = self.step.output_hash
        if recorded is not None and recorded.algorithm == ALGORITHM and not self.flags & _GENERATORS:
            return recorded.value
        if isinstance(content, UnsetType) or self.flags & _GENERATORS:
            raise ReplayError("its output was not captured, and its hash can't be checked in a test")
        return hash_bytes(canonical_bytes(content)).value

    # --- the head of the file

    def _imports(self) -> str:
        writer = self.writer
        is_outside = self.root is not None
        standard = sorted((writer.modules - {"pytest"}) | ({"sys"} if is_outside else set()))
        blocks = ["\n".join([f"import {name}" for name in standard] + ["from pathlib import Path"] * is_outside)]
        ours = [(module, name) for module, name in writer.names if module.partition(".")[0] == "flowtrace"]
        others = [key for key in writer.names if key not in ours]
        blocks.append("\n".join(["import pytest"] * ("pytest" in writer.modules) + [self._from(*key) for key in ours]))
        if self.root is not None:
            steps = os.path.relpath(self.root, self.folder).replace(os.sep, "/")
            place = "Path(__file__).resolve().parent" + ("" if steps == "." else f' / "{steps}"')
            blocks.append(f"sys.path.insert(0, str({place}))")
        blocks.append("\n".join(self._from(*key) + "  # noqa: E402" * is_outside for key in sorted(others)))
        return "\n\n".join(block for block in blocks if block)

    def _from(self, module: str, name: str) -> str:
        alias = self.writer.names[module, name]
        return f"from {module} import {name}" + ("" if alias == name else f" as {alias}")


def _home(target: Target) -> tuple[str | None, str]:
    """Return the folder that a function's module is imported from, where that is known, and the module's name."""
    name = target.module.__name__
    file = getattr(target.module, "__file__", None)
    if not isinstance(file, str):
        return None, name
    if name == MAIN:
        folder, package = package_of(file)
        stem = os.path.splitext(os.path.basename(file))[0]
        if not stem.isidentifier():
            raise ReplayError(f"the script {file} has a name that no test can import")
        return folder, f"{package}.{stem}" if package else stem
    folder = os.path.dirname(os.path.abspath(file))
    if os.path.basename(file) == "__init__.py":
        folder = os.path.dirname(folder)
    for part in reversed(name.split(".")[:-1]):
        if os.path.basename(folder) != part:
            return None, name
        folder = os.path.dirname(folder)
    return folder, name


def _place_of(factory: Any) -> tuple[str, str, str]:
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise ReplayError("the receiver is made by something that no test can import")
    return module, ":", name


def _type_name(error: StepError) -> str | None:
    name = error.details.get("type") if isinstance(error.details, dict) else None
    return name if isinstance(name, str) else None


def _full_name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _class_named(name: str | None) -> type[BaseException] | None:
    """Return a built-in or loaded exception class by the name that a traceback gives it."""
    module, _, qualname = (name or "").rpartition(".")
    found = vars(sys.modules.get(module, builtins) if module else builtins).get(qualname)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _one_line(message: str) -> str:
    shown = "".join(item if item.isprintable() else item.encode("unicode_escape").decode() for item in message)
    return shown if len(shown) <= 160 else shown[:160] + "..."
