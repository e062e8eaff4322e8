"""`flowtrace mcp`, asked by the client of the official SDK over standard input and output."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from flowtrace.cli.mcp import RefusedError, Tools
from tests import traces
from tests.cli.commands import SCRIPT, call, flowtrace

PROGRAM = """
from flowtrace import traced_node


@traced_node(component="shop")
def price(item):
    print("asked for", item)
    return {"tea": 2.5, "cake": None}[item] * 2


@traced_node(component="shop")
def total(items):
    return sum(price(item) for item in items)


if __name__ == "__main__":
    total(["tea", "cake"])
"""


@pytest.fixture
def shop(tmp_path):
    """A folder with a program and the trace of its failure, and a trace and a program outside it."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "shop.py").write_text(PROGRAM, encoding="utf-8")
    settings = {
        "FLOWTRACE_OUT": "artifacts/trace.json",
        "FLOWTRACE_CAPTURE_INPUTS": "1",
        "FLOWTRACE_CAPTURE_OUTPUTS": "1",
    }
    assert call(sys.executable, "shop.py", folder=folder, **settings).returncode == 1
    shutil.copy(folder / "artifacts/trace.json", tmp_path / "outside.json")
    return folder


def asked(folder, *calls):
    """Start the server, and return the names of its tools, and of each call the text and whether it is an error."""
    sdk = pytest.importorskip("mcp", reason="mcp is not installed")

    async def ask():
        server = sdk.StdioServerParameters(command=sys.executable, args=[str(SCRIPT), "mcp", str(folder)])
        async with sdk.Client(sdk.stdio_client(server)) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            answers = [await client.call_tool(name, arguments) for name, arguments in calls]
            return names, [("".join(item.text for item in answer.content), answer.is_error) for answer in answers]

    return anyio.run(ask)


@pytest.mark.costly
def test_an_agent_lists_shows_replays_and_compares(shop):
    mended = PROGRAM.replace('"cake": None', '"cake": 3')
    (shop.parent / "shop.py").write_text(PROGRAM.replace('["tea", "cake"]', '["tea", "scone"]'), encoding="utf-8")
    call(sys.executable, "shop.py", folder=shop.parent, FLOWTRACE_OUT="shop/artifacts/older.json")
    os.utime(shop / "artifacts/older.json", (1, 1))
    names, answers = asked(
        shop,
        ("list_traces", {}),
        ("show_trace", {"trace": "artifacts"}),
        ("show_step", {"trace": "artifacts/trace.json"}),
        ("show_step", {"trace": "artifacts/trace.json", "step": "0"}),
        ("replay_step", {"trace": "artifacts/trace.json", "step": "1"}),
        ("diff_traces", {"a": "artifacts/older.json", "b": "artifacts/trace.json"}),
        ("show_trace", {"trace": "../outside.json"}),
        ("show_step", {"trace": "artifacts/trace.json", "step": "77"}),
    )
    assert names == ["list_traces", "show_trace", "show_step", "replay_step", "diff_traces"]
    assert [is_error for _, is_error in answers] == [False] * 6 + [True] * 2
    listed, shown, failed, first, replayed, compared, outside, missing = (text for text, _ in answers)
    error = "TypeError: unsupported operand type(s) for *: 'NoneType' and 'int'"
    assert [line.partition(":")[0] for line in listed.splitlines()] == ["artifacts/trace.json", "artifacts/older.json"]
    assert listed.splitlines()[0].endswith(f"3 steps: shop.price #1 at shop.py:8: {error}")
    assert shown == flowtrace("show", "--format", "markdown", "artifacts/trace.json", folder=shop).stdout.strip()
    assert error in failed
    assert "{'item': 'cake'}" in failed
    assert "{'item': 'tea'}" in first
    assert replayed.startswith(f"1 ✓ shop.price  same error: {error}")
    assert replayed.endswith("printed while it ran:\nasked for cake")
    assert "first divergence: shop.total, call 1: input changed" in compared
    assert "is outside the folder" in outside
    assert "there is no step '77'" in missing
    (shop / "shop.py").write_text(mended, encoding="utf-8")
    _, [(again, is_error)] = asked(shop, ("replay_step", {"trace": "artifacts/trace.json", "step": "1"}))
    assert (is_error, again.partition("\n")[0]) == (
        False, f"1 ✗ shop.price  error vanished: it ended well; the recorded error is {error}",
    )  # fmt: skip


def test_no_path_leads_outside(shop):
    (shop / "link.json").symlink_to(shop.parent / "outside.json")
    (shop / "up").symlink_to(shop.parent)
    tools = Tools(str(shop), ())
    outside = str(shop.parent / "outside.json")
    for path in (outside, "../outside.json", "link.json", "up/outside.json", "artifacts/../../outside.json", "/", "\0"):
        for ask in (
            tools.show_trace,
            tools.show_step,
            tools.replay_step,
            lambda path: tools.diff_traces("artifacts", path),
        ):
            with pytest.raises(RefusedError):
                ask(path)
    assert [line.partition(":")[0] for line in tools.list_traces().splitlines()] == ["artifacts/trace.json"]
    with pytest.raises(RefusedError):
        tools.list_traces("..")


def test_a_step_is_no_option_and_a_trace_chooses_no_code(shop, tmp_path):
    tools = Tools(str(shop), ())
    out = tmp_path / "written.py"
    with pytest.raises(RefusedError, match="there is no step"):
        tools.show_step("artifacts/trace.json", f"1 --emit-test={out}")
    with pytest.raises(RefusedError):
        tools.replay_step("artifacts/trace.json", f"--emit-test={out}")
    assert not out.exists()
    evil = json.loads((shop / "artifacts/trace.json").read_text(encoding="utf-8"))
    for step in evil["steps"]:
        step["code"] = {"module": "os", "qualname": "system", "file": os.__file__, "line": 1}
    (shop / "evil.json").write_text(json.dumps(evil), encoding="utf-8")
    assert "nothing was replayed" in tools.replay_step("evil.json")


def test_a_module_of_the_folder_does_not_stand_for_one_of_ours(shop):
    for name in ("flowtrace.py", "click.py", "json.py"):
        (shop / name).write_text("raise SystemExit(7)", encoding="utf-8")
    assert Tools(str(shop), ()).replay_step("artifacts/trace.json", "1").startswith("1 ✓ shop.price  same error")


@pytest.mark.costly
@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_replay_that_does_not_end_is_ended_with_what_it_started(shop, monkeypatch):
    start = "open('new', 'w').write(str(subprocess.Popen(['sleep', '900']).pid)); os.replace('new', 'pid')"
    text = PROGRAM.replace('print("asked for", item)', f"import os, subprocess, time; {start}; time.sleep(900)")
    (shop / "shop.py").write_text(text, encoding="utf-8")
    plainly = subprocess.Popen.wait

    def wait(process, timeout=None):
        """End the time once the function has started what it starts, however long that takes."""
        while timeout is not None and process.poll() is None and not (shop / "pid").exists():
            time.sleep(0.01)
        return plainly(process, timeout and 0.1)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    with pytest.raises(RefusedError, match="it took more than 300 seconds, and was ended"):
        Tools(str(shop), ()).replay_step("artifacts/trace.json", "1")
    pid = int((shop / "pid").read_text(encoding="utf-8"))
    for _ in range(600):  # it is gone once its new parent has noticed
        if not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
            break
        time.sleep(0.1)
    else:
        pytest.fail("what the function started still runs")


def test_an_answer_is_bounded_and_what_cannot_be_read_is_said(tmp_path):
    steps = [traces.step(f"c.{'f' * 500}", at=at) for at in range(200)]
    document = {"trace_version": 1, "pack": {"pack_ref": "p"}, "flow": {"id": "f", "version": "1"}, "steps": steps}
    (tmp_path / "long.json").write_text(json.dumps(document), encoding="utf-8")
    (tmp_path / "broken.json").write_text('{"trace_version": 1, "steps": 7}', encoding="utf-8")
    os.utime(tmp_path / "broken.json", (1, 1))
    for folder in (".hidden", "node_modules", "env"):
        (tmp_path / folder).mkdir()
        shutil.copy(tmp_path / "long.json", tmp_path / folder)
    (tmp_path / "env/pyvenv.cfg").touch()
    tools = Tools(str(tmp_path), ())
    shown = tools.show_trace("long.json")
    assert 19_000 < len(shown) < 20_100
    assert shown.endswith("\n(the rest is left out: ask for one step)")
    good, bad = tools.list_traces().splitlines()
    assert good == "long.json: no failure, time not recorded, 200 steps: nothing failed: 200 steps"
    assert bad.startswith("broken.json: can't be read: ")
    with pytest.raises(RefusedError, match="list_traces names those that there are"):
        tools.show_trace("nowhere.json")


def test_without_the_sdk_the_extra_is_named(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "mcp"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp", None)
    done = flowtrace("mcp", Path())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("which the extra `mcp` brings: pip install 'flowtrace[mcp]'\n")
