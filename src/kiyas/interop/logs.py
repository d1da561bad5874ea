"""Other people's training logs → rows of train/log.jsonl.

Read: CSV tables (`Step,Train_Loss,Valid_Loss,Test_Loss`, any case), Hugging Face's `trainer_state.json`
(`log_history`), JSON lists and JSONL of such rows.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

from kiyas.interop.answers import MOST_STEPS
from kiyas.interop.files import File, Notes, Row, Table
from kiyas.interop.names import Named
from kiyas.types import KiyasError

NAME = "training logs"
TRAIN = ("loss", "train_loss", "training_loss")
VALIDATION = ("eval_loss", "valid_loss", "val_loss", "validation_loss")
EXTRAS = ("learning_rate", "grad_norm")
SUMMARY = ("train_runtime", "total_flos")


def recognises(row: Row) -> bool:
    """Does this row hold a loss at a step?"""
    keys = {str(key).strip().lower() for key in row}
    return bool(keys & {"step", "global_step"}) and any(key.endswith("loss") for key in keys)


def losses(table: Table, file: File, named: Named, notes: Notes) -> list[Row]:
    """The file's losses in order of step; later rows of a step replace earlier ones.

    Raises KiyasError for a row that cannot be read; where the file was found by searching the row is noted.
    """
    endless: dict[str, list[int]] = {}
    found: dict[tuple[str, str, int], Row] = {}
    before = -math.inf
    with notes.rows(file) as rows:
        for where, raw in table:
            row = {str(key).strip().lower(): value for key, value in raw.items() if key is not None}
            with rows.one():
                step = _number(row.get("step", row.get("global_step")), where, "step")
                if step is None or not math.isfinite(step):
                    rows.odd["a row without a step was left out"] += 1
                    continue
                read = _losses(row, named, step, where, rows.odd)
                if not 0 <= step <= MOST_STEPS:
                    rows.odd["a row with an impossible step was left out"] += 1
                    continue
                if step < before:
                    rows.odd["the steps go backwards (a restart?); the later row of each step was kept"] += 1
                before = step
                for out in read:
                    key = (out["kind"], out.get("on", ""), out["step"])
                    if not math.isfinite(out["loss"]):
                        endless.setdefault(out["kind"], []).append(out["step"])
                        continue
                    if key in found and found[key] != out:
                        rows.odd["two different losses at one step; the later one was kept"] += 1
                    found[key] = out
    for kind, steps in endless.items():
        what = f"the {kind} loss is not a finite number and was left out, first at step {min(steps)}"
        notes.add(what, file.path, len(steps))
    if not found:
        notes.add("holds no losses", file.path)
    return sorted(found.values(), key=lambda row: (row["step"], row["kind"], row.get("on", "")))


def merged(logs: list[tuple[File, list[Row]]], notes: Notes) -> list[Row]:
    """One log of each arm and seed, in order of step.

    Files that agree where they overlap are parts of one log, as the histories in a training's checkpoints are. Of two
    that contradict one another and begin at the same step, the shorter is left out: it is from another training. One
    that begins later goes on from there, and its losses count. Both are noted.
    """
    kept: dict[tuple[Any, ...], Row] = {}
    source: dict[tuple[Any, ...], tuple[File, int]] = {}
    starts = [(min((row["step"] for row in rows), default=0), file, rows) for file, rows in logs]
    for start, file, rows in sorted(starts, key=lambda log: (log[0], -len(log[2]))):
        mine = {(row["arm"], row["seed"], row["kind"], row.get("on"), row["step"]): row for row in rows}
        # Tables are often rounded.
        both = mine.keys() & kept.keys()
        differ = [key for key in both if not math.isclose(mine[key]["loss"], kept[key]["loss"], rel_tol=2e-3)]
        if differ:
            first = min(differ, key=lambda key: int(key[-1]))
            other, began = source[first]
            what = f"{len(differ)} losses differ from those of {other.path}, such as at step {first[-1]}"
            if start <= began:
                notes.add(f"{what}: another training of arm {first[0]}, left out; name its arm with --arm", file.path)
                continue
            notes.add(f"{what}, which begins earlier (a restart?); the later losses were kept", file.path)
        kept |= mine
        source |= dict.fromkeys(mine, (file, start))
    return sorted(kept.values(), key=lambda r: (r["step"], r["arm"], r["seed"], r["kind"], r.get("on", "")))


def _losses(row: Row, named: Named, step: float, where: str, odd: Counter[str]) -> list[Row]:
    """The training, validation and test losses of one raw row."""
    common: Row = {"arm": named.arm, "variant": "", "seed": named.seed, "step": int(step)}
    common |= _finite(row, ("epoch",), where)
    if any(key in row for key in SUMMARY):
        odd["the summary row at the end was left out"] += 1
        return []
    found: list[Row] = []
    for key, value in row.items():
        if not key.endswith("loss"):
            continue
        loss = _number(value, where, key)
        if loss is None:
            continue
        if key in TRAIN:
            found.append({"kind": "train", **common, "loss": loss, **_finite(row, EXTRAS, where)})
        elif key in VALIDATION:
            found.append({"kind": "validation", **common, "on": named.arm, "loss": loss})
        else:
            match = re.fullmatch(r"(?:eval_)?(.+?)_loss", key)
            on = match.group(1) if match else key
            found.append({"kind": "validation", **common, "on": on, "loss": loss})
    return found


def _finite(row: Row, keys: tuple[str, ...], where: str) -> dict[str, float]:
    """Those of the keys that are there; JSON has no NaN, so what is not finite counts as absent."""
    numbers = {key: _number(row.get(key), where, key) for key in keys}
    return {key: number for key, number in numbers.items() if number is not None and math.isfinite(number)}


def _number(value: Any, where: str, key: str) -> float | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise KiyasError(f"{where}: {key} is {str(value)[:80]!r}, expected a number") from None
