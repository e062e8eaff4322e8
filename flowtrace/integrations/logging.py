"""The ids of the step on every record of `logging`."""

from __future__ import annotations

import logging

from flowtrace.host import log
from flowtrace.host.objects import instance_dict
from flowtrace.instrument.flow import ids_here


class StepFilter(logging.Filter):
    """Gives each record ``run_id``, ``step_id``, ``component``, ``operation`` and ``flow_id`` of the step that made it.

    Add it to handlers, since a logger's own filter sees no record of the loggers below it. It lets every record pass,
    never raises, and leaves an attribute alone that the record has already. Outside any step each of them is None, and
    in a flow outside any step there are the run id and the flow id.

    Args:
        prefix: put before each name, where a program has other attributes of these names: ``"flowtrace_"``.
    """

    def __init__(self, prefix: str = "") -> None:
        super().__init__()
        self.prefix = prefix

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the ids to a record; return True."""
        try:
            fields = instance_dict(record)
            for name, value in ids_here().items():
                fields.setdefault(f"{self.prefix}{name}", value)
        except Exception as error:
            log.internal_fault("put ids on a log record", error)
        return True
