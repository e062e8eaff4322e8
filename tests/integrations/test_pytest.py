"""The pytest plugin: each failing outcome leaves one trace, its path is in all reports, and nothing else leaves any."""

from __future__ import annotations

import html
import json
import os
import shutil
import subprocess
import sys

import pytest

import flowtrace_pytest
from flowtrace import load_trace, validate
from tests.integrations.projects import ALL, ROOT, SAMPLE, paths_in, project, run_pytest, traces_in

pytestmark = pytest.mark.costly
SHOP = (SAMPLE / "shop.py").read_text(encoding="utf-8").replace("import anyio", "import asyncio as anyio")
FAILS = """
    import shop

    def test_cake():
        shop.price("tea")
        shop.price("cake")
"""
PASSES = """
    import pytest
    import shop

    def test_tea():
        assert shop.price("tea") == 3.5

    def test_gold():
        with pytest.raises(KeyError):
            shop.price("gold")

    @pytest.mark.xfail
    def test_cake():
        shop.price("cake")

    def test_skipped():
        try:
            shop.price("gold")
        except KeyError:
            pytest.skip("there is no gold")
"""

# --- the sample project, with everything at once

OUTCOMES = {
    "test_price_of_cake": (2, "shop.price"),
    "test_price_of_cake.rerun1": (2, "shop.price"),
    "test_stock.setup": (0, "bank.rate"),
    "test_stock.rerun1.setup": (0, "bank.rate"),
    "test_till.teardown": (2, "bank.rate"),
    "test_till.rerun1.teardown": (2, "bank.rate"),
    "test_each_price.subtest1": (2, "shop.price"),
    "test_each_price.rerun1.subtest1": (2, "shop.price"),
    "test_way_to_nowhere": (1, "shop.deliver"),
    "test_way_to_nowhere.rerun1": (1, "shop.deliver"),
    "test_second_time_it_works": (0, "bank.rate"),
}
FILES = {f"out/test_shop.py--{name}.json": step for name, step in OUTCOMES.items()}


@pytest.fixture(scope="module", params=["native", pytest.param("pure", marks=pytest.mark.slow)])
def sample(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    for file in SAMPLE.glob("*.*"):
        shutil.copy(file, folder)
    reports = ("--junitxml=junit.xml", "--html=report.html", "-rA")
    environment = {"FLOWTRACE_PURE": "1"} if request.param == "pure" else {}
    done = run_pytest(folder, "-n", "2", "--reruns=1", "--flowtrace=out", *reports, plugins=ALL, **environment)
    return folder, done


def test_each_failing_outcome_leaves_exactly_one_whole_file(sample):
    folder, done = sample
    assert done.stdout.splitlines()[-1].split(" in ")[0].strip("= ") == (
        "4 failed, 7 passed, 1 xfailed, 2 errors, 6 rerun"
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert {f"out/{name}" for name in traces_in(folder / "out")} == set(FILES)
    for name, (number, node) in FILES.items():
        trace = load_trace(folder / name)
        assert validate(folder / name) == []
        assert (trace.run.outcome, trace.failed_step.node_id) == ("failed", node)
        assert trace.steps.index(trace.failed_step) == number
        assert trace.flow.id == f"test_shop.py::{name.removeprefix('out/test_shop.py--').partition('.')[0]}"


def test_all_four_reports_have_the_path_of_each_trace(sample):
    folder, done = sample
    texts = {
        "junit": (folder / "junit.xml").read_text(encoding="utf-8"),
        "html": html.unescape(html.unescape((folder / "report.html").read_text(encoding="utf-8"))),
        "terminal": done.stdout.partition("flowtrace: 11 traces")[2],
    }
    assert {name: paths_in(text) for name, text in texts.items()} == {name: set(FILES) for name in texts}
    sections = {name for name in FILES if f"trace: {name}\n" in done.stdout}
    assert sections == {name for name in FILES if ".rerun1" in name}  # pytest shows no section of a first attempt


def test_the_failed_step_stands_beside_the_path(sample):
    folder, done = sample
    junit = (folder / "junit.xml").read_text(encoding="utf-8")
    for name, (number, node) in FILES.items():
        step = f"failed step: {number}, {node}"
        assert f"{name}  {step}\n" in done.stdout
        path, found = f'name="flowtrace_trace" value="{name}"', f'name="flowtrace_failed_step" value="{step}"'
        assert f"<property {path} /><property {found} />" in junit


# --- one thing after the other


def test_what_is_expected_leaves_nothing(tmp_path):
    project(tmp_path, shop=SHOP, test_it=PASSES)
    done = run_pytest(tmp_path, "--flowtrace=out")
    assert done.returncode == 0, done.stdout
    assert not (tmp_path / "out").exists()
    assert "flowtrace: traces of failing tests in out\n" in done.stdout
    assert "\ntrace: " not in done.stdout


def test_in_mode_always_what_passes_leaves_a_trace_too(tmp_path):
    project(tmp_path, shop=SHOP, test_it=PASSES)
    done = run_pytest(tmp_path, "--flowtrace=out", "--flowtrace-mode=always")
    assert done.returncode == 0, done.stdout
    assert traces_in(tmp_path / "out") == ["test_it.py--test_gold.json", "test_it.py--test_tea.json"]
    trace = load_trace(tmp_path / "out/test_it.py--test_tea.json")
    assert ([step.node_id for step in trace.steps], trace.run.outcome) == (["bank.rate", "shop.price"], "ok")


def test_a_failure_outside_any_node_comes_after_the_steps_of_the_test(tmp_path):
    project(tmp_path, shop=SHOP, test_it="import shop\n\ndef test_tea():\n    assert shop.price('tea') == 4\n")
    done = run_pytest(tmp_path, "--flowtrace=out")
    trace = load_trace(tmp_path / "out/test_it.py--test_tea.json")
    assert [step.node_id for step in trace.steps] == ["bank.rate", "shop.price", "unknown"]
    assert trace.failed_step is trace.steps[-1]
    assert trace.failed_step.error.message.startswith("assert 3.5 == 4\n +  where 3.5 = ")
    assert "out/test_it.py--test_tea.json  failed outside any node, after 2 steps" in done.stdout


def test_a_strict_xpass_is_a_failing_outcome(tmp_path):
    project(tmp_path, shop=SHOP, test_it="import pytest\n\n@pytest.mark.xfail(strict=True)\ndef test_it():\n    pass\n")
    run_pytest(tmp_path, "--flowtrace=out")
    trace = load_trace(tmp_path / "out/test_it.py--test_it.json")
    assert [(step.node_id, step.error.message) for step in trace.steps] == [("unknown", "[XPASS(strict)] ")]


def test_each_subtest_that_fails_leaves_a_trace_and_their_test_none(tmp_path):
    subtests = """
        import unittest

        import shop

        def test_prices(subtests):
            for item in ("tea", "cake", "gold", "tea"):
                with subtests.test(item=item):
                    shop.price(item)

        class TestPrices(unittest.TestCase):
            def test_prices(self):
                for item in ("tea", "cake"):
                    with self.subTest(item=item):
                        shop.price(item)
    """
    project(tmp_path, shop=SHOP, test_it=subtests)
    run_pytest(tmp_path, "--flowtrace=out")
    names = ["TestPrices--test_prices.subtest1", "test_prices.subtest1", "test_prices.subtest2"]
    assert traces_in(tmp_path / "out") == [f"test_it.py--{name}.json" for name in names]
    errors = [load_trace(tmp_path / f"out/test_it.py--{name}.json").failed_step.error for name in names]
    assert [error.details["type"] for error in errors] == ["TypeError", "TypeError", "KeyError"]


def test_a_test_that_fails_and_whose_teardown_fails_leaves_two_traces(tmp_path):
    both = """
        import pytest
        import shop

        @pytest.fixture
        def till():
            yield
            shop.rate("JPY")

        def test_cake(till):
            shop.price("cake")
    """
    project(tmp_path, shop=SHOP, test_it=both)
    run_pytest(tmp_path, "--flowtrace=out")
    names = ["test_it.py--test_cake.json", "test_it.py--test_cake.teardown.json"]
    assert traces_in(tmp_path / "out") == names
    nodes = [[step.node_id for step in load_trace(tmp_path / "out" / name).steps] for name in names]
    assert nodes == [["shop.price"], ["shop.price", "bank.rate"]]


def test_an_error_that_a_fixture_of_the_module_raises_again_is_no_step_of_the_second_test(tmp_path):
    fixture = """
        import pytest
        import shop

        @pytest.fixture(scope="module")
        def stock():
            return shop.rate("GBP")

        def test_one(stock): ...

        def test_two(stock): ...
    """
    project(tmp_path, shop=SHOP, test_it=fixture)
    run_pytest(tmp_path, "--flowtrace=out")
    traces = [load_trace(tmp_path / "out" / name) for name in traces_in(tmp_path / "out")]
    assert [[step.node_id for step in trace.steps] for trace in traces] == [["bank.rate"], ["unknown"]]


def test_the_last_failed_run_again_replace_their_traces(tmp_path):
    project(tmp_path, shop=SHOP, test_it=FAILS)
    for extra in ((), ("--lf",)):
        run_pytest(tmp_path, "--flowtrace=out", *extra)
        assert traces_in(tmp_path / "out") == ["test_it.py--test_cake.json"]
    first = load_trace(tmp_path / "out/test_it.py--test_cake.json").run.id
    run_pytest(tmp_path, "--flowtrace=out")
    assert load_trace(tmp_path / "out/test_it.py--test_cake.json").run.id != first


def test_threads_and_forked_children_write_nothing_by_themselves(tmp_path):
    program = """
        import os
        import threading

        import shop

        def fails():
            try:
                shop.price("cake")
            except TypeError:
                pass

        def test_thread():
            thread = threading.Thread(target=fails)
            thread.start()
            thread.join()
            if os.fork() == 0:
                fails()
                os._exit(0)
            os.wait()
    """
    project(tmp_path, shop=SHOP, test_it=program)
    done = run_pytest(tmp_path, "--flowtrace=out", FLOWTRACE_OUT="program.json")
    assert done.returncode == 0, done.stdout
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "program.json").exists()


def test_what_a_test_itself_asks_flowtrace_for_is_as_without_the_plugin(tmp_path):
    program = """
        import flowtrace
        import shop
        from flowtrace.testing import recording

        def test_recording():
            with recording(capture_outputs=True) as recorded:
                shop.price("tea")
            assert recorded.only("shop").output_json == 3.5

        def test_override(tmp_path):
            with flowtrace.override(mode="on", out_path=tmp_path / "own.json"):
                try:
                    shop.price("cake")
                except TypeError:
                    pass
            assert (tmp_path / "own.json").exists()

        def test_dump(tmp_path):
            shop.price("tea")
            assert flowtrace.dump(tmp_path / "dumped.json").exists()
    """
    project(tmp_path, shop=SHOP, test_it=program)
    done = run_pytest(tmp_path, "--flowtrace=out")
    assert done.returncode == 0, done.stdout


# --- how it is asked for

LOADED = """
    import sys

    def test_it():
        names = sorted(name for name in sys.modules if name.partition(".")[0] == "flowtrace")
        assert names == [], names
"""


def test_not_asked_for_nothing_of_flowtrace_is_imported(tmp_path):
    project(tmp_path, test_it=LOADED)
    done = run_pytest(tmp_path, "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("arguments", "ini", "environment", "folder"),
    [
        (["--flowtrace"], "", {}, ".flowtrace"),
        (["--flowtrace", "test_it.py"], "", {}, ".flowtrace"),
        (["--flowtrace=a/b", "test_it.py"], "", {}, "a/b"),
        ([], "flowtrace = from-ini", {}, "from-ini"),
        ([], "flowtrace = true", {}, ".flowtrace"),
        ([], "", {"FLOWTRACE_PYTEST": "from-environment"}, "from-environment"),
        ([], "", {"FLOWTRACE_PYTEST": "1"}, ".flowtrace"),
        ([], "flowtrace = from-ini", {"FLOWTRACE_PYTEST": "from-environment"}, "from-environment"),
        (["--flowtrace=option"], "flowtrace = from-ini", {"FLOWTRACE_PYTEST": "1"}, "option"),
        ([], "", {"FLOWTRACE_PYTEST": "0"}, None),
        ([], "flowtrace = from-ini", {"FLOWTRACE_PYTEST": "off"}, None),
        (["--flowtrace", "--flowtrace-mode=off"], "", {}, None),
        (["--flowtrace"], "flowtrace_mode = off", {}, None),
        (["--flowtrace"], "flowtrace-mode = off", {}, None),
        (["--flowtrace"], "", {"FLOWTRACE_MODE": "off"}, None),
        (["--flowtrace", "--flowtrace-mode=on"], "", {"FLOWTRACE_MODE": "off"}, ".flowtrace"),
        (["--flowtrace"], "", {"FLOWTRACE_DISABLED": "1"}, None),
    ],
)
def test_the_folder_and_the_mode_come_from_option_environment_and_ini_file(
    tmp_path, arguments, ini, environment, folder
):
    project(tmp_path, shop=SHOP, test_it=FAILS, pytest__ini=f"[pytest]\n{ini}\n")
    done = run_pytest(tmp_path, *arguments, **environment)
    assert done.returncode == 1, done.stdout
    found = [path for path in tmp_path.rglob("*.json") if "cache" not in str(path)]
    assert found == ([] if folder is None else [tmp_path / folder / "test_it.py--test_cake.json"])


@pytest.mark.parametrize(
    ("arguments", "ini", "says"),
    [
        (["--flowtrace-mode=loud", "--flowtrace"], "", "invalid choice: 'loud' (choose from"),
        (["--flowtrace"], "flowtrace_mode = loud", "flowtrace_mode='loud' is not usable: it takes off, on or always"),
        (["--flowtrace=~no-such-user/x"], "", "--flowtrace='~no-such-user/x' is not usable: it takes a folder"),
    ],
)
def test_what_can_not_be_used_is_said_before_anything_runs(tmp_path, arguments, ini, says):
    project(tmp_path, test_it="def test_it(): ...", pytest__ini=f"[pytest]\n{ini}\n")
    done = run_pytest(tmp_path, *arguments)
    assert done.returncode == 4
    assert says in done.stderr


# --- the host wins


def test_a_folder_that_can_not_be_written_is_one_warning_and_no_matter_of_the_tests(tmp_path):
    project(tmp_path, shop=SHOP, test_it=FAILS + "\n    def test_cake_again():\n        shop.price('cake')\n")
    (tmp_path / "out").write_text("a file")
    done = run_pytest(tmp_path, "--flowtrace=out")
    assert "2 failed, 1 warning" in done.stdout.splitlines()[-1]
    assert done.stdout.count("PytestWarning: flowtrace could not write the trace of a test: ") == 1
    without = run_pytest(tmp_path)
    assert [line for line in without.stdout.splitlines() if line.startswith("FAILED")] == [
        line for line in done.stdout.splitlines() if line.startswith("FAILED")
    ]


def test_reports_and_exceptions_are_as_without_the_plugin(tmp_path):
    project(tmp_path, shop=SHOP, test_it=FAILS)
    texts = []
    for arguments in ((), ("--flowtrace=out",)):
        done = run_pytest(tmp_path, "--tb=long", "-p", "no:cacheprovider", *arguments)
        failure = done.stdout.partition("= FAILURES =")[2].partition("- flowtrace -")[0].partition("short test")[0]
        texts.append([line for line in failure.splitlines() if line.strip("=- ")])
    assert texts[0] == texts[1]


def test_a_test_that_fails_in_another_folder_leaves_a_trace_with_a_path_from_here(tmp_path):
    project(
        tmp_path,
        shop=SHOP,
        test_it="""
            import os
            import shop

            def test_in_parent(monkeypatch):
                monkeypatch.chdir("..")
                shop.price("cake")

            def test_in_no_folder(monkeypatch, tmp_path):
                gone = tmp_path / "gone"
                gone.mkdir()
                monkeypatch.chdir(gone)
                gone.rmdir()
                shop.price("cake")
        """,
    )
    done = run_pytest(tmp_path, "--flowtrace=out", "--html=report.html", plugins=ALL)
    names = [f"out/test_it.py--test_in_{where}.json" for where in ("no_folder", "parent")]
    listed = sorted(line.split()[0] for line in done.stdout.splitlines() if line.startswith("out/"))
    assert (listed, traces_in(tmp_path / "out")) == (names, [name.removeprefix("out/") for name in names])
    assert paths_in((tmp_path / "report.html").read_text()) == set(names)


def test_with_assertions_of_plug_ins_rewritten_no_warning_says_that_flowtrace_was_imported_before(tmp_path):
    project(tmp_path, shop=SHOP, test_it=FAILS)
    program = "import flowtrace, pytest, sys; from _pytest.assertion.rewrite import AssertionRewritingHook as Hook\n"
    program += "class Plugin:\n    def pytest_configure(self, config):\n"
    program += "        config.pluginmanager.rewrite_hook.mark_rewrite('flowtrace')\n"
    program += "sys.exit(pytest.main(['-W', 'error', '-q'], [Plugin()]))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "PytestAssertRewriteWarning" not in done.stdout + done.stderr
    assert done.returncode == 1


REWRITTEN = """
    import sys
    import marking

    def test_it():
        import flowtrace.testing

        modules = {module for name, module in sys.modules.items() if name.startswith("flowtrace.")}
        by_pytest = type(marking.__spec__.loader)
        assert by_pytest.__name__ == "AssertionRewritingHook"
        assert modules and not [module for module in modules if isinstance(module.__spec__.loader, by_pytest)]
"""


def test_pytest_loads_the_modules_of_flowtrace_as_python_does_though_they_are_of_a_plugin(tmp_path):
    # what pytest does with the files of each installed distribution that has a plugin
    project(tmp_path, marking="import pytest\n\npytest.register_assert_rewrite('flowtrace')\n", test_it=REWRITTEN)
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    done = run_pytest(tmp_path, "-p", "no:cacheprovider", plugins=["marking"], PYTHONPATH=path)
    assert done.returncode == 0, done.stdout


# --- the fixtures


def test_the_recorder_of_a_test_answers_what_was_called(tmp_path):
    program = """
        import pytest
        import shop

        def test_steps(flowtrace_recorder):
            shop.price("tea", 2)
            shop.rate("USD")
            assert [step.node_id for step in flowtrace_recorder.steps] == ["bank.rate", "shop.price", "bank.rate"]
            assert [step.output_json for step in flowtrace_recorder.calls("bank.rate")] == [1.0, 2.0]
            step = flowtrace_recorder.only("shop.price")
            assert step.invocation_json["payload"] == {"count": 2, "currency": "EUR", "item": "tea"}
            assert step.output_json == 7.0
            assert flowtrace_recorder.failed == []
            with pytest.raises(AssertionError, match="bank.rate was called 2 times, not once"):
                flowtrace_recorder.only("bank.rate")

        def test_only_its_own(flowtrace_recorder):
            with pytest.raises(KeyError):
                shop.price("gold")
            (step,) = flowtrace_recorder.failed
            assert (step.node_id, step.error.message) == ("shop.price", "'gold'")

        def test_off(flowtrace_off):
            shop.price("cake")
    """
    project(tmp_path, shop=SHOP, test_it=program)
    for arguments in ((), ("--flowtrace=out",)):
        done = run_pytest(tmp_path, *arguments)
        assert "1 failed, 2 passed" in done.stdout, done.stdout
        assert not (tmp_path / "out").exists()


def test_the_trace_of_a_test_with_the_recorder_has_its_values(tmp_path):
    project(tmp_path, shop=SHOP, test_it=FAILS.replace("test_cake()", "test_cake(flowtrace_recorder)"))
    run_pytest(tmp_path, "--flowtrace=out")
    document = json.loads((tmp_path / "out/test_it.py--test_cake.json").read_bytes())
    assert document["steps"][-1]["invocation_json"]["payload"] == {"count": 1, "currency": "EUR", "item": "cake"}


def test_inputs_are_kept_where_the_environment_asks_for_them(tmp_path):
    project(tmp_path, shop=SHOP, test_it=FAILS)
    run_pytest(tmp_path, "--flowtrace=out", FLOWTRACE_CAPTURE_INPUTS="1", FLOWTRACE_BUFFER_SIZE="1")
    trace = load_trace(tmp_path / "out/test_it.py--test_cake.json")
    (step,) = trace.steps
    assert step.invocation_json["payload"] == {"count": 1, "currency": "EUR", "item": "cake"}
    assert trace.dropped_steps == 2


# What pytest 7 and 8 do otherwise; they load the front of the plugin wherever they find flowtrace installed.
OLDER_PYTEST = """
    import pytest

    newer = pytest.Parser.addini

    def addini(self, name, help, type=None, default=None):
        return newer(self, name, help, type, default)

    pytest.Parser.addini = addini

    def pytest_plugin_registered(plugin):
        {plugin}
"""


def test_an_older_pytest_runs_with_flowtrace_installed(tmp_path):
    project(tmp_path, shop=SHOP, test_it=FAILS, older=OLDER_PYTEST)
    for arguments, left in (((), []), (("--flowtrace=out",), ["test_it.py--test_cake.json"])):
        done = run_pytest(tmp_path, *arguments, PYTEST_ADDOPTS="-p older")  # before the plugin
        assert "1 failed" in done.stdout, done.stderr
        assert [path.name for path in (tmp_path / "out").glob("*")] == left
    hook = flowtrace_pytest.pytest_load_initial_conftests
    assert not hook.pytest_impl["wrapper"]  # pluggy before 1.2 knows no such argument
