"""Where a function is defined, and a hash of its code that only a change of meaning changes."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys

import pytest

from flowtrace import traced_node
from flowtrace.recording.program_texts import locate
from flowtrace.values.encoded import hash_bytes, syntax
from tests.programs import run_program

# one text in all supported Pythons, so these hashes are the same on each
FIXED = [
    (
        "def f(a, b=1, *c, d: int, **e) -> int:\n    return a + b",
        "ad2beb0093104952e9be1a3763da25b96302c7d96782593c04563a58bfac0b51",
    ),
    (
        "async def f():\n    async with x as y, z:\n        await y\n    return [i async for i in y if i]",
        "73e740b97c3882e69a80eb038738c52128c7aa636c06b2d0e5c369d3e6d5a920",
    ),
    (
        "def f(x):\n    match x:\n        case {'a': [1, *_], **rest} if rest:\n            return f'{x!r:>{10}}'\n",
        "2b6e5e416b52b0529025e959b43f8a8cac7572b31a3eb97ffebc4f2b30f2ed05",
    ),
    (
        "@decorated(1)\n"
        "def f():\n"
        "    try:\n"
        "        pass\n"
        "    except* ValueError as e:\n"
        "        raise\n"
        "    finally:\n"
        "        del e",
        "cd37133e3856ed33137fae85b7b5bbff3a93794c193c33dcc39abf3cf3b5a8b3",
    ),
    (
        "def f():\n    global g\n    return (lambda *, k=1: k), {**a}, b'x', 1j, ..., None, -1.5, 'é\\ud800'",
        "fa21981e2ca7b936dc46452b4e8df780b4ce7da5bb8a172a0527e04fa8f73465",
    ),
    (
        "class C:\n    x: int = 1\n    def m(self): return super().m()",
        "3e84a6876e8b85373486da8e77d21263c59a08d93cdf3c01f9a20b6831b0e38c",
    ),
]
BASE = "def f(a):\n    return a + 1\n"
SAME = [
    "\n\n\ndef f(a):\n    return a + 1\n",
    "def f(a):\n    'Docstring.'\n    return a + 1\n",
    'def f(a):\n    """Another\n    docstring."""\n    return a + 1\n',
    "def f(\n    a,\n):\n    return (\n        a\n        +  1\n    )\n",
    "# comment\ndef f(a):  # comment\n    # comment\n    return a + 1  # comment\n",
    "def f(a):\n\treturn a + 1",
    "def f(a):\n    return a + 0x1\n",
]
OTHER = [
    "def f(a):\n    return a + 2\n",
    "def f(a):\n    return a - 1\n",
    "def f(a):\n    return a + 1.0\n",
    "def f(a):\n    return a + True\n",
    "def f(a):\n    return a + '1'\n",
    "def f(a):\n    return a + b'1'\n",
    "def f(b):\n    return b + 1\n",
    "def f(a, /):\n    return a + 1\n",
    "def f(*, a):\n    return a + 1\n",
    "def f(*a):\n    return a + 1\n",
    "def f(a=None):\n    return a + 1\n",
    "def f(a: int):\n    return a + 1\n",
    "def f(a) -> int:\n    return a + 1\n",
    "def g(a):\n    return a + 1\n",
    "async def f(a):\n    return a + 1\n",
    "@g\ndef f(a):\n    return a + 1\n",
    "def f(a):\n    a + 1\n",
    "def f(a):\n    return\n",
    "def f(a):\n    return None\n",
    "def f(a):\n    yield a + 1\n",
    "def f(a):\n    return a + 1\n    return a + 1\n",
    "def f(a):\n    1\n    return a + 1\n",
]


def hash_of(text):
    return hash_bytes(syntax(ast.parse(text)).encode("utf-8", "backslashreplace")).value


@pytest.mark.parametrize(("text", "fixed"), FIXED, ids=range(len(FIXED)))
def test_a_hash_is_the_same_on_every_python(text, fixed):
    assert hash_of(text) == fixed


@pytest.mark.parametrize("text", SAME, ids=range(len(SAME)))
def test_position_layout_and_docstring_make_no_difference(text):
    assert hash_of(text) == hash_of(BASE)


def test_every_change_of_meaning_makes_a_difference():
    assert len({hash_of(text) for text in [BASE, *OTHER]}) == len(OTHER) + 1


def test_inner_docstrings_make_no_difference():
    plain = "def f(self):\n    class C:\n        def g():\n            return 1\n"
    told = plain.replace("    class C:\n", "    'f.'\n    class C:\n        'C.'\n")
    told = told.replace("            return", "            'g.'\n            return")
    assert hash_of(plain) == hash_of(told)


def plain_function(a):
    """Docstring."""
    return a


class Owner:
    def method(self):
        return 1

    @classmethod
    def of_class(cls):
        return 1

    def __call__(self):
        return 1


def test_a_function_is_located():
    code = locate(plain_function)
    line = plain_function.__code__.co_firstlineno
    assert (code.module, code.qualname, code.file, code.line) == (__name__, "plain_function", __file__, line)
    assert code.hash.value == hash_of("def plain_function(a):\n    return a\n")
    assert code.hash.algorithm == "blake3"


def test_a_traced_or_wrapped_function_is_located_where_it_is_defined():
    @functools.wraps(plain_function)
    def wrapper(*args):
        return plain_function(*args)

    assert locate(wrapper) == locate(plain_function)
    assert locate(traced_node(plain_function).__wrapped__) == locate(plain_function)


def test_methods_are_located():
    assert locate(Owner.method).qualname == "Owner.method"
    assert locate(Owner.method).hash.value == hash_of("def method(self):\n    return 1")
    assert locate(Owner().method).line == Owner.method.__code__.co_firstlineno
    assert locate(Owner.of_class).qualname == "Owner.of_class"


def test_what_has_no_source_has_no_hash():
    namespace = {"__name__": "made"}
    exec(compile("def made(): pass", "<made>", "exec"), namespace)
    code = locate(namespace["made"])
    assert (code.module, code.qualname, code.file, code.line, code.hash) == ("made", "made", "<made>", 1, None)
    built_in = locate(len)
    assert (built_in.module, built_in.qualname, built_in.file, built_in.hash) == ("builtins", "len", None, None)
    assert locate(functools.partial(plain_function)) is None
    assert locate(Owner()) is None
    assert locate(None) is None


def test_a_callable_that_raises_on_every_question_is_not_located():
    class Hostile:
        def __getattr__(self, name):
            raise RuntimeError(name)

        def __call__(self):
            return 1

    assert locate(Hostile()) is None


def test_a_lambda_has_the_hash_of_itself_alone_where_it_can_be_told():
    one = lambda x: x + 1  # noqa: E731
    pair = (lambda: 1), (lambda: 2)
    assert locate(one).hash.value == hash_bytes(syntax(ast.parse("lambda x: x + 1", mode="eval").body).encode())
    assert [locate(each).hash for each in pair] == [None, None]


def test_a_source_that_changed_on_disk_does_no_harm(tmp_path):
    path = tmp_path / "moved.py"
    path.write_text("def node():\n    return 1\n")
    program = """
import moved
from flowtrace.recording.program_texts import locate
open("moved.py", "w").write("x = (\\n")
code = locate(moved.node)
print(code.qualname, code.hash)
import os
os.unlink("moved.py")
print(locate(moved.node).line)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "node None\n1\n"


def test_deeply_nested_code_has_a_hash_or_none():
    namespace = {"__name__": "deep"}
    text = "def f():\n    return " + "(" * 90 + "1" + ",)" * 90
    exec(compile(text, "<deep>", "exec"), namespace)
    assert locate(namespace["f"]).hash is None
    assert len(hash_of(text)) == 64


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the garbage collector does not run within a call of C there")
def test_no_tree_is_built_in_the_midst_of_one_that_the_program_builds(tmp_path):
    program = """
        import ast, gc, linecache
        from flowtrace.recording.program_texts import locate

        found = []

        class Cyclic:
            def __init__(self):
                self.me = self

            def __del__(self):
                name = f"<made {len(found)}>"
                text = f"def made(): return {len(found)}"
                linecache.cache[name] = (len(text), None, [text], name)
                space = {"__name__": "made"}
                exec(compile(text, name, "exec"), space)
                found.append(locate(space["made"]).qualname)

        source = "x = (a + b) * [c, d, {'k': 1}]\\n" * 200
        gc.set_threshold(20)
        for _ in range(5):
            garbage = [Cyclic() for _ in range(5)]
            del garbage
            ast.parse(source)
        gc.collect()
        assert found == ["made"] * 25, found
    """
    run_program(tmp_path, program)
