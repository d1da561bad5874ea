"""lm-evaluation-harness, per-sample logs (`--log_samples`) of HumanEval, MBPP and their EvalPlus tasks.

A row holds the problem with its tests (`doc`), the model's continuations (`resps`), what the task's filter made of
them (`filtered_resps`) and the metric (`save_results_samples` in lm_eval/loggers/evaluation_tracker.py; the filters in
lm_eval/tasks/humaneval/utils.py and mbpp/utils.py). What was run is what the filter made; a HumanEval continuation
that the filter left alone is put behind the problem's prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from kiyas import judge
from kiyas.interop.answers import Answer, problem_of
from kiyas.interop.files import Row
from kiyas.types import KiyasError

NAME = "lm-evaluation-harness samples"
METRICS = ("pass@1", "pass_at_1", "pass_at_k")


def recognises(row: Row) -> bool:
    doc = row.get("doc")
    return (
        isinstance(doc, dict) and doc.get("task_id") not in (None, "") and ("resps" in row or "filtered_resps" in row)
    )


def answers(row: Row, where: str, odd: Counter[str]) -> Iterator[Answer]:
    doc = row["doc"]
    problem = _problem(doc, odd)
    written = _texts(row.get("resps"))
    filtered = _texts(row.get("filtered_resps")) or written
    if not filtered:
        odd["no sample in the row"] += 1
    if len(written) != len(filtered):
        odd["the filter made other samples than the model wrote; only the filter's are read"] += 1
        written = filtered
    verdict = _verdict(row, len(filtered), where, odd)
    for sample, (text, made) in enumerate(zip(written, filtered, strict=True)):
        yield Answer(problem, verdict, sample, text, _program(made, doc))


def _problem(doc: Row, odd: Counter[str]) -> Row:
    try:
        return judge.problem_from_row(doc).to_row()
    except judge.JudgeError as error:
        odd[f"the problem's tests cannot be read ({error})"] += 1
        return problem_of(doc["task_id"], statement=doc.get("prompt") or doc.get("text"))


def _texts(value: Any) -> list[str]:
    """One text a sample: requests hold lists of samples, and some filters take one level away."""
    if isinstance(value, str):
        return [value]
    return [text for each in value for text in _texts(each)] if isinstance(value, list) else []


def _program(made: str, doc: Row) -> str:
    """The whole program: out of its fence, and behind the prompt where it is only the rest of a function."""
    program = judge.extract(made, _name(doc)).program or made if "```" in made else made
    prompt = doc.get("prompt")
    if "entry_point" not in doc or not isinstance(prompt, str) or prompt.strip() in program:
        return program
    return prompt + program


def _name(doc: Row) -> str | None:
    name = doc.get("entry_point")
    return name if isinstance(name, str) else None


def _verdict(row: Row, samples: int, where: str, odd: Counter[str]) -> judge.Outcome | None:
    """From the metric, a mean over the samples: between 0 and 1 it does not say which of them passed."""
    key = next((key for key in row if key.partition(",")[0] in METRICS and row[key] is not None), None)
    if key is None:
        return None
    value = row[key].get("pass@1") if isinstance(row[key], dict) else row[key]
    if isinstance(value, str) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise KiyasError(f"{where}: {key} is {str(value)[:80]}, expected a number from 0 to 1")
    if value in (0, 1):
        return judge.Outcome.AC if value else judge.Outcome.WA
    odd[f"pass@1 over {samples} samples does not say which of them passed"] += 1
    return None
