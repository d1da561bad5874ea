"""What many files say → one study: an answer for each (checkpoint, problem, sample), one log, one benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kiyas.interop import logs
from kiyas.interop.answers import Answer
from kiyas.interop.course import Totals
from kiyas.interop.files import Notes, Row, some
from kiyas.interop.names import Named
from kiyas.interop.reading import READABLE, Found
from kiyas.interop.rejudge import Rejudged, rejudge
from kiyas.interop.results import Part, adapter_of, put, repeated
from kiyas.judge import Outcome
from kiyas.judge.terminal import many
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Judge
from kiyas.types import AdapterId, Answered, KiyasError


@dataclass(frozen=True)
class Merged:
    """All empty where PEFT checkpoints are all that was found: their run is still to come."""

    answers: Mapping[Answered, Answer]
    log: list[Row]
    benchmark: list[Row]
    """the problems that were answered"""
    judge: Judge | None = None
    """the settings with which the programs were judged again"""
    rejudged: Rejudged | None = None


def merge(found: Found, judge: Judge | None, notes: Notes, folder: RunDir) -> Merged:
    """Raises KiyasError when nothing usable was found. `folder`: where verdicts of ours are kept meanwhile."""
    answers = _answers(_one_benchmark(found.parts, set(found.known) or None, notes), notes)
    log = logs.merged(found.logs, notes)
    if found.trained and not answers and all(log.file.path.parent in found.peft for log in found.logs):
        # The run folder will be the study's own: the losses beside the adapters come with them.
        notes.left_out(
            sum(log.count for log in found.logs), "wait for `kiyas run`, which reads them with the checkpoints"
        )
        return Merged({}, [], [])
    _check_totals(found.summaries, answers, notes)
    if not answers and not log:
        what, hint = f"found neither results nor training logs in {', '.join(map(str, found.sources))}", READABLE
        if found.summaries:
            what, hint = "found only totals, neither results nor training logs", "give the result rows as well"
        raise KiyasError(what + "".join(f"\n  {line}" for line in notes.lines()), hint)
    benchmark = _benchmark(found.problems, found.known, _problems_of(answers), notes)
    _note_missing(answers, benchmark, notes)
    if judge is None:
        _note_owed(answers, notes)
        return Merged(answers, log, benchmark)
    return Merged(answers, log, benchmark, judge, rejudge(answers, benchmark, judge, folder))


def _one_benchmark(parts: list[Part], given: set[str] | None, notes: Notes) -> list[Part]:
    """The files that answer one and the same benchmark; a run has one. The others are noted, with what to do.

    Files whose problems overlap by half of the fewer belong together. Taken are the files that answer the `given`
    problems, else those with the most answers.
    """
    groups: list[list[Part]] = []
    for each in parts:
        linked = [group for group in groups if any(_overlap(each.problems, other.problems) for other in group)]
        groups = [group for group in groups if group not in linked] + [[each, *(p for group in linked for p in group)]]

    def size(group: list[Part]) -> tuple[int, int]:
        problems = set().union(*(each.problems for each in group))
        return len(problems & given) if given is not None else 0, sum(len(each.answers) for each in group)

    chosen = max(groups, key=size, default=[])
    for group in groups:
        if group is not chosen:
            notes.left_out(sum(len(set(each.rows.values())) for each in group), "answered another set of problems")
            _note_other(group, notes)
    return [each for each in parts if each in chosen]


def _overlap(one: set[str], other: set[str]) -> bool:
    return 2 * len(one & other) >= min(len(one), len(other))


def _note_other(group: list[Part], notes: Notes) -> None:
    problems = set().union(*(each.problems for each in group))
    whose = sorted({str(adapter) for each in group for adapter in each.checkpoints})
    notes.add(
        f"another set of problems, {_several(sorted(problems))}, answered by {some(whose, 4)} in "
        f"{_names([each.file.path for each in group])}: left out, since one import "
        "compares on one benchmark; import these files into a folder of their own (--only TEXT takes the files with "
        "TEXT in their path)"
    )


def _names(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths[:3]) + (
        f" and {many(len(paths) - 3, 'more file')}" if len(paths) > 3 else ""
    )


def _several(items: list[str]) -> str:
    """`3 problems (a, b, c)`."""
    return f"{many(len(items), 'problem')} ({some(items, 4)})"


def _answers(parts: list[Part], notes: Notes) -> dict[Answered, Answer]:
    """All answers. A file that mostly contradicts those before it is left out, an error where the user named it."""
    kept: dict[Answered, Answer] = {}
    places: dict[AdapterId, set[tuple[str, ...]]] = {}
    for each in parts:
        together, odd = dict(kept), Counter[str]()
        clashes = sum(put(together, key, new, odd) for key, new in each.answers.items())
        elsewhere = any(places.get(adapter, {each.named.label}) != {each.named.label} for adapter in each.by_name)
        if clashes and (elsewhere or 2 * clashes > len(each.answers)):
            about = ", ".join(map(str, each.checkpoints[:3]))
            error = KiyasError(
                f"{each.file.path}: {clashes} of {len(each.answers)} rows answer what another file of {about} has "
                "answered otherwise",
                "name the files' arms with --arm, or import one of them with --only",
            )
            if each.file.named:
                raise error
            notes.add(f"left out: {error.args[0]}; {error.hint}")
            notes.left_out(len(set(each.rows.values())), "contradicted another file")
            continue
        notes.left_out(repeated(each, kept), "repeated another row")
        kept = together
        for adapter in each.by_name:
            places.setdefault(adapter, set()).add(each.named.label)
        for what, rows in odd.items():
            notes.add(what, each.file.path, rows)
    return kept


def _problems_of(answers: Mapping[Answered, Answer]) -> dict[str, Row]:
    """The problems that were answered, with all that any row knows of them."""
    known: dict[str, Row] = {}
    for answer in answers.values():
        row = known.setdefault(answer.id, {})
        row |= {key: value for key, value in answer.problem.items() if key not in row}
    return known


def _check_totals(
    summaries: list[tuple[Path, Named, Totals]], answers: Mapping[Answered, Answer], notes: Notes
) -> None:
    """Summaries are compared with the rows and never become verdicts."""
    right: Counter[AdapterId] = Counter()
    judged: Counter[AdapterId] = Counter()
    for (adapter, _, _), answer in answers.items():
        judged[adapter] += not answer.missing
        right[adapter] += answer.verdict is Outcome.AC
    for path, named, said in summaries:
        adapter = adapter_of(named)
        summary = f"the summary says {said.passed}/{said.total} for {adapter}"
        if not judged[adapter]:
            notes.add(f"{summary}, and there are no rows with verdicts; totals are not turned into verdicts", path)
        elif (right[adapter], judged[adapter]) != (said.passed, said.total):
            notes.add(f"{summary}, the rows say {right[adapter]}/{judged[adapter]}; the rows count", path)
        if said.rate is not None and said.total and abs(said.rate - said.passed / said.total) > 5e-4:
            notes.add(f"{summary} and a pass@1 of {said.rate:.3f}, which leaves programs out", path)


def _benchmark(given: Path | None, known: dict[str, Row], met: dict[str, Row], notes: Notes) -> list[Row]:
    """The problems that were answered: as given, else as far as the rows say."""
    if given is not None and met:
        unjudged = [problem for problem in known if problem not in met]
        if unjudged:
            notes.add(f"{_several(unjudged)} never answered here; left out", given)
        strange = sorted(problem for problem in met if problem not in known)
        if strange:
            notes.add(f"does not hold {_several(strange)}; rebuilt from the rows", given)
    rebuilt = {problem: {"tests": [], **row} for problem, row in sorted(met.items()) if problem not in known}
    silent = [problem for problem, row in rebuilt.items() if not row["tests"] and "test_code" not in row]
    if silent and given is None:
        notes.add("no problem file was given: problems were rebuilt from the rows; their tests are unknown")
    return [known[problem] for problem in known if problem in met] + list(rebuilt.values())


def _note_missing(answers: Mapping[Answered, Answer], benchmark: list[Row], notes: Notes) -> None:
    """Notes the checkpoints that lack problems which others have: their verdicts are missing."""
    have: dict[AdapterId, set[str]] = {}
    for adapter, problem, _ in answers:
        have.setdefault(adapter, set()).add(problem)
    for adapter, got in sorted(have.items()):
        absent = [str(row["id"]) for row in benchmark if str(row["id"]) not in got]
        if absent:
            notes.add(f"{adapter}: no verdict for {_several(absent)}")


def _note_owed(answers: Mapping[Answered, Answer], notes: Notes) -> None:
    """Notes answers for which no file has a verdict."""
    plain = Counter(key[0] for key, answer in answers.items() if answer.verdict is None)
    for adapter, count in sorted(plain.items()):
        notes.add(
            f"{adapter}: no verdict was recorded for {many(count, 'answer')}: missing, unless judged with --rejudge"
        )
