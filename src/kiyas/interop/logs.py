"""Other people's training logs → rows of train/log.jsonl.

Read: CSV tables (`Step,Train_Loss,Valid_Loss,Test_Loss`, any case), Hugging Face's `trainer_state.json`
(`log_history`), JSON lists and JSONL of such rows.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

from kiyas.interop.names import Named
from kiyas.interop.outcomes import MOST_STEPS, rows
from kiyas.types import KiyasError

Row = dict[str, Any]
TRAIN = ("loss", "train_loss", "training_loss")
VALIDATION = ("eval_loss", "valid_loss", "val_loss", "validation_loss")
EXTRAS = ("learning_rate", "grad_norm")
SUMMARY = ("train_runtime", "total_flos")


def is_log_row(row: Row) -> bool:
    """Does this row tell a loss at a step?"""
    keys = {str(key).strip().lower() for key in row}
    return bool(keys & {"step", "global_step"}) and any(key.endswith("loss") for key in keys)


def read_log(path: Path, named: Named, notes: list[str]) -> list[Row]:
    """The file's losses in order of step. Raises KiyasError with file and line for what cannot be read."""
    odd: Counter[str] = Counter()
    found: dict[tuple[str, str, int], Row] = {}
    before = -math.inf
    for where, raw in _raw_rows(path, notes):
        row = {str(key).strip().lower(): value for key, value in raw.items() if key is not None}
        step = _number(row.get("step", row.get("global_step")), where, "step")
        if step is None or not math.isfinite(step):
            odd["a row without a step was left out"] += 1
            continue
        if not 0 <= step <= MOST_STEPS:
            odd["a row with an impossible step was left out"] += 1
            continue
        if step < before:
            odd["the steps go back (a restart?); the later row of a step was kept"] += 1
        before = step
        for out in _losses(row, named, int(step), where, odd):
            key = (out["kind"], out.get("on", ""), out["step"])
            if key in found and found[key] != out:
                odd["two different losses at one step; the later was kept"] += 1
            found[key] = out
    if not found:
        notes.append(f"{path.name}: holds no losses")
    notes += [f"{path.name}: {what} ({n} {'time' if n == 1 else 'times'})" for what, n in odd.items()]
    return sorted(found.values(), key=lambda row: (row["step"], row["kind"], row.get("on", "")))


def _losses(row: Row, named: Named, step: int, where: str, odd: Counter[str]) -> list[Row]:
    """The training, validation and test losses of one raw row."""
    common: Row = {"arm": named.arm, "variant": "", "seed": named.seed, "step": step}
    epoch = _number(row.get("epoch"), where, "epoch")
    if epoch is not None:
        common["epoch"] = epoch
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
        if not math.isfinite(loss):
            odd[f"{key} is not a finite number and was left out"] += 1
        elif key in TRAIN:
            extras = {k: n for k in EXTRAS if (n := _number(row.get(k), where, k)) is not None}
            found.append({"kind": "train", **common, "loss": loss, **extras})
        elif key in VALIDATION:
            found.append({"kind": "validation", **common, "on": named.arm, "loss": loss})
        else:
            match = re.fullmatch(r"(?:eval_)?(.+?)_loss", key)
            on = match.group(1) if match else key
            found.append({"kind": "validation", **common, "on": on, "loss": loss})
    return found


def _number(value: Any, where: str, key: str) -> float | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise KiyasError(f"{where}: {key} is {str(value)[:80]!r}, expected a number") from None


def _raw_rows(path: Path, notes: list[str]) -> list[tuple[str, Row]]:
    if path.suffix == ".csv":
        return _csv_rows(path)
    if path.suffix == ".jsonl":
        return [(f"{path}, line {number}", row) for number, row in rows(path, notes)]
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise KiyasError(f"{path}: not valid JSON ({error})") from error
    history = value.get("log_history") if isinstance(value, dict) else value
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        raise KiyasError(f"{path}: expected `log_history`, a list of objects")
    return [(f"{path}, log_history[{i}]", row) for i, row in enumerate(history)]


def _csv_rows(path: Path) -> list[tuple[str, Row]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise KiyasError(f"{path}: not UTF-8 text ({error})") from error
    reader = csv.DictReader(io.StringIO(text))
    found = []
    try:
        for row in reader:
            if None in row:
                raise KiyasError(f"{path}, line {reader.line_num}: more fields than the header names")
            found.append((f"{path}, line {reader.line_num}", dict(row)))
    except csv.Error as error:
        raise KiyasError(f"{path}, line {reader.line_num}: {error}") from error
    return found


def csv_header(path: Path) -> Row:
    """The first line as a row of empty values, to see what the table is about."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return dict.fromkeys(next(csv.reader(file), []), "")
