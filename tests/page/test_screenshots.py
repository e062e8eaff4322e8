"""Pictures of the pages of real runs, in both themes and three widths; `make screenshots` puts them into the docs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import flowtrace, flowtrace_process

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]
WIDTHS = {"wide": (1280, 900), "middle": (900, 900), "phone": (390, 844)}
ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs/pages/howto/view"
FRONT = ROOT / "docs/pages/start"
WANTED = Path(os.environ["SCREENSHOTS"]).resolve() if "SCREENSHOTS" in os.environ else None  # each test has its folder
NAMES = sorted(f"{name}-{scheme}.jpg" for name in (*WIDTHS, "two", "steps") for scheme in ("light", "dark"))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return the folder with the pages of the run that fails, and of it beside the mended one."""
    folder = tmp_path_factory.mktemp("night")
    shutil.copy(Path(__file__).with_name("night.py"), folder / "night.py")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("FLOWTRACE_")}
    for name, arguments in (("failed.json", []), ("mended.json", ["mended"])):
        own = {"FLOWTRACE_OUT": name, "FLOWTRACE_MODE": "always", "FLOWTRACE_BUFFER_SIZE": "100"}
        own |= {"FLOWTRACE_CAPTURE_INPUTS": "1", "FLOWTRACE_CAPTURE_OUTPUTS": "1", "FLOWTRACE_MAX_OVERHEAD": "0"}
        command = [sys.executable, "night.py", *arguments]
        done = subprocess.run(command, cwd=folder, env=variables | own, capture_output=True, text=True, timeout=60)
        assert (done.returncode, "PriceError" in done.stderr) == ((1, True) if not arguments else (0, False))
    assert flowtrace("view", "failed.json", "-o", "one.html", folder=folder).returncode == 0
    assert flowtrace("view", "failed.json", "mended.json", "-o", "two.html", folder=folder).returncode == 0
    return folder


@pytest.fixture
def take(browser, pages, tmp_path):
    """Return a function that takes a picture of a page, and returns what the page said meanwhile."""
    folder = WANTED or tmp_path

    def picture(name, page, scheme, size, at="", options=None):
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        tab, said = context.new_page(), []
        tab.on("console", lambda message: said.append(message.text))
        tab.goto((pages / page).as_uri())
        tab.wait_for_selector("html[data-ready]")
        if at:
            tab.evaluate("name => document.getElementById(name).scrollIntoView()", at)
            tab.wait_for_timeout(100)
        options = options or {"type": "jpeg", "quality": 60}
        file = folder / f"{name}-{scheme}.{'jpg' if options['type'] == 'jpeg' else 'png'}"
        tab.screenshot(path=file, **options)
        context.close()
        return said, file.stat().st_size

    return picture


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_of_a_run(take, scheme, width):
    said, size = take(width, "one.html", scheme, WIDTHS[width])
    assert said == []
    assert 10_000 < size < 200_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "page", "at"), [("two", "two.html", ""), ("steps", "one.html", "timeline")])
def test_the_page_of_two_runs_and_the_steps(take, scheme, name, page, at):
    said, size = take(name, page, scheme, WIDTHS["wide"], at)
    assert said == []
    assert 10_000 < size < 200_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_picture_of_the_front_page_is_that_of_the_failure_in_the_readme(take, pages, scheme):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r'^```python title="orders.py"\n(.*?)^```$', readme, re.MULTILINE | re.DOTALL)
    (pages / "orders.py").write_text(program, encoding="utf-8")
    assert flowtrace_process("run", "--capture", "orders.py", folder=pages).returncode == 1
    assert flowtrace("view", "trace.json", "-o", "failure.html", folder=pages).returncode == 0
    said, size = take("failure", "failure.html", scheme, (1080, 675), options={"type": "png"})
    assert said == []
    assert 10_000 < size < 200_000
    if WANTED is not None:
        (WANTED / f"failure-{scheme}.png").replace(FRONT / f"failure-{scheme}.png")


def test_the_docs_have_these_pictures():
    assert sorted(path.name for path in FRONT.glob("*.png")) == ["failure-dark.png", "failure-light.png"]
    assert sorted(path.name for path in DOCS.iterdir()) == NAMES
