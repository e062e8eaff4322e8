"""Look for faults of the native core, where a fault may end the process: `make native-checks`.

    python tests/native/run.py [--seconds N] [--seed N] [--installer PYTHON] [step ...]

- `sanitizers`: the tests of calls and random programs, with the core built for AddressSanitizer and UBSan.
- `debug`: the same tests on a debug build of Python, which counts all references and checks what C code gives it.
- `dev`: the same tests in Python's development mode.
- `random`: random programs do what they do undecorated, and the same is recorded as by the pure twin.

A step that this machine has not what it takes for says so, and is no failure.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
FUZZ = ROOT / "tests" / "native" / "fuzz.py"
NAMES = (
    "copies core core_box core_safety current_step last_steps runs step_lines streaming traced_classes traced_node"
    " value_work wrapt_compositions"
)
TESTS = [f"tests/test_{name}.py" for name in NAMES.split()]
PYTEST = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
SANITIZE = ["-g", "-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
IS_DEBUG = "import sys; sys.exit(not (hasattr(sys, 'gettotalrefcount') and sys.version_info >= (3, 11)))"
INCLUDE = "import sysconfig; print(sysconfig.get_path('include')); print(sysconfig.get_config_var('EXT_SUFFIX'))"


class NotHereError(Exception):
    """This machine lacks something that a step takes; the text says what."""


def run(command, **environment):
    """Run a command in the current folder, which must go well. Return what it printed.

    Raises:
        RuntimeError: it ended with an error, a signal among them.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith("FLOWTRACE_")}
    done = subprocess.run(command, env=variables | environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(
            f"{' '.join(command)}\nended with {done.returncode}\n{done.stdout[-5000:]}\n{done.stderr[-9000:]}"
        )
    return done.stdout


def package(folder, python, flags):
    """Make a copy of the package in a folder, with a core that was compiled with these flags for a Python."""
    compiler = shutil.which((os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0])
    if compiler is None:
        raise NotHereError("no C compiler")
    include, suffix = run([python, "-c", INCLUDE]).split()
    if not Path(include, "Python.h").is_file():
        raise NotHereError(f"no headers for {python}")
    shutil.copytree(ROOT / "flowtrace", folder / "flowtrace", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    sources = sorted(map(str, (ROOT / "flowtrace" / "calls" / "native").glob("*.c")))
    warnings = ["-Wall", "-Wextra", "-Werror"]
    to = str(folder / "flowtrace" / "calls" / f"_native{suffix}")
    run([compiler, "-std=c11", "-fPIC", "-shared", *warnings, *flags, *sources, f"-I{include}", "-o", to])
    return compiler


def run_tests(python, *more, **environment):
    """Run the tests of calls, none left out. Return pytest's last line."""
    where = [f"--rootdir={ROOT}", f"--config-file={ROOT / 'pyproject.toml'}"]
    options = ["-q", "-x", "--all", "-p", "no:cacheprovider", *where]
    tests = [str(ROOT / name) for name in TESTS]
    return run([python, "-c", PYTEST, *options, *more, *tests], **environment).strip().splitlines()[-1]


# --- the steps: each runs in a folder of its own, and says what it did


def sanitizers(options):
    """Run the tests and random programs on a core that checks each access to memory."""
    here = Path.cwd()
    compiler = package(here, sys.executable, SANITIZE)
    libraries = [run([compiler, f"-print-file-name=lib{name}.so"]).strip() for name in ("asan", "ubsan")]
    if not all(map(os.path.isabs, libraries)):
        raise NotHereError(f"{compiler} has no sanitizers")
    environment = {
        "LD_PRELOAD": " ".join(libraries),
        "PYTHONMALLOC": "malloc",  # so that each object has borders of its own
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter keeps memory to its end
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": str(here),
    }
    said = run_tests(sys.executable, **environment)
    programs = run(fuzz(options.seed, options.seconds), **environment).splitlines()
    return f"{said}; {len(programs)} random programs"


def debug(options):
    """Run the tests on a debug build of Python."""
    python = next(filter(is_debug, candidates()), None)
    if python is None:
        raise NotHereError("no debug build of Python (Debian: python3-dbg)")
    here = Path.cwd()
    package(here, python, ["-g", "-O1"])
    group = f"{ROOT / 'pyproject.toml'}:test-wheel"
    needs = ["attrs", "blake3", "deprecated", "msgspec", "numpy", "orjson", "pydantic", "structlog", "wrapt"]
    installer = [options.installer, "-m", "pip", "--python", python]
    run([*installer, "install", "-qq", "--target", str(here), "--group", group, *needs])
    return f"{python}: {run_tests(python, PYTHONPATH=str(here))}"


def candidates():
    """Return Pythons that may be debug builds."""
    names = [f"python3{minor}-dbg" for minor in ("", *(f".{number}" for number in range(11, 16)))]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    return [*filter(None, map(shutil.which, names)), *map(str, pyenv.glob("*-debug/bin/python"))]


def is_debug(python):
    return subprocess.run([python, "-c", IS_DEBUG], capture_output=True, check=False).returncode == 0


def dev(options):
    """Run the tests in development mode."""
    package(Path.cwd(), sys.executable, ["-O2"])
    return run_tests(sys.executable, PYTHONDEVMODE="1", PYTHONPATH=str(Path.cwd()))


def random(options):
    """Run random programs with the native core, and the same ones with the pure twin."""
    package(Path.cwd(), sys.executable, ["-O2"])
    native = run(fuzz(options.seed, options.seconds), PYTHONPATH=str(Path.cwd())).splitlines()
    command = [sys.executable, str(FUZZ), "--seed", str(options.seed), "--programs", str(len(native))]
    pure = run(command, PYTHONPATH=str(Path.cwd()), FLOWTRACE_PURE="1").splitlines()
    different = [line.split()[0] for line, other in zip(native, pure, strict=True) if line != other]
    if different:
        raise RuntimeError(f"the pure twin records something else for the seeds {different}")
    return f"{len(native)} programs from seed {options.seed} on, the same with both cores"


def fuzz(seed, seconds):
    return [sys.executable, str(FUZZ), "--seed", str(seed), "--seconds", str(seconds)]


STEPS = {step.__name__: step for step in (sanitizers, debug, dev, random)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="for how long random programs run, in each step")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the first random program")
    parser.add_argument(
        "--installer", type=os.path.abspath, default=sys.executable, help="a Python with pip 25.1 or newer"
    )
    parser.add_argument("steps", nargs="*", metavar="step", help=f"of {', '.join(STEPS)} (default: all)")
    options = parser.parse_args()
    if unknown := set(options.steps) - set(STEPS):
        parser.error(f"unknown step: {', '.join(sorted(unknown))} (there are: {', '.join(STEPS)})")
    failed = [name for name in options.steps or STEPS if not goes_well(name, options)]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def goes_well(name, options):
    """Run a step in a folder of its own, and print what came of it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="flowtrace-native-") as folder:
        os.chdir(folder)
        try:
            said, is_well = STEPS[name](options), True
        except NotHereError as reason:
            said, is_well = f"skipped: {reason}", True
        except RuntimeError as error:
            said, is_well = f"FAILED: {error}", False
        finally:
            os.chdir(ROOT)
    print(f"{name} ({time.monotonic() - began:.0f} s): {said}", flush=True)
    return is_well


if __name__ == "__main__":
    main()
