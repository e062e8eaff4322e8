"""Files: what is written, with which rights, under which name, and what a failure leaves behind."""

from __future__ import annotations

import errno
import multiprocessing
import os
import stat
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from flowtrace import TraceFileError, load_trace, traced_node
from flowtrace.host import system
from flowtrace.recording.control import override
from flowtrace.trace import files
from flowtrace.trace.files import is_child_process, render_path, write_atomically
from flowtrace.trace.payload_files import write_payload
from flowtrace.values.encoded import hash_bytes

pytestmark = pytest.mark.disk

RUN = {"run_id": "a" * 32, "flow_id": "f", "timestamp": "2023-11-14T22:13:20.123456Z"}
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user or to mount")
NOBODY = 65534


def mode(path):
    return stat.S_IMODE(Path(path).stat().st_mode)


def listing(folder="."):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


def in_child(work):
    """Run a function in a fork, and return what it printed; the real rights of another user are had only there."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = "?"
        try:
            text = str(work())
        except OSError as error:
            text = errno.errorcode[error.errno]
        finally:
            os.write(write, text.encode())
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


def test_a_file_is_private_and_its_folders_too():
    before = os.umask(0)
    try:
        write_atomically("a/b/trace.json", b"{}")
    finally:
        os.umask(before)
    assert listing() == ["a", "a/b", "a/b/trace.json"]
    assert [mode(path) for path in listing()] == [0o700, 0o700, 0o600]
    assert Path("a/b/trace.json").read_bytes() == b"{}"


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_a_file_is_replaced_as_a_whole(size):
    Path("t.json").write_bytes(b"old")
    Path("t.json").chmod(0o644)
    with Path("t.json").open("rb") as reader:
        write_atomically("t.json", b"x" * size)
        assert reader.read() == b"old"
    assert Path("t.json").read_bytes() == b"x" * size
    assert (listing(), mode("t.json")) == (["t.json"], 0o600)


@pytest.mark.parametrize("name", ["t" * 255, "ü" * 127, ".hidden", "no-suffix", "a b\n.json", "-rf", "t.json.tmp"])
def test_any_name_that_the_system_takes_is_written(name):
    write_atomically(name, b"{}")
    assert listing() == [name]


def test_a_link_is_replaced_and_its_destination_left_alone():
    Path("real.json").write_bytes(b"real")
    Path("link.json").symlink_to("real.json")
    Path("dangling.json").symlink_to("absent.json")
    for name in ("link.json", "dangling.json"):
        write_atomically(name, b"{}")
        assert not Path(name).is_symlink()
        assert Path(name).read_bytes() == b"{}"
    assert Path("real.json").read_bytes() == b"real"
    assert not Path("absent.json").exists()


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_what_has_the_temporary_name_is_neither_followed_nor_removed(kind, monkeypatch):
    monkeypatch.setattr(system.os, "urandom", lambda size: b"\0" * size)
    temporary = Path(f".t.json.{os.getpid()}.{'00' * 6}.tmp")
    Path("t.json").write_bytes(b"old")
    Path("theirs").write_bytes(b"theirs")
    if kind == "file":
        temporary.write_bytes(b"theirs")
    else:
        temporary.symlink_to("theirs" if kind == "link" else "absent")
    before = listing()
    with pytest.raises(FileExistsError):
        write_atomically("t.json", b"new")
    assert listing() == before
    assert (Path("t.json").read_bytes(), Path("theirs").read_bytes()) == (b"old", b"theirs")
    assert kind == "file" or temporary.is_symlink()


def test_a_linked_folder_is_followed():
    Path("real").mkdir()
    Path("link").symlink_to("real")
    write_atomically("link/t.json", b"{}")
    assert listing("real") == ["t.json"]


def make_fifo():
    os.mkfifo("target")
    return "target"


def make_link_to_null():
    Path("target").symlink_to("/dev/null")
    return "target"


def make_file_as_folder():
    Path("file").write_bytes(b"")
    return "file/t.json"


def make_folder():
    Path("target/inner").mkdir(parents=True)
    return "target"


FAILURES = {
    "a folder": (make_folder, errno.EISDIR),
    "a pipe": (make_fifo, errno.EINVAL),
    "/dev/null": (lambda: "/dev/null", errno.EINVAL),
    "/dev/full": (lambda: "/dev/full", errno.EINVAL),
    "a link to /dev/null": (make_link_to_null, errno.EINVAL),
    "a file in place of a folder": (make_file_as_folder, errno.ENOTDIR),
    "a name too long": (lambda: "t" * 256, errno.ENAMETOOLONG),
    "a path too long": (lambda: "/".join(["d" * 200] * 30), errno.ENAMETOOLONG),
    "a folder's name too long": (lambda: "d" * 256 + "/t.json", errno.ENAMETOOLONG),
    "in /proc": (lambda: "/proc/flowtrace/t.json", errno.ENOENT),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_an_os_error_and_leaves_nothing(name):
    make, number = FAILURES[name]
    target = make()
    before = listing()
    with pytest.raises(OSError) as caught:
        write_atomically(target, b"{}")
    assert caught.value.errno == number
    assert not [name for name in listing() if name.endswith(".tmp")]
    assert [name for name in listing() if not name.startswith("d" * 200)] == before
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@ROOT
@pytest.mark.parametrize(("rights", "result"), [(0o555, "EACCES"), (0o000, "EACCES"), (0o777, "None"), (0o333, "None")])
def test_a_folder_without_rights_is_refused_and_one_without_listing_is_not(rights, result, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "t.json").write_bytes(b"old")
    folder.chmod(rights)
    for parent in [tmp_path, *tmp_path.parents][:-2]:
        parent.chmod(parent.stat().st_mode | 0o011)

    def work():
        os.chdir(tmp_path)
        os.setuid(NOBODY)
        return write_atomically("folder/t.json", b"new")

    assert in_child(work) == result
    assert listing(folder) == ["t.json"]
    assert (folder / "t.json").read_bytes() == (b"old" if result == "EACCES" else b"new")


@ROOT
def test_another_users_file_in_a_sticky_folder_stays(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o1777)
    (folder / "t.json").write_bytes(b"old")
    for parent in [tmp_path, *tmp_path.parents][:-2]:
        parent.chmod(parent.stat().st_mode | 0o011)

    def work():
        os.chdir(folder)
        os.setuid(NOBODY)
        return write_atomically("t.json", b"new")

    assert in_child(work) == "EPERM"
    assert listing(folder) == ["t.json"]
    assert (folder / "t.json").read_bytes() == b"old"


@ROOT
def test_a_full_disk_leaves_the_old_file(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting is not possible here: {mounted.stderr.strip()}")
    try:
        write_atomically(str(disk / "t.json"), b"old")
        with pytest.raises(OSError) as caught:
            write_atomically(str(disk / "t.json"), b"x" * 100_000)
        assert caught.value.errno == errno.ENOSPC
        assert listing(disk) == ["t.json"]
        assert (disk / "t.json").read_bytes() == b"old"
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(OSError) as caught:
            write_atomically(str(disk / "t.json"), b"new")
        assert caught.value.errno == errno.EROFS
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_interrupt_while_writing_leaves_nothing(monkeypatch):
    Path("t.json").write_bytes(b"old")

    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(system.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically("t.json", b"new")
    assert listing() == ["t.json"]
    assert Path("t.json").read_bytes() == b"old"


def test_a_file_size_limit_is_an_error_not_a_signal(tmp_path):
    program = """
import resource
from flowtrace.trace.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically("t.json", b"x" * 5000)
except OSError as error:
    print(error.errno)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) == errno.EFBIG
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("t.json", "t.json"),
        ("{run_id}.json", "a" * 32 + ".json"),
        ("{flow_id}/{flow_id}.json", "f/f.json"),
        ("{timestamp}.json", "20231114T221320.123456Z.json"),
        pytest.param("{pid}.json", f"{os.getpid()}.json", id="pid"),
        pytest.param("{}{host}{ pid }{{pid}}", f"{{}}{{host}}{{ pid }}{{{os.getpid()}}}", id="pid in braces"),
        ("{run_id", "{run_id"),
    ],
)
def test_a_template_becomes_a_path(template, path):
    assert render_path(template, **RUN) == path


@pytest.mark.parametrize(
    ("flow_id", "name"),
    [
        ("checkout-v2.1_x", "checkout-v2.1_x"),
        ("../../etc/passwd", "__.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        ("..", "_"),
        (".", "_"),
        (".hidden", "_hidden"),
        ("", "_"),
        ("a\0b\nc d", "a_b_c_d"),
        ("C:\\x", "C__x"),
        ("{run_id}{pid}", "_run_id__pid_"),
        ("größe", "größe"),
        ("x" * 500, "x" * 80),
        ("\ud800", "_"),
        ("%s*?|<>:\"'", "_s________"),
    ],
)
def test_a_hostile_flow_id_cannot_leave_its_folder(flow_id, name):
    assert render_path("out/{flow_id}.json", **{**RUN, "flow_id": flow_id}) == f"out/{name}.json"


def test_the_longest_flow_id_still_makes_a_file_name():
    path = render_path("{flow_id}.json", **{**RUN, "flow_id": "漢" * 500})
    write_atomically(path, b"{}")
    assert listing() == [path]


@traced_node
def fail(where):
    raise ValueError(where)


def traced_failure(number):
    with override(mode="on", out_path="t.json"):
        try:
            fail(number)
        except ValueError:
            pass
    return os.getpid()


def test_a_fork_writes_beside_its_parent():
    pid = os.fork()
    if pid == 0:
        traced_failure(1)
        os._exit(0 if is_child_process() and render_path("a.b/t", **RUN) == f"a.b/t.{os.getpid()}" else 1)
    assert os.waitpid(pid, 0)[1] == 0
    traced_failure(2)
    assert not is_child_process()
    assert listing() == [f"t.{pid}.json", "t.json"]
    assert load_trace("t.json").steps[0].error.message == "2"
    assert load_trace(f"t.{pid}.json").run.pid == pid


@pytest.mark.costly
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_worker_processes_write_files_of_their_own(method, tmp_path):
    # tests are loaded by path, so that a spawned process has to be told where this one is
    program = f"""
import multiprocessing, os
from concurrent.futures import ProcessPoolExecutor
from flowtrace import traced_node
@traced_node
def node(number):
    raise ValueError(number)
def work(number):
    try:
        node(number)
    except ValueError:
        return os.getpid()
if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    process = context.Process(target=work, args=(1,))
    process.start()
    process.join()
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        pooled = pool.submit(work, 2).result()
    print(process.pid, pooled, os.getpid())
    work(3)
"""
    (tmp_path / "prog.py").write_text(program)
    environ = {**os.environ, "FLOWTRACE_OUT": "out/t.json"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "prog.py"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    process, pooled, own = done.stdout.split()
    assert listing(tmp_path / "out") == sorted([f"t.{process}.json", f"t.{pooled}.json", "t.json"])
    assert load_trace(tmp_path / "out/t.json").run.pid == int(own)
    assert done.stderr == ""


def test_a_template_with_a_pid_gets_no_second_one():
    def work():
        return render_path("t-{pid}.json", **RUN) == f"t-{os.getpid()}.json"

    assert in_child(work) == "True"


def test_a_payload_is_written_once_under_its_hash():
    first = write_payload("out/t.v1.json", "ab" * 32, b"[1]")
    assert first == f"t.v1.payloads/{'ab' * 32}.json"
    path = Path("out") / first
    assert (path.read_bytes(), mode(path), mode(path.parent)) == (b"[1]", 0o600, 0o700)
    stamp = path.stat().st_mtime_ns
    assert write_payload("out/t.v1.json", "ab" * 32, b"[1]") == first
    assert path.stat().st_mtime_ns == stamp
    assert write_payload("t", "cd" * 32, b"[2]") == f"t.payloads/{'cd' * 32}.json"
    assert listing("t.payloads") == [f"{'cd' * 32}.json"]


@pytest.mark.costly
def test_a_reader_never_sees_half_a_file():
    Path("t.json").write_bytes(b"1" * 300_000)

    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply_async(_read_many, (Path.cwd(),))
        for number in range(60):
            write_atomically("t.json", str(number % 10).encode() * 300_000)
        assert found.get() == "whole"


def _read_many(folder):
    for _ in range(300):
        data = (folder / "t.json").read_bytes()
        if len(data) != 300_000 or len(set(data)) != 1:
            return "torn"
    return "whole"


def test_what_is_no_trace_is_replaced_all_the_same():
    Path("t.json").write_bytes(b"not a trace")
    with pytest.raises(TraceFileError):
        load_trace("t.json")
    traced_failure(1)
    assert load_trace("t.json").steps[0].error.message == "1"


def test_pools_of_this_process_are_not_children():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        assert pool.submit(is_child_process).result()
    assert not is_child_process()


# --- files that others planted


def planted_folder(tmp_path):
    trace = tmp_path / "t.json"
    data = b'{"a":1}'
    name = hash_bytes(data).value
    return str(trace), data, name, tmp_path / "t.payloads" / f"{name}.json"


def mode_of(path):
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_payload_is_for_its_owner_alone(tmp_path):
    trace, data, name, path = planted_folder(tmp_path)
    assert write_payload(trace, name, data) == f"t.payloads/{name}.json"
    assert (mode_of(path), mode_of(path.parent)) == (0o600, 0o700)
    before = path.stat().st_ino
    write_payload(trace, name, data)
    assert path.stat().st_ino == before  # written once


def test_a_link_under_a_payloads_name_is_replaced_and_not_followed(tmp_path):
    trace, data, name, path = planted_folder(tmp_path)
    path.parent.mkdir()
    other = tmp_path / "other"
    for content in (b"not yours", data):
        other.write_bytes(content)
        path.unlink(missing_ok=True)
        path.symlink_to(other)
        write_payload(trace, name, data)
        assert (path.is_symlink(), path.read_bytes(), other.read_bytes()) == (False, data, content)


@pytest.mark.parametrize("content", [b"", b'{"a":2}', b'{"a":1} '])
def test_another_content_under_a_payloads_name_does_not_count_as_written(tmp_path, content):
    trace, data, name, path = planted_folder(tmp_path)
    path.parent.mkdir()
    path.write_bytes(content)
    write_payload(trace, name, data)
    assert path.read_bytes() == data


def test_a_payload_that_others_may_read_is_replaced_by_one_that_they_may_not(tmp_path):
    trace, data, name, path = planted_folder(tmp_path)
    path.parent.mkdir()
    path.write_bytes(data)
    path.chmod(0o644)
    write_payload(trace, name, data)
    assert (path.read_bytes(), mode_of(path)) == (data, 0o600)


def test_what_is_no_file_under_a_payloads_name_is_refused(tmp_path):
    trace, data, name, path = planted_folder(tmp_path)
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(OSError, match="is not a regular file"):
        write_payload(trace, name, data)
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        write_payload(trace, name, data)


def test_payloads_do_not_go_through_a_link_or_into_a_file(tmp_path):
    trace, data, name, path = planted_folder(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    path.parent.symlink_to(other)
    with pytest.raises(NotADirectoryError, match="is a link or no folder"):
        write_payload(trace, name, data)
    assert list(other.iterdir()) == []
    path.parent.unlink()
    path.parent.write_bytes(b"")
    with pytest.raises(OSError, match="is a link or no folder"):
        write_payload(trace, name, data)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files away")
def test_payloads_do_not_go_into_the_folder_of_another_user(tmp_path):
    trace, data, name, path = planted_folder(tmp_path)
    path.parent.mkdir()
    os.chown(path.parent, 12345, 12345)
    with pytest.raises(PermissionError, match="is the folder of another user"):
        write_payload(trace, name, data)
    os.chown(tmp_path, 12345, 12345)  # whose folder the trace itself is in
    write_payload(trace, name, data)
    os.chown(path, 54321, 54321)
    write_payload(trace, name, data)
    assert (path.stat().st_uid, path.read_bytes()) == (0, data)


def test_a_link_in_the_place_of_the_trace_is_replaced_and_not_followed(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"not yours")
    for target in (other, tmp_path / "missing"):
        link = tmp_path / "t.json"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        write_atomically(str(link), b"new")
        assert (link.is_symlink(), link.read_bytes(), mode_of(link)) == (False, b"new", 0o600)
    assert other.read_bytes() == b"not yours"
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("is_named", [False, True])
def test_a_link_at_the_temporary_name_is_not_followed(tmp_path, monkeypatch, is_named):
    if is_named:
        monkeypatch.setattr(files, "_UNNAMED", None)
    monkeypatch.setattr(system.os, "urandom", lambda size: b"\0" * size)
    other = tmp_path / "other"
    other.write_bytes(b"not yours")
    temporary = tmp_path / f".t.json.{os.getpid()}.{'00' * 6}.tmp"
    temporary.symlink_to(other)
    (tmp_path / "t.json").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_atomically(str(tmp_path / "t.json"), b"new")
    assert (other.read_bytes(), temporary.is_symlink()) == (b"not yours", True)
    assert (tmp_path / "t.json").read_bytes() == b"old"


def test_folders_that_are_made_are_for_their_owner_alone(tmp_path):
    write_atomically(str(tmp_path / "a" / "b" / "t.json"), b"x")
    assert [mode_of(tmp_path / name) for name in ("a", "a/b", "a/b/t.json")] == [0o700, 0o700, 0o600]
