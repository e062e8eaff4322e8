"""A trace as Perfetto's protobuf, for ui.perfetto.dev and trace_processor.

The messages are those of https://perfetto.dev/docs/reference/trace-packet-proto; how tracks and slices are made of them
is described at https://perfetto.dev/docs/getting-started/converting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flowtrace.errors import MissingExtraError
from flowtrace.exporting.rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowtrace.exporting.timeline import Timeline, Track
    from flowtrace.trace.model import Trace

_SEQUENCE: Final = 1
_PROCESS: Final = 1  # the number of the process's track; those of the steps follow
_REALTIME: Final = 1  # clocks, by their numbers in ClockSnapshot
_BOOTTIME: Final = 6
_LARGEST_PID: Final = 2**31 - 1


def perfetto(trace: Trace, timeline: Timeline, rows: list[Row]) -> Iterator[bytes]:
    """Yield the content of a Perfetto trace, one packet at a time.

    Args:
        trace: the trace.
        timeline: its steps on their tracks.
        rows: the same steps with what is known of them, in the order of the tree.

    Raises:
        MissingExtraError: the package ``perfetto`` is not installed.
    """
    try:
        from perfetto.trace_builder.proto_builder import TraceProtoBuilder  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("Perfetto's format", "export", "perfetto") from error
    builder = TraceProtoBuilder()
    _describe_process(builder, trace, timeline)
    calls = _Calls(timeline, rows)
    for number, track in enumerate(timeline.tracks, _PROCESS + 1):
        descriptor = builder.add_packet().track_descriptor
        descriptor.uuid, descriptor.parent_uuid, descriptor.name = number, _PROCESS, track.name
        descriptor.sibling_merge_behavior = descriptor.SIBLING_MERGE_BEHAVIOR_NONE
        descriptor.sibling_order_rank = number
        calls.add(builder, track, number)
    yield builder.serialize()


def _describe_process(builder: Any, trace: Trace, timeline: Timeline) -> None:
    """Add the process, whose name is that of the program, and the time of day at which the timeline starts."""
    snapshot = builder.add_packet().clock_snapshot
    for clock, time in ((_BOOTTIME, 0), (_REALTIME, timeline.origin)):
        snapshot.clocks.add(clock_id=clock, timestamp=time)
    packet = builder.add_packet()
    packet.trusted_packet_sequence_id, packet.sequence_flags = _SEQUENCE, packet.SEQ_INCREMENTAL_STATE_CLEARED
    descriptor = packet.track_descriptor
    descriptor.uuid = _PROCESS
    pid = 0 if trace.run is None else trace.run.pid
    descriptor.process.pid = pid if 0 < pid <= _LARGEST_PID else 1
    descriptor.process.process_name = trace.pack.pack_ref
    descriptor.child_ordering = descriptor.EXPLICIT


class _Calls:
    """Adds the steps as slices, and an arrow from a step to each that it called which is not inside it."""

    def __init__(self, timeline: Timeline, rows: list[Row]) -> None:
        self._rows = rows
        by_pointer = {row["pointer"]: at for at, row in enumerate(rows)}
        self._arrows_from: dict[int, list[int]] = {}
        self._arrows_to = timeline.elsewhere
        for row in timeline.elsewhere:
            self._arrows_from.setdefault(by_pointer[rows[row]["parent"]], []).append(row)

    def add(self, builder: Any, track: Track, number: int) -> None:
        """Add the slices of a track."""
        for event in track.events:
            packet = builder.add_packet()
            packet.timestamp, packet.trusted_packet_sequence_id = event.at, _SEQUENCE
            slice_event = packet.track_event
            slice_event.track_uuid = number
            if event.begins:
                slice_event.type = slice_event.TYPE_SLICE_BEGIN
                self._describe(slice_event, event.row)
            else:
                slice_event.type = slice_event.TYPE_SLICE_END

    def _describe(self, slice_event: Any, at: int) -> None:
        row = self._rows[at]
        slice_event.name = row["node_id"]
        slice_event.categories.append(row["state"])
        slice_event.flow_ids.extend(to + 1 for to in self._arrows_from.get(at, ()))
        if at in self._arrows_to:
            slice_event.terminating_flow_ids.append(at + 1)
        for name, value in row.items():
            if isinstance(value, str):
                slice_event.debug_annotations.add(name=name, string_value=value)
            elif isinstance(value, int):
                slice_event.debug_annotations.add(name=name, int_value=value)
            elif value:
                slice_event.debug_annotations.add(name=name, string_value=", ".join(value))
