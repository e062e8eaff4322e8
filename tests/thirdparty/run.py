"""Run packages' own test suites with every function of theirs decorated, and compare with the plain run.

Usage: python tests/thirdparty/run.py [options] SUITE...
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import compare
import page
import workshop

HERE = Path(__file__).parent
MODES = ("off", "on", "always")
SHOWN = 30  # differences of one run: where there are many, most have one cause


def main() -> int:
    """Run the suites that the command line names; return the exit status."""
    options = _options()
    entries = tomllib.loads((HERE / "suites.toml").read_text())
    explained = compare.load_explained(HERE / "explained.toml")
    bad: list[str] = []
    rows: list[tuple[str, ...]] = [compare.HEADINGS]
    versions = {}
    for name in options.suites:
        suite = workshop.Suite.of(name, entries)
        print(f"{suite.name}: setting up", flush=True)
        try:
            shop = workshop.build(suite, options.flowtrace, options.editable)
        except workshop.NotReadyError as error:
            bad.append(str(error))
            continue
        versions[suite.name] = suite.version
        results = _results(shop, options)
        bad += _judge(suite.name, results, explained, rows)
    print()
    print(compare.table(rows))
    for line in bad:
        print(line)
    if options.page:
        page.write(rows[1:], versions, bad)
    print(f"\nthirdparty: {'not ' if bad else ''}the same with and without flowtrace")
    return 1 if bad else 0


def _results(shop: workshop.Shop, options: argparse.Namespace) -> dict[str, workshop.Result]:
    results = {}
    for mode in ("plain", *options.modes):
        with tempfile.TemporaryDirectory(prefix="flowtrace-", dir=_memory()) as folder:
            result = workshop.run(shop, mode, Path(folder), options.timeout, options.pytest or [])
        counts = compare.counts(result.outcomes)
        print(f"  {mode:7} {result.seconds:6.1f} s  {counts}", flush=True)
        results[mode] = result
        if mode == "plain" and result.problems():
            break
    return results


def _judge(
    name: str,
    results: dict[str, workshop.Result],
    explained: list[compare.Explained],
    rows: list[tuple[str, ...]],
) -> list[str]:
    plain = results["plain"]
    bad = [f"{name} plain: {problem}" for problem in plain.problems()]
    rows.append(compare.row(name, "plain", plain, 0, plain))
    for mode, result in results.items():
        if mode == "plain":
            continue
        mine = [item for item in explained if item.suite == name and item.counts(mode)]
        differences = compare.differences(plain.outcomes, result.outcomes) + result.reported()
        unexplained, stale = compare.split(differences, mine)
        rows.append(compare.row(name, mode, result, len(unexplained), plain))
        bad += [f"{name} {mode}: {problem}" for problem in result.problems()]
        bad += [f"{name} {mode}: {difference}" for difference in unexplained[:SHOWN]]
        if compare.times(plain, result) > compare.MOST_TIMES:
            bad.append(f"{name} {mode}: took {compare.times(plain, result):.1f} times the undecorated run's time")
        if len(unexplained) > SHOWN:
            bad.append(f"{name} {mode}: ... and {len(unexplained) - SHOWN} more differences")
        bad += [f"{name} {mode}: explained, but no different: {test}" for test in stale]
    return bad


def _memory() -> str | None:
    """Return a folder in memory, so that writing traces costs little; None where there is none."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="+", metavar="SUITE", help="package, or package==version")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--flowtrace", default=str(HERE.parents[1]), help="folder or wheel to install")
    parser.add_argument("--editable", action="store_true", help="install the folder as a link to it")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds for one run of a suite")
    parser.add_argument("--page", action="store_true", help="write the results and their page")
    parser.add_argument("--clean", action="store_true", help="make the environments anew")
    parser.add_argument("--pytest", action="append", metavar="ARG", help="one more argument for pytest")
    options = parser.parse_args()
    options.flowtrace = str(Path(options.flowtrace).resolve())
    if options.clean:
        for name in options.suites:
            shutil.rmtree(workshop.place(name), ignore_errors=True)
    return options


if __name__ == "__main__":
    raise SystemExit(main())
