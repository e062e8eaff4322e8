"""The decorators that flowtrace is compared with: how each is written, what it runs in, what it is not meant for."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import peer_setups
from peer_setups import BATCHED, OFF, TRACING, Running

if TYPE_CHECKING:
    from conformance.bindings import Binding
    from conformance.shapes import Shape

__all__ = [
    "BATCHED",
    "CHECKED",
    "CONTROL",
    "OFF",
    "PEERS",
    "PURE",
    "TRACING",
    "VIZTRACER",
    "Peer",
    "Running",
    "uses_of",
]

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
        environ: environment variables of its process.
        batched: what it runs in where its speed is measured, if that is something else than while tracing.
    """

    name: str
    distribution: str
    applied: str
    start: Callable[[str], Running]
    modes: dict[str, str]
    not_meant: dict[str, str] = field(default_factory=dict)
    never_off: str = "it has no such switch"
    environ: dict[str, str] = field(default_factory=dict)
    batched: str = ""

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


_FUNCTIONS = "its documentation speaks of functions and methods only"

PEERS = (
    Peer(
        "flowtrace",
        "flowtrace",
        "`@traced_node`",
        peer_setups.flowtrace,
        {TRACING: "mode `always`", OFF: "mode `off`"},
        environ={"FLOWTRACE_PURE": ""},
    ),
    Peer(
        "OpenTelemetry",
        "opentelemetry-sdk",
        '`@tracer.start_as_current_span("step")`',
        peer_setups.opentelemetry,
        {TRACING: "SDK, a simple processor, an exporter that drops", OFF: "API without an SDK"},
        _only_functions(_FUNCTIONS),
        batched="SDK, a batch processor, an exporter that drops",
    ),
    Peer(
        "Logfire",
        "logfire",
        "`@logfire.instrument`",
        peer_setups.logfire,
        {TRACING: "`send_to_logfire=False`, `console=False`"},
        _only_functions(_FUNCTIONS)
        | {
            CONTEXT_MANAGER: "it warns that it should be underneath",
            GENERATOR: "its documentation advises against it",
        },
        batched="`send_to_logfire=False`, `console=False`, a batch processor, an exporter that drops",
    ),
    Peer(
        "Langfuse",
        "langfuse",
        "`@observe`",
        peer_setups.langfuse,
        {TRACING: "an exporter that drops", OFF: "`tracing_enabled=False`"},
        _only_functions(_FUNCTIONS),
    ),
    Peer(
        "LangSmith",
        "langsmith",
        "`@traceable`",
        peer_setups.langsmith,
        {TRACING: "`LANGSMITH_TRACING=true`, an HTTP session that drops", OFF: "`LANGSMITH_TRACING=false`"},
        _only_functions(_FUNCTIONS),
    ),
    Peer(
        "MLflow",
        "mlflow-tracing",
        "`@mlflow.trace`",
        peer_setups.mlflow,
        {TRACING: "spans are made, the requests to the server are left out", OFF: "`mlflow.tracing.disable()`"},
        dict.fromkeys((CLASS, PARTIAL, BOUND, CALLABLE), _FUNCTIONS),
        batched="spans are made and go to its queue, the requests to the server are left out",
    ),
    Peer(
        "ddtrace",
        "ddtrace",
        "`@tracer.wrap()`",
        peer_setups.ddtrace,
        {TRACING: "a trace processor that drops", OFF: "`DD_TRACE_ENABLED=false`"},
        _only_functions(_FUNCTIONS),
    ),
    Peer(
        "Sentry",
        "sentry-sdk",
        "`@sentry_sdk.trace`",
        peer_setups.sentry,
        {TRACING: "inside a transaction, a transport that drops", OFF: "no `sentry_sdk.init`"},
        _only_functions(_FUNCTIONS)
        | dict.fromkeys((CLASS_METHOD, STATIC_METHOD), "its documentation says that this order breaks the function"),
    ),
    Peer(
        "eliot",
        "eliot",
        "`@log_call`",
        peer_setups.eliot,
        {TRACING: "`to_file` on a stream that drops"},
        _only_functions(_FUNCTIONS),
    ),
    Peer(
        "wrapt only",
        "wrapt",
        "`@wrapt.decorator` around `return wrapped(*args, **kwargs)`",
        peer_setups.wrapt,
        {TRACING: "there is nothing to record"},
        never_off="not run: `enabled=False` leaves the function undecorated",
    ),
)

# The same without the native core. Its speed is in rows of their own of the benchmark.
PURE = replace(
    PEERS[0],
    name="flowtrace, pure",
    modes={TRACING: "mode `always`, `FLOWTRACE_PURE=1`", OFF: "mode `off`, `FLOWTRACE_PURE=1`"},
    environ={"FLOWTRACE_PURE": "1"},
)
CHECKED = (PEERS[0], PURE, *PEERS[1:])
"""All that the conformance checks run."""

# What the checks say of no decorator at all: they must find nothing.
CONTROL = Peer("undecorated", "", "none", peer_setups.undecorated, {TRACING: ""})

# Measured in the benchmark only: what it keeps are times, no spans.
VIZTRACER = Peer(
    "VizTracer",
    "viztracer",
    "`@log_sparse`",
    peer_setups.viztracer,
    {TRACING: "`VizTracer(log_sparse=True)`, its ring in memory"},
    dict.fromkeys((*ALL_BUT_FUNCTIONS, GENERATOR), _FUNCTIONS),
)
