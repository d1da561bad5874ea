"""The tables about behaviour: what is forgotten, half-solved, failed and shared; by group; programs and copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from kiyas.analyse.findings import Behaviour, Failure, FailureDifference, Findings, Sharing
from kiyas.report import sentences
from kiyas.report.table import Table, bounds, columns
from kiyas.report.words import DASH, Words
from kiyas.stats.inference import Interval

FEW = 10
"""Problems below which a group's share says next to nothing: its row is printed faint."""
MOST = 40
"""Rows of a list that are printed; its CSV file holds all."""
MOST_EXCEPTIONS = 8
MOST_TAGS = 5


def tables(findings: Findings, words: Words) -> list[Table]:
    found = findings.behaviour
    return [
        forgetting(found, words),
        stuck(found, words),
        failures(findings, words),
        sharing(findings, words),
        shared(findings, words),
        groups(findings, words),
        diversity(found, words),
        copying(found, words),
        copied(found, words),
    ]


def _title(name: str, shown: int, of: int, words: Words) -> str:
    title = words(f"table.{name}")
    return title if shown == of else words("cell.first_of", title=title, shown=shown, n=of)


def _titled(title: str, problem: str) -> str:
    return title if title != problem else ""


def forgetting(found: Behaviour, words: Words) -> Table:
    shown, raw = [], []
    for each in found.forgetting:
        shown.append(
            {
                "arm": each.arm,
                "lost": words.number(each.lost),
                "lost_rate": _with(words.percent(each.rate), each.interval, words.share_interval),
                "floor_lost": words.number(each.floor_lost) if each.floor_lost is not None else DASH,
                "floor": _with(words.percent(each.floor), each.floor_interval, words.share_interval),
                "source": words(f"floor.{each.source or 'unknown'}"),
                "excess": _with(words.points(each.excess), each.excess_interval, words.points_interval),
            }
        )
        raw.append(
            {
                "arm": each.arm,
                "steps": each.steps,
                "lost_per_step": each.lost,
                "rate": each.rate,
                **bounds("interval95", each.interval),
                "floor_source": each.source or None,
                "floor_lost": each.floor_lost,
                "floor": each.floor,
                **bounds("floor_interval95", each.floor_interval),
                "excess": each.excess,
                **bounds("excess_interval95", each.excess_interval),
            }
        )
    keys = ("arm", "lost", "lost_rate", "floor_lost", "floor", "source", "excess")
    numeric = frozenset(keys) - {"arm", "source"}
    title = words("table.forgetting")
    return Table("forgetting", title, columns(words, *keys), tuple(shown), tuple(raw), numeric=numeric)


def _with(value: str, interval: Interval | None, say: Callable[[Interval], str]) -> str:
    return f"{value} ({say(interval)})" if interval else value


def stuck(found: Behaviour, words: Words) -> Table:
    shown, raw = [], []
    for each in sorted(found.stuck, key=lambda each: -each.checkpoints):
        failing = None if each.failing is None else _by_verdict(each.failing)
        which = words("cell.not_recorded") if each.failing is None else failing or words("cell.changing")
        training = {"arm": each.training.arm, "variant": each.training.variant, "seed": each.training.seed}
        shown.append(
            {
                "arm": each.training.arm,
                "seed": str(each.training.seed),
                "problem": each.problem,
                "title": _titled(each.title, each.problem),
                "k": str(each.checkpoints),
                "stretch": f"{each.from_step}–{each.to_step}" + ("" if each.to_the_end else " ↷"),
                "passed": words("cell.of", solved=each.passed, n=each.total),
                "still_failing": which,
            }
        )
        raw.append(
            {
                **training,
                "problem": each.problem,
                "title": each.title,
                "checkpoints": each.checkpoints,
                "from_step": each.from_step,
                "to_step": each.to_step,
                "to_the_end": int(each.to_the_end),
                "passed": each.passed,
                "total": each.total,
                "failing": failing,
            }
        )
    keys = ("arm", "seed", "problem", "title", "k", "stretch", "passed", "still_failing")
    title = _title("stuck", min(MOST, len(raw)), len(raw), words)
    numeric = frozenset({"seed", "k", "stretch", "passed"})
    return Table("stuck", title, columns(words, *keys), tuple(shown[:MOST]), tuple(raw), numeric=numeric)


def _by_verdict(failing: Mapping[str, str]) -> str:
    of: dict[str, list[str]] = {}
    for n, verdict in failing.items():
        of.setdefault(verdict, []).append(n)
    return "; ".join(f"{verdict} {', '.join(tests)}" for verdict, tests in of.items())


def _against(compared: FailureDifference | None) -> dict[str, Any]:
    """The difference from the first arm of the question, in the row of the second."""
    return {
        "difference": compared.difference if compared else None,
        **bounds("interval95", compared.interval if compared else None),
        "p": compared.p if compared else None,
    }


def failures(findings: Findings, words: Words) -> Table:
    """One row a class, one column an arm; below the crashes their exceptions."""
    found = findings.behaviour
    of = {each.arm: each for each in found.outcomes}
    answers = {arm: each.answers for arm, each in of.items()}
    difference = {each.failure: each for each in found.differences}
    shown: list[dict[str, str]] = []
    raw: list[dict[str, Any]] = []

    def add(
        name: str, said: str, counts: dict[str, int], meaning: str, failure: Failure | None, exception: str
    ) -> None:
        compared = difference.get(failure) if failure and not exception else None
        shown.append(
            {
                "failure": said,
                **{f"arm {arm}": _count(n, answers[arm], words) for arm, n in counts.items()},
                "difference": words.points(compared.difference) if compared else "",
                "interval": words.points_interval(compared.interval) if compared else "",
                "p": words.p(compared.p) if compared else "",
                "meaning": meaning,
            }
        )
        raw.extend(
            {
                "failure": name,
                "exception": exception,
                "arm": arm,
                "answers": answers[arm],
                "count": n,
                **_against(compared if arm == findings.wanted[-1] else None),
            }
            for arm, n in counts.items()
        )

    if any(answers.values()):
        add("solved", words("failure.solved"), {arm: each.solved for arm, each in of.items()}, "", None, "")
    for failure in Failure:
        counts = {arm: each.failures.get(failure.value, 0) for arm, each in of.items()}
        if any(counts.values()):
            said, meaning = words(f"failure.{failure}"), words(f"failure.{failure}_text")
            add(failure.value, said, counts, meaning, failure, "")
        if failure is Failure.CRASH:
            met: Counter[str] = Counter()
            for each in of.values():
                met.update(each.exceptions)
            for exception, _ in met.most_common(MOST_EXCEPTIONS):
                counts = {arm: each.exceptions.get(exception, 0) for arm, each in of.items()}
                said = f"· {exception or words('cell.not_recorded')}"
                add("crash", said, counts, "", failure, exception or "not recorded")
    owed = {arm: each.owed for arm, each in of.items()}
    if any(owed.values()):
        shown.append({"failure": words("failure.owed"), **{f"arm {arm}": str(n) for arm, n in owed.items()},
                      "meaning": words("failure.owed_text")})  # fmt: skip
    heads = tuple((f"arm {arm}", sentences.arm_name(words, arm)) for arm in of)
    compared = ("difference", "interval", "p") if difference else ()
    shape = (*columns(words, "failure"), *heads, *columns(words, *compared), *columns(words, "meaning"))
    numeric = frozenset([key for key, _ in heads] + list(compared))
    return Table("failures", words("table.failures"), shape, tuple(shown), tuple(raw), numeric=numeric)


def _count(n: int, of: int, words: Words) -> str:
    return f"{n} ({words.percent(n / of)})" if n else "0"


def _sharing_name(findings: Findings, kind: Sharing, words: Words) -> str:
    a, b = (sentences.arm_name(words, arm) for arm in findings.wanted)
    return words(f"sharing.{kind}", a=a, b=b)


def sharing(findings: Findings, words: Words) -> Table:
    """How many problems both arms fail, one alone, or neither; with the tags met most there."""
    shown, raw = [], []
    for kind in Sharing if findings.behaviour.shared else ():
        of_kind = [each for each in findings.behaviour.shared if each.sharing is kind]
        met = Counter(tag for each in of_kind for tag in each.tags)
        tags = ", ".join(f"{tag} {n}" for tag, n in met.most_common(MOST_TAGS))
        name = _sharing_name(findings, kind, words)
        shown.append({"sharing": name, "problems": str(len(of_kind)), "tags": tags})
        raw.append({"sharing": kind.value, "problems": len(of_kind), "tags": tags})
    shape = columns(words, "sharing", "problems", "tags")
    title = words("table.sharing")
    return Table("sharing", title, shape, tuple(shown), tuple(raw), numeric=frozenset({"problems"}))


def shared(findings: Findings, words: Words) -> Table:
    """The problems behind `sharing`; in the CSV file all of them."""
    shown, raw = [], []
    for each in findings.behaviour.shared:
        raw.append(
            {
                "problem": each.problem,
                "title": each.title,
                "sharing": each.sharing.value,
                "tags": ", ".join(each.tags),
                "a": findings.wanted[0],
                "a_fails": each.a,
                "b": findings.wanted[1],
                "b_fails": each.b,
            }
        )
        if each.sharing in (Sharing.BOTH, Sharing.ONLY_A, Sharing.ONLY_B):
            shown.append(
                {
                    "problem": each.problem,
                    "title": _titled(each.title, each.problem),
                    "sharing": _sharing_name(findings, each.sharing, words),
                    "a_fails": words(f"failure.{each.a}") if each.a else "",
                    "b_fails": words(f"failure.{each.b}") if each.b else "",
                    "tags": ", ".join(each.tags),
                }
            )
    names = [sentences.arm_name(words, arm) for arm in findings.wanted]
    heads = (("a_fails", names[0]), ("b_fails", names[1])) if raw else ()
    shape = (*columns(words, "problem", "title", "sharing"), *heads, *columns(words, "tags"))
    # One arm alone first: those are fewer, and what is asked.
    both = words("sharing.both", a=names[0], b=names[1]) if raw else ""
    shown.sort(key=lambda row: row["sharing"] == both)
    title = _title("shared", min(MOST, len(shown)), len(shown), words)
    return Table("shared", title, shape, tuple(shown[:MOST]), tuple(raw))


def groups(findings: Findings, words: Words) -> Table:
    found = findings.behaviour
    arms = [result.arm for result in findings.results]
    shown, raw = [], []
    for each in found.groups:
        few = words("cell.few") if each.problems < FEW else ""
        shown.append(
            {
                "kind": words(f"group.{each.kind}"),
                "group": each.name or words("group.none"),
                "problems": f"{each.problems} {few}".strip(),
                **{
                    f"arm {arm}": f"{words.percent(each.rates[arm])} ({words.share_interval(each.intervals[arm])})"
                    for arm in arms
                },
            }
        )
        raw += [
            {
                "kind": each.kind,
                "group": each.name,
                "problems": each.problems,
                "arm": arm,
                "pass1": each.rates[arm],
                **bounds("interval95", each.intervals[arm]),
            }
            for arm in arms
        ]
    heads = tuple((f"arm {arm}", sentences.arm_name(words, arm)) for arm in arms)
    shape = (*columns(words, "kind", "group", "problems"), *heads)
    numeric = frozenset(["problems", *(key for key, _ in heads)])
    faint = frozenset(i for i, each in enumerate(found.groups) if each.problems < FEW)
    return Table("groups", words("table.groups"), shape, tuple(shown), tuple(raw), numeric=numeric, faint=faint)


def diversity(found: Behaviour, words: Words) -> Table:
    shown, raw = [], []
    for each in found.diversity:
        behaviours = words("cell.not_recorded") if each.behaviours is None else words.number(each.behaviours, 2)
        shown.append(
            {
                "arm": sentences.arm_name(words, each.arm),
                "problems": str(each.problems),
                "programs": words.number(each.programs, 2),
                "trees": words.number(each.trees, 2),
                "behaviours": behaviours,
            }
        )
        raw.append(
            {
                "arm": each.arm,
                "problems": each.problems,
                "programs": each.programs,
                "trees": each.trees,
                "behaviours": each.behaviours,
            }
        )
    keys = ("arm", "problems", "programs", "trees", "behaviours")
    title = words("table.diversity")
    numeric = frozenset(keys[1:])
    return Table("diversity", title, columns(words, *keys), tuple(shown), tuple(raw), numeric=numeric)


def copying(found: Behaviour, words: Words) -> Table:
    shown, raw = [], []
    for each in found.copying:
        shown.append(
            {
                "data": each.data,
                "solutions": str(each.solutions),
                "programs_of": sentences.arm_name(words, each.arm),
                "programs": str(each.programs),
                "run": words.count(each.run),
                "share": words.percent(each.share),
                "longest": str(each.longest),
                "near": _count(each.near, each.programs, words),
            }
        )
        raw.append(
            {
                "data": each.data,
                "solutions": each.solutions,
                "programs_of": each.arm,
                "programs": each.programs,
                "median_run": each.run,
                "median_share": each.share,
                "longest_run": each.longest,
                "near_duplicates": each.near,
            }
        )
    keys = ("data", "solutions", "programs_of", "programs", "run", "share", "longest", "near")
    numeric = frozenset(keys) - {"data", "programs_of"}
    title = words("table.copying")
    return Table("copying", title, columns(words, *keys), tuple(shown), tuple(raw), numeric=numeric)


def copied(found: Behaviour, words: Words) -> Table:
    shown, raw = [], []
    for each in found.copied:
        shown.append(
            {
                "arm": each.adapter.arm,
                "seed": str(each.adapter.seed),
                "problem": each.problem,
                "run": words("cell.of", solved=each.run, n=each.tokens),
                "near": "●" if each.near else "",
                "row": each.row,
            }
        )
        raw.append(
            {
                **each.adapter.fields(),
                "problem": each.problem,
                "run": each.run,
                "tokens": each.tokens,
                "near_duplicate": int(each.near),
                "training_row": each.row,
            }
        )
    keys = ("arm", "seed", "problem", "run", "near", "row")
    title = words("table.copied")
    return Table("copied", title, columns(words, *keys), tuple(shown), tuple(raw), numeric=frozenset({"seed", "run"}))
