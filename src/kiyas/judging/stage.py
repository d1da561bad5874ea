"""Completions → `kiyas.judge` → judgments. A row is written as soon as it is known and not judged again."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from kiyas import judge
from kiyas.judge.programs import found_in
from kiyas.judge.pulse import JudgingPace
from kiyas.judge.verdicts import CHECKER_FAILED
from kiyas.runfolder import rows
from kiyas.runfolder.files import JsonlWriter, read_jsonl, settle, write_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Judge
from kiyas.types import Answered, Completion, Judgment, KiyasError


class Bar(Protocol):
    """Shows how far the judge is."""

    left: Callable[[], float | None]
    """seconds, as far as they are known"""

    def update(self, count: int = 1) -> None: ...


Each = Callable[..., Iterator[judge.Verdict]]
"""Who judges: `Engine.each` (work/engine.py)."""


def judge_completions(
    folder: RunDir, settings: Judge, bar: Bar, each: Each, between: Callable[[], None] = lambda: None
) -> dict[str, int]:
    """Judges every completion that has no verdict yet. Returns how often each verdict was given.

    `between` is called after each program, when its verdict is written; what it raises ends the judging.

    Checkpoints often write the same program: it is run once per problem, and its verdict is in every row.
    Raises KiyasError when the sandbox failed (IE): such rows are missing, and the same command judges them again. Also
    when the checker of a problem failed: that is not judged again.
    """
    have = _judge(folder, rows.completions(folder), folder.judgments, settings, bar, {}, each, between)
    _read_problems.cache_clear()  # gigabytes perhaps, which nothing later needs
    refuse_common_failure(rows.judgments(folder))
    counts = Counter(have.values())
    return {outcome.value: n for outcome, n in sorted(counts.items())}


def judge_redecoded(
    folder: RunDir, settings: Judge, bar: Bar, each: Each, between: Callable[[], None] = lambda: None
) -> None:
    """Judges the answers that were decoded again, after all others. Raises as `judge_completions`.

    A program that was judged has its verdict: only rounding may make a difference, not a second run of one program.
    """
    known = {(str(row["problem_id"]), str(row["program"])): row for row in read_jsonl(folder.judgments)}
    _judge(folder, rows.redecoded(folder), folder.redecoded_judgments, settings, bar, known, each, between)
    _read_problems.cache_clear()


def _judge(
    folder: RunDir,
    completions: list[Completion],
    path: Path,
    settings: Judge,
    bar: Bar,
    known: Mapping[tuple[str, str], dict[str, Any]],
    each: Each,
    between: Callable[[], None],
) -> dict[Answered, judge.Outcome]:
    """Adds to the file `path` the verdicts that it lacks, and returns all. `known`: rows of (problem, program)."""
    problems = _problems(folder)
    problem_of = {problem.id: problem for problem in problems}
    have, faulty = _verdicts_so_far(path)
    # Completions by the program they hold, in the order in which the programs are first met.
    wanted: dict[tuple[str, str], list[tuple[Completion, judge.Extraction]]] = {}
    for completion in completions:
        if completion.key not in have:
            extraction = found_in(completion.text, problem_of.get(completion.problem_id), settings.extraction)
            wanted.setdefault((completion.problem_id, extraction.program), []).append((completion, extraction))
    bar.update(len(have))
    reason = ""
    with JsonlWriter(path) as writer:
        for key in [key for key in wanted if key in known]:
            same = wanted.pop(key)
            writer.write(*({**known[key], **each.adapter.fields(), "sample": each.sample} for each, _ in same))
            have |= {each.key: judge.Outcome(known[key]["verdict"]) for each, _ in same}
            bar.update(len(same))
        pace = JudgingPace(Counter(problem for problem, _ in wanted))
        bar.left = pace.left_s
        for verdict in each(verdicts_at, folder.root, ("data/problems.jsonl",), (settings,), wanted):
            same = wanted[verdict.problem_id, verdict.program.source]
            writer.write(*(Judgment.row(completion, extraction, verdict) for completion, extraction in same))
            have |= {completion.key: verdict.verdict for completion, _ in same}
            if CHECKER_FAILED in verdict.flags:
                faulty[verdict.problem_id] = verdict.detail
            elif verdict.verdict is judge.Outcome.IE:
                reason = verdict.detail
            pace.judged(verdict.problem_id, verdict.cpu_s)
            bar.update(len(same))
            between()
    if faulty:
        id, detail = next(iter(faulty.items()))
        raise KiyasError(
            f"{len(faulty)} problems cannot be judged, because their checkers fail: problem {id}: {detail}",
            "mend their checkers, or leave the problems out, in a new run",
        )
    if broken := sum(verdict is judge.Outcome.IE for verdict in have.values()):
        raise KiyasError(
            f"{broken} of {len(completions)} programs could not be judged: the sandbox failed ({reason})",
            "see `kiyas doctor`; the same command judges them again. No conclusion is drawn until then",
        )
    return have


NEARLY_ALL = 0.95
FEWEST = 20
"""programs that it takes to speak of nearly all"""


def refuse_common_failure(judgments: Iterable[Judgment]) -> None:
    """Raises KiyasError where nearly all programs fail in one and the same way outside their own code.

    That is a missing module, or an exception that was raised in no line of the program: the benchmark or the
    interpreter is at fault then, not the models.
    """
    known = [each for each in judgments if not each.missing and (each.program or "").strip()]
    ways = Counter(way for each in known if (way := _foreign_failure(each)))
    for way, count in ways.most_common(1):
        if len(known) >= FEWEST and count >= NEARLY_ALL * len(known):
            raise KiyasError(
                f"{count} of {len(known)} programs fail in the same way, outside their own code: {way}. "
                "That is the fault of the benchmark or the interpreter, not of the models: no conclusion is drawn",
                "mend it, then judge again (`kiyas run --redo judge`); for a missing module: --python, or judge.python",
            )


def _foreign_failure(judgment: Judgment) -> str:
    """How a program failed for which it cannot be blamed; "" where it can."""
    for flag in judgment.flags:
        if flag.startswith(judge.MISSING):
            return flag
    for test in judgment.tests:
        if test.verdict is judge.Outcome.RE and test.exception is not None and test.exception.line is None:
            return f"{test.exception.type}: {test.exception.message}"
    return ""


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """What the judge refuses is a KiyasError; a failed sandbox stays what it is."""
    try:
        yield
    except judge.SandboxError:
        raise
    except judge.JudgeError as error:
        raise KiyasError(error.args[0], error.hint) from error


def check_ready(problems: Iterable[judge.Problem], settings: Judge) -> None:
    """Raises KiyasError where a study's settings cannot judge these problems: their mode, or modules of their tests."""
    with _in_words():
        judge.check_ready(problems, mode=settings.mode, isolation=settings.isolation, python=settings.python)


def prove(
    problems: list[judge.Problem], settings: Judge, progress: Callable[[int, int], object]
) -> list[judge.Finding]:
    """What is wrong with these problems as a study's settings judge them. Raises KiyasError as `check_ready`."""
    with _in_words():
        return judge.prove(problems, **_how(settings), progress=progress)


def sound(problems: list[judge.Problem], findings: list[judge.Finding], source: str, listed: bool = False) -> set[str]:
    """The ids of the problems that are not refused. Raises KiyasError where most are, or any of those `listed`."""
    with _in_words():
        return judge.sound(problems, findings, source, listed)


def verdicts_at(
    root: str, settings: Judge, cores: int | None, programs: Iterable[tuple[str, str]]
) -> Iterator[judge.Verdict]:
    """The same, of the problems of a run folder, on so many cores."""
    mine = settings if cores is None else settings.model_copy(update={"workers": cores})
    return verdicts(programs, _problems(RunDir(Path(root))), mine)


def _problems(folder: RunDir) -> list[judge.Problem]:
    """Tests may be gigabytes: they are read once, not for each batch of programs."""
    now = folder.problems.stat()
    return _read_problems(folder.problems, (now.st_ino, now.st_size, now.st_mtime_ns))


@lru_cache(maxsize=1)
def _read_problems(path: Path, _: tuple[int, ...]) -> list[judge.Problem]:
    return judge.read_problems(path, "kiyas")


def verdicts(
    programs: Iterable[tuple[str, str]], problems: Iterable[judge.Problem], settings: Judge
) -> Iterator[judge.Verdict]:
    """Verdicts of (problem, program), in their order, judged as a study's settings say."""
    return judge.judge(
        (judge.Program(problem, program) for problem, program in programs),
        problems,
        **_how(settings),
        after_timeout=settings.after_timeout,
    )


def _how(settings: Judge) -> dict[str, Any]:
    """A study's settings as `judge.judge` and `judge.prove` take them."""
    return {
        "mode": settings.mode,
        "limits": judge.Limits(settings.time_limit_s, settings.memory_limit_mb),
        "workers": settings.workers,
        "isolation": settings.isolation,
        "python": settings.python,
        "tolerance": settings.tolerance,
    }


def _verdicts_so_far(path: Path) -> tuple[dict[Answered, judge.Outcome], dict[str, str]]:
    """What the file holds, and problems whose checker failed; rows of a failed sandbox are taken out of the file."""
    settle(path)
    if not path.exists():
        return {}, {}
    found = read_jsonl(path)
    read = [Judgment.of(row) for row in found]
    kept = [each.verdict is not judge.Outcome.IE or CHECKER_FAILED in each.flags for each in read]
    if not all(kept):
        write_jsonl(path, (row for row, keep in zip(found, kept, strict=True) if keep), sealed=True)
        read = [each for each, keep in zip(read, kept, strict=True) if keep]
    faulty = {each.problem_id: each.detail for each in read if CHECKER_FAILED in each.flags}
    return {each.key: each.verdict for each in read if each.verdict is not None}, faulty
