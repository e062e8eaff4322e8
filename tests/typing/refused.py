"""Uses that type checkers refuse. The comment on a line names the error of each checker that must be told there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import flowtrace
from flowtrace import current_step, flow, hash_value, load_trace, register_codec, traced_node

# --- what is decorated

traced_node(5)  # mypy: call-overload; pyright: reportArgumentType
traced_node(None)  # mypy: call-overload; pyright: reportArgumentType
traced_node("name")  # mypy: call-overload; pyright: reportArgumentType
traced_node()(5)  # mypy: type-var; pyright: reportArgumentType
traced_node(function=len)  # mypy: call-overload; pyright: reportCallIssue
traced_node(len, "component")  # mypy: call-overload; pyright: reportCallIssue


class Refused:
    @traced_node  # mypy: prop-decorator; pyright: reportArgumentType, reportUntypedFunctionDecorator
    @property
    def half(self) -> float:
        return 0.5


# --- options

traced_node(component=1)  # mypy: call-overload; pyright: reportArgumentType
traced_node(operation=b"o")  # mypy: call-overload; pyright: reportArgumentType
traced_node(node_id=object())  # mypy: call-overload; pyright: reportArgumentType
traced_node(capture_inputs="yes")  # mypy: call-overload; pyright: reportArgumentType
traced_node(redact=5)  # mypy: call-overload; pyright: reportArgumentType
traced_node(redact=[1])  # mypy: list-item; pyright: reportArgumentType
traced_node(expected_errors=[KeyError])  # mypy: call-overload; pyright: reportArgumentType
traced_node(expected_errors=(KeyError, int))  # mypy: arg-type; pyright: reportArgumentType
traced_node(expected_errors=KeyError("k"))  # mypy: call-overload; pyright: reportArgumentType
traced_node(unknown=1)  # mypy: call-overload; pyright: reportCallIssue
traced_node(len, component="c")  # mypy: call-overload; pyright: reportCallIssue


# --- the types that are kept


@traced_node
def double(number: int, *, times: int = 2) -> int:
    return number * times


@traced_node(component="c")
async def later(number: int) -> str:
    return str(number)


@traced_node
async def each(number: int) -> AsyncIterator[int]:
    yield number


class Service:
    @traced_node
    def method(self, by: int) -> str:
        return str(by)

    @traced_node
    @classmethod
    def made(cls, start: int) -> Service:
        return cls()

    @traced_node
    @staticmethod
    def static(value: int) -> str:
        return str(value)


@traced_node
class Whole:
    def __init__(self, value: int) -> None:
        self.value = value


@flow("f")
def in_flow(number: int) -> str:
    return str(number)


double("text")  # mypy: arg-type; pyright: reportArgumentType
double(1, times="text")  # mypy: arg-type; pyright: reportArgumentType
double(1, 2)  # mypy: call-arg; pyright: reportCallIssue
double()  # mypy: call-arg; pyright: reportCallIssue
double(1, component="c")  # mypy: call-arg; pyright: reportCallIssue
text: str = double(1)  # mypy: assignment; pyright: reportAssignmentType
Service().method("text")  # mypy: arg-type; pyright: reportArgumentType
Service().method()  # mypy: call-arg; pyright: reportCallIssue
Service.made("text")  # mypy: arg-type; pyright: reportArgumentType
Service.static("text")  # mypy: arg-type; pyright: reportArgumentType
Whole("text")  # mypy: arg-type; pyright: reportArgumentType
Whole(1).missing  # mypy: attr-defined; pyright: reportAttributeAccessIssue, reportUnknownMemberType
in_flow("text")  # mypy: arg-type; pyright: reportArgumentType


async def use_later() -> None:
    number: int = await later(1)  # mypy: assignment; pyright: reportAssignmentType
    await later("text")  # mypy: arg-type; pyright: reportArgumentType
    async for item in each("text"):  # mypy: arg-type; pyright: reportArgumentType
        print(item, number)
    await each(1)  # mypy: misc; pyright: reportGeneralTypeIssues


# --- flow and the rest

flow()  # mypy: call-arg; pyright: reportCallIssue
flow(1)  # mypy: arg-type; pyright: reportArgumentType
flow("f", "2")  # mypy: call-arg; pyright: reportCallIssue
flow("f", version=None)  # mypy: arg-type; pyright: reportArgumentType
flow("f", unknown=1)  # mypy: call-arg; pyright: reportCallIssue
flow("f")(5)  # mypy: type-var; pyright: reportArgumentType
flowtrace.configure(mode=1)  # mypy: arg-type; pyright: reportArgumentType
flowtrace.configure(unknown=1)  # mypy: call-arg; pyright: reportCallIssue
flowtrace.configure("always")  # mypy: arg-type; pyright: reportArgumentType
flowtrace.configure(redact=["iban"])  # mypy: arg-type; pyright: reportArgumentType
flowtrace.override(buffer_size="20")  # mypy: arg-type; pyright: reportArgumentType
current_step(1)  # mypy: call-arg; pyright: reportCallIssue
current_step().add_validation_issue("code")  # mypy: call-arg; pyright: reportCallIssue
current_step().unknown()  # mypy: attr-defined; pyright: reportAttributeAccessIssue, reportUnknownMemberType
load_trace(5)  # mypy: arg-type; pyright: reportArgumentType
load_trace("trace.json").step  # mypy: attr-defined; pyright: reportAttributeAccessIssue, reportUnknownMemberType
hash_value()  # mypy: call-arg; pyright: reportCallIssue
register_codec(int)  # mypy: call-arg; pyright: reportCallIssue
register_codec(Service, Service.made, Service)  # mypy: arg-type; pyright: reportArgumentType
register_codec(5, str, str)  # mypy: arg-type; pyright: reportArgumentType
flowtrace.unknown  # mypy: attr-defined; pyright: reportAttributeAccessIssue, reportUnknownMemberType
