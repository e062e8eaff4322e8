"""Calls that go into the black box as they are: one argument, small values, no secret names.

Other calls go through `flowtrace.recording.hot_path` and `flowtrace.blackbox.box`, and look the same in the file. Each
half of a step is one function, and one call writes it: everything here counts in every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flowtrace.blackbox.ring_file import END, PRIME, START, adler, into_end, into_start, make_packer
from flowtrace.host import log
from flowtrace.host.system import CLOCK
from flowtrace.recording import hot_path
from flowtrace.recording.failure import is_a
from flowtrace.recording.process import global_recorder, open_run, report_fault
from flowtrace.recording.state import IN_FLIGHT, STATE, current, make_current, restore_current
from flowtrace.recording.step import THIS_THREAD, Step, new_step
from flowtrace.values.encode import is_left_to_pickler
from flowtrace.values.encoded import hash_raw
from flowtrace.values.json import EXACT_TYPES, SORTED_KEYS, JSONError, dumps
from flowtrace.values.scrub import may_hold_secrets

if TYPE_CHECKING:
    from flowtrace.calls.core import Subject

_SORTED: Final = EXACT_TYPES | SORTED_KEYS


def begin(subject: Subject, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Step | None:
    """Do what `flowtrace.recording.hot_path.begin` does."""
    parent = current()
    above = 0
    node = subject.target
    step = new_step(node, bound)
    try:
        box: Any = (STATE.recorder or global_recorder()).policy.processor  # a cast would be a call
        entry: Any = node.entry
        if (
            box is None
            or entry.owner is not box.nodes
            or node.is_changed()
            or (layout := entry.bound_layout if bound else entry.layout) is None
            or len(args) != 1
            or kwargs
            or is_left_to_pickler(value := args[0])
        ):
            return _begin_otherwise(subject, args, kwargs, bound)
        try:
            data = dumps(value, None, _SORTED)
            if b"null" in data and value is not None:  # it may be NaN, which orjson writes so
                return _begin_otherwise(subject, args, kwargs, bound)
            data = layout.prefix + data + b"}"
            tail = hash_raw(data) if layout.is_hashed else data
        except JSONError:
            return _begin_otherwise(subject, args, kwargs, bound)
        # `dumps` takes only texts as keys: no `__hash__` of the program is run here
        if (
            len(data) > box.limit
            or (type(value) is dict and not entry.not_secret.issuperset(value) and entry.secret.hides(value))
            or (not layout.is_hashed and may_hold_secrets(data, entry.secret))
        ):
            return _begin_otherwise(subject, args, kwargs, bound)
        step.input = data
        if parent is None:
            step.owns_run = True
        else:
            step.owns_run = False
            step.previous = parent
            step.run = parent.run or open_run(parent)
            step.parent = above = parent.number
        step.thread = thread = THIS_THREAD.number
        step.number = number = next(CLOCK.numbers)
        free = box.free
        slot = free.popleft() if len(free) > box.keep else box.other_slot()
        step.started = now = CLOCK.now()
        if slot is None:
            IN_FLIGHT[number] = step
        else:
            step.slot = slot
            size = len(tail)
            slot.end = slot.body + size
            packed = layout.packed + size
            check = adler(tail, (number + above + packed + thread + now) % PRIME)
            pack = into_start[size] or make_packer(size, START, into_start)
            pack(box.map, slot.at, check, above, now, thread, packed, number, tail)
            slot.step = step
        step.token = make_current(step)
    except BaseException as error:
        make_current(parent)
        hot_path.forget(step)
        if not is_a(error, Exception):  # Ctrl-C
            raise
        report_fault("write the start of a call into the black box", error)
        # with no room left on the stack, trying again would be one more error, and that one would be the host's
        return None if is_a(error, RecursionError) else _begin_otherwise(subject, args, kwargs, bound)
    return step


def _begin_otherwise(subject: Subject, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> Step | None:
    subject.begin, subject.end = hot_path.begin, hot_path.end  # which come back here while there is a box
    return hot_path.begin(subject, args, kwargs, bound)


def end(step: Step, output: Any) -> None:
    """Do what `flowtrace.recording.hot_path.end` does."""
    # inlined from `flowtrace.recording.hot_path._leave`, as in `end` there
    token, number = step.token, step.number
    if token is None:
        make_current(step.previous)
    else:
        step.token = None
        try:
            restore_current(token)
        except ValueError:
            make_current(step.previous)
    step.previous = None
    if not number:
        return
    try:
        try:
            step.ended = ended = CLOCK.now()
        finally:
            slot: Any = step.slot
            if slot is not None and slot.step is step:
                slot.step = None
            else:
                IN_FLIGHT.pop(number, None)
        recorder = STATE.recorder or global_recorder()
        box: Any = recorder.policy.processor
        entry: Any = step.node.entry
        if (
            slot is None
            or slot.owner is not box
            or step.rest is not None
            or entry.hides_result
            or is_left_to_pickler(output)
        ):
            hot_path.record_output(step, output, recorder)
            return
        try:
            data = tail = dumps(output, None, _SORTED)
            fits = (
                len(data) <= box.limit
                and (b"null" not in data or output is None)  # it may be NaN, which orjson writes so
                and not (
                    type(output) is dict and not entry.not_secret.issuperset(output) and entry.secret.hides(output)
                )
                and not (box.writes_results and may_hold_secrets(data, entry.secret))
            )
            if fits:
                if not box.writes_results:
                    tail = hash_raw(data)
                size = len(tail)
                packed = box.packed_end + size
                took = ended - step.started
                check = adler(tail, (number + packed + took) % PRIME)
                pack = into_end[size] or make_packer(size, END, into_end)
                pack(box.map, slot.end, check, took, packed, number, tail)
                step.output = data
        except JSONError:
            fits = False
        except Exception as error:
            log.internal_fault("write the end of a step into the black box", error)
            fits = False
        if not fits:
            hot_path.record_output(step, output, recorder)
            return
        step.slot = None
        box.free.append(slot)
        buffer = recorder.buffer
        if type(step.input) is not bytes or buffer.counts_bytes:
            buffer.add(step)
        else:  # inlined from `Buffer.add`
            buffer.steps.append(step)
            next(buffer.ticks)
        if step.run is not None or recorder.is_always:
            hot_path.add_to_run(step)
        elif STATE.throttle.holds:
            STATE.throttle.write_due()
    except Exception as error:
        hot_path.forget(step)
        report_fault("record the end of a call", error)
