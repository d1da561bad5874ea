"""What `kiyas runs`, `kiyas status` and `kiyas doctor` print: looks only, changes nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from kiyas import judge, report
from kiyas.analyse.findings import Findings, Level
from kiyas.judge.pool import usable_cores
from kiyas.judge.terminal import many, one_line
from kiyas.judge.version import VERSION
from kiyas.pipeline.stages import saved_checkpoints, stop_note
from kiyas.runfolder.files import read_jsonl, read_sealed
from kiyas.runfolder.manifests import READS, damages, mend
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import Kind, read_record
from kiyas.types import KiyasError
from kiyas.work.console import plain_console, printed, safe
from kiyas.work.workers import overlooked_gpu, uses_gpu

DONE, BEGUN, TO_DO = "done", "in progress", "to do"


@dataclass(frozen=True)
class StageState:
    """How far one stage is."""

    stage: Stage
    state: str
    """`DONE`, `BEGUN` or `TO_DO`"""
    seconds: float | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)
    """what a finished stage made"""
    so_far: str = ""
    """of a stage in progress, in words"""

    def __str__(self) -> str:
        if self.state == DONE:
            return f"  {self.stage.value:<9} done in {self.seconds:.1f} s{_counts(self.counts)}"
        return f"  {self.stage.value:<9} {self.state}{self.so_far}"


@dataclass(frozen=True)
class Status:
    """How far a run is, and what it found so far."""

    name: str
    kind: Kind
    created: str
    folder: str
    stages: list[StageState]
    damaged: list[dict[str, str]]
    """files that it rests on and that are not as they were written: file, what, hint"""
    conclusion: str | None = None
    badge: str | None = None
    """the conclusion in a few words"""
    scores: Mapping[str, float] = field(default_factory=dict)
    """of each arm whose verdicts are whole"""
    report: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.damaged

    @property
    def to_do(self) -> str:
        """Where it is, in a few words."""
        if self.stages[-1].state == DONE:
            return "finished"
        if self.kind is Kind.IMPORT:
            return "imported"
        waiting = next(each for each in self.stages if each.state != DONE)
        return f"{waiting.stage} {waiting.state}"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "sound": self.sound}

    def __str__(self) -> str:
        lines = [f"{self.name} ({self.kind}, {self.created}) in {self.folder}", *map(str, self.stages)]
        if self.kind is Kind.RUN and self.stages[-1].state != DONE:
            lines.append(f"`kiyas run {self.folder}` continues it")
        for each in self.damaged:
            lines += [f"{each['file']} {each['what']}", f"  hint: {each['hint']}"]
        return "\n".join(map(one_line, [*lines, *self.notes]))


def status(folder: RunDir) -> Status:
    """The stages of a run folder, finished or in progress, and whether the files that it rests on are sound.

    Raises KiyasError when it is not a run folder.
    """
    record = read_record(folder)
    found = list(damages(folder, [*READS[Stage.ANALYSE], *READS[Stage.REPORT]]))
    hints = [{"file": str(each.path), "what": each.what, "hint": mend(folder, each)} for each in found]
    stages = [_state(folder, stage) for stage in Stage]
    made = Status(record.name, record.kind, record.created, str(folder.root), stages, hints)
    return _with_essentials(folder, made) if folder.findings.exists() and not found else made


def _state(folder: RunDir, stage: Stage) -> StageState:
    manifest = folder.manifest(stage)
    if manifest is not None:
        return StageState(stage, DONE, manifest["seconds"], manifest["counts"])
    if folder.stage(stage).exists():
        return StageState(stage, BEGUN, so_far=_under_way(stage, folder) + _stopped(stage, folder))
    return StageState(stage, TO_DO)


def _with_essentials(folder: RunDir, made: Status) -> Status:
    """What was found so far, without opening anything."""
    stale = [f"{each}; `kiyas report {folder.root}` writes it again" for each in damages(folder, ["report/"])]
    try:
        findings = Findings.from_json(read_sealed(folder.findings))
    except (KeyError, TypeError, ValueError):
        old = f"analyse/findings.json is of another version; `kiyas report {folder.root}` writes it again"
        return replace(made, notes=[old, *stale])
    scores = {result.arm: result.mean for result in findings.results if not result.missing}
    said = ", ".join(f"{arm} {100 * mean:.1f}%" for arm, mean in scores.items())
    lines = ["", f"{findings.metric} on {many(findings.problems, 'problem')}: {said}"] if scores else [""]
    sentence = report.conclusion(findings)
    warnings = sum(remark.level is Level.WARNING for remark in findings.remarks)
    page = folder.report / "index.html"
    if page.exists():
        read_first = f" ({many(warnings, 'warning')} to read first)" if warnings else ""
        stale = [f"report: {page}{read_first}", *stale]
    return replace(
        made,
        conclusion=sentence,
        badge=report.badge(findings),
        scores=scores,
        report=str(page) if page.exists() else None,
        notes=[*lines, sentence, *stale],
    )


def _counts(counts: Mapping[str, object]) -> str:
    told = [f"{value} {key.replace('_', ' ')}" for key, value in counts.items() if isinstance(value, int)]
    return f": {', '.join(told)}" if told else ""


def _under_way(stage: Stage, folder: RunDir) -> str:
    if stage is Stage.TRAIN:
        logs = [row for path in folder.train_state.glob("part-*.jsonl") for row in read_jsonl(path)]
        step = max((row["step"] for row in logs), default=0)
        return f": at step {step}, {many(len(saved_checkpoints(folder)), 'checkpoint')} saved"
    if stage is Stage.GENERATE:
        parts = (folder.stage(stage) / "state").glob("*.jsonl")
        return f": {sum(len(read_jsonl(path)) for path in parts)} answers"
    if stage is Stage.JUDGE and folder.judgments.exists():
        done, all = (
            sum(len(read_jsonl(path)) for path in paths if path.exists())
            for paths in ((folder.judgments, folder.redecoded_judgments), (folder.completions, folder.redecoded))
        )
        return f": {done} of {all} programs"
    return ""


def _stopped(stage: Stage, folder: RunDir) -> str:
    note = stop_note(folder, stage)
    return f"; {read_sealed(note)['said']}" if note.exists() else ""


# -- all runs in a folder ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listed:
    """One run of several: all that a list shows."""

    name: str
    folder: str
    state: str
    conclusion: str | None
    """the conclusion in a few words"""
    changed: float
    """when something in it was last written, in seconds since 1970"""


def runs(root: Path) -> list[Listed]:
    """The run folders in a folder, the one that was last written first. Raises KiyasError where there is none."""
    try:
        folders = [RunDir(path) for path in root.iterdir() if RunDir(path).is_begun]
    except OSError as error:
        raise KiyasError(
            f"no runs in {root}: {error.strerror or error}", "`kiyas demo` makes one; --runs names another folder"
        ) from None
    if not folders:
        raise KiyasError(f"no runs in {root}", "`kiyas demo` makes one; --runs names another folder")
    return sorted(map(_listed, folders), key=lambda each: (-each.changed, each.name))


def newest(root: Path) -> RunDir:
    """The run folder that was last written. Raises KiyasError where there is none."""
    return RunDir(Path(runs(root)[0].folder))


def _listed(folder: RunDir) -> Listed:
    written = [folder.resolved, *(folder.manifest_path(stage) for stage in Stage)]
    # A stage's files are written in its folder, or in its state/.
    written += [place for stage in Stage for place in (folder.stage(stage), folder.stage(stage) / "state")]
    changed = max((path.stat().st_mtime for path in written if path.exists()), default=0.0)
    try:
        found = status(folder)
    except KiyasError as error:
        return Listed(folder.root.name, str(folder.root), f"cannot be read: {error.args[0]}", None, changed)
    state = found.to_do if found.sound else f"damaged: see kiyas status {folder.root}"
    return Listed(found.name, str(folder.root), state, found.badge, changed)


def runs_table(listed: list[Listed], width: int, color: bool) -> str:
    """The list for people."""
    console = plain_console(width, color)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("run", "state", "conclusion", "changed"):
        table.add_column(title, no_wrap=title == "changed", overflow="fold")
    for each in listed:
        cells = (each.folder, each.state, each.conclusion or "", f"{_age(time.time() - each.changed)} ago")
        table.add_row(*(Text(safe(cell)) for cell in cells))
    console.print(table)
    return printed(console)


def _age(seconds: float) -> str:
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit:
            return many(int(seconds // unit), name)
    return many(max(0, int(seconds)), "second")


# -- the machine ------------------------------------------------------------------------------------------------------


def doctor() -> dict[str, Any]:
    """What this machine can do; takes about half a second."""
    packages: dict[str, str | None] = {}
    for name in ("torch", "transformers", "tokenizers", "altair", "vl-convert-python"):
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages[name] = None
    return {
        "kiyas": VERSION,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "cores": usable_cores(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "free_disk_bytes": shutil.disk_usage(Path.cwd()).free,
        "gpu": overlooked_gpu("auto") or ("a GPU driver" if uses_gpu("auto") else "no GPU"),
        "isolation": [asdict(tier) for tier in judge.probe()],
    }


def doctor_text(found: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [f"kiyas {found['kiyas']}, Python {found['python']}, {found['platform']}"]
    for name, version in found["packages"].items():
        needed = " (training needs it: pip install 'kiyas[train]')" if name == "torch" else ""
        lines.append(f"  {name} {version or 'not installed' + needed}")
    memory, free = (found[key] / 2**30 for key in ("memory_bytes", "free_disk_bytes"))
    lines.append(
        f"  {many(found['cores'], 'core')}, {memory:.0f} GiB memory, {free:.0f} GiB free disk here, {found['gpu']}"
    )
    lines += ["", "isolation of judged programs (docs/judge.md):"]
    for tier in found["isolation"]:
        lines.append(f"  {tier['tier']:<9} {'holds' if tier['holds'] else 'does not hold: ' + tier['reason']}")
        lines += [f"            {note}" for note in tier["notes"] if tier["holds"]]
    return "\n".join(map(one_line, lines))
