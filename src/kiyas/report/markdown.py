"""report.md: the same sentences and tables as the page, for a repository or a chat."""

from __future__ import annotations

from kiyas.analyse.findings import Findings, Level
from kiyas.report import sentences
from kiyas.report.charts import Chart
from kiyas.report.tables import Table
from kiyas.report.words import Words

BEHAVIOUR = ("failures", "sharing", "shared", "groups", "forgetting", "stuck", "diversity", "copying", "copied")


def render(findings: Findings, words: Words, tables: dict[str, Table], charts: dict[str, Chart]) -> str:
    found = sentences.conclusion(findings, words)
    lines = [f"# {plain(findings.name)}", "", f"**{plain(found.badge)}.** {plain(found.sentence)}", ""]
    lines += [f"- {plain(line)}" for line in found.more]
    warnings = sentences.remarks(findings, words, Level.WARNING, Level.NOTE)
    if warnings:
        lines += ["", f"## {words('heading.read_first')}", ""]
        lines += [f"- **{words(f'level.{r.level}')}.** {plain(said)}" for r, said in warnings]
    for key in (
        "results",
        "contrasts",
        "rates",
        "at_each_rate",
        "beside",
        "beside_contrasts",
        "best_of",
        "checkpoints",
        "readings",
        "loss_matrix",
        "partial",
        "stability",
        "forgotten",
        *BEHAVIOUR,
    ):
        table = tables.get(key)
        if table is None:
            continue
        if key == BEHAVIOUR[0]:
            lines += ["", f"## {words('heading.behaviour')}", "", sentences.behaviour_lead(findings, words)]
        lines += ["", f"{'###' if key in BEHAVIOUR else '##'} {table.title}", ""]
        lines += [sentences.about(findings, words, key), ""] if key in BEHAVIOUR else []
        lines.append(table.markdown())
        if key == "contrasts":
            lines += _figures(charts, "differences")
        if key == "checkpoints":
            lines += _figures(charts, "pass")
        if key == "readings":
            lines += _figures(charts, *(name for name in charts if name.startswith("loss-")))
    for said in sentences.not_known(findings, words):
        lines += ["", plain(said)]
    if findings.notes:
        lines += ["", f"## {words('heading.notes')}", "", *(f"- {plain(note)}" for note in findings.notes)]
    return "\n".join(lines) + "\n"


def _figures(charts: dict[str, Chart], *names: str) -> list[str]:
    lines: list[str] = []
    for name in names:
        if name in charts:
            label = plain(charts[name].label).replace("[", "(").replace("]", ")")
            lines += ["", f"![{label}](figures/{name}.svg)"]
    return lines


def plain(text: str) -> str:
    """Names come from files: they may not become markup."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}") if character != "<" else text.replace("<", "&lt;")
    return text.replace("\n", " ")
