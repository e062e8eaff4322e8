"""The commands of the page "Web servers and workers", run as they stand there: each failure leaves its trace."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from flowtrace import load_trace

PAGE = (Path(__file__).resolve().parent.parent / "docs/pages/howto/servers.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r'^```python title="([\w.]+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = [line for line in re.findall(r"^FLOWTRACE_OUT=.*", PAGE, re.MULTILINE)]
PATIENCE = 60  # seconds


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def get(port):
    """Ask a server for what fails; True once it has answered."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/gold", timeout=10)
    except urllib.error.HTTPError as error:
        return error.code == 500
    except OSError:
        return False
    raise AssertionError("the request did not fail")


def send_task(folder, environment):
    send = [sys.executable, "-c", "from jobs import price; price.delay('gold')"]
    subprocess.run(send, cwd=folder, env=environment, check=True, timeout=PATIENCE)
    return True


def until(found):
    end = time.monotonic() + PATIENCE
    while not (answer := found()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return answer


@contextlib.contextmanager
def running(command, folder, environment):
    process = subprocess.Popen(
        ["bash", "-c", f"exec env {command}"],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def module_of(command):
    return re.sub(r"^FLOWTRACE_OUT='.*?' ", "", command).partition(" ")[0]


def test_the_page_has_a_command_for_each():
    assert [module_of(command) for command in COMMANDS] == ["gunicorn", "gunicorn", "uvicorn", "celery", "pytest"]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.partition("' ")[2])
def test_a_failure_in_a_worker_leaves_its_trace(command, tmp_path):
    module = module_of(command)
    needs = {"pytest": "xdist"}.get(module, module)
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    for name, source in PROGRAMS.items():
        (tmp_path / name).write_text(source, encoding="utf-8")
    port = free_port()
    command = command.replace("/var/log/shop", str(tmp_path / "log")).replace("8000", str(port))
    command = command.replace(f"' {module} ", f"' {sys.executable} -m {module} ")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWTRACE_", "PYTEST_"))}
    with running(command, tmp_path, environment):
        if module == "celery":
            send_task(tmp_path, environment)
        elif module != "pytest":
            until(lambda: get(port))
        (trace, *_) = map(load_trace, until(lambda: list((tmp_path / "log").glob("*.json"))))
    assert (trace.run.outcome, trace.failed_step.operation) == ("failed", "price")
    assert trace.failed_step.error.message == "'gold'"
