"""Log records in the steps that made them, where ``FLOWTRACE_LOGS`` asks for that."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import logging
import logging.config
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import numpy
import pytest
import structlog

import flowtrace
from flowtrace import current_step, flow, propagate, traced_node
from flowtrace.errors import ConfigError
from flowtrace.integrations.structlog import add_step
from flowtrace.testing import recording

LOGGER = logging.getLogger("shop.prices")
ORIGINAL = logging.Logger.callHandlers


@pytest.fixture(autouse=True)
def logger_alone(monkeypatch):
    """What is logged goes to the handlers of one logger alone."""
    monkeypatch.setattr(LOGGER, "propagate", False)
    LOGGER.setLevel(logging.DEBUG)
    LOGGER.addHandler(nothing := logging.NullHandler())
    yield
    LOGGER.removeHandler(nothing)
    LOGGER.setLevel(logging.NOTSET)
    found, logging.Logger.callHandlers = logging.Logger.callHandlers, ORIGINAL
    assert found is ORIGINAL


def messages(log, **options):
    """Return the texts of what a function logs inside a step."""

    @traced_node(component="shop", operation="work")
    def work():
        log()

    of_pytest = [handler for handler in LOGGER.handlers if type(handler).__module__.startswith("_pytest")]
    for handler in of_pytest:  # they make the text of a record, and run code of what is logged
        LOGGER.removeHandler(handler)
    with recording(logs=True, **options) as recorded, flow("f"):
        work()
    return [entry.message for entry in recorded.traces[0].steps[0].logs]


def message(*args):
    (text,) = messages(lambda: LOGGER.info(*args))
    return text


def test_a_step_has_its_own_records_in_their_order_and_not_those_of_its_children():
    @traced_node(component="shop", operation="inner")
    def inner():
        LOGGER.warning("from %s", "inside")

    @traced_node(component="shop", operation="outer")
    def outer():
        LOGGER.info("before")
        inner()
        try:
            raise KeyError("tea")
        except KeyError:
            logging.getLogger("other").exception("after")

    with recording(logs=True) as recorded, flow("f"):
        LOGGER.info("outside any step")
        outer()
    trace = recorded.traces[0]
    found = {
        step.operation: [(entry.level, entry.logger, entry.message, entry.error) for entry in step.logs]
        for step in trace.steps
    }
    assert found == {
        "inner": [("WARNING", "shop.prices", "from inside", None)],
        "outer": [("INFO", "shop.prices", "before", None), ("ERROR", "other", "after", "KeyError: 'tea'")],
    }
    for step in trace.steps:
        times = [step.started_at, *(entry.logged_at for entry in step.logs)]
        assert times == sorted(times)


def test_the_last_twenty_are_kept_and_long_ones_are_cut():
    def log():
        for number in range(25):
            LOGGER.info("record %d", number)
        LOGGER.info("%s", "x" * 5000)

    @traced_node
    def work():
        log()

    with recording(logs=True) as recorded, flow("f"):
        work()
    (step,) = recorded.traces[0].steps
    assert [entry.message for entry in step.logs[:-1]] == [f"record {number}" for number in range(6, 25)]
    assert step.logs[-1].message == f"{'x' * 1000}... (1022 characters)"
    assert step.dropped_logs == 6


def test_off_is_the_default_and_leaves_logging_alone():
    with recording() as recorded, flow("f"):
        assert logging.Logger.callHandlers is ORIGINAL
        traced_node(lambda: LOGGER.info("x"))()
    assert "logs" not in flowtrace.trace.model.to_document(recorded.traces[0].steps[0])


def test_the_environment_opts_in(tmp_path):
    program = """
import logging, sys
from flowtrace import traced_node

@traced_node(component="c", operation="fails")
def fails():
    logging.getLogger("a").warning("before")
    raise ValueError("no")

print("flowtrace.recording.logs" in sys.modules)
try:
    fails()
except ValueError:
    pass
"""
    environment = {**os.environ, "FLOWTRACE_OUT": "t.json", "FLOWTRACE_LOGS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (
        "True\n",
        "before\n",
    )  # `lastResort` prints the warning as it would without us
    assert [entry.message for entry in flowtrace.load_trace("t.json").steps[0].logs] == ["before"]


def test_basic_config_works_as_without_us(tmp_path):
    program = """
import logging
from flowtrace import configure, traced_node
configure(mode="on", out_path="t.json", logs=True)
logging.basicConfig(format="%(levelname)s %(message)s %(funcName)s:%(lineno)d", level="INFO")

@traced_node
def work():
    logging.info("shown")

work()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "INFO shown work:9\n")


def test_only_a_bool_is_taken_in_code():
    with pytest.raises(ConfigError, match=r"logs=1 is not usable: it takes 1/true/yes/on"):
        flowtrace.TraceConfig(logs=1)


# --- loggers, handlers and levels


def test_what_a_level_or_a_filter_of_the_logger_drops_is_not_kept():
    def log():
        LOGGER.debug("dropped by level")
        LOGGER.info("dropped by filter")
        LOGGER.info("kept")

    LOGGER.setLevel(logging.INFO)
    only = logging.Filter()
    only.filter = lambda record: "dropped" not in record.msg
    LOGGER.addFilter(only)
    try:
        assert messages(log) == ["kept"]
    finally:
        LOGGER.removeFilter(only)


def test_what_a_filter_of_the_logger_has_changed_is_kept_as_it_is_then():
    class Mask(logging.Filter):
        def filter(self, record):
            record.msg, record.args = "masked", ()
            return True

    mask = Mask()
    LOGGER.addFilter(mask)
    try:
        assert message("card %s", "4111") == "masked"
    finally:
        LOGGER.removeFilter(mask)


def test_loggers_that_do_not_propagate_and_a_new_configuration_are_no_obstacle():
    def log():
        LOGGER.info("first")
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
        LOGGER.info("second")

    assert messages(log) == ["first", "second"]


def test_the_record_that_handlers_get_is_as_without_us():
    seen = []

    class Keep(logging.Handler):
        def emit(self, record):
            seen.append(record)

    handler = Keep()
    LOGGER.addHandler(handler)
    value = [1]
    try:
        assert message("value %s", value) == "value [1]"
    finally:
        LOGGER.removeHandler(handler)
    (record,) = seen
    assert (record.msg, record.args, record.funcName) == ("value %s", (value,), "<lambda>")
    assert record.args[0] is value
    assert record.__dict__.keys() - {"message"} == logging.makeLogRecord({}).__dict__.keys()  # pytest's handler adds it


def test_another_library_may_wrap_the_same_method():
    calls = []

    def wrap(inner):
        def callHandlers(self, record):
            calls.append(record.getMessage())
            return inner(self, record)

        return callHandlers

    @traced_node
    def work(number):
        LOGGER.info("n%d", number)

    with recording(logs=True) as first, flow("f"):
        wrapped = logging.Logger.callHandlers = wrap(logging.Logger.callHandlers)
        work(1)
    assert logging.Logger.callHandlers is wrapped  # it is theirs now, and goes on to ours, which does nothing
    LOGGER.info("n2")
    with recording(logs=True) as second, flow("f"):
        work(3)
    logging.Logger.callHandlers = ORIGINAL
    flowtrace.recording.logs._STATE.installed = None
    kept = [[entry.message for entry in found.traces[0].steps[0].logs] for found in (first, second)]
    assert kept == [["n1"], ["n3"]]
    assert calls == ["n1", "n2", "n3"]


def test_an_exception_of_a_handler_goes_to_the_program_and_its_report_has_no_frame_of_ours(capsys):
    class Fails(logging.Handler):
        def emit(self, record):
            try:
                raise OSError("full")
            except OSError:
                self.handleError(record)
            raise RuntimeError("from the handler")

    handler = Fails()
    LOGGER.addHandler(handler)

    @traced_node
    def work():
        LOGGER.info("x")

    try:
        with recording(logs=True), pytest.raises(RuntimeError, match="from the handler"):
            work()
    finally:
        LOGGER.removeHandler(handler)
    report = capsys.readouterr().err
    assert "flowtrace" + os.sep + "recording" not in report
    assert "OSError: full" in report


# --- texts


class Colour(enum.Enum):
    RED = 1


class Hostile:
    """Whose every method ends the program; `logging` itself asks for the class."""

    def __getattribute__(self, name):
        if name != "__class__":
            raise SystemExit(name)
        return Hostile

    def __str__(self):
        raise SystemExit

    __repr__ = __format__ = __int__ = __float__ = __index__ = __str__


class HostileText(str):
    __str__ = __repr__ = __format__ = Hostile.__str__


class HostileError(Exception):
    __str__ = __repr__ = Hostile.__str__


class HostileMeta(type):
    __eq__ = __hash__ = __instancecheck__ = Hostile.__str__


class HostilePairs(dict):
    __bool__ = __len__ = Hostile.__str__


class OfHostileClass(metaclass=HostileMeta):
    pass


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("plain",), "plain"),
        (("100%",), "100%"),
        (("%s %r %d %5.2f %x", "a", "b", 3, 1.5, 255), "a 'b' 3  1.50 ff"),
        (("%(item)s costs %(price).2f", {"item": "tea", "price": decimal.Decimal("3.5")}), "tea costs 3.50"),
        (("%s %.1f", decimal.Decimal("1.50"), decimal.Decimal("1.50")), "1.50 1.5"),
        (("%d %s", numpy.int64(3), Colour.RED), "3 Colour.RED"),
        (("%s %s", Path("a/b"), uuid.UUID(int=1)), "a/b 00000000-0000-0000-0000-000000000001"),
        (("%s", datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)), "2026-01-02 00:00:00+00:00"),
        (("%s", ["a", (1, None), {"k": 2}]), "['a', [1, None], {'k': 2}]"),
        (("%s %s", ValueError("no"), KeyError("k")), "no 'k'"),
        (("%s", OSError(2, "gone", "f")), "FileNotFoundError(2, 'gone')"),
        (("%d", "x"), "%d ['x']"),
        (("%s %s", 1), "%s %s [1]"),
        ((ValueError("alone"),), "alone"),
        (({"event": "paid", "amount": 3, "to": "shop", "_private": 1, "level": "info"},), "paid amount=3 to='shop'"),
        (("%s", lambda: HostileText("text")), "text"),
        ((lambda: HostileText("text"),), "text"),
        (("%s", lambda: HostileError("text")), "HostileError('text')"),
        (("lone \ud800",), "lone \\ud800"),
    ],
)
def test_the_text_of_a_record(args, text):
    made = [item() if callable(item) else item for item in args]  # pytest looks at what is hostile
    assert message(*made) == text


@pytest.mark.parametrize("make", [lambda: Hostile(), lambda: OfHostileClass()], ids=["object", "class"])
@pytest.mark.parametrize("template", ["%s", "%r", "%d", "%5.2f", "%(value)s"])
def test_no_code_of_an_argument_is_run(make, template):
    args = (
        ({"value": make()},) if "(" in template else (make(), 1)
    )  # of one alone, `logging` asks whether it is a mapping
    text = message(template if "(" in template else f"{template} %s", *args)
    assert "Hostile" in text


def test_whether_a_record_has_arguments_is_not_asked_of_them():
    def log():
        for text, args in [
            ("%s", Hostile()),
            ("%(a)s", HostilePairs(a=1)),
            ("no %s", ()),
            ("no %s", {}),
            ("no %s", None),
        ]:
            record = logging.LogRecord("shop", logging.INFO, "f", 1, text, None, None)
            record.args = args
            LOGGER.handle(record)

    assert messages(log) == ["%s <opaque: Hostile>", "%(a)s HostilePairs({'a': 1})", "no %s", "no %s", "no %s"]


def test_a_large_argument_is_cut_and_takes_no_time():
    value = list(range(1_000_000))
    text = message("%s", value)
    assert len(text) < 1100
    assert text.startswith("[0, 1, 2, ")


def test_a_finding_of_our_own_is_no_record_of_the_step(capsys):
    structlog.configure(
        logger_factory=structlog.stdlib.LoggerFactory(), processors=[structlog.processors.JSONRenderer()]
    )

    def log():
        flowtrace.host.log.warn("ours")
        LOGGER.info("theirs")

    assert messages(log) == ["theirs"]


# --- secrets


def test_what_a_step_hides_is_in_no_record_of_any_step():
    @traced_node(component="c", operation="login")
    def login(password):
        LOGGER.info("signing in with %s", password)
        LOGGER.info("options %s", {"api_key": "k-9876543210"})
        LOGGER.warning("refused k-9876543210")
        LOGGER.info("token abcdefgh12345678 and %(password)s", {"password": "other-secret"})
        try:
            raise ValueError(f"bad {password}")
        except ValueError:
            LOGGER.exception("failed")

    @traced_node(component="c", operation="elsewhere")
    def elsewhere():
        LOGGER.info("saw hunter2-secret")

    with recording(logs=True) as recorded, flow("f"):
        elsewhere()
        login("hunter2-secret")
    steps = {step.operation: step.logs for step in recorded.traces[0].steps}
    assert [entry.message for entry in steps["elsewhere"]] == ["saw __REDACTED__"]
    assert [entry.message for entry in steps["login"]] == [
        "signing in with __REDACTED__",
        "options {'api_key': '__REDACTED__'}",
        "refused __REDACTED__",
        "token __REDACTED__ and __REDACTED__",
        "failed",
    ]
    assert steps["login"][-1].error == "ValueError: bad __REDACTED__"


def test_a_secret_across_the_cut_is_hidden():
    secret = "s3cret-" + "y" * 60

    @traced_node
    def work(password):
        LOGGER.info("%s%s", "x" * 970, password)

    with recording(logs=True) as recorded, flow("f"):
        work(secret)
    (entry,) = recorded.traces[0].steps[0].logs
    assert entry.message == f"{'x' * 970}__REDACTED__..."


# --- threads, tasks and structlog


def test_each_thread_and_task_has_its_own_step():
    @traced_node(component="c", operation="part")
    async def part(number):
        await asyncio.sleep(0)
        LOGGER.info("task %d", number)

    @traced_node(component="c", operation="whole")
    def whole():
        for work in (lambda: LOGGER.info("no step"), propagate(lambda: LOGGER.info("thread"))):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

    async def main():
        await asyncio.gather(part(1), part(2))

    with recording(logs=True) as recorded, flow("f"):
        whole()
        asyncio.run(main())
    found = [(step.operation, [entry.message for entry in step.logs]) for step in recorded.traces[0].steps]
    assert found == [("whole", ["thread"]), ("part", ["task 1"]), ("part", ["task 2"])]


def test_a_step_in_flight_shows_what_it_has_logged_so_far(tmp_path):
    @traced_node
    def work():
        LOGGER.info("so far")
        return flowtrace.dump(tmp_path / "now.json")

    with recording(logs=True):
        path = work()
    assert [entry.message for entry in flowtrace.load_trace(path).in_flight[0].logs] == ["so far"]


def test_a_second_write_has_the_records_since_the_first(tmp_path):
    @traced_node(component="c", operation="fails")
    def fails():
        LOGGER.info("inner")
        raise ValueError("no")

    @traced_node(component="c", operation="outer")
    def outer():
        LOGGER.info("before")
        try:
            fails()
        finally:
            LOGGER.info("after")

    with recording(logs=True, mode="on") as recorded:
        with pytest.raises(ValueError):
            outer()
    found = {step.operation: [entry.message for entry in step.logs] for step in recorded.traces[-1].steps}
    assert found == {"fails": ["inner"], "outer": ["before", "after"]}


def structlog_messages(factory, processors):
    logger = structlog.wrap_logger(factory, processors=processors)
    return messages(lambda: logger.warning("paid", amount=3, password="hunter2-secret"))


def test_an_event_of_structlog_is_kept_once_whether_or_not_it_goes_on_to_logging(capsys):
    text = "paid amount=3 password='__REDACTED__'"
    render = structlog.processors.KeyValueRenderer(key_order=["event", "amount", "password"])
    assert structlog_messages(structlog.PrintLogger(), [add_step, render]) == [text]
    assert structlog_messages(LOGGER, [structlog.stdlib.ProcessorFormatter.wrap_for_formatter]) == [text]
    (rendered,) = structlog_messages(LOGGER, [add_step, render])
    assert rendered.startswith("event='paid' amount=3 password='__REDACTED__'")
    assert "operation='work'" in rendered


def test_an_event_has_its_level_and_its_error():
    logger = structlog.wrap_logger(structlog.ReturnLogger(), processors=[add_step, structlog.processors.JSONRenderer()])

    @traced_node
    def work():
        logger.error("failed", exc_info=ValueError("no"), logger="shop")

    with recording(logs=True) as recorded, flow("f"):
        work()
    (entry,) = recorded.traces[0].steps[0].logs
    assert (entry.level, entry.logger, entry.message, entry.error) == ("ERROR", "shop", "failed", "ValueError: no")


# --- what they cost


def test_their_bytes_count_against_those_of_the_buffer(tmp_path):
    @traced_node
    def work(number):
        for _ in range(20):
            LOGGER.info("%d %s", number, "x" * 900)
        return number

    with flowtrace.override(mode="on", out_path=tmp_path / "t.json", logs=True, buffer_bytes=400_000, buffer_size=100):
        for number in range(50):
            work(number)
        trace = flowtrace.load_trace(flowtrace.dump())
    kept = len(trace.steps)
    assert kept + trace.dropped_steps == 50
    assert 2 < kept < 10
    assert flowtrace.validate(tmp_path / "t.json") == []


def test_a_step_whose_records_are_more_than_a_buffer_may_hold_keeps_the_last_of_them(tmp_path):
    @traced_node
    def fails():
        for number in range(20):
            LOGGER.info("%d %s", number, "x" * 900)
        raise ValueError("no")

    with flowtrace.override(mode="on", out_path=tmp_path / "t.json", logs=True, buffer_bytes=20_000):
        with pytest.raises(ValueError):
            fails()
        (step,) = flowtrace.load_trace(tmp_path / "t.json").steps
    kept = len(step.logs)
    assert 2 < kept < 8
    assert [entry.message.partition(" ")[0] for entry in step.logs] == [str(number) for number in range(20 - kept, 20)]
    assert step.dropped_logs == 20 - kept


def test_a_call_at_the_end_of_the_stack_logs_as_without_us():
    @traced_node
    def work():
        def deeper(depth):
            try:
                LOGGER.info("depth %d", depth)
                return deeper(depth + 1)
            except RecursionError:
                return depth

        return deeper(0)

    with recording(logs=True) as recorded, flow("f"):
        assert work() > 50
    assert len(recorded.traces[0].steps[0].logs) == 20


def test_a_log_made_after_the_end_of_its_step_is_in_no_step():
    async def later():
        await asyncio.sleep(0)
        assert current_step()
        LOGGER.info("too late")

    @traced_node
    async def starts():
        return asyncio.create_task(later())

    async def main():
        async with flow("f"):
            await (await starts())

    with recording(logs=True) as recorded:
        asyncio.run(main())
    assert recorded.traces[0].steps[0].logs == []
