"""Other people's training logs → rows of train/log.jsonl.

Read: CSV tables (`Step,Train_Loss,Valid_Loss,Test_Loss`, any case), Hugging Face's `trainer_state.json`
(`log_history`), JSON lists and JSONL of such rows, exports of experiment trackers. What a name means: `columns`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kiyas.interop import columns, names
from kiyas.interop.answers import MOST_STEPS
from kiyas.interop.columns import Kind, Loss
from kiyas.interop.files import File, Notes, Row, Table, some
from kiyas.interop.names import Named
from kiyas.types import KiyasError

NAME = "training logs"
EXTRAS = ("learning_rate", "grad_norm")
SUMMARY = ("train_runtime", "total_flos")
ABSENT = frozenset(("", "no log", "n/a", "na", "none", "null", "-", "--", "—"))


@dataclass(frozen=True)
class Log:
    """The losses of one training in one file."""

    file: File
    named: Named
    rows: list[Row]
    count: int
    """rows of the file that they are from"""

    def renamed(self, arm: str) -> Log:
        old = self.named.arm
        rows = [{**row, "arm": arm, **({"on": arm} if row.get("on") == old else {})} for row in self.rows]
        return replace(self, named=replace(self.named, arm=arm), rows=rows)


def recognises(row: Row) -> bool:
    """Does this row hold a loss at a step?"""
    return columns.step_key(row) is not None and any(map(columns.is_loss, row))


def stepless(row: Row) -> bool:
    """A row of losses by epoch or with no place at all: recognised to be refused by name."""
    found = columns.losses(row)[0]
    return columns.step_key(row) is None and any(isinstance(row[loss.key], int | float | str) for loss in found)


def joined(lists: list[tuple[str, Table]], path: Path) -> Table:
    """One table of the lists in a JSON document that hold losses, each with its key.

    A list that is called `eval` or `test` holds such losses, whatever its column is called. Raises KiyasError where
    several lists have names that say nothing.
    """
    parts = [(columns.part_of(key), table) for key, table in lists]
    if len(lists) > 1 and (None in dict(parts) or len(dict(parts)) < len(parts)):
        names = some((key or "the list itself" for key, _ in lists), 4)
        raise KiyasError(
            f"{path}: several lists hold losses, {names}, and their names do not say which is which",
            "call them train, eval and test, or give each a file of its own",
        )
    return [(where, _called(part, row)) for part, table in parts for where, row in table]


def _called(part: str | None, row: Row) -> Row:
    """The row with its losses called after their list."""
    if part in (None, "train"):
        return row
    plain = {loss.key for loss in columns.losses(row)[0] if loss.kind is Kind.TRAIN}
    return {f"{part}_loss" if key in plain else key: value for key, value in row.items()}


def read(
    table: Table, file: File, named: Named, known: Iterable[str], arm_of: Mapping[str, str], notes: Notes
) -> list[Log]:
    """The logs in a file: one, or one for each run of a tracker's export, whose arms the runs' names say."""
    runs = list(dict.fromkeys(loss.run for _, row in table for loss in columns.losses(map(str, row))[0]))
    if set(runs) <= {None} or (
        len(runs) == 1 and (named.given or named.arm in known or not names.EXPORT.match(file.path.name))
    ):
        return [Log(file, named, *_read(table, file, named, notes))]
    found = []
    for run in runs:
        whose = named if run is None else names.of_run(run, arm_of, known)
        rows = [(where, {key: value for key, value in row.items() if _is_of(str(key), run)}) for where, row in table]
        found.append(Log(file, whose, *_read(rows, file, whose, notes)))
    return found


def _is_of(key: str, run: str | None) -> bool:
    """Is this a column of the run, or of all?"""
    found = columns.losses([key])
    return not found[0] or found[0][0].run == run


def losses(table: Table, file: File, named: Named, notes: Notes) -> list[Row]:
    """The file's losses in order of step; later rows of a step replace earlier ones.

    Raises KiyasError for a row that cannot be read; where the file was found by searching the row is noted.
    """
    return _read(table, file, named, notes)[0]


def _read(table: Table, file: File, named: Named, notes: Notes) -> tuple[list[Row], int]:
    """(losses, rows of the table that they are from)."""
    endless: dict[str, list[int]] = {}
    found: dict[tuple[str, str, int], Row] = {}
    source: dict[tuple[str, str, int], str] = {}
    finite = 0
    strange: dict[str, None] = {}
    before = -math.inf
    with notes.rows(file, len(table)) as rows:
        for where, raw in table:
            row = {str(key): value for key, value in raw.items() if key is not None}
            with rows.one():
                key_of_step = columns.step_key(row)
                step = None if key_of_step is None else _number(row[key_of_step], where, key_of_step)
                if step is None or not math.isfinite(step):
                    rows.left_out("a row without a step was left out", "had no step")
                    continue
                read, unread = _losses(row, named, step, where)
                strange |= dict.fromkeys(unread)
                if read is None:
                    rows.left_out("the summary row at the end was left out", "summed up the training")
                    continue
                if step != int(step):
                    rows.left_out("a row whose step is not a whole number was left out", "had no whole step")
                    continue
                if not 0 <= step <= MOST_STEPS:
                    rows.left_out("a row with an impossible step was left out", "had an impossible step")
                    continue
                if step < before:
                    rows.odd["the steps go backwards (a restart?); the later row of each step was kept"] += 1
                before = step
                if not read:
                    rows.left_out("", "held no loss")
                    continue
                used = False
                for out in read:
                    key = (out["kind"], out.get("on", ""), out["step"])
                    if not math.isfinite(out["loss"]):
                        endless.setdefault(out["kind"], []).append(out["step"])
                        continue
                    used = True
                    source[key] = where
                    if key in found and found[key] != out:
                        rows.odd["two different losses at one step; the later one was kept"] += 1
                    found[key] = out
                finite += used
                if not used:
                    rows.left_out("", "held no finite loss")
        used_rows = len(set(source.values()))
        rows.left["gave way to a later row of the same step"] += finite - used_rows
    for kind, steps in endless.items():
        what = f"the {kind} loss is not a finite number and was left out, first at step {min(steps)}"
        notes.add(what, file.path, len(steps))
    if strange:
        notes.add(
            f"columns that Kıyas does not understand were left out: {some(strange, 8)} (a training loss is called "
            "train_loss, a validation loss eval_loss, one on other data eval_NAME_loss)",
            file.path,
        )
    if not found:
        notes.add("holds no losses", file.path)
    return sorted(found.values(), key=lambda row: (row["step"], row["kind"], row.get("on", ""))), used_rows


def told_apart(logs: list[Log], arm_of: Mapping[str, str], notes: Notes) -> list[Log]:
    """Logs of one arm whose names differ in a number, a date or another script are of arms of their own, unless their
    losses agree: then they are one training's."""
    labels = [log.named.label for log in logs]
    for at, log in enumerate(logs):
        for other in range(at):
            if (
                logs[other].named.arm == log.named.arm
                and labels[other] != labels[at]
                and _agree(logs[other].rows, log.rows)
            ):
                labels[at] = labels[other]
                break
    whose = [replace(log.named, label=label) for log, label in zip(logs, labels, strict=True)]
    arms = names.told_apart(whose, arm_of)
    for remark in names.notes_of([log.named.arm for log in logs], arms):
        notes.add(remark)
    return [log if arm == log.named.arm else log.renamed(arm) for log, arm in zip(logs, arms, strict=True)]


def _agree(one: list[Row], other: list[Row]) -> bool:
    """Do they have losses at the same steps, all alike?"""
    first, second = (
        {(row["seed"], row["kind"], row.get("on"), row["step"]): row["loss"] for row in rows} for rows in (one, other)
    )
    both = first.keys() & second.keys()
    return bool(both) and all(_close(first[key], second[key]) for key in both)


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=2e-3)  # tables are often rounded


def merged(logs: list[Log], notes: Notes) -> list[Row]:
    """One log of each arm and seed, in order of step.

    Files that agree where they overlap are parts of one log, as the histories in a training's checkpoints are. Of two
    that contradict one another and begin at the same step, the shorter is left out: it is from another training. One
    that begins later goes on from there, and its losses count. Both are noted. Files with different names that have no
    step in common may be of two trainings: the shorter is left out.
    """
    kept: dict[tuple[Any, ...], Row] = {}
    source: dict[tuple[Any, ...], tuple[Log, int]] = {}
    starts = [(min((row["step"] for row in log.rows), default=0), log) for log in logs]
    for start, log in sorted(starts, key=lambda item: (item[0], -len(item[1].rows))):
        mine = {(row["arm"], row["seed"], row["kind"], row.get("on"), row["step"]): row for row in log.rows}
        both = mine.keys() & kept.keys()
        differ = [key for key in both if not _close(mine[key]["loss"], kept[key]["loss"])]
        if differ:
            first = min(differ, key=lambda key: int(key[-1]))
            other, began = source[first]
            what = f"{len(differ)} losses differ from those of {other.file.path}, such as at step {first[-1]}"
            if start <= began:
                notes.add(
                    f"{what}: another training of arm {first[0]}, left out; name its arm with --arm", log.file.path
                )
                notes.left_out(log.count, "belonged to another training")
                continue
            notes.add(f"{what}, which begins earlier (a restart?); the later losses were kept", log.file.path)
        elif not both and (others := _strangers(mine, source, log)):
            notes.add(
                f"has no step in common with {others[0].file.path}, and another name: perhaps another training of arm "
                f"{log.named.arm}, left out; name its arm with --arm",
                log.file.path,
            )
            notes.left_out(log.count, "belonged to another training")
            continue
        kept |= mine
        source |= dict.fromkeys(mine, (log, start))
    return sorted(kept.values(), key=lambda r: (r["step"], r["arm"], r["seed"], r["kind"], r.get("on", "")))


def _strangers(
    mine: Iterable[tuple[Any, ...]], source: Mapping[tuple[Any, ...], tuple[Log, int]], log: Log
) -> list[Log]:
    """Logs of another name that hold losses of the same training and kind."""
    kinds = {key[:-1] for key in mine}
    others = [other for key, (other, _) in source.items() if key[:-1] in kinds]
    return [other for other in others if other.file.path.name != log.file.path.name]


def _losses(row: Row, named: Named, step: float, where: str) -> tuple[list[Row] | None, list[str]]:
    """The training, validation and test losses of one raw row, None for a summary; and what was not understood."""
    common: Row = {"arm": named.arm, "variant": "", "seed": named.seed, "step": int(step)}
    plain = {key.strip().lower(): value for key, value in row.items()}
    common |= _finite(plain, ("epoch",), where)
    if any(not _absent(plain.get(key)) for key in SUMMARY):
        return None, []
    there = [key for key, value in row.items() if columns.is_loss(key) and not _absent(value)]
    read, strange = columns.losses(there)
    found: list[Row] = []
    for loss in read:
        alike = [each for each in read if (each.kind, each.on) == (loss.kind, loss.on)]
        numbers = [_number(row[each.key], where, each.key) for each in alike]
        if len(set(numbers)) > 1:
            strange.append(loss.key)
            continue
        if loss is alike[0] and numbers[0] is not None:
            found.append(_row(loss, common, numbers[0], named.arm) | _extras(loss, plain, where))
    return found, strange


def _row(loss: Loss, common: Row, value: float, own: str) -> Row:
    if loss.kind is Kind.TRAIN:
        return {"kind": "train", **common, "loss": value}
    return {"kind": "validation", **common, "on": own if loss.on is None else loss.on, "loss": value}


def _extras(loss: Loss, plain: Row, where: str) -> Row:
    return _finite(plain, EXTRAS, where) if loss.kind is Kind.TRAIN else {}


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in ABSENT)


def _finite(row: Row, keys: tuple[str, ...], where: str) -> dict[str, float]:
    """Those of the keys that are there; JSON has no NaN, so what is not finite counts as absent."""
    numbers = {key: _number(row.get(key), where, key) for key in keys}
    return {key: number for key, number in numbers.items() if number is not None and math.isfinite(number)}


def _number(value: Any, where: str, key: str) -> float | None:
    if _absent(value):
        return None
    try:
        if not isinstance(value, int | float | str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise KiyasError(f"{where}: {key:.80} is {str(value)[:80]!r}, expected a number") from None
