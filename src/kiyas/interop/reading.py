"""Files and folders → what each file says: results, totals, training logs, PEFT checkpoints, problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kiyas.interop import adapters, course, livecodebench, lm_eval, logs, names
from kiyas.interop.answers import Format
from kiyas.interop.files import LARGEST, SUFFIXES, File, Notes, Row, Table, search, some, tables
from kiyas.interop.results import Part, adapter_of, part
from kiyas.judge import JudgeError, read_problems
from kiyas.runfolder.paths import RunDir
from kiyas.types import BASE_ARM, AdapterId, KiyasError

FORMATS: tuple[Format, ...] = (lm_eval, livecodebench, course)
READABLE = (
    "Kıyas reads results with question_id and passed, LiveCodeBench's code_list, lm-evaluation-harness's samples "
    "(JSONL or JSON); logs with step and loss (CSV, JSONL, JSON), trainer_state.json"
)


@dataclass
class Found:
    """What the files say, by kind; `files` are those that were read."""

    sources: list[Path]
    problems: Path | None
    parts: list[Part] = field(default_factory=list)
    summaries: list[tuple[Path, AdapterId, course.Totals]] = field(default_factory=list)
    logs: list[tuple[File, list[Row]]] = field(default_factory=list)
    files: dict[str, list[Path]] = field(default_factory=dict)
    peft: frozenset[Path] = frozenset()
    """folders of PEFT checkpoints, whole or not"""
    trained: tuple[adapters.Trained, ...] = ()
    """the checkpoints in them, by arm"""
    known: dict[str, Row] = field(default_factory=dict)
    """the given problems, by id, in the judge's own format"""


def read(
    sources: list[Path],
    problems: Path | None,
    folder: RunDir,
    arm_of: Mapping[str, str],
    only: list[str],
    notes: Notes,
) -> Found:
    """Reads every file that is of a known kind. Others are noted, or KiyasError where the user named them.

    Raises KiyasError where a source is in the `folder` that the import writes.
    """
    _refuse_own(folder, [*sources, *([problems] if problems else [])])
    # The results of an earlier import are not sources of the next, where a source holds the run folder.
    own = folder.root.resolve() if folder.resolved.exists() else None
    skip = problems.resolve() if problems else None
    files = [file for file in search(sources, only, own) if file.path.resolve() != skip]
    _refuse_own(folder, [file.path for file in files])
    found = Found(sources, problems)
    peft = {file.path.parent: file.folders[:-1] for file in files if file.path.name == adapters.CONFIG}
    found.peft = frozenset(peft)
    for what, todo in adapters.not_adapters(dict.fromkeys(file.path.parent for file in files)):
        notes.add(f"{what}; left out: {todo}")
    found.trained = tuple(adapters.arms(list(peft.items()), arm_of))
    # Next to an adapter only the log is of interest.
    files = [file for file in files if file.path.parent not in peft or file.path.name == adapters.STATE]
    _read_files(found, files, arm_of, notes)
    if problems is not None:
        found.known = _known_problems(problems)
        found.files["problems"] = [problems]
    return found


def _refuse_own(folder: RunDir, sources: list[Path]) -> None:
    """No source may be where the import writes."""
    root = folder.root.resolve()
    for path in sources:
        if path.resolve().is_relative_to(root):
            raise KiyasError(
                f"{path} is in the folder that the import would write, {folder.root}", "import into another folder"
            )


def _read_files(found: Found, files: list[File], arm_of: Mapping[str, str], notes: Notes) -> None:
    waiting: list[tuple[File, Table]] = []  # logs: their arms are best matched with those of the results
    strange: list[str] = []
    other: Counter[str] = Counter()
    for file in files:
        try:
            if file.suffix not in SUFFIXES or file.path.stat().st_size > LARGEST:
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
            raise KiyasError(f"{file.path}: neither results nor a training log", READABLE)
        elif file.suffix in SUFFIXES:
            strange.append(file.path.name)
        else:
            other[file.path.suffix or "no suffix"] += 1
    known = {adapter.arm for each in found.parts for adapter in each.checkpoints} - {BASE_ARM}
    for file, table_ in waiting:
        named = names.of_log(file.path, arm_of, known, file.folders)
        found.logs.append((file, logs.losses(table_, file, named, notes)))
    if strange:
        shown = some(dict.fromkeys(strange), 6)
        notes.add(f"neither results nor training logs, left out: {shown} ({len(strange)} files)")
    if other:
        notes.add("files of other kinds were left out: " + ", ".join(f"{suffix} {n}" for suffix, n in other.items()))


def _read_one(
    file: File, arm_of: Mapping[str, str], found: Found, waiting: list[tuple[File, Table]], notes: Notes
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
    return "empty" if not any(there) and file.suffix != ".json" else None


def _known_problems(given: Path) -> dict[str, Row]:
    if not given.exists():
        raise KiyasError(f"no such file: {given}")
    try:
        return {problem.id: problem.to_row() for problem in read_problems(given)}
    except JudgeError as error:
        raise KiyasError(f"not a problem file: {error.args[0]}", error.hint) from error
