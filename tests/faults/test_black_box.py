"""The black box on disks that are full, beside files of others, and what dead processes leave over the years."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import weakref
from pathlib import Path

import pytest

import flowtrace
from flowtrace import load_trace, recover, traced_node
from flowtrace.blackbox import recover as recovered
from flowtrace.blackbox import ring_file
from flowtrace.blackbox.recover import trace_of
from flowtrace.replaying.call_again import replay_recorder
from flowtrace.settings.config import TraceConfig
from tests.faults.scenario import ROOT, memory_group, mounted
from tests.programs import run_program

NODES = """
    import os, signal
    from pathlib import Path
    from flowtrace import traced_node

    @traced_node(operation="double")
    def double(value):
        return [value, value]

    @traced_node(operation="die")
    def die():
        os.kill(os.getpid(), signal.SIGKILL)
"""
BOX = {"FLOWTRACE_MODE": "on", "FLOWTRACE_OUT": "t.json", "FLOWTRACE_BLACKBOX": "app.ring"}
CAPTURE = {"FLOWTRACE_CAPTURE_INPUTS": "1", "FLOWTRACE_CAPTURE_OUTPUTS": "1"}
KILLED = -signal.SIGKILL


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".py")


@traced_node(operation="double")
def double(value):
    return [value, value]


# --- full disks


@pytest.mark.costly
@ROOT
def test_a_disk_without_room_for_the_ring_is_one_warning(tmp_path):
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=256k", "tmpfs") as disk:
        program = "for number in range(1000): assert double(number) == [number, number]"
        done = run_program(tmp_path, NODES, program, **BOX | {"FLOWTRACE_BLACKBOX": f"{disk}/app.ring"})
        assert done.stderr.count("\n") == 1
        assert "black box can't be used" in done.stderr
        assert "No space left on device" in done.stderr
        assert names(disk) == []


@pytest.mark.costly
@ROOT
def test_a_disk_that_fills_up_later_takes_nothing_from_the_ring(tmp_path):
    fill = """
        double("before")
        filler = Path(os.environ["FLOWTRACE_BLACKBOX"]).with_name("filler")
        try:
            with filler.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 1000)
        except OSError as error:
            assert error.strerror == "No space left on device"
        for number in range(3000):
            double("x" * number)
        die()
    """
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=8m", "tmpfs") as disk:
        environment = BOX | CAPTURE | {"FLOWTRACE_BLACKBOX": f"{disk}/app.ring", "FLOWTRACE_BUFFER_SIZE": "100"}
        done = run_program(tmp_path, NODES, fill, code=KILLED, **environment)
        assert done.stderr == ""
        trace = recover(disk / "app.ring")
        sizes = [len(step.invocation_json["payload"]["value"]) for step in trace.steps]
        assert sizes == list(range(2900, 3000))
        assert [step.operation for step in trace.in_flight] == ["die"]


@pytest.mark.costly
@ROOT
def test_a_trace_that_can_not_be_written_leaves_the_ring_for_the_next_run(tmp_path):
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=256k", "tmpfs") as disk:
        environment = BOX | {"FLOWTRACE_OUT": f"{disk}/t.json"}
        (disk / "filler").write_bytes(b"x" * (256 << 10))
        for number in range(2):
            run_program(tmp_path, NODES, f"double({number}); die()", code=KILLED, **environment)
        rings = names(tmp_path)
        assert (len(rings), names(disk)) == (3, ["filler"])  # the folder of the disk, and the two
        done = run_program(tmp_path, NODES, "assert double(2) == [2, 2]", **environment)
        assert done.stderr.count("failed to write the trace of a process that died") == 2, done.stderr
        assert names(tmp_path) == rings
        (disk / "filler").unlink()
        done = run_program(tmp_path, NODES, "double(3)", **environment)
        assert done.stderr.count("made a trace of a process that died") == 2
        assert names(tmp_path) == ["disk"]
        found = [load_trace(path) for path in disk.glob("t.recovered.*.json")]
        assert [step.operation for trace in found for step in (*trace.steps, *trace.in_flight)] == ["double", "die"] * 2


@pytest.mark.costly
@ROOT
def test_no_new_ring_is_made_where_too_many_wait(tmp_path):
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64k", "tmpfs") as disk:
        environment = BOX | {"FLOWTRACE_OUT": f"{disk}/t.json"}
        (disk / "filler").write_bytes(b"x" * (64 << 10))
        run_program(tmp_path, NODES, "double(1); die()", code=KILLED, **environment)
        for number in range(1, 21):
            shutil.copy(tmp_path / "app.ring", tmp_path / f"app.{number}.ring")
        before = names(tmp_path)
        done = run_program(tmp_path, NODES, "assert double(2) == [2, 2]; die()", code=KILLED, **environment)
        assert done.stderr.count("black box can't be used") == 1
        assert "as those of 20 more" in done.stderr
        assert names(tmp_path) == before


# --- the kernel's own kill


@ROOT
def test_what_the_out_of_memory_killer_ends_leaves_its_last_steps_and_its_stack(tmp_path):
    program = """
        import sys

        @traced_node(operation="hoard")
        def hoard(step):
            held = [double(number)[0] for number in range(5)]
            while True:
                held.append(bytearray(b"x") * step)

        Path(sys.argv[1]).write_text(str(os.getpid()))
        hoard(1 << 20)
    """
    with memory_group(96 << 20) as members:
        run_program(tmp_path, NODES, program, arguments=[str(members)], code=KILLED, **BOX, **CAPTURE)
    trace = recover(tmp_path / "app.ring")
    assert [step.output_json for step in trace.steps] == [[number, number] for number in range(5)]
    assert [(step.operation, step.error.code) for step in trace.in_flight] == [("hoard", "process_died")]
    assert trace.in_flight[0].invocation_json["payload"] == {"step": 1 << 20}


# --- torn records


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ring")
    run_program(folder, NODES, "[double(n) for n in range(3)]; die()", code=KILLED, **BOX, **CAPTURE)
    return (folder / "app.ring").read_bytes()


def place(ring, number):
    """Return where the slot of the step with a number begins."""
    for at in range(ring_file.FIRST, len(ring), ring_file.SLOT):
        if int.from_bytes(ring[at + ring_file.START.size - 8 :][:8], "little") == number:
            return at
    raise AssertionError(number)


def steps(data):
    content = ring_file.parse(bytes(data))
    trace = trace_of(content)
    finished = [step.invocation_json["payload"]["value"] for step in trace.steps]
    running = [step.invocation_json["payload"].get("value") for step in trace.in_flight]
    return finished, running, content.torn


def test_a_torn_end_is_a_step_that_still_runs(ring):
    assert steps(ring) == ([0, 1, 2], [None], 0)
    at = place(ring, 3)
    first = ring_file.parse(ring).steps
    size = next(start.size for start, _ in first if start.fields[0] == 3)
    for byte in range(at + size, at + size + ring_file.END.size + 1):
        data = bytearray(ring)
        data[byte] ^= 1
        assert steps(data) == ([0, 1], [2, None], 0)


def test_a_torn_start_takes_only_its_own_step_along(ring):
    at = place(ring, 3)
    for byte in range(at, at + ring_file.START.size + 3):
        data = bytearray(ring)
        data[byte] ^= 1
        assert steps(data) == ([0, 1], [None], 1)


def test_a_step_torn_at_any_byte_is_never_taken_for_a_whole_one(ring):
    """The slot of a step is half written over that of an older one, as a kill in the middle of a copy leaves it."""
    old, new = place(ring, 1), place(ring, 3)
    start, end = next(step for step in ring_file.parse(ring).steps if step[0].fields[0] == 3)
    for cut in range(start.size + end.size):
        data = bytearray(ring)
        data[old : old + cut] = ring[new : new + cut]
        if data[old : old + start.size + end.size] == ring[new : new + start.size + end.size]:
            break  # the last bytes of both are equal
        finished, running, _ = steps(data)
        assert set(finished) <= {0, 1, 2}
        assert finished[-2:] == [1, 2]
        is_whole = data[old : old + start.size] == ring[new : new + start.size]  # the last bytes of both may be equal
        assert set(running) <= ({0, 2, None} if is_whole else {0, None})


# --- what dead processes leave


def dead(folder, number):
    """Write the trace of a process that died, as a later run does."""
    recorder = flowtrace.get_recorder()
    trace = flowtrace.load_trace(folder / "dump.json")
    trace.run.id = f"{number:08x}" + "0" * 24
    trace.run.outcome = "interrupted"
    path = recovered.write(recorder, trace, {"pid": 1})
    os.utime(path, ns=(number, number))
    return Path(path).name


def test_recovered_traces_stay_few_and_nothing_of_others_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(recovered, "MOST", 3)
    flowtrace.configure(mode="on", out_path=tmp_path / "t.json")
    double(1)
    flowtrace.dump(tmp_path / "dump.json")
    changed = dead(tmp_path, 1)
    (tmp_path / changed).write_text((tmp_path / changed).read_text() + "\n")
    shutil.copy(tmp_path / changed, tmp_path / "t.recovered.00000002.json")  # the name of another run
    (tmp_path / "t.recovered.abcdef00.json").write_text("my own notes")
    (tmp_path / "t.recovered.mine.json").write_text("{}")
    (tmp_path / "t.recovered.abcdef01.json").symlink_to(changed)
    (tmp_path / "t.recovered.abcdef02.json").mkdir()
    kept = names(tmp_path)
    for path in tmp_path.iterdir():
        os.utime(path, ns=(0, 0), follow_symlinks=False)
    made = [dead(tmp_path, number) for number in range(10, 20)]
    assert sorted({*names(tmp_path)} - {*kept}) == made[-3:]
    assert {*kept} <= {*names(tmp_path)}


def test_only_recovered_traces_of_ones_own_path_count(tmp_path, monkeypatch):
    monkeypatch.setattr(recovered, "MOST", 2)
    flowtrace.configure(mode="on", out_path=tmp_path / "other.json")
    double(1)
    flowtrace.dump(tmp_path / "dump.json")
    others = [dead(tmp_path, number) for number in range(2)]
    flowtrace.configure(mode="on", out_path=tmp_path / "{pid}-{timestamp}.json")
    made = [dead(tmp_path, number) for number in range(2, 6)]
    assert names(tmp_path) == sorted([*others, *made[-2:], "dump.json"])


def test_a_foreign_file_with_a_name_of_ours_is_left_alone(tmp_path):
    (tmp_path / "app.7.ring").write_text("my own")
    (tmp_path / "app.8.ring").mkdir()
    done = run_program(tmp_path, NODES, "double(1); die()", code=KILLED, **BOX)
    assert done.stderr == ""
    assert [step.operation for step in recover(tmp_path / "app.ring").in_flight] == ["die"]
    assert (tmp_path / "app.7.ring").read_text() == "my own"


def test_a_replay_makes_no_ring_and_leaves_the_one_that_is_there(tmp_path):
    path = tmp_path / "app.ring"
    flowtrace.configure(mode="on", out_path=tmp_path / "t.json", blackbox=path)
    double(1)
    with replay_recorder(TraceConfig(blackbox=str(tmp_path / "replay.ring"))) as made:
        made.activate("blake3")
        double(2)
        assert names(tmp_path) == ["app.ring"]
    double(3)
    assert len(recover(path).steps) == 2
    flowtrace.configure(mode="off")
    assert names(tmp_path) == []


@pytest.mark.costly
@pytest.mark.parametrize("name", ["take", "make", "make_some"])
def test_a_step_that_an_alarm_ends_is_not_in_it(name, tmp_path):
    program = f"""
        import signal
        from flowtrace import register_codec

        class Late(Exception): pass
        class Slow: pass

        def ring(number, frame):
            raise Late

        signal.signal(signal.SIGUSR1, ring)
        register_codec(Slow, lambda _: signal.raise_signal(signal.SIGUSR1), Slow)

        @traced_node
        def take(value): pass

        @traced_node
        def make(value): return Slow()

        @traced_node
        def make_some(value): yield Slow()

        for _ in range(600):
            try:
                list({name}(Slow() if {name} is take else 1))
            except Late:
                continue
            raise AssertionError
        double(1)
        die()
    """
    done = run_program(tmp_path, NODES, program, code=KILLED, **BOX)
    assert done.stderr == ""
    trace = recover(tmp_path / "app.ring")
    assert [step.operation for step in trace.in_flight] == ["die"]
    assert trace.steps[-1].operation == "double"


# --- values that are larger than they look, and nodes that come and go


@pytest.mark.slow
def test_a_tuple_that_says_one_thing_a_billion_times_is_not_written_out(tmp_path):
    flowtrace.configure(mode="on", out_path=tmp_path / "t.json", blackbox=tmp_path / "app.ring", capture_inputs=True)
    value = ("x",)
    for _ in range(30):
        value = (value, value)
        gc.collect()
    assert double(value)[0] is value
    wide = dict.fromkeys(map(str, range(100_000)), "x" * 10_000)
    assert double(wide)[0] is wide
    assert len(recover(tmp_path / "app.ring").steps) == 2


@pytest.mark.costly
def test_steps_of_nodes_that_have_no_room_in_the_table_keep_their_values(tmp_path):
    program = """
        def node(number):
            @traced_node(component="c" * 900 + str(number), operation="swap")
            def swap(pair):
                return {"b": pair["a"], "a": pair["b"]}
            return swap
        for number in range(1500):
            assert node(number)({"b": number, "a": 0}) == {"a": number, "b": 0}
        die()
    """
    done = run_program(tmp_path, NODES, program, code=KILLED, **BOX, **CAPTURE)
    assert done.stderr.count("black box has no room for more nodes") == done.stderr.count("\n") == 1
    last = recover(tmp_path / "app.ring").steps[-1]
    assert (last.node_id, last.invocation_json["payload"]) == ("unknown", {"pair": {"a": 0, "b": 1499}})
    assert last.output_json == {"a": 1499, "b": 0}
    assert last.input_hash.value == flowtrace.hash_value({"pair": {"a": 0, "b": 1499}})


def test_a_damaged_table_costs_names_and_no_step(ring):
    data = bytearray(ring)
    data[ring_file.HEADER + 20] ^= 1
    trace = trace_of(ring_file.parse(bytes(data)))
    assert [step.output_json for step in trace.steps] == [[0, 0], [1, 1], [2, 2]]
    assert [step.invocation_json["payload"] for step in trace.steps] == [{"value": 0}, {"value": 1}, {"value": 2}]
    assert {step.operation for step in (*trace.steps, *trace.in_flight)} == {"unknown"}


@pytest.mark.costly
def test_nodes_that_come_and_go_are_not_kept_and_fill_no_table(tmp_path):
    flowtrace.configure(mode="on", out_path=tmp_path / "t.json", blackbox=tmp_path / "app.ring", buffer_size=2)
    gone = []
    for number in range(3000):

        def passing(value):
            return value

        node = traced_node(operation="passing")(passing)
        assert node(number) == number
        gone.append(weakref.ref(passing))
        recorder = flowtrace.get_recorder()
        event = flowtrace.NodeEvent("e", "engine", "op", number)
        recorder.on_node_start(event)
        recorder.on_node_end(event, 1)
    del node, passing
    gc.collect()
    assert sum(ref() is not None for ref in gone) <= 3
    content = ring_file.read(str(tmp_path / "app.ring"))
    assert [node["names"][2] for node in content.nodes.values()] == ["passing", "op"]
