"""The HTML text of a page: a template filled by jinja2, the built script and style, and a policy that allows no more.

A trace is not to be trusted. Its texts are made printable before they get here, jinja2 escapes them, and the policy of
the page allows the one script and the one style whose hashes it names, and nothing from anywhere else.
"""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from flowtrace.errors import FlowtraceError

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE: Final = __package__ or ""
_HINT: Final = "the page needs jinja2, of the extra `cli`: pip install 'flowtrace[cli]'"


def render(template: str, facts: dict[str, Any]) -> str:
    """Return the text of a page.

    Args:
        template: the name of its template.
        facts: what the template gets.

    Raises:
        FlowtraceError: jinja2 is not installed.
    """
    script, style = built("page.js"), built("page.css")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(script)}",
            f"style-src {_hash(style)}",
            "style-src-attr 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    page = environment().get_template(template)  # first: markupsafe comes with jinja2
    from markupsafe import Markup

    # our own text, which ends no element: a test holds that
    own = {"policy": policy, "script": Markup(script), "style": Markup(style)}  # noqa: S704
    return page.render(facts | own)


@cache
def environment() -> Environment:
    """Return what renders the templates.

    Raises:
        FlowtraceError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError:
        raise FlowtraceError(_HINT) from None
    return Environment(
        loader=FunctionLoader(lambda name: _text(f"templates/{name}")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def built(name: str) -> str:
    """Return the script or the style of the page, as `make web` built it."""
    return _text(f"built/{name}")


def _text(path: str) -> str:
    return files(_HERE).joinpath(*path.split("/")).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
