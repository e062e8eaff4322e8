"""The text of a trace, made of the steps in memory. Everything slow happens here, when a trace is written."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias

from flowtrace.host import log
from flowtrace.host.switch import environment
from flowtrace.host.system import CLOCK, copy_of, os, step_id
from flowtrace.recording.node import Node, Policy
from flowtrace.recording.program_texts import scrubbed_error, scrubbed_step, source_of
from flowtrace.recording.state import STATE
from flowtrace.recording.step import TEXTS, Step
from flowtrace.recording.step_lines import ERROR_GAP, StepLines
from flowtrace.recording.step_records import (
    Shared,
    StepValues,
    error_of,
    names_a_file,
    record_of,
    running_record,
)
from flowtrace.settings.config import TraceContext
from flowtrace.settings.variables import git_sha
from flowtrace.trace import layout, model
from flowtrace.values.encode import encode
from flowtrace.values.environment_secrets import look_again, texts_in_environment
from flowtrace.values.forms import Opaque
from flowtrace.values.redaction import SecretNames
from flowtrace.values.scrub import Scrubber
from flowtrace.values.secret_texts import EVERYTHING

_platform: Final = copy_of(platform)
host_name: Final[Callable[[], str]] = lru_cache(maxsize=1)(_platform.node)
python_version: Final[Callable[[], str]] = lru_cache(maxsize=1)(_platform.python_version)
_OF_A_RECORD: Final = 1000  # bytes of a step's text or record, beside its values


@lru_cache(maxsize=1)
def own_version() -> str:
    """Return flowtrace's version."""
    try:
        return version("flowtrace")
    except PackageNotFoundError:  # run from a source folder that was never installed
        return "0+unknown"


def warm_up() -> None:
    """Load all that writing needs: in a forked child, an import that another thread had begun would never end."""
    own_version()
    host_name()
    python_version()


class RunFacts(NamedTuple):
    """The facts about a run in a trace's envelope.

    Attributes:
        id: 32 hex digits.
        started: clock reading at its start, in ns.
        ended: clock reading at its end, in ns; None while it goes on.
        outcome: ``failed``, ``recovered``, ``ok``, ``interrupted`` or ``snapshot``.
        dropped: steps that rolled out of the buffer.
        overtaken: earlier runs to the same file that were not written.
        failed_step: number of the step in which the error of the run began; 0 for none.
    """

    id: str
    started: int
    ended: int | None
    outcome: str
    dropped: int
    overtaken: int
    failed_step: int


class TraceText(NamedTuple):
    """The text of a trace file.

    Attributes:
        pieces: yields it in pieces.
        texts: those of its steps, for the next trace of the run.
    """

    pieces: Callable[[], Iterator[bytes]]
    texts: StepTexts


def trace_text(
    facts: RunFacts,
    context: TraceContext,
    steps: list[Step],
    in_flight: list[Step],
    shared: Shared,
    earlier: StepTexts | None = None,
) -> TraceText:
    """Return the text of a trace file.

    All values are looked at before it returns, since the text of an error may quote what any step hides.

    Args:
        facts: about the run.
        context: what the trace says about the program.
        steps: finished steps, oldest first.
        in_flight: running steps, outermost first.
        shared: what to keep of their values, and where.
        earlier: the texts of the last trace of the run, if there is one.
    """
    texts = (
        earlier
        if earlier is not None and earlier.are_of(steps, in_flight, shared)
        else StepTexts(steps, in_flight, shared)
    )
    texts.envelope = texts.envelope or _envelope(shared.policy.shown(context))
    changes = {"run": _run(facts), "dropped_steps": facts.dropped, "source": texts.source(facts.failed_step)}
    envelope = model.changed(texts.envelope, **changes)
    count = len(steps)

    def pieces() -> Iterator[bytes]:
        running = texts.between(count, count + len(in_flight)) if in_flight else ()
        return layout.trace_text(envelope, texts.between(0, count), running)

    return TraceText(pieces, texts)


def _envelope(context: TraceContext) -> model.Trace:
    """Return what stays the same in all traces of a run."""
    return model.Trace(
        trace_version=model.TRACE_VERSION,
        runner_version=own_version(),
        git_sha=look_again(environment(), git_sha, git_sha),
        pack=model.Pack(pack_ref=context.pack_ref, resolved_digest=context.resolved_digest),
        flow=model.Flow(id=context.flow_id, version=context.flow_version),
        steps=[],
    )


def _run(facts: RunFacts) -> model.Run:
    return model.Run(
        id=facts.id,
        started_at=CLOCK.timestamp(facts.started),
        ended_at=None if facts.ended is None else CLOCK.timestamp(facts.ended),
        outcome=facts.outcome,
        pid=os.getpid(),
        host=host_name(),
        python=python_version(),
        overtaken_runs=facts.overtaken or None,
        failed_step_id=step_id(facts.failed_step) if facts.failed_step else None,
    )


# --- what the steps hide


def scrubber_of(steps: Iterable[Step], policy: Policy) -> Scrubber:
    """Return a scrubber for the values that some steps hide.

    Args:
        steps: the steps.
        policy: what to keep of their values.
    """
    steps = list(steps)
    names = _secret_names(steps, policy)
    texts = dict.fromkeys(texts_in_environment(os.environ, names))
    for step in steps:
        texts.update(dict.fromkeys(_hidden_texts(step, policy)))
    return Scrubber(texts, names)


def _secret_names(steps: Iterable[Step], policy: Policy) -> SecretNames:
    return policy.secret(*dict.fromkeys(map(_node_of, steps)))


def _hidden_texts(step: Step, policy: Policy) -> tuple[str, ...]:
    if step.text is not None or step.scrubbed is not None:
        return step.secrets
    try:
        return StepValues.of(step, policy).secrets
    except Exception as error:
        log.internal_fault("find what a step hides", error)
        return (EVERYTHING,)


# --- the texts of the steps


_node_of: Final[Callable[[Step], Node]] = attrgetter("node")
_noted_about: Final[Callable[[Step], object]] = attrgetter("rest")
_BATCH: Final = 100  # steps that are looked at together
_NOT_WRITTEN: Final = ((), b"")  # no scrubber hides so little
_Made: TypeAlias = bytes | list[bytes] | model.Step | None
"""What is there of a step's text: all, the parts before and after its error, its record, or nothing."""


def _bytes_of_text(step: Step) -> int:
    return len(step.text or b"") + (0 if step.scrubbed is None else len(step.scrubbed[1]))


class StepTexts:
    """Makes the texts of the steps of one trace: their values are looked at first, then they are written.

    What the first look made is kept for the second, and the text of a finished step also for later writes of the same
    run, up to the bytes of a buffer. Beyond it, a step is made again each time. The texts of errors and issues are
    made last: they are scrubbed of all that any of the steps hides, and again where a later trace hides others.

    A step in flight may end in another thread meanwhile. It stays in flight in this trace, and its text is not kept:
    its clock may have stopped already while its error or result is still to come.

    Args:
        finished: finished steps, oldest first.
        in_flight: running steps, outermost first.
        shared: what to keep of their values, and where.

    Attributes:
        envelope: the part of the trace that is the same in each of the run; None until it is made.
    """

    envelope: model.Trace | None = None

    def __init__(self, finished: list[Step], in_flight: list[Step], shared: Shared) -> None:
        self._steps = steps = [*finished, *in_flight]
        self._running = frozenset(in_flight)
        self._shared = shared
        self._addition = STATE.addition
        self._room = shared.policy.buffer_bytes - sum(map(_bytes_of_text, filter(_noted_about, steps)))
        self._names = names = _secret_names(steps, shared.policy)
        self._environment = texts_in_environment(os.environ, names)
        self._hidden = dict.fromkeys(self._environment)
        self._plain = StepLines(shared.policy)
        self._made: list[_Made] = []
        self._others = [*self._look_at_plain(len(finished)), *range(len(finished), len(steps))]
        self._made += [None] * len(in_flight)
        for at in self._others:
            self._made[at] = self._look(steps[at])
        self._scrubber = Scrubber(self._hidden, names)
        self._source: tuple[int, list[model.SourceLines]] = 0, []

    def are_of(self, finished: list[Step], in_flight: list[Step], shared: Shared) -> bool:
        """Return True if a later trace has the same texts: of the same steps, of which each keeps its own."""
        if in_flight or self._running or self._steps != finished or self._shared.other_runs != shared.other_runs:
            return False
        if self._addition is not STATE.addition or self._environment != texts_in_environment(os.environ, self._names):
            return False
        return all(TEXTS & (self._steps[at].rest or {}).keys() for at in self._others)

    def source(self, number: int) -> list[model.SourceLines]:
        """Return the lines round the error that began in the step with a number; none for 0."""
        if self._source[0] != number:
            failed = [self._steps[at] for at in self._others]  # among others: a step with an error is not plain
            self._source = number, source_of(number, failed, self._scrubber)
        return self._source[1]

    def between(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the texts of some of the steps; those of plain ones together."""
        runs = self._shared.other_runs
        others = range(start, end) if runs else [at for at in self._others if start <= at < end]
        for at in (*others, end):
            for first in range(start, at, _BATCH):
                yield layout.together(self._made[first : min(first + _BATCH, at)])  # type: ignore[arg-type]  # plain
            if at < end:
                step = self._steps[at]
                text = self._text(step, self._made[at])
                yield layout.with_run(text, runs[step.number]) if step.number in runs else text
                del text  # before the next one is made: it may be large
            start = at + 1

    def _look_at_plain(self, count: int) -> Iterator[int]:
        """Make the texts of plain steps, as far as there is room to keep them; yield the places of the other steps."""
        for first in range(0, count, _BATCH):
            steps = self._steps[first : min(first + _BATCH, count)]
            texts = self._plain.texts(steps)
            size = sum(map(len, filter(None, texts)))
            if size < self._room:
                self._room -= size
            else:
                texts = [None] * len(steps)
            self._made += texts
            for at, text in enumerate(texts, first):
                step = self._steps[at]
                if text is None or step.rest is not None:  # another thread has noted something meanwhile
                    yield at
                else:
                    step.rest = {"text": text}  # as `step.text = text` does

    def _look(self, step: Step) -> _Made:
        """Note what a step hides, and return what was made of it where there is room to keep that."""
        is_running, rest = step in self._running, step.rest
        if rest is not None and not is_running and ((text := step.text) is not None or step.scrubbed is not None):
            self._hide(step.secrets)
            return text
        try:
            if not is_running and (text := self._plain.text(step)) is not None:
                return self._kept_plain(step, text)
            values = self._values(step)
            self._hide(values.secrets)
            self._room -= _OF_A_RECORD + values.bytes_kept() + (0 if step.logs is None else step.logs.bytes_kept())
            return self._kept(step, values) if self._room > 0 else None
        except Exception as error:
            log.internal_fault("find what a step hides", error)
            self._hide((EVERYTHING,))
            return None

    def _kept_plain(self, step: Step, text: bytes) -> _Made:
        """Keep a text that hides nothing; one with an error is kept when it has got that."""
        self._room -= len(text)
        if step.rest is not None and step.failure is not None:
            step.scrubbed = _NOT_WRITTEN
            return text.split(ERROR_GAP) if self._room > 0 else None
        if self._room > 0:
            step.text = text
            return text
        return None

    def _values(self, step: Step) -> StepValues:
        values = StepValues.of(step, self._shared.policy)
        return values._replace(output=None) if step in self._running else values

    def _record(self, step: Step, values: StepValues) -> model.Step:
        return (running_record if step in self._running else record_of)(step, values, self._shared)

    def _hide(self, secrets: tuple[str, ...]) -> None:
        if secrets:
            self._hidden.update(dict.fromkeys(secrets))

    def _kept(self, step: Step, values: StepValues) -> bytes | model.Step:
        record = self._record(step, values)
        if step in self._running or names_a_file(record):  # payload files belong to this one trace
            return record
        if values.secrets:
            step.secrets = values.secrets
        self._plain.learn(step, record)
        if record.error is not None or record.validation_issues or record.logs:
            step.scrubbed = _NOT_WRITTEN
            return record
        step.text = layout.step_text(record)
        return step.text

    def _text(self, step: Step, made: _Made) -> bytes:
        """Return a step's text; a fault in one step costs only its values, and not the other steps their file."""
        if isinstance(made, bytes):
            return made
        scrubbed = None if step in self._running else step.scrubbed
        if scrubbed is not None and scrubbed[0] == self._scrubber.hides:
            return scrubbed[1]
        try:
            text = self._finished_text(step, made)
        except Exception as error:
            log.internal_fault("make the record of a step", error)
            unknown = StepValues(encode(Opaque("unknown")), None, ())
            return layout.step_text(scrubbed_step(record_of(step, unknown, self._shared), self._scrubber))
        if scrubbed is not None:
            step.scrubbed = self._scrubber.hides, text
        return text

    def _finished_text(self, step: Step, made: list[bytes] | model.Step | None) -> bytes:
        if made is None and step not in self._running and (text := self._plain.text(step)) is not None:
            made = text.split(ERROR_GAP)
        if not isinstance(made, list):
            return layout.step_text(scrubbed_step(made or self._record(step, self._values(step)), self._scrubber))
        if step.failure is None:
            return made[0]
        return layout.field_text(scrubbed_error(error_of(step.failure), self._scrubber)).join(made)
