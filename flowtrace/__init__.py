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
    from flowtrace.config import TraceConfig, TraceContext, TraceMode, ValidationMode
    from flowtrace.control import configure, dump, get_recorder, override
    from flowtrace.digest import Digest
    from flowtrace.errors import CodecError, ConfigError, FlowtraceError, RingFileError, TraceFileError
    from flowtrace.model import Trace, ValidationIssue, json_schema, load_trace
    from flowtrace.observer import ExecutionObserver, FanOutObserver, NodeEvent
    from flowtrace.recorder import TraceRecorder
    from flowtrace.salvage import recover
    from flowtrace.step import CurrentStep

    __version__: str

__all__ = [
    "CodecError",
    "ConfigError",
    "CurrentStep",
    "Digest",
    "ExecutionObserver",
    "FanOutObserver",
    "FlowtraceError",
    "NodeEvent",
    "RingFileError",
    "Trace",
    "TraceConfig",
    "TraceContext",
    "TraceFileError",
    "TraceMode",
    "TraceRecorder",
    "ValidationIssue",
    "ValidationMode",
    "__version__",
    "canonical_bytes",
    "configure",
    "current_step",
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
    "traced_node",
]

_HOMES = {
    "assemble": ("own_version",),
    "canonical": ("canonical_bytes", "hash_value"),
    "codecs": ("register_codec",),
    "config": ("TraceConfig", "TraceContext", "TraceMode", "ValidationMode"),
    "control": ("configure", "dump", "get_recorder", "override"),
    "digest": ("Digest",),
    "errors": ("CodecError", "ConfigError", "FlowtraceError", "RingFileError", "TraceFileError"),
    "model": ("Trace", "ValidationIssue", "json_schema", "load_trace"),
    "observer": ("ExecutionObserver", "FanOutObserver", "NodeEvent"),
    "recorder": ("TraceRecorder",),
    "salvage": ("recover",),
    "step": ("CurrentStep",),
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load a public name from the module that holds it."""
        if name == "__version__":
            return __getattr__("own_version")()
        from importlib import import_module

        for module, names in _HOMES.items():
            if name in names:
                found = getattr(import_module(f"flowtrace.{module}"), name)
                return globals().setdefault(name, found)
        raise AttributeError(f"module 'flowtrace' has no attribute {name!r}")

    def __dir__() -> list[str]:
        """List the public names, loaded or not."""
        return sorted({*globals(), *__all__})


if os.environ.get("FLOWTRACE_AUTO"):
    from flowtrace.autotrace import install

    install()
    del install
