"""What flowtrace says about itself: where it goes, how often, and that it never does harm."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading

import pytest
import structlog

from flowtrace import testing, traced_node
from flowtrace.host import log


@pytest.fixture
def said():
    """Configure structlog as a host would, and list what it is given."""
    events: list[dict] = []

    def keep(logger, method, event):
        events.append({**event, "method": method})
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    return events


def run(program, tmp_path):
    return subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)


def test_without_configuration_warnings_go_to_standard_error(tmp_path):
    program = """
import structlog
from flowtrace.host import log
log.warn("something", path="a b", number=1)
assert not structlog.is_configured()
print("the program's own output")
"""
    done = run(program, tmp_path)
    assert done.stdout == "the program's own output\n"
    assert "[warning  ] something" in done.stderr
    assert "number=1 path='a b'" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("spoil", ["sys.stderr = None", "sys.stderr.close()", "os.close(2)"])
def test_without_a_standard_error_nothing_breaks(spoil, tmp_path):
    program = f"import os, sys\nfrom flowtrace.host import log\n{spoil}\nlog.warn('x')\nlog.warn('y')\nprint('fine')"
    assert run(program, tmp_path).stdout == "fine\n"


def test_a_configured_host_gets_the_warning_in_its_own_format(tmp_path):
    program = """
import structlog
from flowtrace.host import log
structlog.configure(processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()])
log.warn("something", path="a b")
"""
    done = run(program, tmp_path)
    assert json.loads(done.stdout) == {"event": "something", "path": "a b", "level": "warning"}
    assert done.stderr == ""


def test_a_host_that_bridges_to_the_standard_library_gets_a_record(caplog):
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    log.warn("something", path="a b")
    (record,) = caplog.records
    assert (record.levelno, record.message, record.path) == (logging.WARNING, "something", "a b")


@pytest.mark.costly
def test_flowtrace_never_configures_structlog(tmp_path):
    program = """
import structlog
def refuse(*args, **kwargs):
    raise AssertionError
structlog.configure = structlog.configure_once = refuse
import flowtrace
from flowtrace.host import log
@flowtrace.traced_node
def node():
    raise ValueError
with flowtrace.override(mode="on", out_path="/dev/null/x"):
    try:
        node()
    except ValueError:
        print("fine")
assert not structlog.is_configured()
"""
    done = run(program, tmp_path)
    assert done.stdout == "fine\n"
    assert "failed to write trace" in done.stderr


def assert_warnings_are_logged():
    """Fail if this thread still counts as being inside a warning."""
    with structlog.testing.capture_logs() as logged:
        log.warn("the next one")
    assert [event["event"] for event in logged] == ["the next one"]


@pytest.mark.parametrize("error", [ValueError, RecursionError, structlog.DropEvent, MemoryError])
def test_a_processor_that_raises_does_no_harm(error):
    def broken(logger, method, event):
        raise error

    structlog.configure(processors=[broken])
    log.warn("something")
    assert_warnings_are_logged()


def test_an_interrupt_in_a_processor_comes_through():
    def interrupted(logger, method, event):
        signal.raise_signal(signal.SIGINT)

    structlog.configure(processors=[interrupted])
    with pytest.raises(KeyboardInterrupt):
        log.warn("something")
    assert_warnings_are_logged()


def test_a_processor_that_calls_a_traced_function_neither_loops_nor_warns_again():
    seen = []

    @traced_node
    def enrich(event):
        log.warn("a warning inside a warning")
        seen.append(event["event"])
        return event

    structlog.configure(processors=[lambda logger, method, event: enrich(event), structlog.processors.JSONRenderer()])
    with testing.recording():
        log.warn("something")
    assert seen == ["something"]
    assert_warnings_are_logged()


def test_a_cause_is_told_once_and_summed_up_at_the_end(said):
    for _ in range(3):
        log.warn_once("full", ("disk", 1), path="a")
    log.warn_once("full", ("disk", 2), path="b")
    assert said == [
        {"event": "full", "path": "a", "count": 1, "method": "warning"},
        {"event": "full", "path": "b", "count": 1, "method": "warning"},
    ]
    said.clear()
    log.summarise()
    assert said == [{"event": "full", "path": "a", "count": 3, "method": "warning"}]
    said.clear()
    log.summarise()
    log.warn_once("full", ("disk", 1), path="a")
    assert said == [{"event": "full", "path": "a", "count": 1, "method": "warning"}]


def test_forgetting_starts_anew(said):
    log.warn_once("full", (1,))
    log.forget()
    log.warn_once("full", (1,))
    log.forget_lock()
    log.warn_once("full", (1,))
    assert [event["count"] for event in said] == [1, 1]


def test_causes_are_bounded(said):
    for number in range(5000):
        log.warn_once("full", (number,))
    assert len(said) <= log.MAX_CAUSES
    said.clear()
    log.warn_once("another", ("x",))
    assert said == []


def test_many_threads_tell_a_cause_once(said):
    threads = [threading.Thread(target=lambda: [log.warn_once("full", (1,)) for _ in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event["count"] for event in said] == [1]
    log.summarise()
    assert said[-1]["count"] == 1600


def test_a_fault_of_our_own_is_told_once_for_each_place_and_kind(said):
    for error in (ValueError("s3cret"), ValueError("other"), KeyError(1)):
        log.internal_fault("record the start of a call", error)
    log.internal_fault("write", ValueError())
    event = "flowtrace could not do its work; the program is not affected"
    start = {"event": event, "doing": "record the start of a call", "count": 1, "method": "warning"}
    assert said == [
        {**start, "error": "ValueError"},
        {**start, "error": "KeyError"},
        {**start, "doing": "write", "error": "ValueError"},
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how full a pipe is")
def test_a_child_that_is_forked_during_a_warning_can_warn(tmp_path):
    program = """
import fcntl, os, signal, struct, sys, termios, threading, time, warnings

warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process with threads
reader, writer = os.pipe()
capacity = fcntl.fcntl(reader, 1032)  # F_GETPIPE_SZ
os.dup2(writer, 2)
from flowtrace.host import log
threading.Thread(target=log.warn, args=("x" * 2 * capacity,), daemon=True).start()
while struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, bytes(4)))[0] < capacity:
    time.sleep(0.01)
child = os.fork()
if child == 0:
    signal.alarm(60)
    os.dup2(os.open("child.txt", os.O_CREAT | os.O_WRONLY), 2)
    log.warn("said by the child")
    os._exit(0)
print(os.waitpid(child, 0)[1], flush=True)
os._exit(0)
"""
    assert run(program, tmp_path).stdout == "0\n"
    assert (tmp_path / "child.txt").read_text().rstrip().endswith("[warning  ] said by the child")
