"""The source round the lines of a failure, in the trace: read when it is written, bounded, without secrets."""

from __future__ import annotations

import json
import linecache

import flowtrace
from flowtrace.recording.program_texts import MOST_EXCERPTS, _excerpt
from flowtrace.values.redaction import secret_names
from flowtrace.values.scrub import Scrubber
from tests.programs import run_program

PROGRAM = """
    from flowtrace import flow, traced_node

    @traced_node(component="shop")
    def price(line):
        try:
            return line["price"] * 2
        except TypeError as error:
            raise ValueError("no price") from error

    @traced_node(component="shop")
    def total(lines):
        return sum([price(line) for line in lines])
"""
FAILS = """
    with flow("f"):
        total([{"price": 1}, {"price": None}])
"""


def trace_of(folder, *parts, code=1, **environment):
    out = folder / "trace.json"
    run_program(folder, PROGRAM, *parts, code=code, FLOWTRACE_OUT=str(out), FLOWTRACE_MODE="always", **environment)
    return flowtrace.load_trace(out)


def test_the_lines_of_the_failing_step_come_first_and_then_those_of_its_callers(tmp_path):
    trace = trace_of(tmp_path, FAILS)
    lines = (tmp_path / "program.py").read_text().splitlines()
    assert [(item.file, item.line) for item in trace.source] == [
        (str(tmp_path / "program.py"), line) for line in (3, 7)
    ]
    for item in trace.source:
        assert item.lines == lines[item.line - 1 : item.line - 1 + len(item.lines)]
    (first, second) = trace.source
    assert first.lines[6] == '        raise ValueError("no price") from error'
    assert '            return line["price"] * 2' in first.lines or "        return line" in "".join(first.lines)
    assert second.lines[6] == "    return sum([price(line) for line in lines])"


def test_a_run_that_did_not_fail_has_none(tmp_path):
    assert trace_of(tmp_path, 'with flow("f"):\n    total([{"price": 1}])\n', code=0).source == []


def test_what_a_step_hides_is_hidden_in_its_source_too(tmp_path):
    fails = """
    @traced_node(component="shop")
    def connect(url, password):
        expected = "hunter2-and-more"
        raise ConnectionError(url)

    with flow("f"):
        connect("db", password="hunter2-and-more")
    """
    text = (trace_of(tmp_path, fails), (tmp_path / "trace.json").read_text())[1]
    assert "hunter2" not in text
    assert 'expected = \\"__REDACTED__\\"' in text


def test_names_of_secrets_in_source_hide_what_they_are_given(tmp_path):
    fails = """
    @traced_node(component="shop")
    def connect(url):
        password = "pl4nted-s3cret"
        raise ConnectionError(url)

    with flow("f"):
        connect("db")
    """
    trace_of(tmp_path, fails)
    assert "pl4nted-s3cret" not in (tmp_path / "trace.json").read_text()


def test_there_are_only_a_few_of_them_with_short_lines(tmp_path):
    steps = "\n".join(
        f"@traced_node\ndef step_{at}():\n    step_{at + 1}()  # {'x' * 300}\n" + "\n" * 12 for at in range(12)
    )
    trace = trace_of(tmp_path, steps + "\n@traced_node\ndef step_12():\n    raise ValueError('no')\n\nstep_0()\n")
    assert len(trace.source) == MOST_EXCERPTS
    assert max(len(line) for item in trace.source for line in item.lines) == 200


def test_a_program_without_source_has_none(tmp_path):
    program = """
    text = "from flowtrace import traced_node\\n@traced_node\\ndef f():\\n    raise ValueError\\nf()"
    exec(compile(text, "gone.py", "exec"))
    """
    assert trace_of(tmp_path, program).source == []


def test_a_file_that_has_changed_is_read_again(tmp_path, monkeypatch):
    scrubber = Scrubber((), secret_names())
    program = tmp_path / "program.py"

    def excerpt(line):
        found = _excerpt(str(program), line, scrubber)
        return found and (found.line, found.lines)

    assert excerpt(1) is None
    program.write_text("one\ntwo\n")
    assert [excerpt(line) for line in (0, 1, 2, 3)] == [None, (1, ["one", "two"]), (1, ["one", "two"]), None]
    program.write_text("\n")
    assert [excerpt(line) for line in (1, 2)] == [(1, [""]), None]
    for lines in (["three\n"], ["four\n"]):  # as a program does for code that it has made
        monkeypatch.setitem(linecache.cache, str(program), (6, None, lines, str(program)))
        assert excerpt(1) == (1, [lines[0].strip()])
    monkeypatch.setitem(linecache.cache, str(program), (lambda: "five\n",))
    assert excerpt(1) == (1, [""])
    linecache.getlines(str(program))
    program.write_text("six\n")
    assert excerpt(1) == (1, ["six"])


def test_the_page_shows_them_where_the_program_is_not(tmp_path, monkeypatch):
    from tests.page.pages import page_of
    from tests.page.test_trace_page import visible

    trace = trace_of(tmp_path, FAILS, FLOWTRACE_CAPTURE_INPUTS="1")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = visible(page_of(trace))
    assert "in price · as it was when the trace was written" in text
    assert 'failing line 9 raise ValueError( "no price" ) from error' in text
    assert 'where the cause was raised 7 return line[ "price" ] * 2' in text
    assert "caused by TypeError : unsupported operand" in text
    monkeypatch.chdir(tmp_path)
    text = visible(page_of(trace))
    assert "in price · this source has the hash of the code that ran" in text
    (tmp_path / "program.py").write_text("# other code\n")
    from flowtrace.cli.page import source_lines

    source_lines._lines_of.cache_clear()
    assert "as it was when the trace was written" in visible(page_of(trace))


def test_the_schema_has_them():
    assert flowtrace.json_schema()["$defs"]["Trace"]["properties"]["source"]["items"] == {"$ref": "#/$defs/SourceLines"}
    assert json.dumps(flowtrace.json_schema()).count("SourceLines") > 1
