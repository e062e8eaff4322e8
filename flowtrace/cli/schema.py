"""`flowtrace schema`: the JSON Schema of the trace file."""

from __future__ import annotations

import click

from flowtrace.cli.common import EXIT_OK, Command, print_json


@click.command(
    "schema",
    cls=Command,
    examples="""
    flowtrace schema > trace-v1.schema.json
    flowtrace schema | jq '."$defs".Step.required'
    """,
)
def command() -> int:
    """Print the JSON Schema (draft 2020-12) of a version 1 trace file."""
    from flowtrace.trace.schema import json_schema

    print_json(json_schema())
    return EXIT_OK
