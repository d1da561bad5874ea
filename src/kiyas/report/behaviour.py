"""The tables about behaviour: what is lost, gained, half-solved, failed, shared; by group; programs and copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kiyas.analyse.findings import (
    Copied,
    Copying,
    Diversity,
    Failure,
    FailureDifference,
    Findings,
    Group,
    LostAndGained,
    Shared,
    Sharing,
    Stuck,
)
from kiyas.report import sentences
from kiyas.report.details import TRAINING, title
from kiyas.report.language import Language
from kiyas.report.table import (
    POINTS,
    Column,
    Place,
    Table,
    bounds,
    estimate,
    interval,
    label,
    mark,
    number,
    part_of,
    table,
)

FEW = 10
"""Problems below which a group's share says almost nothing: its row is printed faint."""
MOST = 40
"""Rows of a list that are printed; its CSV file holds all."""
MOST_EXCEPTIONS = 8
MOST_TAGS = 5
PLACE = Place(section="behaviour")
STABILITY = Place(section="stability")


def _folded(title: str) -> Place:
    return Place(section="behaviour", fold=title)


def _first(name: str, rows: int, words: Language) -> str:
    """The title of a list that may be cut."""
    title = words(f"table.{name}")
    return title if rows <= MOST else words("cell.first_of", title=title, shown=MOST, n=rows)


def lost_and_gained(findings: Findings, words: Language) -> Table:
    columns: tuple[Column[LostAndGained], ...] = (
        label("arm", lambda each: each.arm),
        label("start", lambda each: each.start.value, lambda words, start: words(f"start.{start}")),
        Column("trainings", lambda each: each.trainings),
        number("problems", lambda each: each.problems),
        number("solved_there", lambda each: each.solved, Language.number, file="solved_at_start"),
        number("lost", lambda each: each.lost, Language.number),
        number("gained", lambda each: each.gained, Language.number),
        estimate("net", lambda each: each.net, lambda each: each.interval, POINTS, limits="interval95"),
        number("p", lambda each: each.p, Language.p),
    )
    shown = ("arm", "start", "solved_there", "lost", "gained", "net", "p")
    return table("lost_and_gained", words, findings.behaviour.lost_and_gained, columns, shown=shown, place=STABILITY)


def stuck(findings: Findings, words: Language) -> Table:
    columns: tuple[Column[Stuck], ...] = (
        *TRAINING[:2],
        number("seed", lambda each: each.training.seed),
        label("problem", lambda each: each.problem),
        title(lambda each: each.title, lambda each: each.problem),
        number("k", lambda each: each.checkpoints, file="checkpoints"),
        Column(
            "stretch",
            lambda each: {"from_step": each.from_step, "to_step": each.to_step, "to_the_end": int(each.to_the_end)},
            lambda each, _: f"{each.from_step}–{each.to_step}" + ("" if each.to_the_end else " ↷"),
            numeric=True,
        ),
        part_of("passed", lambda each: {"passed": each.passed, "total": each.total}),
        label(
            "still_failing",
            _still_failing,
            lambda words, failing: failing or words("cell.changing"),
            none=words("cell.not_recorded"),
            file="failing",
        ),
    )
    rows = sorted(findings.behaviour.stuck, key=lambda each: -each.checkpoints)
    heading = _first("stuck", len(rows), words)
    return table("stuck", words, rows, columns, printed=rows[:MOST], title=heading, place=_folded(heading))


def _still_failing(each: Stuck) -> str | None:
    if each.failing is None:
        return None
    of: dict[str, list[str]] = {}
    for n, verdict in each.failing.items():
        of.setdefault(verdict, []).append(n)
    return "; ".join(f"{verdict} {', '.join(tests)}" for verdict, tests in of.items())


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


def _ways(findings: Findings, words: Language) -> list[_Way]:
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


def failures(findings: Findings, words: Language) -> Table:
    """One row a class, for readers one column an arm; below the crashes their exceptions."""
    outcomes, ways, asked = findings.behaviour.outcomes, _ways(findings, words), findings.wanted[-1:]
    answers = {each.arm: each.answers for each in outcomes}
    missing = _Way(
        "owed", words("failure.missing"), {each.arm: each.missing for each in outcomes}, words("failure.missing_text")
    )

    def arm(name: str) -> Column[_OfArm]:
        def show(row: _OfArm, words: Language) -> str:
            n = row.way.counts[name]
            return str(n) if row.way is missing else _count(n, answers[name], words)

        title = sentences.arm_name(words, name)
        return Column(f"arm {name}", show=show, numeric=True, title=title, about="failure_share")

    def compared(row: _OfArm, what: str) -> Any:
        """The difference from the first arm of the question, in the row of the second."""
        return getattr(row.way.compared, what, None) if row.arm in asked else None

    columns: tuple[Column[_OfArm], ...] = (
        Column("failure", lambda row: row.way.name, lambda row, _: row.way.said),
        Column("exception", lambda row: row.way.exception),
        Column("arm", lambda row: row.arm),
        *map(arm, answers),
        Column("answers", lambda row: answers[row.arm]),
        Column("count", lambda row: row.way.counts[row.arm]),
        number("difference", lambda row: compared(row, "difference"), Language.points, none=""),
        interval(
            "interval", lambda row: compared(row, "interval"), Language.points_interval, none="", file="interval95"
        ),
        number("p", lambda row: compared(row, "p"), Language.p, none=""),
        Column("meaning", show=lambda row, _: row.way.meaning),
    )
    printed = [*ways, missing] if any(missing.counts.values()) else ways
    tested = ("difference", "interval", "p") if findings.behaviour.differences else ()
    return table(
        "failures",
        words,
        [_OfArm(way, arm) for way in ways for arm in answers],
        columns,
        printed=[_OfArm(way, "".join(asked)) for way in printed],
        shown=("failure", *(f"arm {name}" for name in answers), *tested, "meaning"),
        place=PLACE,
    )


def _count(n: int, of: int, words: Language) -> str:
    return f"{n} ({words.percent(n / of)})" if n else "0"


class _Kind(NamedTuple):
    sharing: Sharing
    problems: int
    tags: tuple[tuple[str, int], ...]


def sharing(findings: Findings, words: Language) -> Table:
    """How many problems both arms fail, one alone, or neither; with the tags met most there."""

    def row(kind: Sharing) -> _Kind:
        of_kind = [each for each in findings.behaviour.shared if each.sharing is kind]
        met = Counter(tag for each in of_kind for tag in each.tags)
        return _Kind(kind, len(of_kind), tuple(met.most_common(MOST_TAGS)))

    def listed(row: _Kind) -> str:
        return ", ".join(f"{tag} {n}" for tag, n in row.tags)

    columns: tuple[Column[_Kind], ...] = (
        label("sharing", lambda row: row.sharing.value, _who_fails(findings)),
        number("problems", lambda row: row.problems),
        label("tags", listed),
    )
    rows = [row(kind) for kind in Sharing] if findings.behaviour.shared else []
    return table("sharing", words, rows, columns, place=PLACE)


def _who_fails(findings: Findings) -> Callable[[Language, str], str]:
    def say(words: Language, kind: str) -> str:
        a, b = (sentences.arm_name(words, arm) for arm in findings.wanted)
        return words(f"sharing.{kind}", a=a, b=b)

    return say


def shared(findings: Findings, words: Language) -> Table:
    """The problems behind `sharing`; in the CSV file all of them."""
    rows = findings.behaviour.shared
    a, b = findings.wanted if rows else ("", "")

    def fails(key: str, arm: str, of: Callable[[Shared], str]) -> Column[Shared]:
        say = lambda words, failure: words(f"failure.{failure}") if failure else ""  # noqa: E731
        return label(key, of, say, title=sentences.arm_name(words, arm))

    columns: tuple[Column[Shared], ...] = (
        label("problem", lambda each: each.problem),
        title(lambda each: each.title, lambda each: each.problem),
        label("sharing", lambda each: each.sharing.value, _who_fails(findings)),
        label("tags", lambda each: ", ".join(each.tags)),
        Column("a", lambda each: a),
        fails("a_fails", a, lambda each: each.a),
        Column("b", lambda each: b),
        fails("b_fails", b, lambda each: each.b),
    )
    # One arm alone first: those are fewer, and what is asked.
    failed = [each for each in rows if each.sharing in (Sharing.ONLY_A, Sharing.ONLY_B)]
    failed += [each for each in rows if each.sharing is Sharing.BOTH]
    heading = _first("shared", len(failed), words)
    shown = ("problem", "title", "sharing", "a_fails", "b_fails", "tags")
    place = _folded(heading)
    return table("shared", words, rows, columns, printed=failed[:MOST], shown=shown, title=heading, place=place)


class _GroupOfArm(NamedTuple):
    group: Group
    arm: str


def groups(findings: Findings, words: Language) -> Table:
    """For readers one row a group and one column an arm."""
    found, arms = findings.behaviour, [result.arm for result in findings.results]

    def rate(arm: str) -> Column[_GroupOfArm]:
        def show(row: _GroupOfArm, words: Language) -> str:
            limits = words.share_interval(row.group.intervals[arm])
            return words.estimate(words.percent(row.group.rates[arm]), limits)

        title = sentences.arm_name(words, arm)
        return Column(f"arm {arm}", show=show, numeric=True, title=title, about="group_rate")

    def size(words: Language, problems: int) -> str:
        return f"{problems} {words('cell.few')}" if problems < FEW else str(problems)

    columns: tuple[Column[_GroupOfArm], ...] = (
        label("kind", lambda row: row.group.kind, lambda words, kind: words(f"group.{kind}")),
        label("group", lambda row: row.group.name, lambda words, name: name or words("group.none")),
        number("problems", lambda row: row.group.problems, size),
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


def diversity(findings: Findings, words: Language) -> Table:
    two = lambda words, programs: words.number(programs, 2)  # noqa: E731
    columns: tuple[Column[Diversity], ...] = (
        label("arm", lambda each: each.arm, sentences.arm_name),
        number("problems", lambda each: each.problems),
        number("programs", lambda each: each.programs, two),
        number("trees", lambda each: each.trees, two),
        number("behaviours", lambda each: each.behaviours, two, none=words("cell.not_recorded")),
    )
    return table("diversity", words, findings.behaviour.diversity, columns, place=PLACE)


def copying(findings: Findings, words: Language) -> Table:
    columns: tuple[Column[Copying], ...] = (
        label("data", lambda each: each.data),
        number("solutions", lambda each: each.solutions),
        label("programs_of", lambda each: each.arm, sentences.arm_name),
        number("programs", lambda each: each.programs),
        number("run", lambda each: each.run, Language.count, file="median_run"),
        number("share", lambda each: each.share, Language.percent, file="median_share"),
        number("longest", lambda each: each.longest, file="longest_run"),
        Column(
            "near",
            lambda each: {"near_duplicates": each.near},
            lambda each, words: _count(each.near, each.programs, words),
            numeric=True,
        ),
    )
    return table("copying", words, findings.behaviour.copying, columns, place=PLACE)


def copied(findings: Findings, words: Language) -> Table:
    columns: tuple[Column[Copied], ...] = (
        label("arm", lambda each: each.adapter.arm),
        Column("variant", lambda each: each.adapter.variant),
        number("seed", lambda each: each.adapter.seed),
        Column("step", lambda each: each.adapter.step),
        label("problem", lambda each: each.problem),
        part_of("run", lambda each: {"run": each.run, "tokens": each.tokens}),
        mark("near", lambda each: each.near, file="near_duplicate"),
        label("row", lambda each: each.row, file="training_row"),
    )
    return table("copied", words, findings.behaviour.copied, columns, place=_folded(words("table.copied")))
