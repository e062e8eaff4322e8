"""The decorators that the comparison runs: each set up as its documentation says, with nothing leaving the process.

Every peer is imported inside its own function: one process holds one peer.
"""

from __future__ import annotations

import functools
import inspect
import io
import os
import types
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.bindings import Binding
from conformance.shapes import Shape
from conformance.subject import Subject

TRACING, OFF = "tracing", "off"
NOWHERE = "http://127.0.0.1:9"

# The uses that many decorators are not made for, each with the words that the page says it in.
CLASS_METHOD = "a class method object (decorator above @classmethod)"
STATIC_METHOD = "a static method object (decorator above @staticmethod)"
CLASS = "a class"
PARTIAL = "a functools.partial object"
BOUND = "a bound method object"
CALLABLE = "an object with __call__"
CONTEXT_MANAGER = "a function above @contextmanager"
GENERATOR = "a generator that is no context manager"

ALL_BUT_FUNCTIONS = (CLASS, CLASS_METHOD, STATIC_METHOD, PARTIAL, BOUND, CALLABLE)

_OBJECTS = {
    "callable object": CALLABLE,
    "functools.partial, decorator outside": PARTIAL,
    "method, decorated when bound": BOUND,
}
_KINDS = {
    type: CLASS,
    classmethod: CLASS_METHOD,
    staticmethod: STATIC_METHOD,
    functools.partial: PARTIAL,
    types.MethodType: BOUND,
}


@dataclass
class Running:
    """A peer that is set up in this process.

    Attributes:
        subject: its decorator.
        around: the scope that its documentation wants around the calls.
        recorded: tells how much arrived where its traces end, so that a peer that was not tracing is found out.
    """

    subject: Subject
    recorded: Callable[[], int]
    around: Callable[[], AbstractContextManager[Any]] = nullcontext


@dataclass(frozen=True)
class Peer:
    """A decorator to compare.

    Attributes:
        name: what the page calls it.
        distribution: the package whose version the page gives.
        applied: how the decorator is written.
        start: takes a mode, and sets the peer up.
        modes: what it runs in, each with what that means for it.
        not_meant: uses that its documentation does not offer, each with the reason.
        never_off: why it does not run switched off.
    """

    name: str
    distribution: str
    applied: str
    start: Callable[[str], Running]
    modes: dict[str, str]
    not_meant: dict[str, str] = field(default_factory=dict)
    never_off: str = "it has no such switch"

    def refuses(self, shape: Shape, binding: Binding) -> str:
        """Return the use that makes a row not applicable, or nothing."""
        return next((use for use in uses(shape, binding) if use in self.not_meant), "")


def uses(shape: Shape, binding: Binding) -> list[str]:
    """Return which of the unusual uses a row is."""
    found = [use for name, use in _OBJECTS.items() if binding.name == name]
    if binding.source.startswith("@decorate\n"):
        found.append(CLASS)
    for above, use in (("@classmethod", CLASS_METHOD), ("@staticmethod", STATIC_METHOD)):
        if binding.stack[:2] == ("@decorate", above):
            found.append(use)
    if shape.above.endswith("contextmanager") and not shape.below:
        found.append(CONTEXT_MANAGER)
    if shape.run.__name__ in ("run_generator", "run_async_generator") and "yield" in shape.body.split("def ")[0]:
        found.append(GENERATOR)
    return found


def uses_of(target: Any) -> list[str]:
    """Return which of the unusual uses it is to decorate an object."""
    found = [use for kind, use in _KINDS.items() if isinstance(target, kind)]
    if not found and not inspect.isroutine(target):
        found.append(CALLABLE)
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        found.append(GENERATOR)
    return found


def _only_functions(reason: str) -> dict[str, str]:
    return dict.fromkeys(ALL_BUT_FUNCTIONS, reason)


class Sink:
    """Where traces end."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *items: Any, **options: Any) -> None:
        """Take something, and drop it."""
        self.count += 1


def _span_exporter(sink: Sink) -> Any:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Dropping(SpanExporter):
        def export(self, spans):
            sink()
            return SpanExportResult.SUCCESS

    return Dropping()


# --- one function for each peer


def _undecorated(_: str) -> Running:
    return Running(Subject("undecorated", lambda target: target), recorded=lambda: 0)


def _flowtrace(_: str) -> Running:
    from conformance.flowtrace_subject import FLOWTRACE

    return Running(FLOWTRACE, recorded=lambda: len(list(Path.cwd().glob("*.json"))))


def _opentelemetry(mode: str) -> Running:
    from opentelemetry import trace

    sink = Sink()
    if mode == TRACING:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(_span_exporter(sink)))
        trace.set_tracer_provider(provider)
    tracer = trace.get_tracer("conformance")
    subject = Subject("OpenTelemetry", lambda target: tracer.start_as_current_span("step")(target))
    return Running(subject, recorded=lambda: sink.count)


def _logfire(_: str) -> Running:
    import logfire
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    sink = Sink()
    processors = [SimpleSpanProcessor(_span_exporter(sink))]
    logfire.configure(send_to_logfire=False, console=False, additional_span_processors=processors)
    return Running(Subject("Logfire", logfire.instrument), recorded=lambda: sink.count)


def _langfuse(mode: str) -> Running:
    from langfuse import Langfuse, observe

    sink = Sink()
    client = Langfuse(
        public_key="pk-lf-none",
        secret_key="sk-lf-none",
        base_url=NOWHERE,
        tracing_enabled=mode == TRACING,
        span_exporter=_span_exporter(sink),
    )

    def recorded() -> int:
        client.flush()
        return sink.count

    return Running(Subject("Langfuse", observe), recorded)


def _langsmith(mode: str) -> Running:
    os.environ["LANGSMITH_TRACING"] = str(mode == TRACING).lower()
    import langsmith
    import requests

    sink = Sink()

    class Dropping(requests.Session):
        def request(self, method, url, **options):
            sink()
            answer = requests.Response()
            answer.status_code, answer._content, answer.url = 202, b"{}", url
            return answer

    client = langsmith.Client(api_url=NOWHERE, api_key="none", session=Dropping(), info={})
    langsmith.configure(client=client)

    def recorded() -> int:
        client.flush()
        return sink.count

    return Running(Subject("LangSmith", langsmith.traceable), recorded)


def _mlflow(mode: str) -> Running:
    os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"
    os.environ["MLFLOW_TRACKING_URI"] = NOWHERE
    import mlflow
    from mlflow.entities.trace_location import MlflowExperimentLocation
    from mlflow.tracing.export.mlflow_v3 import MlflowV3SpanExporter

    # MLflow takes no exporter from outside: everything is as in production but for the requests to the server.
    sink = Sink()
    MlflowV3SpanExporter._log_trace = sink
    MlflowV3SpanExporter._export_spans_incrementally = lambda self, spans: None
    mlflow.tracing.set_destination(MlflowExperimentLocation(experiment_id="0"))
    if mode == OFF:
        mlflow.tracing.disable()
    return Running(Subject("MLflow", mlflow.trace), recorded=lambda: sink.count)


def _ddtrace(mode: str) -> Running:
    os.environ["DD_TRACE_ENABLED"] = str(mode == TRACING).lower()
    os.environ["DD_TRACE_AGENT_URL"] = NOWHERE
    for name in ("INSTRUMENTATION_TELEMETRY", "REMOTE_CONFIGURATION", "CRASHTRACKING"):
        os.environ[f"DD_{name}_ENABLED"] = "false"
    from ddtrace.trace import TraceFilter, tracer

    sink = Sink()

    class Drop(TraceFilter):
        def process_trace(self, trace):
            sink()

    if mode == TRACING:  # for `configure` switches it on, whatever the variable says
        tracer.configure(trace_processors=[Drop()])
    return Running(Subject("ddtrace", lambda target: tracer.wrap()(target)), recorded=lambda: sink.count)


def _sentry(mode: str) -> Running:
    import sentry_sdk
    from sentry_sdk.transport import Transport

    sink = Sink()

    class Dropping(Transport):
        def capture_envelope(self, envelope):
            sink()

    subject = Subject("Sentry", sentry_sdk.trace)
    if mode == OFF:
        return Running(subject, recorded=lambda: sink.count)
    sentry_sdk.init(dsn="http://none@127.0.0.1:9/1", transport=Dropping, traces_sample_rate=1.0)
    return Running(
        subject,
        recorded=lambda: sink.count,
        around=lambda: sentry_sdk.start_transaction(name="conformance"),
    )


def _eliot(_: str) -> Running:
    import eliot

    sink = Sink()

    class Dropping(io.BytesIO):
        def write(self, line):
            sink()

    # Its messages become JSON first, as they do on the way to a real file.
    eliot.to_file(Dropping())
    return Running(Subject("eliot", eliot.log_call), recorded=lambda: sink.count)


def _wrapt(_: str) -> Running:
    import wrapt

    sink = Sink()

    @wrapt.decorator
    def passing(wrapped, instance, args, kwargs):
        sink()
        return wrapped(*args, **kwargs)

    return Running(Subject("wrapt", passing), recorded=lambda: sink.count)


_FUNCTIONS = "its documentation speaks of functions and methods only"

PEERS = (
    Peer(
        "flowtrace",
        "flowtrace",
        "`@traced_node`",
        _flowtrace,
        {TRACING: "mode `always`", OFF: "mode `off`"},
    ),
    Peer(
        "OpenTelemetry",
        "opentelemetry-sdk",
        '`@tracer.start_as_current_span("step")`',
        _opentelemetry,
        {TRACING: "SDK, a simple processor, an exporter that drops", OFF: "API without an SDK"},
        _only_functions(_FUNCTIONS),
    ),
    Peer(
        "Logfire",
        "logfire",
        "`@logfire.instrument`",
        _logfire,
        {TRACING: "`send_to_logfire=False`, `console=False`"},
        _only_functions(_FUNCTIONS)
        | {
            CONTEXT_MANAGER: "it warns that it should be underneath",
            GENERATOR: "its documentation advises against it",
        },
    ),
    Peer(
        "Langfuse",
        "langfuse",
        "`@observe`",
        _langfuse,
        {TRACING: "an exporter that drops", OFF: "`tracing_enabled=False`"},
        _only_functions(_FUNCTIONS),
    ),
    Peer(
        "LangSmith",
        "langsmith",
        "`@traceable`",
        _langsmith,
        {TRACING: "`LANGSMITH_TRACING=true`, an HTTP session that drops", OFF: "`LANGSMITH_TRACING=false`"},
        _only_functions(_FUNCTIONS),
    ),
    Peer(
        "MLflow",
        "mlflow-tracing",
        "`@mlflow.trace`",
        _mlflow,
        {TRACING: "spans are made, the requests to the server are left out", OFF: "`mlflow.tracing.disable()`"},
        dict.fromkeys((CLASS, PARTIAL, BOUND, CALLABLE), _FUNCTIONS),
    ),
    Peer(
        "ddtrace",
        "ddtrace",
        "`@tracer.wrap()`",
        _ddtrace,
        {TRACING: "a trace processor that drops", OFF: "`DD_TRACE_ENABLED=false`"},
        _only_functions(_FUNCTIONS),
    ),
    Peer(
        "Sentry",
        "sentry-sdk",
        "`@sentry_sdk.trace`",
        _sentry,
        {TRACING: "inside a transaction, a transport that drops", OFF: "no `sentry_sdk.init`"},
        _only_functions(_FUNCTIONS)
        | dict.fromkeys((CLASS_METHOD, STATIC_METHOD), "its documentation says that this order breaks the function"),
    ),
    Peer(
        "eliot",
        "eliot",
        "`@log_call`",
        _eliot,
        {TRACING: "`to_file` on a stream that drops"},
        _only_functions(_FUNCTIONS),
    ),
    Peer(
        "wrapt only",
        "wrapt",
        "`@wrapt.decorator` around `return wrapped(*args, **kwargs)`",
        _wrapt,
        {TRACING: "there is nothing to record"},
        never_off="not run: `enabled=False` leaves the function undecorated",
    ),
)

# What the checks say of no decorator at all: they must find nothing.
CONTROL = Peer("undecorated", "", "none", _undecorated, {TRACING: ""})
