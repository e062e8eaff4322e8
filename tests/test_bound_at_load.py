"""Nothing of the standard library is looked up in a call or a write: a mock of the program's sees no call of ours."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import flowtrace
from tests.programs import run_program

PACKAGE = Path(flowtrace.__file__).parent
FLOORS = ("host", "values", "calls", "settings", "trace", "recording", "blackbox", "instrument")
FILES = [*sorted(file for floor in FLOORS for file in (PACKAGE / floor).rglob("*.py")), PACKAGE / "__init__.py"]
READERS = (
    "trace/bad_value.py",
    "trace/origins.py",
    "trace/notebook.py",
    "trace/outline.py",
    "trace/value_parts.py",
    "values/annotations.py",
    "values/arrays_in_short.py",
    "values/rebuild.py",
    "values/rebuild_builtin.py",
    "values/rebuild_dtypes.py",
    "values/rebuild_records.py",
    "values/shown.py",
)
"""Only `flowtrace replay`, `flowtrace why` and their like run these, never a call; but for the first check of a node,
which reads its annotations."""
OF_A_READER = {("trace/model.py", name) for name in ("provenance", "__repr__", "_repr_html_")}
"""Methods of records that only such a command calls."""
STATE = {"sys", "errno", "threading.excepthook", "threading.ExceptHookArgs"}
"""What a program changes for us to see it, and plain numbers."""
CLOCKS = {"time", "datetime"}
"""freezegun replaces the names of these in every module that imports them by name."""
SEEN_BUILTINS = {"open", "print", "input", "compile", "exec", "eval", "__import__"}
AT_LOAD = {
    ("calls/core.py", "_load_native"),
    ("instrument/proxies.py", "_made_arrival"),
    *(("host/system.py", name) for name in ("copy_of", "_copy_of_os", "_copy_of_datetime", "_made_anew")),
}
"""Functions that run while their module is loaded, and never again."""
LOADING = {
    *(("instrument/subjects.py", "_load"), ("host/safe_loading.py", "_real_imports"), ("host/log.py", "_load")),
    *(("instrument/subjects.py", "_load_validators"), ("instrument/validators.py", "_load_jsonschema")),
}
"""They load the recorder, when tracing is turned on, and structlog with it; the second puts Python's own import in its
place for that. The last two load what the first check of a node needs."""


def functions_of(tree):
    """Yield the functions of a module that are in no other function, and methods."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
        else:
            yield from functions_of(node)


def imported(tree):
    """Return what each imported name of a module stands for; a type checker's imports are none while it runs."""
    names = {}
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    unseen = {id(node) for block in blocks for statement in block.body for node in ast.walk(statement)}
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            names |= {item.asname or item.name.partition(".")[0]: item.name for item in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {item.asname or item.name: f"{node.module}.{item.name}" for item in node.names}
    return names


def looked_up(source):
    """Yield function, line and text of each look-up in a module of the standard library, and of each import."""
    tree = ast.parse(source)
    names = imported(tree)
    for function in functions_of(tree):
        body = function.body if isinstance(function.body, list) else [function.body]
        for node in [node for statement in body for node in ast.walk(statement)]:
            found = ""
            if isinstance(node, ast.Import | ast.ImportFrom):
                found = ast.unparse(node)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                module = names.get(node.value.id, "")
                if module in sys.stdlib_module_names and not {module, f"{module}.{node.attr}"} & STATE:
                    found = f"{module}.{node.attr}"
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                home = names.get(node.id, "builtins." + node.id if node.id in SEEN_BUILTINS else "")
                if home.partition(".")[0] in CLOCKS | {"builtins"} and "." in home:
                    found = home
            if found:
                yield getattr(function, "name", "lambda"), node.lineno, found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_what_runs_in_calls_and_writes_was_bound_when_it_was_loaded(file):
    room = str(file.relative_to(PACKAGE))
    allowed = AT_LOAD | LOADING | OF_A_READER
    found = [item for item in looked_up(file.read_text()) if (room, item[0]) not in allowed and room not in READERS]
    assert found == []


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("os.replace('a', 'b')", "os.replace"),
        ("return lambda: os.path.join('a')", "os.path"),
        ("open('a')", "builtins.open"),
        ("import json", "import json"),
        ("from json import dumps", "from json import dumps"),
        ("moment.now()", "datetime.datetime"),
        ("datetime.datetime.now()", "datetime.datetime"),
        ("sys.modules; errno.EIO; value.os.path; encode(moments)", None),
    ],
)
def test_a_look_up_is_found(body, found):
    source = (
        "import os, sys, errno, datetime\nfrom datetime import datetime as moment\nfrom json import dumps as encode\n"
    )
    seen = [text for _, _, text in looked_up(f"{source}class C:\n    def method(self):\n        {body}\n")]
    assert seen == ([found] if found else [])


PROGRAM = """
import base64, builtins, datetime, io, json, os, pathlib, platform, random, re, shutil, socket, sys, tempfile, time
import uuid
import flowtrace

seen = []

def watched(name, function):
    def watch(*args, **kwargs):
        frame = sys._getframe(1)
        if not is_of_pathlib(frame):  # `dump` gives a Path
            seen.append((name, frame.f_code.co_filename, frame.f_code.co_name))
        return function(*args, **kwargs)
    return watch

def is_of_pathlib(frame):
    '''Return True for a function of pathlib, and for one of os.path that it calls.'''
    while frame.f_back is not None and (frame.f_globals is vars(os.path) or frame.f_globals is globals()):
        frame = frame.f_back
    return frame.f_globals['__name__'].partition('.')[0] == 'pathlib'

def watch_all():
    '''Put a stand-in in the place of each function of these modules, as mock.patch does.'''
    modules = [base64, io, json, os, os.path, platform, random, re, shutil, socket, tempfile, time, uuid]
    for owner in (*modules, pathlib.PurePath, pathlib.Path, random.Random):
        for name, member in list(vars(owner).items()):
            if callable(member) and not isinstance(member, type) and not name.startswith("_"):
                setattr(owner, name, watched(f"{owner.__name__}.{name}", member))
    for name in ("open", "print", "input", "compile", "exec", "eval", "__import__"):
        setattr(builtins, name, watched(name, getattr(builtins, name)))

@flowtrace.traced_node
def double(value):
    return [value, value]

@flowtrace.traced_node
def fail(value):
    raise ValueError("bad")

@flowtrace.traced_node
def each(values):
    yield from values

@flowtrace.traced_node
async def wait(value):
    return value

class Shop:
    @flowtrace.traced_node
    def price(self, count=[1]):
        flowtrace.current_step().add_validation_issue("code", "/path", "message")
        return [double(item) for item in count]

@flowtrace.traced_node(component="late")
def late(value):
    return value

VALUES = [
    1.5, "text", "\\ud800", {"a": (1, 2)}, {1: 2}, {3, 4}, b"bytes", uuid.UUID(int=1), re.compile("a"), ValueError("x"),
    datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), datetime.date(2026, 1, 2), datetime.timedelta(1),
    pathlib.PurePosixPath("a"), pathlib.Path("b"), object(), "long" * 50_000, {"password": "hidden"},
    list(range(50_000)),
]

def work():
    for value in VALUES:
        double(value)
        list(each([value, value]))
        try:
            fail(value)
        except ValueError:
            pass
        with flowtrace.flow("f", version="1"):
            Shop().price()
            try:
                fail(value)
            except ValueError:
                pass
    flowtrace.propagate(double)(1)
    coroutine = wait(1)
    try:
        coroutine.send(None)
    except StopIteration:
        pass
    late(1)
    flowtrace.dump("dump.json")
    flowtrace.get_recorder().flush_buffer()

"""


@pytest.mark.costly
@pytest.mark.parametrize("pure", ["0", "1"])
@pytest.mark.parametrize("mode", ["on", "always", "box", "off"])
def test_no_stand_in_for_a_function_of_the_standard_library_sees_a_call(tmp_path, mode, pure):
    settings = {"mode": mode, "capture_inputs": True, "capture_outputs": True, "validation": "warn"}
    if mode == "box":
        settings |= {"mode": "on", "blackbox": "app.ring"}
    template = "out/{flow_id}-{timestamp}-{run_id}.json"
    program = f"""
        flowtrace.configure(out_path={template!r}, max_files=3, **{settings!r})
        watch_all()
        work()
        seen = [call for call in seen if call[1] != __file__]
        builtins.print(seen[:20]) if False else sys.stdout.write(repr(seen[:20]))
        """
    done = run_program(tmp_path, PROGRAM, program, FLOWTRACE_PURE=pure)
    assert done.stdout == "[]"
    written = sorted(path.name for path in (tmp_path / "out").glob("*.json")) if mode != "off" else []
    assert len(written) == (0 if mode == "off" else 3)


def test_a_python_whose_datetime_is_built_in_is_fine(tmp_path):
    """As Debian's is: then a class that is none of datetime's, the loader, is among the names of `_datetime`."""
    program = """
        import _datetime
        from importlib.machinery import BuiltinImporter
        _datetime.__loader__ = BuiltinImporter
        import datetime, flowtrace
        from flowtrace.host.system import datetime as copy
        assert copy.datetime is datetime.datetime
    """
    run_program(tmp_path, program)
