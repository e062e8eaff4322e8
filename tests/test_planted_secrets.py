"""Secrets planted wherever one can stand: no byte that is written holds one, and no unkeyed hash depends on one."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowtrace import traced_node
from flowtrace.testing import fixed_clock, recording
from tests.programs import run_program
from tests.secrets_scan import MARK, is_in, planted, scan

PLANTED = f"MARK = {MARK!r}\n{inspect.getsource(planted)}"  # tests of the wheel can't import this folder elsewhere
PROGRAM = r"""
import asyncio, collections, contextlib, dataclasses, enum, functools, json, logging, os, sys, types, typing
import urllib.parse
import attrs, msgspec, numpy, pandas, polars, pyarrow, pydantic
from flowtrace import NodeEvent, TraceContext, TraceRecorder, ValidationIssue
from flowtrace import configure, current_step, dump, flow, get_recorder, register_codec, traced_node

def secret(label):
    return planted(label, sys.argv[1])

def redactor(name, value):
    return name == "hidden_by_hook" or (type(value) is str and value.startswith("card:"))

configure(redactor=redactor, logs=True)
LOG = logging.getLogger("planted")
LOG.setLevel("INFO")
LOG.propagate = False
LOG.addHandler(logging.NullHandler())
LEVELS = pandas.MultiIndex.from_tuples([(1, "x")], names=["n", "pin"])
MAP = pyarrow.map_(pyarrow.string(), pyarrow.string())

class Field(enum.Enum):
    PASSWORD = 1

class Header(str):
    pass

@dataclasses.dataclass
class Data:
    user: str
    password: str

@dataclasses.dataclass(slots=True)
class Slots:
    api_key: str

@attrs.define
class Attrs:
    token: str

class Struct(msgspec.Struct):
    private_key: str

class Model(pydantic.BaseModel):
    credential: str
    wrapped: pydantic.SecretStr

@dataclasses.dataclass
class Unprinted:
    user: str
    phrase: str = dataclasses.field(repr=False)

class UnprintedModel(pydantic.BaseModel):
    phrase: str = pydantic.Field(repr=False)

@attrs.define
class UnprintedAttrs:
    phrase: str = attrs.field(repr=False)

class Pair(typing.NamedTuple):
    cookie: str
    name: str

class Plain:
    def __init__(self):
        self.session = secret("attribute")

class Coded:
    pass

register_codec(Coded, lambda value: {"auth": secret("codec"), "size": 1}, lambda content: Coded())

def values():
    structured = numpy.zeros(3, [("user", "i4"), ("password", "U60"), ("in", [("token", "U60")])])
    structured["password"] = secret("numpy")
    structured["in"]["token"] = secret("numpy-inner")
    frame = pandas.DataFrame({"user": [1, 2], "password": [secret("pandas"), "x"], ("a", "token"): secret("multi")})
    return {
        "rows": [{"password": secret("nested"), "id": 1}, ({"deep": {"Api-Key": [secret("deep"), 12]}},)],
        "keys": {b"authorization": secret("bytes-key"), 1: 2, ("a", "secret"): secret("tuple-key")},
        "enum": {Field.PASSWORD: secret("enum-key")},
        "header": {Header("x-auth-token"): secret("subclass-key"), 2: 3},
        "tokens": {secret("key-of-hidden"): 1},
        "data": Data("ada", secret("dataclass")),
        "slots": Slots(secret("slots")),
        "attrs": Attrs(secret("attrs")),
        "struct": Struct(secret("msgspec")),
        "model": Model(credential=secret("pydantic"), wrapped=secret("secret-str")),
        "pair": Pair(secret("namedtuple"), "n"),
        "plain": Plain(),
        "coded": Coded(),
        "ordered": collections.OrderedDict(token=secret("ordered")),
        "chain": collections.ChainMap({"token": secret("chain")}),
        "proxy": types.MappingProxyType({"token": secret("proxy")}),
        "space": types.SimpleNamespace(token=secret("namespace")),
        "partial": functools.partial(print, token=secret("partial")),
        "error": ValueError({"password": secret("exception-args")}),
        "raw": bytearray(b"x"),
        "structured": structured,
        "scalar": structured[0],
        "frame": frame,
        "row": frame.iloc[0],
        "unprinted": [Unprinted("ada", secret("repr-false")), UnprintedModel(phrase=secret("repr-false-pydantic"))],
        "unprinted_attrs": UnprintedAttrs(secret("repr-false-attrs")),
        "level": frame[["user"]].set_axis(pandas.Index([secret("label")], name="token"), axis=1),
        "levels": pandas.DataFrame([[1]], columns=LEVELS.set_levels([secret("part")], level=1)),
        "map": pyarrow.array([[("password", secret("map"))]], pyarrow.map_(pyarrow.string(), pyarrow.string())),
        "map_in_struct": pyarrow.array([{"m": [("pin", secret("inner-map"))]}], pyarrow.struct([("m", MAP)])),
        "series": pandas.Series([secret("series")], name="password"),
        "index": pandas.DataFrame({"a": [1]}, index=pandas.Index([secret("index")], name="token")),
        "polars": polars.DataFrame({"user": [1], "password": [secret("polars")]}),
        "polars_series": polars.Series("token", [secret("polars-series")]),
        "polars_struct": polars.Series("s", [{"token": secret("polars-struct")}]),
        "hidden_by_hook": secret("hook"),
        "card": "card:" + secret("card"),
        "iban": secret("redact-variable"),
        "frozen": {Pair(secret("in-a-set"), "n")},
    }

@traced_node
def echo(value, password=secret("default"), *args, token=[secret("live-default")], **kwargs):
    current_step().record_state_delta({"value": value, "session": secret("state-delta")})
    return {"value": value, "secret": secret("output"), "kwargs": kwargs}

@traced_node(redact=("pin_code",))
def node_rule(pin_code):
    return {"pin_code": pin_code}

@traced_node
def numbers(password):
    yield {"token": secret("yield"), "n": 1}
    yield "card:" + secret("yield-hook")
    return {"cookie": secret("generator-return")}

@traced_node
def fails_after_items(n):
    yield {"token": secret("yield-quoted")}
    raise ValueError("no " + secret("yield-quoted"))

@traced_node
def hook_output():
    return "card:" + secret("result-hook")

@traced_node
def get_token(n):
    return {"plain": [secret("named-result")]}

@traced_node
def make_passwords(n):
    yield secret("named-yield")
    return secret("named-return")

@traced_node
async def read_secret(n):
    return secret("named-await")

@traced_node
def fails(password, credentials, data):
    step = current_step()
    step.add_validation_issue("bad", "/password", f"{password} is not good")
    step.add_validation_issue("bad", "/x", "token=" + secret("issue-pattern"))
    LOG.info("login with %s and %r, %s", password, credentials, data)
    LOG.info("token=" + secret("log-pattern"), stack_info=True)
    LOG.info("%(api_key)s %(other)s", {"api_key": secret("log-named"), "other": Data("u", secret("log-repr"))})
    LOG.info({"event": "paid", "password": secret("log-event")})
    LOG.info("x" * 980 + password)
    try:
        try:
            raise KeyError(credentials["inner"])
        except KeyError as error:
            raise RuntimeError(f"password={secret('pattern')} 'api_key': '{secret('quoted')}'") from error
    except RuntimeError as cause:
        error = ValueError(
            f"no {password!r} {json.dumps(password)} {urllib.parse.quote_plus(password)} {data} "
            f"https://user:{secret('url')}@host/ Authorization: Bearer {secret('bearer')} "
            f"{os.environ['SERVICE_API_TOKEN']}"
        )
        error.add_note(f"note {password} {credentials['inner']}")
        error.add_note("secret=" + secret("note-pattern"))
        raise error from cause

@traced_node
def group(password):
    raise ExceptionGroup(f"many {password}", [ValueError(f"one {password}"), KeyError(password)])

@traced_node
def long_message(password):
    raise ValueError("x" * 8180 + password)

@traced_node
def outer(values):
    with contextlib.suppress(ValueError):
        fails(secret("argument"), {"inner": secret("inner")}, Data("u", secret("repr")))
    echo(values, iban=secret("kwargs"))

outer(values())
echo(values(), secret("positional"), 1, 2, token=secret("keyword"))
node_rule(secret("node-rule"))
list(numbers(secret("generator-argument")))
try:
    list(fails_after_items(1))
except ValueError:
    pass
hook_output()
get_token(1)
list(make_passwords(1))
asyncio.run(read_secret(1))
for node in (group, long_message):
    with contextlib.suppress(ValueError, ExceptionGroup):
        node(secret(node.__name__))
with contextlib.suppress(ValueError), flow("f password=" + secret("flow"), version="token=" + secret("version")):
    node_rule(secret("in-flow"))
    raise ValueError("unknown " + secret("in-flow"))
@traced_node
def snapshots(password):
    dump("dumped.json")
snapshots(secret("in-flight"))

config = get_recorder().config
engine = TraceRecorder(config, TraceContext("p", "engine"))
event = NodeEvent("n", "c", "o", {"password": secret("engine"), "hidden_by_hook": secret("engine-hook")})
engine.on_node_start(event)
engine.on_validation(event, [ValidationIssue("c", "/password", f"bad {secret('engine')} {secret('engine-hook')}")])
engine.on_node_error(event, f"no {secret('engine')} {secret('engine-hook')}")
"""
ON = {"FLOWTRACE_OUT": "{run_id}.json", "FLOWTRACE_MODE": "always", "FLOWTRACE_VALIDATION": "warn"}
CAPTURE = {"FLOWTRACE_CAPTURE_INPUTS": "1", "FLOWTRACE_CAPTURE_OUTPUTS": "1", "FLOWTRACE_REDACT": "iban"}


def run(folder, suffix="x", **environment):
    folder.mkdir()
    variables = {**ON, **CAPTURE, "FLOWTRACE_MAX_VALUE_BYTES": "1000000"}
    done = run_program(folder, PLANTED, PROGRAM, arguments=(suffix,), **(variables | environment))
    assert "could not do its work" not in done.stderr, done.stderr
    assert "failed to write" not in done.stderr, done.stderr
    traces = [json.loads(path.read_bytes()) for path in folder.glob("*.json")]
    return done, sorted(traces, key=lambda trace: trace["run"]["started_at"])


def hashes(traces):
    names = ("node_id", "input_hash", "output_hash", "state_delta_hash", "invocation_json", "output_json", "error")
    return [[step.get(name) for name in names] for trace in traces for step in trace["steps"]]


def run_and_search(folder, suffix="x", **environment):
    """Run the program, and look for the secrets in all that it wrote and printed. Returns its traces."""
    done, traces = run(folder, suffix, **environment)
    assert len(traces) >= 9
    assert scan(folder) == []
    assert not is_in(done.stdout)
    assert not is_in(done.stderr)
    assert "validation issue" in done.stderr
    assert bool(list(folder.glob("*.payloads/*.json"))) is ("FLOWTRACE_MAX_VALUE_BYTES" in environment)
    return traces


@pytest.mark.costly
@pytest.mark.parametrize(
    "environment",
    [{"FLOWTRACE_MAX_VALUE_BYTES": "300"}, {"FLOWTRACE_CAPTURE_INPUTS": "", "FLOWTRACE_CAPTURE_OUTPUTS": ""}],
    ids=["payload files", "hashes alone"],
)
def test_no_byte_that_is_written_holds_a_planted_secret(tmp_path, environment):
    run_and_search(tmp_path / "run", **environment)


@pytest.mark.costly
def test_no_byte_holds_a_secret_and_no_unkeyed_hash_and_no_text_depends_on_one(tmp_path):
    one = run_and_search(tmp_path / "one", "first-value")
    two = run_and_search(tmp_path / "two", "other")
    assert without_paths(hashes(one), tmp_path / "one") == without_paths(hashes(two), tmp_path / "two")


def without_paths(rows, folder):
    return json.loads(json.dumps(rows).replace(str(folder), ""))


@pytest.mark.slow
def test_no_byte_holds_a_secret_and_keyed_hashes_tell_them_apart(tmp_path):
    one = run_and_search(tmp_path / "one", "first-value", FLOWTRACE_HASH_KEY=planted("hash-key"))
    two = run_and_search(tmp_path / "two", "other", FLOWTRACE_HASH_KEY=planted("hash-key"))
    for ours, theirs in zip(hashes(one), hashes(two), strict=True):
        if ours[0].endswith((".node_rule", ".fails", ".group")):
            assert ours[1]["algorithm"] == "blake3-keyed"
            assert ours[1] != theirs[1]


# --- the search itself


def test_the_search_finds_a_secret_in_every_form_and_place(tmp_path):
    secret = planted("search")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "plain").write_text(f"before {secret} after")
    (tmp_path / "hex").write_text(secret.encode().hex())
    (tmp_path / "wide").write_text(secret, encoding="utf-16-le")
    (tmp_path / secret).write_text("")
    with (tmp_path / "sparse").open("wb") as file:
        file.seek((1 << 40) - 5)
        file.write(secret.encode())
    (tmp_path / "cut").write_bytes(b"x" * ((1 << 20) - 7) + secret.encode())
    (tmp_path / "program.py").write_text(secret)
    (tmp_path / "clean").write_text(secret[:10])
    found = scan(tmp_path)
    assert [path.name for path in found] == ["cut", "plain", "hex", secret, "sparse", "wide"]
    for path in found:
        path.unlink()


@pytest.mark.costly
@pytest.mark.parametrize(
    ("mark", "folder", "options"),
    [
        ("", "base", []),
        pytest.param("", "base/popen-gw0", ["-p", "xdist.plugin", "-n1"], marks=pytest.mark.slow),
        ("import pytest\n@pytest.mark.disk\n", "disk/flowtrace-tests-*", []),
    ],
    ids=["one process", "a worker", "on a disk"],
)
def test_a_session_that_wrote_a_secret_fails(tmp_path, mark, folder, options):
    test = tmp_path / "test_it.py"
    test.write_text(
        "from tests.conftest import *\nfrom tests.secrets_scan import planted\n"
        f"{mark}def test_leak(tmp_path):\n    (tmp_path / 'file').write_text(planted('leak'))\n"
    )
    for name in ("path", "disk"):
        (tmp_path / name).mkdir()
    (tmp_path / "path" / "tests").symlink_to(Path(__file__).parent)  # alone: not the package that lies beside it
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*command, "-c", os.devnull, f"--basetemp={tmp_path / 'base'}", *options, str(test)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "path"), "TMPDIR": str(tmp_path / "disk")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (leaked,) = re.findall(r"planted secrets were written to \['(.*)'\]", done.stdout)
    assert fnmatch(leaked, f"{tmp_path}/{folder}/test_it/0-test_leak/file")
    Path(leaked).unlink(missing_ok=True)


# --- any value


@dataclasses.dataclass
class Holder:
    password: object
    other: object


class Plain:
    def __init__(self, value):
        self.auth_token = value


SECRETS = st.sampled_from(["password", "Api-Key", "sessionId", "TOKEN"])
OPEN = st.sampled_from(["a", "tokenizer", "session_count", "ключ", "x y"])
LEAVES = st.none() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False) | st.binary(max_size=5)


def holders(inner):
    """Make values with a place for a secret, from values with one."""
    return st.one_of(
        st.builds(lambda name, value, more: {name: value, **more}, OPEN, inner, st.dictionaries(OPEN, LEAVES)),
        st.lists(inner, min_size=1, max_size=3),
        st.tuples(LEAVES, inner),
        st.builds(lambda value, more: Holder(value, more), LEAVES, inner),
        st.builds(lambda key, value: {key: value, 1: 2}, st.sampled_from([b"k", (1, "a"), 2.5]), inner),
    )


PLACES = st.recursive(
    st.builds(lambda name: ("dict", name), SECRETS)
    | st.builds(lambda name: ("bytes", name.encode()), SECRETS)
    | st.sampled_from([("record", ""), ("object", ""), ("tuple key", "")]),
    lambda inner: holders(inner) | st.builds(lambda name, value: {name: [value]}, SECRETS, inner),
    max_leaves=6,
)


def filled(place, secret):
    """Put a secret into every place for one."""
    if isinstance(place, Holder):
        return Holder(filled(place.password, secret), filled(place.other, secret))
    if isinstance(place, dict):
        return {key: filled(item, secret) for key, item in place.items()}
    if isinstance(place, list):
        return [filled(item, secret) for item in place]
    if not isinstance(place, tuple):
        return place
    kinds = {
        "dict": lambda name: {name: secret, "n": 1},
        "bytes": lambda name: {name: [secret]},
        "record": lambda _: Holder({"deep": secret}, 1),
        "object": lambda _: Plain(secret),
        "tuple key": lambda _: {("a", "secret"): secret},
    }
    if len(place) == 2 and isinstance(place[0], str) and place[0] in kinds:
        return kinds[place[0]](place[1])
    return tuple(filled(item, secret) for item in place)


@traced_node
def any_value(value):
    return value


@traced_node
def any_failure(value, secret):
    raise ValueError(f"it was {secret}")


@pytest.mark.costly
@given(place=PLACES)
@settings(max_examples=60)
def test_wherever_a_secret_stands_in_a_value_it_is_not_written_and_no_hash_depends_on_it(place):
    kept = []
    for secret in (planted("any", "first"), planted("any", "the other")):
        with fixed_clock(), recording(capture_inputs=True, capture_outputs=True) as recorded:
            value = filled(place, secret)
            any_value(value)
            with pytest.raises(ValueError, match="it was"):
                any_failure(value, secret)
            assert scan(recorded.folder) == []
            kept.append(sorted(path.read_bytes() for path in recorded.folder.glob("*.json")))
    assert kept[0] == kept[1]
    assert len(kept[0]) == 2
