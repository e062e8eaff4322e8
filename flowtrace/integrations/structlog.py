"""The ids of the step on every event of structlog."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

from flowtrace.host import log
from flowtrace.host.objects import inherits
from flowtrace.instrument.flow import ids_here


def add_step(logger: Any, method_name: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor: add ``run_id``, ``step_id``, ``component``, ``operation`` and ``flow_id`` of the step that runs.

    Put it last before the one that renders. Outside any step it adds nothing, in a flow outside any step the run id and
    the flow id. It never raises, and leaves a field alone that the event has already. Where ``FLOWTRACE_LOGS`` is on,
    it also keeps the event in the step, unless the event goes on to `logging`, which keeps it then.

    Args:
        logger: the logger that structlog has wrapped.
        method_name: the level, such as ``"info"``.
        event_dict: the event.
    """
    try:
        ids = ids_here()
        if type(event_dict) is dict and ids["step_id"] is not None and not inherits(type(logger), logging.Logger):
            logs = sys.modules.get("flowtrace.recording.logs")
            if logs is not None and logs.keeps_logs():
                logs.keep_event(method_name, event_dict, tuple(ids))
        for name, value in ids.items():
            if value is not None:
                event_dict.setdefault(name, value)
    except Exception as error:
        log.internal_fault("put ids on an event", error)
    return event_dict
