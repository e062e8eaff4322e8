"""Print which node failed, with what error, and where the trace is.

python examples/show_failure.py artifacts/trace.json
"""

from __future__ import annotations

import sys

from flowtrace import TraceFileError, load_trace


def main(path: str) -> int:
    try:
        trace = load_trace(path)
    except TraceFileError as error:
        print(f"not a trace: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot read {path}: {error.strerror}", file=sys.stderr)
        return 1
    step = trace.failed_step
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
