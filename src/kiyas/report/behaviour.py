"""The tables about behaviour: what is forgotten, half-solved, failed and shared; by group; programs and copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kiyas.analyse.findings import (
    Copied,
    Copying,
    Diversity,
    Failure,
    FailureDifference,
    Findings,
    Forgetting,
    Group,
    Shared,
    Sharing,
    Stuck,
)
from kiyas.report import sentences
from kiyas.report.details import TRAINING, titled
from kiyas.report.table import Column, Place, Row, Table, bounds, label, number, table
from kiyas.report.words import Words
from kiyas.stats import Interval

FEW = 10
"""Problems below which a group's share says next to nothing: its row is printed faint."""
MOST = 40
"""Rows of a list that are printed; its CSV file holds all."""
MOST_EXCEPTIONS = 8
MOST_TAGS = 5
PLACE = Place(section="behaviour")
SHARE = (Words.percent, Words.share_interval)
POINTS = (Words.points, Words.points_interval)


def _folded(title: str) -> Place:
    return Place(section="behaviour", heading="", fold=title)


def _first(name: str, rows: int, words: Words) -> str:
    """The title of a list that may be cut."""
    title = words(f"table.{name}")
    return title if rows <= MOST else words("cell.first_of", title=title, shown=MOST, n=rows)


def _with_interval(
    key: str,
    value: Callable[[Row], float | None],
    of: Callable[[Row], Interval | None],
    say: tuple[Callable[[Words, float | None], str], Callable[[Words, Interval | None], str]],
    *,
    file: str,
    limits: str,
) -> Column[Row]:
    """A number and its interval: for readers in one column, in the CSV file FILE, LIMITS_low and LIMITS_high."""

    def show(row: Row, words: Words) -> str:
        said, found = say[0](words, value(row)), of(row)
        return f"{said} ({say[1](words, found)})" if found else said

    return Column(key, lambda row: {file: value(row), **bounds(limits, of(row))}, show, numeric=True)


def forgetting(findings: Findings, words: Words) -> Table:
    columns: tuple[Column[Forgetting], ...] = (
        label("arm", lambda each: each.arm),
        Column("steps", lambda each: each.steps),
        number("lost", lambda each: each.lost, Words.number, file="lost_per_step"),
        _with_interval(
            "lost_rate", lambda each: each.rate, lambda each: each.interval, SHARE, file="rate", limits="interval95"
        ),
        Column(
            "source",
            lambda each: each.source or None,
            lambda each, words: words(f"floor.{each.source or 'unknown'}"),
            file="floor_source",
        ),
        number("floor_lost", lambda each: each.floor_lost, Words.number),
        _with_interval(
            "floor",
            lambda each: each.floor,
            lambda each: each.floor_interval,
            SHARE,
            file="floor",
            limits="floor_interval95",
        ),
        _with_interval(
            "excess",
            lambda each: each.excess,
            lambda each: each.excess_interval,
            POINTS,
            file="excess",
            limits="excess_interval95",
        ),
    )
    shown = ("arm", "lost", "lost_rate", "floor_lost", "floor", "source", "excess")
    return table("forgetting", words, findings.behaviour.forgetting, columns, shown=shown, place=PLACE)


def _by_verdict(failing: Mapping[str, str]) -> str:
    of: dict[str, list[str]] = {}
    for n, verdict in failing.items():
        of.setdefault(verdict, []).append(n)
    return "; ".join(f"{verdict} {', '.join(tests)}" for verdict, tests in of.items())


def stuck(findings: Findings, words: Words) -> Table:
    def failing(each: Stuck, words: Words) -> str:
        if each.failing is None:
            return words("cell.not_recorded")
        return _by_verdict(each.failing) or words("cell.changing")

    columns: tuple[Column[Stuck], ...] = (
        *TRAINING[:2],
        label("seed", lambda each: each.training.seed, numeric=True),
        label("problem", lambda each: each.problem),
        Column("title", lambda each: each.title, lambda each, _: titled(each.title, each.problem)),
        label("k", lambda each: each.checkpoints, numeric=True, file="checkpoints"),
        Column(
            "stretch",
            lambda each: {
                "from_step": each.from_step,
                "to_step": each.to_step,
                "to_the_end": int(each.to_the_end),
            },
            lambda each, _: f"{each.from_step}–{each.to_step}" + ("" if each.to_the_end else " ↷"),
            numeric=True,
        ),
        Column(
            "passed",
            lambda each: {"passed": each.passed, "total": each.total},
            lambda each, words: words("cell.of", solved=each.passed, n=each.total),
            numeric=True,
        ),
        Column(
            "still_failing",
            lambda each: None if each.failing is None else _by_verdict(each.failing),
            failing,
            file="failing",
        ),
    )
    rows = sorted(findings.behaviour.stuck, key=lambda each: -each.checkpoints)
    title = _first("stuck", len(rows), words)
    return table("stuck", words, rows, columns, printed=rows[:MOST], title=title, place=_folded(title))


@dataclass(frozen=True)
class _Way:
    """A way in which answers end: `counts` by arm; an exception's is below that of its class."""

    name: str
    said: str
    counts: Mapping[str, int]
    meaning: str = ""
    exception: str = ""
    compared: FailureDifference | None = None


class _OfArm(NamedTuple):
    """What one line of readers holds of one arm: a row of the CSV file."""

    way: _Way
    arm: str


def _ways(findings: Findings, words: Words) -> list[_Way]:
    outcomes = findings.behaviour.outcomes
    difference = {each.failure: each for each in findings.behaviour.differences}
    ways = []
    if any(each.answers for each in outcomes):
        ways.append(_Way("solved", words("failure.solved"), {each.arm: each.solved for each in outcomes}))
    for failure in Failure:
        counts = {each.arm: each.failures.get(failure.value, 0) for each in outcomes}
        if any(counts.values()):
            said, meaning = words(f"failure.{failure}"), words(f"failure.{failure}_text")
            ways.append(_Way(failure.value, said, counts, meaning, compared=difference.get(failure)))
        if failure is Failure.CRASH:
            met: Counter[str] = Counter()
            for each in outcomes:
                met.update(each.exceptions)
            for exception, _ in met.most_common(MOST_EXCEPTIONS):
                counts = {each.arm: each.exceptions.get(exception, 0) for each in outcomes}
                said = f"· {exception or words('cell.not_recorded')}"
                ways.append(_Way("crash", said, counts, exception=exception or "not recorded"))
    return ways


def failures(findings: Findings, words: Words) -> Table:
    """One row a class, for readers one column an arm; below the crashes their exceptions."""
    outcomes, ways = findings.behaviour.outcomes, _ways(findings, words)
    answers = {each.arm: each.answers for each in outcomes}
    owed = _Way("owed", words("failure.owed"), {each.arm: each.owed for each in outcomes}, words("failure.owed_text"))

    def arm(name: str) -> Column[_OfArm]:
        def show(row: _OfArm, words: Words) -> str:
            n = row.way.counts[name]
            return str(n) if row.way is owed else _count(n, answers[name], words)

        return Column(f"arm {name}", show=show, numeric=True, title=sentences.arm_name(words, name))

    def compared(row: _OfArm) -> FailureDifference | None:
        """The difference from the first arm of the question, in the row of the second."""
        return row.way.compared if row.arm == findings.wanted[-1] else None

    columns: tuple[Column[_OfArm], ...] = (
        Column("failure", lambda row: row.way.name, lambda row, _: row.way.said),
        Column("exception", lambda row: row.way.exception),
        Column("arm", lambda row: row.arm),
        *(arm(name) for name in answers),
        Column("answers", lambda row: answers[row.arm]),
        Column("count", lambda row: row.way.counts[row.arm]),
        Column(
            "difference",
            lambda row: found.difference if (found := compared(row)) else None,
            lambda row, words: words.points(row.way.compared.difference) if row.way.compared else "",
            numeric=True,
        ),
        Column(
            "interval",
            lambda row: bounds("interval95", found.interval if (found := compared(row)) else None),
            lambda row, words: words.points_interval(row.way.compared.interval) if row.way.compared else "",
            numeric=True,
        ),
        Column(
            "p",
            lambda row: found.p if (found := compared(row)) else None,
            lambda row, words: words.p(row.way.compared.p) if row.way.compared else "",
            numeric=True,
        ),
        Column("meaning", show=lambda row, _: row.way.meaning),
    )
    printed = [*ways, owed] if any(owed.counts.values()) else ways
    tested = ("difference", "interval", "p") if findings.behaviour.differences else ()
    return table(
        "failures",
        words,
        [_OfArm(way, arm) for way in ways for arm in answers],
        columns,
        printed=[_OfArm(way, "") for way in printed],
        shown=("failure", *(f"arm {name}" for name in answers), *tested, "meaning"),
        place=PLACE,
    )


def _count(n: int, of: int, words: Words) -> str:
    return f"{n} ({words.percent(n / of)})" if n else "0"


def _sharing(findings: Findings, kind: Sharing, words: Words) -> str:
    a, b = (sentences.arm_name(words, arm) for arm in findings.wanted)
    return words(f"sharing.{kind}", a=a, b=b)


class _Kind(NamedTuple):
    sharing: Sharing
    problems: int
    tags: str


def sharing(findings: Findings, words: Words) -> Table:
    """How many problems both arms fail, one alone, or neither; with the tags met most there."""

    def row(kind: Sharing) -> _Kind:
        of_kind = [each for each in findings.behaviour.shared if each.sharing is kind]
        met = Counter(tag for each in of_kind for tag in each.tags)
        return _Kind(kind, len(of_kind), ", ".join(f"{tag} {n}" for tag, n in met.most_common(MOST_TAGS)))

    columns: tuple[Column[_Kind], ...] = (
        Column("sharing", lambda row: row.sharing.value, lambda row, words: _sharing(findings, row.sharing, words)),
        label("problems", lambda row: row.problems, numeric=True),
        label("tags", lambda row: row.tags),
    )
    rows = [row(kind) for kind in Sharing] if findings.behaviour.shared else []
    return table("sharing", words, rows, columns, place=PLACE)


def shared(findings: Findings, words: Words) -> Table:
    """The problems behind `sharing`; in the CSV file all of them."""
    rows = findings.behaviour.shared
    first, second = findings.wanted if rows else ("", "")

    def fails(side: str, arm: str) -> tuple[Column[Shared], Column[Shared]]:
        def show(each: Shared, words: Words) -> str:
            failure = getattr(each, side)
            return words(f"failure.{failure}") if failure else ""

        name = sentences.arm_name(words, arm)
        return (
            Column(side, lambda _: arm),
            Column(f"{side}_fails", lambda each: getattr(each, side), show, title=name),
        )

    columns: tuple[Column[Shared], ...] = (
        label("problem", lambda each: each.problem),
        Column("title", lambda each: each.title, lambda each, _: titled(each.title, each.problem)),
        Column("sharing", lambda each: each.sharing.value, lambda each, words: _sharing(findings, each.sharing, words)),
        label("tags", lambda each: ", ".join(each.tags)),
        *fails("a", first),
        *fails("b", second),
    )
    # One arm alone first: those are fewer, and what is asked.
    failed = [each for each in rows if each.sharing in (Sharing.ONLY_A, Sharing.ONLY_B)]
    failed += [each for each in rows if each.sharing is Sharing.BOTH]
    title = _first("shared", len(failed), words)
    return table(
        "shared",
        words,
        rows,
        columns,
        printed=failed[:MOST],
        shown=("problem", "title", "sharing", "a_fails", "b_fails", "tags"),
        title=title,
        place=_folded(title),
    )


class _GroupOfArm(NamedTuple):
    group: Group
    arm: str


def groups(findings: Findings, words: Words) -> Table:
    """For readers one row a group and one column an arm."""
    found, arms = findings.behaviour, [result.arm for result in findings.results]

    def rate(arm: str) -> Column[_GroupOfArm]:
        def show(row: _GroupOfArm, words: Words) -> str:
            return f"{words.percent(row.group.rates[arm])} ({words.share_interval(row.group.intervals[arm])})"

        return Column(f"arm {arm}", show=show, numeric=True, title=sentences.arm_name(words, arm))

    def size(row: _GroupOfArm, words: Words) -> str:
        return f"{row.group.problems} {words('cell.few')}" if row.group.problems < FEW else str(row.group.problems)

    columns: tuple[Column[_GroupOfArm], ...] = (
        Column("kind", lambda row: row.group.kind, lambda row, words: words(f"group.{row.group.kind}")),
        Column("group", lambda row: row.group.name, lambda row, words: row.group.name or words("group.none")),
        Column("problems", lambda row: row.group.problems, size, numeric=True),
        Column("arm", lambda row: row.arm),
        *map(rate, arms),
        Column("pass1", lambda row: row.group.rates[row.arm]),
        Column("interval", lambda row: bounds("interval95", row.group.intervals[row.arm])),
    )
    return table(
        "groups",
        words,
        [_GroupOfArm(group, arm) for group in found.groups for arm in arms],
        columns,
        printed=[_GroupOfArm(group, "") for group in found.groups],
        faint=lambda row: row.group.problems < FEW,
        lead=" ".join(words(f"lead.{key}") for key in ("groups", f"tags_{found.tags_from or 'none'}")),
        place=PLACE,
    )


def diversity(findings: Findings, words: Words) -> Table:
    def two(words: Words, programs: float) -> str:
        return words.number(programs, 2)

    columns: tuple[Column[Diversity], ...] = (
        Column("arm", lambda each: each.arm, lambda each, words: sentences.arm_name(words, each.arm)),
        label("problems", lambda each: each.problems, numeric=True),
        number("programs", lambda each: each.programs, two),
        number("trees", lambda each: each.trees, two),
        Column(
            "behaviours",
            lambda each: each.behaviours,
            lambda each, words: words("cell.not_recorded") if each.behaviours is None else two(words, each.behaviours),
            numeric=True,
        ),
    )
    return table("diversity", words, findings.behaviour.diversity, columns, place=PLACE)


def copying(findings: Findings, words: Words) -> Table:
    columns: tuple[Column[Copying], ...] = (
        label("data", lambda each: each.data),
        label("solutions", lambda each: each.solutions, numeric=True),
        Column("programs_of", lambda each: each.arm, lambda each, words: sentences.arm_name(words, each.arm)),
        label("programs", lambda each: each.programs, numeric=True),
        number("run", lambda each: each.run, Words.count, file="median_run"),
        number("share", lambda each: each.share, Words.percent, file="median_share"),
        label("longest", lambda each: each.longest, numeric=True, file="longest_run"),
        Column(
            "near",
            lambda each: each.near,
            lambda each, words: _count(each.near, each.programs, words),
            numeric=True,
            file="near_duplicates",
        ),
    )
    return table("copying", words, findings.behaviour.copying, columns, place=PLACE)


def copied(findings: Findings, words: Words) -> Table:
    columns: tuple[Column[Copied], ...] = (
        label("arm", lambda each: each.adapter.arm),
        Column("variant", lambda each: each.adapter.variant),
        label("seed", lambda each: each.adapter.seed, numeric=True),
        Column("step", lambda each: each.adapter.step),
        label("problem", lambda each: each.problem),
        Column(
            "run",
            lambda each: {"run": each.run, "tokens": each.tokens},
            lambda each, words: words("cell.of", solved=each.run, n=each.tokens),
            numeric=True,
        ),
        Column("near", lambda each: int(each.near), lambda each, _: "●" if each.near else "", file="near_duplicate"),
        label("row", lambda each: each.row, file="training_row"),
    )
    return table("copied", words, findings.behaviour.copied, columns, place=_folded(words("table.copied")))
