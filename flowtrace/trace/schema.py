"""The JSON Schema of a trace file, made from its records."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

from flowtrace.trace.model import EXTRA_FIELD, TRACE_VERSION, Trace, schema_of


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a version 1 trace file."""
    schema = schema_of(Trace)
    definitions = schema["$defs"]
    for definition in definitions.values():
        definition["properties"].pop(EXTRA_FIELD, None)
        del definition["additionalProperties"]  # later versions may add some
        definition["description"] = cleandoc(definition["description"])  # as compilers since 3.13 do
    definitions["Trace"]["properties"]["trace_version"] = {"const": TRACE_VERSION}
    hash_fields = definitions["Hash"]["properties"]
    hash_fields["value"] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flowtrace trace file, version 1",
        **schema,
    }
