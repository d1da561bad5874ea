"""What an import found and wrote, for the terminal and for Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kiyas.interop.adapters import Trained, to_edit
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
    """how many rows of results and logs were used, and why the others were not; empty where there were none"""
    rejudged: str = ""
    trained: tuple[Trained, ...] = ()
    """PEFT checkpoints that were found, by arm"""
    study: Path | None = None
    """the study file that was written for them"""
    problems_file: Path | None = None
    """the problems that were given"""

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
        adapters = sum(len(each.checkpoints) for each in self.trained)
        found = [f"{many(self.judgments, 'answer')} to {many(self.problems, 'problem')}"] if self.judgments else []
        found += [f"{self.log_rows:,} logged {'loss' if self.log_rows == 1 else 'losses'}"] if self.log_rows else []
        found += [f"{many(adapters, 'PEFT adapter')} of {many(len(self.trained), 'arm')}"] if adapters else []
        lines = [f"{self.name}: {', '.join(found)}", "", "read"]
        lines += [f"  {len(paths):>4}  {kind}" for kind, paths in self.read.items()]
        if self.solved:
            lines += ["", f"  {'checkpoint':<36} {'solved':>9} {'missing':>7}"]
            for adapter, (solved, judged, owed) in self.solved.items():
                lines.append(f"  {_whose(adapter):<36} {f'{solved}/{judged}':>9} {owed or '':>7}".rstrip())
        for (arm, seed), (count, last) in self.losses.items():
            lines.append(f"  losses of {arm}{f', seed {seed}' if seed else ''}: {count}, up to step {last}")
        lines += [f"  PEFT checkpoints of {each.arm}: {_steps(each)}" for each in self.trained]
        bases = dict.fromkeys(checkpoint.base for each in self.trained for checkpoint in each.checkpoints)
        if named := [base for base in bases if base]:
            lines.append(f"  they name the base {' and '.join(named)}")
        if self.study is not None:
            lines.append(f"  wrote {self.study} with {to_edit(self.problems_file)}")
        if self.rejudged:
            lines += ["", *self.rejudged.splitlines()]
        if self.notes:
            lines += ["", f"unusual ({len(self.notes)})", *(f"  - {note}" for note in self.notes)]
        return "\n".join(map(one_line, [*lines, *(["", self.rows] if self.rows else [])]))


def _steps(trained: Trained) -> str:
    """steps 50, 100; or by seed where there are several."""
    of_seed: dict[int, list[str]] = {}
    for each in trained.checkpoints:
        of_seed.setdefault(each.seed, []).append("unknown" if each.step is None else str(each.step))
    several = len(of_seed) > 1
    return "; ".join(
        f"{f'seed {seed}, ' if several else ''}step{'s' * (len(steps) > 1)} {', '.join(steps)}"
        for seed, steps in of_seed.items()
    )


def _whose(adapter: AdapterId) -> str:
    if adapter.is_base:
        return adapter.arm
    seed = f", seed {adapter.seed}" if adapter.seed else ""
    return f"{adapter.arm}{f' {adapter.variant}' if adapter.variant else ''}, step {adapter.step}{seed}"
