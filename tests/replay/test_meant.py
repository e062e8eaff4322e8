"""An emitted test holds only what was meant, whatever texts the trace and the folders have."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from flowtrace import ReplayError, replay
from flowtrace.replaying.emit_test import MADE_BY
from flowtrace.replaying.meant import check
from flowtrace.replaying.python_source import Writer, is_identifier, layout
from tests.replay.workshop import edit, new_module, record

CODE = 'x=open("injected", "w").close(), y'
TEXTS = [
    *(
        CODE,
        '"""',
        "'" * 3,
        "\\",
        '\\"""\nopen("injected", "w")\n"""',
        "\0",
        "a\0b",
        "\r\nimport os\r\n",
        "\u202e",
        "\udc80",
    ),
    *("x\u00b2", "class", "\x1b[31m", "", "...", "a" * 500, "\u2028import os", "\x0cimport os", "\ufb01", "__debug__"),
]
SOURCE = """
    from flowtrace import traced_node

    @traced_node(component="area", operation="work")
    def work(load):
        raise ValueError(f"too much: {load}")
"""


def run(source, folder):
    names = {"__file__": str(folder / "test_it.py")}
    exec(compile(source, names["__file__"], "exec"), names)
    (test,) = (value for name, value in names.items() if name.startswith("test_"))
    test()


def emitted(trace, folder):
    replay(trace, emit_test=folder / "test_it.py")
    return (folder / "test_it.py").read_text()


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
@pytest.mark.parametrize("field", ["node_id", "component_id", "operation", "started_at", "message", "load"])
def test_a_text_of_the_trace_is_no_code(tmp_path, field, text):
    nodes = new_module(tmp_path, SOURCE)
    trace = record("t.json", lambda: nodes.work({"a": 1}))
    if "\udc80" in text:
        return  # no trace holds half a character

    def change(document):
        step = document["steps"][0]
        if field == "message":
            step["error"]["message"] = text
        elif field == "load":
            step["invocation_json"]["payload"]["load"] = {text: text}
        else:
            step[field] = text

    edit(trace, change)
    source = emitted(trace, tmp_path)
    try:
        run(source, tmp_path)
    except AssertionError:
        assert field in ("message", "load")  # the error is another one now
    assert not list(tmp_path.rglob("injected"))


@pytest.mark.parametrize("name", [*TEXTS, "self", "first-name", "sep\u00e9"], ids=ascii)
def test_a_name_that_came_from_a_client_is_no_code(name):
    writer = Writer("app")
    try:
        source = writer.value(SimpleNamespace(**{name: 1}))
    except ReplayError:
        return
    lines = [f"from {module} import {inner}" for module, inner in writer.names] + [
        f"import {found}" for found in writer.modules
    ]
    tree = ast.parse("\n".join(lines))
    names: dict = {}
    exec(compile(tree, "imports", "exec"), names)
    made = eval(layout(source, 0), names)
    assert vars(made) == {name: 1} or "\udc80" in name


@pytest.mark.parametrize(
    "folder",
    ['my "own" parts', 'lib" + str(open("injected", "w").close()) + "', "back\\slash", "a\nb"],
)
def test_a_folder_is_no_code(tmp_path, folder):
    program = tmp_path / folder
    program.mkdir()
    nodes = new_module(program, SOURCE)
    source = emitted(record("t.json", lambda: nodes.work(1)), tmp_path)
    run(source, tmp_path)
    assert not list(tmp_path.rglob("injected"))


def test_names_that_python_reads_as_others_are_none():
    assert is_identifier("name")
    assert is_identifier("größe")
    for name in ("\ufb01", "__debug__", "class", "x\u00b2", "a-b", "", "1"):
        assert not is_identifier(name)


def test_a_function_named_as_what_the_test_uses_gets_another_name(tmp_path):
    names = ("Path", "result", "list", "override", "test_it", "collect")
    source = "from flowtrace import traced_node\n" + "".join(
        f"@traced_node\ndef {name}(x):\n    raise ValueError(x)\n" for name in names
    )
    nodes = new_module(tmp_path, source)
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        folder.mkdir()
        run(emitted(record("t.json", lambda name=name: getattr(nodes, name)(1)), folder), folder)


MEANT = """from app import work

def test_it():
    result = work([1, -2], x={"a": float("nan")})
    assert result == (1,)
"""


@pytest.mark.parametrize(
    "code",
    [
        *(
            "open('x', 'w')",
            "__import__('os')",
            "eval('1')",
            "work.__globals__",
            "work.__class__",
            "(lambda: 1)()",
            "f'{work}'",
        ),
        *(
            "[x for x in work()]",
            "work if work else work",
            "exec('1')",
            "getattr(work, 'x')",
            "os.system('x')",
            "work()()",
        ),
        *("1 +", "(" * 300 + ")" * 300, "\0", "await work()", "work(*[1])", "work()[0]", "print(1)"),
    ],
)
def test_what_was_not_meant_is_found(code):
    imports = {("app", "work", "work")}
    check(MEANT, "test_it", imports)
    with pytest.raises(ReplayError, match="no test can be written"):
        check(MEANT.replace("[1, -2]", code), "test_it", imports)


@pytest.mark.parametrize(
    "line",
    ["import os", "from os import system", "x = 1; import os", "def test_other(): pass", "del work"],
)
def test_a_statement_that_was_not_meant_is_found(line):
    with pytest.raises(ReplayError, match="no test can be written"):
        check(f"{line}\n{MEANT}", "test_it", {("app", "work", "work")})


# --- how it is written


@pytest.fixture
def trace(tmp_path):
    nodes = new_module(tmp_path, SOURCE)
    return record("t.json", lambda: nodes.work(1))


def test_it_can_be_read_by_its_owner_alone(trace, tmp_path):
    (tmp_path / "test_it.py").write_text(MADE_BY)
    (tmp_path / "test_it.py").chmod(0o644)
    emitted(trace, tmp_path)
    assert (tmp_path / "test_it.py").stat().st_mode & 0o777 == 0o600


def test_no_link_is_followed_and_no_pipe_waited_for(trace, tmp_path):
    (tmp_path / "mine.py").write_text(MADE_BY)
    (tmp_path / "to_a_file.py").symlink_to("mine.py")
    (tmp_path / "to_nothing.py").symlink_to("elsewhere.py")
    os.mkfifo(tmp_path / "pipe.py")
    for name in ("to_a_file.py", "to_nothing.py", "pipe.py"):
        with pytest.raises(ReplayError, match="exists already, and is not a file"):
            replay(trace, emit_test=tmp_path / name)
    assert (tmp_path / "mine.py").read_text() == MADE_BY
    assert not (tmp_path / "elsewhere.py").exists()


@pytest.mark.costly
def test_it_records_nothing(trace, tmp_path):
    emitted(trace, tmp_path)
    environment = {**os.environ, "FLOWTRACE_OUT": str(tmp_path / "again.json")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert "1 passed" in done.stdout
    assert not (tmp_path / "again.json").exists()
