"""Where a value came from: its way backwards through the steps of a trace, to the step that gave it first."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtrace import ProvenanceError, current_step, flow, load_trace, override, traced_node
from flowtrace.testing import recording
from flowtrace.trace.origins import Origins
from flowtrace.trace.source import used_at
from tests.traces import hash_of, step, trace

CATALOG = {"KETTLE-2": ("kitchen", "34.90"), "LAMP-7": ("hall", "")}


@dataclass(frozen=True)
class Line:
    sku: str
    count: int
    category: str = ""
    list_price: Decimal | None = None


class PricingError(Exception):
    pass


@traced_node(component="catalog", operation="lookup")
def look_up(sku):
    category, price = CATALOG[sku]
    if not price:
        current_step().add_validation_issue("empty_field", f"/{sku}/list_price", "no list price in the catalog")
    return {"sku": sku, "category": category, "list_price": Decimal(price) if price else None}


@traced_node(component="catalog", operation="enrich")
def enrich(line):
    found = look_up(line.sku)
    return replace(line, category=found["category"], list_price=found["list_price"])


@traced_node(component="pricing", operation="price_line")
def price_line(line, discount):
    try:
        net = line.list_price * (1 - discount)
    except TypeError as error:
        raise PricingError(f"{line.sku} can't be priced") from error
    return net * line.count


@traced_node(component="pricing", operation="price_order")
def price_order(lines):
    return sum(price_line(line, Decimal("0.05")) for line in lines)


def recorded(call, *args, **options):
    """Return the trace of a call that may fail."""
    options = {"capture_inputs": True, "capture_outputs": True, "buffer_size": 1000} | options
    with recording(**options) as record, contextlib.suppress(Exception), flow("f"):
        call(*args)
    return record.traces[0]


def settle():
    return price_order([enrich(Line("KETTLE-2", 1)), enrich(Line("LAMP-7", 2))])


def links(found):
    return [(str(link.relation), link.number, link.side, link.path) for link in found.links]


# --- a pipeline


def test_a_missing_price_is_followed_through_callers_and_into_the_step_that_gave_it():
    found = recorded(settle).provenance()
    assert found.text == (
        "`/line/list_price` None, in the input of #5 pricing.price_line; an equal `line` came out of "
        "#3 catalog.enrich; inside it #2 catalog.lookup gave `list_price` None with the same `category` and `sku` "
        "and reported `empty_field`"
    )
    assert links(found) == [
        ("start", 5, "input", "/line/list_price"),
        ("container", 6, "input", "/lines/1/list_price"),
        ("container", 3, "output", "/list_price"),
        ("same member", 2, "output", "/list_price"),
        ("reported issue", 2, "output", "/list_price"),
        ("made here", 2, "output", "/list_price"),
    ]
    assert [link.text for link in found.links[1:3]] == [
        "its caller #6 pricing.price_order was called with an equal `line`",
        "an equal item of `lines` came out of #3 catalog.enrich",
    ]
    assert found.is_found


def test_the_result_as_json():
    found = recorded(settle).provenance(5, "/line/list_price")
    document = found.to_json()
    assert json.loads(json.dumps(document)) == document
    assert (document["text"], document["found"]) == (found.text, True)
    assert document["links"][0] == {
        "relation": "start",
        "step": "/steps/5",
        "number": 5,
        "node_id": "pricing.price_line",
        "side": "input",
        "pointer": "/line/fields/list_price",
        "path": "/line/list_price",
        "value": "None",
        "text": "`/line/list_price` None, in the input of #5 pricing.price_line",
        "brief": "`/line/list_price` None, in the input of #5 pricing.price_line",
        "reason": "",
        "others": [],
        "note": "",
    }


def test_hashes_alone_are_enough_for_a_complete_result():
    value = {"sku": "LAMP-7", "price": None}
    steps = [step("c.make", None, value), step("c.use", {"row": value}, error="no", captured=True)]
    assert trace(*steps).provenance(1, "/row/price").text == (
        "`/row/price` None, in the input of #1 c.use; an equal `row` came out of #0 c.make; its input was not captured "
        "(FLOWTRACE_CAPTURE_INPUTS=1 and FLOWTRACE_CAPTURE_OUTPUTS=1 keep values), so it can't be followed further"
    )


def test_an_input_of_which_there_is_only_the_hash_is_found_as_a_complete_output():
    value = {"sku": "LAMP-7"}
    found = trace(step("c.make", None, value), step("c.use", value, error="no")).provenance(1, "")
    assert [(str(link.relation), link.number) for link in found.links] == [("start", 1), ("equal", 0), ("unknown", 0)]


# --- each kind of link


def chain(*steps, at=None, pointer="/x", **fields):
    """Return relation, step and path of each link after the first, and the reason of the last one."""
    found = trace(*steps, **fields).provenance(len(steps) - 1 if at is None else at, pointer)
    rest = [(str(link.relation), link.number, link.path) for link in found.links[1:]]
    return rest, found.links[-1].reason


def made(node, result, given=None, **fields):
    record = step(node, {} if given is None else given, result, captured=True, **fields)
    return record | {"output_hash": hash_of(result), "output_json": result}


def failed(node, given, **fields):
    return step(node, given, error="no", captured=True, **fields)


def test_a_telling_value_is_followed_by_itself():
    steps = [made("c.whole", "telling"), made("c.part", [1, {"a": "telling too"}])]
    assert chain(*steps, failed("c.use", {"x": "telling"})) == ([("equal", 0, ""), ("made here", 0, "")], "")
    assert chain(*steps, failed("c.use", {"x": "telling too"})) == (
        [("part of", 1, "/1/a"), ("made here", 1, "/1/a")],
        "",
    )


def test_two_short_members_are_telling_together():
    line = {"sku": "B", "price": None}
    steps = [made("c.look_up", line), failed("c.use", {"line": line, "count": 2})]
    assert chain(*steps, pointer="/line/price")[0][0] == ("container", 0, "/price")


@pytest.mark.parametrize("value", [None, True, False, 0, 1, 0.0, "", "ab", [], {}, [None], {"a": 0}, [0, 1], [[], {}]])
def test_a_common_value_is_never_followed_by_itself(value):
    steps = [made("c.make", value), made("c.more", {"x": value, "y": 1}), failed("c.use", {"x": value})]
    assert chain(*steps) == ([("unknown", 2, "/x")], "common")


def test_a_common_value_is_followed_by_the_largest_equal_thing_that_holds_it():
    inner = {"name": "LAMP-7", "price": None}
    steps = [
        made("c.inner", inner),
        made("c.outer", {"first": inner, "rest": [1, 2, 3]}, {"given": inner}),
        failed("c.use", {"x": {"first": inner, "rest": [1, 2, 3]}}),
    ]
    assert chain(*steps, pointer="/x/first/price") == (
        [
            ("container", 1, "/first/price"),
            ("container", 1, "/given/price"),
            ("container", 0, "/price"),
            ("made here", 0, "/price"),
        ],
        "",
    )


def test_a_missing_member_is_followed_by_what_should_have_it():
    steps = [made("c.make", {"name": "LAMP-7"}), failed("c.use", {"row": {"name": "LAMP-7"}})]
    steps[1]["error"] |= {"message": "'price'", "details": {"type": "KeyError"}}
    found = trace(*steps).provenance()
    assert found.text == (
        "`/row/price` missing, in the input of #1 c.use; an equal `row` came out of #0 c.make; "
        "its own code made or read it"
    )


RECORD = {"$py": "dataclass", "class": "shop:Line", "fields": {"at": "LAMP-7", "values": {"hum": 1}}}


@pytest.mark.parametrize(
    ("row", "path"),
    [
        (RECORD, "/row/values/price"),
        (RECORD | {"fields": {"at": "LAMP-7"}}, "/row/price"),
        ({"price": 1, "fields": {"hum": 1}}, "/row/fields/price"),
    ],
)
def test_a_key_is_missing_in_a_mapping_and_in_a_record_where_there_is_none(row, path):
    step = failed("c.use", {"row": row})
    step["error"] |= {"message": "'price'", "details": {"type": "KeyError"}}
    found = trace(step).provenance(0)
    assert (found.links[0].path, found.links[0].note) == (path, "")


def test_the_nearest_in_the_tree_and_in_time_comes_first_and_the_others_are_listed():
    value = {"name": "LAMP-7", "price": None}
    steps = [
        made("c.far", value, step_id="1" * 16),
        made("c.early", value, step_id="2" * 16, parent_step_id="9" * 16),
        made("c.late", value, step_id="3" * 16, parent_step_id="9" * 16),
        failed("c.use", {"x": value}, step_id="4" * 16, parent_step_id="9" * 16),
        failed("c.all", {}, step_id="9" * 16),
    ]
    found = trace(*steps).provenance(3, "/x/price")
    assert [(link.number, link.others) for link in found.links] == [
        (3, ()),
        (2, ("/steps/1", "/steps/0")),
        (2, ("/steps/1", "/steps/0")),
    ]


def test_what_ended_after_the_step_began_did_not_give_its_input():
    value = {"name": "LAMP-7", "price": None}
    late = made("c.late", value, at=100, lasts=500_000)
    early = made("c.early", value, at=100, lasts=1_000)
    use = failed("c.use", {"x": value}, at=300, lasts=400_000)
    assert chain(early, late, use, pointer="/x/price")[0][0] == ("container", 0, "/price")


def test_a_generator_gives_its_items_while_it_runs():
    rows = {"$py": "generator", "items": [{"name": "LAMP-7", "price": None}], "returned": None}
    use = failed("c.use", {"x": rows["items"][0]}, at=300, lasts=1_000)
    steps = [use, made("c.rows", rows, at=100, lasts=900_000)]
    assert chain(*steps, at=0, pointer="/x/price")[0] == [
        ("container", 1, "/0/price"),
        ("made here", 1, "/0/price"),
    ]


def test_what_a_program_was_called_with_came_from_outside():
    value = {"name": "LAMP-7", "price": None}
    steps = [
        failed("c.use", {"x": value}, step_id="1" * 16, parent_step_id="2" * 16),
        failed("c.main", {"row": value}, step_id="2" * 16),
    ]
    found = trace(*steps).provenance(0, "/x/price")
    assert found.text == (
        "`/x/price` None, in the input of #0 c.use; its caller #1 c.main was called with an equal `x`; "
        "#1 c.main got it from outside the recorded steps"
    )


def test_what_no_step_gave_was_made_by_the_caller():
    steps = [
        failed("c.use", {"x": "telling"}, step_id="1" * 16, parent_step_id="2" * 16),
        failed("c.main", {}, step_id="2" * 16),
    ]
    assert trace(*steps).provenance(0, "/x").text == (
        "`/x` 'telling', in the input of #0 c.use; the code of #1 c.main itself made or read it"
    )


def test_a_result_that_a_step_was_called_with_is_followed_through_it():
    value = {"name": "LAMP-7", "price": None}
    steps = [made("c.make", value), made("c.check", value, {"row": value}), failed("c.use", {"x": value})]
    assert chain(*steps, pointer="/x/price") == (
        [
            ("container", 1, "/price"),
            ("container", 1, "/row/price"),
            ("container", 0, "/price"),
            ("made here", 0, "/price"),
        ],
        "",
    )
    assert "c.check; an equal result came out of #0 c.make" in trace(*steps).provenance(2, "/x/price").text


def test_an_argument_is_followed_to_an_object_with_the_same_member_and_others_in_common():
    config = {"db": {"host": "db1.example", "port": None, "name": "x"}}
    steps = [
        made("c.load", config, {"env": "prod"}),
        failed("c.connect", {"host": "db1.example", "port": None}, step_id="1" * 16, parent_step_id="2" * 16),
        failed("c.start", {"config": config}, step_id="2" * 16),
    ]
    assert trace(*steps).provenance(1, "/port").text == (
        "`/port` None, in the input of #1 c.connect; its caller #2 c.start was called with `port` None with the same "
        "`host`; an equal `config` came out of #0 c.load; its own code made or read it"
    )


def test_a_member_alone_is_followed_into_the_only_such_object_that_the_step_was_called_with():
    raw = {"name": "lamp", "weight": "n/a"}
    clean = made("c.clean", {"name": "LAMP-7", "weight": "n/a"}, {"row": raw})
    links = chain(made("c.read", [raw]), clean, failed("c.use", {"x": clean["output_json"]}), pointer="/x/weight")
    assert links == (
        [
            ("container", 1, "/weight"),
            ("same member", 1, "/row/weight"),
            ("container", 0, "/0/weight"),
            ("made here", 0, "/0/weight"),
        ],
        "",
    )
    two = made("c.clean", clean["output_json"], {"row": raw, "more": {"name": "other", "weight": "n/a"}})
    links = chain(made("c.read", [raw]), two, failed("c.use", {"x": clean["output_json"]}), pointer="/x/weight")
    assert links == ([("container", 1, "/weight"), ("made here", 1, "/weight")], "")


def test_a_result_that_is_just_as_common_is_no_proof_and_is_named():
    steps = [
        made("c.rate", None, step_id="1" * 16, parent_step_id="3" * 16),
        failed("c.use", {"rate": None, "count": 2}, step_id="2" * 16, parent_step_id="3" * 16),
        failed("c.all", {}, step_id="3" * 16),
    ]
    assert trace(*steps).provenance(1, "/rate").text == (
        "`/rate` None, in the input of #1 c.use; the code of #2 c.all itself made or read it, "
        "or took it from #0 c.rate, which gave None"
    )


def test_values_in_payload_files_are_followed_where_the_folder_of_the_trace_is_known(tmp_path):
    path = tmp_path / "trace.json"
    options = {"mode": "on", "out_path": path, "capture_inputs": True, "capture_outputs": True, "max_value_bytes": 64}
    with override(**options), contextlib.suppress(PricingError), flow("f"):
        settle()
    loaded = load_trace(path)
    assert loaded.steps[5].invocation_path is not None
    assert loaded.provenance(path=path).text == recorded(settle).provenance().text
    assert loaded.provenance().text == (
        "is in a payload file that can't be read, the input of #5 pricing.price_line; "
        "it is in a payload file that can't be read, so it can't be followed"
    )


def test_a_step_that_was_still_running_is_asked_for_by_its_node():
    value = {"name": "LAMP-7", "price": None}
    running = failed("c.use", {"x": value})
    found = trace(made("c.make", value), in_flight=[running]).provenance("c.use", "/x/price")
    assert (found.links[0].step, found.links[0].number) == ("/in_flight/0", None)
    assert found.text.startswith("`/x/price` None, in the input of c.use (still running); an equal `x` came out of #0")


# --- what can't be known


@pytest.mark.parametrize("why", ["redacted", "opaque"])
def test_a_hidden_value_is_not_followed(why):
    steps = [made("c.make", "__REDACTED__"), failed("c.use", {"x": "__REDACTED__"})]
    steps[1][why] = ["/invocation_json/payload/x"]
    assert chain(*steps) == ([("unknown", 1, "/x")], why)


def test_a_cut_value_is_not_followed():
    cut = {"$py": "cut", "count": 3, "reason": "work"}
    use = failed("c.use", {"x": [1, 2, 3, cut]})
    use["cut"] = [{"path": "/invocation_json/payload/x/3", "reason": "work", "count": 3}]
    use["opaque"] = ["/invocation_json/payload/x/3"]
    assert chain(made("c.make", [1, 2, 3, cut]), use, pointer="/x/3") == ([("unknown", 1, "/x/3")], "cut")
    found = trace(made("c.make", [1, 2, 3, cut]), use).provenance(1, "/x")
    assert found.links[1].note == "equal as far as it can be seen: `/x/3` is cut"


def test_steps_that_were_not_kept_or_not_captured_may_have_given_the_value():
    use = failed("c.use", {"x": "telling"})
    assert chain(use, dropped=7) == ([("unknown", 0, "/x")], "dropped")
    assert chain(step("c.make", None, "other"), use) == ([("unknown", 1, "/x")], "not captured")
    assert chain(use | {"step_id": "1" * 16, "parent_step_id": "2" * 16}) == ([("unknown", 0, "/x")], "dropped")
    text = trace(use, dropped=7).provenance(0, "/x").links[-1].text
    assert text == "no step that was kept gave it to #0 c.use, and 7 earlier ones were not kept"


def test_a_keyed_hash_is_never_compared_with_another_one():
    value = {"name": "LAMP-7"}
    make = made("c.make", value)
    make["output_hash"] = {"algorithm": "blake3-keyed", "value": make["output_hash"]["value"]}
    del make["output_json"]
    assert chain(make, failed("c.use", {"x": value})) == ([("unknown", 1, "/x")], "not captured")


# --- what an error is about


@traced_node
def by_attribute(row, rate):
    return row.list_price * rate


@traced_node
def by_key(row, rate):
    return row["list_price"] * rate


@traced_node
def by_local_name(rows, rate):
    total = 0
    for item in rows:
        price = item["list_price"]
        total += item["list_price"] * rate
    return total, price


@traced_node
def by_missing_key(row, rate):
    return row["price"] * rate


@traced_node
def by_unknown_key(name, prices):
    return prices[name]


@traced_node
def by_text(row):
    return int(row["count"])


@traced_node
def by_condition(row, other):
    if row["stock"] is None:
        raise PricingError("can't be sold")
    return other


@traced_node
def by_zero(total, row):
    return total / row["count"]


@traced_node
def by_type(first, second):
    return first + second


@traced_node
def by_index(row):
    return row["lines"][0]


@traced_node
def by_wrong_class(row):
    return row.sku.list_price


@traced_node
def by_only_value(row):
    if row["count"] > 10:
        raise ValueError("too many")


@pytest.mark.parametrize(
    ("node", "args", "path", "shown"),
    [
        (by_attribute, (Line("LAMP-7", 1), 2), "/row/list_price", "None"),
        (by_key, ({"other": None, "list_price": None}, 2), "/row/list_price", "None"),
        (by_local_name, ([{"list_price": 2, "z": None}, {"list_price": None}], 2), "/rows/1/list_price", "None"),
        (by_missing_key, ({"list_price": 1}, 2), "/row/price", "missing"),
        (by_unknown_key, ("LAMP-9", {"LAMP-7": 1}), "/name", "'LAMP-9'"),
        (by_text, ({"name": "LAMP-7", "count": "many"},), "/row/count", "'many'"),
        (by_condition, ({"stock": None, "price": None}, None), "/row/stock", "None"),
        (by_zero, (0, {"count": 0}), "/row/count", "0"),
        (by_type, (1, "1"), "/second", "'1'"),
        (by_index, ({"others": [], "lines": []},), "/row/lines", "[]"),
        (by_wrong_class, (Line("LAMP-7", 1),), "/row/sku", "'LAMP-7'"),
        (by_only_value, ({"count": 11, "price": 3},), "/row/count", "11"),
    ],
    ids=lambda item: getattr(item, "__name__", ""),
)
def test_without_a_pointer_it_starts_at_what_the_error_is_about(node, args, path, shown):
    start = recorded(node, *args).provenance().links[0]
    assert (start.path, start.value, start.note) == (path, shown, "")


@pytest.mark.parametrize(("name", "is_read"), [("shop.py", True), ("shop.txt", False)])
def test_of_the_files_that_a_trace_names_only_python_sources_are_read(name, is_read, tmp_path):
    file = tmp_path / name
    file.write_text(Path(__file__).read_text())
    found = recorded(by_attribute, Line("LAMP-7", 1), 2)
    used = used_at(
        msgspec.structs.replace(found.steps[0].code, file=str(file)), by_attribute.__code__.co_firstlineno + 2
    )
    assert (used is not None and "list_price" in used.names) == is_read


def test_a_share_of_the_network_is_never_asked_for_a_source():
    code = recorded(by_attribute, Line("LAMP-7", 1), 2).steps[0].code
    line = by_attribute.__code__.co_firstlineno + 2
    assert used_at(code, line) is not None
    assert used_at(msgspec.structs.replace(code, file=f"/{code.file}"), line) is None


def test_an_error_that_names_no_value_says_what_there_is():
    @traced_node
    def refuse(row, rate):
        raise ConnectionError("503")

    found = recorded(refuse, {"a": 1}, 2)
    with pytest.raises(ProvenanceError) as caught:
        found.provenance()
    assert str(caught.value).endswith("refuse, and its error names no value of its input: it has /rate, /row")


class Cart:
    def __init__(self, items):
        self.items = items

    @traced_node
    def total(self, tax):
        return sum(item["cost"] * tax for item in self.items)


def test_what_is_in_no_argument_is_not_taken_for_one():
    with pytest.raises(ProvenanceError, match="its error names no value of its input: it has /tax"):
        recorded(Cart([{"cost": None}]).total, 2).provenance()


def test_a_source_file_that_was_changed_since_is_not_used(tmp_path):
    found = recorded(by_key, {"other": None, "list_price": None}, 2)
    frame = found.failed_step.error.details["frames"][-1]
    assert found.provenance().links[0].path == "/row/list_price"
    changed = json.loads(json.dumps(frame))
    changed["line"] = 1  # not in the function
    found.failed_step.error.details["frames"][-1] = changed
    with pytest.raises(ProvenanceError):
        found.provenance()


# --- what is asked for


def test_steps_and_pointers_that_are_not_there():
    found = recorded(settle)
    there = "the trace has the steps 0 to 6; a step id or a node id names one, too"
    of_line = "in the input of #5 pricing.price_line"
    for asked, said in [
        ((99,), f"there is no step '99': {there}"),
        (
            ("shop.x",),
            f"there is no step 'shop.x': {there}",
        ),
        ((1,), "no pointer was given for #1 catalog.enrich, and it did not fail: it has /line"),
        (
            (5, "/line/price"),
            f"there is no /line/price {of_line}; the nearest is /line/list_price",
        ),
        ((5, "/x"), f"there is no /x {of_line}; it has /discount, /line"),
        (
            (5, "/line/sku/x"),
            f"there is no /line/sku/x {of_line}; /line/sku has no parts",
        ),
    ]:
        with pytest.raises(ProvenanceError) as caught:
            found.provenance(*asked)
        assert str(caught.value) == said
    with pytest.raises(ProvenanceError, match="no step failed: name a step and a value of it"):
        trace(made("c.a", 1)).provenance()


def test_a_step_is_named_by_its_number_its_id_its_node_or_its_record():
    found = recorded(settle)
    failed_step = found.steps[5]
    asked = [5, "5", failed_step.step_id, "pricing.price_line", failed_step, None]
    assert {found.provenance(item).text for item in asked} == {found.provenance().text}


def test_exact_and_short_pointers_lead_to_the_same_value():
    found = recorded(settle)
    for pointer in (
        "/line/list_price",
        "line/list_price",
        "/line/fields/list_price",
        "/invocation_json/payload/line/list_price",
    ):
        assert found.provenance(5, pointer).links[0].pointer == "/line/fields/list_price"
    assert found.provenance(2, "/output_json/list_price").links[0].side == "output"
    forms = {"d": {"$py": "dict", "items": [[1, "one"], [[2, 3], {"$py": "set", "items": ["two"]}]]}}
    for pointer, exact in [("/d/1", "/d/items/0/1"), ("/d/[2, 3]/0", "/d/items/1/1/items/0")]:
        start = trace(failed("c.use", forms)).provenance(0, pointer).links[0]
        assert (start.path, start.pointer) == (pointer, exact)


# --- pipelines whose origin is known


@st.composite
def pipelines(draw):
    """Return the steps of a program, the pointer of the value that it fails on, and the number of the step it is from.

    Each value is an object with a name of its own and a None. Objects go through steps that hand them on as they are,
    or inside something larger, and steps may be called inside others.
    """
    steps, made_by = [], {}
    ids = iter(f"{number:016x}" for number in range(1, 1000))
    held = []  # what the program holds: the value, the name of the object, and the pointer to its None
    for number in range(draw(st.integers(1, 6))):
        name = f"object {number}"
        row = {"name": name, "price": None}
        depth = draw(st.integers(0, 2))  # steps round the one that makes it, which hand it out
        outer = [next(ids) for _ in range(depth)]
        made_by[name] = len(steps)
        steps.append(made("c.make", row, {"n": number}, step_id=next(ids), **_inside(outer)))
        for level in range(depth):
            fields = _inside(outer[level + 1 :])
            steps.append(made("c.round", row, {"n": number}, step_id=outer[level], **fields))
        held.append((row, name, "/price"))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(held) - 1))
        value, name, pointer = held[at]
        if draw(st.booleans()):  # handed on
            steps.append(made("c.pass", value, {"value": value}, step_id=next(ids)))
        elif draw(st.booleans()):  # put into an object by a step
            value, pointer = {"held": value, "label": f"box {len(steps)}"}, f"/held{pointer}"
            steps.append(made("c.box", value, {"value": value["held"]}, step_id=next(ids)))
        else:  # put into a list by the program itself
            value, pointer = [7, value], f"/1{pointer}"
        held[at] = value, name, pointer
    value, name, pointer = draw(st.sampled_from(held))
    callers = [next(ids) for _ in range(draw(st.integers(0, 2)))]
    at = len(steps)
    steps.append(failed("c.use", {"given": value}, step_id=next(ids), **_inside(callers)))
    steps += [
        failed("c.caller", {"row": value}, step_id=own, **_inside(callers[level + 1 :]))
        for level, own in enumerate(callers)
    ]
    return steps, at, f"/given{pointer}", made_by[name]


def _inside(callers):
    return {"parent_step_id": callers[0]} if callers else {}


@given(pipelines())
def test_a_value_is_followed_to_the_step_that_made_it(pipeline):
    steps, at, pointer, origin = pipeline
    found = trace(*steps).provenance(at, pointer)
    last = found.links[-1]
    assert (str(last.relation), last.number, last.side, last.path) == ("made here", origin, "output", "/price")
    assert {link.value for link in found.links} == {"None"}


# --- hostile traces

KEYS = st.sampled_from(["$py", "fields", "items", "class", "value", "values", "a", "b/~"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["$py", "fields", "items", "class", "value", "values", "a", "b/~"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
FORMS = st.sampled_from(["dict", "dataclass", "set", "list", "cut", "opaque", "enum", "decimal", "generator", "?"])
VALUES = JSON | st.builds(
    lambda kind, rest: {**(rest if isinstance(rest, dict) else {"a": rest}), "$py": kind}, FORMS, JSON
)
MESSAGES = st.sampled_from(["'a'", "'NoneType' object has no attribute 'a'", "'int' and 'str'", "no", ""])
TYPES = st.sampled_from(["KeyError", "TypeError", "AttributeError", "ValueError", "ZeroDivisionError", "IndexError", 7])
HIDDEN = [{}, {"redacted": ["/invocation_json/payload/a", "x"]}, {"opaque": ["/output_json"]}]
POINTERS = [None, "", "/a", "/a/0", "/fields/a", "/output_json", "/output_json/items/0", "/b~1~0"]


@st.composite
def hostile_steps(draw):
    ids = [f"{number:016x}" for number in range(4)]
    found = []
    for _ in range(draw(st.integers(1, 6))):
        given_, result = draw(VALUES), draw(VALUES)
        record = made(
            "c.a", result, given_, step_id=draw(st.sampled_from(ids)), parent_step_id=draw(st.sampled_from(ids))
        )
        record |= draw(
            st.sampled_from([{}, {"redacted": ["/invocation_json/payload/a", "x"]}, {"opaque": ["/output_json"]}])
        )
        if draw(st.booleans()):
            details = {"type": draw(TYPES), "frames": draw(JSON), "causes": draw(JSON)}
            record["error"] = {"code": "node_error", "message": draw(MESSAGES), "details": details}
        if draw(st.booleans()):
            record["invocation_json"] = draw(JSON)
        record["validation_issues"] = [
            {"code": "c", "path": draw(st.sampled_from(["", "/a", "a", "//"])), "message": ""}
        ]
        found.append(record)
    return found


@given(
    hostile_steps(),
    st.sampled_from([None, "", "/a", "/a/0", "/fields/a", "/output_json", "/output_json/items/0", "/b~1~0"]),
)
def test_no_trace_makes_it_fail_or_go_on_for_ever(steps, pointer):
    origins = Origins(trace(*steps))
    for at in range(len(steps)):
        with contextlib.suppress(ProvenanceError):
            found = origins.of(at, pointer)
            assert 1 < len(found.links) <= 50 * 4
            assert found.text


def test_values_that_are_nested_too_deeply_are_not_followed():
    deep = "LAMP-7"
    for _ in range(600):
        deep = [deep]
    steps = [made("c.make", 1), failed("c.use", {"x": 1})]
    loaded = trace(*steps)
    loaded.steps[0].output_json = loaded.steps[1].invocation_json["payload"]["x"] = deep
    found = loaded.provenance(1, "/x")
    assert [(str(link.relation), link.value) for link in found.links] == [
        ("start", "(nested too deeply to be shown)"),
        ("from outside", "(nested too deeply to be shown)"),
    ]


def test_ten_thousand_equal_results_and_a_long_chain_of_callers_are_bounded():
    value = {"name": "LAMP-7", "price": None}
    steps = [
        made("c.pass", value, {"row": value}, step_id=f"{at:016x}", parent_step_id=f"{at + 1:016x}")
        for at in range(3000)
    ]
    found = trace(*steps, failed("c.use", {"x": value}, step_id=f"{3000:016x}")).provenance(3000, "/x/price")
    assert len(found.links) <= 42
    assert all(len(link.others) <= 5 for link in found.links)
    steps = [made("c.pass", value, {"row": value}) for at in range(100)]
    found = trace(*steps, failed("c.use", {"x": value})).provenance(100, "/x/price")
    assert (len(found.links), found.links[-1].reason) == (42, "long")
    assert found.text.endswith("; it was followed through 40 links, and no further")
