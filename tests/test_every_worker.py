"""Workers of every kind through one FLOWTRACE_OUT: each failure in each of them is found, and none is overwritten.

The programs meet: a worker waits before it fails until as many of its kind are about to, so that no worker fails alone.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request

import pytest

from flowtrace import load_trace

PATIENCE = 90  # seconds
PROGRAMS = {
    "meeting.py": '''
        import os
        import time
        from itertools import count
        from pathlib import Path

        from flowtrace import traced_node

        TOLD = Path(__file__).parent / "told"
        numbers = count(1)


        @traced_node(operation="fail")
        def fail(text):
            raise LookupError(text)


        def meet(kind, workers):
            """Fail, once that many workers of this kind are about to; a file has the error's text as its name."""
            text = f"{kind}-{os.getpid()}-{next(numbers)}"
            (TOLD / text).touch()
            end = time.monotonic() + 60
            while len({path.name.split("-")[1] for path in TOLD.glob(f"{kind}-*")}) < workers:
                assert time.monotonic() < end
                time.sleep(0.05)
            fail(text)
    ''',
    "plain.py": """
        from meeting import meet


        def app(environ, start_response):
            meet(environ["PATH_INFO"].strip("/"), 4)
    """,
    "loop.py": """
        from meeting import meet


        async def app(scope, receive, send):
            if scope["type"] == "http":
                meet("uvicorn", 3)
    """,
    "tasks.py": """
        from pathlib import Path

        from celery import Celery
        from meeting import meet

        Path("queue").mkdir(exist_ok=True)
        celery = Celery("tasks", broker="filesystem://")
        folders = dict.fromkeys(["data_folder_in", "data_folder_out", "control_folder"], "queue")
        celery.conf.broker_transport_options = folders


        @celery.task
        def work():
            meet("celery", 4)
    """,
    "test_meets.py": """
        import pytest
        from meeting import meet


        @pytest.mark.parametrize("number", range(12))
        def test_meets(number):
            meet("pytest", 4)
    """,
    "parent.py": """
        import multiprocessing
        import subprocess
        import sys
        from contextlib import suppress

        from meeting import meet

        if __name__ == "__main__":
            with suppress(LookupError):
                meet("parent", 1)
            fails = "from meeting import meet; meet('subprocess', 3)"
            children = [subprocess.Popen([sys.executable, "-c", fails]) for _ in range(3)]
            starts = [multiprocessing.get_context(method).Process for method in ("fork", "spawn", "forkserver")]
            processes = [start(target=meet, args=("multiprocessing", 6)) for start in starts * 2]
            for process in processes:
                process.start()
            for child in children:
                child.wait()
            for process in processes:
                process.join()
    """,
}
SERVERS = {
    "gunicorn": "gunicorn --workers 4 --timeout 90 --bind 127.0.0.1:PORT plain:app",
    "preload": "gunicorn --preload --workers 4 --timeout 90 --bind 127.0.0.1:PORT plain:app",
    "uvicorn": "uvicorn --workers 3 --port PORT loop:app",
    "celery": "celery --app tasks worker --concurrency 4",
}
WORKERS = {"gunicorn": 4, "preload": 4, "uvicorn": 3, "celery": 4}
WORKERS |= {"pytest": 4, "parent": 1, "subprocess": 3, "multiprocessing": 6}


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def told_in(folder):
    """Return the texts of all failures, in lists by kind and pid, each in the order of the process."""
    told = {}
    parts = (path.name.split("-") for path in (folder / "told").iterdir())
    for kind, pid, number in sorted(parts, key=lambda part: int(part[2])):
        told.setdefault((kind, pid), []).append(f"{kind}-{pid}-{number}")
    return told


def all_meet(folder, kind):
    return sum(name == kind for name, _ in told_in(folder)) == WORKERS[kind]


def ask(url, is_done):
    """Ask a server until that is done; a connection may wait behind another one of the same worker."""
    end = time.monotonic() + PATIENCE
    while not is_done() and time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=3).close()
        except urllib.error.HTTPError as error:  # an error 500, whose connection Python 3.14 wants closed
            error.close()
        except OSError:
            pass
        time.sleep(0.1)


@contextlib.contextmanager
def running(command, folder, environment):
    """Run a server, and end it as its operator would."""
    command = [sys.executable, "-m", *command.split()]
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def provoke(kind, port, folder, environment):
    """Provoke a failure in each worker of a server; one without a port takes tasks."""
    if not port:
        send = "from tasks import work; [work.delay() for _ in range(6)]"
        subprocess.run([sys.executable, "-c", send], cwd=folder, env=environment, check=True, timeout=PATIENCE)
    url, is_done = f"http://127.0.0.1:{port}/{kind}", lambda: all_meet(folder, kind)
    clients = [threading.Thread(target=ask, args=(url, is_done)) for _ in range(WORKERS[kind] if port else 0)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    end = time.monotonic() + PATIENCE
    while not is_done():
        assert time.monotonic() < end, (folder / "log.txt").read_text()
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="these servers fork")
@pytest.mark.parametrize(("name", "core"), [("trace.json", "native"), ("{timestamp}-{run_id}.json", "pure")])
def test_every_failure_in_every_worker_is_found(name, core, tmp_path):
    missing = [
        module for module in ("gunicorn", "uvicorn", "celery", "xdist") if importlib.util.find_spec(module) is None
    ]
    if missing:
        pytest.skip(f"not installed: {missing}")
    for file, source in PROGRAMS.items():
        (tmp_path / file).write_text(textwrap.dedent(source), encoding="utf-8")
    (tmp_path / "told").mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("FLOWTRACE_", "PYTEST_"))}
    environment |= {
        "FLOWTRACE_OUT": str(tmp_path / "out" / name),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    environment |= {"HOME": str(tmp_path)}  # gunicorn leaves a socket there
    environment |= {"FLOWTRACE_PURE": "1"} if core == "pure" else {}
    with contextlib.ExitStack() as stack:
        for kind, command in SERVERS.items():
            port = free_port() if "PORT" in command else 0
            stack.enter_context(running(command.replace("PORT", str(port)), tmp_path, environment))
            provoke(kind, port, tmp_path, environment)
        for command in (["-m", "pytest", "-q", "-n", "4", "test_meets.py"], ["parent.py"]):
            subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, timeout=PATIENCE, check=False)
    told = told_in(tmp_path)
    assert {kind: sum(kind == name for name, _ in told) for kind in WORKERS} == WORKERS
    expected = [text for texts in told.values() for text in (texts if "{" in name else texts[-1:])]
    traces = map(load_trace, (tmp_path / "out").iterdir())
    assert sorted(trace.failed_step.error.message for trace in traces) == sorted(expected)
