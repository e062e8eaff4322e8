"""Reading back what a page holds."""

from __future__ import annotations

import base64
import gzip
import json
import re
from hashlib import sha256

from flowtrace.cli.page.trace_page import trace_page


def page_of(trace, name="trace.json", path=None, **options):
    """Return the HTML text of a page."""
    return trace_page(name, trace, path, **options)


def data_of(page, block="steps-data"):
    """Return the data in a block of a page."""
    (text,) = re.findall(rf'<script type="application/gzip" id="{block}">([A-Za-z0-9+/=]*)</script>', page)
    return json.loads(gzip.decompress(base64.b64decode(text)))


def text_of(page):
    """Return a page without its script, its style and its data."""
    return re.sub(r"<(script|style)[^>]*>.*?</\1>", "", page, flags=re.DOTALL)


def policy_of(page):
    """Return the page's Content-Security-Policy as a dictionary of its parts."""
    (text,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    parts = (part.split(" ", 1) for part in text.replace("&#39;", "'").split("; "))
    return {name: value for name, value in parts}


def hash_in_policy(text):
    """Return how a policy names a script or a style."""
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"
