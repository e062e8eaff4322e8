"""Begins to trace what ``FLOWTRACE_AUTO`` names before a program's first line; then gives way to the user's own file.

`flowtrace run` puts this folder on ``PYTHONPATH``, so that the interpreter imports this module when it starts. With
``--auto`` it stays there for child processes, as the variable does. After that nothing tells that it was there, but for
a function that is called at the end of the program, and says on standard error where the trace is.
"""

import os
import sys


def _start() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    sys.path_importer_cache.pop(here, None)
    before = os.environ.pop("_FLOWTRACE_RUN", None)
    if before is not None:  # else this is a child of the program
        _report_at_end()
        if not os.environ.get("FLOWTRACE_AUTO"):
            del os.environ["PYTHONPATH"]
            if before:
                os.environ["PYTHONPATH"] = before
    if os.environ.get("FLOWTRACE_AUTO"):
        _trace_automatically()


def _trace_automatically() -> None:
    try:
        from flowtrace.instrument.autotrace import install

        install()
    except Exception as error:
        # a child process may run in an environment without flowtrace, and that is its right
        if getattr(error, "name", None) != "flowtrace":
            sys.stderr.write(f"flowtrace: FLOWTRACE_AUTO has no effect: {error!a:.200}\n")


def _report_at_end() -> None:
    from atexit import register
    from time import time_ns

    process, folder, began = os.getpid(), os.getcwd(), time_ns()

    def report_once() -> None:
        if os.getpid() != process:  # a fork of the program
            return
        try:
            from flowtrace.cli.run_report import report

            report(folder, began)
        except Exception:  # the program has ended as it has, and its exit code is its own
            pass
        _keep_interrupt()

    register(report_once)  # the first to be registered is the last to be called: all traces are written then


def _keep_interrupt() -> None:
    """Let Python end by SIGINT after an uncaught Ctrl-C, which imports in between make it forget.

    It remembers of the last code alone that ran from text whether it was interrupted: see ``run_eval_code_obj`` in
    CPython's pythonrun.c.
    """
    kind = getattr(sys, "last_type", None)
    if isinstance(kind, type) and issubclass(kind, KeyboardInterrupt):
        try:
            exec("raise KeyboardInterrupt")  # noqa: S102  # a constant
        except KeyboardInterrupt:
            pass


_start()
# Where the user has none, this raises the same error that `site` would have met, and passes over, without us.
del sys.modules["sitecustomize"]
import sitecustomize  # type: ignore[import-not-found]  # noqa: E402, F401  # pyright: ignore[reportUnusedImport]
