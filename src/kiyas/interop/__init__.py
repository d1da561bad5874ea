"""Other people's logs and results → a run folder that `analyse` and `report` read like one of ours.

Nothing is invented: what a file does not tell stays absent, what is odd stands in `notes` of resolved.json
and in the report. Recorded verdicts are marked as such; they were not found by our judge.
"""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kiyas.interop import adapters, course, livecodebench, lm_eval, logs, names
from kiyas.interop.answers import OWED, Answer, Format
from kiyas.interop.files import LARGEST, SUFFIXES, File, Notes, Row, Table, search, tables
from kiyas.interop.outcomes import (
    Key,
    Part,
    adapter_of,
    check_totals,
    merge,
    note_owed,
    one_benchmark,
    part,
    problems_of,
    several,
)
from kiyas.interop.rejudge import Rejudged, rejudge, table
from kiyas.judge import JudgeError, read_problems
from kiyas.judge.version import VERSION
from kiyas.runfolder.files import atomic_text, read_json, sha256, write_json, write_jsonl
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.study.settings import Judge
from kiyas.types import AdapterId, KiyasError

__all__ = ["ImportSummary", "import_study"]

FORMATS: tuple[Format, ...] = (lm_eval, livecodebench, course)
SHAPES = (
    "read are: results with question_id and passed, LiveCodeBench's code_list, lm-evaluation-harness's samples (JSONL "
    "or JSON); logs with step and loss (CSV, JSONL, JSON), trainer_state.json"
)


@dataclass(frozen=True)
class ImportSummary:
    """What an import found and wrote. `solved`: for each checkpoint (solved, with a verdict, owed), of its answers."""

    run: Path
    name: str
    solved: Mapping[AdapterId, tuple[int, int, int]]
    problems: int
    judgments: int
    losses: Mapping[tuple[str, int], tuple[int, int]]
    """for each (arm, seed): how many, and the last step"""
    read: Mapping[str, tuple[str, ...]]
    """the files that were read, by kind"""
    notes: tuple[str, ...]
    rejudged: str = ""
    trained: tuple[adapters.Trained, ...] = ()
    """PEFT checkpoints that were met, by arm"""
    study: Path | None = None
    """the study file that was written for them"""

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(path for paths in self.read.values() for path in paths)

    @property
    def checkpoints(self) -> tuple[AdapterId, ...]:
        return tuple(self.solved)

    @property
    def log_rows(self) -> int:
        return sum(count for count, _ in self.losses.values())

    def __str__(self) -> str:
        """For the terminal: what was read, each checkpoint with its score, every oddity on a line of its own."""
        lines = [
            f"{self.name}: {self.judgments} answers to {self.problems} problems, {self.log_rows} losses",
            "",
            "read",
        ]
        lines += [f"  {len(paths):>4}  {kind}" for kind, paths in self.read.items()]
        if self.solved:
            lines += ["", f"  {'checkpoint':<36} {'solved':>9} {'owed':>6}"]
            for adapter, (solved, judged, owed) in self.solved.items():
                lines.append(f"  {_whose(adapter):<36} {f'{solved}/{judged}':>9} {owed or '':>6}".rstrip())
        for (arm, seed), (count, last) in self.losses.items():
            lines.append(f"  losses of {arm}{f', seed {seed}' if seed else ''}: {count}, up to step {last}")
        for each in self.trained:
            steps = ", ".join(str(checkpoint.step) for checkpoint in each.checkpoints)
            lines.append(f"  PEFT checkpoints of {each.arm}: steps {steps}")
        if self.rejudged:
            lines += ["", self.rejudged]
        if self.notes:
            lines += ["", f"odd ({len(self.notes)})", *(f"  - {note}" for note in self.notes)]
        return "\n".join(lines)


def _whose(adapter: AdapterId) -> str:
    if adapter.is_base:
        return adapter.arm
    seed = f", seed {adapter.seed}" if adapter.seed else ""
    return f"{adapter.arm}{f' {adapter.variant}' if adapter.variant else ''}, step {adapter.step}{seed}"


def import_study(
    sources: list[Path],
    run: Path,
    *,
    problems: Path | None = None,
    name: str | None = None,
    arm_of: Mapping[str, str] | None = None,
    only: list[str] | None = None,
    judge: Judge | None = None,
) -> ImportSummary:
    """Reads files and folders (searched through) and writes a run folder of kind "import".

    `problems`: the benchmark, in any format that the judge reads; without it problems are rebuilt from the rows.
    `arm_of`: text, path or glob found in a file's name → its arm; or an arm as found → its right name. `only`: texts or
    globs; files whose path matches none are passed over. `judge`: judge every recorded program again, with these
    settings. A broken file is noted and left out where it was found by searching. Raises KiyasError where the user
    named it, when nothing usable is there, and for a `run` that holds anything but an earlier import; nothing is
    deleted or written then.
    """
    started = time.monotonic()
    folder = RunDir(run)
    _refuse(folder)
    _refuse_own(folder, [*sources, *([problems] if problems else [])])
    notes = Notes()
    # The results of an earlier import are no sources of the next, where a source holds the run folder.
    own = run.resolve() if folder.resolved.exists() else None
    skip = problems.resolve() if problems else None
    files = [file for file in search(sources, only or [], own) if file.path.resolve() != skip]
    _refuse_own(folder, [file.path for file in files])
    peft = {file.path.parent: file.folders[:-1] for file in files if file.path.name == adapters.CONFIG}
    trained = tuple(adapters.arms(list(peft.items()), arm_of or {})) if peft else ()
    # Beside an adapter only the log is of interest.
    files = [file for file in files if file.path.parent not in peft or file.path.name == adapters.STATE]
    found = _read(files, dict(arm_of or {}), notes)
    known = _known_problems(problems)
    title = name or sources[0].resolve().name
    answers = merge(one_benchmark(found.parts, set(known) if known else None, notes), notes)
    log = logs.merged(found.logs, notes)
    if trained and not answers and all(file.path.parent in peft for file, _ in found.logs):
        # The run folder will be the study's own: the losses beside the adapters come with them.
        written = _write_study(folder, adapters.study_file(title, trained, problems))
        paths = {"PEFT checkpoints": tuple(str(c.path) for each in trained for c in each.checkpoints)}
        return ImportSummary(run, title, {}, 0, 0, {}, paths, notes.lines(), trained=trained, study=written)
    if not answers and not log and not found.summaries:
        told = "".join(f"\n  {line}" for line in notes.lines())
        raise KiyasError(f"found neither results nor training logs in {', '.join(map(str, sources))}{told}", SHAPES)
    check_totals(found.summaries, answers, notes)
    if not answers and not log:
        told = "".join(f"\n  {line}" for line in notes.lines())
        raise KiyasError(f"found totals alone, neither results nor training logs{told}", "the results' rows are needed")
    benchmark = _benchmark(problems, known, problems_of(answers), notes)
    _note_missing(answers, benchmark, notes)
    if judge is None:
        note_owed(answers, notes)
    rejudged = rejudge(answers, benchmark, judge) if judge is not None else None
    rows = {key: _judgment(key, answers[key], rejudged) for key in sorted(answers)}

    read = {**found.files, **({"problems": [problems]} if problems else {})}
    digests = {str(path): sha256(path) for paths in read.values() for path in paths}
    told_notes = [*notes.lines(), *([str(rejudged)] if rejudged else [])]
    resolved = _resolved(title, told_notes, judge, rejudged)
    completions = [_completion(key, answers[key]) for key in rows]
    study = _write_study(folder, adapters.study_file(f"{title}-judged", trained, problems)) if trained else None
    _write(folder, resolved, benchmark, log, completions, list(rows.values()), rejudged, digests, started)
    return ImportSummary(
        run,
        title,
        _solved(rows),
        len(benchmark),
        len(rows),
        _losses(log),
        {kind: tuple(map(str, paths)) for kind, paths in read.items()},
        notes.lines(),
        f"{rejudged}\nwhere they differ: {folder.differences}" if rejudged else "",
        trained,
        study,
    )


# -- reading ------------------------------------------------------------------------------------------------------


class _Found:
    """What the files say, by kind; `files` are those that were read."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.summaries: list[tuple[Path, AdapterId, course.Totals]] = []
        self.logs: list[tuple[File, list[Row]]] = []
        self.files: dict[str, list[Path]] = {}


def _read(files: list[File], arm_of: Mapping[str, str], notes: Notes) -> _Found:
    """Reads every file that is of a known kind. Others are noted, or KiyasError where the user named them."""
    found = _Found()
    waiting: list[tuple[File, Table]] = []  # logs: their arms are best told by those of the results
    strange: list[str] = []
    other: Counter[str] = Counter()
    for file in files:
        try:
            if file.path.suffix not in SUFFIXES or file.path.stat().st_size > LARGEST:
                kind = None
            elif not file.path.stat().st_size:
                kind = "empty"
            else:
                kind = _read_one(file, arm_of, found, waiting, notes)
        except KiyasError as error:
            if file.named:
                raise
            notes.add(f"left out: {error.args[0].removeprefix(f'{file.path}: ')}", file.path)
            continue
        if kind == "empty":
            notes.add("the file is empty", file.path)
        elif kind is not None:
            found.files.setdefault(kind, []).append(file.path)
        elif file.named:
            raise KiyasError(f"{file.path}: neither results nor a training log", SHAPES)
        elif file.path.suffix in SUFFIXES:
            strange.append(file.path.name)
        else:
            other[file.path.suffix or "no suffix"] += 1
    known = {adapter.arm for each in found.parts for adapter in each.checkpoints} - {"base"}
    for file, table_ in waiting:
        named = names.of_log(file.path, arm_of, known, file.folders)
        found.logs.append((file, logs.losses(table_, file, named, notes)))
    if strange:
        unique = list(dict.fromkeys(strange))
        shown = ", ".join(unique[:6]) + (" …" if len(unique) > 6 else "")
        notes.add(f"neither results nor training logs, left out: {shown} ({len(strange)} files)")
    if other:
        notes.add("files of other kinds were left out: " + ", ".join(f"{suffix} {n}" for suffix, n in other.items()))
    return found


def _read_one(
    file: File, arm_of: Mapping[str, str], found: _Found, waiting: list[tuple[File, Table]], notes: Notes
) -> str | None:
    """Reads the first table of a known kind in the file; says which kind it is."""
    there = tables(file, notes)
    for table_ in there:
        format = next((each for each in FORMATS if any(each.recognises(row) for _, row in table_)), None)
        if format is not None:
            named = names.of_outcomes(file.path, arm_of, file.folders)
            found.parts.append(part(table_, format, file, named, arm_of, notes))
            return format.NAME
        if any(logs.recognises(row) for _, row in table_):
            waiting.append((file, table_))
            return logs.NAME
        totals = [each for where, row in table_ if (each := course.totals(row, where))]
        for each in totals:
            named = names.of_outcomes(each.about, arm_of, file.folders)
            found.summaries.append((file.path, adapter_of(named), each))
        if totals:
            return course.SUMMARIES
    return "empty" if not any(there) and file.path.suffix != ".json" else None


def _known_problems(given: Path | None) -> dict[str, Row]:
    """The given problems, by id, in the judge's own format."""
    if given is None:
        return {}
    if not given.exists():
        raise KiyasError(f"no such file: {given}")
    try:
        return {problem.id: problem.to_row() for problem in read_problems(given)}
    except JudgeError as error:
        raise KiyasError(f"not a problem file: {error.args[0]}", error.hint) from error


def _benchmark(given: Path | None, known: dict[str, Row], met: dict[str, Row], notes: Notes) -> list[Row]:
    """The problems that were answered: as given, else as far as the rows tell."""
    if given is not None and met:
        unjudged = [problem for problem in known if problem not in met]
        if unjudged:
            notes.add(f"{several(unjudged)} never answered here; left out", given)
        strange = sorted(problem for problem in met if problem not in known)
        if strange:
            notes.add(f"does not hold {several(strange)}; rebuilt from the rows", given)
    rebuilt = {problem: {"tests": [], **row} for problem, row in sorted(met.items()) if problem not in known}
    silent = [problem for problem, row in rebuilt.items() if not row["tests"] and "test_code" not in row]
    if silent and given is None:
        notes.add("no problem file was given: problems were rebuilt from the rows; their tests are unknown")
    return [known[problem] for problem in known if problem in met] + list(rebuilt.values())


def _note_missing(answers: Mapping[Key, Answer], benchmark: list[Row], notes: Notes) -> None:
    """Notes the checkpoints that lack problems which others have: their verdicts are owed."""
    have: dict[AdapterId, set[str]] = {}
    for adapter, problem, _ in answers:
        have.setdefault(adapter, set()).add(problem)
    for adapter, got in sorted(have.items()):
        absent = [str(row["id"]) for row in benchmark if str(row["id"]) not in got]
        if absent:
            notes.add(f"{adapter}: no verdict for {several(absent)}")


# -- writing ------------------------------------------------------------------------------------------------------


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


def _write_study(folder: RunDir, text: str) -> Path:
    path = folder.study_copy
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise KiyasError(f"{path} exists already and says something else; nothing was written", "import elsewhere")
    atomic_text(path, text)
    return path


def _refuse_own(folder: RunDir, sources: list[Path]) -> None:
    """No source may lie where the import writes."""
    root = folder.root.resolve()
    for path in sources:
        if path.resolve().is_relative_to(root):
            raise KiyasError(
                f"{path} lies in the folder that the import would write, {folder.root}", "import into another folder"
            )


def _judgment(key: Key, answer: Answer, rejudged: Rejudged | None) -> Row:
    adapter, problem, sample = key
    row = {
        **adapter.fields(),
        "problem_id": problem,
        "sample": sample,
        "program": answer.program,
        "extraction": "recorded",
        "verdict": answer.verdict or "IE",
        "passed": answer.passed,
        "total": answer.total,
        "cpu_s": None,
        "wall_s": None,
        "peak_mb": None,
        "tests": [],
        "detail": answer.detail if answer.verdict else "the source holds the answer and no verdict",
        "flags": [],
        **answer.measures,
        "recorded": True,
    }
    return {**row, **(rejudged.rows.get(key, {}) if rejudged else {})}


def _completion(key: Key, answer: Answer) -> Row:
    adapter, problem, sample = key
    return {
        **adapter.fields(), "problem_id": problem, "sample": sample, "text": answer.text or "",
        "prompt_tokens": None, "tokens": None, "stop": None,
    }  # fmt: skip


def _solved(rows: Mapping[Key, Row]) -> dict[AdapterId, tuple[int, int, int]]:
    verdicts: dict[AdapterId, list[str]] = {}
    for (adapter, _, _), row in rows.items():
        verdicts.setdefault(adapter, []).append(row["verdict"])
    return {
        adapter: (each.count("AC"), sum(v not in OWED for v in each), sum(v in OWED for v in each))
        for adapter, each in sorted(verdicts.items())
    }


def _losses(log: list[Row]) -> dict[tuple[str, int], tuple[int, int]]:
    steps: dict[tuple[str, int], list[int]] = {}
    for row in log:
        steps.setdefault((row["arm"], row["seed"]), []).append(row["step"])
    return {whose: (len(each), max(each)) for whose, each in sorted(steps.items())}


def _resolved(name: str, notes: list[str], judge: Judge | None, rejudged: Rejudged | None) -> Row:
    return {
        "kind": "import",
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "kiyas_version": VERSION,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {},
        "git": None,
        "study": None,
        "declared_sha256": None,
        "base": None,
        "judge": {"tier": rejudged.tier, "mode": judge.mode} if judge and rejudged else None,
        "device": None,
        "overrides": [],
        "notes": notes,
    }


def _write(
    folder: RunDir,
    resolved: Row,
    benchmark: list[Row],
    log: list[Row],
    completions: list[Row],
    judgments: list[Row],
    rejudged: Rejudged | None,
    digests: dict[str, str],
    started: float,
) -> None:
    with folder.lock():
        _refuse(folder)
        folder.drop(Stage.DATA)
        write_json(folder.resolved, resolved)
        tests = sum(len(row.get("tests") or []) or ("test_code" in row) for row in benchmark)
        write_jsonl(folder.problems, benchmark)
        folder.finish(Stage.DATA, digests, {"arms": {}, "problems": len(benchmark), "tests": tests}, 0.0)
        if log:
            write_jsonl(folder.train_log, log)
            folder.finish(Stage.TRAIN, digests, {"rows": len(log)}, 0.0)
        if judgments:
            write_jsonl(folder.completions, completions)
            folder.finish(Stage.GENERATE, digests, {"completions": len(completions)}, 0.0)
            write_jsonl(folder.judgments, judgments)
            if rejudged is not None:
                atomic_text(folder.differences, table(rejudged.differences))
            verdicts = Counter(judgment["verdict"] for judgment in judgments)
            counts = {"judgments": len(judgments), "verdicts": dict(verdicts)}
            folder.finish(Stage.JUDGE, digests, counts, time.monotonic() - started)
