"""The rules that the captured values of a step must keep, and the findings where one is broken."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final, NamedTuple

from flowtrace.errors import PayloadFileError, pointer_token
from flowtrace.trace.findings import Finding, Findings, error, warning
from flowtrace.trace.model import INPUT, OUTPUT, STATE_DELTA, UNSET, Hash, Step, is_within
from flowtrace.trace.payload_files import holds_what_its_name_says, read_payload
from flowtrace.values.encoded import ALGORITHM, CUT_REASONS, TAG, hash_bytes, hex_digits
from flowtrace.values.json import bytes_of_tree, loads
from flowtrace.values.redaction import MARKER

_HEX_64: Final = re.compile("[0-9a-f]{64}", re.ASCII).fullmatch


class _Captured(NamedTuple):
    """The input or the output of a step, as far as the trace has it; ``field`` is ``invocation`` or ``output``."""

    part: str
    field: str
    hash_field: str
    value: Any
    is_inline: bool
    path: str | None
    hash: Hash | None


def of_values(pointer: str, step: Step, files: PayloadFiles) -> Findings:
    """Yield what is wrong with the captured values of a step.

    Args:
        pointer: JSON Pointer of the step.
        step: the step.
        files: the payload files of its trace.
    """
    invocation, output = step.invocation_json, step.output_json
    if invocation is not UNSET:
        yield from _invocation(pointer, step)
    payload = invocation.get("payload", UNSET) if isinstance(invocation, dict) else UNSET
    if step.redacted or step.output_hash is None or step.invocation_path is not None or step.output_path is not None:
        yield from _captures(pointer, step, payload, files)
    else:
        yield from _compare(pointer, "input_hash", step.input_hash, payload)
        yield from _compare(pointer, "output_hash", step.output_hash, output)
    for digest, relative in step.arrays.items():
        yield from files.look(f"{pointer}/arrays/{pointer_token(digest)}", relative)[0]
    if step.opaque or step.redacted:
        yield from _pointers(pointer, step, {INPUT: payload, OUTPUT: output})
    if step.cut:
        yield from _cut(pointer, step)


def _captures(pointer: str, step: Step, payload: Any, files: PayloadFiles) -> Findings:
    output = step.output_json
    has_input, has_output = step.invocation_json is not UNSET, output is not UNSET
    for captured in (
        _Captured(INPUT, "invocation", "input_hash", payload, has_input, step.invocation_path, step.input_hash),
        _Captured(OUTPUT, "output", "output_hash", output, has_output, step.output_path, step.output_hash),
    ):
        if captured.is_inline or captured.path is not None:
            is_redacted = any(is_within(hidden, captured.part) for hidden in step.redacted)
            yield from _captured(pointer, captured, is_redacted, files)


def _captured(pointer: str, captured: _Captured, is_redacted: bool, files: PayloadFiles) -> Findings:
    hashes: set[str] | None = None
    if captured.path is not None:
        path_pointer = f"{pointer}/{captured.field}_path"
        if captured.is_inline:
            yield warning("captured-twice", path_pointer, f"there is an {captured.field}_json too")
        findings, hashes = files.look(path_pointer, captured.path)
        yield from findings
    if captured.hash is None:
        for kind, is_there in (("json", captured.is_inline), ("path", captured.path is not None)):
            if is_there:
                at = f"{pointer}/{captured.field}_{kind}"
                yield error("output-without-hash", at, "is captured, but there is no output_hash")
    elif not is_redacted:
        if hashes is not None:
            yield from _compare_file(f"{pointer}/{captured.hash_field}", captured.hash, hashes)
        yield from _compare(pointer, captured.hash_field, captured.hash, captured.value)


def _invocation(pointer: str, step: Step) -> Iterable[Finding]:
    invocation = step.invocation_json
    if not isinstance(invocation, dict) or "payload" not in invocation:
        message = "is not an object of component_id, operation and payload"
        return (error("invocation-form", f"{pointer}/invocation_json", message),)
    return [
        error("invocation-mismatch", f"{pointer}/invocation_json/{name}", "is not that of the step")
        for name, value in (("component_id", step.component_id), ("operation", step.operation))
        if invocation.get(name) != value
    ]


def _compare(pointer: str, field: str, recorded: Hash, value: Any) -> Iterable[Finding]:
    """Hash a captured value again, unless it was cut or hashed with a key."""
    if value is UNSET or recorded.algorithm != ALGORITHM or _is_cut(value):
        return ()
    data = bytes_of_tree(value)
    if data is None:
        message = "the captured value is nested too deeply to be hashed again"
        return (warning("not-checked", f"{pointer}/{field}", message),)
    if hex_digits(data) != recorded.value:
        return (error("hash-mismatch", f"{pointer}/{field}", "is not the hash of the captured value"),)
    return ()


def _compare_file(pointer: str, recorded: Hash, hashes: set[str]) -> Findings:
    if recorded.algorithm == ALGORITHM and recorded.value not in hashes:
        yield error("hash-mismatch", pointer, "is not the hash of the payload file's content")


def _is_cut(value: Any) -> bool:
    return isinstance(value, dict) and value.get(TAG) == "cut"


class PayloadFiles:
    """Reads each payload file once, however many steps name it.

    Args:
        path: the trace file; None where it is not known, so that the files can't be found.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._found: dict[str, tuple[list[Finding], set[str] | None]] = {}

    def look(self, pointer: str, relative: str) -> tuple[list[Finding], set[str] | None]:
        """Return what is wrong with a file, and the hashes that its payload may have.

        Args:
            pointer: JSON Pointer of the file's path in the trace.
            relative: that path.
        """
        if relative not in self._found:
            self._found[relative] = self._read(pointer, relative)
        findings, hashes = self._found[relative]
        return [replace(finding, pointer=pointer) for finding in findings], hashes

    def _read(self, pointer: str, relative: str) -> tuple[list[Finding], set[str] | None]:
        if self._path is None:
            message = "payload files are not checked: the folder of the trace is not known"
            return [warning("not-checked", pointer, message)], None
        try:
            data = read_payload(self._path, relative, pointer=pointer)
        except PayloadFileError as refusal:
            return [error("payload-file", pointer, refusal.reason)], None
        if holds_what_its_name_says(relative, data) is False:
            message = "the file's content does not have the hash that its name says"
            return [error("payload-mismatch", pointer, message)], _possible_hashes(data)
        return [], _possible_hashes(data)


def _possible_hashes(data: bytes) -> set[str]:
    """Return the hashes of a payload file's content as it is, and of the value and the payload in it."""
    found = {hash_bytes(data).value}
    try:
        content = loads(data)
    except ValueError:
        return found
    values = [content, content["payload"]] if isinstance(content, dict) and "payload" in content else [content]
    return found | {hash_bytes(text).value for text in map(bytes_of_tree, values) if text is not None}


def _pointers(pointer: str, step: Step, values: dict[str, Any]) -> Findings:
    for name, pointers in (("opaque", step.opaque), ("redacted", step.redacted)):
        for at, target in enumerate(pointers):
            if is_within(target, STATE_DELTA):
                continue  # a trace has only its hash
            part = next((part for part in values if is_within(target, part)), None)
            if part is None:
                message = f"leads neither into {INPUT} nor into {OUTPUT}"
                yield warning("pointer-form", f"{pointer}/{name}/{at}", message)
            elif name == "redacted" and _is_shown(values[part], target.removeprefix(part)):
                yield warning("not-hidden", f"{pointer}/{name}/{at}", f"leads to a value that is not {MARKER}")


def _cut(pointer: str, step: Step) -> Findings:
    for at, cut in enumerate(step.cut):
        if cut.reason not in CUT_REASONS:
            yield warning("unknown-cut-reason", f"{pointer}/cut/{at}/reason", f"is none of {', '.join(CUT_REASONS)}")
        if cut.count < 0:
            yield error("negative", f"{pointer}/cut/{at}/count", "is negative")
        if cut.path not in step.opaque:
            yield error("cut-not-opaque", f"{pointer}/cut/{at}/path", "is not in the step's opaque list as well")


def _is_shown(value: Any, pointer: str) -> bool:
    """Return True if a pointer leads to a text that should have been hidden; in a container only a part is hidden."""
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isascii() and name.isdigit() and int(name[:9]) < len(value):
            value = value[int(name[:9])]
        else:
            return False
    return isinstance(value, str) and MARKER not in value and not _HEX_64(value)  # only a part may look like a secret
