"""The tables about what the arms were trained on. Where nothing was measured, as in an import, there are none."""

from __future__ import annotations

from collections.abc import Callable

from kiyas.analyse.findings import DataFacts, Findings, SharedRows
from kiyas.report.language import DASH, Language
from kiyas.report.table import Column, Place, Table, label, number, part_of, table


def _mean(words: Language, value: float) -> str:
    """So that 5 is not 5.0, and 1.04 is not 1."""
    return words.number(value, 0 if value == round(value) else 2)


def data(findings: Findings, words: Language) -> Table:
    """What `kiyas check` measures of each arm, as the run's data stage measured it."""

    def count(key: str, value: Callable[[DataFacts], int | None], file: str = "") -> Column[DataFacts]:
        return number(key, value, Language.integer, none=DASH, file=file)

    columns: tuple[Column[DataFacts], ...] = (
        label("arm", lambda row: row.arm),
        Column("source", lambda row: row.source),
        count("rows", lambda row: row.rows),
        count("problems", lambda row: row.problems),
        number("solutions_per_problem", lambda row: row.solutions_per_problem, _mean),
        number("approaches_per_problem", lambda row: row.approaches_per_problem, _mean),
        count("answer_tokens", lambda row: row.answer_tokens),
        count("longest_row", lambda row: row.longest, file="longest"),
        count("duplicates", lambda row: row.duplicates),
        count("near_duplicates", lambda row: row.near_duplicates),
        count("contaminated", lambda row: row.contaminated),
        count("held_out", lambda row: row.validation, file="validation"),
    )
    return table("data", words, findings.data, columns, place=Place(section="data", heading=""))


def shared_rows(findings: Findings, words: Language) -> Table:
    """How much of their data every two arms share."""
    columns: tuple[Column[SharedRows], ...] = (
        label("a", lambda row: row.a),
        label("b", lambda row: row.b),
        part_of("a_shared", lambda row: {"a_shared": row.a_shared, "a_rows": row.a_rows}),
        part_of("b_shared", lambda row: {"b_shared": row.b_shared, "b_rows": row.b_rows}),
        Column("prompts", lambda row: {"a_prompts": row.a_prompts, "b_prompts": row.b_prompts}),
        number("shared_problems", lambda row: row.problems, Language.integer, file="problems"),
    )
    place = Place(section="data", heading="", fold=words("table.shared_rows"))
    return table("shared_rows", words, findings.shared_rows, columns, place=place)
