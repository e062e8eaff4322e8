"""The pages in a real browser: they open, can be used, and ask for nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests import traces
from tests.page.pages import page_of
from tests.page.test_diff_page import after, before, page_of_two
from tests.page.test_trace_page import failing, hostile

AXE = Path(__file__).resolve().parent.parent.parent / "web/node_modules/axe-core/axe.min.js"
SCHEMES = ("light", "dark")
WIDTHS = {"wide": (1440, 900), "middle": (900, 800), "phone": (390, 844)}

pytestmark = [
    pytest.mark.browser,
    # playwright talks to its driver in ways that leave a loop and pipes open until the process ends
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


class Tab:
    """A page that was opened from the disk, with all that it said and asked for."""

    def __init__(self, browser, file, scheme="light", size=WIDTHS["wide"]):
        self.context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message) or dialog.dismiss())
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.address = file.as_uri()
        began = time.perf_counter()
        self.page.goto(self.address)
        self.page.wait_for_selector("html[data-ready]")
        self.opened_in = time.perf_counter() - began

    def check_it_was_quiet(self):
        """Check that the page said nothing and asked for nothing but itself."""
        assert self.said == []
        assert self.asked == [self.address]


@pytest.fixture
def opened(browser, tmp_path):
    tabs = []

    def open_page(text, **options):
        file = tmp_path / f"{len(tabs)}.html"
        file.write_text(text, encoding="utf-8")
        tabs.append(Tab(browser, file, **options))
        return tabs[-1]

    yield open_page
    for tab in tabs:
        tab.check_it_was_quiet()
        tab.context.close()


def large():
    steps = [
        traces.step(
            *(f"part{at % 7}.work{at % 31}", {"number": at, "name": f"item {at * 7919 % 10_007}"}, {"total": at * 1.5}),
            **{"captured": True, "at": at * 90, "lasts": 1000 + at % 997, "thread": f"worker_{at % 4}"},
            **({"error": "no such item"} if at == 7_000 else {}),
        )
        for at in range(10_000)
    ]
    return traces.trace(*steps, run=traces.run("failed"))


def rows(page):
    return page.locator("[role=treegrid] .body [role=row]")


def chosen(page):
    return page.locator("[role=treegrid] [aria-selected=true]")


def test_a_page_of_ten_thousand_steps_opens_and_is_searched(opened):
    text = page_of(large())
    assert len(text.encode()) <= 400_000
    tab = opened(text)
    print(f"\n10,000 steps: {len(text.encode()) // 1000} kB, opened in {tab.opened_in:.2f} s")
    page = tab.page
    assert page.locator("[role=treegrid]").get_attribute("aria-rowcount") == "10001"
    assert 10 < rows(page).count() < 100
    assert "failed here" in chosen(page).inner_text()
    page.fill("#search", "no such item")
    page.wait_for_function("document.querySelector('[role=treegrid]').ariaRowCount === '2'")
    assert page.locator("#steps [role=status]").inner_text().startswith("1 of 10,000 shown")
    page.fill("#search", "")
    page.locator("[role=treegrid]").focus()
    page.keyboard.press("End")
    page.wait_for_selector("#step-9999[aria-selected=true]")
    assert page.locator("#step-9999").get_attribute("aria-posinset") == "10000"
    page.keyboard.press("Home")
    page.wait_for_selector("#step-0[aria-selected=true]")


def test_the_tree_is_walked_by_keyboard(opened):
    page = opened(page_of(failing())).page
    grid = page.locator("[role=treegrid]")
    grid.focus()
    assert "price" in chosen(page).inner_text()
    page.keyboard.press("ArrowLeft")  # to the step that called it
    assert grid.get_attribute("aria-activedescendant") == "step-0"
    assert chosen(page).get_attribute("aria-expanded") == "true"
    page.keyboard.press("ArrowLeft")  # folds it
    assert chosen(page).get_attribute("aria-expanded") == "false"
    assert rows(page).count() == 1
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert grid.get_attribute("aria-activedescendant") == "step-1"
    facts = ["aria-level", "aria-posinset", "aria-setsize"]
    assert [chosen(page).get_attribute(name) for name in facts] == ["2", "1", "2"]
    page.keyboard.press("f")
    assert "failed here" in chosen(page).inner_text()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "panel"
    grid.focus()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"


def test_the_panel_shows_the_chosen_step_with_its_values(opened):
    page = opened(page_of(failing())).page
    panel = page.locator("#panel")
    assert "PriceError: A-1 can't be priced" in panel.inner_text()
    assert "caused by TypeError" in panel.inner_text()
    assert panel.locator(".none").inner_text() == "None"
    assert "flowtrace replay trace.json --step 1" in panel.inner_text()
    panel.locator("summary").first.click()
    assert panel.locator(".none").count() == 0
    rows(page).nth(1).click()
    assert "shop.lookup" in panel.inner_text()
    assert "{'price': None}" in page.evaluate("document.body.innerText") or panel.locator(".none").count() == 1


def test_filters_keep_the_steps_around_a_match(opened):
    page = opened(page_of(failing())).page
    page.get_by_role("button", name="Errors").click()
    assert page.locator("#steps [role=status]").inner_text() == "2 of 3 shown"
    page.get_by_role("button", name="All", exact=False).nth(1).click()
    page.fill("#search", "lookup")
    assert rows(page).count() == 2
    assert "above" in rows(page).first.get_attribute("class")
    assert page.get_by_role("button", name="Cut").is_disabled()


def test_the_timeline_is_zoomed_by_keyboard_and_chooses_a_step(opened):
    page = opened(page_of(failing())).page
    before = page.locator("#timeline [role=status]").inner_text()
    page.locator(".tl").focus()
    page.keyboard.press("+")
    assert page.locator("#timeline [role=status]").inner_text() != before
    page.keyboard.press("0")
    assert page.locator("#timeline [role=status]").inner_text() == before
    box = page.locator("canvas").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 22 + 12)
    assert "order" in chosen(page).inner_text()


def test_a_command_is_copied_or_selected(opened):
    page = opened(page_of(failing())).page
    button = page.locator("[data-copy=cmd]")
    button.click()
    page.wait_for_function("document.querySelector('[data-copy=cmd]').textContent !== 'Copy'")
    assert button.inner_text() in ("Copied", "Selected")


def test_a_hostile_page_does_nothing(opened):
    page = opened(page_of(hostile())).page
    assert page.evaluate("document.querySelectorAll('img, iframe, object, embed, form').length") == 0
    assert page.evaluate("document.querySelectorAll('script').length") == 1
    assert page.locator("#panel .ctl").count() > 10
    assert page.evaluate("[...document.querySelectorAll('a')].every(link => link.getAttribute('href').startsWith('#'))")
    assert page.evaluate(
        "[...document.querySelectorAll('*')].every(item => ![...item.attributes].some(at => /^on/i.test(at.name)))"
    )
    page.fill("#search", "javascript:")
    assert rows(page).count() == 1


def test_a_printed_page_has_every_step(opened):
    page = opened(page_of(failing())).page
    page.emulate_media(media="print")
    page.wait_for_selector("[role=treegrid] .all")
    assert page.locator("[role=treegrid] .all [role=row]").count() == 3
    assert not page.locator(".search").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.emulate_media(media="screen")
    page.wait_for_selector("[role=treegrid] .body")


def test_the_first_screen_needs_no_script(browser, tmp_path):
    file = tmp_path / "a.html"
    file.write_text(page_of(failing()), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert "PriceError: A-1 can't be priced" in page.inner_text("body")
    context.close()


@pytest.mark.parametrize("size", WIDTHS)
@pytest.mark.parametrize("make", [failing, hostile, large])
def test_nothing_is_wider_than_the_window(opened, make, size):
    page = opened(page_of(make()), size=WIDTHS[size]).page
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[size][0]


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm ci in web/")
@pytest.mark.parametrize("size", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("make", [failing, hostile])
def test_axe_finds_nothing_serious(opened, make, scheme, size):
    assert violations(opened(page_of(make()), scheme=scheme, size=WIDTHS[size]).page) == []


def violations(page):
    """Return what axe-core finds on a page; its code goes in by the debugger, which no policy holds off."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        (item["id"], node["target"], node["failureSummary"])
        for item in result["violations"]
        if item["impact"] in ("serious", "critical")
        for node in item["nodes"]
    ]


# --- two traces


def test_a_comparison_lands_on_the_first_divergence(opened):
    page = opened(page_of_two(before(), after())).page
    assert "The runs part at shop.look_up" in page.inner_text("h1")
    assert "◀ first" in chosen(page).inner_text()
    assert rows(page).count() == 5
    page.get_by_role("button", name="Every step").click()
    assert page.locator("[role=treegrid]").get_attribute("aria-rowcount") == "6"
    assert "◀ first" in chosen(page).inner_text()
    page.locator("[role=treegrid]").focus()
    page.keyboard.press("End")
    assert "note" in chosen(page).inner_text()
    assert "only in B" in chosen(page).inner_text()


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm ci in web/")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_serious_in_a_comparison(opened, scheme):
    text = page_of_two(before(), after())
    assert violations(opened(text, scheme=scheme).page) == []
    assert violations(opened(text, scheme=scheme, size=WIDTHS["phone"]).page) == []
