"""`pytest --flowtrace-replay`: a trace of production is a regression suite, without any test being written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap

import pytest

from flowtrace import load_trace
from tests.integrations.projects import project, run_pytest
from tests.replay.workshop import edit

pytestmark = pytest.mark.costly
ORDERS = """
    from dataclasses import dataclass
    from decimal import Decimal

    from flowtrace import flow, traced_node

    PRICES = {"tea": Decimal("3.50"), "cake": Decimal("2.25"), "pot": Decimal("19.90")}

    @dataclass
    class Line:
        item: str
        count: int

    @traced_node(component="shop", operation="price")
    def price(line: Line) -> Decimal:
        return PRICES[line.item] * line.count

    @traced_node(component="shop", operation="discount")
    def discount(count: int) -> Decimal:
        return Decimal("0.9") if count >= 10 else Decimal(1)

    @traced_node(component="shop", operation="total")
    def total(lines: list[Line]) -> Decimal:
        return sum(map(price, lines), Decimal(0)) * discount(sum(line.count for line in lines))

    def serve():
        for count in (1, 4, 9, 12):
            total([Line("tea", count), Line("cake", 1)])
        price(Line("pot", 1))
        price(Line("pot", 2))
        price(Line("tea", 0))
        total([Line("gold", 1)])

    if __name__ == "__main__":
        serve()
"""
RECORD = {"FLOWTRACE_OUT": "trace.json", "FLOWTRACE_CAPTURE_INPUTS": "1", "FLOWTRACE_CAPTURE_OUTPUTS": "1"}


@pytest.fixture
def production(tmp_path):
    """A program that was run in production, and the trace of its last 20 steps, the last of which failed."""
    project(tmp_path, orders=ORDERS)
    command = [sys.executable, "orders.py"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | RECORD, capture_output=True, text=True, check=False)
    assert "KeyError: 'gold'" in done.stderr
    assert len(load_trace(tmp_path / "trace.json").steps) == 20
    return tmp_path


def change(folder, before, after):
    text = (folder / "orders.py").read_text(encoding="utf-8")
    assert text.count(before) == 1
    (folder / "orders.py").write_text(text.replace(before, after), encoding="utf-8")


def outcomes(done):
    return re.findall(r"^(\w+) \S*trace\.json::(\S+)", done.stdout, re.MULTILINE)


def reports(done):
    """Return the lines of the reports of the failures, without their titles."""
    text = done.stdout.partition("= FAILURES =")[2].partition("= short test summary")[0]
    return [line for line in text.splitlines() if line.strip("=_ ") and not line.startswith("___")]


def test_one_command_makes_a_suite_of_20_steps_that_passes(production):
    done = run_pytest(production, "--flowtrace-replay", "trace.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert "20 passed" in done.stdout.splitlines()[-1]


def test_after_a_change_it_fails_at_the_step_that_was_changed(production):
    change(production, "if count >= 10", "if count > 10")
    done = run_pytest(production, "--flowtrace-replay=trace.json", "-x", "-rf")
    assert outcomes(done) == [("FAILED", "09-shop.discount")]
    assert reports(done) == [
        "step 9, shop.discount: different output: its output differs",
        "called with {'count': 10}",
        "recorded    Decimal('0.9')",
        "now         Decimal('1')",
        "the function's code has changed since it was recorded",
    ]
    done = run_pytest(production, "--flowtrace-replay=trace.json", "-rf")
    assert outcomes(done) == [("FAILED", "09-shop.discount"), ("FAILED", "10-shop.total")]


def test_an_error_that_is_gone_or_new_fails_too(production):
    change(production, '"pot": Decimal("19.90")', '"gold": Decimal(1)')
    done = run_pytest(production, "--flowtrace-replay=trace.json", "-rf")
    assert [name for _, name in outcomes(done)] == ["15-shop.price", "16-shop.price", "18-shop.price", "19-shop.total"]
    assert reports(done)[:3] == [
        "step 15, shop.price: error appeared: KeyError: 'pot'",
        "called with {'line': Line(count=1, item='pot')}",
        "recorded    Decimal('19.90')",
    ]
    assert reports(done)[-4:] == [
        "step 19, shop.total: error vanished: it ended well; the recorded error is KeyError: 'gold'",
        "called with {'lines': [Line(count=1, item='gold')]}",
        "recorded    KeyError: 'gold'",
        "now         Decimal('1')",
    ]


def test_the_places_are_listed_where_an_output_is_long(tmp_path):
    module = """
        from flowtrace import traced_node

        @traced_node
        def table(rows: int) -> list:
            return [{"row": row, "name": f"number {row}"} for row in range(rows)]
    """
    project(tmp_path, tables=module)
    run = [sys.executable, "-c", "import tables; tables.table(30)"]
    subprocess.run(run, cwd=tmp_path, env=os.environ | RECORD | {"FLOWTRACE_MODE": "always"}, check=True)
    text = (
        (tmp_path / "tables.py")
        .read_text(encoding="utf-8")
        .replace("number {row}", "{'no' if row == 7 else 'number'} {row}")
    )
    (tmp_path / "tables.py").write_text(text, encoding="utf-8")
    done = run_pytest(tmp_path, "--flowtrace-replay=trace.json")
    assert reports(done)[-2:] == [
        "  /7/name: recorded 'number 7', now 'no 7'",
        "the function's code has changed since it was recorded",
    ]


def test_steps_are_run_by_name_in_workers_and_beside_other_tests(production):
    project(production, test_it="def test_it(): ...")
    done = run_pytest(production, "--flowtrace-replay=trace.json", "-n", "2", plugins=["xdist"])
    assert "20 passed" in done.stdout.splitlines()[-1], done.stdout
    done = run_pytest(production, "--flowtrace-replay=trace.json", "test_it.py", "-q")
    assert "21 passed" in done.stdout.splitlines()[-1], done.stdout
    done = run_pytest(production, "--flowtrace-replay=trace.json", "trace.json::09-shop.discount", "-q")
    assert "1 passed" in done.stdout.splitlines()[-1], done.stdout


def test_the_last_failed_are_run_again(production):
    change(production, "if count >= 10", "if count > 10")
    for count in ("2 failed, 18 passed", "2 failed"):
        done = run_pytest(production, "--flowtrace-replay=trace.json", "--lf", "-q")
        assert done.stdout.splitlines()[-1].startswith(count), done.stdout


def test_a_step_that_fails_leaves_a_trace_where_that_is_asked_for(production):
    change(production, "if count >= 10", "if count > 10")
    done = run_pytest(production, "--flowtrace-replay=trace.json", "--flowtrace=out", "-x")
    assert done.returncode == 1
    assert [path.name for path in (production / "out").iterdir()] == ["trace.json--09-shop.discount.json"]


SKIPS = """
    from flowtrace import traced_node

    class Cart:
        @traced_node(component="cart", operation="add")
        def add(self, item: str) -> str:
            return item

    @traced_node(component="shop", operation="log_in")
    def log_in(password: str) -> int:
        return 1

    def nested():
        @traced_node(component="shop", operation="inner")
        def inner():
            return 2
        return inner()

    @traced_node(component="shop", operation="open")
    def open_shop() -> int:
        return 1

    def make_cart():
        return Cart()

    def main():
        Cart().add("tea")
        log_in("hunter2")
        nested()
        open_shop()
        open_shop()
        raise OSError("outside")
"""


def test_what_can_not_be_called_again_is_skipped_with_the_reason(tmp_path):
    project(tmp_path, shop=SKIPS)
    run = [sys.executable, "-c", "import shop; shop.main()"]
    subprocess.run(run, cwd=tmp_path, env=os.environ | RECORD, capture_output=True, check=False)
    edit(tmp_path / "trace.json", lambda document: document["steps"][4].pop("invocation_json"))
    done = run_pytest(tmp_path, "--flowtrace-replay=trace.json", "-rs")
    reasons = re.findall(r"^SKIPPED \[1\] \S+: (.*)$", done.stdout, re.MULTILINE)
    assert reasons == [
        "it is an instance method: name a function that makes its object, --flowtrace-receiver MODULE:FACTORY",
        "its input is redacted at /password",
        "nested.<locals>.inner is defined inside another function, where it can't be found",
        "its input was not captured: FLOWTRACE_CAPTURE_INPUTS=1 keeps it next time",
        "the flow failed outside any node",
    ]
    assert "1 passed, 5 skipped" in done.stdout.splitlines()[-1]
    done = run_pytest(tmp_path, "--flowtrace-replay=trace.json", "--flowtrace-receiver=shop:make_cart")
    assert "2 passed, 4 skipped" in done.stdout.splitlines()[-1]


def test_a_step_in_which_the_process_died_is_not_called(production):
    died = {"code": "process_died", "message": "killed", "details": None}
    edit(production / "trace.json", lambda document: document["steps"][0].update(error=died))
    done = run_pytest(production, "--flowtrace-replay=trace.json", "-rs")
    assert "its process died in it, and this one would, too" in done.stdout
    assert "19 passed, 1 skipped" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (None, 4, "--flowtrace-replay: there is no file "),
        ("{}", 2, "trace.json: at /trace_version"),
        ("no JSON", 2, "trace.json: at (whole document): "),
    ],
)
def test_a_file_that_is_no_trace_is_an_error(tmp_path, content, code, says):
    if content is not None:
        (tmp_path / "trace.json").write_text(textwrap.dedent(content), encoding="utf-8")
    done = run_pytest(tmp_path, "--flowtrace-replay=trace.json")
    assert done.returncode == code
    assert says in done.stdout + done.stderr
