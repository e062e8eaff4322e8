"""`FLOWTRACE_AUTO`: functions that nobody decorated are traced, and their modules can't tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from flowtrace.cli.run import program_environment
from flowtrace.instrument.autotrace import AutoTracer, Patterns, install
from flowtrace.settings.kinds import PATTERNS, TraceMode, ValidationMode
from flowtrace.settings.variables import Parsed, Problem, parse

ACCEPTS = "dotted names of modules or functions, with * ? [...] for anything, separated by commas"


@pytest.fixture(autouse=True)
def packages(tmp_path):
    """Put files below the current folder; remember none of what is imported from there."""
    yield lambda files: [put(tmp_path / name, text) for name, text in files.items()]
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, AutoTracer)]


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")


def run(program, *, auto, options=(), code=0, traced=True, **variables):
    """Run a program as `flowtrace run --auto` does, with its steps in trace.json; or without us."""
    environment = {**os.environ, "PYTHONWARNINGS": "error", **variables}
    if traced:
        environment = program_environment(environment, mode="always", out="trace.json", auto=auto)
    put(Path("program.py"), program)
    command = [sys.executable, *options, "program.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done


def steps(path="trace.json"):
    return [step["node_id"] for step in json.loads(Path(path).read_bytes())["steps"]]


# --- patterns


@pytest.mark.parametrize(
    ("pattern", "module", "name", "matches"),
    [
        ("pkg.nodes", "pkg.nodes", "load", True),
        ("pkg.nodes", "pkg.nodes", "Store.get", True),
        ("pkg.nodes", "pkg.nodes.deep", "load", False),
        ("pkg.nodes", "pkg", "load", False),
        ("pkg.nodes.*", "pkg.nodes", "load", True),
        ("pkg.nodes.*", "pkg.nodes.deep", "load", True),
        ("pkg.nodes.*", "pkg.nodesque", "load", False),
        ("pkg.nodes.*", "pkg", "nodes", False),
        ("pkg.nodes.load_*", "pkg.nodes", "load_cars", True),
        ("pkg.nodes.load_*", "pkg.nodes", "save", False),
        ("pkg.nodes.Store.*", "pkg.nodes", "Store.get", True),
        ("pkg.nodes.load", "pkg.nodes", "load", True),
        ("pkg.*.nodes", "pkg.a.nodes", "load", True),
        ("*.nodes", "pkg.nodes", "load", True),
        ("pkg.nodes[12]", "pkg.nodes2", "load", True),
        ("PKG.*", "pkg.nodes", "load", False),
    ],
)
def test_a_pattern_names_modules_or_functions(pattern, module, name, matches):
    patterns = Patterns([pattern])
    assert patterns.match(module, name) is matches
    assert patterns.may_match_in(module) or not matches


@pytest.mark.parametrize(
    "module", ["json", "json.decoder", "flowtrace", "flowtrace.values.encode", "wrapt", "__main__"]
)
def test_what_flowtrace_stands_on_is_never_traced(module):
    assert not Patterns(["*", module, f"{module}.*"]).may_match_in(module)


def test_the_variable_takes_patterns():
    off = {"mode": TraceMode.OFF, "validation": ValidationMode.OFF}
    taken = parse({"FLOWTRACE_AUTO": " pkg.nodes.*, app.[ab]? ,"})
    assert taken == Parsed(off, {}, False, {"auto": "FLOWTRACE_AUTO"}, [], ("pkg.nodes.*", "app.[ab]?"))
    for text in ("pkg/nodes.py", "pkg nodes", "pkg:f", "a,b c"):
        assert parse({"FLOWTRACE_AUTO": text}) == Parsed(off, {}, False, {}, [Problem("FLOWTRACE_AUTO", text, ACCEPTS)])
    assert PATTERNS.check(["a.*", "b"]) == ("a.*", "b")


# --- what is traced


NODES = """
    import functools
    from other import helper
    PI = 3.14
    def load(x): return [x]
    def _private(x): return x
    async def later(x): return x
    def several(x): yield x
    double = lambda x: 2 * x
    alias = load
    @functools.wraps(load)
    def wrapped(x): return load(x)
    class Store:
        def __init__(self): self.kept = 1
        def get(self): return self.kept
        def _hidden(self): return 2
        @classmethod
        def make(cls): return cls()
        @staticmethod
        def name(): return "store"
        @property
        def size(self): return 3
    class _Inner:
        def get(self): return 1
"""


def test_public_functions_and_methods_of_a_module_become_nodes(packages):
    packages({"pkg/__init__.py": "", "pkg/nodes.py": NODES, "other.py": "def helper(): return 1\n"})
    program = """
        import asyncio, flowtrace, inspect, pickle
        from pkg import nodes
        with flowtrace.flow("all"):
            nodes.load(1), nodes._private(1), nodes.double(1), nodes.helper(), nodes.alias(1), nodes._Inner().get()
            asyncio.run(nodes.later(1)), list(nodes.several(1))
            store = nodes.Store.make()
            store.get(), store._hidden(), store.name(), store.size
        assert nodes.alias is nodes.load
        assert pickle.loads(pickle.dumps(nodes.load)) is nodes.load
        assert pickle.loads(pickle.dumps(store)).get() == 1
        assert pickle.loads(pickle.dumps(store.get))() == 1
        assert inspect.isfunction(nodes.load) and inspect.getsource(nodes.load) == "def load(x): return [x]\\n"
        assert inspect.signature(nodes.Store.get) == inspect.signature(lambda self: 0)
    """
    run(program, auto=["pkg.nodes"])
    assert steps() == [
        *("pkg.nodes.load", "pkg.nodes.load", "pkg.nodes.later", "pkg.nodes.several"),
        *("pkg.nodes.Store.make", "pkg.nodes.Store.get", "pkg.nodes.Store.name"),
        *("pkg.nodes.Store.get", "pkg.nodes.Store.get"),  # after the flow: the file is that of the whole process
    ]


@pytest.mark.costly
def test_only_the_named_functions_of_a_module(packages):
    packages(
        {"pkg.py": "def load_a(): pass\ndef save(): pass\nclass S:\n    def get(self): pass\n    def put(self): pass"}
    )
    program = "import flowtrace, pkg\nwith flowtrace.flow('f'): pkg.load_a(), pkg.save(), pkg.S().get(), pkg.S().put()"
    run(program, auto=["pkg.load_*", "pkg.S.put"])
    assert steps() == ["pkg.load_a", "pkg.S.put"]


@pytest.mark.costly
def test_a_node_that_somebody_decorated_is_recorded_once(packages):
    packages(
        {
            "pkg.py": """
            import functools
            from flowtrace import traced_node
            def retry(f):
                @functools.wraps(f)
                def again(*args): return f(*args)
                return again
            @traced_node(component="c", operation="inner")
            def inner(): return 1
            @retry
            @traced_node(component="c", operation="outer")
            def outer(): return inner()
            """
        }
    )
    run("import pkg; pkg.outer()", auto=["pkg.*"])
    assert steps() == ["c.inner", "c.outer"]


@pytest.mark.costly
def test_a_function_that_another_module_took_in_a_circular_import_is_traced_there_too(packages):
    packages(
        {
            "pkg/__init__.py": "",
            "pkg/a.py": "def f(): return 1\nfrom pkg import b\n",
            "pkg/b.py": "from pkg.a import f\ndef g(): return f()\n",
        }
    )
    run("from pkg import a; a.b.g()", auto=["pkg.a"])
    assert steps() == ["pkg.a.f"]


# --- the module can't tell


FACTS = """
    import importlib, importlib.resources, importlib.util, inspect, json, linecache, pkgutil, sys, types
    import pkg.nodes as nodes
    def facts():
        loader, spec = nodes.__loader__, nodes.__spec__
        assert spec.loader is loader
        return [
            type(loader).__name__, sorted(vars(loader)), spec.name, spec.origin, spec.cached, spec.has_location,
            loader.get_source("pkg.nodes"), inspect.getsource(nodes), type(nodes).__name__, sorted(vars(nodes)),
            nodes.load.__module__, nodes.load.__qualname__, nodes.load.__doc__, nodes.load.__code__.co_firstlineno,
            importlib.resources.files("pkg").joinpath("data.txt").read_text(),
            pkgutil.get_data("pkg", "data.txt").decode(),
            [item.name for item in pkgutil.iter_modules(sys.modules["pkg"].__path__)],
            importlib.util.find_spec("pkg.nodes") is spec, repr(nodes), "sitecustomize" in sys.modules,
            [entry for entry in sys.path if "flowtrace" in entry and "autostart" in entry], __name__,
            list(map(repr, importlib.util.find_spec("pkg.later").loader.__class__.__mro__)),
        ]
    first = facts()
    assert importlib.reload(nodes) is nodes
    print(json.dumps([first, facts() == first]))
    nodes.load(1)
"""


@pytest.mark.costly
def test_a_traced_module_looks_as_it_does_without_us(packages):
    packages(
        {
            "pkg/__init__.py": "",
            "pkg/data.txt": "data",
            "pkg/later.py": "",
            "pkg/nodes.py": '"""Doc."""\n\n\ndef load(x):\n    """Load."""\n    return x\n',
        }
    )
    plain = run(FACTS, auto=[], traced=False)
    traced = run(FACTS, auto=["pkg.*"])
    assert (traced.stdout, traced.stderr) == (plain.stdout, plain.stderr)
    assert json.loads(traced.stdout)[1] is True
    assert steps() == ["pkg.nodes.load"]


@pytest.mark.parametrize(
    "broken", ["def f(): return 1 / 0\nf()\n", "def f(:\n", "import absent\n", "raise ImportError('no')\n", "exit(3)\n"]
)
def test_an_import_that_fails_has_the_same_traceback(packages, broken):
    packages({"pkg/__init__.py": "from pkg.nodes import f", "pkg/nodes.py": broken})
    code = 3 if "exit" in broken else 1
    plain = run("import pkg", auto=[], traced=False, code=code)
    assert run("import pkg", auto=["pkg.*"], code=code).stderr == plain.stderr


@pytest.mark.costly
def test_modules_in_an_archive_and_lazy_modules_are_traced(packages, tmp_path):
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("packed/__init__.py", "def zero(): return 0\n")
        archive.writestr("packed/one.py", "def one(): return 1\n")
        archive.writestr("packed/two.py", "from packed.one import one\ndef two(): return one() + 1\n")
        archive.writestr("plain.py", "def three(): return 3\n")
    packages({"lazy.py": "def late(): return 4\n"})
    program = """
        import importlib.util, sys, flowtrace
        sys.path.insert(0, "packed.zip")
        import plain, packed.two
        spec = importlib.util.find_spec("lazy")
        spec.loader = importlib.util.LazyLoader(spec.loader)
        lazy = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(lazy)
        with flowtrace.flow("f"):
            assert (packed.zero(), packed.two.two(), plain.three(), lazy.late()) == (0, 2, 3, 4)
    """
    run(program, auto=["packed.*", "lazy"])
    assert steps() == ["packed.zero", "packed.one.one", "packed.two.two", "lazy.late"]


@pytest.mark.costly
def test_odd_classes_work_as_before(packages):
    packages(
        {
            "odd.py": """
            import abc, dataclasses, enum, typing
            class Meta(type):
                def __setattr__(cls, name, value): raise AttributeError(name)
            class Closed(metaclass=Meta):
                def get(self): return 1
            class Colour(enum.Enum):
                RED = 1
                def shown(self): return self.name
            class Base(abc.ABC):
                @abc.abstractmethod
                def run(self): return "base"
            class Child(Base):
                def run(self): return super().run() + " child"
            @dataclasses.dataclass(frozen=True, slots=True)
            class Point:
                x: int
                def moved(self): return dataclasses.replace(self, x=self.x + 1)
            class Pair(typing.NamedTuple):
                a: int
                def total(self): return self.a
            class Sized(typing.Protocol):
                def size(self) -> int: ...
            class Error(ValueError):
                def code(self): return 3
            T = typing.TypeVar("T")
            class Box(typing.Generic[T]):
                def open(self): return 5
            """
        }
    )
    program = """
        import odd, flowtrace
        with flowtrace.flow("f"):
            assert odd.Closed().get() == 1
            assert odd.Colour.RED.shown() == "RED" and list(odd.Colour) == [odd.Colour(1)]
            assert odd.Child().run() == "base child"
            assert odd.Point(1).moved() == odd.Point(2)
            assert odd.Pair(4).total() == 4
            assert odd.Error().code() == 3
            assert odd.Box[int]().open() == 5
        try:
            odd.Base()
        except TypeError:
            print("abstract")
    """
    assert run(program, auto=["odd"]).stdout == "abstract\n"
    assert [step.partition(".")[2] for step in steps()] == [
        *("Closed.get", "Colour.shown", "Base.run", "Child.run", "Point.moved", "Pair.total", "Error.code", "Box.open"),
    ]


@pytest.mark.costly
def test_everything_may_be_asked_for(packages):
    packages({"pkg.py": "import json, decimal, typing, numpy, attrs\ndef f(): return json.loads('1')\n"})
    run("import pkg; assert pkg.f() == 1", auto=["*"])
    assert steps()[-1] == "pkg.f"


# --- how it starts


@pytest.mark.costly
@pytest.mark.parametrize("pure", ["0", "1"])
@pytest.mark.parametrize("variables", [{}, {"FLOWTRACE_BLACKBOX": "app.ring"}], ids=["plain", "box"])
def test_what_the_recorder_loads_for_itself_is_left_alone(packages, variables, pure):
    packages(
        {"parts.py": "def weigh(part):\n    return len(part)\ndef total(parts):\n    return sum(map(weigh, parts))\n"}
    )
    program = """
        import flowtrace
        from parts import total

        @flowtrace.traced_node
        def own(words):
            return total(words)

        print(own(["axle", "wheel"]))
        with flowtrace.flow("f"):
            total([])
        flowtrace.dump("dumped.json")
        """
    asked = {"FLOWTRACE_AUTO": "*", "FLOWTRACE_OUT": "t.json", "FLOWTRACE_MODE": "always", "FLOWTRACE_PURE": pure}
    done = run(program, auto="", traced=False, **asked, **variables)
    assert (done.stdout, done.stderr) == ("9\n", "")
    assert steps("dumped.json") == ["parts.weigh", "parts.weigh", "parts.total", "__main__.own", "parts.total"]


@pytest.mark.costly
def test_a_traced_function_that_runs_while_the_recorder_is_loaded_is_not_recorded(packages):
    packages({"finding.py": "def looks_for(name):\n    return None\n"})
    program = """
        import importlib.abc, sys
        import flowtrace
        import finding

        class Finder(importlib.abc.MetaPathFinder):  # as those of test runners, whose functions may be traced
            def find_spec(self, fullname, path, target=None):
                return finding.looks_for(fullname)

        sys.meta_path.insert(0, Finder())
        flowtrace.configure(mode="always", out_path="t.json")

        @flowtrace.traced_node
        def own(number):
            return number

        print(own(1))
        """
    done = run(program, auto="", traced=False, FLOWTRACE_AUTO="finding")
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert steps("t.json") == ["__main__.own"]


def test_a_users_own_sitecustomize_runs_as_always(packages):
    packages({"site/sitecustomize.py": "import sys\nsys.mine = [__name__, __file__, 'sitecustomize' in sys.modules]\n"})
    program = "import sys; print(sys.mine, sys.modules['sitecustomize'].__file__, sys.path[1])"
    site = str(Path("site").resolve())
    plain = run(program, auto=[], traced=False, PYTHONPATH=site)
    traced = run(program, auto=["pkg"], PYTHONPATH=site)
    assert (traced.stdout, traced.stderr) == (plain.stdout, plain.stderr)


@pytest.mark.parametrize("broken", ["1 / 0", "import absent", "raise ImportError(name='sitecustomize')", "def f(:"])
def test_a_users_broken_sitecustomize_is_told_of_as_always(packages, broken):
    packages({"site/sitecustomize.py": broken})
    plain = run("print(1)", auto=[], traced=False, PYTHONPATH="site")
    traced = run("print(1)", auto=["pkg"], PYTHONPATH="site")
    assert (traced.stdout, traced.stderr) == (plain.stdout, plain.stderr)


@pytest.mark.costly
def test_child_processes_are_traced_too(packages):
    packages({"pkg.py": "import os\ndef f(x): return x\n"})
    program = """
        import multiprocessing, subprocess, sys
        import pkg
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool: print(pool.map(pkg.f, [1]))
            subprocess.run([sys.executable, "-c", "import pkg; print(type(pkg.f).__name__)"])
    """
    run(program, auto=["pkg"])
    run("import subprocess, sys; subprocess.run([sys.executable, '-c', 'import pkg; pkg.f(1)'])", auto=["pkg"])
    assert steps() == ["pkg.f"]
    (child,) = Path().glob("trace.[0-9]*.json")
    assert steps(child) == ["pkg.f"]


def test_a_child_whose_python_has_no_flowtrace_runs_as_always(tmp_path):
    look = (
        "import sys; print('flowtrace' in sys.modules, sys.modules.get('sitecustomize'), sys.path,"
        " [type(item).__name__ for item in sys.meta_path])"
    )
    base = sys._base_executable  # outside the virtual environment of these tests
    said = {
        subprocess.run([base, "-c", look], env=environment, capture_output=True, text=True, timeout=60).stdout
        for environment in (dict(os.environ), program_environment(os.environ, auto=["pkg"]))
    }
    assert len(said) == 1
    assert said.pop().startswith("False ")


@pytest.mark.costly
def test_the_variable_alone_works_for_what_is_imported_after_flowtrace(packages):
    packages({"before.py": "def a(): pass\n", "after.py": "def b(): pass\n"})
    program = "import before, flowtrace, after\nwith flowtrace.flow('f'): before.a(), after.b()"
    run(
        program,
        auto=[],
        traced=False,
        FLOWTRACE_AUTO="before,after",
        FLOWTRACE_OUT="trace.json",
        FLOWTRACE_MODE="always",
    )
    assert steps() == ["after.b"]


@pytest.mark.parametrize(
    "environ",
    [{}, {"FLOWTRACE_AUTO": " , "}, {"FLOWTRACE_AUTO": "a b"}, {"FLOWTRACE_AUTO": "a", "FLOWTRACE_DISABLED": "1"}],
)
def test_nothing_is_installed_where_nothing_is_named_or_the_kill_switch_is_set(environ):
    before = list(sys.meta_path)
    assert install(environ) is None
    assert sys.meta_path == before


def test_the_hook_is_installed_once_and_before_the_others():
    hook = install({"FLOWTRACE_AUTO": "pkg"})
    assert install({"FLOWTRACE_AUTO": "other"}) is hook
    assert sys.meta_path[0] is hook
    assert [finder for finder in sys.meta_path if isinstance(finder, AutoTracer)] == [hook]
    hook.uninstall()
    assert hook not in sys.meta_path


def test_a_function_that_can_not_be_decorated_stays_as_it_is(packages, monkeypatch, tmp_path, stderr):
    packages({"stubborn.py": "def f(): return 1\n"})
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("flowtrace.instrument.autotrace.traced_node", lambda _: 1 / 0)
    install({"FLOWTRACE_AUTO": "stubborn"})
    import stubborn

    sys.modules.pop("stubborn")
    assert stubborn.f() == 1
    assert type(stubborn.f).__name__ == "function"
    assert "trace a function of an imported module" in stderr.readouterr().err
