"""The part of the build that `pyproject.toml` can't say: the native core, a wheel without it, and the README on PyPI.

With ``FLOWTRACE_BUILD_PURE=1`` the wheel is one for every platform and every Python. Without, and where there is no C
compiler, it is made without the native core, too, and the pure twin records the calls.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("flowtrace/calls/native")
# The module's init function is all that may be seen from outside. MSVC hides the rest by itself.
FLAGS = ["/std:c11"] if sys.platform == "win32" else ["-std=c11", "-fvisibility=hidden"]


def native_core() -> Extension:
    """Return the native core, which need not be there."""
    return Extension(
        "flowtrace.calls._native",
        sources=sorted(path.as_posix() for path in NATIVE.glob("*.c")),
        depends=[path.as_posix() for path in NATIVE.glob("*.h")],
        extra_compile_args=FLAGS,
        optional=True,
    )


def description() -> str:
    """Return the README; with ``FLOWTRACE_BUILD_HOME``, the address of this commit's files, its links are absolute."""
    text = Path("README.md").read_text(encoding="utf-8")
    home = os.environ.get("FLOWTRACE_BUILD_HOME")  # such as https://github.com/OWNER/NAME/blob/v0.2.0
    if not home:
        return text
    text = re.sub(r'(src|srcset)="docs/', rf'\1="{home.replace("/blob/", "/raw/")}/docs/', text)
    return re.sub(r"\]\(docs/", f"]({home}/docs/", text)


setup(
    ext_modules=[] if os.environ.get("FLOWTRACE_BUILD_PURE") == "1" else [native_core()],
    long_description=description(),
    long_description_content_type="text/markdown",
)
