"""Print which node failed, with what error, and where the trace is.

python examples/show_failure.py artifacts/trace.json
"""

from __future__ import annotations

import sys

from flowtrace import Trace, TraceFileError, load_trace
from flowtrace.trace.model import Step


def origin_of_failure(trace: Trace) -> Step | None:
    """Return the innermost step of the last failure: the callers that failed with it come after it."""
    failed = [step for step in trace.steps if step.error is not None]
    step = failed[-1] if failed else None
    while step is not None and step.step_id is not None:
        inner = [child for child in failed if child.parent_step_id == step.step_id]
        if not inner:
            break
        step = inner[-1]
    return step


def main(path: str) -> int:
    try:
        trace = load_trace(path)
    except TraceFileError as error:
        print(f"not a trace: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot read {path}: {error.strerror}", file=sys.stderr)
        return 1
    step = origin_of_failure(trace)
    if step is None or step.error is None:
        print(f"no step failed in {path}")
        return 0
    details = step.error.details
    kind = f"{details['type']}: " if isinstance(details, dict) and "type" in details else ""
    print(f"failing node: {step.node_id}")
    print(f"error: {kind}{step.error.message}")
    print(f"trace: {path}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/show_failure.py TRACE")
    sys.exit(main(sys.argv[1]))
