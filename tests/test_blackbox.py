"""The black box: what is left of a process that was killed, and that nothing more than it should be."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flowtrace
from flowtrace import RingFileError, load_trace, recover, traced_node, validate
from flowtrace.blackbox import ring_file
from flowtrace.blackbox.recover import trace_of
from flowtrace.host import system
from flowtrace.recording.state import STATE, release, running
from flowtrace.recording.step import new_step
from flowtrace.trace.model import new_document
from flowtrace.trace.reading import RING, parse_trace
from flowtrace.values.json import pretty
from tests.programs import run_program

NODES = """
    import os, sys, signal
    from flowtrace import traced_node, flow

    @traced_node(component="shop", operation="total")
    def total(order):
        return {"id": order["id"], "total": order["price"] * order["count"]}

    @traced_node(component="shop", operation="die")
    def die(how):
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "exit":
            os._exit(3)
        if how == "crash":
            import ctypes
            ctypes.string_at(0)

    @traced_node(component="shop", operation="run")
    def run(how):
        for number in range(30):
            total({"id": number, "price": 2.5, "count": 2})
        die(how)
"""
BOX = {"FLOWTRACE_MODE": "on", "FLOWTRACE_OUT": "t.json", "FLOWTRACE_BLACKBOX": "app.ring"}
CAPTURE = {"FLOWTRACE_CAPTURE_INPUTS": "1", "FLOWTRACE_CAPTURE_OUTPUTS": "1"}
ENDS = {"kill": -signal.SIGKILL, "exit": 3, "crash": -signal.SIGSEGV}


def operations(steps):
    return [step.operation for step in steps]


def secret_free(folder, *secrets):
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".py":
            data = path.read_bytes()
            assert [secret for secret in secrets if secret.encode() in data] == []


@traced_node
def double(value):
    return {"twice": value}


@pytest.mark.costly
@pytest.mark.parametrize("how", ENDS)
def test_the_last_steps_and_the_stack_in_flight_survive(how, tmp_path):
    run_program(tmp_path, NODES, f"run({how!r})", code=ENDS[how], **BOX, **CAPTURE)
    trace = recover(tmp_path / "app.ring")
    assert operations(trace.steps) == ["total"] * 20
    assert trace.dropped_steps == 10
    assert [step.invocation_json["payload"]["order"]["id"] for step in trace.steps] == list(range(10, 30))
    last = trace.steps[-1]
    assert last.output_json == {"id": 29, "total": 5.0}
    assert last.output_hash.value == flowtrace.hash_value({"id": 29, "total": 5.0})
    assert last.input_hash.value == flowtrace.hash_value({"order": {"id": 29, "price": 2.5, "count": 2}})
    assert [(step.operation, step.error.code) for step in trace.in_flight] == [
        ("run", "process_died"),
        ("die", "process_died"),
    ]
    assert trace.in_flight[1].parent_step_id == trace.in_flight[0].step_id == last.parent_step_id
    assert (trace.run.outcome, trace.pack.pack_ref, trace.flow.id) == ("interrupted", "program.py", "process")
    assert trace.in_flight[1].code.qualname == "die"
    assert parse_trace(pretty(new_document(trace))) == trace


def test_without_capture_the_file_holds_hashes_alone(tmp_path):
    program = "total({'id': 'visible-value', 'price': 1, 'count': 1}); die('kill')"
    run_program(tmp_path, NODES, program, code=-signal.SIGKILL, **BOX)
    secret_free(tmp_path, "visible-value")
    trace = recover(tmp_path / "app.ring")
    assert trace.steps[0].output_hash.value == flowtrace.hash_value({"id": "visible-value", "total": 1})
    document = new_document(trace)["steps"][0]
    assert not {"invocation_json", "output_json"} & set(document)


@pytest.mark.costly
def test_its_steps_are_those_of_the_trace(tmp_path):
    program = """
        import flowtrace, shutil
        class Shop:
            @traced_node
            def sell(self, what, count=1, *, note=None, **more):
                return [what, count]
            @traced_node
            def name(self, of):
                return {"z": of, "a": (1, "\u00e9", -0.0)}
            @staticmethod
            @traced_node
            def rate(of):
                return of
        @traced_node
        def items(n):
            yield from range(n)
        @traced_node
        def itself(value):
            return value
        shop = Shop()
        values = ("tea", {"z": 1, "b": 2**63, "a": ("x", (2, 3.0))}, {}, [], (), 1e-7, "$py", {"$py": 1}, {"token": 2})
        for value in values:
            shop.name(value), Shop.name(shop, value), shop.rate(value), itself(value), itself(value=value)
        for value in ("x" * 3900, {str(n): n for n in range(40)}):
            itself(value), itself(value)
        total({"id": 1, "price": 1.5, "count": 2})
        shop.sell("tea"); shop.sell("tea", count=[2]); shop.sell("tea", 3, note=(1, {"a": None}), size=10**30)
        list(items(3))
        shop.sell({1, 2}); shop.sell(object()); shop.sell({"password": "hunter2", "$py": 1})
        for value in (None, True, 1.5, float("nan"), "text", b"bytes", "\\ud800"):
            shop.sell(value)
        try:
            total({})
        except KeyError:
            pass
        flowtrace.dump("dump.json")
        die("kill")
    """
    for settings_ in ({}, CAPTURE, CAPTURE | {"FLOWTRACE_HASH_KEY": "key"}, {"FLOWTRACE_HASH_KEY": "key"}):
        run_program(tmp_path, NODES, program, code=-signal.SIGKILL, FLOWTRACE_BUFFER_SIZE="90", **BOX, **settings_)
        ours, theirs = recover(tmp_path / "app.ring"), load_trace(tmp_path / "dump.json")
        (tmp_path / "app.ring").unlink()
        assert len(ours.steps) == len(theirs.steps) == 16 + 9 * 5 + 2 * 2
        for found, expected in zip(ours.steps, theirs.steps, strict=True):
            found, expected = new_document(found), new_document(expected)
            for name in ("started_at", "thread", "code"):
                found.pop(name), expected.pop(name)
            assert found == expected, settings_


@pytest.mark.costly
def test_it_counts_the_steps_that_went_before_those_it_keeps(tmp_path):
    program = """
        import flowtrace
        box = {"blackbox": "app.ring", "buffer_size": 3, "out_path": "t.json"}
        flowtrace.configure(mode="on", **box)
        for number in range(10):
            total({"id": number, "price": 1, "count": 1})
        flowtrace.dump("first.json")
        flowtrace.configure(mode="on", **box)
        for number in range(8):
            total({"id": number, "price": 1, "count": 1})
        for _ in range(3):
            flowtrace.dump("second.json")
        if os.fork():
            os.wait()
            die("kill")
        for number in range(5):
            total({"id": number, "price": 1, "count": 1})
        os.rename(f"app.{os.getpid()}.ring", "child.ring")
        os._exit(0)
    """
    run_program(tmp_path, NODES, program, code=-signal.SIGKILL)
    dropped = [load_trace(tmp_path / name).dropped_steps for name in ("first.json", "second.json")]
    assert dropped + [recover(tmp_path / name).dropped_steps for name in ("app.ring", "child.ring")] == [7, 5, 5, 2]


@pytest.mark.costly
def test_large_arguments_of_small_results_count_in_the_buffers_bytes(tmp_path):
    box(tmp_path, capture_inputs=True, buffer_size=50, buffer_bytes=1 << 20, max_value_bytes=1 << 10)

    @traced_node
    def size(text):
        return len(text)

    for number in range(100):
        assert size("x" * (100_000 + number)) == 100_000 + number
    steps = STATE.recorder.buffer.newest()
    assert 500_000 < sum(step.size() for step in steps) <= 1 << 20
    assert steps[-1].output in (b"100099", (100099,))  # of the pure twin, of the native core


@pytest.mark.costly
def test_nothing_hidden_is_ever_in_the_file(tmp_path):
    program = """
        import asyncio
        from dataclasses import dataclass
        @dataclass
        class Login:
            user: str
            password: str = "secret-in-field"
        @traced_node(redact=("pet",))
        def take(*args, **kwargs):
            return {"token": "secret-returned", "list": [{"cookie": "secret-nested-return"}]}
        @traced_node
        def login(user, password):
            error = ValueError(f"no {password} for {user}")
            error.add_note(f"tried {password!r}")
            raise error
        @traced_node
        def outer(api_key="secret-default"):
            try:
                login("bob", "secret-argument")
            except ValueError as error:
                raise RuntimeError(f"failed: {error}") from error
        @traced_node
        def items(session):
            sent = yield {"auth": "secret-yielded"}
            raise ValueError("lost secret-yielded")
        @traced_node
        async def later(x):
            await asyncio.sleep(0)
            return {"passwd": "secret-awaited"}
        take({"a": [{"api_key": "secret-nested"}]}, password="secret-keyword", pet="secret-pet")
        take({"password": "secret-flat"})
        for _ in range(3):
            take({"DbPassword": "secret-again"})
        take(Login("bob"), {b"password": "secret-bytes-key", 1: {"token": ["secret-in-list"]}})
        by_name = lambda: login(user="bob", password="secret-by-name")
        for call in (outer, by_name, lambda: list(items("secret-session"))):
            try:
                call()
            except Exception:
                pass
        asyncio.run(later({"jwt": "secret-jwt" * 10000}))
        waiting = items("secret-open"); next(waiting)
        @traced_node
        def last(secret, value):
            die("kill")
        last({"x": "secret-last"}, {"authorization": ("secret-tuple",)})
    """
    secrets = ["secret-" + word for word in ("field", "returned", "nested", "default", "argument", "yielded", "flat")]
    secrets += ["secret-" + word for word in ("in-", "again", "awaited", "by-name", "session", "jwt", "open", "tuple")]
    secrets += ["secret-" + word for word in ("last", "keyword", "pet")]
    for settings_ in (CAPTURE, {}):
        run_program(tmp_path, NODES, program, code=-signal.SIGKILL, **BOX, **settings_)
        data = (tmp_path / "app.ring").read_bytes()
        assert [secret for secret in secrets if secret.encode() in data] == []
        assert operations(recover(tmp_path / "app.ring").in_flight) == ["items", "last", "die"]
        (tmp_path / "app.ring").unlink()


@pytest.mark.costly
def test_a_message_keeps_what_is_not_hidden(tmp_path):
    program = """
        @traced_node
        def login(user, password):
            raise ValueError(f"no {password} for {user}")
        try:
            login("bob", "hunter2")
        except ValueError:
            die("kill")
    """
    run_program(tmp_path, NODES, program, code=-signal.SIGKILL, **BOX)
    (step,) = recover(tmp_path / "app.ring").steps
    assert step.error.message == "no __REDACTED__ for bob"
    assert step.error.details["frames"][0]["function"] == "login"
    assert step.redacted == ["/invocation_json/payload/password"]


def test_a_dict_in_a_dict_is_never_taken_for_a_flat_one():
    import gc

    inner = {"password": "x"}
    for value in ({"a": inner}, {"a": (inner,)}, (inner,)):
        gc.collect()
        gc.collect()
        assert gc.is_tracked(value)


@pytest.mark.costly
def test_a_later_run_makes_a_trace_of_a_dead_one(tmp_path):
    run_program(tmp_path, NODES, "run('kill')", code=-signal.SIGKILL, **BOX)
    done = run_program(tmp_path, NODES, "total({'id': 1, 'price': 1, 'count': 1})", **BOX)
    assert "made a trace of a process that died" in done.stderr
    (path,) = tmp_path.glob("t.recovered.*.json")
    assert operations(load_trace(path).in_flight) == ["run", "die"]
    assert not (tmp_path / "app.ring").exists()


@pytest.mark.costly
def test_a_process_that_ends_in_order_leaves_nothing(tmp_path):
    program = "import threading\nrun('')\nthreading.Thread(target=run, args=('',)).start()"
    done = run_program(tmp_path, NODES, program, **BOX)
    assert done.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


def start(folder, *parts, **environment):
    script = folder / f"p{len(list(folder.glob('p*.py')))}.py"
    import textwrap

    script.write_text("\n".join(map(textwrap.dedent, parts)))
    return subprocess.Popen(
        [sys.executable, script.name], cwd=folder, env=os.environ | environment, stdout=subprocess.PIPE
    )


@pytest.mark.costly
def test_the_file_of_a_living_process_is_not_touched(tmp_path):
    waits = "total({'id': 1, 'price': 1, 'count': 1}); print('ready', flush=True); import time; time.sleep(60)"
    with start(tmp_path, NODES, waits, **BOX) as living:
        try:
            living.stdout.readline()
            before = (tmp_path / "app.ring").read_bytes()
            second = "total({'id': 2, 'price': 1, 'count': 1}); die('kill')"
            run_program(tmp_path, NODES, second, code=-signal.SIGKILL, **BOX)
            assert (tmp_path / "app.ring").read_bytes() == before
            (other,) = tmp_path.glob("app.*.ring")
            assert operations(recover(other).in_flight) == ["die"]
            assert recover(tmp_path / "app.ring").run.outcome == "snapshot"
            run_program(tmp_path, NODES, "total({'id': 2, 'price': 1, 'count': 1})", **BOX)
            assert not other.exists()
            assert len(list(tmp_path.glob("t.recovered.*.json"))) == 1
        finally:
            living.kill()


def test_a_forked_child_has_a_file_of_its_own(tmp_path):
    program = """
        @traced_node(operation="parent")
        def parent():
            child = os.fork()
            if not child:
                total({"id": 1, "price": 1, "count": 1})
                die("kill")
            os.waitpid(child, 0)
            if not os.fork():
                os._exit(0)
            os.wait()
            die("kill")
        parent()
    """
    run_program(tmp_path, NODES, program, code=-signal.SIGKILL, **BOX)
    (child,) = tmp_path.glob("app.*.ring")
    found = recover(child)
    assert (operations(found.steps), operations(found.in_flight)) == (["total"], ["parent", "die"])
    found = recover(tmp_path / "app.ring")
    assert (operations(found.steps), operations(found.in_flight)) == ([], ["parent", "die"])


@pytest.mark.costly
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing(method, tmp_path):
    program = f"""
        import multiprocessing
        def work(how):
            total({{"id": 1, "price": 1, "count": 1}})
            die(how)
        if __name__ == "__main__":
            total({{"id": 1, "price": 1, "count": 1}})
            context = multiprocessing.get_context({method!r})
            for how in ("", "kill"):
                worker = context.Process(target=work, args=(how,))
                worker.start()
                worker.join()
                print(worker.exitcode)
    """
    done = run_program(tmp_path, NODES, program, **BOX)
    assert done.stdout == "0\n-9\n"
    (ring,) = tmp_path.glob("*.ring")
    assert operations(recover(ring).in_flight) == ["die"]


def test_generators_and_coroutines_in_flight(tmp_path):
    program = """
        import asyncio
        @traced_node
        def items():
            yield 1
        @traced_node
        async def waits(name):
            await asyncio.sleep(30)
        @traced_node
        async def main():
            opened = items()
            next(opened)
            asyncio.create_task(waits("a"))
            await asyncio.sleep(0)
            die("kill")
        asyncio.run(main())
    """
    run_program(tmp_path, NODES, program, code=-signal.SIGKILL, **BOX, **CAPTURE)
    trace = recover(tmp_path / "app.ring")
    assert operations(trace.in_flight) == ["main", "items", "waits", "die"]
    ids = {step.operation: step.step_id for step in trace.in_flight}
    assert [step.parent_step_id for step in trace.in_flight] == [None, ids["main"], ids["main"], ids["main"]]


def test_threads(tmp_path):
    program = """
        import threading
        gate = threading.Barrier(9)
        @traced_node
        def hang(number):
            gate.wait()
            threading.Event().wait(30)
        def work(number):
            for count in range(500):
                total({"id": number, "price": 1, "count": count})
            hang(number)
        for number in range(8):
            threading.Thread(target=work, args=(number,), daemon=True).start()
        gate.wait()
        die("kill")
    """
    run_program(tmp_path, NODES, program, code=-signal.SIGKILL, **BOX, **CAPTURE)
    trace = recover(tmp_path / "app.ring")
    assert operations(trace.in_flight).count("hang") >= 7
    assert (operations(trace.steps), trace.dropped_steps) == (["total"] * 20, 3980)
    for step in trace.steps:
        assert step.output_json["total"] == step.invocation_json["payload"]["order"]["count"]


@pytest.mark.slow
def test_thirty_kills_at_random_moments_tear_nothing(tmp_path):
    program = """
        @traced_node
        def nest(depth, text):
            return nest(depth - 1, text) if depth else [text]
        for _ in range(30):
            nest(0, "")
        print("ready", flush=True)
        while True:
            for depth in range(5):
                nest(depth, "x" * (depth * 700))
    """
    for number in range(30):
        with start(tmp_path, NODES, program, **BOX, **CAPTURE) as running:
            running.stdout.readline()
            time.sleep(0.02 + random.random() / 20)
            running.kill()
        content = ring_file.read(tmp_path / "app.ring")
        trace = trace_of(content)
        assert content.torn <= 1
        assert len(trace.steps) == 20
        assert len(trace.in_flight) <= 6
        numbers = [int(step.step_id, 16) for step in trace.steps]
        assert len(set(numbers)) == 20
        for step in trace.steps:
            assert step.output_json == [step.invocation_json["payload"]["text"]]
            assert step.input_hash.value == flowtrace.hash_value(step.invocation_json["payload"])
        (tmp_path / "app.ring").unlink()
        Path(tmp_path / "p0.py").unlink(missing_ok=True)


def box(folder, **changes):
    flowtrace.configure(mode="on", out_path=folder / "t.json", blackbox=folder / "app.ring", **changes)
    return folder / "app.ring"


@pytest.mark.costly
def test_its_size_is_fixed_from_the_start(tmp_path):
    path = box(tmp_path, capture_inputs=True, capture_outputs=True)
    size = path.stat().st_size
    assert size == ring_file.HEADER + ring_file.TABLE + ring_file.SLOT * (
        20 + ring_file.MARGIN + ring_file.MOST_IN_FLIGHT
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_blocks * 512 >= size  # a disk that is full later can't take them away
    for number in range(2000):
        double("x" * number)
    assert path.stat().st_size == size
    trace = recover(path)
    assert len(trace.steps) == 20
    assert trace.dropped_steps == 1980


def test_a_value_that_has_no_room_keeps_its_hash(tmp_path):
    path = box(tmp_path, capture_inputs=True, capture_outputs=True)
    for size in (5_000, 200_000):
        double("x" * size)
    cuts = [step.invocation_json["payload"] for step in recover(path).steps]
    assert [cut["reason"] for cut in cuts] == [
        "larger than a slot of the black box",
        "larger than FLOWTRACE_MAX_VALUE_BYTES",
    ]
    assert [step.output_hash.value for step in recover(path).steps] == [
        flowtrace.hash_value({"twice": "x" * size}) for size in (5_000, 200_000)
    ]


@pytest.mark.costly
def test_an_error_that_has_no_room_is_cut_and_harms_no_other_step(tmp_path):
    @traced_node
    def fail(text):
        raise ValueError(text) from KeyError(text)

    path = box(tmp_path, buffer_size=500)
    texts = ["\x01" * 8000, "x" * 8000, "short", "é" * 3000]
    for text in texts * 100:
        double(1)
        with pytest.raises(ValueError):
            fail(text)
    trace = recover(path)
    assert len(trace.steps) == 500
    messages = [step.error.message for step in trace.steps if step.error][-4:]
    assert messages == ["", "x" * 1000, "short", "é" * 1000]


def test_more_steps_in_flight_than_slots_cost_no_result(tmp_path, stderr):
    @traced_node
    def items():
        yield 1

    path = box(tmp_path)
    waiting = [items() for _ in range(600)]
    assert [next(item) for item in waiting] == [1] * 600
    assert len(recover(path).in_flight) == 20 + ring_file.MARGIN + ring_file.MOST_IN_FLIGHT
    for item in waiting:
        item.close()
    for number in range(30):
        double(number)
    trace = recover(path)
    assert operations(trace.steps) == ["double"] * 20
    assert trace.in_flight == []
    assert stderr.readouterr().err.count("no room for more steps in flight") == 1


def test_configuring_anew_takes_the_steps_along(tmp_path):
    @traced_node
    def outer():
        with flowtrace.override(redact=("value",), capture_inputs=True):
            double("hidden")
            seen.append(recover(path))

    seen = []
    path = box(tmp_path)
    double(1)
    outer()
    assert operations(seen[0].steps) == ["double"]
    assert operations(seen[0].in_flight)[0].endswith("outer")
    assert seen[0].steps[0].invocation_json["payload"] == {"value": "__REDACTED__"}
    after = recover(path)
    assert [step.rpartition(".")[2] for step in operations(after.steps)] == ["double", "outer"]
    flowtrace.configure(mode="on", out_path=tmp_path / "t.json")
    assert not path.exists()


def test_a_step_that_runs_is_listed_once_whatever_becomes_of_the_box(tmp_path):
    @traced_node
    def outer(number):
        changes[number]()
        seen.append([step.node.operation.rpartition(".")[2] for step in running()])
        return inner(1)

    @traced_node
    def inner(value):
        seen.append([step.node.operation.rpartition(".")[2] for step in running()])
        flowtrace.dump(tmp_path / "d.json")
        return value

    changes = [
        lambda: seen.append(len(STATE.in_flight)),
        lambda: flowtrace.configure(mode="on", out_path=tmp_path / "t.json"),
        lambda: box(tmp_path),
        lambda: box(tmp_path),
    ]
    seen = []
    box(tmp_path)
    outer(0)  # the first call of a function goes another way
    for number in range(len(changes)):
        seen.clear()
        outer(number)
        assert seen == [*([0] if number == 0 else []), ["outer"], ["outer", "inner"]]  # 0: it is not in `in_flight`
        dumped = load_trace(tmp_path / "d.json")
        assert [name.rpartition(".")[2] for name in operations(dumped.in_flight)] == ["outer", "inner"]
        assert (running(), STATE.in_flight) == ([], {})


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_step_that_ends_while_its_box_closes_is_not_listed_for_ever(has_ended):
    step = new_step(None)
    step.number, step.ended = 1, int(has_ended)
    holder = types.SimpleNamespace(step=step)
    holders = [holder]
    STATE.slots.append(holders)
    assert running() == [step]
    release(holders)
    assert holder.step is None
    assert running() == ([] if has_ended else [step])
    STATE.in_flight.clear()


def test_an_engine_is_recorded_too(tmp_path):
    path = box(tmp_path, capture_inputs=True)
    recorder = flowtrace.get_recorder()
    first, second = (flowtrace.NodeEvent(name, "engine", "op", {"n": 1, "token": "t-secret"}) for name in "ab")
    recorder.on_node_start(first)
    recorder.on_node_end(first, 1)
    recorder.on_node_start(second)
    trace = recover(path)
    assert [step.node_id for step in trace.steps] == ["a"]
    assert [step.node_id for step in trace.in_flight] == ["b"]
    assert trace.steps[0].invocation_json["payload"] == {"n": 1, "token": "__REDACTED__"}


@pytest.mark.parametrize(
    "path",
    ["missing/app.ring", "missing/", "link.ring", "dangling.ring", "folder.ring/", "mine.ring", "pipe.ring", "x" * 300],
)
def test_an_unusable_path_is_one_warning(path, tmp_path, stderr):
    (tmp_path / "folder.ring/blackbox.ring").mkdir(parents=True)
    (tmp_path / "mine.ring").write_text("my file")
    (tmp_path / "link.ring").symlink_to("mine.ring")
    (tmp_path / "dangling.ring").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.ring")
    before = sorted(path.name for path in tmp_path.iterdir())
    for _ in range(3):
        flowtrace.configure(mode="on", out_path="t.json", blackbox=path)
        assert double(2) == {"twice": 2}
    assert stderr.readouterr().err.count("black box can't be used") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "mine.ring").read_text() == "my file"


def test_a_full_disk_is_found_out_at_the_start(tmp_path, monkeypatch, stderr):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(system.os, "posix_fallocate", full)
    box(tmp_path)
    assert double(2) == {"twice": 2}
    assert "No space left on device" in stderr.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.costly
def test_a_file_size_limit_is_a_warning(tmp_path):
    program = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    """
    calls = """
        print(total({"id": 1, "price": 1, "count": 1}))
    """
    done = run_program(tmp_path, program, NODES, calls, **BOX)
    assert done.stdout == "{'id': 1, 'total': 1}\n"
    assert done.stderr.count("black box can't be used") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


# --- reading what nobody can trust


@pytest.fixture(scope="module")
def ring_bytes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ring")
    program = "flow_ = [total({'id': n, 'price': 1, 'count': 1}) for n in range(5)]; run('kill')"
    settings_ = {"FLOWTRACE_BUFFER_SIZE": "3"}
    run_program(folder, NODES, program, code=-signal.SIGKILL, **BOX, **CAPTURE, **settings_)
    data = (folder / "app.ring").read_bytes()
    return data[: ring_file.HEADER + ring_file.TABLE + 20 * ring_file.SLOT]


def readable(data):
    """Return the trace of some bytes, which is a valid one; None where they are no ring file."""
    try:
        trace = trace_of(ring_file.parse(data))
    except RingFileError:
        return None
    assert parse_trace(pretty(new_document(trace))).trace_version == 1
    return trace


_RELAXED = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.costly
@_RELAXED
@given(flips=st.lists(st.tuples(st.integers(0, 2**22), st.integers(1, 255)), min_size=1, max_size=20))
def test_flipped_bytes_leave_the_records_that_are_whole(ring_bytes, flips):
    data = bytearray(ring_bytes)
    places = [0, 40, ring_file.HEADER]
    for place, mask in flips:
        slot = ring_file.HEADER + ring_file.TABLE + place % 20 * ring_file.SLOT + (place // 20) % 300
        at = slot if place % 5 else places[place % 3] + place % 300
        data[at] ^= mask
    whole = readable(ring_bytes)
    trace = readable(bytes(data))
    if (
        trace is not None
        and bytes(data[: ring_file.HEADER + ring_file.TABLE]) == ring_bytes[: ring_file.HEADER + ring_file.TABLE]
    ):
        known = {step.step_id: step for step in (*whole.steps, *whole.in_flight)}
        for step in trace.steps:
            if step.step_id in known:
                assert step == known[step.step_id]


@pytest.mark.costly
@_RELAXED
@given(length=st.integers(0, ring_file.HEADER + ring_file.TABLE + 20 * ring_file.SLOT))
def test_a_truncated_file_gives_what_is_good(ring_bytes, length):
    trace = readable(ring_bytes[:length])
    assert trace is None or len(trace.steps) <= 3


@_RELAXED
@given(
    header=st.dictionaries(
        st.sampled_from(["pid", "epoch", "started", "buffer_size", "run_id", "flow_id", "host", "identity"]),
        st.one_of(st.none(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=5), st.lists(st.none(), max_size=2)),
    ),
    node=st.recursive(st.one_of(st.none(), st.integers(), st.text(max_size=3)), lambda x: st.lists(x, max_size=4)),
    about=st.dictionaries(
        st.sampled_from(["opaque", "redacted", "failure", "issues", "state_delta", "size"]),
        st.one_of(st.none(), st.integers(-5, 5), st.lists(st.text(max_size=3), max_size=4)),
    ),
    given_numbers=st.lists(st.integers(0, 2**63 - 1), min_size=5, max_size=5),
)
def test_well_formed_nonsense_gives_a_valid_trace(header, node, about, given_numbers):
    def body(layout, *fields):
        told = json.dumps(about).encode()
        tail = b"[[1]" + told
        numbers = (*fields, ring_file.pack_integer(4, len(told), ring_file.HAS_DATA), given_numbers[0] or 1)
        return layout.pack(ring_file.checksum(tail, *numbers), *numbers) + tail

    head = json.dumps(header).encode()
    table = ring_file.framed(json.dumps({"names": node, "code": {"module": node}}).encode())
    data = (ring_file.MAGIC.ljust(16, b"\0") + ring_file.framed(head)).ljust(ring_file.HEADER, b"\0")
    data += table.ljust(ring_file.TABLE, b"\0")
    data += body(ring_file.START, *given_numbers[1:4]) + body(ring_file.END, given_numbers[4])
    assert len(ring_file.parse(data).steps) == 1
    assert readable(data) is not None


@pytest.mark.parametrize(
    "data", [b"", b"x", b"{}", ring_file.MAGIC, ring_file.MAGIC + b"\xff" * 5000, os.urandom(9000)]
)
def test_what_is_no_ring_file_is_a_clear_error(data, tmp_path):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(RingFileError, match=r"x: (does not have the header of a ring file|has a damaged header)"):
        recover(tmp_path / "x")


def test_a_file_without_end_is_not_read(tmp_path):
    with (tmp_path / "x").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(RingFileError, match="larger than any ring file"):
        recover(tmp_path / "x")
    for other in ("/dev/zero", tmp_path):
        with pytest.raises((RingFileError, OSError)):
            recover(other)


# --- the command


def command(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "flowtrace", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.costly
def test_the_command(tmp_path):
    run_program(tmp_path, NODES, "run('kill')", code=-signal.SIGKILL, **BOX)
    printed = command(tmp_path, "recover", "app.ring")
    assert operations(parse_trace(printed.stdout.encode()).in_flight) == ["run", "die"]
    done = command(tmp_path, "recover", "app.ring", "--out", "crash.json")
    assert (done.returncode, done.stdout) == (0, "crash.json: 20 finished steps, 2 in flight\n")
    assert load_trace(tmp_path / "crash.json") == parse_trace(printed.stdout.encode())
    done = command(tmp_path, "recover", "app.ring", "--out", "crash.json", "--json")
    assert json.loads(done.stdout) == {"path": "crash.json", "steps": 20, "in_flight": 2}
    shown = command(tmp_path, "show", "crash.json")
    assert "process_died" in shown.stdout
    assert (command(tmp_path, "validate", "crash.json").returncode, validate(tmp_path / "crash.json")) == (0, [])


@pytest.mark.costly
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("missing", "there is no file 'missing'"),
        ("rings/app.ring", "there is no file 'rings/app.ring'; there is 'rings/app.77.ring'"),
        ("rings/other.ring", "there is no file 'rings/other.ring'; there is 'rings/app.77.ring'"),
        ("nowhere/app.ring", "there is no folder 'nowhere'"),
        ("program.py", "program.py: does not have the header of a ring file of this version"),
        (".", "there is no ring file in the folder '.'"),
        ("trace.json", "'trace.json' is a trace already: flowtrace show trace.json"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(name, complaint, tmp_path):
    (tmp_path / "program.py").write_text("pass")
    (tmp_path / "trace.json").write_text('{"trace_version": 1}')
    (tmp_path / "rings").mkdir()
    (tmp_path / "rings/app.77.ring").write_bytes(ring_file.MAGIC)
    done = command(tmp_path, "recover", name)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"flowtrace: {complaint}\n")


@pytest.mark.costly
def test_a_folder_means_the_ring_file_in_it(tmp_path):
    (tmp_path / "rings").mkdir()
    killed = {**BOX, "FLOWTRACE_BLACKBOX": "rings"}
    run_program(tmp_path, NODES, "run('kill')", code=-signal.SIGKILL, **killed)
    assert [path.name for path in (tmp_path / "rings").iterdir()] == ["blackbox.ring"]
    assert ring_file.MAGIC.startswith(RING)
    done = command(tmp_path, "recover", "rings", "--out", "out/")
    assert (done.returncode, done.stdout) == (0, "out/trace.json: 20 finished steps, 2 in flight\n")
    shown = command(tmp_path, "show", "rings/blackbox.ring")
    reason = "is a ring file; a trace of it is made by: flowtrace recover rings/blackbox.ring"
    assert (shown.returncode, shown.stderr) == (2, f"flowtrace: rings/blackbox.ring: at (whole document): {reason}\n")
    assert command(tmp_path, "show", "rings").stderr.splitlines()[-1] == (
        "Error: Invalid value for 'TRACE': there is no trace in the folder 'rings'; "
        "of a ring file: flowtrace recover rings/blackbox.ring"
    )


@pytest.mark.costly
def test_a_thread_that_switches_it_on_and_off_breaks_no_call(tmp_path, stderr):
    stop = threading.Event()

    def work():
        while not stop.is_set():
            assert double(3) == {"twice": 3}

    threads = [threading.Thread(target=work) for _ in range(4)]
    box(tmp_path)
    for thread in threads:
        thread.start()
    for number in range(30):
        box(tmp_path, capture_inputs=bool(number % 2))
        flowtrace.configure(mode="on", out_path=tmp_path / "t.json")
    stop.set()
    for thread in threads:
        thread.join()
    assert STATE.recorder.policy.processor is None
    assert stderr.readouterr().err == ""


class Odd:
    """Has a value of which no snapshot can be taken."""


def test_what_is_cut_in_a_value_is_known_after_the_process_died(tmp_path):
    with flowtrace.override(
        mode="on", out_path=tmp_path / "t.json", blackbox=tmp_path / "app.ring", capture_outputs=True, max_value_work=50
    ):
        double([Odd(), *range(200)])
        (step,) = recover(tmp_path / "app.ring").steps
        assert [(part.path, part.reason, part.count) for part in step.cut] == [
            ("/invocation_json/payload/value/31", "work", 31),
            ("/output_json/twice/31", "work", 31),
        ]
