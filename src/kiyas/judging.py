"""Completions → `kiyas.judge` → judgments. A row is written as soon as it is known; what stands is not judged again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from kiyas import judge
from kiyas.progress import Bar
from kiyas.rundir import JsonlWriter, RunDir, read_jsonl, write_jsonl
from kiyas.study import Judge
from kiyas.types import AdapterId, Completion, KiyasError

Key = tuple[AdapterId, str, int]


def judge_completions(folder: RunDir, settings: Judge, bar: Bar) -> dict[str, int]:
    """Judges every completion that has no verdict yet. Returns how often each verdict was given.

    Checkpoints often write the same program: it is run once per problem, and its verdict stands in every row.
    Raises KiyasError when the sandbox failed (IE): such rows are owed, and the same command judges them again.
    """
    problems = judge.read_problems(folder.problems, "kiyas")
    completions = [Completion.of(row) for row in read_jsonl(folder.completions)]
    have = _verdicts_so_far(folder)
    # Rows by the program they hold, in the order in which the programs are first met.
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for completion in completions:
        if completion.key not in have:
            row = _row(completion)
            rows.setdefault((completion.problem_id, row["program"]), []).append(row)
    bar.update(len(have))
    reason = ""
    with JsonlWriter(folder.judgments) as writer:
        for verdict in verdicts(rows, problems, settings):
            same = rows[verdict.problem_id, verdict.program.source]
            writer.write(*({**row, **verdict.to_row()} for row in same))
            have |= {_key(row): verdict.verdict.value for row in same}
            if verdict.verdict is judge.Outcome.IE:
                reason = verdict.detail
            bar.update(len(same))
    counts = Counter(have.values())
    if broken := counts[judge.Outcome.IE.value]:
        raise KiyasError(
            f"{broken} of {len(completions)} programs could not be judged: the sandbox failed, not they ({reason})",
            "see `kiyas doctor`; the same command judges them again. No conclusion is drawn until then",
        )
    return dict(sorted(counts.items()))


def check_ready(problems: Iterable[judge.Problem], settings: Judge) -> None:
    """Raises KiyasError where a study's settings cannot judge these problems: their mode, or modules of their tests."""
    try:
        judge.check_ready(problems, mode=settings.mode, isolation=settings.isolation, python=settings.python)
    except judge.SandboxError:
        raise
    except judge.JudgeError as error:
        raise KiyasError(error.args[0], error.hint) from error


def verdicts(
    programs: Iterable[tuple[str, str]], problems: Iterable[judge.Problem], settings: Judge
) -> Iterator[judge.Verdict]:
    """Verdicts of (problem, program), in their order, judged as a study's settings say."""
    return judge.judge(
        (judge.Program(problem, program) for problem, program in programs),
        problems,
        mode=settings.mode,
        limits=judge.Limits(settings.time_limit_s, settings.memory_limit_mb),
        workers=settings.workers,
        isolation=settings.isolation,
        python=settings.python,
    )


def _key(row: dict[str, Any]) -> Key:
    return (AdapterId.of(row), str(row["problem_id"]), row["sample"])


def _verdicts_so_far(folder: RunDir) -> dict[Key, str]:
    """What stands in the file; rows of a failed sandbox are taken out of it."""
    if not folder.judgments.exists():
        return {}
    rows = read_jsonl(folder.judgments)
    kept = [row for row in rows if row["verdict"] != judge.Outcome.IE]
    if len(kept) < len(rows):
        write_jsonl(folder.judgments, kept)
    return {_key(row): row["verdict"] for row in kept}


def _row(completion: Completion) -> dict[str, Any]:
    """What a judgment says of its completion: whose, which program, and how the program was found."""
    extraction = judge.extract(completion.text)
    return {
        **completion.adapter.fields(),
        "problem_id": completion.problem_id,
        "sample": completion.sample,
        "program": extraction.program,
        "extraction": {"method": extraction.method, "reason": extraction.reason},
    }
