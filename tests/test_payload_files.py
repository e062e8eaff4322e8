"""The payload files beside a trace: what is read, and what a trace from anywhere can't make us read."""

from __future__ import annotations

import os
import pickle
import socket
from pathlib import Path

import pytest
from blake3 import blake3

from flowtrace import PayloadFileError, TraceFileError, traced_node
from flowtrace.testing import recording
from flowtrace.trace import payload_files
from flowtrace.trace.payload_files import holds_what_its_name_says, read_payload

NAME = f"{'0' * 64}.json"


@pytest.fixture(params=["walk", "by path"])
def folder(request, tmp_path, monkeypatch):
    """A folder with a payload, a secret beside it, and either way of opening files."""
    if request.param == "by path":
        monkeypatch.setattr(payload_files, "_HOLDS_FOLDERS", False)
    inner = tmp_path / "artifacts" / "t.payloads"
    inner.mkdir(parents=True)
    (inner / NAME).write_bytes(b'{"a":1}')
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path / "artifacts"


def refusal(folder, relative, **options):
    with pytest.raises(PayloadFileError) as caught:
        read_payload(folder / "t.json", relative, pointer="/steps/0/invocation_path", **options)
    error = caught.value
    assert (error.path, error.pointer) == (str(folder / "t.json"), "/steps/0/invocation_path")
    assert isinstance(error, TraceFileError)
    start = f"the payload file {relative[:200]!r} "
    assert error.reason.startswith(start)
    return error.reason.removeprefix(start)


def test_a_payload_that_was_written_is_read_back():
    @traced_node
    def node(text):
        return None

    with recording(capture_inputs=True, max_value_bytes=10) as recorded:
        node("a" * 100)
        (path,) = recorded.folder.glob("*.json")
        (step,) = recorded.traces[0].steps
        data = read_payload(path, step.invocation_path)
    assert data == b'{"text":"%b"}' % (b"a" * 100)
    assert holds_what_its_name_says(step.invocation_path, data) is True
    assert holds_what_its_name_says(step.invocation_path, data + b" ") is False


def test_a_relative_path_of_a_trace_starts_at_the_working_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert read_payload("t.json", f"t.payloads/{NAME}") == b'{"a":1}'
    assert read_payload(Path("t.json"), f"t.payloads/{NAME}") == b'{"a":1}'


def test_a_name_that_is_no_hash_has_nothing_to_compare(folder):
    (folder / "inputs").mkdir()
    (folder / "inputs/step-1.json").write_bytes(b"1")
    assert read_payload(folder / "t.json", "inputs/step-1.json") == b"1"
    assert holds_what_its_name_says("inputs/step-1.json", b"1") is None
    assert holds_what_its_name_says(f"x/{blake3(b'1').hexdigest()}.json", b"1") is True


@pytest.mark.parametrize(
    "relative",
    ["../secret.txt", "t.payloads/../../secret.txt", "/etc/passwd", "", ".", "./a", "a//b", "a/", "t.payloads/.."],
)
def test_a_path_that_may_leave_the_folder_is_refused(folder, relative):
    assert refusal(folder, relative) == "is not a path that stays below the trace's folder"


@pytest.mark.parametrize(
    "relative",
    [
        "C:\\secret.txt",
        "C:/secret.txt",
        "..\\secret.txt",
        "a\0b",
        "a\x1b[2Jb",
        "a\nb",
        "x" * 2000,
        "file:///etc",
        "a|b",
    ],
)
def test_a_path_that_no_recorder_writes_is_refused(folder, relative):
    assert refusal(folder, relative) == "is not the path of a payload file"


def test_no_symbolic_link_is_followed(folder, tmp_path):
    (folder / "t.payloads/link.json").symlink_to(tmp_path / "secret.txt")
    (folder / "up").symlink_to(tmp_path)
    (folder / "inside").symlink_to(folder / "t.payloads")
    for relative in ("t.payloads/link.json", "up/secret.txt", f"inside/{NAME}"):
        assert refusal(folder, relative) == "is reached through a symbolic link, which may lead anywhere"


def test_the_folder_of_the_trace_itself_may_be_reached_through_a_link(folder, tmp_path):
    (tmp_path / "latest").symlink_to(folder)
    assert read_payload(tmp_path / "latest/t.json", f"t.payloads/{NAME}") == b'{"a":1}'


def test_what_is_not_a_regular_file_is_refused_without_waiting_for_it(folder, monkeypatch):
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert refusal(folder, "pipe") == "is not a file"
        assert refusal(folder, "socket").startswith("can't be read: ")
    assert refusal(folder, "folder") in ("is not a file", "can't be read: Is a directory")


def test_a_file_that_is_missing_or_too_large_is_refused(folder):
    assert refusal(folder, "t.payloads/none.json") == "can't be read: No such file or directory"
    assert refusal(folder, f"t.payloads/{NAME}/x") == "can't be read: Not a directory"
    assert refusal(folder, f"t.payloads/{NAME}", limit=6) == "is larger than 6 bytes"
    assert read_payload(folder / "t.json", f"t.payloads/{NAME}", limit=7) == b'{"a":1}'


def test_an_endless_file_is_read_no_further_than_the_limit(folder, monkeypatch):
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert refusal(folder, "sparse", limit=1 << 20) == "is larger than 1048576 bytes"


def test_no_descriptor_stays_open(folder):
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    (folder / "link").symlink_to(folder / "t.payloads")
    before = descriptors()
    for relative in (f"link/{NAME}", "t.payloads/none.json", "t.payloads", f"t.payloads/{NAME}/x"):
        refusal(folder, relative)
    read_payload(folder / "t.json", f"t.payloads/{NAME}")
    assert descriptors() == before


def test_the_error_can_be_pickled():
    error = PayloadFileError("t.json", "/steps/0", "why")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (PayloadFileError, "t.json: at /steps/0: why")
