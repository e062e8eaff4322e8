"""The wheel: with the native core, without a compiler, and the one for every platform."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from flowtrace.calls.core import implementation

pytest.importorskip("setuptools")

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
COMPILER = shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0])
HAS_HEADERS = Path(sysconfig.get_path("include"), "Python.h").is_file()
USE = """
import flowtrace
from flowtrace.calls.core import implementation

@flowtrace.traced_node
def half(number):
    return number / 2

with flowtrace.override(mode="on"):
    assert half(3) == 1.5
print(implementation())
"""


def build(folder, **environment):
    """Build the wheel from a copy of what it is made of. Return its file and the names in it."""
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "flowtrace_pytest.py", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "flowtrace", source / "flowtrace", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)],
        cwd=source,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    wheel = folder / done.stdout.splitlines()[-1]
    return wheel, zipfile.ZipFile(wheel).namelist()


def core_of(wheel, folder):
    """Use the package in a wheel. Return which core it says that it has."""
    zipfile.ZipFile(wheel).extractall(folder / "installed")
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder / 'installed')!r})\n{USE}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.strip()


def of_the_core(names):
    return [name for name in names if "_native" in name or name.endswith((".c", ".h", ".so", ".pyd"))]


@pytest.mark.costly
def test_one_wheel_is_for_every_platform(tmp_path):
    wheel, names = build(tmp_path, FLOWTRACE_BUILD_PURE="1")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert of_the_core(names) == []
    assert {"flowtrace/py.typed", "flowtrace/trace-v1.schema.json", "flowtrace/calls/pure.py"} < set(names)
    assert core_of(wheel, tmp_path) == "pure"


@pytest.mark.costly
def test_without_a_compiler_the_wheel_has_the_pure_twin(tmp_path):
    absent = str(tmp_path / "no-such-compiler")
    wheel, names = build(tmp_path, CC=absent, LDSHARED=absent)
    assert of_the_core(names) == []
    assert core_of(wheel, tmp_path) == "pure"


@pytest.mark.slow  # `make test` builds the wheel that is tested in the same way
@pytest.mark.skipif(not (COMPILER and HAS_HEADERS), reason="needs a C compiler and Python's headers")
def test_with_a_compiler_the_wheel_has_the_native_core(tmp_path, monkeypatch):
    monkeypatch.delenv("FLOWTRACE_PURE", raising=False)
    wheel, names = build(tmp_path)
    assert of_the_core(names) == ["flowtrace/calls/_native" + sysconfig.get_config_var("EXT_SUFFIX")]
    assert core_of(wheel, tmp_path) == "native"


@pytest.mark.skipif(not (COMPILER and HAS_HEADERS), reason="needs a C compiler and Python's headers")
@pytest.mark.skipif("FLOWTRACE_PURE" in os.environ, reason="the pure twin was asked for")
def test_the_package_under_test_has_the_native_core():
    assert implementation() == "native"  # else it could not be built, which pip does not say
