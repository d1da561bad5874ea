"""The section of problems in a real browser: the grid, its panel, links, filters, the keyboard, hostile texts."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import until
from kiyas.report.payload import script_json
from kiyas.runfolder.files import read_jsonl
from kiyas.runfolder.paths import RunDir
from synthetic import HOSTILE

pytestmark = pytest.mark.browser
BLOCK = re.compile(r'(?<=id="page-data">).*?(?=</script>)')
ODD = "a/b c&d=e#f+g%h?i\u015f\"'"
"""An id with every character that means something in an address."""


def without_charts(html: str, **changed: Any) -> str:
    """The page as it is, its charts not drawn, which takes the most time; `changed` replaces parts of its data."""
    found = BLOCK.search(html)
    assert found
    data = {**json.loads(found[0]), **changed}
    return (html[: found.start()] + script_json(data) + html[found.end() :]).replace("data-chart=", "data-undrawn=")


@pytest.fixture(scope="module")
def pages(written: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses: the page, and one with twenty times the rows: 820 × 25 cells, more than are printed."""
    html = (written / "report" / "index.html").read_text(encoding="utf-8")
    found = BLOCK.search(html)
    assert found
    rows = json.loads(found[0])["rows"]
    tall = [{**row, "id": f"{row['id']}.{n}"} for n in range(20) for row in rows]
    odd = [*rows[:-1], {**rows[-1], "id": ODD}]
    folder = tmp_path_factory.mktemp("pages")
    for name, changed in {"plain": {"rows": odd}, "tall": {"rows": tall}}.items():
        (folder / f"{name}.html").write_text(without_charts(html, **changed), encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in ("plain", "tall")}


@pytest.fixture(scope="module")
def tab(browser: Any) -> Iterator[tuple[Any, list[str]]]:
    """One tab for all tests, and what it said on its console."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True)
    context.set_default_timeout(10_000)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page, said
    context.close()


@pytest.fixture
def at(tab: Any, pages: dict[str, str], request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page with its grid unfolded; afterwards nothing may have been said."""
    page, said = tab
    said.clear()
    page.set_viewport_size({"width": 1280, "height": 800})
    visit(page, pages[getattr(request, "param", "plain")])
    page.locator("#every > summary").click()
    page.locator("td.v").first.wait_for()
    yield page
    assert said == []


def visit(page: Any, address: str) -> None:
    """Opens an address from nowhere, as a reload or a link in a mail does."""
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("body[data-ready=yes]", timeout=30_000)


def put(page: Any, row: int, **chunk: Any) -> None:
    """Other texts for the problem of a row."""
    whole = {"statement": "", "tests": {}, "known": 0, "samples": [], "cells": [[]] * 25, **chunk}
    text = json.dumps(base64.b64encode(gzip.compress(json.dumps(whole).encode())).decode())
    page.evaluate(f"text => {{ document.getElementById('chunk-{row}').textContent = text; }}", text)


def all_checkpoints(page: Any) -> None:
    page.get_by_role("switch").check()


def test_no_stranger_runs(at: Any) -> None:
    page = at
    failing = page.locator("td.v.WA").first
    failing.click()
    panel = page.locator("dialog[open]")
    panel.locator("pre.code").wait_for()
    assert "</script><script>window.hacked=1" in panel.inner_text()
    assert panel.locator("img").count() == 0 and panel.locator("script").count() == 0
    assert "49" not in panel.locator("pre.code").inner_text().split("onerror")[1][:40]
    assert page.evaluate("window.hacked") is None
    assert page.locator("nav b, td b > b, h1 b").count() == 0


def test_program_test_and_error_are_one_click_away(at: Any) -> None:
    page = at
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


def test_keyboard(at: Any) -> None:
    page = at
    page.locator("td.v[data-at='0,0']").focus()
    stands_at(page, "0,0")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    stands_at(page, "1,6")
    outline = (
        "getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth"
    )
    assert page.evaluate(outline) == "solid2px"
    page.keyboard.press("Enter")
    assert page.locator("dialog[open] h2").inner_text() == "<i>Problem 1 p001"
    page.keyboard.press("ArrowRight")
    assert page.locator("dialog h2 + p").inner_text() == "deep · seed 1 · step 120"
    page.keyboard.press("Escape")
    stands_at(page, "1,12")
    page.keyboard.press("End")
    stands_at(page, "1,24")
    page.keyboard.press("Home")
    stands_at(page, "1,0")
    assert page.locator("td.v[tabindex='0']").count() == 1


def visible(page: Any) -> list[str]:
    """The problems that the grid shows, by title and id."""
    texts: list[str] = page.locator("table.grid tbody tr:visible th").all_inner_texts()
    return texts


def test_filters(at: Any) -> None:
    page = at
    for kind in ("differ", "never", "all"):
        page.locator(f"input[value={kind}]").check(force=True)
        counted = page.locator(f"label:has(input[value={kind}]) .dim").inner_text()
        assert len(visible(page)) == int(counted) > 0
        assert page.locator("td.v[tabindex='0']").count() == page.locator("td.v[tabindex='0']:visible").count() == 1
    page.get_by_label("Search").fill("PROBLEM 1")
    assert len(visible(page)) == 13 and page.locator("#count").inner_text() == "13 of 41 problems"
    page.get_by_label("Search").fill("prob p039")
    assert visible(page) == ["<i>Problem 39 p039"]
    page.get_by_label("Search").fill("")
    page.get_by_label("Tags").select_option("tag 4")
    assert len(visible(page)) == 8
    page.get_by_label("Verdict").select_option(label="R error while running")
    found = visible(page)
    assert found and all(text.endswith("9") for text in found)
    until(page, "[...document.querySelectorAll('.grid tbody tr:not([hidden])')].every(r => r.querySelector('.RE'))")
    page.get_by_label("Search").fill("nothing like this")
    assert visible(page) == []


def test_all_checkpoints_is_a_switch(at: Any) -> None:
    page = at
    cells = page.locator("table.grid tbody tr").first.locator("td.v")
    assert cells.count() == 5 and page.locator("table.grid thead tr").nth(1).locator("th").count() == 5
    seen = page.locator("table.grid").evaluate("t => t.getBoundingClientRect().right <= innerWidth")
    assert seen, "base and arms side by side on one screen"
    count = page.locator("table.grid tbody tr").first.locator("td.n")
    assert count.inner_text().endswith("/5")
    all_checkpoints(page)
    assert cells.count() == 25 and count.inner_text().endswith("/25")
    assert page.locator("table.grid thead tr").nth(1).locator("th").count() == 25
    page.get_by_role("switch").uncheck()
    assert cells.count() == 5 and page.locator("td.v[tabindex='0']").count() == 1


def test_the_colour_of_an_arm_marks_its_columns(at: Any) -> None:
    heads = at.locator("table.grid thead .start:not(.step)")
    colours = heads.evaluate_all("all => all.map(head => head.style.getPropertyValue('--arm'))")
    listed = (
        at.locator("table.deciding")
        .first.locator("th .chip")
        .evaluate_all("all => all.map(chip => chip.style.getPropertyValue('background'))")
    )
    assert len(set(colours)) == 3 and len(set(listed)) == 2


@pytest.mark.parametrize("at", ["tall"], indirect=True)
def test_a_tall_grid_holds_only_what_is_near(at: Any) -> None:
    page = at
    cells, count = page.locator("td.v"), page.locator("table.grid tbody tr").count()
    assert count == 820 and 0 < cells.count() < 2500
    all_checkpoints(page)
    page.wait_for_selector("td[data-at='20,0']")
    page.evaluate("document.querySelector('.tall').scrollTop = 1e6")
    page.wait_for_selector("td[data-at='819,24']")
    until(page, "!document.querySelector('td[data-at=\"20,0\"]')")
    assert cells.count() < 2500
    page.locator("td[data-at='0,0']").focus()
    for key in ("PageDown", "PageDown", "ArrowDown", "End"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.dataset.at") == "41,24"
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label.startswith("<i>Problem 0 p000.1, div<b>x</b> · seed 1 · step 120: ")


@pytest.mark.parametrize("at", ["tall"], indirect=True)
def test_print_fills_the_grid_up_to_a_limit_and_says_so(at: Any) -> None:
    page = at
    all_checkpoints(page)
    page.wait_for_selector("td[data-at='20,0']")
    before = page.locator("td.v").count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    rows = page.locator("table.grid tbody tr:visible")
    assert rows.count() == 400 and page.locator("td.v").count() == 400 * 25
    assert page.locator("p.cut").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert rows.count() == 820 and page.locator("td.v").count() == before
    assert not page.locator("p.cut").is_visible()


def test_a_chunk_is_opened_once_and_a_broken_one_says_so(at: Any) -> None:
    page = at
    spoil = "document.getElementById('chunk-{}').textContent = '\"AAAA\"'"
    panel = page.locator("dialog[open]")
    page.locator("td[data-at='0,0']").click()
    panel.locator("pre.code").wait_for()
    page.keyboard.press("Escape")
    page.evaluate(spoil.format(0))
    page.evaluate(spoil.format(1))
    page.locator("td[data-at='0,6']").click()
    panel.locator("pre.code").wait_for()
    page.keyboard.press("Escape")
    page.locator("td[data-at='1,6']").click()
    panel.get_by_text("could not be opened").wait_for()
    assert panel.locator("pre").count() == 0


def longest_common(a: list[str], b: list[str]) -> int:
    """The dull reference: a whole table, row by row."""
    before = [0] * (len(b) + 1)
    for line in a:
        row = [0]
        for j, other in enumerate(b):
            row.append(before[j] + 1 if line == other else max(before[j + 1], row[j]))
        before = row
    return before[-1]


def test_side_by_side(at: Any, written: Path) -> None:
    page = at
    programs = {}
    for row in read_jsonl(RunDir(written).judgments):
        if row["problem_id"] == "p000":
            programs[row["arm"], row["seed"], row["step"]] = row["program"]
    all_checkpoints(page)
    names = page.evaluate("JSON.parse(document.getElementById('page-data').textContent).columns")
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


def test_programs_too_long_to_compare_stand_unmarked(at: Any) -> None:
    page = at
    samples = [{"v": "AC", "flags": [], "program": "\n".join(f"{j} {k}" for k in range(2500))} for j in range(25)]
    put(page, 0, samples=samples, cells=[[j] for j in range(25)])
    page.locator("td[data-at='0,6']").focus()
    page.keyboard.press("s")
    panel = page.locator("dialog[open]")
    panel.get_by_text("Too long to compare").wait_for()
    assert panel.locator("pre.code").count() == 2 and panel.locator("mark").count() == 0
    assert panel.locator("pre.code").first.inner_text().endswith("6 2499")


def test_both_columns_show_their_tests_and_run_nothing(at: Any) -> None:
    page = at
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
    until(page, "document.querySelectorAll('dialog article').length === 1")
    page.keyboard.press("s")
    columns.nth(1).wait_for()
    before = page.locator("dialog h2 + p").inner_text()
    page.locator("dialog h2").click()
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelectorAll('dialog article').length === 2")
    assert page.locator("dialog h2 + p").inner_text() != before
    panel = page.locator("dialog[open]")
    assert panel.locator("img, script, b").count() == 0 and page.evaluate("window.hacked") is None


def where(page: Any) -> tuple[str, bool, str]:
    """The address after #, whether the panel is open, what it shows."""
    panel = page.locator("dialog[open]")
    shown = panel.locator("h2 + p").inner_text() if panel.count() else ""
    return page.evaluate("decodeURIComponent(location.hash.slice(1))"), bool(panel.count()), shown


def test_links_survive_reload_back_and_forward(at: Any) -> None:
    page = at
    page.locator("td[data-at='3,6']").click()
    page.locator("dialog pre.code").wait_for()
    one = ("problem=p003&checkpoint=deep/seed-0/step-000120", True, "deep · seed 0 · step 120")
    assert where(page) == one
    page.reload()
    page.locator("dialog pre.code").wait_for()
    assert where(page) == one
    page.keyboard.press("s")
    two = ("problem=p003&checkpoint=deep/seed-0/step-000120&beside=div<b>x</b>/seed-0/step-000120", *one[1:])
    assert where(page) == two
    page.go_back()
    until(page, "!document.querySelector('dialog[open]')")
    assert where(page) == ("", False, "")
    page.go_forward()
    page.locator("dialog article").nth(1).wait_for()
    assert where(page) == two
    page.keyboard.press("Escape")
    stands_at(page, "3,6")
    until(page, "!location.hash")
    assert where(page) == ("", False, "")


def test_an_odd_id_is_linked_and_an_unknown_one_is_named(at: Any) -> None:
    page = at
    page.locator("table.grid tbody tr").last.scroll_into_view_if_needed()
    page.locator("td[data-at='40,0']").click()
    page.locator("dialog pre.code").wait_for()
    address = page.url
    assert "checkpoint=base" in address
    visit(page, address)
    page.locator("dialog pre.code").wait_for()
    assert page.locator("dialog h2").inner_text() == f"<i>Problem 40 {ODD}"
    page.keyboard.press("Escape")
    stands_at(page, "40,0")
    unknown = page.locator("#unknown")
    for rest, said in {
        "problem=<b>%22p": 'This report has no problem “<b>"p”.',
        "problem=p001&checkpoint=deep/seed-9": "This report has no checkpoint “deep/seed-9”.",
        "problem=p001&checkpoint=base&beside=%E0%A4%A": "This report has no checkpoint “\ufffd",
    }.items():
        page.evaluate("hash => { location.hash = hash; }", rest)
        unknown.filter(has_text=said).wait_for()
        assert unknown.locator("b").count() == 0
        assert page.locator("dialog[open]").count() == 0
    page.evaluate("location.hash = 'problem=p001'")
    page.locator("dialog pre.code").wait_for()
    assert not unknown.is_visible()


def test_a_link_to_a_checkpoint_that_is_not_shown_leads_to_its_cell(at: Any, pages: dict[str, str]) -> None:
    page = at
    visit(page, f"{pages['plain']}#problem=p002&checkpoint=deep/seed-1/step-000040")
    page.locator("dialog pre.code").wait_for()
    page.keyboard.press("ArrowRight")
    assert where(page)[2] == "deep · seed 1 · step 60"
    page.keyboard.press("Escape")
    stands_at(page, "2,9")
    assert page.get_by_role("switch").is_checked() and page.locator("#every[open]").count() == 1


def test_a_problem_that_decides_opens_side_by_side(at: Any) -> None:
    page = at
    link = page.locator("table.deciding a").first
    title = link.inner_text()
    link.click()
    page.locator("dialog article").nth(1).wait_for()
    assert page.locator("dialog h2").inner_text().startswith(title)
    names = page.locator("dialog article h3").all_inner_texts()
    assert any(name.startswith("deep") for name in names) and any(name.startswith("div") for name in names)
    page.locator("dialog article .pill.AC").wait_for()
    assert page.locator("dialog article .pill").count() == 2, "one is right, the other is not"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == title


def test_every_failing_test_and_the_raw_answer(at: Any) -> None:
    page = at
    failing = [
        {"n": 1, "v": "WA", "got": "wrong", "error": "line 1 differs"},
        {"n": 3, "v": "RE", "got": ["cut", "judge/judgments.jsonl"], "error": HOSTILE},
        {"n": 4, "v": "WA", "left_out": True},
        {"n": 9, "v": "WA", "got": None, "error": None},
    ]
    right = {"v": "AC", "flags": [], "program": "print(1)\n", "answer": ["I think:\n```\n", "```\n" + HOSTILE]}
    wrong = {"v": "WA", "flags": [], "tests": ["WA", "AC", "RE", "WA"], "failing": failing, "passed": 1, "total": 4}
    wrong |= {"program": "print(2)\n", "left_out": True, "not_run": 5}
    tests = {"1": ["in 1", "out 1"], "3": ["in 3", ""], "4": ["assert f() == 1"]}
    put(page, 1, samples=[right, wrong], cells=[[0]] + [[1]] * 24, tests=tests, known=3)
    panel = page.locator("dialog[open]")
    page.locator("td[data-at='1,0']").click()
    panel.locator("summary", has_text="Raw answer").click()
    assert panel.locator("details pre").inner_text() == f"I think:\n```\nprint(1)\n```\n{HOSTILE}"
    assert "The statement of this problem is not in the run folder." in panel.inner_text()
    page.keyboard.press("ArrowRight")
    panel.locator("summary", has_text="3 more failing tests").click()
    text = panel.inner_text()
    for part in (
        "Failing test 1: WA",
        "in 1",
        "out 1",
        "Failing test 3: RE",
        "in 3",
        "(nothing)",
        "cut\n… (cut; the full text is in judge/judgments.jsonl, problem p001, checkpoint deep/seed-0/step-000120)",
        "assert f() == 1",
        "see judge/judgments.jsonl, checkpoint deep/seed-0/step-000120",
        "Failing test 9: WA",
        "The input and the expected output of this test are not in the run folder.",
        "The sources do not say what the program printed.",
        "5 more tests were not run after the time-out.",
        "The raw answer is left out to keep this page small; see generate/completions.jsonl",
    ):
        assert part in text, part
    assert panel.locator("script, img").count() == 0


def test_what_is_not_known_is_said(at: Any) -> None:
    page = at
    put(page, 1, samples=[{"v": "WA", "flags": []}], cells=[[0]] * 25)
    page.locator("td[data-at='1,0']").click()
    text = page.locator("dialog[open]").inner_text()
    for part in (
        "The sources do not say which test failed.",
        "No program was found in the answer.",
        "The raw answer is not in the run folder.",
        "The statement of this problem is not in the run folder.",
        "The tests of this problem are not in the run folder.",
    ):
        assert part in text, part


@pytest.mark.parametrize("width", [390, 1280])
def test_panel_and_grid_fit_the_screen(at: Any, width: int) -> None:
    page = at
    page.set_viewport_size({"width": width, "height": 800})
    all_checkpoints(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    name = page.locator("table.grid tbody th").first
    before = name.bounding_box()["x"]
    page.evaluate("document.querySelector('.tall').scrollLeft = 300")
    assert abs(name.bounding_box()["x"] - before) < 8, "the first column stays"
    page.locator("td.v").first.focus()
    page.keyboard.press("s")
    page.locator("dialog article pre.code").nth(1).wait_for()
    panel = page.locator("dialog")
    assert panel.evaluate("p => p.scrollWidth <= p.clientWidth")
    assert width > 390 or panel.bounding_box()["width"] == width
    first, second = (page.locator("dialog article").nth(side).bounding_box() for side in (0, 1))
    assert (second["y"] >= first["y"] + first["height"]) == (width == 390)
