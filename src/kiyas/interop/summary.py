"""What an import found and wrote, for the terminal and for Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kiyas.interop.adapters import Trained
from kiyas.judge.terminal import many, one_line
from kiyas.types import AdapterId


@dataclass(frozen=True)
class ImportSummary:
    """What an import found and wrote. `solved`: for each checkpoint (solved, with a verdict, missing)."""

    name: str
    solved: Mapping[AdapterId, tuple[int, int, int]]
    problems: int
    losses: Mapping[tuple[str, int], tuple[int, int]]
    """for each (arm, seed): how many, and the last step"""
    read: Mapping[str, tuple[str, ...]]
    """the files that were read, by kind"""
    notes: tuple[str, ...]
    rows: str
    """how many rows of results and logs were used, and why the others were not"""
    rejudged: str = ""
    trained: tuple[Trained, ...] = ()
    """PEFT checkpoints that were found, by arm"""
    study: Path | None = None
    """the study file that was written for them"""

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(path for paths in self.read.values() for path in paths)

    @property
    def checkpoints(self) -> tuple[AdapterId, ...]:
        return tuple(self.solved)

    @property
    def judgments(self) -> int:
        return sum(judged + owed for _, judged, owed in self.solved.values())

    @property
    def log_rows(self) -> int:
        return sum(count for count, _ in self.losses.values())

    def __str__(self) -> str:
        """For the terminal: what was read, each checkpoint with its score, every unusual thing on a line of its own."""
        lines = [
            f"{self.name}: {many(self.judgments, 'answer')} to {many(self.problems, 'problem')}, "
            f"{self.log_rows} logged losses",
            "",
            "read",
        ]
        lines += [f"  {len(paths):>4}  {kind}" for kind, paths in self.read.items()]
        if self.solved:
            lines += ["", f"  {'checkpoint':<36} {'solved':>9} {'missing':>7}"]
            for adapter, (solved, judged, owed) in self.solved.items():
                lines.append(f"  {_whose(adapter):<36} {f'{solved}/{judged}':>9} {owed or '':>7}".rstrip())
        for (arm, seed), (count, last) in self.losses.items():
            lines.append(f"  losses of {arm}{f', seed {seed}' if seed else ''}: {count}, up to step {last}")
        for each in self.trained:
            known = [str(checkpoint.step) for checkpoint in each.checkpoints if checkpoint.step is not None]
            steps = f"steps {', '.join(known)}" if known else "one, its step is unknown"
            lines.append(f"  PEFT checkpoints of {each.arm}: {steps}")
        if self.rejudged:
            lines += ["", *self.rejudged.splitlines()]
        if self.notes:
            lines += ["", f"unusual ({len(self.notes)})", *(f"  - {note}" for note in self.notes)]
        return "\n".join(map(one_line, [*lines, "", self.rows]))


def _whose(adapter: AdapterId) -> str:
    if adapter.is_base:
        return adapter.arm
    seed = f", seed {adapter.seed}" if adapter.seed else ""
    return f"{adapter.arm}{f' {adapter.variant}' if adapter.variant else ''}, step {adapter.step}{seed}"
