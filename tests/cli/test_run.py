"""`flowtrace run`: the program is the same program, and it is traced."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from flowtrace.cli.run import command, interpreter_options, meant_program, program_environment
from flowtrace.errors import ConfigError
from tests.cli.commands import SCRIPT, call, flowtrace_process

FUEL = Path(__file__).resolve().parents[2] / "examples/fuel_economy.py"
FACTS = """
import json, os, sys, pickle
class Point: pass
point = pickle.loads(pickle.dumps(Point()))
main = sys.modules["__main__"]
print(json.dumps({
    "argv": sys.argv, "path": sys.path, "name": __name__, "file": globals().get("__file__"), "package": __package__,
    "spec": getattr(__spec__, "name", None), "flags": list(sys.flags), "warnings": sys.warnoptions, "x": sys._xoptions,
    "stdin": sys.stdin.read() if sys.argv[1:] else None, "pickled": type(point) is main.Point, "cwd": os.getcwd(),
    "orig": sys.orig_argv[1:],
}))
def fail(): raise ValueError("no\\nmore")
fail()
"""
NODE = "from flowtrace import traced_node\n@traced_node\ndef node(x): return 1 / x\n"


NONE_CALLED = "no trace: no decorated function was called; --auto 'PACKAGE.*' traces functions that are not decorated"
NONE_FAILED = (
    "no trace: 1 call of decorated functions, and none failed, unless a warning above says more; "
    "--mode always writes one all the same"
)


def same(done):
    return done.returncode, done.stdout, done.stderr


def plus(done, line):
    """What a program does and says, and then the line that `flowtrace run` ends with."""
    return done.returncode, done.stdout, f"{done.stderr}flowtrace: {line}\n"


@pytest.fixture
def programs(tmp_path):
    (tmp_path / "facts.py").write_text(FACTS)
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").write_text("")
    (tmp_path / "pkg/__main__.py").write_text(FACTS)
    (tmp_path / "node.py").write_text(NODE + "import sys\nnode(int(sys.argv[1]))\n")
    return tmp_path


def steps(path="trace.json"):
    return [step["node_id"] for step in json.loads(Path(path).read_bytes())["steps"]]


@pytest.mark.costly
@pytest.mark.parametrize(
    "words",
    [
        ("facts.py",),
        ("facts.py", "--mode", "off", "-m", "--out=x", "--", "-"),
        ("pkg",),
        ("-m", "facts", "--auto", "a"),
        ("-mfacts", "-c"),
        ("-m", "pkg", "--json"),
        ("-c", FACTS, "-m", "x"),
        ("absent.py",),
        ("-m", "absent"),
    ],
)
def test_a_program_is_what_python_makes_of_it(programs, words):
    plain = call(sys.executable, *words, stdin="in\nput")
    for ours in ((), ("--capture", "--mode", "always", "--out", "a.json")):
        assert same(flowtrace_process("run", *ours, *words, stdin="in\nput")) == plus(plain, NONE_CALLED)


@pytest.mark.costly
def test_a_program_may_come_from_standard_input(programs):
    plain = call(sys.executable, "-", "a", stdin=FACTS)
    assert same(flowtrace_process("run", "-", "a", stdin=FACTS)) == plus(plain, NONE_CALLED)


@pytest.mark.costly
def test_the_interpreters_own_options_are_passed_on(programs):
    options = ("-X", "dev", "-W", "ignore::UserWarning", "-B", "-P")
    plain = call(sys.executable, *options, "facts.py")
    traced = call(sys.executable, *options, "-m", "flowtrace", "run", "facts.py")
    shown, expected = json.loads(traced.stdout), json.loads(plain.stdout)
    shown.pop("orig"), expected.pop("orig")
    assert (traced.returncode, shown, traced.stderr) == (1, expected, f"{plain.stderr}flowtrace: {NONE_CALLED}\n")


@pytest.mark.costly
@pytest.mark.parametrize(("code", "expected"), [("sys.exit(7)", 7), ("sys.exit('no')", 1), ("os.abort()", -6)])
def test_the_exit_code_is_the_programs(code, expected):
    done = flowtrace_process("run", "-c", f"import os, sys; {code}")
    assert done.returncode == expected


@pytest.mark.costly
def test_signals_reach_the_program_since_it_is_the_same_process(tmp_path):
    program = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('terminated'), sys.exit(3)))\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job is started with it ignored
        "print(os.getpid(), flush=True)\n"
        # not one long sleep: Python 3.14 may look for a signal only after it, if that comes just before
        "for _ in range(600): time.sleep(0.1)\n"
    )
    for number, code, said in ((signal.SIGTERM, 3, "terminated\n"), (signal.SIGINT, -signal.SIGINT, "")):
        process = subprocess.Popen(
            [SCRIPT, "run", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, "KeyboardInterrupt" in err) == (code, said, number == signal.SIGINT)


@pytest.mark.costly
def test_children_that_multiprocessing_spawns_find_what_is_in_main(tmp_path):
    (tmp_path / "spawn.py").write_text(
        "import multiprocessing\n"
        "class Point:\n    x = 3\n"
        "def read(point): return point.x, __name__\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool: print(pool.map(read, [Point()]))\n"
    )
    expected = f"flowtrace: {NONE_CALLED}\n"
    assert same(flowtrace_process("run", "spawn.py")) == (0, "[(3, '__mp_main__')]\n", expected)


# --- what is traced, and where to


@pytest.mark.costly
def test_a_failure_leaves_a_trace_in_the_folder_where_the_command_was_typed(programs):
    program = NODE + "import os\nos.mkdir('inner'); os.chdir('inner')\nnode(0)\n"
    assert flowtrace_process("run", "-c", program).returncode == 1
    assert steps() == ["__main__.node"]
    assert list(Path("inner").iterdir()) == []


@pytest.mark.costly
def test_success_leaves_a_trace_where_it_is_asked_for(programs):
    assert flowtrace_process("run", "node.py", "1").returncode == 0
    assert not Path("trace.json").exists()
    assert (
        flowtrace_process("run", "--mode", "always", "--out", "a/b.json", "--capture", "node.py", "1").returncode == 0
    )
    (step,) = json.loads(Path("a/b.json").read_bytes())["steps"]
    assert (step["invocation_json"]["payload"], step["output_json"]) == ({"x": 1}, 1.0)


@pytest.mark.costly
def test_fuel_economy_fails_as_always_and_says_why(tmp_path):
    plain, traced = call(sys.executable, FUEL), flowtrace_process("run", "--out", "t.json", FUEL)
    assert (traced.returncode, traced.stdout) == (plain.returncode, plain.stdout) == (1, "")
    line = "flowtrace: 12 steps in t.json: flowtrace show t.json\n"
    assert traced.stderr == call(sys.executable, FUEL, FLOWTRACE_OUT="u.json").stderr + line
    assert steps("t.json")[-1] == "fuel.litres_per_100_km"


HERE = {"FLOWTRACE_MODE": "on", "FLOWTRACE_OUT": "{cwd}/trace.json"}


@pytest.mark.parametrize(
    ("environ", "options", "expected"),
    [
        ({}, {}, HERE),
        ({"FLOWTRACE_MODE": "off"}, {}, HERE),
        ({"FLOWTRACE_MODE": "always"}, {}, HERE | {"FLOWTRACE_MODE": "always"}),
        ({"FLOWTRACE_MODE": "always"}, {"mode": "off"}, HERE | {"FLOWTRACE_MODE": "off"}),
        ({"FLOWTRACE_OUT": "x.json"}, {}, {"FLOWTRACE_MODE": "on", "FLOWTRACE_OUT": "x.json"}),
        ({"FLOWTRACE_OUT": "true"}, {}, HERE),
        ({}, {"out": "new/"}, HERE | {"FLOWTRACE_OUT": "{cwd}/new/trace.json"}),
        ({}, {"out": "."}, HERE),
        ({"FLOWTRACE_OUT": "x.json"}, {"out": "{pid}.json"}, HERE | {"FLOWTRACE_OUT": "{cwd}/{pid}.json"}),
        ({}, {"capture": True}, HERE | {"FLOWTRACE_CAPTURE_INPUTS": "1", "FLOWTRACE_CAPTURE_OUTPUTS": "1"}),
        ({}, {"auto": ("a.*", "b")}, HERE | {"FLOWTRACE_AUTO": "a.*,b", "PYTHONPATH": "{auto}"}),
        (
            {"FLOWTRACE_AUTO": "c, b", "PYTHONPATH": "x:y"},
            {"auto": ("a", "b")},
            HERE | {"FLOWTRACE_AUTO": "c,b,a", "PYTHONPATH": "{auto}:x:y"},
        ),
    ],
)
def test_the_environment_of_a_traced_program(environ, options, expected):
    import flowtrace as library

    auto = str(Path(library.__file__).parent / "cli" / "autostart")
    wanted = {name: text.replace("{cwd}", str(Path.cwd())).replace("{auto}", auto) for name, text in expected.items()}
    given = {"HOME": "/h", **environ}
    assert program_environment(given, **options) == {"HOME": "/h", **wanted}
    assert given == {"HOME": "/h", **environ}


def test_a_trace_file_that_can_not_be_one_is_refused(tmp_path):
    takes = (
        "it takes a path of a file, or of a folder for trace.json in it; ~ is the home, and {pid} {run_id} {flow_id}"
    )
    with pytest.raises(ConfigError) as caught:
        program_environment({}, out="yes")
    assert str(caught.value) == f"the trace file 'yes' is not usable: {takes} {{timestamp}} are filled in"
    done = flowtrace_process("run", "--out", "yes", "-c", "print(1)")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"flowtrace: {caught.value}\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "Error: name a program to run: SCRIPT, -m MODULE or -c CODE"),
        (("--capture",), "Error: name a program to run: SCRIPT, -m MODULE or -c CODE"),
        (("-m",), "Error: -m needs a value"),
        (("--mode", "loud", "x.py"), "Error: Invalid value for '--mode': 'loud' is not one of 'off', 'on', 'always'."),
        (("--out",), "Error: Option '--out' requires an argument."),
        (
            ("--auto", "pkg/nodes.py", "x.py"),
            "Error: Invalid value for '--auto': 'pkg/nodes.py' is not usable: it takes dotted names of modules or"
            " functions, with * ? [...] for anything, separated by commas",
        ),
        (
            ("--auto", "__main__.*", "x.py"),
            "Error: Invalid value for '--auto': the functions of the script itself can't be traced this way, since"
            " it is never imported: decorate them, or move them into a module",
        ),
    ],
)
def test_wrong_usage_says_what_is_wrong(words, complaint):
    done = flowtrace_process("run", *words)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (2, "", complaint)


def test_an_option_that_there_is_not_is_named():
    done = flowtrace_process("run", "--fast", "x.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.match(r"Error: No such option:? '?--fast\b", done.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    ("args", "program"),
    [
        (["--", "x.py", "--capture"], ("x.py", "--capture")),
        (["--", "--", "x.py"], ("--", "x.py")),
        (["--mode", "on", "x.py", "--", "y"], ("x.py", "--", "y")),
        (["--mode=on", "-mx", "-h"], ("-mx", "-h")),
        (["--out", "-m", "x.py", "-m", "y"], ("x.py", "-m", "y")),
        (["-", "--help"], ("-", "--help")),
    ],
)
def test_the_program_begins_where_our_options_end(args, program):
    assert command.make_context("run", args).params["program"] == program


def test_auto_is_refused_where_python_ignores_the_environment():
    done = call(sys.executable, "-E", "-m", "flowtrace", "run", "--auto", "a.*", "-c", "1")
    assert done.stderr.splitlines()[-1] == "Error: --auto can't work with Python's options -E, -I and -S"
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["/bin/flowtrace", "run", "-B"], []),
        (["-m", "flowtrace", "-X", "dev"], []),
        (["-B", "-X", "dev", "-Werror", "-W", "ignore", "-Im", "flowtrace"], "-B -X dev -Werror -W ignore -I".split()),
        (["-bbXdev", "-OOc", "x"], ["-bbXdev", "-OO"]),
        (["-BX", "m", "--check-hash-based-pycs", "always", "-", "-B"], "-BX m --check-hash-based-pycs always".split()),
        (["-u", "--", "x.py"], ["-u"]),
        ([], []),
    ],
)
def test_the_options_of_the_interpreter_are_told_from_what_it_runs(words, options):
    assert interpreter_options(words) == options


def test_click_shows_where_the_program_goes():
    assert command.get_usage(click.Context(command, info_name="flowtrace run")) == (
        "Usage: flowtrace run [OPTIONS] SCRIPT|-m MODULE|-c CODE [ARGS]..."
    )


# --- what it says at the end


def last_line(*words, **variables):
    return flowtrace_process("run", *words, **variables).stderr.splitlines()[-1].removeprefix("flowtrace: ")


@pytest.mark.costly
@pytest.mark.parametrize(
    ("words", "variables", "line"),
    [
        (("node.py", "0"), {}, "1 step in trace.json: flowtrace show trace.json"),
        (("--out", "a b/", "node.py", "0"), {}, "1 step in a b/trace.json: flowtrace show 'a b/trace.json'"),
        (("--mode", "always", "node.py", "1"), {}, "1 step in trace.json: flowtrace show trace.json"),
        (("node.py", "0"), {"FLOWTRACE_OUT": "{cwd}/x.json"}, "1 step in x.json: flowtrace show x.json"),
        (("node.py", "1"), {}, NONE_FAILED),
        (("--mode", "off", "node.py", "0"), {}, "no trace: tracing is off (--mode off)"),
        (("node.py", "0"), {"FLOWTRACE_DISABLED": "1"}, "no trace: FLOWTRACE_DISABLED is set"),
        (("--out", "/dev/null", "node.py", "0"), {}, NONE_FAILED),
        (("-c", "pass"), {}, NONE_CALLED),
        (
            ("--auto", "a.*", "-c", "pass"),
            {},
            "no trace: nothing was called that --auto names (a.*), and no decorated function",
        ),
        (("-c", "import os; os.chdir('/'); import sys; sys.exit(3)"), {}, NONE_CALLED),
    ],
)
def test_the_last_line_says_where_the_trace_is_or_why_there_is_none(programs, words, variables, line):
    given = {name: text.replace("{cwd}", str(programs)) for name, text in variables.items()}
    assert last_line(*words, **given) == line


@pytest.mark.costly
def test_an_older_trace_is_not_told_as_that_of_this_run(programs):
    flowtrace_process("run", "node.py", "0")
    old = Path("trace.json").stat().st_mtime - 60
    os.utime("trace.json", (old, old))
    assert last_line("node.py", "1") == NONE_FAILED


@pytest.mark.costly
def test_the_traces_of_child_processes_are_told_of(programs):
    program = (
        "import multiprocessing, node_\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('fork')\n"
        "    children = [context.Process(target=node_.node, args=[0]) for _ in range(3)]\n"
        "    [child.start() for child in children]; [child.join() for child in children]\n"
    )
    (programs / "node_.py").write_text(NODE)
    (programs / "parent.py").write_text(program)
    line = last_line("parent.py")
    names = [path.name for path in programs.glob("trace.*.json")]
    found = re.fullmatch(r"1 step in (\S+), and more in (\S+) and 1 others: flowtrace show (\S+)", line)
    assert found is not None, line
    assert (found[1], {found[1], found[2]} <= set(names), len(names)) == (found[3], True, 3)


@pytest.mark.costly
def test_the_environment_of_child_processes_is_that_of_the_program(programs):
    program = "import os, subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    look = (
        "import os; print([n for n in os.environ if n.startswith(('_FLOW', 'PYTHONP'))], os.environ.get('PYTHONPATH'))"
    )
    for before in (None, "x", "x:y"):
        done = flowtrace_process("run", "-c", program, look, PYTHONPATH=before)
        expected = "[] None" if before is None else f"['PYTHONPATH'] {before}"
        assert (done.stdout, done.stderr) == (f"{expected}\n", f"flowtrace: {NONE_CALLED}\n")


@pytest.mark.costly
def test_a_program_without_standard_error_ends_as_always(programs):
    assert same(flowtrace_process("run", "-c", "import sys; sys.stderr.close(); sys.exit(4)")) == (4, "", "")


def test_where_python_ignores_the_environment_it_is_said_that_nothing_is_traced():
    done = call(sys.executable, "-E", "-m", "flowtrace", "run", "-c", "print(1)")
    line = "flowtrace: nothing is traced: Python's options -E and -I hide the variables from the program\n"
    assert same(done) == (0, "1\n", line)


# --- programs as they are typed elsewhere

BIN = str(Path(sys.executable).parent)
ANOTHER = " is not the Python that runs flowtrace: "
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize(
    ("typed", "meant", "said"),
    [
        (("facts.py", "a"), ("facts.py", "a"), ""),
        (("-m", "pytest"), ("-m", "pytest"), ""),
        (("absent.py",), ("absent.py",), ""),
        (("pkg",), ("pkg",), ""),
        (("no-such-command",), ("no-such-command",), ""),
        (("python", "facts.py", "a"), ("facts.py", "a"), "python may be left out: flowtrace run facts.py a"),
        (("python3", "-O", "-m", "x"), ("-O", "-m", "x"), "python3 may be left out: flowtrace run -O -m x"),
        ((VERSION, "x.py"), ("x.py",), f"{VERSION} may be left out: flowtrace run x.py"),
        ((sys.executable, "x.py"), ("x.py",), f"{sys.executable} may be left out: flowtrace run x.py"),
        (("json", "x"), ("-m", "json", "x"), "json is no file here: this runs -m json"),
        (
            ("flowtrace", "--version"),
            (f"{BIN}/flowtrace", "--version"),
            f"flowtrace is no file here: this runs {BIN}/flowtrace; the module would be -m flowtrace",
        ),
    ],
)
def test_a_program_may_be_typed_as_elsewhere(typed, meant, said, programs, capsys):
    assert meant_program(typed) == meant
    assert capsys.readouterr().err == (f"flowtrace: {said}\n" if said else "")


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        (("python2.7", "x.py"), None),
        (
            ("python3.99", "x.py"),
            "'python3.99'" + ANOTHER + "python3.99 -m flowtrace run x.py",
        ),
        (
            ("/elsewhere/python", "x.py"),
            "'/elsewhere/python'" + ANOTHER + "/elsewhere/python -m flowtrace run x.py",
        ),
        (("python",), "name a program to run: SCRIPT, -m MODULE or -c CODE"),
    ],
)
def test_another_python_is_refused_with_how_it_is_written(typed, complaint, programs):
    if complaint is None:
        assert meant_program(typed) == typed
        return
    with pytest.raises(click.UsageError) as caught:
        meant_program(typed)
    assert caught.value.message == complaint
