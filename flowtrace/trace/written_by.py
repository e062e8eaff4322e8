"""Which program and which run wrote a trace file, read without its steps."""

from __future__ import annotations

from typing import Final, Literal

from flowtrace.host.signals import let_through
from flowtrace.trace.model import Struct, decoder_of


class _PackOrigin(Struct):
    pack_ref: str


class _FlowOrigin(Struct):
    id: str


class _RunOrigin(Struct):
    id: str
    started_at: str
    pid: int


class Origin(Struct):
    """The fields that say which program and which run wrote a trace; the other fields are skipped, so this is fast."""

    trace_version: Literal[1]
    runner_version: str
    pack: _PackOrigin
    flow: _FlowOrigin
    run: _RunOrigin


_decode_origin: Final = decoder_of(Origin).decode  # made here: to read the annotations, it evaluates them


def origin_of(data: bytes) -> Origin | None:
    """Return where the content of a file comes from; None where it is not a trace that flowtrace wrote."""
    try:
        return _decode_origin(data)
    except (ValueError, RecursionError) as error:
        let_through(error)
        return None
