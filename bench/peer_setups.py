"""How each decorator is set up: as its documentation says, with nothing leaving the process.

Every peer is imported inside its own function: one process holds one peer.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.subject import Subject

# What a decorator runs in. The benchmark has a tracing mode of its own: traces leave in batches, as in production,
# while the conformance checks want each at once.
TRACING, BATCHED, OFF = "tracing", "batched", "off"
NOWHERE = "http://127.0.0.1:9"


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


class Sink:
    """Where traces end."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *items: Any, **options: Any) -> None:
        """Take something, and drop it."""
        self.count += 1

    def after(self, flush: Callable[[], Any]) -> Callable[[], int]:
        """Return a function that lets what waits arrive, and tells how much came."""

        def recorded() -> int:
            flush()
            return self.count

        return recorded


def _span_exporter(sink: Sink) -> Any:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Dropping(SpanExporter):
        def export(self, spans):
            sink()
            return SpanExportResult.SUCCESS

    return Dropping()


def _span_processor(mode: str, sink: Sink) -> Any:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

    processor = BatchSpanProcessor if mode == BATCHED else SimpleSpanProcessor
    return processor(_span_exporter(sink))


def undecorated(_: str) -> Running:
    return Running(Subject("undecorated", lambda target: target), recorded=lambda: 0)


def flowtrace(_: str) -> Running:
    from conformance.flowtrace_subject import FLOWTRACE

    return Running(FLOWTRACE, recorded=lambda: len(list(Path.cwd().glob("*.json"))))


def opentelemetry(mode: str) -> Running:
    from opentelemetry import trace

    sink = Sink()
    flush: Callable[[], Any] = bool
    if mode != OFF:
        from opentelemetry.sdk.trace import TracerProvider

        provider = TracerProvider()
        provider.add_span_processor(_span_processor(mode, sink))
        trace.set_tracer_provider(provider)
        flush = provider.force_flush
    tracer = trace.get_tracer("conformance")
    subject = Subject("OpenTelemetry", lambda target: tracer.start_as_current_span("step")(target))
    return Running(subject, sink.after(flush))


def logfire(mode: str) -> Running:
    import logfire

    sink = Sink()
    processors = [_span_processor(mode, sink)]
    logfire.configure(send_to_logfire=False, console=False, additional_span_processors=processors)
    return Running(Subject("Logfire", logfire.instrument), sink.after(logfire.force_flush))


def langfuse(mode: str) -> Running:
    from langfuse import Langfuse, observe

    sink = Sink()
    client = Langfuse(
        public_key="pk-lf-none",
        secret_key="sk-lf-none",
        base_url=NOWHERE,
        tracing_enabled=mode != OFF,
        span_exporter=_span_exporter(sink),
    )
    return Running(Subject("Langfuse", observe), sink.after(client.flush))


def langsmith(mode: str) -> Running:
    os.environ["LANGSMITH_TRACING"] = str(mode != OFF).lower()
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
    return Running(Subject("LangSmith", langsmith.traceable), sink.after(client.flush))


def mlflow(mode: str) -> Running:
    os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = str(mode == BATCHED).lower()
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
    flush = mlflow.flush_trace_async_logging if mode == BATCHED else bool
    return Running(Subject("MLflow", mlflow.trace), sink.after(flush))


def ddtrace(mode: str) -> Running:
    os.environ["DD_TRACE_ENABLED"] = str(mode != OFF).lower()
    os.environ["DD_TRACE_AGENT_URL"] = NOWHERE
    for name in ("INSTRUMENTATION_TELEMETRY", "REMOTE_CONFIGURATION", "CRASHTRACKING"):
        os.environ[f"DD_{name}_ENABLED"] = "false"
    from ddtrace.trace import TraceFilter, tracer

    sink = Sink()

    class Drop(TraceFilter):
        def process_trace(self, trace):
            sink()

    if mode != OFF:  # for `configure` switches it on, whatever the variable says
        tracer.configure(trace_processors=[Drop()])
    return Running(Subject("ddtrace", lambda target: tracer.wrap()(target)), recorded=lambda: sink.count)


def sentry(mode: str) -> Running:
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


def eliot(_: str) -> Running:
    import eliot

    sink = Sink()

    class Dropping(io.BytesIO):
        def write(self, line):
            sink()

    # Its messages become JSON first, as they do on the way to a real file.
    eliot.to_file(Dropping())
    return Running(Subject("eliot", eliot.log_call), recorded=lambda: sink.count)


def wrapt(_: str) -> Running:
    import wrapt

    sink = Sink()

    @wrapt.decorator
    def passing(wrapped, instance, args, kwargs):
        sink()
        return wrapped(*args, **kwargs)

    return Running(Subject("wrapt", passing), recorded=lambda: sink.count)


def viztracer(_: str) -> Running:
    from viztracer import VizTracer, log_sparse

    # It is not started: in this mode nothing but the decorated functions is looked at.
    tracer = VizTracer(log_sparse=True, verbose=0)
    return Running(Subject("VizTracer", log_sparse), recorded=lambda: len(tracer.load()))
