"""The tool behind ``make thirdparty``: it decorates all that it says, and judges two runs as it says."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

from flowtrace.instrument import proxies
from flowtrace.instrument.traced_node import traced_node
from flowtrace.testing import recording

TOOL = Path(__file__).parent / "thirdparty"

EVERYTHING = """
import functools, os
from os.path import join

def plain(x=1):
    "Its docstring."
    return x

alias = plain
shout = lambda text: text.upper()
add_one = functools.partial(plain, 2)
nothing = None

@functools.lru_cache
def cached(x):
    return x * 2

def stream():
    yield 1

async def coroutine():
    return 1

class Meta(type):
    def on_the_class(cls):
        return cls.__name__

class Own(property):  # as werkzeug's: its getter() fails
    def __init__(self, fget, name):
        super().__init__(fget)

class Base(metaclass=Meta):
    made = []

    def __new__(cls, *args):
        return super().__new__(cls)

    def __init__(self, size=0):
        self._size = size

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        Base.made.append(cls.__name__)

    def __class_getitem__(cls, item):
        return cls.__name__, item

    def __len__(self):
        return self._size

    def method(self):
        return self

    same = method

    @classmethod
    def make(cls):
        return cls(3)

    @staticmethod
    def static(x):
        return x

    @property
    def size(self):
        "How large."
        return self._size

    @size.setter
    def size(self, value):
        self._size = value

    @size.deleter
    def size(self):
        self._size = 0

    @functools.cached_property
    def once(self):
        return object()

    half = functools.partialmethod(static, 2)
    own = Own(lambda self: 4, "own")

    class Inner:
        def method(self):
            return "inner"

class Named:
    @property
    def __name__(self):
        return "a name"
"""


@pytest.fixture
def tool(monkeypatch):
    """The tool's modules, which stand beside each other and not in a package."""
    monkeypatch.syspath_prepend(str(TOOL))
    monkeypatch.syspath_prepend(str(TOOL / "hook"))
    names = ("flowtrace_everywhere", "flowtrace_outcomes", "compare", "workshop")
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        del sys.modules[name]


@pytest.fixture
def load(tool, tmp_path, monkeypatch):
    """Write a package of the given modules, and import it under the hook."""
    monkeypatch.syspath_prepend(str(tmp_path))
    started = []

    def load_package(modules, name="fakepkg", first=None):
        for path, text in {"__init__": "", **modules}.items():
            file = tmp_path / name / f"{path}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        importlib.invalidate_caches()
        if first:
            importlib.import_module(first)
        everywhere = tool["flowtrace_everywhere"].Everywhere([name], traced_node)
        everywhere.install()
        started.append(everywhere)
        importlib.import_module(name)
        return everywhere

    yield load_package
    for everywhere in started:
        everywhere.uninstall()
    for name in [name for name in sys.modules if name.partition(".")[0] == "fakepkg"]:
        del sys.modules[name]


@pytest.fixture
def everything(load):
    load({"all": EVERYTHING})
    return importlib.import_module("fakepkg.all")


def is_traced(value):
    """Class methods, static methods and partials stay what they are, around a traced function."""
    inside = getattr(value, "func", None) if type(value) is functools.partial else value
    inside = inside.__func__ if type(value) in (classmethod, staticmethod) else inside
    return proxies.is_traced(inside)


@pytest.mark.parametrize("name", ["plain", "shout", "add_one", "cached", "stream", "coroutine"])
def test_module_level_callables_are_decorated(everything, name):
    assert is_traced(vars(everything)[name])


def test_what_other_packages_define_stays_as_it_is(everything):
    assert type(everything.join) is FunctionType
    assert everything.join is os.path.join
    assert everything.nothing is None


@pytest.mark.parametrize(
    "name",
    ["__new__", "__init__", "__init_subclass__", "__class_getitem__", "__len__", "method", "make", "static"],
)
def test_every_function_of_a_class_is_decorated(everything, name):
    assert is_traced(vars(everything.Base)[name])


def test_the_three_functions_of_a_property_are_decorated(everything):
    size = vars(everything.Base)["size"]
    assert all(map(is_traced, (size.fget, size.fset, size.fdel)))
    assert size.__doc__ == "How large."
    assert is_traced(vars(everything.Base)["own"].fget)


def test_cached_properties_and_partial_methods_are_decorated_inside(everything):
    assert is_traced(vars(everything.Base)["once"].func)
    assert vars(everything.Base)["half"].func is vars(everything.Base)["static"]


def test_nested_classes_and_metaclasses_are_decorated(everything):
    assert is_traced(vars(everything.Base.Inner)["method"])
    assert is_traced(vars(everything.Meta)["on_the_class"])


def test_the_same_function_under_two_names_becomes_the_same_wrapper(everything):
    assert everything.alias is everything.plain
    assert vars(everything.Base)["same"] is vars(everything.Base)["method"]


def test_a_name_that_belongs_to_the_class_itself_is_left_alone(everything):
    assert everything.Named.__name__ == "Named"
    assert everything.Named().__name__ == "a name"


def test_decorated_classes_still_work(everything):
    base = everything.Base(4)
    assert (len(base), base.size, base.method() is base) == (4, 4, True)
    assert base.own == 4
    base.size = 5
    assert base.size == 5
    del base.size
    assert base.size == 0
    assert base.once is base.once
    assert (base.half(), base.static(7), len(everything.Base.make())) == (2, 7, 3)
    assert everything.Base["item"] == ("Base", "item")
    assert everything.Base.on_the_class() == "Base"

    class Sub(everything.Base):
        pass

    assert everything.Base.made == ["Sub"]


def test_decorated_functions_still_work(everything):
    assert everything.add_one() == 2
    assert (everything.cached(2), everything.cached(2), everything.cached.cache_info().hits) == (4, 4, 1)
    assert list(everything.stream()) == [1]
    assert inspect.getsource(everything.plain).startswith("def plain(x=1):")


def test_each_decorated_object_is_counted_once(load):
    everywhere = load({"one": "def f(): ...\ng = f\nclass A:\n    def m(self): ...\n"})
    importlib.import_module("fakepkg.one")
    assert (everywhere.decorated, everywhere.modules, everywhere.left_alone) == (2, ["fakepkg", "fakepkg.one"], [])


def test_calls_are_recorded_in_steps(everything):
    with recording() as recorded:
        everything.Base.make()
    steps = [step for trace in recorded.traces for step in trace.steps]
    assert [step.operation for step in steps] == ["Base.__new__", "Base.__init__", "Base.make"]


def test_a_name_taken_before_decoration_is_put_right(load):
    # `second` imports `first` half done, in a circle, and so takes the bare function.
    load(
        {
            "first": "def f(): ...\nfrom fakepkg import second\n",
            "second": "from fakepkg.first import f\nclass A:\n    taken = f\n",
        }
    )
    first, second = importlib.import_module("fakepkg.first"), importlib.import_module("fakepkg.second")
    assert is_traced(first.f)
    assert second.f is first.f
    assert vars(second.A)["taken"] is first.f


def test_a_register_of_functions_holds_what_their_names_do(load):
    text = "def f(): ...\ndef g(): ...\nBY_NAME = {'f': f, 'len': len}\nIN_TURN = [g, f]\n"
    text += "def h(x=f): return x\nclass A:\n    TABLE = {'f': f}\n    static = staticmethod(f)\n"
    load({"first": text, "second": "from fakepkg.first import BY_NAME\n"})
    first, second = importlib.import_module("fakepkg.first"), importlib.import_module("fakepkg.second")
    assert is_traced(first.f)
    assert second.BY_NAME is first.BY_NAME
    assert first.BY_NAME == {"f": first.f, "len": len}
    assert {first.h(), first.A.TABLE["f"], first.A.static} == {first.f}
    assert [id(item) for item in (*first.IN_TURN, first.BY_NAME["f"])] == [id(first.g), id(first.f), id(first.f)]


def test_modules_that_were_imported_before_are_decorated_too(load):
    everywhere = load({"early": "def f(): ...\n"}, first="fakepkg.early")
    assert is_traced(sys.modules["fakepkg.early"].f)
    assert everywhere.decorated == 1


@pytest.mark.parametrize("name", ["tests/__init__", "tests/helper", "test_one", "sub/conftest"])
def test_the_packages_own_tests_are_left_alone(load, name):
    load({name: "def f(): ...\n"})
    module = importlib.import_module("fakepkg." + name.replace("/", ".").removesuffix(".__init__"))
    assert type(module.f) is FunctionType


def test_functions_made_by_a_decorator_count_as_the_modules_own(load):
    text = "import functools\nfrom contextlib import contextmanager\n@contextmanager\ndef held():\n    yield 1\n"
    load({"made": text})
    made = importlib.import_module("fakepkg.made")
    assert is_traced(made.held)
    with made.held() as value:
        assert value == 1


@pytest.mark.costly
def test_the_hook_starts_from_the_environment_and_leaves_its_numbers(tmp_path):
    (tmp_path / "fakepkg.py").write_text("def f(x):\n    return g(x)\ndef g(x):\n    return x\n")
    code = "import flowtrace_everywhere as e; assert e.install() is e.install(); import fakepkg; print(fakepkg.f(3))"
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TOOL / "hook"), str(tmp_path)]),
        "FLOWTRACE_EVERYWHERE": "fakepkg",
        "FLOWTRACE_EVERYWHERE_STATS": str(tmp_path),
        "FLOWTRACE_OUT": str(tmp_path / "trace.json"),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("3\n", "", 0)
    (stats,) = [path for path in tmp_path.glob("*.json") if path.stem.isdigit()]
    assert json.loads(stats.read_text()) == {
        "argv": ["-c"],
        "decorated": 2,
        "modules": 1,
        "left_alone": [],
        "steps": 2,
        "faults": {},
    }


OUTCOMES = """
import pytest
def test_good(): ...
def test_bad(): assert 0
def test_skipped(): pytest.skip()
@pytest.mark.xfail
def test_expected(): assert 0
@pytest.mark.xfail
def test_unexpected(): ...
@pytest.fixture
def broken():
    yield
    raise ValueError("in teardown")
def test_teardown(broken): ...
@pytest.fixture
def unready():
    raise ValueError("in setup")
def test_setup(unready): ...
"""


@pytest.mark.costly
def test_outcomes_are_those_that_pytest_counts(tmp_path):
    (tmp_path / "test_these.py").write_text(OUTCOMES)
    (tmp_path / "test_unreadable.py").write_text("1 +\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    out = tmp_path / "outcomes.jsonl"
    environ = {**os.environ, "PYTHONPATH": str(TOOL / "hook"), "FLOWTRACE_OUTCOMES": str(out)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "flowtrace_outcomes", "-p", "no:cacheprovider"]
    command += ["--continue-on-collection-errors"]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True)
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert {record["test"].rpartition("::")[2]: record["outcome"] for record in records} == {
        "test_unreadable.py": "error",
        "test_good": "passed",
        "test_bad": "failed",
        "test_skipped": "skipped",
        "test_expected": "xfailed",
        "test_unexpected": "xpassed",
        "test_teardown": "error",
        "test_setup": "error",
    }, done.stdout
    texts = {record["test"].rpartition("::")[2]: record["text"] for record in records}
    assert "ValueError: in teardown" in texts["test_teardown"]
    assert texts["test_good"] == ""


def test_every_change_of_an_outcome_is_a_difference(tool):
    compare = tool["compare"]
    before = {name: compare.Outcome(outcome) for name, outcome in zip("abcd", ["passed"] * 3 + ["failed"], strict=True)}
    after = {"a": compare.Outcome("passed"), "b": compare.Outcome("failed", "why"), "d": compare.Outcome("passed")}
    after["e"] = compare.Outcome("passed")
    found = compare.differences(before, after)
    assert [str(item) for item in found] == [
        "passed -> failed: b\n    why",
        "passed -> did not run: c",
        "failed -> passed: d",
        "did not run -> passed: e",
    ]


def test_an_explanation_covers_a_difference_and_is_stale_without_one(tool):
    compare = tool["compare"]
    found = compare.differences({"a": compare.Outcome("passed")}, {"a": compare.Outcome("failed")})
    explained = [compare.Explained("suite", name, ("on",), "because") for name in ("a", "b")]
    assert compare.split(found, explained) == ([], ["b"])
    assert compare.split(found, []) == (found, [])


def test_an_explanation_must_say_everything(tool, tmp_path):
    compare = tool["compare"]
    file = tmp_path / "explained.toml"
    file.write_text('[[explained]]\nsuite = "s"\ntest = "t"\nmodes = ["on"]\nwhy = "it counts frames"\n')
    (entry,) = compare.load_explained(file)
    assert entry == compare.Explained("s", "t", ("on",), "it counts frames")
    assert (entry.counts("on"), entry.counts("off")) == (True, False)
    file.write_text('[[explained]]\nsuite = "s"\ntest = "t"\nmodes = ["on"]\nwhy = ""\n')
    with pytest.raises(ValueError, match="must have suite, test, modes and why"):
        compare.load_explained(file)


def test_the_files_that_ship_are_readable(tool):
    compare, workshop = tool["compare"], tool["workshop"]
    import tomllib

    entries = tomllib.loads((TOOL / "suites.toml").read_text())
    suites = [workshop.Suite.of(name, entries) for name in entries]
    assert len(suites) >= 3
    known = {suite.name for suite in suites}
    assert {item.suite for item in compare.load_explained(TOOL / "explained.toml")} <= known


def test_a_suite_without_an_entry_is_the_newest_release(tool):
    suite = tool["workshop"].Suite.of("anything", {})
    assert (suite.name, suite.requirement) == ("anything", "anything")
    assert tool["workshop"].Suite.of("anything==1.2", {}).requirement == "anything==1.2"
    assert tool["workshop"].Suite.of("known", {"known": {"version": "3", "tests": ["t"]}}).tests == ("t",)


def test_the_suites_own_pytest_configuration_is_found(tool, tmp_path):
    find = tool["workshop"]._pytest_config
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "setup.cfg").write_text("[tool:pytest]\n")
    assert find(tmp_path) == tmp_path / "setup.cfg"
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    assert find(tmp_path) == tmp_path / "pyproject.toml"


def test_without_a_configuration_of_its_own_a_suite_gets_an_empty_one(tool, tmp_path):
    assert tool["workshop"]._pytest_config(tmp_path).read_text() == "[pytest]\n"


def test_decorating_twice_changes_nothing(load):
    everywhere = load({"one": "def f(): ...\n"})
    module = importlib.import_module("fakepkg.one")
    before = module.f
    everywhere.decorate_module(module)
    assert module.f is before
    assert everywhere.decorated == 1


def test_functools_wraps_of_a_foreign_function_is_the_modules_own(load):
    load({"one": "import functools, os\n@functools.wraps(os.getcwd)\ndef here():\n    return 1\n"})
    module = importlib.import_module("fakepkg.one")
    assert is_traced(module.here)
    assert module.here() == 1
