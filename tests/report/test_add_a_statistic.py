"""A statistic added as docs/add-a-statistic.md says: its function, its columns, its phrases, and nothing else."""

from __future__ import annotations

import csv
import io
import re
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from kiyas import report
from kiyas.analyse import Findings, analyse
from kiyas.report import charts, tables
from kiyas.report import language as phrasebook
from kiyas.report.language import Language
from kiyas.report.quoting import markdown
from kiyas.report.table import CHAPTERS, Column, Place, Section, Table, interval, label, number, table
from kiyas.stats import inference
from kiyas.stats.inference import Interval
from synthetic import make_run

GUIDE = Path(__file__).parents[2] / "docs" / "add-a-statistic.md"
TURKISH = {"table.reach": "En az bir tohumun çözdükleri", "lead.reach": "En az bir tohumun çözdüğü problemler."}


# 1. Its function
@dataclass(frozen=True)
class Reach:
    """Problems that at least one seed of an arm solves, as a share; Wilson over problems."""

    arm: str
    solved: int
    rate: float
    interval: Interval


def reaches(findings: Findings) -> list[Reach]:
    found = []
    for result in findings.results:
        places = [findings.columns.index(adapter) for adapter in result.adapters]
        n = sum(any(row.cells[i].right for i in places) for row in findings.grid)
        found.append(Reach(result.arm, n, n / findings.problems, inference.wilson(n, findings.problems)))
    return found


# 2. Its columns
def reach(findings: Findings, words: Language) -> Table:
    columns: tuple[Column[Reach], ...] = (
        label("arm", lambda row: row.arm),
        number("solved", lambda row: row.solved),
        number("reach", lambda row: row.rate, Language.percent, file="rate"),
        interval("interval", lambda row: row.interval, Language.share_interval, file="interval95"),
    )
    return table("reach", words, reaches(findings), columns, place=Place(section="results", terminal=True))


# 3. Its phrases
def phrases_of_the_guide() -> dict[str, str]:
    toml = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[0]
    return {f"{section}.{key}": said for section, keys in tomllib.loads(toml).items() for key, said in keys.items()}


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    known = phrasebook.phrases

    def phrases(language: str) -> Mapping[str, str]:
        return {**known(language), **phrases_of_the_guide(), **(TURKISH if language == "tr" else {})}

    monkeypatch.setattr(tables, "TABLES", (*tables.TABLES, reach))
    monkeypatch.setattr(phrasebook, "phrases", phrases)
    monkeypatch.setattr(charts, "charts", lambda *_: {})  # which take time and have no part in this


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Findings]:
    run = make_run(tmp_path_factory.mktemp("statistic") / "run", seeds=(0, 1), steps=(60,), problems=12)
    return run, analyse(run)


@pytest.mark.parametrize("language", ["en", "tr"])
@pytest.mark.usefixtures("added")
def test_it_is_on_the_page_in_its_file_in_the_terminal_and_in_report_md(
    findings: tuple[Path, Findings], language: str
) -> None:
    run, found = findings
    shutil.rmtree(run / "report", ignore_errors=True)
    page = report.write(run, found, language=language).read_text(encoding="utf-8")
    said, end = Language(language), "" if language == "en" else f".{language}"
    title, lead = said("table.reach"), said("lead.reach")
    results = page[page.index('<section id="results">') : page.index('<section id="loss">')]
    assert f"<h3>{title}</h3>" in results and lead in results and 'href="tables/reach.csv"' in results
    assert 'popovertarget="about-reach"' in results and page.count('id="about-reach"') == 1
    with (run / "report" / "tables" / "reach.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["arm", "solved", "rate", "interval95_low", "interval95_high"]
    assert [row["arm"] for row in rows] == ["base", "deep", "diverse"]
    document = (run / "report" / f"report{end}.md").read_text(encoding="utf-8")
    chapter = document.split(said("document.results"))[1].split(said("document.errors"))[0]
    assert f"## {title}" in chapter and lead in chapter and "](tables/reach.csv)" in document
    terminal = report.text(found, language=language)
    assert title in terminal
    for row, each in zip(rows, reaches(found), strict=True):
        assert (int(row["solved"]), float(row["rate"])) == (each.solved, pytest.approx(each.rate, abs=1e-6))
        share, limits = said.percent(each.rate), said.share_interval(each.interval)
        assert f'<td class="n">{share}</td><td class="n">{limits}</td>' in results
        assert f"| {each.arm} | {each.solved} | {share} | {markdown(limits)} |" in chapter
        assert re.search(rf"{each.arm} +{each.solved} +{re.escape(share)} +{re.escape(limits)}", terminal)


def test_the_guide_shows_what_is_tested_here() -> None:
    source, guide = Path(__file__).read_text(encoding="utf-8"), GUIDE.read_text(encoding="utf-8")
    shown = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert len(shown) == 2 and all(block in source for block in shown)


def test_every_section_has_its_place_on_the_page_and_its_chapter() -> None:
    parts = (Path(report.__file__).parent / "assets").glob("section_*.html.j2")
    templates = "".join(part.read_text(encoding="utf-8") for part in parts)
    assert set(re.findall(r'placed_in\("(\w+)"\)', templates)) | {""} == set(get_args(Section)) == set(CHAPTERS)


# -- the machinery ----------------------------------------------------------------------------------------------


def declared(rows: list[Any], *columns: Column[Any], **options: Any) -> Table:
    return table("results", Language("en"), rows, columns, **options)


def read(made: Table) -> list[list[str]]:
    return list(csv.reader(io.StringIO(made.csv())))


def test_a_dict_becomes_several_columns_of_the_file_and_an_interval_always_two() -> None:
    many: Column[int] = Column("many", lambda n: {f"pass@{k}": k * n for k in range(1, n)})
    limits: Column[int] = interval(
        "interval", lambda n: Interval(0.1, 0.2, 0.95) if n > 2 else None, Language.share_interval, file="x"
    )
    made = declared([2, 3], many, limits)
    assert read(made) == [["pass@1", "x_low", "x_high", "pass@2"], ["2", "", "", ""], ["3", "0.1", "0.2", "6"]]
    assert [row["interval"] for row in made.shown] == ["–", "10.0–20.0%"] and "many" not in made.shown[0]


def test_readers_may_see_other_rows_and_another_order_than_the_file_has() -> None:
    columns = (label("arm", lambda n: n), Column("variant", lambda n: "v"), number("seed", lambda n: -n))
    made = declared([1, 2, 3], *columns, shown=("seed", "arm"), printed=[3, 1], strong=lambda n: n == 1)
    assert read(made)[0] == ["arm", "variant", "seed"] and len(read(made)) == 4
    assert made.markdown() == "| Seed | Arm |\n|---:|---|\n| -3 | 3 |\n| **-1** | **1** |"


def test_a_table_for_the_file_only_shows_readers_nothing() -> None:
    made = declared([1], label("arm", lambda n: n), shown=())
    assert made.columns == () and read(made) == [["arm"], ["1"]]
