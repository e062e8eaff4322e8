"""`replay` calls the function of each captured step again with its captured input, and compares the outcomes."""

from __future__ import annotations

import inspect
import os
import platform
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from errno import ENOENT
from functools import partial
from stat import S_ISREG
from types import MethodType, ModuleType
from typing import Any, Final, NamedTuple, cast

from flowtrace.errors import RebuildError, ReplayError
from flowtrace.recording.failure import describe
from flowtrace.recording.program_texts import locate
from flowtrace.recording.state import STATE
from flowtrace.recording.to_records import scrubber_of
from flowtrace.replaying.arguments import AnnotatedParameter, UnfitError, annotated_parameters, arguments_of
from flowtrace.replaying.call_again import ReplayRecorder, Rerun, hash_of, is_same_hash, replay_recorder
from flowtrace.replaying.emit_test import MADE_BY, EmittedTest, traceback_name, without_addresses
from flowtrace.replaying.find_function import Resolver, Target
from flowtrace.replaying.load_script import NotFoundError
from flowtrace.replaying.recorded_outputs import NoAnswerError
from flowtrace.replaying.report import ReplayOutcome, ReplayReport, StepReplay, error_line, error_type
from flowtrace.replaying.stubs import Stubs
from flowtrace.settings.config import TraceConfig
from flowtrace.trace.files import FILE, write_atomically
from flowtrace.trace.model import OUTPUT, UNSET, Hash, Json, Step, StepError, Trace, UnsetType, is_within
from flowtrace.trace.payload_files import NotCapturedError, captured_array, captured_input, captured_output
from flowtrace.trace.reading import load_trace
from flowtrace.values.annotations import hints_of
from flowtrace.values.encode import canonical_bytes
from flowtrace.values.encoded import ALGORITHM, hash_bytes
from flowtrace.values.json import tree_bytes
from flowtrace.values.rebuild import Rebuilder
from flowtrace.values.redaction import MARKER

_MOST_READ: Final = 1 << 20  # bytes of a file, to see whether flowtrace wrote it
Receiver = Callable[[], object] | str | None
_NOT_REPEATABLE: Final = {
    "flow_error": "the flow failed outside any node",
    "node_cancelled": "it was cancelled from outside",
    "node_interrupted": "it was interrupted from outside",
    "process_died": "its process died, and this one would, too; to call it all the same, choose the step by its number",
}


class Call(NamedTuple):
    """A recorded call.

    Attributes:
        target: the function.
        args: positional arguments, without the receiver.
        kwargs: keyword arguments.
        is_exact: the arguments are certain to have the recorded hash; False means that it has to be computed.
    """

    target: Target
    args: list[Any]
    kwargs: dict[str, Any]
    is_exact: bool = False


def replay(
    trace: Trace | str | os.PathLike[str],
    *,
    steps: int | str | Iterable[int | str] | None = None,
    until_failure: bool | None = None,
    compare_hashes: bool = True,
    imports: Iterable[str] = (),
    receiver: Receiver = None,
    stubs: Iterable[str] = (),
    working_folder: str | os.PathLike[str] = ".",
    payloads: str | os.PathLike[str] | None = None,
    on_error: Callable[[StepReplay, BaseException], None] | None = None,
    emit_test: str | os.PathLike[str] | None = None,
    expect_fixed: bool = False,
) -> ReplayReport:
    """Call the functions of a trace's steps again with their captured inputs, and compare the outcomes.

    Only functions that `traced_node` decorated are called, and only those of modules whose files lie under the working
    folder and decorate them in their source, or that ``imports`` names. Arguments are rebuilt from JSON by the
    function's annotations. While this runs, no recorder of the process writes a file.

    Args:
        trace: the trace, or its file.
        steps: the steps to replay: numbers in the trace from 0, step ids or node ids; None means all of the trace's own
            run that ``until_failure`` allows.
        until_failure: stop after the step that the failure began in, where it could be replayed, or, if the trace has
            none, after the first one with an error; None means True if ``steps`` is None.
        compare_hashes: compare outputs, too; False only compares errors.
        imports: names of modules outside the working folder that may be used; they are imported.
        receiver: a function that makes the ``self`` of instance methods, called for each of their steps; or its
            ``"module:name"``, in a module that may be used.
        stubs: nodes that are answered from their recorded outputs when a replayed step calls them: ``COMPONENT``,
            ``COMPONENT.OPERATION`` or a node id.
        working_folder: modules and scripts under it may be loaded.
        payloads: the folder that the trace's payload files are relative to; None means the folder of its file.
        on_error: called with each replayed step that raised, and the exception.
        emit_test: a file to write: a pytest test that reproduces the step that the failure began in, or else the first
            replayed step that had failed, or the last replayed one. It needs neither the trace nor, apart from hashes,
            flowtrace.
        expect_fixed: write a test that passes once the behaviour is fixed, instead of one that passes until then.

    Returns:
        One entry for each step that was looked at, and the verdict.

    Raises:
        TraceFileError: the file is not a version 1 trace.
        ReplayError: a step, stub, receiver, import or the working folder does not exist, or a test can't be written.
        OSError: the trace can't be read, or the test can't be written.
    """
    name = "<trace>" if isinstance(trace, Trace) else os.fspath(trace)
    loaded = trace if isinstance(trace, Trace) else load_trace(trace)
    chosen = _chosen(loaded, steps)
    resolver = Resolver(working_folder, tuple(imports))
    folder = None if payloads is None else os.fspath(payloads)
    if folder is None and not isinstance(trace, Trace):
        folder = os.path.dirname(os.path.abspath(name))
    stubs = tuple(stubs)
    with replay_recorder(settings_for(loaded), has_stubs=bool(stubs)) as recorder, resolver.working_folder_on_path():
        replayer = _Replayer(loaded, folder, recorder, resolver, receiver)
        replayer.compare_hashes, replayer.on_error, replayer.is_explicit = compare_hashes, on_error, steps is not None
        replayer.stub(stubs)
        found = replayer.run(chosen, steps is None if until_failure is None else until_failure)
        if emit_test is not None:
            _write(os.fspath(emit_test), replayer.test_source(os.fspath(emit_test), expect_fixed))
    return ReplayReport(name, found, _pythons(loaded))


def _write(path: str, source: str) -> None:
    """Write a test for its owner alone, as it holds captured values; never over what flowtrace did not write.

    Raises:
        ReplayError: there is another file, or a link or a pipe.
        OSError: it can't be written.
    """
    if os.path.lexists(path):
        if not S_ISREG(os.lstat(path).st_mode):
            raise ReplayError(f"{path} exists already, and is not a file")
        descriptor = os.open(path, FILE)
        with open(descriptor, "rb") as file:
            if MADE_BY.encode() not in file.read(_MOST_READ):
                raise ReplayError(f"{path} exists already, and was not written by flowtrace")
    elif not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise FileNotFoundError(ENOENT, os.strerror(ENOENT), path)
    write_atomically(path, source.encode())


def _chosen(trace: Trace, steps: int | str | Iterable[int | str] | None) -> list[int]:
    """Return the indexes of the chosen steps, in the order of the trace."""
    count = len(trace.steps)
    if steps is None:  # what other runs of the process did is not part of the failure
        return [at for at, step in enumerate(trace.steps) if step.run_id is None or step is trace.failed_step]
    found: set[int] = set()
    for choice in [steps] if isinstance(steps, int | str) else steps:
        matching = [at for at, step in enumerate(trace.steps) if choice in (at, step.step_id, step.node_id)]
        if not matching:
            numbers = f"the trace has the steps 0 to {count - 1}" if count else "the trace has no steps"
            raise ReplayError(f"there is no step {choice!r:.80}: {numbers}; a step id or node id also chooses one")
        found.update(matching)
    return sorted(found)


def settings_for(trace: Trace) -> TraceConfig:
    """Return the settings of this process, which also redact what the trace's process has redacted."""
    config = TraceConfig.from_env() if STATE.recorder is None else STATE.recorder.config
    complete = (pointer for step in trace.steps for pointer in step.redacted if not _is_part_of_text(step, pointer))
    tokens = {pointer.rpartition("/")[2] for pointer in complete}
    names = {token.replace("~1", "/").replace("~0", "~").lstrip("-") for token in tokens if not token.isdigit()}
    return config.changed({"redact": (*config.redact, *sorted(names - {"", *config.redact}))})


def _is_part_of_text(step: Step, pointer: str) -> bool:
    """Return True if only a part of a text was hidden, for what it looks like and not for its name."""
    value: Any = {"invocation_json": step.invocation_json, "output_json": step.output_json}
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and key.isascii() and key.isdigit():
            value = dict(enumerate(value)).get(int(key[:9]))
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return isinstance(value, str) and value != MARKER


def _pythons(trace: Trace) -> str:
    then, now = trace.run.python if trace.run else "", platform.python_version()
    return f"recorded with Python {then}, replayed with {now}" if then not in ("", now) else ""


class _Replayer:
    def __init__(
        self, trace: Trace, folder: str | None, recorder: ReplayRecorder, resolver: Resolver, receiver: Receiver
    ) -> None:
        self.compare_hashes = True
        self.on_error: Callable[[StepReplay, BaseException], None] | None = None
        self.is_explicit = False
        self._trace = trace
        self._folder = folder
        self._recorder = recorder
        self._resolver = resolver
        arrays = {digest: path for step in trace.steps for digest, path in step.arrays.items()}
        self._rebuilder = Rebuilder(resolver.class_named, partial(captured_array, arrays, folder))
        self._receiver = receiver
        self._stubs: Stubs | None = None
        self._failed = trace.failed_step
        self._looked_at: list[StepReplay] = []
        self._noted: set[str] = set()
        self._to_test: tuple[StepReplay, Rerun] | None = None
        self._code_hashes: dict[int, Hash | None] = {}
        self._parameters: dict[int, list[AnnotatedParameter]] = {}

    def stub(self, patterns: Iterable[str]) -> None:
        """Answer the nodes of some patterns from their recorded outputs."""
        names = tuple(patterns)
        if names:
            self._stubs = Stubs(names, self._trace.steps, self._resolver, self._rebuilder, self._recorder, self._folder)

    def run(self, chosen: list[int], until_failure: bool) -> list[StepReplay]:
        """Replay the steps with these indexes."""
        found: list[StepReplay] = []
        for at in chosen:
            step = self._trace.steps[at]
            result = self._step(at, step)
            found.append(result)
            is_last = step is self._failed or (self._failed is None and step.error is not None)
            if until_failure and is_last and result.outcome is not ReplayOutcome.SKIPPED:
                break
        self._looked_at = found
        return found

    def test_source(self, path: str, expect_fixed: bool) -> str:
        """Return a test of the step that the failure began in, or else of the first replayed step that had failed.

        Where none had failed, it is of the last replayed one.
        """
        for item in self._looked_at:
            if item.step is self._failed and item.outcome is ReplayOutcome.SKIPPED:
                raise ReplayError(
                    f"no test was written: step {item.number} failed, and can't be replayed: {item.reason}"
                )
        if self._to_test is None:
            raise ReplayError("no step could be replayed, so there is nothing to write a test about")
        if self._stubs is not None:
            raise ReplayError(
                "the test would call the real nodes instead of the stubs: leave out the stubs or the test"
            )
        result, done = self._to_test
        step = result.step
        target = self._resolver.target(step.code)
        if problem := self._resolver.problem_of(target):
            raise ReplayError(f"no test was written: {problem}")
        call = self._call(target, captured_input(step, self._folder), step)
        test = EmittedTest(result, done, call.target, path, expect_fixed=expect_fixed)
        test.items = _items_taken(self._recorded_output(step))
        return test.source(call.args, call.kwargs, self._receiver, self._rebuilder)

    def _step(self, number: int, step: Step) -> StepReplay:
        result = StepReplay(number, step, ReplayOutcome.SKIPPED)
        try:
            self._check_repeatable(step)
            self._replay(step, result)
        except (NotFoundError, NotCapturedError, RebuildError, NoAnswerError) as error:
            result.outcome, result.reason = ReplayOutcome.SKIPPED, str(error)
        return result

    def _check_repeatable(self, step: Step) -> None:
        code = step.error.code if step.error is not None else ""
        if code not in _NOT_REPEATABLE or (code == "process_died" and self.is_explicit):
            return
        if code == "node_interrupted" and error_type(step.error) == "SystemExit":  # raised by the function itself
            return
        raise NotCapturedError(_NOT_REPEATABLE[code])

    def _replay(self, step: Step, result: StepReplay) -> None:
        payload = captured_input(step, self._folder)
        self._recorder.activate()
        self._rebuilder.unsure_arrays = 0
        call = self._call(self._resolver.target(step.code), payload, step)
        bound = partial(self._bound(call.target), *call.args, **call.kwargs)
        algorithm = step.input_hash.algorithm
        if algorithm != ALGORITHM and not self._recorder.has_key:
            algorithm = ALGORITHM
            result.notes.append("hashes are keyed: set FLOWTRACE_HASH_KEY to compare them")
        items = _items_taken(self._recorded_output(step))
        with nullcontext() if self._stubs is None else self._stubs.around(step, result.notes):
            done = self._recorder.call(call.target.node, bound, algorithm, items)
        if self._stubs is not None and self._stubs.problems:
            raise NoAnswerError(self._stubs.problems[0])
        unsure = self._rebuilder.unsure_arrays
        self._judge(call, step, done, result)
        if (problem := self._resolver.problem_of(call.target)) not in {"", *self._noted}:
            self._noted.add(problem)
            result.notes.append(f"what it had defined until then was called: {problem}")
        if unsure and not result.is_as_recorded:
            were = (
                "was a list or a tuple: it was rebuilt as a list"
                if unsure == 1
                else "were lists or tuples: they were rebuilt as lists"
            )
            result.notes.append(f"no annotation says if {unsure} array{'s' * (unsure > 1)} {were}")
        if step is self._failed or self._to_test is None or self._to_test[0].step.error is None:
            self._to_test = (result, done)
        if done.error is not None and self.on_error is not None:
            self.on_error(result, done.error)

    # --- the call

    def _call(self, target: Target, payload: dict[str, Any], step: Step) -> Call:
        function = target.node.function
        parameters = self._signature(target)
        self._resolver.own_module = target.module
        try:
            args, kwargs, is_complete = arguments_of(parameters, payload, self._rebuilder)
        except UnfitError as error:
            raise NotFoundError(f"{getattr(function, '__name__', 'it')} {error}") from error
        return Call(target, args, kwargs, is_complete and _is_plain(payload, step.input_hash))

    def _signature(self, target: Target) -> list[AnnotatedParameter]:
        key = id(target)
        if key not in self._parameters:
            function: Any = target.node.function
            try:
                parameters = list(inspect.signature(function).parameters.values())
            except (TypeError, ValueError) as error:
                raise NotFoundError(f"{target.node.node_id} has no signature: {error}") from error
            if target.kind in ("method", "classmethod"):
                parameters = parameters[1:]
            self._parameters[key] = annotated_parameters(parameters, hints_of(inspect.unwrap(function)))
        return self._parameters[key]

    def _bound(self, target: Target) -> Callable[..., Any]:
        if target.kind == "classmethod":
            return MethodType(target.traced, target.owner)
        if target.kind != "method":
            traced: Callable[..., Any] = target.traced
            return traced
        if self._receiver is None:
            raise NotFoundError(
                "it is an instance method: name a function that makes its object, --receiver MODULE:FACTORY"
            )
        made = self._made_receiver(self._receiver, target.module)
        if target.owner is not None and not isinstance(made, target.owner):
            needs = traceback_name(target.owner)
            raise NotFoundError(f"the receiver is of type {traceback_name(type(made))}, not {needs}")
        return MethodType(target.traced, made)

    def _made_receiver(self, receiver: Callable[[], object] | str, user: ModuleType) -> object:
        make = self._resolver.factory(receiver, user) if isinstance(receiver, str) else receiver
        try:
            return make()
        except Exception as error:
            raise ReplayError(f"the receiver can't be made: {type(error).__name__}: {error}") from error

    # --- the verdict

    def _judge(self, call: Call, step: Step, done: Rerun, result: StepReplay) -> None:
        if done.step is None:
            raise NotFoundError("it replaced the recorder during the replay")
        result.duration_ns = done.step.ended - done.step.started
        result.code_changed = self._is_changed(call.target, step)
        if step.input_hash.algorithm == ALGORITHM or self._recorder.has_key:
            result.exact_input = call.is_exact or is_same_hash(step.input_hash, done.input_hash())
            if not result.exact_input:
                result.notes.append("the input could not be rebuilt exactly: its hash differs from the recorded one")
        if done.error is not None:
            code, message, details = done.step.failure or describe(done.error)
            scrubber = scrubber_of([done.step], done.policy)  # the recorded error was scrubbed, too
            result.error = StepError(code=code, message=scrubber.text(message), details=scrubber.scrubbed(details))
        result.outcome, result.reason = self._compared(step, done, result)

    def _is_changed(self, target: Target, step: Step) -> bool | None:
        if step.code is None or step.code.hash is None:
            return None
        if id(target) not in self._code_hashes:
            found = locate(target.node.function)
            self._code_hashes[id(target)] = found.hash if found is not None else None
        now = self._code_hashes[id(target)]
        return None if now is None else not is_same_hash(step.code.hash, now)

    def _compared(self, step: Step, done: Rerun, result: StepReplay) -> tuple[ReplayOutcome, str]:
        if step.error is not None and result.error is not None:
            if _is_same_error(step.error, result.error):
                return ReplayOutcome.SAME_ERROR, ""
            return ReplayOutcome.DIFFERENT_ERROR, f"{error_line(result.error)}, not {error_line(step.error)}"
        if step.error is not None:
            self._keep_output(done, result)
            return ReplayOutcome.ERROR_VANISHED, f"it ended well; the recorded error is {error_line(step.error)}"
        if result.error is not None:
            return ReplayOutcome.ERROR_APPEARED, error_line(result.error)
        return self._compared_outputs(step, done, result)

    def _compared_outputs(self, step: Step, done: Rerun, result: StepReplay) -> tuple[ReplayOutcome, str]:
        recorded = step.output_hash
        self._keep_output(done, result)
        if not self.compare_hashes or recorded is None or result.output_hash is None:
            return ReplayOutcome.ENDED_WELL, "" if not self.compare_hashes else "no output was recorded"
        if any(part.reason == "overhead" and is_within(part.path, OUTPUT) for part in step.cut):
            return ReplayOutcome.ENDED_WELL, "its output was not recorded, since that cost too much"
        if recorded.algorithm == result.output_hash.algorithm:
            is_same = is_same_hash(recorded, result.output_hash)
        elif isinstance(output := self._recorded_output(step), UnsetType):
            return ReplayOutcome.ENDED_WELL, "its output can't be compared without the key of the hashes"
        else:
            is_same = canonical_bytes(output) == canonical_bytes(result.output_json)
        return (ReplayOutcome.SAME_OUTPUT, "") if is_same else (ReplayOutcome.DIFFERENT_OUTPUT, "its output differs")

    def _recorded_output(self, step: Step) -> Json | UnsetType:
        try:
            return cast("Json | UnsetType", captured_output(step, self._folder))
        except NotCapturedError:
            return UNSET

    def _keep_output(self, done: Rerun, result: StepReplay) -> None:
        output = done.output()
        if output is not None:
            result.output_hash = hash_of(output)
            result.output_json = done.shown(output)
            if output.opaque:
                result.notes.append("opaque parts of the output were not compared")
            if output.redacted and output.digest.algorithm == ALGORITHM:
                result.notes.append("hidden parts of the output were not compared")


def _is_plain(payload: dict[str, Any], input_hash: Hash) -> bool:
    """Return True if a payload is plain JSON with the recorded hash: the arguments rebuilt from it have it as well."""
    if input_hash.algorithm != ALGORITHM:
        return False
    try:
        data = tree_bytes(payload)
    except TypeError:
        return False
    return b'"$py"' not in data and hash_bytes(data) == input_hash.value


def _items_taken(output: Json | UnsetType) -> int | None:
    """Return how many items a generator had yielded when it was closed; None if it ran, or may have run, to its end."""
    if not isinstance(output, dict) or output.get("$py") != "generator" or "returned" in output:
        return None
    items = output.get("items")
    return len(items) if isinstance(items, list) else None


def _is_same_error(one: StepError, other: StepError) -> bool:
    """Return True if two errors are of one type and text, apart from addresses of objects in memory."""
    types = {error_type(one), error_type(other)} - {None}
    return len(types) < 2 and without_addresses(one.message) == without_addresses(other.message)
