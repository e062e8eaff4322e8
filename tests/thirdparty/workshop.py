"""Where a package's own tests run: an environment with the package and flowtrace, and the tests beside it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compare import Difference, Outcome

ROOT = Path(__file__).resolve().parents[2]
HOOK = Path(__file__).resolve().parent / "hook"
TEST_FOLDERS = ("tests", "test", "unittests", "testing")
TEST_EXTRAS = ("tests", "test", "testing", "dev")  # the first of them that a package has
ALWAYS_INSTALLED = ("pytest<10", "pytest-timeout")
PTH = 'import os; os.environ.get("FLOWTRACE_EVERYWHERE") and __import__("flowtrace_everywhere").install()'


class NotReadyError(Exception):
    """A suite that can't be set up."""


@dataclass(frozen=True)
class Suite:
    """A package and what is to be known about its tests; what is empty is found out.

    Attributes:
        name: the package, as it is called on the package index.
        version: its release.
        packages: import names to decorate.
        skip: patterns of module names to leave alone, beside the usual names of test modules.
        tests: files and folders of tests, relative to the source archive, or ``--pyargs NAME``.
        requires: what the tests need.
        arguments: more arguments for pytest.
        from_source: install the source archive, for a package whose wheel leaves out the tests.
        environ: environment variables of the test runs.
    """

    name: str
    version: str = ""
    packages: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    from_source: bool = False
    environ: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, entries: dict[str, dict[str, Any]]) -> Suite:
        """Return the suite that the command line names, with what its entry says."""
        name, _, version = name.partition("==")
        settings = {key: tuple(v) if isinstance(v, list) else v for key, v in entries.get(name, {}).items()}
        suite = cls(name, **settings)
        return replace(suite, version=version) if version else suite

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.name}=={self.version}" if self.version else self.name


@dataclass(frozen=True)
class Shop:
    """A suite that is ready to run."""

    suite: Suite
    python: Path
    work: Path
    packages: tuple[str, ...]
    tests: tuple[str, ...]


@dataclass
class Result:
    """One run of a suite.

    Attributes:
        seconds: what it took of processor time, with the processes that it started.
    """

    mode: str
    outcomes: dict[str, Outcome]
    seconds: float
    status: int
    output: str
    decorated: int = 0
    steps: int = 0
    left_alone: list[str] = field(default_factory=list)
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)
    trace: str = ""

    def reported(self) -> list[Difference]:
        """Return the internal faults that flowtrace reported, each as if it were a test."""
        return [
            Difference(f"(fault) {fault}", "none", Outcome(f"{seen['count']} times", seen["traceback"]))
            for fault, seen in self.faults.items()
        ]

    def problems(self) -> list[str]:
        """Return what is wrong with the run as a whole."""
        found = [f"could not decorate {item}" for item in self.left_alone]
        if self.status not in (0, 1) or not self.outcomes:
            found.append(f"pytest ended with status {self.status}\n{self.output[-6000:]}")
        if self.mode != "plain" and not self.decorated:
            found.append("nothing was decorated")
        if self.mode == "always" and not self.trace.startswith("ok"):
            found.append(f"its trace can't be read: {self.trace}")
        return found


def place(name: str) -> Path:
    """Return the folder of a suite's environment."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return ROOT / ".venv" / f"{version}-thirdparty" / name.partition("==")[0]


def build(suite: Suite, flowtrace: str, editable: bool) -> Shop:
    """Make, or complete, a suite's environment."""
    home = place(suite.name)
    python = home / "env" / "bin" / "python"
    source = home / "source"
    stamp = home / "ready.json"
    wanted = json.dumps([repr(suite), ALWAYS_INSTALLED])
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        subprocess.run([sys.executable, "-m", "venv", home / "env"], check=True)
        _pip(python, "install", "--upgrade", "pip")
        # First, so that what the tests pin has the last word.
        _pip(python, "install", flowtrace)
        _fetch(suite, python, home, source)
        _pip(python, "install", *ALWAYS_INSTALLED, *_requirements(suite, source))
        archive = next(home.glob("*.tar.gz"))
        _pip(python, "install", str(archive) if suite.from_source else _same_release(suite, archive))
        stamp.write_text(wanted)
    _pip(python, "install", "--force-reinstall", "--no-deps", *(["-e"] if editable else []), flowtrace)
    _install_hook(python)
    packages = suite.packages or _import_names(python, suite.name)
    return Shop(suite, python, *_workplace(home, source, suite, packages))


def _pip(python: Path, *arguments: str | Path) -> None:
    command = [python, "-m", "pip", "-q", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=python.parent)
    if done.returncode:
        raise NotReadyError(f"{' '.join(map(str, command))}\n{done.stderr}")


def _fetch(suite: Suite, python: Path, home: Path, source: Path) -> None:
    _pip(python, "download", "--no-deps", "--no-binary", suite.name, "-d", home, suite.requirement)
    archives = [*home.glob("*.tar.gz")]
    if len(archives) != 1:
        raise NotReadyError(f"{suite.name}: no source archive on the package index")
    with tarfile.open(archives[0]) as tar:
        tar.extractall(home / "unpacked", filter="data")
    next((home / "unpacked").iterdir()).rename(source)


def _same_release(suite: Suite, archive: Path) -> str:
    version = archive.name.removesuffix(".tar.gz").rpartition("-")[2]
    return f"{suite.name}=={version}"


def _requirements(suite: Suite, source: Path) -> list[str]:
    """Return what the tests need: as the suite's entry says, or else the package's own group or extra for tests."""
    if suite.requires:
        return list(suite.requires)
    project = source / "pyproject.toml"
    settings = tomllib.loads(project.read_text()) if project.exists() else {}
    for name in TEST_EXTRAS:
        if name in settings.get("dependency-groups", {}):
            return ["--group", f"{project}:{name}"]
    extras = settings.get("project", {}).get("optional-dependencies", {})
    return next(([f"{suite.name}[{name}]"] for name in TEST_EXTRAS if name in extras), [])


def _install_hook(python: Path) -> None:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    folder = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    Path(folder, "flowtrace_everywhere.pth").write_text(f"{HOOK}\n{PTH}\n")


def _import_names(python: Path, name: str) -> tuple[str, ...]:
    """Return the import names of an installed package that hold Python code, tests left out."""
    code = (
        "import sys, importlib.metadata as m\n"
        "files = m.distribution(sys.argv[1]).files or []\n"
        "names = {f.parts[0].removesuffix('.py') for f in files if f.suffix == '.py'}\n"
        "print(*sorted(n for n in names if n.isidentifier()))"
    )
    done = subprocess.run([python, "-c", code, name], check=True, capture_output=True, text=True)
    return tuple(found for found in done.stdout.split() if found not in TEST_FOLDERS)


def _workplace(
    home: Path, source: Path, suite: Suite, packages: tuple[str, ...]
) -> tuple[Path, tuple[str, ...], tuple[str, ...]]:
    """Copy the source archive without the package, so that its tests see the installed one."""
    work = home / "work"
    shutil.rmtree(work, ignore_errors=True)
    hidden = {"src", *packages, *(f"{name}.py" for name in packages)}
    inside = [name for name in packages for folder in TEST_FOLDERS if (source / name / folder).is_dir()]

    def left_out(folder: str, names: list[str]) -> set[str]:
        return hidden & set(names) if Path(folder) == source else set()

    shutil.copytree(source, work, ignore=left_out, symlinks=True)
    tests = suite.tests or tuple(name for name in TEST_FOLDERS if (work / name).is_dir())
    if not tests and inside:
        tests = ("--pyargs", *dict.fromkeys(inside))
    if not tests and not [*work.glob("test*.py")]:
        raise NotReadyError(f"{suite.name}: its source archive has no tests that could be found")
    return work, packages, tests or (".",)


def run(shop: Shop, mode: str, folder: Path, timeout: int, more: list[str]) -> Result:
    """Run a suite once, undecorated (``plain``) or with every function decorated in one of flowtrace's modes."""
    out, outcomes = folder / "trace.json", folder / "outcomes.jsonl"
    environ = {name: value for name, value in os.environ.items() if not _is_ours(name)}
    environ |= {"FLOWTRACE_OUTCOMES": str(outcomes), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    environ |= shop.suite.environ
    if mode == "always":
        environ |= {"FLOWTRACE_CAPTURE_INPUTS": "1", "FLOWTRACE_CAPTURE_OUTPUTS": "1"}
    if mode != "plain":
        environ |= {
            "FLOWTRACE_EVERYWHERE": ",".join(shop.packages),
            "FLOWTRACE_EVERYWHERE_SKIP": ",".join(shop.suite.skip),
            "FLOWTRACE_EVERYWHERE_STATS": str(folder),
            "FLOWTRACE_MODE": mode,
            "FLOWTRACE_OUT": str(out),
        }
    fixed = ["-p", "flowtrace_outcomes", "-p", "no:cacheprovider", "-p", "no:randomly", "--timeout=600", "-q"]
    # Said outright, or pytest would go up from the tests until it finds flowtrace's own configuration.
    config = ["-c", _pytest_config(shop.work), "--rootdir", shop.work]
    command = [shop.python, "-m", "pytest", *config, *fixed, *shop.suite.arguments, *more, *shop.tests]
    before = _processor_seconds()
    try:
        done = subprocess.run(
            command,
            cwd=shop.work,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            encoding="utf-8",
            errors="replace",
        )
        status, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        status, output = -1, f"not done after {timeout} s\n{(late.stdout or b'').decode(errors='replace')}"
    result = Result(mode, _read(outcomes), _processor_seconds() - before, status, output)
    _add_stats(result, folder)
    if mode == "always":
        result.trace = _check_trace(shop.python, out)
    return result


def _processor_seconds() -> float:
    """Return the time that ended child processes spent: what else the machine does is no part of it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _pytest_config(work: Path) -> Path:
    """Return the file with the suite's pytest configuration; an empty one where it has none."""
    sections = {"pytest.ini": "", ".pytest.ini": "", "pyproject.toml": "[tool.pytest"}
    sections |= {"tox.ini": "[pytest]", "setup.cfg": "[tool:pytest]"}
    for name, section in sections.items():
        path = work / name
        if path.exists() and section in path.read_text():
            return path
    (work / "pytest.ini").write_text("[pytest]\n")
    return work / "pytest.ini"


def _is_ours(name: str) -> bool:
    return name.startswith(("FLOWTRACE_", "PYTEST_")) or name in ("PYTHONPATH", "CI", "GIT_SHA", "GITHUB_SHA")


def _read(path: Path) -> dict[str, Outcome]:
    lines = path.read_text().splitlines() if path.exists() else []
    records = map(json.loads, lines)
    return {record["test"]: Outcome(record["outcome"], record["text"]) for record in records}


def _add_stats(result: Result, folder: Path) -> None:
    for path in folder.glob("*.json"):
        if not path.stem.isdigit():
            continue
        stats = json.loads(path.read_text())
        result.decorated = max(result.decorated, stats["decorated"])
        result.steps += stats["steps"]
        result.left_alone += [item for item in stats["left_alone"] if item not in result.left_alone]
        for fault, seen in stats["faults"].items():
            result.faults.setdefault(fault, {**seen, "count": 0})["count"] += seen["count"]


def _check_trace(python: Path, out: Path) -> str:
    code = "import sys, flowtrace; print('ok', len(flowtrace.load_trace(sys.argv[1]).steps))"
    done = subprocess.run([python, "-c", code, out], capture_output=True, text=True)
    return done.stdout.strip() or done.stderr.strip()[-400:]
