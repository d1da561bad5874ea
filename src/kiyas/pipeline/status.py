"""What `kiyas status` and `kiyas doctor` print: looks only, changes nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

from kiyas import judge, report
from kiyas.analyse.findings import Findings, Level
from kiyas.judge.pool import usable_cores
from kiyas.judge.terminal import one_line
from kiyas.judge.version import VERSION
from kiyas.pipeline.stages import saved_checkpoints
from kiyas.runfolder.files import read_jsonl, read_sealed
from kiyas.runfolder.manifests import READS, damages, mend
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import Kind, read_record
from kiyas.work.workers import overlooked_gpu, uses_gpu


def status(folder: RunDir) -> tuple[str, bool]:
    """The stages of a run folder, finished or in progress, and whether the files that it rests on are sound.

    Raises KiyasError when it is not a run folder.
    """
    record = read_record(folder)
    lines = [f"{record.name} ({record.kind}, {record.created}) in {folder.root}"]
    for stage in Stage:
        manifest = folder.manifest(stage)
        if manifest is not None:
            lines.append(f"  {stage.value:<9} done in {manifest['seconds']:.1f} s{_counts(manifest['counts'])}")
        elif folder.stage(stage).exists():
            lines.append(f"  {stage.value:<9}in progress{_under_way(stage, folder)}")
        else:
            lines.append(f"  {stage.value:<9} to do")
    if record.kind is Kind.RUN and folder.manifest(Stage.REPORT) is None:
        lines.append("`kiyas run` with the same study file continues it")
    found = damages(folder, [*READS[Stage.ANALYSE], *READS[Stage.REPORT]])
    for each in found:
        lines += [str(each), f"  hint: {mend(folder, each)}"]
    if folder.findings.exists() and not found:
        lines += _essentials(folder)
        lines += [f"{each}; `kiyas report {folder.root}` writes it again" for each in damages(folder, ["report/"])]
    return "\n".join(map(one_line, lines)), not found


def _essentials(folder: RunDir) -> list[str]:
    """What was found so far, without opening anything."""
    try:
        findings = Findings.from_json(read_sealed(folder.findings))
    except (KeyError, TypeError, ValueError):
        return [f"analyse/findings.json is of another version; `kiyas report {folder.root}` writes it again"]
    scores = [f"{result.arm} {100 * result.mean:.1f}%" for result in findings.results if not result.missing]
    lines = ["", f"{findings.metric} on {findings.problems} problems: {', '.join(scores)}"] if scores else [""]
    lines.append(report.conclusion(findings))
    warnings = sum(remark.level is Level.WARNING for remark in findings.remarks)
    page = folder.report / "index.html"
    if page.exists():
        lines.append(f"report: {page}" + (f" ({warnings} warnings to read first)" if warnings else ""))
    return lines


def _counts(counts: dict[str, object]) -> str:
    told = [f"{value} {key.replace('_', ' ')}" for key, value in counts.items() if isinstance(value, int)]
    return f": {', '.join(told)}" if told else ""


def _under_way(stage: Stage, folder: RunDir) -> str:
    if stage is Stage.TRAIN:
        logs = [row for path in folder.train_state.glob("part-*.jsonl") for row in read_jsonl(path)]
        step = max((row["step"] for row in logs), default=0)
        return f": at step {step}, {len(saved_checkpoints(folder))} checkpoints saved"
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


def doctor() -> str:
    """What this machine can do."""
    lines = [f"kiyas {VERSION}, Python {platform.python_version()}, {platform.platform()}"]
    for name in ("torch", "transformers", "tokenizers", "altair", "vl-convert-python"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = "not installed" + (" (training needs it: pip install 'kiyas[train]')" if name == "torch" else "")
        lines.append(f"  {name} {version}")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    gpu = overlooked_gpu("auto") or ("a GPU driver" if uses_gpu("auto") else "no GPU")
    lines.append(f"  {usable_cores()} cores, {memory:.0f} GiB memory, {free:.0f} GiB free disk here, {gpu}")
    lines += ["", "isolation of judged programs (docs/judge.md):", *_tiers()]
    return "\n".join(map(one_line, lines))


def _tiers() -> list[str]:
    lines = []
    for tier in judge.probe():
        lines.append(f"  {tier.tier:<9} {'holds' if tier.holds else 'does not hold: ' + tier.reason}")
        lines += [f"            {note}" for note in tier.notes if tier.holds]
    return lines
