"""Other people's logs and results → a run folder that `analyse` and `report` read like one of ours.

Nothing is invented: what a file does not tell stays absent, what is odd stands in `notes` of resolved.json
and in the report. Recorded verdicts are marked as such; they were not found by our judge.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kiyas import __version__
from kiyas.interop import logs, names
from kiyas.interop.outcomes import Outcomes, is_outcome, listed, rows
from kiyas.judge import InputError, read_problems
from kiyas.rundir import RunDir, Stage, read_json, sha256, write_json, write_jsonl
from kiyas.types import AdapterId, KiyasError

__all__ = ["ImportSummary", "import_study"]

Row = dict[str, Any]
SUFFIXES = (".jsonl", ".json", ".csv")
LARGEST = 2_000_000_000


@dataclass(frozen=True)
class ImportSummary:
    """What an import found and wrote."""

    run: Path
    name: str
    checkpoints: tuple[AdapterId, ...]
    problems: int
    judgments: int
    log_rows: int
    files: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """For the terminal: what was found, then every oddity on a line of its own."""
        arms: dict[str, list[str]] = {}
        for each in self.checkpoints:
            at = f"{each.step}" if not each.seed else f"{each.step} (seed {each.seed})"
            arms.setdefault(each.arm, []).append("" if each.is_base else at)
        lines = [
            f"{self.name}: {len(self.files)} files, {self.judgments} verdicts on {self.problems} problems, "
            f"{self.log_rows} losses"
        ]
        lines += [f"  {arm}: steps {', '.join(steps)}" if any(steps) else f"  {arm}" for arm, steps in arms.items()]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def import_study(
    sources: list[Path],
    run: Path,
    *,
    problems: Path | None = None,
    name: str | None = None,
    arm_of: Mapping[str, str] | None = None,
) -> ImportSummary:
    """Reads files and folders (searched through) and writes a run folder of kind "import".

    `problems`: the benchmark in the judge's format; without it problems are rebuilt from the rows (no tests).
    `arm_of`: text, path or glob found in a file's name → its arm; or an arm as found → its right name.
    Raises KiyasError for a file that cannot be read (file and line), when nothing usable is there, and for a
    `run` that holds anything but an earlier import; nothing is deleted or written then.
    """
    started = time.monotonic()
    arm_of = dict(arm_of or {})
    notes: list[str] = []
    folder = RunDir(run)
    _refuse(folder)
    _refuse_own(folder, [*sources, *([problems] if problems else [])])
    # The results of an earlier import are no sources of the next, where a source holds the run folder.
    own = run.resolve() if folder.resolved.exists() else None
    outcome_files, log_files = _sort(sources, problems, own, notes)
    _refuse_own(folder, [*outcome_files, *log_files])

    outcomes = Outcomes(notes=notes)
    for path in outcome_files:
        outcomes.read(path, names.of_outcomes(path, arm_of), arm_of)
    known = {key[0].arm for key in outcomes.kept} - {"base"}
    log: dict[tuple[Any, ...], Row] = {}
    for path in log_files:
        read = logs.read_log(path, names.of_log(path, arm_of, known), notes)
        clashes = 0
        for row in read:
            key = (row["arm"], row["seed"], row["kind"], row.get("on"), row["step"])
            clashes += key in log and log[key]["loss"] != row["loss"]
            log[key] = row
        if clashes:
            notes.append(f"{path.name}: {clashes} losses differ from those of another log of the same arm")
    if not outcomes.kept and not log:
        raise KiyasError(
            "found neither results nor training logs in " + ", ".join(map(str, sources)),
            "results: JSONL with question_id and passed; logs: CSV with Step and Train_Loss, or trainer_state.json",
        )
    benchmark = _problems(problems, outcomes, notes)
    _missing(outcomes, benchmark, notes)

    title = name or (sources[0].resolve().name if sources else run.name)
    ordered = sorted(log.values(), key=lambda r: (r["step"], r["arm"], r["seed"], r["kind"], r.get("on", "")))
    kept = [outcomes.kept[key] for key in sorted(outcomes.kept)]
    files = [*outcome_files, *log_files, *([problems] if problems else [])]
    _write(folder, title, notes, benchmark, ordered, kept, {str(p): sha256(p) for p in files}, started)
    return ImportSummary(
        run,
        title,
        tuple(sorted({key[0] for key in outcomes.kept})),
        len(benchmark),
        len(kept),
        len(ordered),
        tuple(str(path) for path in files),
        tuple(notes),
    )


def _refuse(folder: RunDir) -> None:
    """An import replaces the stages of an earlier import and nothing else."""
    if folder.resolved.exists():
        resolved = read_json(folder.resolved)
        if not isinstance(resolved, dict) or resolved.get("kind") != "import":
            raise KiyasError(f"{folder.root} holds a run that was made here", "import into another folder")
        return
    if folder.root.exists() and not folder.root.is_dir():
        raise KiyasError(f"{folder.root} is not a folder", "import into a new folder")
    there = [stage.value for stage in Stage if os.path.lexists(folder.stage(stage))]
    if there:
        raise KiyasError(
            f"{folder.root} is no import of ours and holds {', '.join(there)}, which an import would replace",
            "import into a new folder",
        )


def _refuse_own(folder: RunDir, sources: list[Path]) -> None:
    """No source may lie where the import writes."""
    root = folder.root.resolve()
    for path in sources:
        if path.resolve().is_relative_to(root):
            raise KiyasError(
                f"{path} lies in the folder that the import would write, {folder.root}", "import into another folder"
            )


def _files(sources: list[Path], own: Path | None) -> Iterator[tuple[Path, bool]]:
    """Every candidate file once, and whether the user named it."""
    seen: set[Path] = set()
    for source in sources:
        if not source.exists():
            raise KiyasError(f"no such file or folder: {source}")
        inside = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
        for path in inside:
            hidden = any(part.startswith(".") for part in path.relative_to(source).parts)
            if own is not None and path.resolve().is_relative_to(own):
                continue
            if path.resolve() not in seen and not hidden and not path.is_symlink():
                seen.add(path.resolve())
                yield path, path == source


def _sort(
    sources: list[Path], problems: Path | None, own: Path | None, notes: list[str]
) -> tuple[list[Path], list[Path]]:
    """(result files, log files); anything else is noted, or an error when the user named it."""
    results, found_logs = [], []
    other: Counter[str] = Counter()
    for path, named in _files(sources, own):
        if problems is not None and path.resolve() == problems.resolve():
            continue
        kind = _kind(path)
        if kind == "outcomes":
            results.append(path)
        elif kind == "log":
            found_logs.append(path)
        elif named:
            raise KiyasError(
                f"{path}: neither results nor a training log",
                "results: JSONL with question_id and passed; logs: CSV, JSONL or JSON with step and loss",
            )
        elif kind == "empty":
            notes.append(f"{path.name}: the file is empty")
        elif path.suffix in SUFFIXES:
            notes.append(f"{path.name}: neither results nor a training log; left out")
        else:
            other[path.suffix or "no suffix"] += 1
    if other:
        listed = ", ".join(f"{suffix} {n}" for suffix, n in other.items())
        notes.append(f"files of other kinds were left out: {listed}")
    return results, found_logs


def _kind(path: Path) -> str:
    """outcomes | log | empty | other, from the first row."""
    if path.suffix not in SUFFIXES or path.stat().st_size > LARGEST:
        return "other"
    if not path.stat().st_size:
        return "empty"
    if path.suffix == ".csv":
        return "log" if logs.is_log_row(logs.csv_header(path)) else "other"
    if path.suffix == ".json":
        if listed(path, path.read_bytes()):
            return "outcomes"
        value = json.loads(path.read_text(encoding="utf-8-sig"))
        if isinstance(value, dict):
            return "log" if isinstance(value.get("log_history"), list) else "other"
        rows_ = value if isinstance(value, list) else []
        return "log" if any(isinstance(row, dict) and logs.is_log_row(row) for row in rows_) else "other"
    first = next((row for _, row in rows(path, [])), None)
    if first is None:
        return "empty"
    return "outcomes" if is_outcome(first) else "log" if logs.is_log_row(first) else "other"


def _problems(given: Path | None, outcomes: Outcomes, notes: list[str]) -> list[Row]:
    """The problems that were judged, from the given file where it has them, else rebuilt from the rows."""
    known: dict[str, Row] = {}
    if given is not None:
        if not given.exists():
            raise KiyasError(f"no such file: {given}")
        try:
            read_problems(given, "kiyas")
        except InputError as error:
            raise KiyasError(f"not a problem file: {error.args[0]}", error.hint) from error
        for _, row in rows(given, notes):
            known[str(row["id"])] = row
        unjudged = [problem for problem in known if problem not in outcomes.problems]
        if unjudged and outcomes.problems:
            notes.append(f"{given.name}: {_several(unjudged)} never judged here; left out")
        strange = [problem for problem in outcomes.problems if problem not in known]
        if strange:
            notes.append(f"{given.name} does not hold {_several(strange)}; rebuilt from the rows, without tests")
    elif outcomes.problems:
        notes.append("no problem file was given: problems were rebuilt from the rows; their tests are unknown")
    order = [problem for problem in known if problem in outcomes.problems]
    order += sorted(problem for problem in outcomes.problems if problem not in known)
    return [known.get(problem) or {**outcomes.problems[problem], "tests": []} for problem in order]


def _missing(outcomes: Outcomes, benchmark: list[Row], notes: list[str]) -> None:
    """Notes the checkpoints that lack problems which others have: their verdicts are owed."""
    have: dict[AdapterId, set[str]] = {}
    for adapter, problem, _ in outcomes.kept:
        have.setdefault(adapter, set()).add(problem)
    for adapter, got in sorted(have.items()):
        absent = [row["id"] for row in benchmark if str(row["id"]) not in got]
        if absent:
            notes.append(f"{adapter}: no verdict for {_several(absent)}")


def _several(items: list[str]) -> str:
    shown = ", ".join(items[:4]) + (" …" if len(items) > 4 else "")
    return f"{len(items)} {'problem' if len(items) == 1 else 'problems'} ({shown})"


def _write(
    folder: RunDir,
    name: str,
    notes: list[str],
    benchmark: list[Row],
    log: list[Row],
    kept: list[tuple[Row, Row]],
    digests: dict[str, str],
    started: float,
) -> None:
    with folder.lock():
        _refuse(folder)
        folder.drop(Stage.DATA)
        write_json(
            folder.resolved,
            {
                "kind": "import",
                "name": name,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "kiyas_version": __version__,
                "python": platform.python_version(),
                "platform": platform.platform(),
                "packages": {},
                "git": None,
                "study": None,
                "declared_sha256": None,
                "base": None,
                "judge": None,
                "device": None,
                "overrides": [],
                "notes": notes,
            },
        )
        tests = sum(len(row.get("tests") or []) for row in benchmark)
        write_jsonl(folder.problems, benchmark)
        folder.finish(Stage.DATA, digests, {"arms": {}, "problems": len(benchmark), "tests": tests}, 0.0)
        if log:
            write_jsonl(folder.train_log, log)
            folder.finish(Stage.TRAIN, digests, {"rows": len(log)}, 0.0)
        if kept:
            write_jsonl(folder.completions, [completion for _, completion in kept])
            folder.finish(Stage.GENERATE, digests, {"completions": len(kept)}, 0.0)
            write_jsonl(folder.judgments, [judgment for judgment, _ in kept])
            verdicts = Counter(judgment["verdict"] for judgment, _ in kept)
            seconds = time.monotonic() - started
            folder.finish(Stage.JUDGE, digests, {"judgments": len(kept), "verdicts": dict(verdicts)}, seconds)
