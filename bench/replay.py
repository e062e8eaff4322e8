"""How long replaying a trace of 10,000 steps takes, beside the steps themselves: python bench/replay.py [STEPS]"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from reader_subjects import NODES

import flowtrace


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bench_nodes.py").write_text(NODES, encoding="utf-8")
        sys.path.insert(0, folder)
        import bench_nodes  # type: ignore[import-not-found]  # it was just written

        path = Path(folder, "trace.json")
        settings = {"capture_inputs": True, "capture_outputs": True, "buffer_size": steps}
        with flowtrace.override(mode="on", out_path=path, **settings):
            for number in range(steps // 2):
                bench_nodes.price(bench_nodes.Order("tea", number, (number, 1)), rate=2.0)
                bench_nodes.total("tea", [1, 2, number])
            flowtrace.dump()
        for name, used in (
            ("loading", lambda: flowtrace.load_trace(path)),
            ("replaying", lambda: replayed(path, folder)),
        ):
            times = []
            for _ in range(5):
                began = time.perf_counter()
                used()
                times.append(time.perf_counter() - began)
            print(f"{name} {steps} steps: best {min(times):.2f} s, worst {max(times):.2f} s of {len(times)}")


def replayed(path: Path, folder: str) -> None:
    report = flowtrace.replay(path, working_folder=folder)
    if report.exit_code:
        raise SystemExit("the replay differs")


if __name__ == "__main__":
    main()
