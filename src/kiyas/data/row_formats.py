"""The usual shapes of training data → one prompt and one completion a row.

Recognised by their columns: `prompt`/`completion` (text, or TRL's lists of messages), `messages` (OpenAI's),
`conversations` (ShareGPT's), `instruction`/`input`/`output` (Alpaca's). Anything else is named with
dataset.prompt_column and dataset.completion_column.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from kiyas.study.settings import Dataset
from kiyas.types import KiyasError

ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bard": "assistant", "model": "assistant"}
USUAL = tuple(Dataset.model_fields[key].default for key in ("prompt_column", "completion_column"))


def texts(
    rows: list[dict[str, Any]], settings: Dataset, source: str
) -> tuple[list[tuple[Any, Any]], str, Counter[str]]:
    """(prompt, completion) of every row, the shape they were in, and what makes rows unusable, counted.

    An unusable row gives (None, None). Raises KiyasError for columns that are not there, and for system messages in
    the data that the study does not know of.
    """
    columns = dict.fromkeys(key for row in rows for key in row)
    wanted = settings.prompt_column, settings.completion_column
    if all(column in columns for column in wanted):
        shape, take = "columns " + " and ".join(wanted), _columns(*wanted)
    elif wanted == USUAL and "messages" in columns:
        shape, take = "messages", lambda row: _turns(row["messages"], "role", "content")
    elif wanted == USUAL and "conversations" in columns:
        shape, take = "ShareGPT", _sharegpt
    elif wanted == USUAL and {"instruction", "output"} <= set(columns):
        shape, take = "Alpaca", _alpaca
    else:
        missing = next(column for column in wanted if column not in columns)
        role = "prompt_column" if missing == wanted[0] else "completion_column"
        raise KiyasError(
            f"{source} has no column {missing!r}; it has {', '.join(columns)}",
            f"say which one it is with dataset.{role} (messages, ShareGPT and Alpaca are recognised by themselves)",
        )
    found, odd, systems = [], Counter[str](), Counter[str]()
    for row in rows:
        system, prompt, completion, fault = take(row)
        if fault:
            odd[fault] += 1
        if system:
            systems[system] += 1
        found.append((None, None) if fault else (prompt, completion))
    if systems and settings.system is None:
        text, count = systems.most_common(1)[0]
        raise KiyasError(
            f"{source}: {sum(systems.values())} of {len(rows)} rows carry a system message of their own "
            f"(the most frequent, {count} times: {text[:80]!r})",
            "every chat of a study has the same one, in training and on the benchmark: set dataset.system",
        )
    return found, shape, odd


Taken = tuple[str, Any, Any, str]


def _columns(prompt_column: str, completion_column: str) -> Any:
    def take(row: dict[str, Any]) -> Taken:
        prompt, completion = row.get(prompt_column), row.get(completion_column)
        if isinstance(prompt, list) and isinstance(completion, list):
            return _turns([*prompt, *completion], "role", "content")
        return "", prompt, completion, ""

    return take


def _sharegpt(row: dict[str, Any]) -> Taken:
    turns = row["conversations"]
    if isinstance(turns, list) and turns and isinstance(turns[0], dict) and "role" in turns[0]:
        return _turns(turns, "role", "content")
    return _turns(turns, "from", "value")


def _turns(turns: Any, role_key: str, text_key: str) -> Taken:
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return "", None, None, "not_text"
    said = [(ROLES.get(str(turn.get(role_key)), str(turn.get(role_key))), turn.get(text_key)) for turn in turns]
    system = str(said.pop(0)[1] or "") if said and said[0][0] == "system" else ""
    if [role for role, _ in said] != ["user", "assistant"]:
        return system, None, None, "not_one_question_and_answer"
    return system, said[0][1], said[1][1], ""


def _alpaca(row: dict[str, Any]) -> Taken:
    instruction, given = row.get("instruction"), row.get("input")
    prompt = f"{instruction}\n\n{given}" if isinstance(given, str) and given.strip() else instruction
    return str(row.get("system") or ""), prompt, row.get("output"), ""
