"""The tables about training and single problems: readings, losses, partly solved, stability, the grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from kiyas.analyse.findings import Cell, Curve, Findings, GridRow, LossCell, LossPoint, Stability, Training
from kiyas.report import sentences
from kiyas.report.language import DASH, Language
from kiyas.report.table import SHARE, Column, Place, Row, Table, estimate, label, number, table
from kiyas.types import AdapterId

KINDS = ("always", "learned", "forgotten", "flickering", "never")


class OfTraining(Protocol):
    """A row about one training."""

    @property
    def training(self) -> Training: ...


TRAINING: tuple[Column[OfTraining], ...] = (
    label("arm", lambda row: row.training.arm),
    Column("variant", lambda row: row.training.variant),
    label("seed", lambda row: row.training.seed),
)


def title(of: Callable[[Row], str], problem: Callable[[Row], str]) -> Column[Row]:
    """A problem's title; readers see none that only repeats the id."""
    return Column("title", of, lambda row, _: of(row) if of(row) != problem(row) else "")


def readings(findings: Findings, words: Language) -> Table:
    """What was computed of the loss curves; a CSV file, since page and report.md say it in sentences."""
    keys = ("of", "lowest_step", "lowest", "last_step", "last", "overfits", "rise", "gap", "far_below", "slow_step")
    files = {"overfits": "turned"}
    columns: tuple[Column[Curve], ...] = (
        *TRAINING,
        Column(
            "reading",
            lambda curve: {files.get(key, key): getattr(curve.reading, key) if curve.reading else None for key in keys},
        ),
    )
    return table("readings", words, findings.curves, columns, shown=())


class _Loss(NamedTuple):
    training: Training
    set: str
    point: LossPoint


def losses(findings: Findings, words: Language) -> Table:
    """Every logged loss; a CSV file, since page and report.md draw it."""
    rows = [
        _Loss(curve.training, name, point)
        for curve in findings.curves
        for name, points in (("train", curve.train), ("validation", curve.validation), *curve.others.items())
        for point in points
    ]
    columns: tuple[Column[_Loss], ...] = (
        *TRAINING,
        Column("set", lambda row: row.set),
        Column("step", lambda row: row.point.step),
        Column("epoch", lambda row: row.point.epoch),
        Column("loss", lambda row: row.point.loss),
    )
    return table("losses", words, rows, columns, shown=())


def loss_matrix(findings: Findings, words: Language) -> Table:
    """Last losses of every arm on every arm's validation set, where there are several sets."""
    cells = findings.loss_matrix if len({cell.on for cell in findings.loss_matrix}) > 1 else ()

    def spread(cell: LossCell, words: Language) -> str:
        return f"{words.number(cell.low, 3)}–{words.number(cell.high, 3)}" if cell.seeds > 1 else DASH

    columns: tuple[Column[LossCell], ...] = (
        label("arm", lambda cell: cell.arm),
        label("set", lambda cell: cell.on),
        number("loss", lambda cell: cell.mean, lambda words, loss: words.number(loss, 3)),
        Column("range", lambda cell: {"low": cell.low, "high": cell.high}, spread, numeric=True),
        number("seeds", lambda cell: cell.seeds),
    )
    place = Place(section="loss", fold=words("table.loss_matrix"))
    return table("loss_matrix", words, cells, columns, strong=lambda cell: cell.arm == cell.on, place=place)


class _Partly(NamedTuple):
    problem: GridRow
    adapter: AdapterId
    cell: Cell


def partial(findings: Findings, words: Language) -> Table:
    """Problems of which a chosen checkpoint passes some tests and not all; for readers one column a checkpoint."""
    chosen = [adapter for result in findings.results for adapter in result.adapters]
    partly = {adapter: score.partial for adapter in chosen if (score := findings.score(adapter))}
    place_of = {adapter: i for i, adapter in enumerate(findings.columns)}
    rows = [
        _Partly(row, adapter, row.cells[place_of[adapter]])
        for row in findings.grid
        for adapter in chosen
        if row.problem in partly.get(adapter, ())
    ]
    seeds = len({adapter.seed for adapter in chosen}) > 1

    def checkpoint(adapter: AdapterId) -> Column[_Partly]:
        def show(row: _Partly, words: Language) -> str:
            cell = row.problem.cells[place_of[adapter]]
            if row.problem.problem in partly.get(adapter, ()):
                passed = cell.passed or 0
                most = f"–{passed + cell.not_run}" if cell.not_run else ""
                return words("cell.of", solved=f"{passed}{most}", n=cell.total)
            return "✓" if cell.samples and cell.right == cell.samples else ""

        short = sentences.short(words, adapter, seed=seeds)
        return Column(str(adapter), show=show, numeric=True, title=short, about="partial")

    columns: tuple[Column[_Partly], ...] = (
        label("problem", lambda row: row.problem.problem),
        title(lambda row: row.problem.title, lambda row: row.problem.problem),
        *map(checkpoint, chosen),
        Column("adapter", lambda row: row.adapter.fields()),
        Column("verdict", lambda row: row.cell.verdict),
        Column("passed", lambda row: row.cell.passed),
        Column("total", lambda row: row.cell.total),
        Column("not_run", lambda row: row.cell.not_run),
    )
    printed = list({row.problem.problem: row for row in rows}.values())
    return table(
        "partial",
        words,
        rows,
        columns,
        printed=printed,
        place=Place(section="problems", fold=f"{words('table.partial')} ({len(printed)})"),
    )


def stability(findings: Findings, words: Language) -> Table:
    def kind(name: str) -> Column[Stability]:
        def show(each: Stability, words: Language) -> str:
            n = len(getattr(each, name))
            if name not in each.shuffled:
                return str(n)
            return words("cell.shuffled", n=n, chance=words.number(each.shuffled[name]))

        return Column(name, lambda each: len(getattr(each, name)), show, numeric=True)

    columns: tuple[Column[Stability], ...] = (
        *TRAINING,
        number("k", lambda each: each.checkpoints, file="checkpoints"),
        *map(kind, KINDS),
        Column("shuffled", lambda each: {f"{kind}_in_random_order": n for kind, n in each.shuffled.items()}),
        estimate(
            "forgetting",
            lambda each: each.forgetting_rate,
            lambda each: each.forgetting,
            SHARE,
            file="forgetting_rate",
            limits="forgetting",
        ),
    )
    place = Place(section="stability", heading="")
    return table("stability", words, findings.stability, columns, place=place)


class _Trajectory(NamedTuple):
    training: Training
    problem: str
    pattern: str


def trajectories(findings: Findings, words: Language) -> Table:
    """The pattern of every problem in every training; a CSV file only."""
    rows = [
        _Trajectory(each.training, problem, kind)
        for each in findings.stability
        for kind in KINDS
        for problem in getattr(each, kind)
    ]
    columns: tuple[Column[_Trajectory], ...] = (
        *TRAINING,
        Column("problem", lambda row: row.problem),
        Column("pattern", lambda row: row.pattern),
    )
    return table("trajectories", words, rows, columns, shown=(), place=Place(section="stability"))


class _Forgotten(NamedTuple):
    training: Training
    problem: str
    title: str
    last: AdapterId | None


def forgotten(findings: Findings, words: Language) -> Table:
    """Each forgotten problem with the last point at which it was still solved: the base (step 0) or a checkpoint."""
    of_problem = {row.problem: row for row in findings.grid}

    def last_solved(training: Training, row: GridRow) -> AdapterId | None:
        who = (training.arm, training.variant, training.seed)
        solved = [
            adapter
            for adapter, cell in zip(findings.columns, row.cells, strict=True)
            if (adapter.training == who or adapter.is_base) and cell.samples and 2 * cell.right >= cell.samples
        ]
        return solved[-1] if solved else None

    rows = [
        _Forgotten(each.training, problem, "" if row.title == problem else row.title, last_solved(each.training, row))
        for each in findings.stability
        for problem in each.forgotten
        for row in [of_problem[problem]]
    ]
    columns: tuple[Column[_Forgotten], ...] = (
        *TRAINING,
        label("problem", lambda row: row.problem),
        label("title", lambda row: row.title),
        Column(
            "last_solved",
            lambda row: {"last_solved_step": row.last.step if row.last else None},
            lambda row, words: sentences.checkpoint(words, row.last) if row.last else DASH,
        ),
    )
    fold = f"{words('table.forgotten')} ({len(rows)})"
    place = Place(section="stability", fold=fold)
    return table("forgotten", words, rows, columns, place=place)


def grid(findings: Findings, words: Language) -> Table:
    """Every problem at every checkpoint; a CSV file, since the page has the grid."""

    def verdict(cell: Cell) -> str:
        return cell.verdict or "missing" if cell.samples <= 1 else f"{cell.right}/{cell.samples}"

    columns: tuple[Column[GridRow], ...] = (
        Column("problem", lambda row: row.problem),
        Column("title", lambda row: row.title),
        Column(
            "checkpoints",
            lambda row: {
                str(adapter): verdict(cell) for adapter, cell in zip(findings.columns, row.cells, strict=True)
            },
        ),
    )
    return table("grid", words, findings.grid, columns, shown=())
