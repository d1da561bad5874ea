"""inspect_ai's logs, `*.eval` and `*.json`, read by inspect_ai itself (`pip install 'kiyas[inspect]'`)."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kiyas import judge
from kiyas.interop.answers import Answer, problem_of, text_of
from kiyas.interop.files import Row, Table
from kiyas.judge import Outcome
from kiyas.study import limits
from kiyas.types import KiyasError

NAME = "inspect_ai logs"
SUFFIX = ".eval"
VALUES = {"C": Outcome.AC, "I": Outcome.WA, "N": Outcome.WA, True: Outcome.AC, False: Outcome.WA}
"""What a scorer says: correct, incorrect, no answer; numbers 1 and 0 are True and False"""


@dataclass(frozen=True)
class Log:
    """One evaluation. `model`: the parts of its name, which say whose the answers are."""

    table: Table
    model: tuple[str, ...]
    status: str


def is_log(document: Any) -> bool:
    """Is this JSON document one of its logs?"""
    spec = document.get("eval") if isinstance(document, dict) else None
    return isinstance(spec, dict) and {"task", "model"} <= spec.keys() and "status" in document


def load(path: Path) -> Log:
    """Raises KiyasError where the library is missing or cannot read the file."""
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as error:
        raise KiyasError(
            f"{path}: an inspect_ai log, which only inspect_ai can read", "pip install 'kiyas[inspect]'"
        ) from error
    with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as packed:
        # What is said of a part is also the most that is unpacked of it.
        limits.RESULTS.refuse_above(sum(part.file_size for part in packed.infolist()), path)
    failures = (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        RuntimeError,
        zlib.error,
        zipfile.BadZipFile,
    )
    try:
        log = read_eval_log(str(path), resolve_attachments=True)
    except failures as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise KiyasError(f"{path}: inspect_ai cannot read this log ({said[:200]})") from error
    table = [(f"{path}, sample {sample.id} epoch {sample.epoch}", _row(sample)) for sample in log.samples or ()]
    arguments = log.eval.model_args if isinstance(log.eval.model_args, Mapping) else {}
    name = str(arguments.get("model_path") or log.eval.model)
    parts = tuple(part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", ".", ".."))
    return Log(table, parts if arguments.get("model_path") else parts[1:] or parts, str(log.status))


def _row(sample: Any) -> Row:
    return {
        "inspect_id": sample.id,
        "epoch": sample.epoch,
        "text": sample.output.completion if sample.output else None,
        "scores": {name: (score.value, score.answer) for name, score in (sample.scores or {}).items()},
        "error": sample.error.message if sample.error else None,
        "metadata": dict(sample.metadata or {}),
        "input": sample.input if isinstance(sample.input, str) else None,
    }


def recognises(row: Row) -> bool:
    return "inspect_id" in row


def answers(row: Row, where: str, odd: Counter[str]) -> Iterator[Answer]:
    verdict, program = _verdict(row["scores"], where, odd)
    if row["error"] is not None:
        odd["the evaluation itself failed; no verdict"] += 1
        verdict = Outcome.IE
    yield Answer(
        _problem(row), verdict, max(row["epoch"] - 1, 0), text_of(row["text"]), program, chat=bool(row["text"]),
        detail=str(row["error"] or "").splitlines()[0] if row["error"] else "",
    )  # fmt: skip


def _verdict(scores: Mapping[str, tuple[Any, Any]], where: str, odd: Counter[str]) -> tuple[Outcome | None, str | None]:
    """(verdict, the program that was scored); several scorers must agree."""
    said: dict[str, Outcome | None] = {}
    for name, (value, _) in scores.items():
        try:
            said[name] = VALUES.get(value)
        except TypeError:
            said[name] = None
        if said[name] is None:
            odd[f"scorer {name} says neither correct nor incorrect; no verdict"] += 1
    if len(set(said.values())) > 1:
        each = ", ".join(f"{name} {value}" for name, value in said.items())
        raise KiyasError(f"{where}: its scorers disagree ({each:.200})", "leave one scorer in the log")
    program = next((answer for _, answer in scores.values() if isinstance(answer, str) and answer.strip()), None)
    return next(iter(said.values()), None), program


def _problem(row: Row) -> Row:
    """With its tests, where the sample's metadata holds them."""
    try:
        return {
            **judge.problem_from_row({"task_id": str(row["inspect_id"]), **row["metadata"]}).to_row(),
            "id": str(row["inspect_id"]),
        }
    except judge.JudgeError:
        return problem_of(row["inspect_id"], statement=row["input"])
