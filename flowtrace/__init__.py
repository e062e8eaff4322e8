"""A flight recorder for plain Python functions.

Decorate with `traced_node`; set ``FLOWTRACE_OUT=trace.json``; when a call fails, the file tells where and why.

Names are loaded when they are first asked for, so that importing flowtrace costs a program little more than wrapt.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flowtrace.flows import current_step, flow, propagate
from flowtrace.instrument import traced_node

if TYPE_CHECKING:
    from flowtrace.canonical import canonical_bytes, hash_value
    from flowtrace.codecs import register_codec
    from flowtrace.comparing import diff
    from flowtrace.config import TraceConfig, TraceContext, TraceMode, ValidationMode
    from flowtrace.consistency import Finding, Severity
    from flowtrace.control import configure, dump, get_recorder, override
    from flowtrace.digest import Digest
    from flowtrace.divergence import Cause, Divergence, DivergenceKind, TraceDiff, Verdict
    from flowtrace.errors import (
        CodecError,
        ConfigError,
        FlowtraceError,
        PayloadFileError,
        RebuildError,
        ReplayError,
        RingFileError,
        TraceFileError,
    )
    from flowtrace.model import Trace, ValidationIssue, json_schema, load_trace
    from flowtrace.observer import ExecutionObserver, FanOutObserver, NodeEvent
    from flowtrace.recorder import TraceRecorder
    from flowtrace.replay_report import ReplayOutcome, ReplayReport, StepReplay
    from flowtrace.replaying import replay
    from flowtrace.salvage import recover
    from flowtrace.step import CurrentStep
    from flowtrace.validating import validate

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
    "NodeEvent",
    "PayloadFileError",
    "RebuildError",
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
    "assemble": ("own_version",),
    "canonical": ("canonical_bytes", "hash_value"),
    "codecs": ("register_codec",),
    "comparing": ("diff",),
    "config": ("TraceConfig", "TraceContext", "TraceMode", "ValidationMode"),
    "consistency": ("Finding", "Severity"),
    "control": ("configure", "dump", "get_recorder", "override"),
    "digest": ("Digest",),
    "divergence": ("Cause", "Divergence", "DivergenceKind", "TraceDiff", "Verdict"),
    "errors": (
        "CodecError",
        "ConfigError",
        "FlowtraceError",
        "PayloadFileError",
        "RebuildError",
        "ReplayError",
        "RingFileError",
        "TraceFileError",
    ),
    "model": ("Trace", "ValidationIssue", "json_schema", "load_trace"),
    "observer": ("ExecutionObserver", "FanOutObserver", "NodeEvent"),
    "recorder": ("TraceRecorder",),
    "replay_report": ("ReplayOutcome", "ReplayReport", "StepReplay"),
    "replaying": ("replay",),
    "salvage": ("recover",),
    "step": ("CurrentStep",),
    "validating": ("validate",),
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load a public name from the module that holds it."""
        if name == "__version__":
            return __getattr__("own_version")()
        from importlib import import_module

        from flowtrace.forks import no_fork
        from flowtrace.interpreter import require_main

        for module, names in _HOMES.items():
            if name in names:
                if module != "errors":
                    require_main()
                with no_fork():
                    home = import_module(f"flowtrace.{module}")
                return globals().setdefault(name, getattr(home, name))
        raise AttributeError(f"module 'flowtrace' has no attribute {name!r}")

    def __dir__() -> list[str]:
        """List the public names, loaded or not."""
        return sorted({*globals(), *__all__})


if os.environ.get("FLOWTRACE_AUTO"):
    from flowtrace.autotrace import install

    install()
    del install
