"""The page in a real browser: draws, opens programs, moves by keyboard, runs nothing of a stranger's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic import HOSTILE

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="the playwright package is not installed")
    path = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, written: Path) -> Iterator[tuple[Any, list[str], list[str]]]:
    context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((written / "report" / "index.html").as_uri())
    page.wait_for_selector("body[data-ready=yes]", timeout=30_000)
    yield page, said, asked
    context.close()


def test_draws_offline_without_a_word(opened: Any) -> None:
    page, said, asked = opened
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    drawn = page.eval_on_selector_all("figure[data-chart]", "all => all.map(f => f.dataset.drawn)")
    assert len(drawn) == 4 and set(drawn) == {"yes"}
    assert page.locator("figure[data-chart] svg").count() == 4
    assert page.locator("h1").inner_text()
    assert page.locator("table.grid tbody tr").count() == 41


def test_no_stranger_runs(opened: Any) -> None:
    page, said, _ = opened
    failing = page.locator("td.v.WA").first
    failing.click()
    panel = page.locator("dialog[open]")
    assert "</script><script>window.hacked=1" in panel.inner_text()
    assert panel.locator("img").count() == 0 and panel.locator("script").count() == 0
    assert "49" not in panel.locator("pre.code").inner_text().split("onerror")[1][:40]
    assert page.evaluate("window.hacked") is None
    assert page.locator("nav b, td b > b, h1 b").count() == 0
    assert said == []


def test_program_test_and_error_are_one_click_away(opened: Any) -> None:
    page, _, _ = opened
    page.locator("td.v.WA").first.click()
    text = page.locator("dialog[open]").inner_text()
    for part in ("Failing test", "Input", "Expected", "Got", "Error", "Program", "Statement", "Do thing", HOSTILE[:20]):
        assert part in text
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_keyboard(opened: Any) -> None:
    page, _, _ = opened
    page.locator("td.v[data-at='0,0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    at = "document.activeElement.dataset.at"
    assert page.evaluate(at) == "1,1"
    page.keyboard.press("Enter")
    assert page.locator("dialog[open] h2").inner_text().startswith("p001")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    assert page.evaluate(at) == "1,2"
    assert page.locator("td.v[tabindex='0']").count() == 1


def test_filter(opened: Any) -> None:
    page, _, _ = opened
    for kind in ("differ", "never", "all"):
        page.locator(f"input[value={kind}]").check(force=True)
        rows = "table.grid tbody tr" + ("" if kind == "all" else f"[data-kind={kind}]")
        assert page.locator("table.grid tbody tr:visible").count() == page.locator(rows).count()


def test_light_and_dark(opened: Any) -> None:
    page, said, _ = opened
    colour = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(colour)
    page.locator("#theme").click()
    page.wait_for_function(f"{colour} !== {before!r}")
    page.wait_for_timeout(300)
    assert said == []
    assert page.locator("figure[data-chart] svg").count() == 4


@pytest.mark.parametrize("width", [380, 1200])
def test_no_sideways_scrolling(browser: Any, written: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto((written / "report" / "index.html").as_uri())
    page.wait_for_selector("body[data-ready=yes]", timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_prints_black_on_white_with_stills_and_nothing_cut(browser: Any, written: Path) -> None:
    context = browser.new_context(color_scheme="dark", viewport={"width": 690, "height": 900})
    page = context.new_page()
    page.goto((written / "report" / "index.html").as_uri())
    page.wait_for_selector("body[data-ready=yes]", timeout=30_000)
    assert page.locator(".still:visible").count() == 0 and page.locator(".plot:visible").count() == 4
    page.locator("input[value=never]").check(force=True)
    page.emulate_media(media="print")
    assert page.locator(".still:visible").count() == 4 and page.locator(".plot:visible").count() == 0
    style = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    assert page.evaluate(style) == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert page.locator("nav:visible, button:visible, .filter:visible, .files:visible").count() == 0
    assert page.locator("table.grid tbody tr:visible").count() == 41
    assert page.locator("dl.settings:visible").count() == 1
    wide = "[...document.querySelectorAll('table, .still')].filter(e => e.getBoundingClientRect().right > innerWidth)"
    assert page.evaluate(wide + ".length") == 0
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    context.close()
