"""Notebooks: what a trace, a step and a comparison look like there, and what is replayed from its cells."""

from __future__ import annotations

import linecache
import subprocess
import sys
from html.parser import HTMLParser

import pytest

import flowtrace as library
from flowtrace.errors import ReplayError
from flowtrace.replaying.cell_source import is_cell, with_definitions
from tests import traces

PLAIN = {"b", "br", "div", "p", "pre", "table", "tbody", "td", "th", "thead", "tr"}
HOSTILE = '<script>alert(1)</script><img src=x onerror="x">&amp;\x1b[31m\u202e'

CELLS = [
    """
import datetime as dt
from dataclasses import dataclass

import flowtrace
from flowtrace import traced_node

flowtrace.configure(out_path="trace.json", mode="on", capture_inputs=True, capture_outputs=True)
DAY = dt.date(2026, 11, 29)
PRICES = {"tea": 2.5, "cake": None}
""",
    """
@dataclass
class Line:
    item: str
    count: int = 1


def rounded(value):
    return round(value, 2)
""",
    """
%precision 3
@traced_node(component="shop")
def price(line: Line, day=DAY):
    return rounded(PRICES[line.item] * line.count)
""",
    """
price(Line("tea"))
try:
    price(Line("cake", 3))
except TypeError:
    pass
""",
    "trace = flowtrace.load_trace('trace.json')\ntrace",
    "trace.failed_step",
    "[str(step.outcome) for step in flowtrace.replay(trace, emit_test='test_cake.py').steps]",
    """
@traced_node(component="shop")
def price(line: Line, day=DAY):
    return rounded((PRICES[line.item] or 0) * line.count)
""",
    "[(str(step.outcome), step.code_changed) for step in flowtrace.replay(trace, steps=1).steps]",
    "flowtrace.diff(trace, trace)",
]


class Tags(HTMLParser):
    """Collects the elements, and what stands in them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def executed(folder, *cells):
    """Run cells in a notebook, and return what each shows, by the kind of what it shows."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec
    from nbformat import v4

    class Kernel(AsyncKernelManager):
        """Python as it runs here, without anything that is installed for Jupyter."""

        @property
        def kernel_spec(self):
            return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])

    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(
        notebook, timeout=100, kernel_manager_class=Kernel, resources={"metadata": {"path": str(folder)}}
    ).execute()
    return [[output.get("data", dict(output)) for output in cell.outputs] for cell in notebook.cells]


@pytest.mark.costly
@pytest.mark.filterwarnings("ignore")  # of jupyter_client's and zmq's own
def test_a_notebook_shows_the_failing_step_replays_its_cells_and_writes_a_test(tmp_path):
    *_, shown, step, replayed, _, mended, compared = executed(tmp_path, *CELLS)
    error = "TypeError: unsupported operand type(s) for *: 'NoneType' and 'int'"
    found = Tags(shown[-1]["text/html"])
    assert f"✗ shop.price #1: {error}" in found.text
    assert "shop.price ◀ failed here" in found.text
    assert found.tags <= PLAIN
    assert shown[-1]["text/plain"].startswith("<Trace: flow 'process' 'unknown', outcome 'failed', 2 steps")
    assert error in Tags(step[-1]["text/html"]).text
    assert step[-1]["text/plain"].startswith("<Step shop.price: ")
    assert replayed[-1]["text/plain"] == "['same_error']"
    assert mended[-1]["text/plain"] == "[('error_vanished', True)]"
    assert compared[-1]["text/plain"] == "<TraceDiff: same, 2 steps compared>"
    assert Tags(compared[-1]["text/html"]).text.startswith("same: ")
    test = (tmp_path / "test_cake.py").read_text(encoding="utf-8")
    assert "__main__" not in test
    assert "trace.json" not in test
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_cake.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout


# --- as HTML


def checked(text):
    """Return the text of HTML that has plain elements alone, without an attribute."""
    found = Tags(text)
    assert found.tags <= PLAIN
    assert found.attributes == []
    assert "\x1b" not in text
    assert "\u202e" not in text
    return found.text


def test_whatever_stands_in_a_trace_is_text():
    error = {"code": "node_error", "message": HOSTILE, "details": {"type": HOSTILE, "frames": [{"file": HOSTILE}, 7]}}
    issue = {"code": HOSTILE, "path": HOSTILE, "message": HOSTILE}
    step = traces.step(f"c.{HOSTILE}", {HOSTILE: HOSTILE}, captured=True, code=HOSTILE, thread=HOSTILE)
    failed = step | {"error": error, "validation_issues": [issue]}
    trace = traces.trace(step, failed, flow=HOSTILE, run=traces.run(HOSTILE))
    for item in (trace, trace.steps[1], library.diff(trace, traces.trace(step, step))):
        assert "<script>alert(1)</script>" in checked(item._repr_html_())
        assert len(repr(item).splitlines()) == 1
        assert repr(item).isprintable()


def test_a_large_trace_is_shown_in_part():
    steps = [traces.step("c.f", "x" * 100_000, captured=True) for _ in range(150)]
    text = traces.trace(*steps)._repr_html_()
    assert "50 earlier steps are left out" in checked(text)
    assert len(text) < 100_000


def test_a_step_without_anything_but_the_core_is_shown():
    (step,) = traces.trace(traces.step("c.f")).steps
    assert checked(step._repr_html_()) == "c.f 0 ms"
    assert repr(step) == "<Step c.f: 0 ms>"


# --- the source of cells


@pytest.fixture
def cell():
    """Put source into `linecache`, as IPython does with that of a cell."""
    names = []

    def put(source):
        names.append(f"/tmp/ipykernel_0/{len(names)}.py")
        linecache.cache[names[-1]] = (len(source), None, source.splitlines(keepends=True), names[-1])
        return names[-1]

    yield put
    for name in names:
        del linecache.cache[name]


def definitions(namespace, *names):
    """Return what stands before the test."""
    test = "import pytest\n\nfrom __main__ import f\n\n\ndef test_f():\n    f()\n"
    text, _, rest = with_definitions(test, [(name, name) for name in names], namespace).partition("\n\n\ndef test_f():")
    assert rest == "\n    f()\n"
    return text


def test_a_definition_comes_with_what_it_uses_and_nothing_else(cell):
    cell("import os, json as j\nfrom pathlib import Path\nUNUSED = 1\nLIMIT = 2")
    cell("class Base:\n    pass\n\ndef helper(x):\n    y = LIMIT\n    return f(x) if y else j.dumps(x)")
    cell("@helper\ndef f(x, p=Path):\n    class Inner(Base):\n        pass\n    return helper(x)")
    found = definitions({"LIMIT": 7}, "f")
    assert found == (
        "import pytest\nfrom pathlib import Path\nimport json as j\n\n\nLIMIT = 7\n\n\n"
        "def helper(x):\n    y = LIMIT\n    return f(x) if y else j.dumps(x)\n\n\nclass Base:\n    pass\n\n\n"
        "@helper\ndef f(x, p=Path):\n    class Inner(Base):\n        pass\n    return helper(x)"
    )


def test_the_cell_that_was_run_last_counts(cell):
    cell("def f():\n    return 1")
    cell("def f():\n    return 2")
    assert definitions({}, "f").endswith("def f():\n    return 2")


@pytest.mark.parametrize(
    ("namespace", "reason"),
    [
        ({"LIMIT": object()}, "can't be written"),
        ({"LIMIT": {"password": "hunter2hunter2"}}, "is one that a trace hides"),
        ({"LIMIT": "postgres://ada:hunter2hunter2@db/x"}, "looks like a secret"),
    ],
)
def test_a_value_that_no_test_may_hold_is_named(cell, namespace, reason):
    cell("def f():\n    return LIMIT")
    with pytest.raises(ReplayError, match=f"the value of LIMIT, which the cell's code uses, {reason}"):
        definitions(namespace, "f")


def test_only_names_that_ipython_gives_are_cells(tmp_path):
    assert is_cell("/tmp/ipykernel_12/345.py")
    assert is_cell("C:\\Temp\\ipykernel_12\\345.py")
    assert is_cell("<ipython-input-1-abc>")
    for name in (None, "<stdin>", "<string>", "/srv/main.py", "/tmp/ipykernel_12/main.py", str(tmp_path)):
        assert not is_cell(name)
    real = tmp_path / "ipykernel_1" / "2.py"
    real.parent.mkdir()
    real.touch()
    assert not is_cell(str(real))
