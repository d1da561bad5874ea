"""The page in a real browser: draws, opens programs, moves by keyboard, runs nothing of a stranger's."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kiyas.report.payload import script_json
from kiyas.runfolder.files import read_jsonl
from kiyas.runfolder.paths import RunDir
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


@pytest.fixture(scope="module")
def tall(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same page with twenty times the rows: 820 × 25 cells, more than are printed."""
    html = (written / "report" / "index.html").read_text(encoding="utf-8")
    block = re.search(r'(?<=id="data">).*?(?=</script>)', html)
    assert block
    data = json.loads(block[0])
    data["rows"] = [{**row, "id": f"{row['id']}.{n}"} for n in range(20) for row in data["rows"]]
    path = tmp_path_factory.mktemp("tall") / "index.html"
    path.write_text(html[: block.start()] + script_json(data) + html[block.end() :], encoding="utf-8")
    return path


@pytest.fixture
def opened(
    browser: Any, written: Path, tall: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Any, list[str], list[str]]]:
    context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tall if getattr(request, "param", "") == "tall" else written / "report" / "index.html").as_uri())
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
    panel.locator("pre.code").wait_for()
    assert "</script><script>window.hacked=1" in panel.inner_text()
    assert panel.locator("img").count() == 0 and panel.locator("script").count() == 0
    assert "49" not in panel.locator("pre.code").inner_text().split("onerror")[1][:40]
    assert page.evaluate("window.hacked") is None
    assert page.locator("nav b, td b > b, h1 b").count() == 0
    assert said == []


def test_program_test_and_error_are_one_click_away(opened: Any) -> None:
    page, _, _ = opened
    page.locator("td.v.WA").first.click()
    page.locator("dialog[open] pre.code").wait_for()
    text = page.locator("dialog[open]").inner_text()
    for part in ("Failing test", "Input", "Expected", "Got", "Error", "Program", "Statement", "Do thing", HOSTILE[:20]):
        assert part in text
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def stands_at(page: Any, cell: str) -> None:
    """Waits until the focus is there. (Playwright's own wait would need eval, which the page forbids.)"""
    for _ in range(100):
        if page.evaluate("document.activeElement.dataset.at") == cell:
            return
        page.wait_for_timeout(50)
    assert page.evaluate("document.activeElement.dataset.at") == cell


def test_keyboard(opened: Any) -> None:
    page, _, _ = opened
    page.locator("td.v[data-at='0,0']").focus()
    stands_at(page, "0,0")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    stands_at(page, "1,1")
    page.keyboard.press("Enter")
    assert page.locator("dialog[open] h2").inner_text().startswith("p001")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    stands_at(page, "1,2")
    assert page.locator("td.v[tabindex='0']").count() == 1


def test_filter(opened: Any) -> None:
    page, _, _ = opened
    for kind in ("differ", "never", "all"):
        page.locator(f"input[value={kind}]").check(force=True)
        counted = page.locator(f"label:has(input[value={kind}]) .dim").inner_text()
        assert page.locator("table.grid tbody tr:visible").count() == int(counted) > 0
        first = page.locator("table.grid tbody tr:visible").first
        assert first.locator("td.v[tabindex='0']").count() == page.locator("td.v[tabindex='0']").count() == 1


@pytest.mark.parametrize("opened", ["tall"], indirect=True)
def test_a_tall_grid_holds_only_what_is_near(opened: Any) -> None:
    page, said, _ = opened
    cells, count = page.locator("td.v"), page.locator("table.grid tbody tr").count()
    assert count == 820 and 0 < cells.count() < 2500
    page.wait_for_selector("td[data-at='20,0']")
    page.evaluate("document.querySelector('.tall').scrollTop = 1e6")
    page.wait_for_selector("td[data-at='819,24']")
    page.wait_for_function("!document.querySelector('td[data-at=\"20,0\"]')")
    assert cells.count() < 2500
    page.locator("td[data-at='0,0']").focus()
    for key in ("PageDown", "PageDown", "ArrowDown", "End"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.dataset.at") == "41,24"
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label.startswith("p000.1, div<b>x</b> · seed 1 · step 120: ")
    assert said == []


@pytest.mark.parametrize("opened", ["tall"], indirect=True)
def test_print_fills_the_grid_up_to_a_limit_and_says_so(opened: Any) -> None:
    page, said, _ = opened
    before = page.locator("td.v").count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    rows = page.locator("table.grid tbody tr:visible")
    assert rows.count() == 400 and page.locator("td.v").count() == 400 * 25
    assert page.locator("p.cut").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert rows.count() == 820 and page.locator("td.v").count() == before
    assert not page.locator("p.cut").is_visible()
    assert said == []


def test_print(opened: Any) -> None:
    page, said, _ = opened
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF") and len(pdf) > 50_000
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 2
    assert said == []


def test_a_chunk_is_opened_once_and_a_broken_one_says_so(opened: Any) -> None:
    page, said, _ = opened
    spoil = "document.getElementById('chunk-{}').textContent = '\"AAAA\"'"
    panel = page.locator("dialog[open]")
    page.locator("td[data-at='0,0']").click()
    panel.locator("pre.code").wait_for()
    page.keyboard.press("Escape")
    page.evaluate(spoil.format(0))
    page.evaluate(spoil.format(1))
    page.locator("td[data-at='0,1']").click()
    panel.locator("pre.code").wait_for()
    page.keyboard.press("Escape")
    page.locator("td[data-at='1,1']").click()
    panel.get_by_text("could not be opened").wait_for()
    assert panel.locator("pre").count() == 0 and said == []


def longest_common(a: list[str], b: list[str]) -> int:
    """The dull reference: a whole table, row by row."""
    before = [0] * (len(b) + 1)
    for line in a:
        row = [0]
        for j, other in enumerate(b):
            row.append(before[j] + 1 if line == other else max(before[j + 1], row[j]))
        before = row
    return before[-1]


def test_side_by_side(opened: Any, written: Path) -> None:
    page, said, _ = opened
    programs = {}
    for row in read_jsonl(RunDir(written).judgments):
        if row["problem_id"] == "p000":
            programs[row["arm"], row["seed"], row["step"]] = row["program"]
    names = page.evaluate("JSON.parse(document.getElementById('data').textContent).columns")
    first = next(j for j, name in enumerate(names) if name == "deep · seed 1 · step 60")
    page.locator(f"td[data-at='0,{first}']").click()
    page.keyboard.press("s")
    select, columns = page.locator("dialog select"), page.locator("dialog article")
    columns.nth(1).wait_for()
    assert select.evaluate("s => s.selectedOptions[0].text") == "div<b>x</b> · seed 1 · step 60"

    def lines(code: Any, kind: str) -> list[str]:
        found: list[str] = code.locator(kind).all_text_contents()
        return [text[:-1] for text in found]

    tops = "all => all.map(line => Math.round(line.getBoundingClientRect().top))"
    compared = [("div<b>x</b>", 1, 60), ("base", 0, 0), ("deep", 1, 80), ("div<b>x</b>", 0, 120), ("deep", 0, 60)]
    for who in compared:
        select.select_option(label="base" if who[0] == "base" else f"{who[0]} · seed {who[1]} · step {who[2]}")
        wanted = [programs["deep", 1, 60].split("\n"), programs[who].split("\n")]
        codes = [columns.nth(side).locator("pre.code") for side in (0, 1)]
        codes[1].wait_for()
        assert [lines(code, "mark, .same") for code in codes] == wanted
        left, right = (lines(code, ".same") for code in codes)
        assert left == right and len(left) == longest_common(*wanted)
        left, right = (code.locator(".same").evaluate_all(tops) for code in codes)
        assert left == right
    assert 0 < longest_common(*wanted) < len(wanted[0])
    assert said == []


def test_programs_too_long_to_compare_stand_unmarked(opened: Any) -> None:
    page, said, _ = opened
    cells = [[{"v": "AC", "flags": [], "program": "\n".join(f"{j} {k}" for k in range(2500))}] for j in range(25)]
    chunk = gzip.compress(json.dumps({"statement": "", "tests": {}, "cells": cells}).encode())
    text = json.dumps(base64.b64encode(chunk).decode())
    page.evaluate("text => { document.getElementById('chunk-0').textContent = text; }", text)
    page.locator("td[data-at='0,1']").focus()
    page.keyboard.press("s")
    panel = page.locator("dialog[open]")
    panel.get_by_text("Too long to compare").wait_for()
    assert panel.locator("pre.code").count() == 2 and panel.locator("mark").count() == 0
    assert panel.locator("pre.code").first.inner_text().endswith("1 2499")
    assert said == []


def test_both_columns_show_their_tests_and_run_nothing(opened: Any) -> None:
    page, said, _ = opened
    page.locator("td.v.WA").first.focus()
    page.keyboard.press("s")
    columns, select = page.locator("dialog article"), page.locator("dialog select")
    columns.nth(1).wait_for()
    failing = page.locator("tr:has(td.v.WA)").first.locator("td.v.WA").nth(1).get_attribute("data-at")
    select.select_option(value=failing.split(",")[1])
    columns.nth(1).locator("pre.code").wait_for()
    for side in (0, 1):
        text = columns.nth(side).inner_text()
        assert text.count(HOSTILE.split("\u2028")[0]) >= 4, "program, got, error, flag"
        for part in ("Failing test", "Input", "Expected", "Got", "Error", "1 AC" if "1 AC" in text else "1 WA"):
            assert part in text
    page.keyboard.press("s")
    page.wait_for_function("document.querySelectorAll('dialog article').length === 1")
    page.keyboard.press("s")
    columns.nth(1).wait_for()
    before = page.locator("dialog h2 + p").inner_text()
    page.locator("dialog h2").click()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelectorAll('dialog article').length === 2")
    assert page.locator("dialog h2 + p").inner_text() != before
    panel = page.locator("dialog[open]")
    assert panel.locator("img, script, b").count() == 0 and page.evaluate("window.hacked") is None
    assert said == []


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
    page.locator("td.v").first.click()
    page.keyboard.press("s")
    page.locator("dialog article pre.code").nth(1).wait_for()
    panel = page.locator("dialog")
    assert panel.evaluate("p => p.scrollWidth <= p.clientWidth")
    first, second = (page.locator("dialog article").nth(side).bounding_box() for side in (0, 1))
    assert (second["y"] >= first["y"] + first["height"]) == (width == 380)
    page.close()


def test_prints_black_on_white_with_stills_and_nothing_cut(browser: Any, written: Path) -> None:
    context = browser.new_context(color_scheme="dark", viewport={"width": 690, "height": 900})
    page = context.new_page()
    page.goto((written / "report" / "index.html").as_uri())
    page.wait_for_selector("body[data-ready=yes]", timeout=30_000)
    assert page.locator(".still:visible").count() == 0 and page.locator(".plot:visible").count() == 4
    page.emulate_media(media="print")
    assert page.locator(".still:visible").count() == 4 and page.locator(".plot:visible").count() == 0
    style = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    assert page.evaluate(style) == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert page.locator("nav:visible, button:not(.term):visible, .filter:visible, .files:visible").count() == 0
    assert page.locator("table.grid tbody tr:visible").count() == 41
    assert page.locator("dl.settings:visible").count() == 1
    wide = "[...document.querySelectorAll('table, .still')].filter(e => e.getBoundingClientRect().right > innerWidth)"
    assert page.evaluate(wide + ".length") == 0
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    context.close()
