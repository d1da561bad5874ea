"""The predictions of olmo-eval and OLMES, `*-predictions.jsonl`: one row a problem, one `model_output` a sample.

A sample has its own `sample_metrics` (build_predictions in olmo_eval/runners/io/builders.py); OLMES has `metrics` of
the row alone, a mean over its samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from kiyas.interop.answers import Answer, problem_of, text_of
from kiyas.interop.files import Row
from kiyas.judge import Outcome
from kiyas.types import KiyasError

NAME = "olmo-eval predictions"
METRICS = ("pass_at_1", "pass@1")


def recognises(row: Row) -> bool:
    return (
        "native_id" in row
        and isinstance(row.get("model_output"), list)
        and not {"metrics", "instance_metrics"}.isdisjoint(row)
    )


def answers(row: Row, where: str, odd: Counter[str]) -> Iterator[Answer]:
    outputs = row["model_output"]
    if not all(isinstance(output, dict) for output in outputs):
        raise KiyasError(f"{where}: model_output is not a list of objects")
    if row["native_id"] in (None, ""):
        raise KiyasError(f"{where}: native_id is empty, so nobody knows the problem")
    if not outputs:
        odd["no sample in the row"] += 1
    whole = _metric(row.get("metrics", row.get("instance_metrics")))
    for sample, output in enumerate(outputs):
        text = text_of(output.get("text", output.get("continuation")))
        program = output.get("extracted_answer")
        own = _own(output.get("sample_metrics"))
        value = own if own is not None else whole
        if value not in (None, 0, 1):
            odd[f"pass@1 over {len(outputs)} samples does not say which of them passed"] += 1
            value = None
        verdict = None if value is None else Outcome.AC if value else Outcome.WA
        yield Answer(problem_of(row["native_id"]), verdict, sample, text, program if isinstance(program, str) else text)


def _metric(metrics: Any) -> float | None:
    """The row's pass@1, by itself or by scorer."""
    found = {float(value) for value in _values(metrics, METRICS)}
    return found.pop() if len(found) == 1 else None


def _own(metrics: Any) -> float | None:
    """A sample's one score, where its scorers agree."""
    found = {float(value) for value in _values(metrics, tuple(metrics) if isinstance(metrics, dict) else ())}
    return found.pop() if len(found) == 1 else None


def _values(metrics: Any, keys: tuple[str, ...]) -> Iterator[float]:
    for key in keys:
        value = metrics.get(key) if isinstance(metrics, dict) else None
        for each in value.values() if isinstance(value, dict) else (value,):
            if isinstance(each, int | float) and 0 <= each <= 1:
                yield each
