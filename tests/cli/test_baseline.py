"""`flowtrace check --baseline`, with real programs in real processes: a golden run is compared, kept and renewed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowtrace import load_trace
from tests.cli.commands import flowtrace

PROGRAM = """
import os
from flowtrace import flow, traced_node

@traced_node(component="shop")
def price(count):
    return {"total": count * FACTOR, "text": "x" * LENGTH}

with flow("order"):
    price(3)
"""


def program(factor="2", length="3"):
    Path("shop.py").write_text(PROGRAM.replace("FACTOR", factor).replace("LENGTH", length), encoding="utf-8")


def check(*arguments, **variables):
    done = flowtrace("check", "--baseline", "golden/shop.json", *arguments, "shop.py", **variables)
    assert done.stderr == "" or done.returncode == 2
    return done


def files():
    return sorted(str(path) for path in Path("golden").rglob("*") if path.is_file())


@pytest.mark.costly
def test_a_run_is_compared_with_a_trace_that_is_kept():
    program()
    missing = check()
    complaint = "flowtrace: golden/shop.json: is not there yet; --update makes it\n"
    assert (missing.returncode, missing.stdout, missing.stderr) == (2, "", complaint)

    made = check("--update")
    assert (made.returncode, made.stdout) == (0, "golden/shop.json is renewed  1 run of shop.py, 2 steps\n")
    assert [step.node_id for step in load_trace("golden/shop.json").steps] == ["shop.price", "order"]
    assert flowtrace("validate", "--strict", "golden/shop.json").returncode == 0

    same = check("-n", "2")
    assert (same.returncode, same.stdout) == (0, "the same as golden/shop.json  2 runs of shop.py, 2 steps\n")

    program("5")
    differs = check()
    assert differs.returncode == 1
    lines = differs.stdout.splitlines()
    assert lines[:4] == [
        "not the same as golden/shop.json  1 run of shop.py, 2 steps",
        "first node that is not as before: shop.price",
        "",
        "A is golden/shop.json, B is run 1",
    ]
    assert lines[-1] == "                  /total  6 -> 15"

    found = json.loads(check("--json").stdout)
    assert (found["same"], found["node"], found["program"]) == (False, "shop.price", ["shop.py"])
    assert (found["baseline"], found["updated"]) == ("golden/shop.json", False)

    renewed = check("--update")
    assert (renewed.returncode, renewed.stdout.splitlines()[0]) == (
        0,
        "golden/shop.json is renewed  1 run of shop.py, 2 steps",
    )
    assert check().returncode == 0


@pytest.mark.costly
def test_what_is_the_same_is_not_written_again():
    program()
    check("--update")
    before = Path("golden/shop.json").stat()
    done = check("--update")
    assert (done.returncode, done.stdout) == (0, "the same as golden/shop.json  1 run of shop.py, 2 steps\n")
    assert Path("golden/shop.json").stat().st_ino == before.st_ino


@pytest.mark.costly
def test_payload_files_come_along_and_go():
    program(length="1000")
    small = {"FLOWTRACE_MAX_VALUE_BYTES": "100"}
    check("--update", **small)
    trace, payload = files()
    assert trace == "golden/shop.json"
    assert f"golden/{load_trace(trace).steps[0].output_path}" == payload
    assert check(**small).returncode == 0

    program(length="1001")
    differs = check(**small)
    assert (differs.returncode, differs.stdout.splitlines()[1]) == (1, "first node that is not as before: shop.price")
    check("--update", **small)
    assert len(files()) == 2
    assert payload not in files()
    program()
    check("--update")
    assert files() == ["golden/shop.json"]
    assert [path.name for path in Path("golden").iterdir()] == ["shop.json"]


@pytest.mark.costly
def test_runs_that_differ_renew_nothing():
    program()
    check("--update")
    before = Path("golden/shop.json").read_bytes()
    program("os.getpid()")
    done = check("--update", "-n", "2")
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == [
        "not deterministic  2 runs of shop.py, 2 steps",
        "first node that is not deterministic: shop.price",
    ]
    assert Path("golden/shop.json").read_bytes() == before


@pytest.mark.costly
def test_the_old_baseline_stays_where_the_new_one_can_not_be_written():
    program()
    check("--update")
    before = Path("golden/shop.json").read_bytes()
    program("5", length="1000")
    Path("golden/shop.payloads").write_text("in the way")
    done = check("--update", FLOWTRACE_MAX_VALUE_BYTES="100")
    assert (done.returncode, done.stdout) == (2, "")
    assert Path("golden/shop.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--update"], "Error: --update needs --baseline"),
        (["-n", "1"], "Error: one run can only be compared with a --baseline"),
        (["--baseline", "shop.py"], "flowtrace: shop.py: at (whole document): "),
    ],
)
def test_what_can_not_be_compared_ends_with_2(arguments, complaint):
    program()
    done = flowtrace("check", *arguments, "shop.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
