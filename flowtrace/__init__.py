"""A flight recorder for plain Python functions.

Decorate with `traced_node`; set ``FLOWTRACE_OUT=trace.json``; when a call fails, the file says where and why.

Names are loaded when they are first asked for, so that importing flowtrace costs a program little more than wrapt.

PYTEST_DONT_REWRITE: else pytest, which rewrites the assertions of plug-ins, would warn that flowtrace is there already.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from flowtrace.host.safe_loading import no_fork, require_support
from flowtrace.host.system import os
from flowtrace.instrument.flow import current_step, flow, propagate
from flowtrace.instrument.traced_node import traced_node

if TYPE_CHECKING:
    from flowtrace.blackbox.recover import recover
    from flowtrace.comparing.diff import diff
    from flowtrace.comparing.result import Cause, Divergence, DivergenceKind, TraceDiff, Verdict
    from flowtrace.errors import (
        CodecError,
        ConfigError,
        FlowtraceError,
        InvocationValidationError,
        NotRecordedError,
        PayloadFileError,
        ProvenanceError,
        RebuildError,
        ReplayError,
        RingFileError,
        TraceFileError,
    )
    from flowtrace.recording.control import configure, dump, get_recorder, override
    from flowtrace.recording.plugin import ExecutionObserver, FanOutObserver, NodeEvent
    from flowtrace.recording.recorder import TraceRecorder
    from flowtrace.recording.step import CurrentStep
    from flowtrace.replaying.replay import replay
    from flowtrace.replaying.report import ReplayOutcome, ReplayReport, StepReplay
    from flowtrace.settings.config import TraceConfig, TraceContext, TraceMode, ValidationMode
    from flowtrace.trace.findings import Finding, Severity
    from flowtrace.trace.model import Trace, ValidationIssue
    from flowtrace.trace.provenance import Provenance, ProvenanceLink, Relation
    from flowtrace.trace.reading import load_trace
    from flowtrace.trace.schema import json_schema
    from flowtrace.trace.validate import validate
    from flowtrace.values.codecs import register_codec
    from flowtrace.values.encode import canonical_bytes, hash_value
    from flowtrace.values.encoded import Digest

    __version__: str

__all__ = [
    "Cause",
    "CodecError",
    "ConfigError",
    "CurrentStep",
    "Digest",
    "Divergence",
    "DivergenceKind",
    "ExecutionObserver",
    "FanOutObserver",
    "Finding",
    "FlowtraceError",
    "InvocationValidationError",
    "NodeEvent",
    "NotRecordedError",
    "PayloadFileError",
    "Provenance",
    "ProvenanceError",
    "ProvenanceLink",
    "RebuildError",
    "Relation",
    "ReplayError",
    "ReplayOutcome",
    "ReplayReport",
    "RingFileError",
    "Severity",
    "StepReplay",
    "Trace",
    "TraceConfig",
    "TraceContext",
    "TraceDiff",
    "TraceFileError",
    "TraceMode",
    "TraceRecorder",
    "ValidationIssue",
    "ValidationMode",
    "Verdict",
    "__version__",
    "canonical_bytes",
    "configure",
    "current_step",
    "diff",
    "dump",
    "flow",
    "get_recorder",
    "hash_value",
    "json_schema",
    "load_trace",
    "override",
    "propagate",
    "recover",
    "register_codec",
    "replay",
    "traced_node",
    "validate",
]

_HOMES = {
    "recording.to_records": ("own_version",),
    "values.encode": ("canonical_bytes", "hash_value"),
    "values.codecs": ("register_codec",),
    "comparing.diff": ("diff",),
    "settings.config": ("TraceConfig", "TraceContext", "TraceMode", "ValidationMode"),
    "trace.findings": ("Finding", "Severity"),
    "recording.control": ("configure", "dump", "get_recorder", "override"),
    "values.encoded": ("Digest",),
    "comparing.result": ("Cause", "Divergence", "DivergenceKind", "TraceDiff", "Verdict"),
    "errors": (
        "CodecError",
        "ConfigError",
        "FlowtraceError",
        "InvocationValidationError",
        "NotRecordedError",
        "PayloadFileError",
        "ProvenanceError",
        "RebuildError",
        "ReplayError",
        "RingFileError",
        "TraceFileError",
    ),
    "trace.model": ("Trace", "ValidationIssue"),
    "trace.provenance": ("Provenance", "ProvenanceLink", "Relation"),
    "trace.reading": ("load_trace",),
    "trace.schema": ("json_schema",),
    "recording.plugin": ("ExecutionObserver", "FanOutObserver", "NodeEvent"),
    "recording.recorder": ("TraceRecorder",),
    "replaying.report": ("ReplayOutcome", "ReplayReport", "StepReplay"),
    "replaying.replay": ("replay",),
    "blackbox.recover": ("recover",),
    "recording.step": ("CurrentStep",),
    "trace.validate": ("validate",),
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load a public name from the module that holds it."""
        if name == "__version__":
            return __getattr__("own_version")()
        for module, names in _HOMES.items():
            if name in names:
                if module != "errors":
                    require_support()
                with no_fork():
                    home = import_module(f"flowtrace.{module}")
                return globals().setdefault(name, getattr(home, name))
        raise AttributeError(f"module 'flowtrace' has no attribute {name!r}")

    def __dir__() -> list[str]:
        """List the public names, loaded or not, and nothing of the inside."""
        return sorted({*(name for name in globals() if name.startswith("__")), *__all__})


if os.environ.get("FLOWTRACE_AUTO"):
    from flowtrace.instrument.autotrace import install

    install()
    del install
