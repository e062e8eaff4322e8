"""Each example runs as its reader would run it: a program of its own, on the real data."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
DATA = EXAMPLES / "data"
TYPE_ERROR = "unsupported operand type(s) for /: 'float' and 'NoneType'"


def run(*arguments, examples=EXAMPLES, **variables):
    script, *rest = arguments
    command = [sys.executable, str(examples / script), *map(str, rest)]
    environment = os.environ | {"PYTHONWARNINGS": "error"} | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=120)


def hash_of(value):
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {"algorithm": "blake3", "value": blake3(text.encode()).hexdigest()}


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def cars():
    return json.loads((DATA / "auto-mpg.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def airport_rows():
    with (DATA / "airports.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def fuel_trace(tmp_path):
    done = run("fuel_economy.py", FLOWTRACE_OUT="artifacts/trace.json")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"TypeError: {TYPE_ERROR}"
    assert files_below(tmp_path) == ["artifacts/trace.json"]
    return json.loads((tmp_path / "artifacts/trace.json").read_bytes())


@pytest.mark.costly
def test_fuel_economy_without_the_variable_fails_alike_and_leaves_nothing_on_disk(tmp_path):
    plain = run("fuel_economy.py")
    traced = run("fuel_economy.py", FLOWTRACE_OUT="artifacts/trace.json")
    assert plain.returncode == traced.returncode == 1
    assert plain.stdout == traced.stdout == ""
    assert plain.stderr.splitlines()[-1] == traced.stderr.splitlines()[-1] == f"TypeError: {TYPE_ERROR}"
    shutil.rmtree(tmp_path / "artifacts")
    assert run("fuel_economy.py").returncode == 1
    assert files_below(tmp_path) == []


@pytest.mark.costly
def test_fuel_economy_has_the_failing_step_last_and_the_steps_before_it_in_order(fuel_trace):
    steps = fuel_trace["steps"]
    assert [step["node_id"] for step in steps] == ["fuel.load", *["fuel.litres_per_100_km"] * 11]
    assert [step["step_id"] for step in steps] == [f"{number:016x}" for number in range(1, 13)]
    assert [step["started_at"] for step in steps] == sorted(step["started_at"] for step in steps)
    assert [at for at, step in enumerate(steps) if "error" in step] == [11]
    assert all("parent_step_id" not in step for step in steps)
    assert "in_flight" not in fuel_trace


@pytest.mark.costly
def test_fuel_economy_tells_where_and_why(fuel_trace):
    script = EXAMPLES / "fuel_economy.py"
    line = next(
        number
        for number, text in enumerate(script.read_text(encoding="utf-8").splitlines(), start=1)
        if "return round(LITRES_PER_100_KM" in text
    )
    assert fuel_trace["steps"][-1]["error"] == {
        "code": "node_error",
        "message": TYPE_ERROR,
        "details": {
            "type": "TypeError",
            "frames": [{"file": str(script), "line": line, "function": "litres_per_100_km"}],
        },
    }
    assert fuel_trace["flow"] == {"id": "fuel-economy", "version": "1"}
    assert fuel_trace["pack"] == {"pack_ref": "fuel_economy.py"}
    assert fuel_trace["run"]["outcome"] == "failed"
    assert fuel_trace["dropped_steps"] == 0


@pytest.mark.costly
def test_every_hash_of_fuel_economy_is_blake3_over_the_json_of_the_real_values(fuel_trace, cars):
    expected = [(hash_of({"name": "auto-mpg.json"}), hash_of(cars))]
    for car in cars[:10]:
        expected.append((hash_of({"car": car}), hash_of(round(235.214583 / car["Miles_per_Gallon"], 2))))
    expected.append((hash_of({"car": cars[10]}), None))
    assert cars[10]["Miles_per_Gallon"] is None
    assert [(step["input_hash"], step.get("output_hash")) for step in fuel_trace["steps"]] == expected


@pytest.mark.costly
def test_fuel_economy_with_captured_inputs_shows_the_car_that_broke_it(tmp_path, cars):
    run("fuel_economy.py", FLOWTRACE_OUT="trace.json", FLOWTRACE_CAPTURE_INPUTS="1")
    step = json.loads((tmp_path / "trace.json").read_bytes())["steps"][-1]
    assert step["invocation_json"] == {
        "component_id": "fuel",
        "operation": "litres_per_100_km",
        "payload": {"car": cars[10]},
    }


@pytest.mark.costly
def test_fuel_economy_succeeds_on_clean_data_and_then_leaves_no_trace(tmp_path, cars):
    examples = tmp_path / "examples"
    (examples / "data").mkdir(parents=True)
    shutil.copy(EXAMPLES / "fuel_economy.py", examples)
    clean = [car for car in cars if car["Miles_per_Gallon"] is not None]
    (examples / "data/auto-mpg.json").write_text(json.dumps(clean), encoding="utf-8")
    done = run("fuel_economy.py", examples=examples, FLOWTRACE_OUT="trace.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Europe    8.91 l/100 km\nJapan     8.06 l/100 km\nUSA      12.86 l/100 km\n"
    assert not (tmp_path / "trace.json").exists()


@pytest.mark.costly
def test_airports_drops_every_step_but_the_last_twenty(tmp_path, airport_rows):
    done = run("airports.py", "out/airports.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "AK: 263 airports",
        "TX: 209 airports",
        "CA: 205 airports",
        "3376 rows, 20 steps kept, 3357 dropped",
        "the last one: airports.states_with_most",
    ]
    trace = json.loads((tmp_path / "out/airports.json").read_bytes())
    assert len(airport_rows) == 3376
    assert trace["dropped_steps"] == len(airport_rows) + 1 - 20
    assert trace["run"]["outcome"] == "ok"
    assert trace["flow"] == {"id": "airports", "version": "1"}
    assert files_below(tmp_path) == ["out/airports.json"]


@pytest.mark.costly
def test_the_airports_that_are_kept_are_the_last_ones_in_order(tmp_path, airport_rows):
    run("airports.py", "airports.json")
    steps = json.loads((tmp_path / "airports.json").read_bytes())["steps"]
    parsed = [row | {"latitude": float(row["latitude"]), "longitude": float(row["longitude"])} for row in airport_rows]
    expected = [
        ("airports.parse", hash_of({"row": row}), hash_of(result))
        for row, result in zip(airport_rows[-19:], parsed[-19:], strict=True)
    ]
    most = [["AK", 263], ["TX", 209], ["CA", 205]]
    expected.append(("airports.states_with_most", hash_of({"airports": parsed, "count": 3}), hash_of(most)))
    assert [(step["node_id"], step["input_hash"], step["output_hash"]) for step in steps] == expected


@pytest.mark.costly
def test_the_library_is_switched_on_after_import_and_off_again(tmp_path):
    done = run("library_author/application.py", "geo.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "off: SEA - is there a trace? False",
        "on: SEA",
        "  nearest: ok",
        "    distance_km: ok",
        "    distance_km: ok",
        "    distance_km: ok",
        "on, and it fails: nowhere: there is no latitude 91.0",
        "  distance_km: node_error: nowhere: there is no latitude 91.0",
        "off: SEA - is there a trace? False",
    ]
    assert files_below(tmp_path) == []


@pytest.mark.costly
def test_the_library_is_also_traced_where_only_the_environment_asks_for_it(tmp_path):
    program = "from geo import Place, distance_km\ndistance_km(Place('nowhere', 91.0, 0.0), Place('pole', 90.0, 0.0))"
    environment = os.environ | {"FLOWTRACE_OUT": "t.json", "PYTHONPATH": str(EXAMPLES / "library_author")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, timeout=120)
    assert done.returncode == 1
    steps = json.loads((tmp_path / "t.json").read_bytes())["steps"]
    assert [(step["node_id"], step["error"]["message"]) for step in steps] == [
        ("geo.distance_km", "nowhere: there is no latitude 91.0")
    ]


@pytest.mark.costly
def test_show_failure_prints_node_error_and_path(fuel_trace):
    done = run("show_failure.py", "artifacts/trace.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"failing node: fuel.litres_per_100_km\nerror: TypeError: {TYPE_ERROR}\ntrace: artifacts/trace.json\n"
    )


@pytest.mark.costly
def test_show_failure_names_the_innermost_step_where_its_callers_failed_with_it(tmp_path):
    program = """
from flowtrace import traced_node
@traced_node(component="shop")
def price(item): return {"tea": 3}[item]
@traced_node(component="shop")
def total(items): return sum(price(item) for item in items)
total(["tea", "gold"])
"""
    environment = os.environ | {"FLOWTRACE_OUT": "trace.json"}
    subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, timeout=120)
    assert len(json.loads((tmp_path / "trace.json").read_bytes())["steps"]) == 3
    done = run("show_failure.py", "trace.json")
    assert done.stdout == "failing node: shop.price\nerror: KeyError: 'gold'\ntrace: trace.json\n"


@pytest.mark.costly
def test_show_failure_says_where_no_step_failed():
    run("airports.py", "airports.json")
    done = run("show_failure.py", "airports.json")
    assert (done.returncode, done.stdout) == (0, "no step failed in airports.json\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read trace.json: No such file or directory\n"),
        ("{}", "not a trace: trace.json: at /trace_version: is absent; this reader takes version 1\n"),
        ('{"trace_version":2}', "not a trace: trace.json: at /trace_version: is 2; this reader takes version 1\n"),
        ("[]", "not a trace: trace.json: at (whole document): a trace is a JSON object; this is an array\n"),
    ],
    ids=["no file", "no version", "version 2", "array"],
)
def test_show_failure_says_why_a_file_cannot_be_read(tmp_path, content, message):
    if content is not None:
        (tmp_path / "trace.json").write_text(content, encoding="utf-8")
    done = run("show_failure.py", "trace.json")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


def test_show_failure_without_a_file_says_how_it_is_used():
    done = run("show_failure.py")
    assert (done.returncode, done.stderr) == (1, "usage: python examples/show_failure.py TRACE\n")


@pytest.mark.parametrize("name", ["auto-mpg.json", "airports.csv"])
def test_the_data_stand_beside_a_note_of_where_they_come_from(name):
    assert f"`{name}`" in (DATA / "README.md").read_text(encoding="utf-8")


@pytest.mark.costly
def test_no_example_fails_where_the_kill_switch_is_set(tmp_path):
    done = run("airports.py", "airports.json", FLOWTRACE_DISABLED="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "3376 rows; tracing is disabled"
    done = run("library_author/application.py", "geo.json", FLOWTRACE_DISABLED="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert files_below(tmp_path) == []
