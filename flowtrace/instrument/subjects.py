"""The functions that the wrappers call, for a node or for a flow; the recorder is loaded when one first needs it.

Nothing of the recorder is imported before something asks for tracing: a program that only imports decorated functions
pays for none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from flowtrace.calls.core import FUNCTIONS, Kind, Subject, kind_of
from flowtrace.host import log
from flowtrace.host.safe_loading import is_loading, load_once, refusal
from flowtrace.host.switch import LOADERS, environment_may_enable, is_unread, may_be_on, turn_off
from flowtrace.host.system import NEVER, nanoseconds

if TYPE_CHECKING:  # their names are here once they are loaded
    from flowtrace.instrument import validators as validators
    from flowtrace.recording import checked as checked
    from flowtrace.recording import hot_path as hot_path
    from flowtrace.recording import node as node
    from flowtrace.recording import process as process
    from flowtrace.recording import state as state
    from flowtrace.recording import step as step
    from flowtrace.recording.node import Checks, Node
    from flowtrace.recording.state import Scope
    from flowtrace.settings import config as config

T = TypeVar("T")
# --- loading the recorder


def if_on(make: Callable[..., T | None], *arguments: object) -> T | None:
    """Make something where tracing is on; the first call of this in a process reads the environment. Never raises.

    Args:
        make: makes what is needed of the recorder.
        *arguments: its arguments.

    Returns:
        What was made; None where tracing is off or something of ours failed.
    """
    try:
        if not may_be_on() or is_loading():  # a traced function may run in a module that the recorder needs
            return None
        if not load_once(_load):
            turn_off()
            return None
        if reason := refusal():
            turn_off()
            log.warn(f"{reason}: tracing is off here")
            return None
        return None if process.global_recorder().is_off else make(*arguments)
    except Exception as error:
        log.internal_fault("load the recorder", error)
        return None


def start_if_asked() -> None:
    """Load the recorder now if the environment asks for tracing: a failure before the first call must be seen too."""
    if is_unread() and environment_may_enable():
        if_on(lambda: None)


def is_ready() -> bool:
    """Return True if tracing may be on, with all that a flow needs loaded."""
    start_if_asked()
    return may_be_on() and not is_loading() and _is_loaded()


def _is_loaded() -> bool:
    """Load all that a call needs, at once, unless that was done; return False where it is impossible."""
    try:
        return load_once(_load)
    except Exception as error:
        log.internal_fault("load the recorder", error)
        return False


def _load() -> None:
    """Load the recorder, and whatever else a call, a flow or an error in one may need.

    An import statement in a call would ask ``builtins.__import__``, which may be a mock of the program's then.
    """
    if refusal():  # nothing can be loaded in a subinterpreter
        return
    from flowtrace.recording import fast_path, hot_path, node, process, state, step
    from flowtrace.settings import config

    for module in (state, hot_path, node, process, step, config):
        globals()[module.__name__.rpartition(".")[2]] = module
    fast_path.connect()
    log.load()


LOADERS.append(_is_loaded)


def checked_slow(decorator: str, slow: float | str | None) -> int:
    """Return nanoseconds after which something is slow; 0 where that follows the configuration.

    Raises:
        TypeError: the option is no duration.
    """
    if slow is None:
        return 0
    try:
        return nanoseconds(slow)
    except ValueError:
        accepts = 'seconds, text such as "250ms", or None'
        raise TypeError(f"{decorator}: slow must be {accepts}, not {slow!r:.80}") from None


def slow_again(slow_after: int) -> dict[str, float]:
    """Return the argument that `checked_slow` made so many nanoseconds of."""
    return {"slow": 0 if slow_after == NEVER else slow_after / 1e9} if slow_after else {}


def _load_validators() -> None:
    from flowtrace.instrument import validators
    from flowtrace.recording import checked

    globals().update(validators=validators, checked=checked)


def checks_of(function: Any, validate: Any, validate_output: Any) -> Checks | None:
    """Return the checks that a decorator asks for; None where it asks for none."""
    if (validate is None and validate_output is None) or not load_once(_load_validators):
        return None
    yields = kind_of(function) in (Kind.GENERATOR, Kind.ASYNC_GENERATOR)
    return validators.Validators(function, validate, validate_output, yields=yields)


def node_subject(node: Node) -> Subject:
    """Return a node as the wrappers see it: its calls become steps."""
    subject = Subject(node, **{name: getattr(hot_path, name) for name in FUNCTIONS})
    if node.checks is None:
        subject.is_simple = True
    else:
        subject.is_simple_unchecked = True
        for name, function in checked.FUNCTIONS.items():
            setattr(subject, name, function)
    subject.slow_after = node.slow_after
    hot_path.note_function(subject, node)
    return subject


def flow_subject(make_scope: Callable[[], Scope | None]) -> Subject:
    """Return a flow as the wrappers see it: each body runs in a scope of its own.

    Args:
        make_scope: makes a scope; None where tracing is off.
    """
    resume, suspend, close_flow = hot_path.resume, hot_path.suspend, process.close_flow

    def begin_scope(_subject: Subject, _args: tuple[Any, ...], _kwargs: dict[str, Any], _bound: bool) -> Scope | None:
        scope = make_scope()
        if scope is not None:
            resume(scope)
        return scope

    return Subject(
        begin=begin_scope,
        prepare=lambda subject, args, kwargs, bound: make_scope(),
        start=resume,
        suspend=suspend,
        resume=resume,
        emit=lambda scope, item: suspend(scope),
        end=lambda scope, output: close_flow(scope, None),
        end_stream=lambda scope, *returned: close_flow(scope, None),
        fail=close_flow,
    )
