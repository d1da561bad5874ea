"""What the report says of the training data: the table, a sample row of each arm; nothing where nothing is known."""

from __future__ import annotations

import csv
import dataclasses
import re
from html import unescape
from pathlib import Path

import pytest

from kiyas.analyse import Findings
from kiyas.report import tables
from kiyas.report.language import DASH, Language, languages
from kiyas.report.page import page
from kiyas.similarity.shared_rows import SharedRows
from synthetic import HOSTILE


@pytest.fixture(scope="module")
def findings(analysed: tuple[Path, Findings]) -> Findings:
    return analysed[1]


def section(html: str) -> str:
    found = re.search(r'<section id="data">(.*?)</section>', html, re.DOTALL)
    return found[1] if found else ""


def test_the_table_and_its_file(written: Path, findings: Findings) -> None:
    made = tables.tables(findings, Language("en"))["data"]
    assert [row["arm"] for row in made.shown] == ["deep", "div<b>x</b>"]
    expected = ("deep", "1,001", "1,002", "1", "1.25", "1,003", "1,004", "7", "8", DASH, "1,005")
    assert tuple(made.shown[0][key] for key, _ in made.columns) == expected
    with (written / "report" / "tables" / "data.csv").open(newline="", encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert (first["validation"], first["longest"], first["contaminated"]) == ("1005", "1004", "")


def test_a_sample_row_is_text_and_what_is_learned_is_marked(written: Path) -> None:
    said = section((written / "report" / "index.html").read_text(encoding="utf-8"))
    shown = HOSTILE.replace("\u2028", "\N{REPLACEMENT CHARACTER}")
    rows = re.findall(r'<pre class="sample" tabindex="0">(.*?)<mark>(.*?)</mark></pre>', said, re.DOTALL)
    assert [tuple(map(unescape, row)) for row in rows] == [(shown, shown)] * 2
    assert "<script" not in said and "div&lt;b&gt;x&lt;/b&gt;" in said


@pytest.mark.parametrize("language", languages())
def test_without_training_data_nothing_is_shown(written: Path, findings: Findings, language: str) -> None:
    words = Language(language)
    none = dataclasses.replace(findings, data=(), shared_rows=())
    made = tables.tables(none, words)
    html = page(written, none, words, made, {}, [], "")
    assert "data" not in made and not section(html) and 'href="#training-data"' not in html
    shared = SharedRows("deep", "other", 10, 20, 3, 4, 5, 6, 2)
    made = tables.tables(dataclasses.replace(none, shared_rows=(shared,)), words)
    assert made["shared_rows"].shown[0]["shared_problems"] == "2" and "3" in made["shared_rows"].shown[0]["a_shared"]
