"""A trace may come from anybody: it must not choose what is imported, called, read or made."""

from __future__ import annotations

import http
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import flowtrace
from flowtrace import ReplayError, hash_value, replay
from flowtrace.replaying.decorated import Sources
from flowtrace.replaying.find_function import Resolver
from flowtrace.values.encoded import hash_bytes
from tests.replay.workshop import edit, new_module, outcomes, record

EVIL = """
    from pathlib import Path
    Path({mark!r}).write_text("loaded")
    from flowtrace import traced_node

    @traced_node
    def node():
        Path({mark!r}).write_text("called")
"""


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "mark"


def write(path, mark):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(EVIL).format(mark=str(mark)), encoding="utf-8")
    return path


def trace_of(path, **code):
    """Write a trace of one step that says that it called some function."""
    step = {
        "node_id": "n",
        "component_id": "c",
        "operation": "o",
        "input_hash": {"algorithm": "blake3", "value": hash_value({}).value},
        "invocation_json": {"component_id": "c", "operation": "o", "payload": {}},
        "duration_ms": 0,
        "code": {"module": "m", "qualname": "node", **code},
    }
    document = {"trace_version": 1, "pack": {"pack_ref": "p"}, "flow": {"id": "f", "version": "1"}, "steps": [step]}
    Path(path).write_text(json.dumps(document), encoding="utf-8")
    return path


def reason(path, **options):
    (item,) = replay(path, **options).steps
    assert item.outcome == "skipped"
    return item.reason


@pytest.mark.parametrize(
    "module",
    [
        *("os", "subprocess", "antigravity", "sys", "builtins", "_thread", "json.tool", "os.path", "this"),
        *("..evil", ".evil", "evil.", "evil/../evil", "/etc/passwd", "evil\x00", "", " evil", "evil;os", "a" * 5000),
        *("évil.\u202emod", "pkg.__main__", "pkg.__init__", "__init__", "1evil", "flowtrace.cli.app", "pytest"),
    ],
)
def test_modules_outside_the_working_folder_are_neither_imported_nor_called(tmp_path, module):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "__main__.py").write_text("raise SystemExit('ran')")
    assert reason(trace_of("first.json", module="nowhere", qualname="node"))  # what a replay itself needs is loaded now
    loaded = set(sys.modules)
    trace = trace_of("t.json", module=module, qualname="node")
    assert reason(trace)
    assert {name.partition(".")[0] for name in set(sys.modules) - loaded} <= {"pkg"}


@pytest.mark.parametrize("place", [".venv/lib/python3.11/site-packages", "env", "node_modules", "a/dist-packages"])
def test_installed_libraries_under_the_working_folder_are_not_the_users(tmp_path, mark, monkeypatch, place):
    file = write(tmp_path / "work" / place / "evil_installed.py", mark)
    if place == "env":
        (file.parent / "pyvenv.cfg").write_text("")
    monkeypatch.syspath_prepend(file.parent)
    for hint in (str(file), None):
        text = reason(trace_of("t.json", module="evil_installed", file=hint), working_folder="work")
        assert "is not under the working folder" in text
        assert "name it as an import if you trust it" in text
    assert "there is no script" in reason(trace_of("t.json", module="__main__", file=str(file)), working_folder="work")
    assert not mark.exists()


def test_a_package_outside_is_not_even_imported_on_the_way_to_a_module_inside(tmp_path, mark, monkeypatch):
    outside = write(tmp_path / "outside" / "evil_package" / "__init__.py", mark)
    inside = write(tmp_path / "work" / "evil_package" / "inner.py", mark)
    outside.write_text(outside.read_text() + f"\n__path__ = [{str(inside.parent)!r}]\n")
    monkeypatch.syspath_prepend(outside.parent.parent)
    (tmp_path / "work" / "evil_package").rename(tmp_path / "work" / "other")
    text = reason(trace_of("t.json", module="evil_package.inner"), working_folder="work")
    assert "the module evil_package is not under the working folder" in text
    assert not mark.exists()


def test_a_symbolic_link_does_not_lead_out_of_the_working_folder(tmp_path, mark):
    outside = write(tmp_path / "outside" / "evil_linked.py", mark)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "evil_linked.py").symlink_to(outside)
    (tmp_path / "work" / "script.py").symlink_to(outside)
    assert "is not under the working folder" in reason(trace_of("t.json", module="evil_linked"), working_folder="work")
    trace = trace_of("t.json", module="__main__", file="script.py")
    assert "there is no script script.py under the working folder" in reason(trace, working_folder="work")
    assert not mark.exists()


@pytest.mark.parametrize("file", ["../outside/evil.py", "/outside/../evil.py", "evil\x00.py", "evil.sh", "", None, "/"])
def test_scripts_outside_the_working_folder_are_not_loaded(tmp_path, mark, file):
    write(tmp_path / "outside" / "evil.py", mark)
    (tmp_path / "work").mkdir()
    for name in (file, str(tmp_path / "outside" / "evil.py")):
        trace = trace_of("t.json", module="__main__", file=name)
        assert "under the working folder" in reason(trace, working_folder="work")
    assert not mark.exists()


def test_a_module_without_such_a_function_is_only_read(tmp_path, mark):
    write(tmp_path / "deploying.py", mark)
    write(tmp_path / "broken_source.py", mark).write_text("def node(:")
    assert reason(trace_of("t.json", module="deploying", qualname="other")) == "the module deploying has no other"
    assert reason(trace_of("t.json", module="broken_source")) == "the module broken_source has no node"
    assert Resolver(tmp_path).class_named("deploying:Other") is None
    assert not mark.exists()


def test_the_library_of_another_python_under_the_working_folder_is_not_the_users(tmp_path, mark):
    file = write(tmp_path / "versions" / "3.13.0" / "lib" / "python3.13" / "evil_standard.py", mark)
    assert "there is no module evil_standard" in reason(trace_of("t.json", module="evil_standard", file=str(file)))
    assert not mark.exists()


def test_a_script_without_such_a_function_is_only_read(tmp_path, mark):
    file = write(tmp_path / "deploy.py", mark)
    trace = trace_of("t.json", module="__main__", file=str(file), qualname="other")
    assert reason(trace) == f"{file} has no other"
    file.write_text("def node(:\n")
    assert reason(trace_of("t.json", module="__main__", file=str(file))) == f"{file} has no node"
    assert not mark.exists()


NODES = """
    import os
    from functools import lru_cache, wraps
    from flowtrace import flow, traced_node

    CALLED = []

    def plain():
        CALLED.append("plain")

    @flow("deploy")
    def deploy():
        CALLED.append("deploy")

    class Shop:
        def close(self=None):
            CALLED.append("close")

        @staticmethod
        def burn():
            CALLED.append("burn")

    class Lazy:
        def __getattr__(self, name):
            CALLED.append(name)
            return traced_node(plain)

    lazy = Lazy()
    system = os.system

    def __getattr__(name):
        CALLED.append(name)
        return traced_node(plain)

    def outer():
        @traced_node
        def inner():
            CALLED.append("inner")
        return inner

    @lru_cache
    @traced_node
    def cached(x: int = 1):
        return x

    def shouting(function):
        @wraps(function)
        def inner(*args):
            raise RuntimeError("the outer function is not the node")
        return inner

    @shouting
    @traced_node
    def wrapped(x: int = 1):
        return x
"""


@pytest.mark.parametrize(
    ("qualname", "why"),
    [
        ("plain", "plain of the module {} is not decorated with traced_node"),
        ("deploy", "deploy of the module {} is not decorated with traced_node"),
        ("Shop.close", "Shop.close of the module {} is not decorated with traced_node"),
        ("Shop.burn", "Shop.burn of the module {} is not decorated with traced_node"),
        ("Shop", "Shop of the module {} is not decorated with traced_node"),
        ("system", "system of the module {} is not decorated with traced_node"),
        ("os.system", "the module {} has no os.system"),
        ("lazy.anything", "the module {} has no lazy.anything"),
        ("nothing", "the module {} has no nothing"),
        ("plain.__globals__", "the module {} has no plain.__globals__"),
        ("Shop.__class__.__call__", "Shop.__class__.__call__ of the module {} is not decorated with traced_node"),
        ("outer.<locals>.inner", "outer.<locals>.inner is defined inside another function, where it can't be found"),
        ("<lambda>", "the module {} has no <lambda>"),
        ("", "the module {} has no "),
        ("..", "the module {} has no .."),
    ],
)
def test_only_decorated_functions_are_called_and_no_code_is_run_to_find_them(tmp_path, qualname, why):
    nodes = new_module(tmp_path, NODES)
    found = reason(trace_of("t.json", module=nodes.__name__, qualname=qualname))
    assert found in (why.format(nodes.__name__), f"the module {nodes.__name__} has no {qualname}")
    assert nodes.CALLED == []


@pytest.mark.parametrize("qualname", ["cached", "wrapped"])
def test_a_node_inside_other_decorators_is_called_by_itself(tmp_path, qualname):
    nodes = new_module(tmp_path, NODES)
    trace = trace_of("t.json", module=nodes.__name__, qualname=qualname)
    edit(trace, lambda document: document["steps"][0]["invocation_json"].update(payload={"x": 1}))
    edit(
        trace, lambda document: document["steps"][0].update(output_hash={"algorithm": "blake3", "value": hash_value(1)})
    )
    assert outcomes(replay(trace)) == [("o", "same_output", "")]


def test_what_a_module_has_taken_from_elsewhere_is_not_its_own(tmp_path, mark, monkeypatch):
    file = write(tmp_path / "outside" / "foreign_nodes.py", mark)
    file.write_text(
        file.read_text() + "\nfrom dataclasses import dataclass\n@dataclass\nclass Record:\n    x: int = 1\n"
    )
    monkeypatch.syspath_prepend(file.parent)
    (tmp_path / "work").mkdir()
    nodes = new_module(tmp_path / "work", "from foreign_nodes import Record, node\n")
    mark.unlink()
    text = reason(trace_of("t.json", module=nodes.__name__, qualname="node"), working_folder="work")
    assert text.startswith("the module foreign_nodes is not under the working folder")
    assert Resolver("work").class_named(f"{nodes.__name__}:Record") is None
    assert not mark.exists()
    (item,) = replay("t.json", working_folder="work", imports=["foreign_nodes"]).steps
    assert item.outcome == "ended_well"


def test_a_module_that_is_named_is_used_wherever_it_lies(tmp_path, mark, monkeypatch):
    file = write(tmp_path / "outside" / "trusted_nodes.py", mark)
    monkeypatch.syspath_prepend(file.parent)
    (tmp_path / "work").mkdir()
    trace = trace_of("t.json", module="trusted_nodes")
    assert "is not under the working folder" in reason(trace, working_folder="work")
    (item,) = replay(trace, working_folder="work", imports=["trusted_nodes"]).steps
    assert item.outcome == "ended_well"
    assert mark.read_text() == "called"


@pytest.mark.parametrize("name", ["no_such_module", "../evil", "", "a..b"])
def test_an_import_that_is_not_there_is_an_error(name):
    with pytest.raises(ReplayError):
        replay(trace_of("t.json"), imports=[name])


def test_a_module_that_fails_when_it_is_loaded_is_a_reason_not_a_crash(tmp_path):
    for number, source in enumerate(["raise SystemExit(3)", "1 / 0", "import no_such_thing"]):
        (tmp_path / f"failing_{number}.py").write_text(
            f"from flowtrace import traced_node\n@traced_node\ndef node(): pass\n{source}"
        )
        text = reason(trace_of("t.json", module=f"failing_{number}"))
        assert text.startswith(f"the module failing_{number} can't be loaded: ")
        (item,) = replay(trace_of("t.json", module="__main__", file=f"failing_{number}.py")).steps
        assert item.outcome == "ended_well"
        assert any("can't be loaded: " in note for note in item.notes)


def test_a_script_that_fails_before_it_defines_the_function(tmp_path):
    (tmp_path / "early.py").write_text("from flowtrace import traced_node\n1 / 0\n@traced_node\ndef node(): pass\n")
    text = reason(trace_of("t.json", module="__main__", file="early.py"))
    advice = 'lines that do its work belong under `if __name__ == "__main__":`'
    assert text.endswith(f"early.py can't be loaded: ZeroDivisionError: division by zero; {advice}")


def test_a_script_is_loaded_and_not_run(tmp_path):
    source = """
        import sys
        from dataclasses import dataclass
        from flowtrace import traced_node

        @dataclass
        class Order:
            item: str

        @traced_node(component="shop")
        def price(order: Order):
            @dataclass
            class Local:
                x: int
            return [order, Local(1), price.__module__]

        if __name__ == "__main__":
            print("running")
            price(Order("tea"))
    """
    (tmp_path / "elsewhere").mkdir()
    script = tmp_path / "elsewhere" / "my script.py"
    script.write_text(textwrap.dedent(source))
    environment = {**os.environ, "FLOWTRACE_OUT": "t.json", "FLOWTRACE_MODE": "always", "FLOWTRACE_CAPTURE_INPUTS": "1"}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("running\n", "")
    moved = tmp_path / "checkout" / "elsewhere"
    moved.mkdir(parents=True)
    script.rename(moved / script.name)
    main = sys.modules["__main__"]
    report = replay("t.json", working_folder="checkout")
    assert outcomes(report) == [("price", "same_output", "")]
    assert report.steps[0].exact_input
    assert sys.modules["__main__"] is main
    assert not (moved / "__pycache__").exists()


def test_a_module_is_found_beside_its_script_and_in_a_src_folder(tmp_path):
    for name, folder in (("beside_nodes", "bin"), ("inner_package.nodes", "src")):
        file = (tmp_path / folder / name.replace(".", "/")).with_suffix(".py")
        file.parent.mkdir(parents=True)
        file.write_text("from flowtrace import traced_node\n@traced_node\ndef node(): return 1\n")
        trace = trace_of("t.json", module=name, file=f"/home/ci/project/{folder}/{name.replace('.', '/')}.py")
        assert outcomes(replay(trace)) == [("o", "ended_well", "no output was recorded")]


# --- modules that are loaded for nothing

DECORATED = [
    "from flowtrace import traced_node\n@traced_node\ndef node(): pass",
    "from flowtrace import traced_node as step\n@step(component='c')\nasync def node(): pass",
    "import flowtrace\n@flowtrace.traced_node\ndef node(): pass",
    "import flowtrace as ft\n@print\n@ft.traced_node(component='c')\ndef node(): pass",
    "from flowtrace import *\nif True:\n    @traced_node\n    def node(): pass",
    "from flowtrace import traced_node\nstep = traced_node(component='c')\n@step\ndef node(): pass",
    "from functools import partial\nimport flowtrace\nstep = partial(flowtrace.traced_node)\n@step()\ndef node(): pass",
    "import flowtrace\ndef step(f):\n    return flowtrace.traced_node(f)\n@step\ndef node(): pass",
    "from flowtrace import traced_node\ndef node(): pass\nnode = traced_node(node)",
    "from helpers import step\n@step\ndef node(): pass",
    "from helpers import *\n@step\ndef node(): pass",
    "import helpers\n@helpers.step\ndef node(): pass",
    "import helpers as h\n@h.step\ndef node(): pass",
    "from trusted import anything\n@anything\ndef node(): pass",
]
NOT_DECORATED = [
    "def node(): pass",
    "import flowtrace\ndef node(): pass",
    "from functools import cache\n@cache\ndef node(): pass",
    "from flowtrace import traced_node\n@traced_node\ndef other(): pass\ndef node(): pass",
    "import flowtrace\n@flowtrace.flow('x')\ndef node(): pass",
    "from flowtrace import flow as traced\n@traced('x')\ndef node(): pass",
    "# from flowtrace import traced_node\ntraced_node = print\n@traced_node\ndef node(): pass",
    "from elsewhere import traced_node\n@traced_node\ndef node(): pass",
    "from helpers import plain\n@plain\ndef node(): pass",
    "import mine.flowtrace as flowtrace\n@flowtrace.traced_node\ndef node(): pass",
]
HELPERS = "from flowtrace import traced_node\nstep = traced_node(component='c')\ndef plain(f): return f\n"


def sources_in(folder):
    (folder / "helpers.py").write_text(HELPERS)
    return Sources(lambda path: True, lambda: [str(folder)], ["trusted"])


@pytest.mark.parametrize("source", DECORATED)
def test_a_decorator_is_found_by_reading(tmp_path, source):
    (tmp_path / "m.py").write_text(source)
    assert sources_in(tmp_path).decorates(str(tmp_path / "m.py"), "node")


@pytest.mark.parametrize("source", NOT_DECORATED)
def test_what_is_no_decorator_of_ours_is_none(tmp_path, source):
    (tmp_path / "m.py").write_text(source)
    assert not sources_in(tmp_path).decorates(str(tmp_path / "m.py"), "node")


@pytest.mark.parametrize(
    ("source", "qualname", "expected"),
    [
        ("class A:\n    @traced_node\n    def f(self): pass", "A.f", True),
        ("@traced_node\nclass A:\n    def f(self): pass", "A.f", True),
        ("class A:\n    def f(self): pass\n    f = traced_node(f)", "A.f", True),
        ("class A:\n    def f(self): pass\nA.f = traced_node(A.f)", "A.f", True),
        ("class A:\n    def f(self): pass\n    @traced_node\n    def g(self): pass", "A.f", False),
        ("class A:\n    @traced_node\n    def f(self): pass", "B.f", False),
    ],
)
def test_decorated_methods_are_found_by_reading(tmp_path, source, qualname, expected):
    (tmp_path / "m.py").write_text(f"from flowtrace import traced_node\n{source}")
    assert sources_in(tmp_path).decorates(str(tmp_path / "m.py"), qualname) is expected


def test_modules_that_import_each_other_are_read_to_an_end(tmp_path):
    (tmp_path / "m.py").write_text("from n import step\n@step\ndef node(): pass")
    (tmp_path / "n.py").write_text("from m import step")
    assert not sources_in(tmp_path).decorates(str(tmp_path / "m.py"), "node")


@pytest.mark.parametrize("module", ["deploy", "pkg.deploy", "space.deploy"])
def test_a_module_that_does_not_decorate_the_function_is_not_run_nor_are_its_packages(tmp_path, mark, module):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "space").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text(f"open({str(mark)!r}, 'w')")
    for place in (".", "pkg", "space"):
        (tmp_path / place / "deploy.py").write_text(f"def node(): pass\nopen({str(mark)!r}, 'w')")
    for file in (None, f"{module.replace('.', '/')}.py"):
        text = reason(trace_of("t.json", module=module, file=file))
        assert "is not decorated with traced_node in its source" in text
    text = reason(trace_of("t.json", module="__main__", file="deploy.py"))
    assert "is not decorated with traced_node in its source" in text
    assert not mark.exists()


def test_a_trace_puts_no_folder_on_the_path_in_which_the_function_is_not(tmp_path, mark):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "app_of_path.py").write_text("def node(): pass")
    write(tmp_path / "old" / "helper_of_path.py", mark)
    (tmp_path / "app_of_path.py").write_text(
        "from flowtrace import traced_node\ntry:\n    import helper_of_path\nexcept ImportError:\n    pass\n"
        "@traced_node\ndef node(): pass"
    )
    (item,) = replay(trace_of("t.json", module="app_of_path", file="old/app_of_path.py")).steps
    assert item.outcome == "ended_well"
    assert not mark.exists()


# --- classes that a trace names


def test_classes_come_from_usable_modules_only_and_are_made_without_running_their_code(tmp_path):
    nodes = new_module(
        tmp_path,
        """
        from dataclasses import dataclass
        from flowtrace import traced_node
        MADE = []

        @dataclass
        class Record:
            x: int
            def __post_init__(self):
                MADE.append(self.x)

        class Plain:
            def __init__(self):
                MADE.append("plain")

        @traced_node(component="a", operation="f")
        def f(x):
            return type(x).__name__
        """,
    )
    trace = record("t.json", lambda: nodes.f(nodes.Record(1)))
    nodes.MADE.clear()
    assert outcomes(replay(trace)) == [("f", "same_output", "")]

    def named(kind, name):
        content = {"$py": kind, "class": name, "fields": {"x": 1}, "args": [], "name": "x", "value": "v"}
        edit(trace, lambda document: document["steps"][0]["invocation_json"]["payload"].update(x=content))
        return reason(trace)

    refused = "at /x: the class {} is not the annotation's, nor in a module that may be used"
    for kind, name in [
        ("dataclass", "dataclasses:Field"),
        ("str", "subprocess:Popen"),
        ("exception", "subprocess:CalledProcessError"),
        ("enum", "flowtrace.settings.kinds:TraceMode"),
        ("dataclass", "../evil:Record"),
        ("dataclass", ":"),
    ]:
        assert named(kind, name) == refused.format(name)
    assert named("dataclass", f"{nodes.__name__}:Plain") == f"at /x: {nodes.__name__}:Plain is not a dataclass any more"
    assert named("type", f"{nodes.__name__}:Plain").endswith("is an argument, and the annotation does not name it")
    assert nodes.MADE == []


CLASSES = """
    from dataclasses import dataclass
    from flowtrace import traced_node
    RAN = []

    @dataclass
    class Own:
        x: int

    @dataclass
    class Sweeper:
        x: int
        def __del__(self):
            RAN.append("del")

    class Watched:
        def __set__(self, instance, value):
            RAN.append("set")

    @dataclass
    class WithProperties:
        x: int
        watched = Watched()

        @property
        def shown(self):
            return 1

        @shown.setter
        def shown(self, value):
            RAN.append("setter")

        def __setattr__(self, name, value):
            RAN.append("setattr")
            object.__setattr__(self, name, value)

    @traced_node(component="a", operation="f")
    def f(x):
        return type(x).__name__
"""


def test_a_class_runs_no_code_when_it_is_made_and_when_it_goes(tmp_path):
    nodes = new_module(tmp_path, CLASSES)
    trace = record("t.json", lambda: nodes.f(nodes.Own(1)))

    def made(cls, **state):
        content = {"$py": "dataclass", "class": f"{nodes.__name__}:{cls}", "fields": {"x": 1}, **state}
        edit(trace, lambda document: document["steps"][0]["invocation_json"]["payload"].update(x=content))
        (item,) = replay(trace).steps
        return item

    assert "has a __del__" in made("Sweeper").reason
    for name in ("watched", "shown", "__class__", "__dict__", "new"):
        assert made("WithProperties", state={name: 1}).outcome == "different_output"
    assert nodes.RAN == []


def test_a_class_of_another_module_has_to_be_imported_by_the_caller(tmp_path, mark):
    nodes = new_module(tmp_path, CLASSES)
    other = new_module(tmp_path, "from dataclasses import dataclass\n@dataclass\nclass Other:\n    x: int\n")
    trace = record("t.json", lambda: nodes.f(other.Other(1)))
    assert "nor in a module that may be used" in reason(trace)
    assert outcomes(replay(trace, imports=[other.__name__])) == [("f", "same_output", "")]
    write(tmp_path / "never_loaded.py", mark)
    content = {"$py": "dataclass", "class": "never_loaded:Other", "fields": {"x": 1}}
    edit(trace, lambda document: document["steps"][0]["invocation_json"]["payload"].update(x=content))
    assert "nor in a module that may be used" in reason(trace)
    assert not mark.exists()


def test_of_the_standard_library_only_harmless_classes_are_found(tmp_path):
    resolver = Resolver(tmp_path)
    assert resolver.class_named("http:HTTPStatus") is http.HTTPStatus
    for name in (
        "subprocess:Popen",
        "os:system",
        "pathlib:Path",
        "tempfile:TemporaryDirectory",
        "http:nothing",
        "",
        ":",
    ):
        assert resolver.class_named(name) is None


# --- payload files


@pytest.fixture
def with_payload(tmp_path):
    (tmp_path / "traces").mkdir()
    nodes = new_module(
        tmp_path,
        "from flowtrace import traced_node\n@traced_node(component='a', operation='f')\ndef f(x): return len(x)",
    )
    trace = record("traces/t.json", lambda: nodes.f("x" * 1000), max_value_bytes=100)
    return trace


def pointing_to(trace, path):
    edit(trace, lambda document: document["steps"][0].update(invocation_path=path))
    return reason(trace)


def test_a_payload_path_stays_in_the_folder_of_the_trace(with_payload, tmp_path):
    payload = b'{"x":"secret"}'
    name = hash_bytes(payload).value + ".json"
    (tmp_path / name).write_bytes(payload)
    (tmp_path / "traces" / name).symlink_to(tmp_path / name)
    (tmp_path / "traces" / "linked").symlink_to(tmp_path)
    refused = [
        *(f"../{name}", f"{tmp_path}/{name}", f"t.payloads/../../{name}", f"./{name}", f"a//{name}", f"a\\{name}"),
        *(f"c:{name}", f"a\0/{name}", "/etc/passwd", "", "t.payloads/", f"{name}\n", name, f"linked/{name}"),
        f"t.payloads/{'0' * 64}.json",
    ]
    for path in refused:
        found = pointing_to(with_payload, path)
        assert found.startswith("the payload file "), path
        assert "secret" not in found
    assert "is reached through a symbolic link" in pointing_to(with_payload, f"linked/{name}")
    for path in ("t.json", name.upper()):
        (tmp_path / "traces" / name.upper()).write_bytes(payload)
        shown = f"the payload file {path!r} is not named after the hash of its content"
        assert pointing_to(with_payload, path) == shown


def test_a_payload_file_holds_what_its_name_says(with_payload, tmp_path):
    (file,) = (tmp_path / "traces" / "t.payloads").iterdir()
    assert outcomes(replay(with_payload)) == [("f", "same_output", "")]
    file.write_bytes(b'{"x":"other"}')
    shown = f"the payload file 't.payloads/{file.name}'"
    assert reason(with_payload) == f"{shown} is not named after the hash of its content"
    file.unlink()
    os.mkfifo(file)
    assert reason(with_payload) == f"{shown} is not a file"
    file.unlink()
    file.mkdir()
    assert reason(with_payload) == f"{shown} is not a file"
    for content, why in ((b"[" * 5000, "can't be read"), (b"\xff", "can't be read"), (b"[1]", "is not an object of")):
        name = f"{hash_bytes(content).value}.json"
        (tmp_path / "traces" / name).write_bytes(content)
        assert why in pointing_to(with_payload, name)


def test_a_payload_file_beyond_measure_is_not_read(with_payload, tmp_path):
    (file,) = (tmp_path / "traces" / "t.payloads").iterdir()
    with file.open("ab") as opened:
        opened.truncate(1 << 40)
    assert reason(with_payload).startswith(f"the payload file 't.payloads/{file.name}' is larger than ")


# --- broken documents


def test_values_of_wrong_types_and_bottomless_ones_are_reasons_not_crashes(tmp_path):
    nodes = new_module(
        tmp_path, "from flowtrace import traced_node\n@traced_node(component='a', operation='f')\ndef f(x): return 1"
    )
    trace = record("t.json", lambda: nodes.f(1))
    deep = {"x": 1}
    for _ in range(150):
        deep = {"$py": "list", "class": "a:b", "items": [deep]}
    wrong = [None, [], "x", 1, {"payload": None}, {"payload": []}, {"payload": {"$py": "cut"}}, {"payload": {"$py": 1}}]
    for invocation in [*wrong, {"payload": {"x": deep}}, {"payload": {"args": 1, "kwargs": 2}}, {}]:
        edit(trace, lambda document: document["steps"][0].update(invocation_json=invocation))
        assert reason(trace)


def test_every_module_of_the_replay_is_loaded_only_when_it_is_asked_for():
    program = "import flowtrace, sys; print([n for n in sys.modules if n.startswith('flowtrace.re')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"
    assert callable(flowtrace.replay)
