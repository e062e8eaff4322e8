"""Trace files of a template: only the newest are kept, and files that flowtrace did not write are never removed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Thread

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flowtrace
from flowtrace import flow, load_trace, traced_node, validate
from flowtrace.host import system
from flowtrace.trace import payload_files, retention
from flowtrace.trace.files import rendered_paths
from flowtrace.trace.payload_files import Folder
from flowtrace.trace.retention import Retention, TemplatePaths
from tests.faults.scenario import ROOT
from tests.programs import run_program

ID = "0123456789abcdef" * 2


@traced_node(component="c", operation="fail")
def fail(number, value=None):
    raise ValueError(number)


def fail_often(times, start=0, value=None):
    for number in range(start, start + times):
        with pytest.raises(ValueError, match=str(number)):
            fail(number, value)


def numbers(folder, pattern="*.json"):
    """Return the messages of the failures in a folder's traces, in the order of their numbers."""
    return sorted(int(load_trace(path).steps[-1].error.message) for path in folder.glob(pattern))


def contents(folder):
    """Return everything below a folder: what it is, and what is in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = path.readlink()
        else:
            found[name] = path.read_bytes() if path.is_file() else stat.S_IFMT(path.lstat().st_mode)
    return found


@pytest.fixture(params=[True, False], ids=["held", "by path"])
def holds_folders(request, monkeypatch):
    """Both ways to reach files: from a folder that is held open, and by their paths."""
    monkeypatch.setattr(payload_files, "_HOLDS_FOLDERS", request.param)


@pytest.mark.usefixtures("holds_folders")
@pytest.mark.parametrize(
    "template",
    [
        "{run_id}.json",
        "trace-{timestamp}-{run_id}.json",
        "{pid}.{run_id}",
        "{flow_id}-{run_id}.trace.json",
        "runs/{run_id}/trace.json",
        "{flow_id}/{timestamp}/deep/{run_id}.json",
        "odd//./{run_id}//t.json",
        "a+b (c)[1]-{run_id}.json",
    ],
)
def test_the_oldest_go_first(tmp_path, template):
    with flowtrace.override(mode="on", out_path=tmp_path / template, max_files=5):
        fail_often(12)
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(int(load_trace(path).steps[-1].error.message) for path in found) == [7, 8, 9, 10, 11]
    empty = [path for path in tmp_path.rglob("*") if path.is_dir() and not any(path.iterdir())]
    assert empty == []


def test_one_is_enough(tmp_path):
    with flowtrace.override(mode="on", out_path=tmp_path / "{run_id}.json", max_files=1):
        fail_often(3)
    assert numbers(tmp_path) == [2]


def test_the_default_is_a_hundred(tmp_path):
    with flowtrace.override(mode="on", out_path=tmp_path / "{run_id}.json"):
        fail_often(105)
    assert numbers(tmp_path) == list(range(5, 105))


def test_a_path_without_a_placeholder_stays(tmp_path):
    with flowtrace.override(mode="on", out_path=tmp_path / "trace.json", max_files=1):
        fail_often(3)
        (tmp_path / "trace.7.json").write_bytes((tmp_path / "trace.json").read_bytes())
        fail_often(1, start=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trace.7.json", "trace.json"]


def test_files_that_dump_wrote_do_not_count(tmp_path):
    with flowtrace.override(mode="on", out_path=tmp_path / "{run_id}.json", max_files=2):
        for number in range(4):
            flowtrace.dump(tmp_path / f"dump-{number}.json")
        fail_often(4)
    assert sorted(path.name for path in tmp_path.glob("dump*")) == [f"dump-{number}.json" for number in range(4)]
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.costly
def test_earlier_processes_files_count_too(tmp_path):
    program = """
        import sys
        from flowtrace import traced_node

        @traced_node
        def fail(number):
            raise ValueError(number)

        for number in range(int(sys.argv[1]), int(sys.argv[2])):
            try:
                fail(number)
            except ValueError:
                pass
    """
    out = tmp_path / "out"
    for start in (0, 3, 6):
        environment = {"FLOWTRACE_OUT": f"{out}/{{run_id}}.json", "FLOWTRACE_MAX_FILES": "4"}
        run_program(tmp_path, program, arguments=[str(start), str(start + 3)], **environment)
    assert numbers(out) == [5, 6, 7, 8]


@pytest.mark.costly
def test_a_bad_number_is_reported_and_counts_as_unset(tmp_path):
    program = """
        from flowtrace import traced_node

        @traced_node
        def fail():
            raise ValueError

        for number in range(102):
            try:
                fail()
            except ValueError:
                pass
    """
    environment = {"FLOWTRACE_OUT": "out/{run_id}.json", "FLOWTRACE_MAX_FILES": "0"}
    done = run_program(tmp_path, program, **environment)
    assert len(list((tmp_path / "out").iterdir())) == 100
    assert done.stderr.count("variable=FLOWTRACE_MAX_FILES") == 1
    assert "a whole number from 1 to 2147483647" in done.stderr


# --- what others put there


def hostile(folder, own):
    """Fill a folder with what opened like a trace of ours and is none, and return what is there."""
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "secret.json").write_bytes(own)
    names = iter(f"{number:032x}.json" for number in range(1, 1000))
    document = json.loads(own)

    def put(data):
        path = folder / next(names)
        path.write_bytes(data)
        os.utime(path, ns=(0, 0))
        return path

    put(b"")
    put(b"{}")
    put(b'{"name": "a data file"}')
    put(b"\xff\xfe not JSON")
    put(own)  # a copy under another id
    put(own[: len(own) // 2])
    put(b'{\n  "trace_version": 1,\n' * 1000)
    put(b'{\n  "trace_version": 1,\n  "x": ' + b"[" * 100_000)
    put(own).chmod(0)
    (folder / next(names)).mkdir()
    (folder / next(names)).mkdir()
    (folder / f"{9:032x}.payloads").mkdir()
    (folder / f"{9:032x}.payloads/{'0' * 64}.json").write_bytes(b"not what its name says")
    (folder / next(names)).symlink_to(outside / "secret.json")
    (folder / next(names)).symlink_to(outside)
    (folder / next(names)).symlink_to(folder / "nowhere")
    os.mkfifo(folder / next(names))
    for change in (
        {"trace_version": 2},
        {"runner_version": None},
        {"run": None},
        {"pack": {"pack_ref": "another program"}},
        {"pack": {}},
        {"run": document["run"] | {"id": ID}},  # its name below says another one
        {"run": document["run"] | {"pid": "1"}},
    ):
        put(json.dumps(document | change, indent=2).encode())
    for name, edit in (
        (f"{ID}.json", lambda data: data + b"\n"),
        (f"{ID[::-1]}.json", lambda data: data.replace(b"\n  ", b"\n    ")),
    ):  # their facts are right, but an editor was at them
        facts = document | {"run": document["run"] | {"id": name[:32]}}
        path = folder / name
        path.write_bytes(edit(json.dumps(facts, indent=2).encode()))
        os.utime(path, ns=(0, 0))
    (folder / "notes.txt").write_text("mine")
    (folder / f"{ID.upper()}.json").write_bytes(own)
    (folder / f"{ID}.json.bak").write_bytes(own)
    return contents(folder), contents(outside)


@pytest.fixture
def own(tmp_path):
    """The bytes of a trace as this process writes it."""
    with flowtrace.override(mode="on", out_path=tmp_path / "own.json"):
        fail_often(1)
    data = (tmp_path / "own.json").read_bytes()
    (tmp_path / "own.json").unlink()
    return data


@pytest.mark.usefixtures("holds_folders")
def test_nothing_that_flowtrace_did_not_write_is_removed(tmp_path, own):
    folder = tmp_path / "out"
    folder.mkdir()
    before, outside = hostile(folder, own)
    with flowtrace.override(mode="on", out_path=folder / "{run_id}.json", max_files=3):
        fail_often(20, value="x")
    after = contents(folder)
    assert {name: after.get(name) for name in before} == before
    assert contents(tmp_path / "outside") == outside
    new = sorted(after.keys() - before.keys())
    assert sorted(int(load_trace(folder / name).steps[-1].error.message) for name in new) == [17, 18, 19]


@pytest.mark.usefixtures("holds_folders")
def test_nothing_is_removed_through_a_link_in_the_place_of_a_run_folder(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with flowtrace.override(mode="on", out_path=tmp_path / "runs/{run_id}/trace.json", max_files=2):
        fail_often(2)
        for path in list((tmp_path / "runs").iterdir()):
            path.rename(elsewhere / path.name)
            path.symlink_to(elsewhere / path.name)
        before = contents(elsewhere)
        fail_often(5, start=2)
    assert contents(elsewhere) == before
    real = [path for path in (tmp_path / "runs").iterdir() if not path.is_symlink()]
    assert sorted(int(load_trace(path / "trace.json").steps[-1].error.message) for path in real) == [5, 6]


@pytest.mark.usefixtures("holds_folders")
def test_a_folder_that_holds_something_else_stays(tmp_path):
    with flowtrace.override(mode="on", out_path=tmp_path / "{run_id}/trace.json", max_files=1):
        fail_often(1)
        (first,) = tmp_path.iterdir()
        (first / "notes.txt").write_text("mine")
        fail_often(2, start=1)
    assert contents(first) == {"notes.txt": b"mine"}
    assert len(list(tmp_path.iterdir())) == 2


def test_the_traces_of_another_program_do_not_count(tmp_path):
    for pack in ("a", "b"):
        with flowtrace.override(mode="on", out_path=tmp_path / "{run_id}.json", max_files=3):
            for number in range(5):
                with pytest.raises(ValueError, match=str(number)), flow("f", pack_ref=pack):
                    fail(number)
    packs = [load_trace(path).pack.pack_ref for path in tmp_path.iterdir()]
    assert sorted(packs) == ["a"] * 3 + ["b"] * 3


def test_many_other_files_do_not_push_traces_out(tmp_path):
    for number in range(300):
        (tmp_path / f"data-{number}.json").write_text("{}")
    with flowtrace.override(mode="on", out_path=tmp_path / "{flow_id}.json", max_files=4):
        for number in range(8):
            with pytest.raises(ValueError, match=str(number)), flow(f"flow-{number}"):
                fail(number)
    assert len(list(tmp_path.glob("data-*.json"))) == 300
    assert sorted(path.name for path in tmp_path.glob("flow-*")) == [f"flow-{number}.json" for number in range(4, 8)]


def test_a_huge_folder_is_not_listed_with_every_write(tmp_path, monkeypatch):
    for number in range(2000):
        (tmp_path / f"{number}.txt").touch()
    listings = []
    plainly = TemplatePaths.files
    monkeypatch.setattr(TemplatePaths, "files", lambda self: listings.append(1) or plainly(self))
    with flowtrace.override(mode="on", out_path=tmp_path / "{run_id}.json", max_files=10):
        fail_often(100)
    assert numbers(tmp_path) == list(range(90, 100))
    assert len(listings) <= 1 + 100 // (2000 // retention.NAMES_A_WRITE)


def test_files_are_opened_only_where_there_may_be_too_many(tmp_path, monkeypatch):
    opened = []
    plainly = Folder.read
    monkeypatch.setattr(Folder, "read", lambda self, name, limit: opened.append(name) or plainly(self, name, limit))
    with flowtrace.override(mode="on", out_path=tmp_path / "{run_id}.json", max_files=10):
        fail_often(10)
        assert opened == []
        fail_often(1)
    assert len(opened) == 1


# --- payload files


@pytest.fixture
def capturing(tmp_path):
    """A folder for runs with captured inputs, of which those over 100 bytes go beside their trace."""
    folder = tmp_path / "out"
    with flowtrace.override(
        mode="on", out_path=folder / "{run_id}.json", max_files=3, capture_inputs=True, max_value_bytes=100
    ):
        yield folder


@pytest.mark.usefixtures("holds_folders")
def test_payload_files_go_with_their_trace(capturing):
    fail_often(10, value="x" * 200)
    traces = list(capturing.glob("*.json"))
    assert numbers(capturing) == [7, 8, 9]
    assert sorted(path.name for path in capturing.iterdir()) == sorted(
        name for path in traces for name in (path.name, f"{path.stem}.payloads")
    )
    assert [validate(path) for path in traces] == [[]] * 3


def test_a_payload_that_a_kept_file_names_stays(capturing):
    fail_often(1, value="x" * 200)
    (trace,) = capturing.glob("*.json")
    shutil.copy(trace, capturing / "important.json")
    relative = load_trace(trace).steps[0].invocation_path
    before = (capturing / relative).read_bytes()
    fail_often(5, start=1, value="y" * 200)
    assert not trace.exists()
    assert (capturing / relative).read_bytes() == before
    assert validate(capturing / "important.json") == []


def test_a_payload_folder_loses_only_what_is_named_after_its_content(capturing, tmp_path):
    fail_often(1, value="x" * 200)
    (trace,) = capturing.glob("*.json")
    folder = capturing / f"{trace.stem}.payloads"
    target = tmp_path / "elsewhere.json"
    target.write_bytes(b"1")
    (folder / f"{blake3(b'1').hexdigest()}.json").symlink_to(target)
    (folder / f"{'0' * 64}.json").write_bytes(b"1")
    (folder / "notes.txt").write_text("mine")
    (folder / f"{blake3(b'2').hexdigest()}.txt").write_bytes(b"2")
    (own,) = (path for path in folder.iterdir() if path.name == Path(load_trace(trace).steps[0].invocation_path).name)
    before = contents(folder)
    del before[own.name]
    fail_often(5, start=1)
    assert not trace.exists()
    assert contents(folder) == before
    assert target.read_bytes() == b"1"


@pytest.mark.usefixtures("holds_folders")
def test_a_link_in_the_place_of_a_payload_folder_is_not_followed(capturing, tmp_path):
    fail_often(1, value="x" * 200)
    (trace,) = capturing.glob("*.json")
    folder = capturing / f"{trace.stem}.payloads"
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    before = contents(tmp_path / "moved")
    fail_often(5, start=1)
    assert not trace.exists()
    assert folder.is_symlink()
    assert contents(tmp_path / "moved") == before


def test_payloads_of_one_path_do_not_grow_without_end(tmp_path):
    with flowtrace.override(
        mode="on",
        out_path=tmp_path / "trace.json",
        max_files=3,
        capture_inputs=True,
        max_value_bytes=100,
        buffer_size=1,  # of the last steps of the process, too
    ):
        fail_often(1, value="kept" * 100)
        shutil.copy(tmp_path / "trace.json", tmp_path / "important.json")
        for number in range(20):
            fail_often(1, start=number, value=str(number) * 200)
            assert validate(tmp_path / "trace.json") == []
    assert validate(tmp_path / "important.json") == []
    assert len(list((tmp_path / "trace.payloads").iterdir())) == 4  # the copy's has to stay beside these three


def test_payloads_within_the_limit_cost_no_listing_of_the_folder_of_the_trace(tmp_path, monkeypatch):
    listed = []
    plainly = Folder.names
    monkeypatch.setattr(Folder, "names", lambda self: listed.append(self.path) or plainly(self))
    with flowtrace.override(
        mode="on", out_path=tmp_path / "trace.json", max_files=3, capture_inputs=True, max_value_bytes=100
    ):
        fail_often(3, value="x" * 200)
    assert set(listed) == {str(tmp_path / "trace.payloads")}


def test_a_payload_that_another_process_needs_again_is_put_back(tmp_path, monkeypatch):
    keeping = Retention(str(tmp_path / "{flow_id}.json"), 1)
    with flowtrace.override(mode="on", out_path=tmp_path / "{flow_id}.json", capture_inputs=True, max_value_bytes=100):
        with pytest.raises(ValueError, match="1"), flow("f"):
            fail(1, "x" * 200)
        data = (tmp_path / "f.json").read_bytes()
        pack = load_trace(tmp_path / "f.json").pack.pack_ref
        plainly = Folder.remove

        def remove(self, name, stamp):
            done = plainly(self, name, stamp)
            if ".payloads" in self.path:
                (tmp_path / "f.json").write_bytes(data)  # the other process
            return done

        monkeypatch.setattr(Folder, "remove", remove)
        keeping._packs.add(pack)
        assert keeping._remove_trace(str(tmp_path / "f.json"))
        keeping._tidy_payloads(str(tmp_path / "f.json"))
    assert list((tmp_path / "f.payloads").iterdir()) != []
    assert validate(tmp_path / "f.json") == []


# --- faults and races


@ROOT
def test_a_file_that_cannot_be_removed_is_reported_once_and_stays():
    program = """
        import os
        from pathlib import Path
        from flowtrace import dump, load_trace, traced_node
        from flowtrace.host import log

        dump("first.json")
        load_trace("first.json")
        log.warn("another user may not be allowed to read the modules that this loads")
        os.mkdir("runs")
        os.chown("runs", 65534, 65534)
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)

        @traced_node
        def fail(number):
            raise ValueError(number)

        def fail_often(start, end):
            for number in range(start, end):
                try:
                    fail(number)
                except ValueError as error:
                    assert error.args == (number,)

        fail_often(0, 3)
        runs = Path("runs")
        for folder in runs.iterdir():
            folder.chmod(0o500)
        fail_often(3, 9)
        for folder in runs.iterdir():
            folder.chmod(0o700)
        print(sorted(int(load_trace(path).steps[-1].error.message) for path in runs.glob("*/t.json")))
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        done = run_program(folder, program, FLOWTRACE_OUT="runs/{run_id}/t.json", FLOWTRACE_MAX_FILES="3")
    assert done.stdout.strip() == "[0, 1, 2, 6, 7, 8]"
    assert done.stderr.count("failed to remove an old trace") == 2  # when it happened, and their number at the end


def test_a_fault_in_the_retention_is_reported_once_and_costs_no_trace(tmp_path, monkeypatch, stderr):
    monkeypatch.setattr(TemplatePaths, "files", lambda self: 1 / 0)
    with flowtrace.override(mode="on", out_path=tmp_path / "{run_id}.json", max_files=2):
        fail_often(3)
    assert numbers(tmp_path) == [0, 1, 2]
    assert stderr.readouterr().err.count("remove old traces") == 1


def test_a_file_that_vanishes_is_no_error(tmp_path, stderr):
    with flowtrace.override(mode="on", out_path=tmp_path / "{run_id}.json", max_files=2):
        fail_often(2)
        for path in tmp_path.iterdir():
            path.unlink()
        fail_often(3, start=2)
    assert numbers(tmp_path) == [3, 4]
    assert stderr.readouterr().err == ""


def test_a_trace_that_is_written_while_another_one_is_removed_is_left_alone(tmp_path):
    keeping = Retention(str(tmp_path / "{run_id}.json"), 2)
    with flowtrace.override(mode="on", out_path=tmp_path / "{run_id}.json"):
        fail_often(1)
    (path,) = tmp_path.iterdir()
    keeping._is_busy = True  # as in a signal handler that comes in between
    keeping.after_write(str(path), "p")
    assert path.exists()
    assert keeping._counted == {}


PROGRAM = """
    import sys
    from threading import Thread
    from flowtrace import traced_node

    @traced_node
    def fail(number, value):
        raise ValueError(number)

    def work():
        for number in range(25):
            try:
                fail(number, "x" * 300)
            except ValueError:
                pass

    threads = [Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


@pytest.mark.costly
@pytest.mark.parametrize("template", ["{run_id}.json", "{pid}/{run_id}/t.json"])
def test_threads_of_many_processes_keep_the_limit_together(tmp_path, template):
    script = tmp_path / "program.py"
    script.write_text(re.sub("^    ", "", PROGRAM, flags=re.MULTILINE))
    environment = os.environ | {
        "FLOWTRACE_OUT": str(tmp_path / "out" / template),
        "FLOWTRACE_MAX_FILES": "10",
        "FLOWTRACE_CAPTURE_INPUTS": "1",
        "FLOWTRACE_MAX_VALUE_BYTES": "100",
    }
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.json").write_text("{}")
    running = [
        subprocess.Popen([sys.executable, "-W", "error", script], env=environment, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    outputs = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert outputs == [b""] * 4
    traces = [path for path in (tmp_path / "out").rglob("*.json") if path.parent.suffix != ".payloads"]
    traces.remove(tmp_path / "out/mine.json")
    assert len(traces) == 10
    assert [validate(path) for path in traces] == [[]] * 10
    assert len(list((tmp_path / "out").rglob("*.payloads"))) == 10
    assert [path for path in (tmp_path / "out").glob("*/*") if path.is_dir() and not any(path.iterdir())] == []


# --- what a path can be

texts = st.text(st.characters(exclude_characters="\0/", exclude_categories=("Cs",)), min_size=1, max_size=12)
parts = st.lists(st.sampled_from(["{pid}", "{run_id}", "{flow_id}", "{timestamp}"]) | texts, min_size=1, max_size=4)
templates = st.lists(parts.map("".join), min_size=1, max_size=3).map(lambda names: "/base/" + "/".join(names))


@given(
    template=templates.filter(
        lambda text: not any(part.strip("{}") in (".", "..", "") for part in text[6:].split("/"))
    ),
    flow_id=st.text(max_size=100),
    pid=st.integers(1, 2**22),
    run_id=st.binary(min_size=16, max_size=16).map(bytes.hex),
)
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_every_path_that_a_template_can_become_is_found_by_it(template, flow_id, pid, run_id):
    values = {"run_id": run_id, "flow_id": flow_id, "timestamp": "2023-11-14T22:13:20.123456Z"}
    for path in rendered_paths(template, pid=pid, **values):
        found = TemplatePaths(template)
        assert path.startswith(found.base.rstrip("/") + "/")
        names = found.parts(path)
        assert [name for pattern, name in zip(found._patterns, names, strict=True) if pattern.fullmatch(name)] == names


@given(name=st.text(st.characters(exclude_characters="\0/"), min_size=1, max_size=60))
def test_no_other_name_passes_for_that_of_a_trace(name):
    data = flowtrace.values.json.pretty(
        {
            "trace_version": 1,
            "runner_version": "1",
            "pack": {"pack_ref": "p"},
            "flow": {"id": "f", "version": "1"},
            "steps": [],
            "run": {
                "id": ID,
                "started_at": "2023-11-14T22:13:20.123456Z",
                "outcome": "ok",
                "pid": 7,
                "host": "h",
                "python": "3",
            },
        }
    )
    paths = TemplatePaths("/base/{flow_id}-{run_id}.json")
    names = (f"f-{ID}.json", f"f-{ID}.7.json")
    assert paths.program_of(data, f"/base/{name}") == ("p" if name in names else None)
    assert [paths.program_of(data, f"/base/{own}") for own in names] == ["p", "p"]


def test_a_copy_whose_name_fits_the_template_keeps_its_payloads_too(tmp_path):
    with flowtrace.override(
        mode="on", out_path=tmp_path / "{flow_id}.json", max_files=3, capture_inputs=True, max_value_bytes=100
    ):
        for number in range(12):
            with pytest.raises(ValueError, match=str(number)), flow("f"):
                fail(number, str(number) * 200)
            if not number:
                shutil.copy(tmp_path / "f.json", tmp_path / "important.json")
    assert validate(tmp_path / "important.json") == []
    assert validate(tmp_path / "f.json") == []
    assert len(list((tmp_path / "f.payloads").iterdir())) <= 4


def test_warnings_are_logged_without_the_lock(tmp_path, monkeypatch):
    """A handler of the host's logging may wait for a thread that writes a trace, and so for the lock."""
    free = []

    def warn_once(event, cause, **fields):
        other = Thread(target=lambda: free.append(keeping._lock.acquire(timeout=60)))
        other.start()
        other.join()

    monkeypatch.setattr(retention.log, "warn_once", warn_once)
    keeping = Retention(str(tmp_path / "{run_id}.json"), 1)
    keeping._writes_until_listing = 100
    monkeypatch.setattr(Retention, "_remove_trace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no")))
    for number in range(2):
        path = tmp_path / f"{number:032x}.json"
        path.touch()
        keeping.after_write(str(path), "p")
    assert free == [True]


@pytest.mark.parametrize("place", ["scandir", "open", "unlink", "rmdir", "lstat"])
def test_a_timeout_that_an_alarm_raises_meanwhile_arrives(tmp_path, monkeypatch, place):
    """A TimeoutError is an OSError: a guard against those of the disk must not keep it."""

    def ring(number, frame):
        raise TimeoutError("the host's")

    def call(*arguments, **options):
        if armed:
            armed.clear()
            signal.raise_signal(signal.SIGUSR1)
        return plainly(*arguments, **options)

    armed = []
    plainly = getattr(system.os, place)
    template = "runs/{run_id}/t.json"
    before = signal.signal(signal.SIGUSR1, ring)
    try:
        with flowtrace.override(mode="on", out_path=tmp_path / template, max_files=1):
            fail_often(1)
            tidy = Retention._tidy
            monkeypatch.setattr(Retention, "_tidy", lambda *arguments: armed.append(1) or tidy(*arguments))
            monkeypatch.setattr(system.os, place, call)
            with pytest.raises(TimeoutError, match="the host's"):
                fail(1)
            monkeypatch.setattr(Retention, "_tidy", tidy)
            fail_often(2, start=2)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert armed == []
    assert [int(load_trace(path).steps[-1].error.message) for path in tmp_path.glob("runs/*/t.json")] == [3]
