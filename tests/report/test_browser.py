"""The page in a real browser: draws, opens programs, moves by keyboard, runs nothing of a stranger's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from browser import until

pytestmark = pytest.mark.browser


def drawn(page: Any) -> set[str]:
    """The charts on the screen; those in folded parts are drawn when they are opened."""
    return set(page.eval_on_selector_all("[data-drawn=yes]:has(svg)", "all => all.map(f => f.dataset.chart)"))


def test_draws_offline_without_a_word(opened: Any) -> None:
    page, said, asked = opened
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert drawn(page) == {"rates", "difference", "pass", "loss-deep", "loss-div-b-x-b"}
    page.locator("#results details").first.locator("summary").click()
    page.wait_for_selector("[data-chart=differences][data-drawn=yes]")
    assert page.locator("h1").inner_text()
    assert page.locator("table.grid tbody tr").count() == 41


def test_print(opened: Any) -> None:
    page, said, _ = opened
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF") and len(pdf) > 50_000
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 2
    assert said == []


def test_light_and_dark(opened: Any) -> None:
    page, said, _ = opened
    colour = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(colour)
    page.locator("#theme").click()
    until(page, f"{colour} !== {before!r}")
    page.wait_for_timeout(300)
    assert said == []
    assert len(drawn(page)) == 5


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
    assert page.locator(".still:visible").count() == 0 and page.locator(".plot:visible").count() == 5
    page.emulate_media(media="print")
    assert page.locator(".still:visible").count() == 6 and page.locator(".plot:visible").count() == 0
    style = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    assert page.evaluate(style) == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    hidden = ".top:visible, button:not(.term):visible, .filter:visible, figcaption:visible"
    assert page.locator(hidden).count() == 0
    assert page.locator("table.grid tbody tr:visible").count() == 41
    assert page.locator("dl.settings:visible").count() == 1
    wide = "[...document.querySelectorAll('table, .still')].filter(e => e.getBoundingClientRect().right > innerWidth)"
    assert page.evaluate(wide + ".length") == 0
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    context.close()
