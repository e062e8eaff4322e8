"""Where a run took place: the machine, the interpreter, and the versions of what was measured."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("flowtrace", "wrapt", "orjson", "blake3", "msgspec", "structlog", "numpy")


def _first(path: str, name: str) -> str:
    """Return what a file of /proc says under a name, or nothing."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _memory() -> str:
    size = _first("/proc/meminfo", "MemTotal").removesuffix(" kB")
    return f"{int(size) * 1024 / 1e9:.0f} GB" if size else "unknown"


def _file_system(folder: Path) -> str:
    """Return the type of the file system that holds a folder: that of the longest mount point above it."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    above = [(len(point), kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(above)[1] if above else "unknown"


def python() -> str:
    """Return the version of this interpreter as people say it, such as ``3.12``."""
    return "{}.{}".format(*sys.version_info)


def facts(folder: Path) -> dict[str, str]:
    """Return what the page says of the machine."""
    return {
        "processor": f"{_first('/proc/cpuinfo', 'model name') or platform.processor()}, {os.cpu_count()} cores",
        "memory": _memory(),
        "file system": _file_system(folder),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})",
        "load before the run": f"{os.getloadavg()[0]:.2f}",
        "day": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def versions(distributions: list[str]) -> dict[str, str]:
    """Return the version of each distribution that is installed."""
    found = {}
    for name in [*LIBRARIES, *distributions]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
