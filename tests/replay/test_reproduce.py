"""The test that is written of a step: it passes while the step behaves as recorded, and says readably what that is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowtrace import ReplayError, hash_value, replay
from flowtrace.replaying.python_source import Writer, layout
from tests.ids import stable_repr
from tests.replay import test_rebuild
from tests.replay.workshop import edit, new_module, record

SHOP = """
    import asyncio, datetime, decimal, enum
    from dataclasses import dataclass, field
    from flowtrace import traced_node

    FIXED = False

    class Kind(enum.Enum):
        SMALL = "small"

    @dataclass
    class Order:
        item: str
        kind: Kind
        at: tuple[int, int] = (1, 2)
        total: int = field(init=False, default=0)

    class OutOfStock(Exception):
        pass

    @traced_node(component="shop", operation="price")
    def price(order: Order, *, rate: decimal.Decimal, when: datetime.datetime | None = None) -> float:
        if order.item == "gold" and not FIXED:
            raise OutOfStock(f"no {order.item}")
        return float(rate) * order.at[0] if not FIXED else 0.0

    @traced_node(component="shop", operation="pair of")
    def pair(x):
        return (x, [x], float("nan")) if not FIXED else None

    @traced_node(component="shop", operation="order")
    def order(item: str) -> Order:
        return Order(item if not FIXED else "fixed", Kind.SMALL)

    @traced_node(component="shop", operation="fetch")
    async def fetch(name: str) -> str:
        return name.upper() if not FIXED else ""

    @traced_node(component="shop", operation="numbers")
    def numbers(count: int):
        yield from range(count if not FIXED else 0)

    @traced_node(component="shop", operation="endless")
    def endless():
        while not FIXED:
            yield 1

    @traced_node(component="shop", operation="stream")
    async def stream(count: int):
        for number in range(count if not FIXED else 0):
            yield number

    @traced_node(component="shop", operation="address")
    def address():
        if not FIXED:
            raise ValueError(object())

    @traced_node(component="shop", operation="local")
    def local():
        class Local(Exception):
            pass
        if not FIXED:
            raise Local("here")

    class Cart:
        @traced_node(component="cart", operation="add")
        def add(self, item: str) -> str:
            return item if not FIXED else ""

        @classmethod
        @traced_node(component="cart", operation="named")
        def named(cls, name: str) -> str:
            return cls.__name__ + name if not FIXED else ""

    def make_cart():
        return Cart()
"""


def run_tests(folder, module, fixed):
    """Run test files in a process of their own, with the program as it is or as it is once fixed: which ones pass."""
    source = Path(module.__file__)
    source.write_text(source.read_text().replace("FIXED = False", f"FIXED = {fixed}"))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
    ]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*command, str(folder)], cwd="/", env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 1, done.stdout + done.stderr
    ran = [line.split() for line in done.stdout.splitlines() if line.startswith(("PASSED", "FAILED"))]
    return {Path(words[1].partition("::")[0]).name: words[0] for words in ran}


def three_of_endless(shop):
    items = shop.endless()
    for _ in range(3):
        next(items)
    items.close()


CALLS = {
    "error": lambda shop: shop.price(shop.Order("gold", shop.Kind.SMALL), rate=shop.decimal.Decimal("1.5")),
    "output": lambda shop: shop.price(shop.Order("tea", shop.Kind.SMALL), rate=shop.decimal.Decimal("1.5")),
    "tuple": lambda shop: shop.pair("x"),
    "record": lambda shop: shop.order("x"),
    "coroutine": lambda shop: shop.fetch("tea"),
    "generator": lambda shop: shop.numbers(3),
    "part": three_of_endless,
    "stream": lambda shop: shop.stream(2),
    "address": lambda shop: shop.address(),
    "local": lambda shop: shop.local(),
    "method": lambda shop: shop.Cart().add("x"),
    "class method": lambda shop: shop.Cart.named("x"),
}


@pytest.mark.costly
def test_a_test_passes_until_the_program_is_fixed_and_the_other_one_from_then_on(tmp_path):
    program, tests = tmp_path / "program", tmp_path / "tests"
    program.mkdir()
    tests.mkdir()
    shop = new_module(program, SHOP)
    for number, call in enumerate(CALLS.values()):
        trace = record(f"{number}.json", lambda: call(shop))
        options = {"receiver": f"{shop.__name__}:make_cart"}
        report = replay(trace, emit_test=tests / f"test_{number}_recorded.py", **options)
        assert report.exit_code == 0
        assert report.steps[0].exact_input
        replay(trace, emit_test=tests / f"test_{number}_fixed.py", expect_fixed=True, **options)
    for fixed, (recorded, other) in {False: ("PASSED", "FAILED"), True: ("FAILED", "PASSED")}.items():
        assert run_tests(tests, shop, fixed) == {
            name: result
            for number in range(len(CALLS))
            for name, result in ((f"test_{number}_recorded.py", recorded), (f"test_{number}_fixed.py", other))
        }
    for path in tests.glob("test_*.py"):
        assert ".json" not in path.read_text()


def test_the_test_reads_as_if_somebody_had_written_it(tmp_path):
    folder = tmp_path / "program"
    folder.mkdir()
    shop = new_module(folder, SHOP)
    when = shop.datetime.datetime(2026, 11, 24, tzinfo=shop.datetime.UTC)
    order = shop.Order("gold", shop.Kind.SMALL)
    trace = record("t.json", lambda: shop.price(order, rate=shop.decimal.Decimal("1.5"), when=when))
    edit(trace, lambda document: document["steps"][0].update(started_at="2026-11-24T14:00:00.000000Z"))
    replay(trace, emit_test="test_bug.py")
    assert Path("test_bug.py").read_text() == (
        f'''"""The step shop.price as flowtrace recorded it on 2026-11-24T14:00:00.000000Z.

Made by `flowtrace replay --emit-test`.
"""

import datetime
import decimal
import sys
from pathlib import Path

import pytest
from flowtrace import override

sys.path.insert(0, str(Path(__file__).resolve().parent / "program"))

from {shop.__name__} import Kind  # noqa: E402
from {shop.__name__} import Order  # noqa: E402
from {shop.__name__} import OutOfStock  # noqa: E402
from {shop.__name__} import price  # noqa: E402


def test_price_fails_as_recorded():
    with override(mode="off"), pytest.raises(OutOfStock) as caught:
        price(
            Order(item="gold", kind=Kind.SMALL, at=(1, 2)),
            rate=decimal.Decimal('1.5'),
            when=datetime.datetime(2026, 11, 24, 0, 0, tzinfo=datetime.timezone.utc),
        )
    assert caught.type is OutOfStock
    assert str(caught.value) == "no gold"
'''
    )


PARCELS = """
    import re
    from dataclasses import dataclass, field
    from flowtrace import traced_node

    @dataclass
    class Parcel:
        weight: int
        label: str = field(init=False, default="none")

    @traced_node(component="post", operation="weigh")
    def weigh(parcel: Parcel, pattern: re.Pattern) -> str:
        raise ValueError(f"{parcel.label} does not match {pattern.pattern}")
"""


def test_a_value_without_readable_source_is_rebuilt_through_the_public_door(tmp_path):
    post = new_module(tmp_path, PARCELS)
    parcel = post.Parcel(40)
    parcel.label = "P-77"
    trace = record("t.json", lambda: post.weigh(parcel, post.re.compile("Q-.")))
    replay(trace, emit_test="test_bug.py")
    source = Path("test_bug.py").read_text()
    ours = [line for line in source.splitlines() if line.startswith(("import flowtrace", "from flowtrace"))]
    assert ours == ["from flowtrace import override", "from flowtrace.testing import rebuild"]
    assert '{"label": "P-77", "weight": 40}' in source
    names = {"__file__": str(tmp_path / "test_bug.py")}
    exec(source, names)
    names["test_weigh_fails_as_recorded"]()


def test_the_public_door_loads_what_rebuilds_only_when_it_is_called():
    program = (
        "import sys; from flowtrace.testing import rebuild; loaded = lambda: 'flowtrace.values.rebuild' in sys.modules;"
        " print(loaded(), rebuild([1], tuple), loaded())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False (1,) True\n"


def test_an_output_that_only_its_hash_is_known_of_is_compared_by_hash(tmp_path):
    shop = new_module(tmp_path, SHOP)
    trace = record("t.json", lambda: shop.fetch("tea"), capture_outputs=False)
    edit(trace, lambda document: document["steps"][0]["output_hash"].update(value=hash_value("OTHER").value))
    replay(trace, emit_test="test_bug.py")
    assert f'assert hash_value(result) == "{hash_value("OTHER")}"' in Path("test_bug.py").read_text()


def test_what_no_test_can_be_written_of_is_an_error(tmp_path):
    nodes = new_module(
        tmp_path,
        """
        from flowtrace import traced_node

        @traced_node(component="a", operation="login")
        def login(user: str):
            return {"token": user}

        @traced_node(component="a", operation="hidden")
        def hidden(password: str):
            return login("x")
        """,
    )
    trace = record("t.json", lambda: nodes.hidden("x"))
    with pytest.raises(ReplayError, match="its output is redacted at /output_json/token: no test can compare it"):
        replay(trace, emit_test="test_bug.py")
    with pytest.raises(ReplayError, match="the test would call the real nodes instead of the stubs"):
        replay(trace, emit_test="test_bug.py", stubs=["a"])
    with pytest.raises(ReplayError, match="no step could be replayed, so there is nothing to write a test about"):
        replay(trace, emit_test="test_bug.py", steps=1)
    assert not Path("test_bug.py").exists()


def test_a_file_of_somebody_else_is_not_written_over(tmp_path):
    shop = new_module(tmp_path, SHOP)
    trace = record("t.json", lambda: shop.fetch("tea"))
    Path("test_mine.py").write_text("def test_mine(): pass\n")
    with pytest.raises(ReplayError, match=r"test_mine\.py exists already, and was not written by flowtrace"):
        replay(trace, emit_test="test_mine.py")
    assert Path("test_mine.py").read_text() == "def test_mine(): pass\n"


# --- sources of values


@pytest.mark.parametrize("value", [value for value, _ in test_rebuild.VALUES], ids=stable_repr)
def test_the_source_of_a_value_makes_an_equal_one(value):
    writer = Writer("__main__")
    try:
        text = layout(writer.value(value), 0)
    except ReplayError:
        assert type(value).__module__ in (
            "numpy",
            "numpy.dtypes",
            "builtins",
            "pandas._libs.tslibs.timestamps",
            "pandas",
        )
        return
    names = {module: __import__(module) for module in writer.modules}
    for (module, name), alias in writer.names.items():
        names[alias] = getattr(sys.modules[module], name)
    made = eval(text, names)
    assert type(made) is type(value)
    assert hash_value(made) == hash_value(value)


def test_long_sources_have_a_line_for_each_part():
    value = {"numbers": list(range(40)), "text": 'it\'s "quoted"', "empty": [], "one": (1,)}
    assert layout(Writer("m").value(value), 4, "x = ") == (
        "x = {\n"
        '        "numbers": [\n'
        + "".join(f"            {number},\n" for number in range(40))
        + "        ],\n"
        + '        "text": \'it\\\'s "quoted"\',\n'
        + '        "empty": [],\n'
        + '        "one": (1,),\n'
        + "    }"
    )


def test_names_from_two_modules_do_not_meet():
    writer = Writer("program")
    names = [
        writer.reference(module, name) for module, name in [("a", "X"), ("b", "X"), ("a", "X.Y"), ("__main__", "X")]
    ]
    assert names == ["X", "X_2", "X.Y", "X_3"]
    assert writer.names == {("a", "X"): "X", ("b", "X"): "X_2", ("program", "X"): "X_3"}
    with pytest.raises(ReplayError, match="is defined inside a function"):
        writer.reference("a", "f.<locals>.X")
