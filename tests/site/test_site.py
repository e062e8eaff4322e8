"""The site of the documentation in a real browser: every page opens, fits, can be used by all and has no dead link."""

from __future__ import annotations

import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
AXE = ROOT / "web/node_modules/axe-core/axe.min.js"
PAGES = [str(page.relative_to(DOCS / "pages")) for page in sorted((DOCS / "pages").rglob("*.md"))]
WIDE, PHONE = (1280, 900), (390, 844)

pytestmark = [
    pytest.mark.browser,
    # playwright talks to its driver in ways that leave a loop and pipes open until the process ends
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]

WIDER_THAN_THEIR_ROOM = """names => [...document.querySelectorAll(names)].filter(item => {
    const room = item.matches("table") ? item.closest(".md-content") : item
    return item.scrollWidth > room.clientWidth + 1
}).map(item => item.textContent.slice(0, 60))"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Build the site, serve it, and return its address and its folder."""
    pytest.importorskip("material", reason="mkdocs-material is not installed: the group `docs`")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", DOCS / "mkdocs.yml", "-d", folder]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", folder
    server.shutdown()
    server.server_close()


@pytest.fixture
def opened(browser, site):
    """Return a function that opens a page; at the end, no page may have said anything or asked another machine."""
    contexts, said, asked = [], [], []

    def open_page(path, size=WIDE, scheme="light"):
        width, height = size
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme))
        contexts[-1].grant_permissions(["clipboard-read", "clipboard-write"])
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("response", lambda answer: answer.ok or said.append(f"{answer.status} {answer.url}"))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(site[0] + path, wait_until="load")
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith((site[0], "data:", "blob:"))] == []


def address(page):
    """Return where the site has a page, below its own address."""
    return re.sub(r"(^|/)index/$", r"\1", page.removesuffix(".md") + "/")


def serious(tab):
    # A width that changes makes the menu slide out, during which axe sees its words above those of the page.
    tab.evaluate("document.getAnimations().forEach(item => item.finish())")
    tab.evaluate(AXE.read_text(encoding="utf-8"))
    found = tab.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    return [
        (item["id"], node["html"][:150])
        for item in found
        if item["impact"] in ("serious", "critical")
        for node in item["nodes"]
    ]


def assert_it_fits_and_can_be_used(tab, size, items):
    tab.set_viewport_size({"width": size[0], "height": size[1]})
    assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert tab.evaluate(WIDER_THAN_THEIR_ROOM, items) == []
    if AXE.exists():
        assert serious(tab) == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_fits_and_can_be_used_by_everyone(opened, page):
    tab = opened(address(page))
    assert_it_fits_and_can_be_used(tab, WIDE, "pre, pre > code")
    tab.locator("[data-md-component=palette] label:visible").click()  # the other theme, in the same tab: half the time
    tab.wait_for_selector("body[data-md-color-scheme=slate]")
    assert_it_fits_and_can_be_used(tab, PHONE, ".md-typeset table, img")


def test_no_link_is_dead(site):
    base, folder = site
    pages = {file: file.read_text(encoding="utf-8") for file in folder.rglob("*.html") if file.name != "404.html"}
    assert len(pages) == len(PAGES)
    dead = []
    for file, text in pages.items():
        here = base + str(file.relative_to(folder)).removesuffix("index.html")
        for link in {*re.findall(r'(?:href|src)="([^"]+?)(?:#only-\w+)?"', text)}:
            url, fragment = urldefrag(urljoin(here, link))
            if not url.startswith(base):
                assert url.startswith("https://"), (file, link)
                continue
            target = folder / url.removeprefix(base)
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (fragment and f'id="{fragment}"' not in pages.get(target, "")):
                dead.append((str(file.relative_to(folder)), link))
    assert dead == []


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("replay", "howto/replay/"),
        ("gunicorn", "howto/servers/"),
        ("secret", "howto/privacy/"),
        ("pytest", "howto/pytest/"),
    ],
)
def test_the_search_finds(opened, words, page):
    tab = opened("")
    tab.locator("input.md-search__input").click()
    tab.keyboard.type(words)
    tab.wait_for_selector(".md-search-result__item a")
    found = tab.eval_on_selector_all(".md-search-result__item > a", "links => links.map(link => link.pathname)")
    assert any(path.startswith("/" + page) for path in found[:5]), found


def test_what_is_copied_is_what_one_would_type(opened):
    tab = opened("start/tutorial/")
    source = (DOCS / "pages/start/tutorial.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+).*?\n(.*?)^```$", source, re.MULTILINE | re.DOTALL)
    buttons = tab.locator("button.md-clipboard, button[data-md-type=copy]")
    assert buttons.count() == len(blocks) > 8
    for at, (language, text) in enumerate(blocks):
        wanted = "\n".join(re.findall(r"^\$ (.*)$", text, re.MULTILINE)) if language == "console" else text.rstrip("\n")
        buttons.nth(at).click()
        assert tab.evaluate("navigator.clipboard.readText()") == wanted


def test_the_first_thing_on_the_home_page_is_the_picture_of_a_failure(opened):
    for scheme in ("light", "dark"):
        tab = opened("", WIDE, scheme)
        pictures = tab.locator(".md-content img:visible")
        assert pictures.count() == 1
        assert pictures.get_attribute("src").partition("#")[0] == f"start/failure-{scheme}.png"
        assert pictures.bounding_box()["y"] < tab.locator(".md-content pre").first.bounding_box()["y"]
        assert pictures.bounding_box()["y"] < WIDE[1] / 2
