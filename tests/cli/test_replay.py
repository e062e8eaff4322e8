"""`flowtrace replay`, as a shell calls it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import sys
import textwrap
from pathlib import Path

import pytest

from tests.cli.commands import SCRIPT, call, flowtrace, flowtrace_process

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BUG = "unsupported operand type(s) for /: 'float' and 'NoneType'"


@pytest.fixture
def fuel(tmp_path):
    """The example that fails, its trace, and how to mend it."""
    shutil.copytree(EXAMPLES / "data", tmp_path / "examples" / "data")
    script = shutil.copy(EXAMPLES / "fuel_economy.py", tmp_path / "examples")
    settings = {"FLOWTRACE_OUT": "artifacts/trace.json", "FLOWTRACE_CAPTURE_INPUTS": "1"}
    done = call(sys.executable, script, folder=tmp_path, **settings)
    assert done.returncode == 1
    return Path(script)


def mend(script):
    text = script.read_text(encoding="utf-8")
    mended = text.replace(
        'return round(LITRES_PER_100_KM / car["Miles_per_Gallon"], 2)',
        'return round(LITRES_PER_100_KM / (car["Miles_per_Gallon"] or 1e9), 2)',
    )
    assert mended != text
    script.write_text(mended, encoding="utf-8")


@pytest.mark.costly
def test_the_failure_of_the_example_is_reproduced(fuel):
    done = flowtrace_process("replay", "artifacts/trace.json")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == " 0 ✓ fuel.load               same output"
    assert lines[11] == f"11 ✓ fuel.litres_per_100_km  same error: TypeError: {BUG}"
    assert lines[12:] == ["12 as recorded"]


@pytest.mark.costly
def test_the_mended_example_differs(fuel):
    mend(fuel)
    done = flowtrace_process("replay", "artifacts", "--step", "11")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        f"11 ✗ fuel.litres_per_100_km  error vanished: it ended well; the recorded error is TypeError: {BUG}",
        "     the function's code has changed since it was recorded",
        "1 not as recorded",
    ]


@pytest.mark.costly
def test_the_tests_that_are_written_pass_before_and_after_the_mending(fuel, tmp_path):
    for name, options in (("test_bug.py", []), ("test_mended.py", ["--expect-fixed"])):
        done = flowtrace_process("replay", "artifacts/trace.json", "--emit-test", name, *options)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1] == f"the test is in {name}"

    def passes(name):
        done = call(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name)
        assert done.returncode in (0, 1), done.stdout
        return done.returncode == 0

    assert (passes("test_bug.py"), passes("test_mended.py")) == (True, False)
    mend(fuel)
    assert (passes("test_bug.py"), passes("test_mended.py")) == (False, True)


def test_json_is_for_machines_and_what_the_nodes_print_does_not_come_between(tmp_path):
    (tmp_path / "shouting.py").write_text(
        "from flowtrace import traced_node\n"
        "@traced_node(component='a', operation='shout')\n"
        "def shout(x):\n"
        "    print('SHOUT', x)\n"
        "    return x\n"
        "if __name__ == '__main__':\n"
        "    shout(1)\n"
    )
    settings = {"FLOWTRACE_OUT": "t.json", "FLOWTRACE_MODE": "always", "FLOWTRACE_CAPTURE_INPUTS": "1"}
    assert call(sys.executable, "shouting.py", **settings).returncode == 0
    before = Path("t.json").read_bytes()
    done = flowtrace("replay", "t.json", "--json", **settings)
    assert (done.returncode, done.stderr) == (0, "SHOUT 1\n")
    document = json.loads(done.stdout)
    assert (document["trace"], document["as_recorded"], document["counts"]) == ("t.json", True, {"same_output": 1})
    assert Path("t.json").read_bytes() == before
    piped = flowtrace("replay", "-", stdin=before.decode())
    assert (piped.returncode, piped.stdout) == (0, "0 ✓ a.shout  same output\n1 as recorded\n")


@pytest.mark.costly
def test_automatic_tracing_makes_replays_possible_that_it_recorded(tmp_path):
    (tmp_path / "nodes.py").write_text("def twice(x): return 2 * x\n")
    (tmp_path / "main.py").write_text("import nodes\nprint(nodes.twice(4))\n")
    done = flowtrace_process("run", "--auto", "nodes", "--capture", "--mode", "always", "--out", "t.json", "main.py")
    assert (done.returncode, done.stdout) == (0, "8\n")
    plain = flowtrace_process("replay", "t.json")
    assert (plain.returncode, "is not decorated with traced_node" in plain.stdout) == (1, True)
    assert flowtrace_process("replay", "t.json", "--auto", "nodes").returncode == 0
    assert flowtrace_process("replay", "t.json", FLOWTRACE_AUTO="nodes").returncode == 0


@pytest.mark.costly
def test_pdb_opens_at_the_failing_frame(fuel):
    done = flowtrace_process("replay", "artifacts/trace.json", "--step", "11", "--pdb", stdin="p car['Name']\nup\nq\n")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"step 11, fuel.litres_per_100_km: TypeError: {BUG}"
    assert lines[1].endswith("examples/fuel_economy.py(32)litres_per_100_km()")
    assert lines[3] == "(Pdb) 'citroen ds-21 pallas'"
    assert lines[-1] == "1 as recorded"


@pytest.mark.costly
def test_pdb_works_at_a_terminal(fuel):
    child, terminal = pty.fork()
    if child == 0:
        os.execve(SCRIPT, [str(SCRIPT), "replay", "artifacts", "--pdb"], {**os.environ, "TERM": "dumb"})
    os.write(terminal, b"p car['Cylinders'] * 1000 + 7\nq\n")
    shown = b""
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"\r\n-> return round(LITRES_PER_100_KM" in shown
    assert b"4007" in shown
    assert b"12 as recorded" in shown


@pytest.mark.costly
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ("--step", "99"),
            "flowtrace: there is no step 99: the trace has the steps 0 to 11; a step id or node id also chooses one",
        ),
        (("--stub", "a\x1bb"), "flowtrace: the stub 'a\\x1bb' matches no step of the trace"),
        (("--import", "no.such"), "flowtrace: the module no.such can't be loaded: ModuleNotFoundError"),
        (("--folder", "nowhere"), "flowtrace: the working folder"),
        (("--emit-test", "no/such/folder/test.py"), "flowtrace: no/such/folder/test.py: No such file or directory"),
        (("--expect-fixed",), "Error: --expect-fixed needs --emit-test"),
        (("--compare",), "Error: No such option '--compare'"),
    ],
)
def test_wrong_wishes_are_wrong_usage(fuel, arguments, complaint):
    done = flowtrace("replay", "artifacts", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith(complaint)


@pytest.mark.costly
def test_the_debugger_and_the_trace_can_not_both_come_from_standard_input(fuel):
    done = flowtrace("replay", "-", "--pdb", stdin=Path("artifacts/trace.json").read_text())
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "Error: --pdb reads from standard input, so the trace can't be -",
    )


@pytest.mark.costly
def test_what_differs_is_shown_with_its_values(fuel):
    document = json.loads(Path("artifacts/trace.json").read_bytes())
    document["steps"][1]["output_hash"]["value"] = "0" * 64
    document["steps"][1]["output_json"] = {"a": "\x1b[31m"}
    Path("artifacts/trace.json").write_text(json.dumps(document))
    done = flowtrace("replay", "artifacts", "--step", "1")
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "1 ✗ fuel.litres_per_100_km  different output: its output differs"
    assert lines[1] == "    recorded 0000000000000000  {'a': '\\x1b[31m'}"
    assert lines[2].startswith("    replayed ")
    assert lines[2].endswith("  13.07")
    assert lines[3] == "1 not as recorded"


HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202e\r\n"


def hostile_documents():
    hash_ = {"algorithm": HOSTILE, "value": HOSTILE}
    step = {
        "node_id": HOSTILE,
        "component_id": HOSTILE,
        "operation": HOSTILE,
        "input_hash": hash_,
        "output_hash": hash_,
        "duration_ms": 0,
        "invocation_json": {"payload": {HOSTILE: HOSTILE}},
        "step_id": HOSTILE,
        "error": {"code": HOSTILE, "message": HOSTILE, "details": {"type": HOSTILE}},
        "redacted": [HOSTILE],
        "opaque": [HOSTILE],
        "code": {"module": "x" + HOSTILE, "qualname": HOSTILE, "file": HOSTILE, "hash": hash_},
    }
    envelope = {"trace_version": 1, "pack": {"pack_ref": HOSTILE}, "flow": {"id": HOSTILE, "version": HOSTILE}}
    yield {**envelope, "steps": [step]}
    yield {**envelope, "steps": [{**step, "code": {"module": "__main__", "qualname": HOSTILE, "file": HOSTILE}}]}
    yield {**envelope, "steps": [{**step, "code": {"module": "os", "qualname": "system"}}]}
    yield {**envelope, "steps": [{**step, "invocation_path": HOSTILE + "/../../etc/passwd"}]}
    yield {**envelope, "steps": [{**step, "redacted": ["/invocation_json/payload/" + HOSTILE]}]}
    yield {**envelope, "steps": [{**step, "invocation_json": {"payload": HOSTILE}}]}
    yield {**envelope, "steps": []}


@pytest.mark.parametrize("document", list(hostile_documents()), ids=lambda document: "")
def test_a_hostile_trace_is_rendered_harmless(tmp_path, document):
    (tmp_path / "t.json").write_text(json.dumps(document), encoding="utf-8")
    done = flowtrace("replay", "t.json", "--all", COLUMNS="200")
    assert done.returncode == 1
    assert done.stderr == ""
    assert "Traceback" not in done.stdout
    assert all(line.isprintable() for line in done.stdout.split("\n"))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"trace_version": 2}', b"\xff\xfe", b"[" * 100_000, b'{"steps": {}}']
)
def test_what_is_no_trace_is_one_line(tmp_path, data):
    (tmp_path / "t.json").write_bytes(data)
    done = flowtrace("replay", "t.json")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


UNGUARDED = """
from flowtrace import traced_node

@traced_node
def reciprocal(number):
    return 1 / number

print("the reciprocal of 0 is", reciprocal(0))
"""


def recorded(folder, source):
    """Return what replays the trace of a program."""
    (folder / "app.py").write_text(textwrap.dedent(source))
    call(
        sys.executable,
        "app.py",
        folder=folder,
        FLOWTRACE_OUT="t.json",
        FLOWTRACE_CAPTURE_INPUTS="1",
        FLOWTRACE_MODE="always",
    )
    return lambda *options: flowtrace_process("replay", "t.json", *options, folder=folder)


@pytest.mark.costly
def test_a_script_without_a_main_guard_is_replayed_from_what_it_had_defined(tmp_path):
    replay = recorded(tmp_path, UNGUARDED)
    done = replay()
    assert done.returncode == 0
    assert "same error: ZeroDivisionError: division by zero" in done.stdout
    assert done.stdout.count('lines that do its work belong under `if __name__ == "__main__":`') == 1
    refused = replay("--emit-test", "test_it.py")
    assert refused.returncode == 2
    assert "no test was written: the script" in refused.stderr
    assert not (tmp_path / "test_it.py").exists()


@pytest.mark.costly
def test_one_reason_is_said_once(tmp_path):
    source = """
        from flowtrace import flow, traced_node

        class Cart:
            @traced_node
            def add(self, item):
                return {"tea": 3}[item]

        if __name__ == "__main__":
            cart = Cart()
            with flow("shop"):
                cart.add("tea")
                cart.add("tea")
                cart.add("gold")
        """
    replay = recorded(tmp_path, source)
    lines = replay().stdout.splitlines()
    reason = "it is an instance method: name a function that makes its object, --receiver MODULE:FACTORY"
    assert [line.partition("skipped: ")[2] for line in lines[:3]] == [reason, "as step 0", "as step 0"]
    report = json.loads(replay("--step", "1", "--step", "2", "--json").stdout)
    assert [step["reason"] for step in report["steps"]] == [reason, reason]


def test_the_methods_of_a_script_are_called_on_its_own_class_by_either_name(tmp_path):
    source = """
        from flowtrace import traced_node

        class Cart:
            @traced_node
            def add(self, item):
                return {"tea": 3}[item]

        if __name__ == "__main__":
            Cart().add("gold")
        """
    replay = recorded(tmp_path, source)
    script = next(path for path in tmp_path.glob("*.py"))
    for module in ("__main__", script.stem):
        done = replay("--receiver", f"{module}:Cart", "--emit-test", f"test_{module}.py")
        assert done.stdout.splitlines()[0].split("  ")[1:] == ["same error: KeyError: 'gold'"]
        assert done.returncode == 0
        assert f"from {script.stem} import Cart  # noqa: E402" in (tmp_path / f"test_{module}.py").read_text()
