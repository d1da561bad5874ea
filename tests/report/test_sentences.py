"""Sentences that must be true for every input: what they leave out is named, no number is more than it is."""

from __future__ import annotations

import csv
import functools
import re
from pathlib import Path
from typing import Any

import pytest

from kiyas import report
from kiyas.analyse import Decision, analyse
from kiyas.report import methods, sentences, tables
from kiyas.report.language import Language, languages, phrases
from kiyas.runfolder.files import read_json, read_jsonl, write_json, write_jsonl
from synthetic import make_run

Row = dict[str, Any]
EN = Language("en")
small = functools.partial(make_run, problems=12, steps=(20, 120), seeds=(0,))


def text(run: Path) -> str:
    """The terminal's text, without its line breaks."""
    return " ".join(report.text(analyse(run), width=400).split())


def solved(row: Row, right: bool) -> Row:
    return {**row, "verdict": "AC" if right else "WA"}


def incomplete(row: Row) -> Row | None:
    """Of `b`, step 20 solves 10 of the 11 problems that it has, step 120 two of 12."""
    number = int(row["problem_id"][1:])
    if (row["arm"], row["step"]) == ("b", 20):
        return solved(row, number < 10) if number < 11 else None
    return solved(row, number < 2)


@pytest.mark.parametrize("language", languages())
def test_a_best_checkpoint_names_those_that_could_not_be_it(tmp_path: Path, language: str) -> None:
    run = small(tmp_path / "run", rates={"a": 0.3, "b": 0.3}, imported=True, change=incomplete)
    findings, words = analyse(run), Language(language)
    choice = next(each for each in findings.choices if each.training.arm == "b")
    assert choice.best.step == 120 and [score.adapter.step for score in findings.left_out(choice)] == [20]
    (row,) = (
        each
        for each in tables.tables(findings, words)["checkpoints"].shown
        if each["arm"] == "b" and each["step"] == "20"
    )
    assert row["solved"] == words("cell.of_known", solved=10, n=12, missing=1)
    best = tables.best_of(findings, words)
    assert "left_out" in dict(best.columns) and {row["arm"]: row["left_out"] for row in best.shown} == {
        "a": "",
        "b": "20",
    }


def test_the_usual_choice_says_what_it_leaves_out(tmp_path: Path) -> None:
    """One arm has a better checkpoint whose verdicts are not complete, another no complete one at all."""

    def change(row: Row) -> Row | None:
        if row["arm"] == "a" and row["step"] == 20:
            return solved(row, int(row["problem_id"][1:]) < 8)
        return incomplete(row)

    run = small(tmp_path / "run", rates={"a": 0.3, "b": 0.3}, imported=True, change=change)
    assert "a 20: 8/12, b 120: 2/12 (left out, since verdicts are missing: b 20)" in text(run)
    nothing = lambda row: None if row["arm"] == "c" and row["problem_id"] == "p003" else change(row)  # noqa: E731
    third = small(tmp_path / "third", rates={"a": 0.3, "b": 0.3, "c": 0.3}, imported=True, change=nothing)
    assert "c: unknown, since verdicts are missing" in text(third)


@pytest.mark.parametrize(
    ("imported", "said"), [(True, "that were imported on"), (False, "a study that was started on")]
)
def test_the_date_of_an_import_is_not_that_of_the_study(tmp_path: Path, imported: bool, said: str) -> None:
    run = small(tmp_path / "run", imported=imported)
    page = report.write(run, analyse(run))
    assert f"{said} 2 January 2026" in (run / "report" / "report.md").read_text(encoding="utf-8")
    dated = "Imported on" if imported else "Study started on"
    assert f"{dated} 2 January 2026; page made with" in page.read_text(encoding="utf-8")


def test_seeds_are_a_range_that_was_seen(tmp_path: Path) -> None:
    said = text(small(tmp_path / "run", seeds=(0, 1, 2)))
    assert "of deep seen here (3)" in said and "another pair may differ by more" in said


def one_sided(row: Row) -> Row:
    """Solved only by b: five problems; only by a: none. McNemar: .062 exact, .031 mid-p."""
    return solved(row, row["arm"] == "b" and int(row["problem_id"][1:]) < 5)


@pytest.mark.parametrize("language", languages())
def test_the_smaller_p_is_never_alone(tmp_path: Path, language: str) -> None:
    run, words = small(tmp_path / "run", rates={"a": 0.3, "b": 0.3}, change=one_sided), Language(language)
    findings = analyse(run)
    exact, mid = words.p(0.0625), words.p(0.03125)
    made = tables.tables(findings, words)
    assert {row["p"] for row in made["contrasts"].shown if findings.primary} >= {f"{mid} / {exact}"}
    assert dict(made["contrasts"].columns)["p"] == words("column.p_both")
    (first, *_) = csv.DictReader(made["contrasts"].csv().splitlines())
    assert (float(first["p"]), float(first["p_exact"])) == (0.03125, 0.0625)
    page = report.write(run, findings, language=language)
    document = page.with_name(page.name.replace("index", "report")).with_suffix(".md")
    written = [report.text(findings, language=language, width=300)]
    written += [path.read_text(encoding="utf-8") for path in (document, page)]
    for each in written:
        assert each.count(exact) >= each.count(mid) > 0
    assert "mid-p value decides" in text(run)


def test_seeds_have_one_p_and_a_plain_column(tmp_path: Path) -> None:
    table = tables.contrasts(analyse(small(tmp_path / "run", seeds=(0, 1, 2))), EN)
    assert dict(table.columns)["p"] == "p" and "/" not in table.shown[0]["p"]


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (0.97, "Trained on a, the model solves more of these problems than the base"),
        (0.03, "The base solves more of these problems than the model trained on a"),
    ],
)
def test_the_base_is_not_a_data_set(tmp_path: Path, rate: float, said: str) -> None:
    right = lambda row: solved(row, (row["arm"] == "a") == (rate > 0.5))  # noqa: E731
    for seeds in ((0, 1, 2), (0,)):
        findings = analyse(small(tmp_path / str(len(seeds)), rates={"a": rate}, seeds=seeds, problems=60, change=right))
        found = sentences.conclusion(findings, EN)
        assert findings.primary is not None and findings.primary.decision in (Decision.MORE, Decision.LESS)
        if len(seeds) > 1:
            assert found.sentence.startswith(said)
        else:
            assert "Of the base and this adapter," in found.sentence and "two adapters" not in " ".join(found.more[-1:])


def test_methods_do_not_claim_what_is_not_recorded(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    write_json(run / "resolved.json", {**read_json(run / "resolved.json"), "declared_sha256": None})
    said = " ".join(methods.paragraphs(run, analyse(run), EN))
    assert "were declared before the run is not recorded" in said and "Nothing was declared" not in said


def test_an_import_does_not_speak_of_one_base_and_recipe(tmp_path: Path) -> None:
    said = {}
    for imported in (True, False):
        findings = analyse(small(tmp_path / str(imported), seeds=(0, 1, 2), imported=imported))
        said[imported] = " ".join(sentences.conclusion(findings, EN).more)
    assert "Whether they differ in their data only is unknown" in said[True] and "this recipe" not in said[True]
    assert "this recipe" in said[False]


def test_a_secondary_benchmark_that_chose_the_checkpoint_says_so(tmp_path: Path) -> None:
    for select, said in (("last", "nothing was chosen here"), ("development", "scores there have selection bias")):
        run = small(tmp_path / select, also=["humaneval"], compare={"select": select})
        problems = run / "data" / "problems.jsonl"
        write_jsonl(
            problems,
            [{**row, "benchmark": "humaneval"} if n < 4 else row for n, row in enumerate(read_jsonl(problems))],
        )
        assert said in tables.beside(analyse(run), EN).lead


def test_a_changed_declaration_is_exploratory_in_the_badge(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    write_json(run / "resolved.json", {**read_json(run / "resolved.json"), "declared_sha256": "0" * 64})
    assert sentences.conclusion(analyse(run), EN).badge == "Undecided (exploratory)"


def test_one_thing_is_not_several_and_a_small_p_is_not_equal() -> None:
    assert [EN("methods.n_problems", n=n) for n in ("1", "1,000")] == ["1 problem", "1,000 problems"]
    for language in languages():
        said = Language(language)
        small, large = (said("pooled.how_meta", p=said.p(p), df=3) for p in (0.0001, 0.25))
        assert "p < 0" in small and "p = 0" in large
        assert not [key for key, phrase in phrases(language).items() if re.search(r"p = \{|\w\(s\)", phrase)]


@pytest.mark.parametrize("language", ["en", "tr"])
def test_the_time_that_is_needed_is_in_the_sentence(language: str) -> None:
    words = Language(language)
    told = sentences._hours(0.08, words)
    said = words("conclusion.needed_problems", difference="5", problems=300, time=told)
    assert said.endswith(").") and "300" in said and told.strip() in said


def test_one_problem_is_no_plural() -> None:
    words = Language()
    assert "1 problem." in words("remark.nothing_missing", problems=1)
    assert "41 problems." in words("remark.nothing_missing", problems=41)
