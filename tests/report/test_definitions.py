"""Every number and every coined word has its definition, in one place, and the page opens it without a script."""

from __future__ import annotations

import dataclasses
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from kiyas import report
from kiyas.analyse import Findings
from kiyas.pooling import pool
from kiyas.report import pooled, tables
from kiyas.report.language import Language, languages, phrases
from kiyas.report.table import Table
from kiyas.report.terms import Terms, forms

ROOT = Path(report.__file__).parent
GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.md"
OLDER = Path(__file__).parents[1] / "fixtures" / "run-folders-0.1.0.tar.gz"


@pytest.fixture(scope="module")
def found(analysed: tuple[Path, Findings]) -> list[Findings]:
    """The synthetic run, the same by another metric, and a practice study."""
    findings = analysed[1]
    with tarfile.open(OLDER) as archive:
        file = archive.extractfile("./stopped-findings.json")
        assert file is not None
        practice = Findings.from_json(json.load(file))
    return [findings, dataclasses.replace(findings, metric="pass@2"), practice]


def declared(found: list[Findings], language: str, folder: Path) -> Iterator[Table]:
    """Every table with its columns, also where it has no rows."""
    words = Language(language)
    for findings in found:
        yield from (each(findings, words) for each in tables.TABLES)
    (folder / "c.csv").write_text("study,arm,solved,total\nx,a,9,20\nx,b,12,20\ny,a,8,30\ny,b,10,30\n")
    yield pooled.rows(pool([folder / "c.csv"]), words)


@pytest.mark.parametrize("language", languages())
def test_no_number_without_a_definition(found: list[Findings], language: str, tmp_path: Path) -> None:
    missing = {
        f"{table.name}: {key}"
        for table in declared(found, language, tmp_path)
        for key, _ in table.columns
        if key in table.numeric and key not in table.about
    }
    assert not missing


def test_no_definition_without_a_word(found: list[Findings], tmp_path: Path) -> None:
    """Columns that these runs do not show are at least declared somewhere."""
    made = list(declared(found, "en", tmp_path))
    used = {key for table in made for key in table.about.values()} | forms("en").keys()
    sources = "".join(path.read_text(encoding="utf-8") for path in (*ROOT.glob("*.py"), *ROOT.glob("assets/*.j2")))
    names = [table.name for table in made]
    keys = {key.removeprefix("about.") for key in phrases("en") if key.startswith("about.")}
    for key in keys - used:
        parts = [key, *(key.removeprefix(f"{name}_") for name in names if key.startswith(f"{name}_"))]
        assert any(f'"{part}"' in sources for part in parts), key
    assert forms("en").keys() == forms("tr").keys() <= keys


def test_the_glossary_says_the_same() -> None:
    rows = re.findall(r"^\| ([^|,]+)(?:, [^|]*)? \| [^|]* \| ([^|]*) \|$", GLOSSARY.read_text(encoding="utf-8"), re.M)
    meaning = {word.lower(): text for word, text in rows}
    for key, (word, *_) in forms("en").items():
        assert meaning[word.lower()] == phrases("en")[f"about.{key}"], word


def test_every_word_opens_its_definition(written: Path) -> None:
    html = (written / "report" / "index.html").read_text(encoding="utf-8")
    buttons = re.findall(
        r'<button type="button" class="term" popovertarget="about-(\w+)" title="([^"]*)">(.*?)</', html
    )
    shown = Counter(re.findall(r'<div popover class="about" id="about-(\w+)">', html))
    assert {key for key, _, _ in buttons} == shown.keys() and set(shown.values()) == {1}
    assert {unescape(title) for key, title, _ in buttons if key == "solved"} == {phrases("en")["about.solved"]}
    titles = {text for _, _, text in buttons}
    assert {"pass@1", "Solved", "div&lt;b&gt;x&lt;/b&gt;"} <= titles and not any("<" in text for text in titles)


def test_a_column_may_mean_another_thing_in_another_table(found: list[Findings]) -> None:
    made = tables.tables(found[0], Language("en"))
    assert made["data"].about["problems"] == "data_problems"
    assert made["stability"].about["forgotten"] == "forgotten"
    assert made["failures"].about["difference"] != made["contrasts"].about["difference"] == "difference"
    assert tables.results(found[1], Language("en")).about["pass1"] == "passk"


def marked(language: str, sentence: str, *keys: str) -> list[tuple[str, str]]:
    pieces = list(Terms(Language(language)).pieces(sentence, *keys))
    assert "".join(text for text, _ in pieces) == sentence
    return [(text, key) for text, key in pieces if key]


@pytest.mark.parametrize(
    ("language", "sentence", "expected"),
    [
        ("en", "Over 3 seeds, the 95% interval; another seed.", [("seeds", "seed"), ("95% interval", "interval")]),
        ("en", "Undecided: selection bias, pass@1.", "undecided selection_bias pass1"),
        ("en", "Based on seedlings: army, pass@10, x@base, rebase", []),
        ("en", "<b>base</b> & {arm}", [("base", "base"), ("arm", "arm")]),
        ("tr", "İki kolun %95 güven aralığının içinde", [("kolun", "arm"), ("güven aralığının", "interval")]),
        ("tr", "Eşdeğerlik sınırı; 3 tohumda pass@1’in", "margin seed pass1"),
        ("tr", "Kolay, kolayca", []),
    ],
)
def test_a_word_is_marked_where_it_comes_first(language: str, sentence: str, expected: Any) -> None:
    found = marked(language, sentence)
    assert ([key for _, key in found] if isinstance(expected, str) else found) == (
        expected.split() if isinstance(expected, str) else expected
    )


def test_only_the_words_that_are_asked_for() -> None:
    assert marked("en", "The base and an arm, shuffled.", "shuffled") == [("shuffled", "shuffled")]


@pytest.mark.browser
def test_a_definition_opens_without_a_script(browser: Any, written: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto((written / "report" / "index.html").as_uri())
    assert not any(part.is_visible() for part in page.locator("#theme, #seeds, .tools, .plot").all())
    assert page.locator(".still").first.is_visible()
    word, said = page.locator("#results .term").first, page.locator(".about:visible")
    assert said.count() == 0
    word.focus()
    page.keyboard.press("Enter")
    assert said.inner_text() == word.get_attribute("title")
    box = said.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] + box["height"] <= 800
    page.keyboard.press("Escape")
    assert said.count() == 0
    word.click()
    assert said.count() == 1
    page.emulate_media(media="print")
    assert said.count() == 0
    context.close()
