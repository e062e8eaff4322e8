"""A pytest test that reproduces a step: readable, and without the trace."""

from __future__ import annotations

import inspect
import os
import re
from typing import Any, Final

from flowtrace.errors import RebuildError, ReplayError
from flowtrace.host.log import printable
from flowtrace.recording.failure import MAX_MESSAGE
from flowtrace.replaying.call_again import Rerun, code_flags
from flowtrace.replaying.cell_source import is_cell, with_definitions
from flowtrace.replaying.find_function import Target, exception_named
from flowtrace.replaying.load_script import MAIN, import_name_of
from flowtrace.replaying.meant import Import, check
from flowtrace.replaying.python_source import Group, Source, Writer, is_identifier, layout, quoted
from flowtrace.replaying.report import ReplayOutcome, StepReplay, error_type
from flowtrace.trace.model import StepError, UnsetType
from flowtrace.values.annotations import hints_of
from flowtrace.values.encode import canonical_bytes
from flowtrace.values.encoded import ALGORITHM, hash_bytes
from flowtrace.values.rebuild import Rebuilder

MADE_BY: Final = "Made by `flowtrace replay --emit-test`."
_ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]{4,}")
_CUT: Final = re.compile(r"\.\.\. \(\d+ characters\)\Z")
_LONGEST_NAME: Final = 80
_GENERATORS: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def without_addresses(message: str) -> str:
    """Return the text of an error without the memory addresses in it, which differ from run to run."""
    return _ADDRESS.sub("0x", message)


class EmittedTest:
    """Writes the test of a step.

    Args:
        replay: the replayed step.
        done: the outcome of its call.
        target: its function.
        path: the file of the test, from which the function has to be imported.
        expect_fixed: write a test that passes once the behaviour is fixed, instead of one that passes until then.

    Attributes:
        items: how many items are taken of a generator; None for all.
    """

    def __init__(self, replay: StepReplay, done: Rerun, target: Target, path: str, *, expect_fixed: bool) -> None:
        self.items: int | None = None
        self._replay = replay
        self._step = replay.step
        self._done = done
        self._target = target
        self._expect_fixed = expect_fixed
        self._folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
        self._root, self._module = _import_root(target)
        self._writer = Writer(self._module)
        self._flags = code_flags(target.node.function)

    def source(self, args: list[Any], kwargs: dict[str, Any], receiver: Any, rebuilder: Rebuilder) -> str:
        """Return the complete file.

        Args:
            args: the positional arguments, as they were before the call.
            kwargs: the keyword arguments, as they were before the call.
            receiver: makes the ``self`` of a method, or None.
            rebuilder: makes values of the recorded output.

        Raises:
            ReplayError: a value can't be written, or the output is redacted.
        """
        call = self._call(args, kwargs, receiver)
        off = f'{self._writer.reference("flowtrace", "override")}(mode="off")'
        before: list[str] = []
        if self._flags & inspect.CO_ASYNC_GENERATOR:
            if self.items is not None:
                raise ReplayError("no test can be written of an async generator that was closed before its end")
            before = ["    async def collect():", f"        return [item async for item in {layout(call, 8)}]", ""]
            call = "collect()"
        call = self._run_to_end(call)
        error = self._step.error
        ending, lines = self._returning(call, rebuilder, off) if error is None else self._failing(call, error, off)
        body = "\n".join([*before, *lines])
        name = f"test_{_name_part(self._step.operation)}_{ending}"
        source = f'"""{self._title()}"""\n\n{self._imports()}\n\n\ndef {name}():\n{body}\n'
        check(source, name, self._meant_imports())
        if not is_cell(self._target.file):
            return source
        imported = [(first, alias) for (module, first), alias in self._writer.names.items() if module == MAIN]
        return with_definitions(source, imported, vars(self._target.module))

    def _title(self) -> str:
        when = f" on {printable(self._step.started_at)}" if self._step.started_at else ""
        title = f"The step {printable(self._step.node_id)} as flowtrace recorded it{when}.\n\n{MADE_BY}\n"
        return title.encode("ascii", "backslashreplace").decode().replace("\\", "\\\\").replace('"', "'")

    # --- the call

    def _call(self, args: list[Any], kwargs: dict[str, Any], receiver: Any) -> Source:
        target, writer = self._target, self._writer
        function: Any = target.node.function
        qualname = f"{target.owner.__qualname__}.{function.__name__}" if target.owner else function.__qualname__
        if target.kind == "method":
            if not is_identifier(function.__name__):
                raise ReplayError(f"the method {function.__name__!r:.80} has a name that can't be written into a call")
            name = f"{writer.reference(*_factory_name(receiver))}().{function.__name__}"
            if isinstance(inspect.getattr_static(target.owner, function.__name__), property):
                return name
        else:
            name = writer.reference(target.module.__name__, qualname)
        unwritable = next((name for name in kwargs if not is_identifier(name)), None)
        if unwritable is not None:
            raise ReplayError(f"the argument {unwritable!r:.80} has a name that can't be written into a call")
        return writer.call(name, args, kwargs)

    def _run_to_end(self, call: Source) -> Source:
        if self._flags & inspect.CO_GENERATOR and self.items is not None:
            self._writer.modules.add("itertools")
            return Group("list(itertools.islice(", [("", call), ("", str(self.items))], "))")
        if self._flags & inspect.CO_GENERATOR:
            return Group("list(", [("", call)], ")")
        if self._flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            self._writer.modules.add("asyncio")
            return Group("asyncio.run(", [("", call)], ")")
        return call

    # --- errors

    def _failing(self, call: Source, error: StepError, off: str) -> tuple[str, list[str]]:
        name = error_type(error)
        if self._expect_fixed:
            comment = _comment(f"it raised {name or 'an error'}: {error.message}")
            return "no_longer_fails", [f"    # {comment}", f"    with {off}:", f"        {layout(call, 8)}"]
        self._writer.modules.add("pytest")
        cls = self._error_class(name)
        lines = [f"    with {off}, pytest.raises({cls or 'Exception'}) as caught:", f"        {layout(call, 8)}"]
        if cls is not None:
            lines.append(f"    assert caught.type is {cls}")
        elif name:
            lines.append(f"    assert caught.type.__name__ == {quoted(name.rpartition('.')[2])}")
        return "fails_as_recorded", [*lines, f"    {self._message_check(error.message)}"]

    def _message_check(self, message: str) -> str:
        if len(message) > MAX_MESSAGE and _CUT.search(message):
            return f"assert str(caught.value).startswith({quoted(message[:MAX_MESSAGE])})"
        if _ADDRESS.search(message):
            self._writer.modules.add("re")
            expected = quoted(without_addresses(message))
            return f'assert re.sub(r"\\b0x[0-9a-fA-F]{{4,}}", "0x", str(caught.value)) == {expected}'
        return f"assert str(caught.value) == {quoted(message)}"

    def _error_class(self, name: str | None) -> str | None:
        """Return the name of the recorded error's class in the test; None where it can't be imported."""
        found = None if self._done.error is None else type(self._done.error)
        if found is None or name not in (None, traceback_name(found)):
            found = exception_named(name or "")
        try:
            return None if found is None else self._writer.reference(found.__module__, found.__qualname__)
        except ReplayError:
            return None

    # --- results

    def _returning(self, call: Source, rebuilder: Rebuilder, off: str) -> tuple[str, list[str]]:
        redacted = [pointer for pointer in self._step.redacted if pointer.startswith("/output_json")]
        if redacted:
            raise ReplayError(f"its output is redacted at {redacted[0]}: no test can compare it")
        ending = "no_longer_returns_what_was_recorded" if self._expect_fixed else "returns_what_was_recorded"
        sign = "!=" if self._expect_fixed else "=="
        result = f"    with {off}:\n        {layout(call, 8, 'result = ')}"
        is_recorded, recorded = self._recorded_output(rebuilder)
        if is_recorded and self._is_equal(recorded):
            expected = layout(self._writer.value(recorded), 4, f"assert result {sign} ")
        else:
            hashed = self._writer.reference("flowtrace", "hash_value")
            other = self._writer.call(hashed, [recorded], {}) if is_recorded else quoted(self._output_hash())
            expected = layout(other, 4, f"assert {hashed}(result) {sign} ")
        return ending, [result, f"    {expected}"]

    def _recorded_output(self, rebuilder: Rebuilder) -> tuple[bool, Any]:
        """Return whether the recorded output can be written as a value, and the value."""
        content: Any = self._step.output_json
        if isinstance(content, UnsetType) and self._replay.outcome is ReplayOutcome.SAME_OUTPUT:
            content = self._replay.output_json
        if isinstance(content, UnsetType):
            return False, None
        hint: Any = Any
        if self._flags & _GENERATORS and isinstance(content, dict):
            content = content.get("items")
        else:
            hint = hints_of(inspect.unwrap(self._target.node.function)).get("return", Any)  # type: ignore[arg-type]
        try:
            output = rebuilder.rebuild(content, hint)
            Writer(self._module).value(output)
        except (RebuildError, ReplayError):
            return False, None
        return True, output

    def _is_equal(self, recorded: Any) -> bool:
        """Return True if ``==`` holds for the replayed output, as it does not for NaN, or for a tuple and a list."""
        if self._replay.outcome is not ReplayOutcome.SAME_OUTPUT:
            return False
        try:
            return (recorded == self._done.value) is True
        except Exception:  # raised by the __eq__ of a user's class
            return False

    def _output_hash(self) -> str:
        content = self._step.output_json
        recorded = self._step.output_hash
        if recorded is not None and recorded.algorithm == ALGORITHM and not self._flags & _GENERATORS:
            return recorded.value
        if isinstance(content, UnsetType) or self._flags & _GENERATORS:
            raise ReplayError("its output was not captured, and its hash can't be checked in a test")
        return hash_bytes(canonical_bytes(content)).value

    # --- the imports

    def _imports(self) -> str:
        writer = self._writer
        is_outside = self._root is not None
        standard = sorted((writer.modules - {"pytest"}) | ({"sys"} if is_outside else set()))
        blocks = ["\n".join([f"import {name}" for name in standard] + ["from pathlib import Path"] * is_outside)]
        ours = [(module, name) for module, name in sorted(writer.names) if module.partition(".")[0] == "flowtrace"]
        others = [key for key in writer.names if key not in ours]
        blocks.append("\n".join(["import pytest"] * ("pytest" in writer.modules) + [self._from(*key) for key in ours]))
        if self._root is not None:
            relative = os.path.relpath(os.path.realpath(self._root), self._folder).replace(os.sep, "/")
            folder = "Path(__file__).resolve().parent" + ("" if relative == "." else f" / {quoted(relative)}")
            blocks.append(f"sys.path.insert(0, str({folder}))")
        blocks.append("\n".join(self._from(*key) + "  # noqa: E402" * is_outside for key in sorted(others)))
        return "\n\n".join(block for block in blocks if block)

    def _meant_imports(self) -> set[Import]:
        found = {(name, "", name) for name in self._writer.modules}
        found |= {(module, name, alias) for (module, name), alias in self._writer.names.items()}
        return found | {("sys", "", "sys"), ("pathlib", "Path", "Path")} if self._root is not None else found

    def _from(self, module: str, name: str) -> str:
        alias = self._writer.names[module, name]
        return f"from {module} import {name}" + ("" if alias == name else f" as {alias}")


def _name_part(operation: str) -> str:
    """Return an operation as a part of a function's name."""
    name = re.sub(r"\W+", "_", operation[:_LONGEST_NAME]).strip("_").lower() or "step"
    return name if is_identifier(f"test_{name}") else re.sub(r"[^a-z0-9]+", "_", name).strip("_") or "step"


def _import_root(target: Target) -> tuple[str | None, str]:
    """Return the folder that a function's module is imported from, if it is known, and the module's name."""
    name = target.module.__name__
    file = getattr(target.module, "__file__", None)
    if not isinstance(file, str):
        return None, name
    if name == MAIN:
        folder, imported = import_name_of(file)
        if not is_identifier(imported.rpartition(".")[2]):
            raise ReplayError(f"the script {file} has a name that no test can import")
        return folder, imported
    folder = os.path.dirname(os.path.abspath(file))
    if os.path.basename(file) == "__init__.py":
        folder = os.path.dirname(folder)
    for part in reversed(name.split(".")[:-1]):
        if os.path.basename(folder) != part:
            return None, name
        folder = os.path.dirname(folder)
    return folder, name


def _factory_name(receiver: Any) -> tuple[str, str]:
    """Return module and name of the function that makes a receiver."""
    if isinstance(receiver, str):
        module, _, name = receiver.partition(":")
        return module, name
    found = getattr(receiver, "__module__", None), getattr(receiver, "__qualname__", None)
    if not isinstance(found[0], str) or not isinstance(found[1], str):
        raise ReplayError("the receiver is made by an object that no test can import")
    return found[0], found[1]


def traceback_name(cls: type) -> str:
    """Return a class's name with its module, unless that is builtins."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _comment(message: str) -> str:
    text = printable(message)
    return text if len(text) <= 160 else text[:160] + "..."
