"""Completions → `kiyas.judge` → judgments. A row is written as soon as it is known; what stands is not judged again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kiyas import judge
from kiyas.progress import Bar
from kiyas.rundir import JsonlWriter, RunDir, read_jsonl, write_jsonl
from kiyas.study import Judge
from kiyas.types import AdapterId, Completion, KiyasError

Key = tuple[AdapterId, str, int]


def _key(row: dict[str, Any]) -> Key:
    return (AdapterId.of(row), str(row["problem_id"]), row["sample"])


def judge_completions(folder: RunDir, settings: Judge, bar: Bar) -> dict[str, int]:
    """Judges every completion that has no verdict yet. Returns how often each verdict was given.

    Raises KiyasError when the sandbox failed (IE): such rows are owed, and the same command judges them again.
    """
    problems = judge.read_problems(folder.problems)
    completions = [Completion.of(row) for row in read_jsonl(folder.completions)]
    have: dict[Key, str] = {}
    if folder.judgments.exists():
        rows = read_jsonl(folder.judgments)
        kept = [row for row in rows if row["verdict"] != judge.Outcome.IE]
        if len(kept) < len(rows):
            write_jsonl(folder.judgments, kept)
        have = {_key(row): row["verdict"] for row in kept}
    pending = [completion for completion in completions if completion.key not in have]
    bar.update(len(completions) - len(pending))

    def programs() -> Iterator[judge.Program]:
        for completion in pending:
            extraction = judge.extract(completion.text)
            row = {
                **completion.adapter.fields(),
                "problem_id": completion.problem_id,
                "sample": completion.sample,
                "program": extraction.program,
                "extraction": {"method": extraction.method, "reason": extraction.reason},
            }
            yield judge.Program(completion.problem_id, extraction.program, row, extraction)

    reason = ""
    with JsonlWriter(folder.judgments) as writer:
        for verdict in judge.judge(
            programs(),
            problems,
            mode=settings.mode,
            limits=judge.Limits(settings.time_limit_s, settings.memory_limit_mb),
            workers=settings.workers,
            isolation=settings.isolation,
            python=settings.python,
        ):
            writer.write({**verdict.program.row, **verdict.to_row()})
            have[_key(verdict.program.row)] = verdict.verdict.value
            if verdict.verdict is judge.Outcome.IE:
                reason = verdict.detail
            bar.update()
    counts: dict[str, int] = {}
    for outcome in have.values():
        counts[outcome] = counts.get(outcome, 0) + 1
    if broken := counts.get(judge.Outcome.IE.value, 0):
        raise KiyasError(
            f"{broken} of {len(completions)} programs could not be judged: the sandbox failed, not they ({reason})",
            "see `kiyas doctor`; the same command judges them again. No conclusion is drawn until then",
        )
    return dict(sorted(counts.items()))
