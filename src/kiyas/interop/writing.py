"""A merged study → its run folder, of kind "import"."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from kiyas.interop import adapters
from kiyas.interop.answers import Answer
from kiyas.interop.files import Notes, Row
from kiyas.interop.kept import forget
from kiyas.interop.merging import Merged
from kiyas.interop.reading import Found
from kiyas.interop.rejudge import Rejudged, table
from kiyas.interop.summary import ImportSummary
from kiyas.judge import Outcome
from kiyas.runfolder.files import atomic_text, sha256, write_jsonl
from kiyas.runfolder.manifests import finish
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import FORMAT, JudgeFacts, Kind, Record, new_id, read_record, write_record
from kiyas.types import AdapterId, Answered, Completion, Judgment, KiyasError


def refuse(folder: RunDir) -> None:
    """An import replaces the stages of an earlier import and nothing else."""
    if folder.resolved.exists():
        if read_record(folder).kind is not Kind.IMPORT:
            raise KiyasError(f"{folder.root} holds a run that was made here", "import into another folder")
        return
    if folder.root.exists() and not folder.root.is_dir():
        raise KiyasError(f"{folder.root} is not a folder", "import into a new folder")
    there = [stage.value for stage in Stage if os.path.lexists(folder.stage(stage))]
    if there:
        raise KiyasError(
            f"{folder.root} is not an import of ours and holds {', '.join(there)}, which an import would replace",
            "import into a new folder",
        )


def write(folder: RunDir, name: str, found: Found, merged: Merged, unusual: Notes, started: float) -> ImportSummary:
    """Writes the run folder, whole or not at all, and a study file for the PEFT checkpoints that were met.

    `started`: when the import began, in seconds of `time.monotonic`.
    """
    notes, count = unusual.lines(), unusual.count()
    if not merged.answers and not merged.log:
        checkpoints = tuple(str(each.path) for arm in found.trained for each in arm.checkpoints)
        study = _write_study(folder, name, found)
        read = {"PEFT checkpoints": checkpoints}
        return ImportSummary(
            name, {}, 0, {}, read, notes, count, trained=found.trained, study=study, problems_file=found.problems
        )
    judgments = {key: _judgment(key, merged.answers[key], merged.rejudged) for key in sorted(merged.answers)}
    written = _write_study(folder, f"{name}-judged", found) if found.trained else None
    _write_stages(
        folder,
        _record(name, (*notes, *filter(None, [count])), merged),
        found,
        merged,
        list(judgments.values()),
        started,
    )
    return ImportSummary(
        name,
        _solved(judgments),
        len(merged.benchmark),
        _losses(merged.log),
        {kind: tuple(map(str, paths)) for kind, paths in found.files.items()},
        notes,
        count,
        f"{merged.rejudged}\nthe differences are listed in {folder.differences}" if merged.rejudged else "",
        found.trained,
        written,
        found.problems,
    )


def _write_study(folder: RunDir, name: str, found: Found) -> Path:
    path, text = folder.study_copy, adapters.study_file(name, found.trained, found.problems)
    if path.exists():
        there = path.read_bytes().decode("utf-8", "replace")
        if there != text and not adapters.is_unedited(there):
            raise KiyasError(
                f"{path} was edited since an import wrote it, or is of other origin; nothing was written",
                "edit that file further (benchmarks, generation), rename it and import again, or give another --out",
            )
    atomic_text(path, text)
    return path


def _judgment(key: Answered, answer: Answer, rejudged: Rejudged | None) -> Row:
    adapter, problem, sample = key
    row = {
        **adapter.fields(),
        "problem_id": problem,
        "sample": sample,
        "program": answer.program,
        "extraction": "recorded",
        "verdict": answer.verdict or Outcome.IE,
        "passed": answer.passed,
        "total": answer.total,
        "cpu_s": None,
        "wall_s": None,
        "peak_mb": None,
        "tests": [],
        "detail": answer.detail if answer.verdict else "the source has the answer but no verdict",
        "flags": [],
        **answer.measures,
        "recorded": True,
    }
    return {**row, **(rejudged.rows.get(key, {}) if rejudged else {})}


def _solved(rows: Mapping[Answered, Row]) -> dict[AdapterId, tuple[int, int, int]]:
    found: dict[AdapterId, list[Judgment]] = {}
    for judgment in map(Judgment.of, rows.values()):
        found.setdefault(judgment.adapter, []).append(judgment)
    return {
        adapter: (sum(j.solved for j in each), sum(not j.missing for j in each), sum(j.missing for j in each))
        for adapter, each in sorted(found.items())
    }


def _losses(log: list[Row]) -> dict[tuple[str, int], tuple[int, int]]:
    steps: dict[tuple[str, int], list[int]] = {}
    for row in log:
        steps.setdefault((row["arm"], row["seed"]), []).append(row["step"])
    return {whose: (len(each), max(each)) for whose, each in sorted(steps.items())}


def _record(name: str, notes: tuple[str, ...], merged: Merged) -> Record:
    judge, rejudged = merged.judge, merged.rejudged
    facts = JudgeFacts(tier=rejudged.tier, mode=judge.mode) if judge and rejudged and rejudged.tier else None
    return Record(
        kind=Kind.IMPORT,
        format=FORMAT,
        run_id=new_id(),
        name=name,
        holds=tuple(
            stage.value
            for stage, there in {
                Stage.DATA: True,
                Stage.TRAIN: merged.log,
                Stage.GENERATE: merged.answers,
                Stage.JUDGE: merged.answers,
            }.items()
            if there
        ),
        judge=facts,
        notes=(*notes, *([str(rejudged)] if rejudged else [])),
    )


def _write_stages(
    folder: RunDir, record: Record, found: Found, merged: Merged, judgments: list[Row], started: float
) -> None:
    digests = {str(path): sha256(path) for paths in found.files.values() for path in paths}
    completions = [
        Completion(*key, answer.text or "", None, None, None).to_row()
        for key, answer in sorted(merged.answers.items(), key=lambda item: item[0])
    ]
    with folder.lock():
        refuse(folder)
        folder.drop(Stage.DATA)
        write_record(folder, record)
        tests = sum(len(row.get("tests") or []) or ("test_code" in row) for row in merged.benchmark)
        write_jsonl(folder.problems, merged.benchmark)
        finish(folder, Stage.DATA, digests, {"arms": {}, "problems": len(merged.benchmark), "tests": tests}, 0.0)
        if merged.log:
            write_jsonl(folder.train_log, merged.log)
            finish(folder, Stage.TRAIN, digests, {"rows": len(merged.log)}, 0.0)
        if judgments:
            write_jsonl(folder.completions, completions)
            finish(folder, Stage.GENERATE, digests, {"completions": len(completions)}, 0.0)
            write_jsonl(folder.judgments, judgments)
            if merged.rejudged is not None:
                atomic_text(folder.differences, table(merged.rejudged.differences))
            verdicts = Counter(judgment["verdict"] for judgment in judgments)
            counts = {"judgments": len(judgments), "verdicts": dict(verdicts)}
            finish(folder, Stage.JUDGE, digests, counts, time.monotonic() - started)
        forget(folder)
