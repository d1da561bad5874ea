"""Files and folders → what each file says: results, totals, training logs, PEFT checkpoints, problems."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from kiyas.interop import adapters, course, evalplus, inspect_logs, livecodebench, lm_eval, logs, names, olmo_eval
from kiyas.interop.answers import Format
from kiyas.interop.files import SUFFIXES, File, Notes, Row, Table, search, some, tables
from kiyas.interop.logs import Log
from kiyas.interop.names import Named
from kiyas.interop.results import Part, part
from kiyas.judge import JudgeError, read_problems
from kiyas.judge.terminal import many
from kiyas.runfolder.files import refuse_not_a_file
from kiyas.runfolder.paths import RunDir
from kiyas.types import BASE_ARM, KiyasError

FORMATS: tuple[Format, ...] = (lm_eval, livecodebench, evalplus, olmo_eval, course)
READABLE = (
    "Kıyas reads results with question_id and passed, LiveCodeBench's code_list, samples of lm-evaluation-harness, "
    "human-eval, EvalPlus, bigcode, olmo-eval and inspect_ai (JSONL, JSON or .eval); logs with step and loss (CSV, "
    "JSONL, JSON), trainer_state.json"
)


@dataclass
class Found:
    """What the files say, by kind; `files` are those that were read."""

    sources: list[Path]
    problems: Path | None
    parts: list[Part] = field(default_factory=list)
    summaries: list[tuple[Path, Named, course.Totals]] = field(default_factory=list)
    logs: list[Log] = field(default_factory=list)
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
    files = [file for file in search(sources, only, own) if os.path.realpath(file.path) != str(skip)]
    _refuse_own(folder, [file.path for file in files])
    found = Found(sources, problems)
    peft = {file.path.parent: file.folders[:-1] for file in files if file.path.name == adapters.CONFIG}
    found.peft = frozenset(peft)
    for what, todo in adapters.not_adapters(dict.fromkeys(file.path.parent for file in files)):
        notes.add(f"{what}; left out: {todo}")
    found.trained = tuple(adapters.arms(list(peft.items()), arm_of, notes))
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
        if Path(os.path.realpath(path)).is_relative_to(root):
            raise KiyasError(
                f"{path} is in the folder that the import would write, {folder.root}", "import into another folder"
            )


def _read_files(found: Found, files: list[File], arm_of: Mapping[str, str], notes: Notes) -> None:
    waiting: list[tuple[File, Table]] = []  # logs: their arms are best matched with those of the results
    strange: list[str] = []
    other: Counter[str] = Counter()
    for file in files:
        rows_read, left = notes.rows_read, notes.left.copy()
        try:
            size = _size(file.path)
            if file.suffix not in SUFFIXES:
                kind = None
            elif not size:
                kind = "empty"
            else:
                kind = _read_one(file, arm_of, found, waiting, notes)
        except KiyasError as error:
            if file.named:
                raise
            notes.add(f"left out: {error.args[0].removeprefix(f'{file.path}: ')}", file.path)
            continue
        if kind in (None, "empty"):
            notes.rows_read, notes.left = rows_read, left
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
    _tell_apart(found, arm_of, notes)
    known = {adapter.arm for each in found.parts for adapter in each.checkpoints} - {BASE_ARM}
    for file, table_ in waiting:
        named = names.of_log(file.path, arm_of, known, file.folders)
        found.logs += logs.read(table_, file, named, known, arm_of, notes)
    found.logs = logs.told_apart(found.logs, arm_of, notes)
    if strange:
        shown = some(dict.fromkeys(strange), 6)
        notes.add(f"neither results nor training logs, left out: {shown} ({many(len(strange), 'file')})")
    if other:
        notes.add("files of other kinds were left out: " + ", ".join(f"{suffix} {n}" for suffix, n in other.items()))


def _size(path: Path) -> int:
    refuse_not_a_file(path)
    try:
        return path.stat().st_size
    except OSError as error:
        raise KiyasError(f"{path} cannot be read: {error.strerror}") from error


def _tell_apart(found: Found, arm_of: Mapping[str, str], notes: Notes) -> None:
    """Gives files whose names differ in more than step and seed an arm each."""
    before = [each.named for each in found.parts]
    renamed = dict(zip(before, names.told_apart(before, arm_of), strict=True))
    for each in found.parts:
        if renamed[each.named] != each.named.arm:
            each.rename(renamed[each.named])
    by_label = {(old.arm, old.label): arm for old, arm in renamed.items()}
    found.summaries = [
        (path, replace(named, arm=by_label.get((named.arm, named.label), named.arm)), totals)
        for path, named, totals in found.summaries
    ]
    for remark in names.notes_of([old.arm for old in renamed], list(renamed.values())):
        notes.add(remark)


def _read_one(
    file: File, arm_of: Mapping[str, str], found: Found, waiting: list[tuple[File, Table]], notes: Notes
) -> str | None:
    """Reads the tables of the first known kind in the file; says which kind it is.

    Raises KiyasError for several lists of results: nobody knows whose each is.
    """
    if file.suffix == inspect_logs.SUFFIX:
        return _read_inspect(file, arm_of, found, notes)
    there = tables(file, notes)
    if any(inspect_logs.is_log(row) for table_ in there[:1] for _, row in table_[:1]):
        return _read_inspect(file, arm_of, found, notes)
    results: list[tuple[Format, Table]] = []
    losses: list[tuple[str, Table]] = []
    totals: list[course.Totals] = []
    for table_ in there:
        table_ = [row for where, document in table_[:1] for row in evalplus.rows(document, where)] or table_
        format = next((each for each in FORMATS if any(each.recognises(row) for _, row in table_)), None)
        if format is not None:
            results.append((format, table_))
        elif any(logs.recognises(row) for _, row in table_):
            losses.append((_key(table_), table_))
        else:
            totals += [each for where, row in table_ if (each := course.totals(row, where))]
    if len(results) > 1:
        raise KiyasError(
            f"{file.path}: several lists hold results, {some((_key(table_) for _, table_ in results), 4)}",
            "give each list a file of its own, with its arm in the name",
        )
    if results:
        format, table_ = results[0]
        named = names.of_outcomes(file.path, arm_of, file.folders)
        found.parts.append(part(table_, format, file, named, arm_of, notes))
        return format.NAME
    if losses:
        # A document that holds lists sums them up itself.
        losses = [each for each in losses if each[1][0][0] != str(file.path)] or losses
        waiting.append((file, logs.joined(losses, file.path)))
        return logs.NAME
    for each in totals:
        found.summaries.append((file.path, names.of_outcomes(each.about, arm_of, file.folders), each))
    if totals:
        return course.SUMMARIES
    rows = (row for table_ in there for where, row in table_ if where != str(file.path))
    bare = next(filter(logs.stepless, rows), None)
    if bare is not None:
        raise KiyasError(f"{file.path}: losses without a step: {some(map(str, bare), 8)}", "add a column `step`")
    return "empty" if not any(there) and file.suffix != ".json" else None


def _key(table: Table) -> str:
    """The list's key in its document."""
    return table[0][0].rpartition(", ")[2].rpartition("[")[0]


def _read_inspect(file: File, arm_of: Mapping[str, str], found: Found, notes: Notes) -> str:
    log = inspect_logs.load(file.path)
    if log.status != "success":
        notes.add(f"the evaluation's status is {log.status}; its samples so far were read", file.path)
    named = names.of_outcomes(file.path, arm_of, (*file.folders, *log.model))
    found.parts.append(part(log.table, inspect_logs, file, named, arm_of, notes))
    return inspect_logs.NAME


def _known_problems(given: Path) -> dict[str, Row]:
    if not given.exists():
        raise KiyasError(f"no such file: {given}")
    refuse_not_a_file(given)
    try:
        return {problem.id: problem.to_row() for problem in read_problems(given)}
    except JudgeError as error:
        raise KiyasError(f"not a problem file: {error.args[0]}", error.hint) from error
