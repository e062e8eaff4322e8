"""`flowtrace check`, with real programs in real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from flowtrace import load_trace
from tests.cli.commands import SCRIPT, flowtrace, flowtrace_process

HEAD = "import os, random, sys\nfrom pathlib import Path\nfrom flowtrace import flow, propagate, traced_node\n"


def program(text, name="program.py"):
    Path(name).write_text(HEAD + textwrap.dedent(text), encoding="utf-8")


STEADY = """
    @traced_node(component="c")
    def double(number):
        return 2 * number

    with flow("numbers"):
        print([double(number) for number in range(3)])
    double(9)
"""


@pytest.mark.costly
def test_a_program_that_does_the_same_each_time_passes():
    program(STEADY)
    done = flowtrace_process("check", "program.py")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "deterministic  3 runs of program.py, 5 steps\n",
        "[0, 2, 4]\n",
    )
    assert [path.name for path in Path().iterdir()] == ["program.py"]


@pytest.mark.costly
def test_the_output_of_the_first_run_can_be_kept_quiet():
    program(STEADY)
    assert flowtrace("check", "--quiet", "program.py").stderr == ""


@pytest.mark.costly
def test_the_first_node_that_is_not_deterministic_is_named():
    program("""
        @traced_node(component="c")
        def steady(number):
            return number

        @traced_node(component="c")
        def roll(sides):
            return {"rolled": os.getpid(), "sides": sides}

        @traced_node(component="c")
        def total(rolls):
            return sum(roll["rolled"] for roll in rolls)

        @traced_node(component="c")
        def game():
            steady(1)
            return total([roll(6), roll(6)])

        game()
    """)
    done = flowtrace("check", "-n", "2", "program.py")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[:8] == [
        "not deterministic  2 runs of program.py, 5 steps",
        "first node that is not deterministic: c.roll",
        "",
        "A is run 1, B is run 2",
        "first divergence: c.roll, call 1, inside c.game: output changed",
        "  same input, same code: it is not deterministic",
        "  step            A /steps/1   B /steps/1",
        "  output          1 value differs",
    ]
    assert done.stdout.splitlines()[8].startswith("                  /rolled  ")


@pytest.mark.costly
@pytest.mark.parametrize(
    ("body", "culprit"),
    [
        ("def node(x): return x\nnode(os.getpid())", None),
        (
            "def inner(x): return x\n"
            "@traced_node(component='c')\n"
            "def outer(): return bool(inner(os.getpid()))\n"
            "outer()",
            "c.outer",
        ),
        ("def node(x): raise ValueError(os.getpid())\ntry: node(1)\nexcept ValueError: pass", "c.node"),
        ("def node(x): return x\nwith flow('job'): node(os.getpid())", "job"),
    ],
    ids=["outside", "caller", "error", "flow"],
)
def test_what_makes_the_difference_is_named(body, culprit):
    program(f"@traced_node(component='c')\n{body}\n")
    done = flowtrace("check", "--json", "-n", "2", "program.py")
    document = json.loads(done.stdout)
    assert (done.returncode, document["deterministic"], document["node"]) == (1, False, culprit)


@pytest.mark.costly
def test_a_step_that_is_not_always_there_is_the_fault_of_its_caller():
    program("""
        @traced_node(component="c")
        def rare(): return 1

        @traced_node(component="c")
        def caller():
            count = Path("count")
            count.write_text(str(int(count.read_text()) + 1) if count.exists() else "1")
            if count.read_text() == "3":
                rare()

        caller()
    """)
    document = json.loads(flowtrace("check", "--json", "program.py").stdout)
    assert [result["verdict"] for result in document["diffs"]] == ["same", "different"]
    assert [run["steps"] for run in document["runs"]] == [1, 1, 2]
    assert document["node"] == "c.caller"
    assert document["diffs"][1]["first"]["kind"] == "step added"
    Path("count").unlink()
    done = flowtrace("check", "program.py")
    assert done.stdout.splitlines()[0] == "not deterministic  3 runs of program.py, different numbers of steps"
    assert done.stdout.splitlines()[-1] == "run 2: same as run 1"


UNSEEN = """
    class Worker:
        __slots__ = ("number",)
        def __init__(self):
            self.number = os.getpid()

    @traced_node(component="c")
    def inner(number): return number

    @traced_node(component="c")
    def label(worker):
        {body}

    @traced_node(component="c")
    def roll(sides): return os.getpid()

    label(Worker())
    {more}
"""


@pytest.mark.costly
@pytest.mark.parametrize("body", ["return f'worker {worker.number}'", "inner(worker.number)"])
def test_what_may_come_from_an_input_that_is_not_seen_is_no_failure(body):
    program(UNSEEN.format(body=body, more=""))
    done = flowtrace("check", "program.py")
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[0]) == (
        0,
        f"deterministic as far as it can be seen  3 runs of program.py, {steps(body)}",
    )
    assert lines[1] == "first node that may not be deterministic: c.label"
    assert "the same as far as it can be seen (opaque at /worker)" in done.stdout
    document = json.loads(flowtrace("check", "--json", "program.py").stdout)
    assert (document["deterministic"], document["node"]) == (True, None)
    assert document["diffs"][0]["first"]["unseen"] == ["opaque at /worker"]


def steps(body):
    return "2 steps" if "inner" in body else "1 step"


@pytest.mark.costly
def test_a_node_that_is_not_deterministic_for_certain_is_named_after_one_that_may_not_be():
    program(UNSEEN.format(body="return worker.number", more="roll(6)"))
    done = flowtrace("check", "program.py")
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[0]) == (1, "not deterministic  3 runs of program.py, 2 steps")
    assert lines[1] == "first node that is not deterministic: c.roll"


@pytest.mark.costly
def test_the_seed_of_hashes_is_not_fixed():
    program("""
        @traced_node(component="c")
        def join(words): return ",".join(set(words))

        join([f"word{number}" for number in range(50)])
    """)
    assert flowtrace("check", "program.py", PYTHONHASHSEED=None).returncode == 1
    assert flowtrace("check", "program.py", PYTHONHASHSEED="1").returncode == 0


@pytest.mark.costly
def test_threads_and_flows_in_any_order_are_no_difference():
    program("""
        import time
        from concurrent.futures import ThreadPoolExecutor

        @traced_node(component="c")
        def work(number):
            time.sleep(random.random() / 100)
            return number * 2

        def job(number):
            with flow("job"):
                return work(number)

        work(0)
        with flow("before"):
            work(1)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(job, range(12)))
            with flow("shared"):
                list(pool.map(propagate(work), range(12)))
    """)
    done = flowtrace("check", "program.py")
    assert (done.returncode, done.stdout) == (0, "deterministic  3 runs of program.py, 40 steps\n")


@pytest.mark.costly
def test_child_processes_are_compared_too():
    program("""
        import multiprocessing

        @traced_node(component="c")
        def work(number):
            return number if "steady" in sys.argv else os.getpid()

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                pool.map(work, [1, 2])
                pool.close()
                pool.join()
            work(3) if "steady" in sys.argv else None
    """)
    steady = flowtrace("check", "-n", "2", "program.py", "steady")
    assert (steady.returncode, steady.stdout) == (0, "deterministic  2 runs of program.py steady, 3 steps\n")
    assert flowtrace("check", "-n", "2", "program.py").returncode == 1


@pytest.mark.costly
def test_exit_codes_are_told_and_have_to_be_the_same():
    program("""
        @traced_node(component="c")
        def fail(): raise ValueError("no")

        fail()
    """)
    done = flowtrace("check", "--quiet", "program.py")
    assert (done.returncode, done.stdout) == (
        0,
        "deterministic  3 runs of program.py, 1 step\neach run ended with exit code 1\n",
    )
    program("""
        @traced_node(component="c")
        def fine(): return 1

        fine()
        again = Path("again")
        code = 3 if again.exists() else 0
        again.touch()
        sys.exit(code)
    """)
    done = flowtrace("check", "--quiet", "program.py")
    assert (done.returncode, done.stdout.splitlines()[:2]) == (
        1,
        ["not deterministic  3 runs of program.py, 1 step", "exit codes: 0, 3, 3"],
    )


@pytest.mark.costly
def test_a_file_as_input_is_read_by_each_run_from_its_beginning():
    program("""
        @traced_node(component="c")
        def read(): return sys.stdin.read()

        print(read())
    """)
    Path("input.txt").write_text("hello")
    with Path("input.txt").open() as file:
        done = flowtrace("check", "--json", "program.py", stdin=file)
    assert (done.returncode, done.stderr) == (0, "hello\n")
    assert flowtrace_process("check", "program.py", stdin="a pipe").stderr == "\n"


@pytest.mark.costly
def test_the_traces_can_be_kept_and_compared_again():
    program("""
        @traced_node(component="c")
        def node(text): return os.getpid()

        with flow("f"):
            node("x" * 100)
    """)
    done = flowtrace("check", "-n", "2", "--keep", "kept", "program.py", FLOWTRACE_MAX_VALUE_BYTES="50")
    assert done.returncode == 1
    runs = [Path("kept") / name / "program.json" for name in ("run-1", "run-2")]
    assert [[step.node_id for step in load_trace(path).steps] for path in runs] == [["c.node", "f"]] * 2
    assert flowtrace("validate", "--strict", *runs).returncode == 0
    assert flowtrace("diff", *runs).stdout.splitlines()[3] == (
        "first divergence: c.node, call 1, inside f: output changed"
    )
    assert len(list(Path("kept").rglob("*.json"))) == 4
    again = flowtrace("check", "--keep", "kept", "program.py")
    complaint = "flowtrace: kept: is not empty; the traces would mix with the files in it\n"
    assert (again.returncode, again.stdout, again.stderr) == (2, "", complaint)


@pytest.mark.costly
def test_modules_options_and_patterns_are_passed_on():
    Path("pkg").mkdir()
    Path("pkg/__init__.py").touch()
    Path("pkg/nodes.py").write_text("def node(x): return x\n")
    Path("pkg/main.py").write_text("import sys\nfrom pkg.nodes import node\nprint(node(sys.argv[1:]))\n")
    done = flowtrace("check", "--auto", "pkg.nodes", "-m", "pkg.main", "--quiet", "-n")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "deterministic  3 runs of -m pkg.main --quiet -n, 1 step\n",
        "['--quiet', '-n']\n",
    )


@pytest.mark.parametrize(
    ("arguments", "variables", "complaint"),
    [
        ((), {}, "Error: name a program to run: SCRIPT, -m MODULE or -c CODE"),
        (("-n", "1", "program.py"), {}, "Error: one run can only be compared with a --baseline"),
        (
            ("--quiet", "-c", "import sys; sys.exit(4)"),
            {},
            "flowtrace: nothing was recorded: no decorated function was called (exit code 4); see --auto",
        ),
        (
            ("--quiet", "program.py"),
            {"FLOWTRACE_DISABLED": "1"},
            "flowtrace: nothing was recorded: FLOWTRACE_DISABLED is set",
        ),
    ],
)
def test_what_can_not_be_checked_ends_with_2(arguments, variables, complaint):
    program(STEADY)
    done = flowtrace("check", *arguments, **variables)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (2, "", complaint)


@pytest.mark.costly
def test_what_rolled_out_of_the_buffer_is_told():
    program("""
        @traced_node(component="c")
        def node(number): return number

        with flow("f"):
            for number in range(30): node(number)
    """)
    done = flowtrace("check", "-n", "2", "program.py", FLOWTRACE_BUFFER_SIZE="20")
    assert done.returncode == 0
    assert "steps that had rolled out of the buffer (10)" in done.stdout


@pytest.mark.costly
def test_ctrl_c_ends_it_with_130():
    program("""
        import time
        print("here", flush=True)
        time.sleep(60)
    """)
    command = [str(SCRIPT), "check", "program.py"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0)
    assert running.stderr.readline() == "here\n"
    subprocess.run([sys.executable, "-c", f"import os; os.killpg({running.pid}, 2)"], check=True)
    running.communicate(timeout=60)
    assert running.returncode == 130
