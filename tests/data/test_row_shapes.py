"""Training rows as people write them: read right, left out and counted, or refused; never dropped in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kiyas.data.arms import ArmData, examples
from kiyas.data.row_formats import carries_chat_tokens
from kiyas.study.settings import Dataset
from kiyas.types import KiyasError

Row = dict[str, Any]
GOOD: Row = {"prompt": "Q", "completion": "A"}


def turns(*said: tuple[str, Any], role: str = "role", text: str = "content") -> list[Row]:
    return [{role: who, text: what} for who, what in said]


def read(*rows: Row, **settings: Any) -> ArmData:
    return examples(list(rows), Dataset(validation_fraction=0, **settings), "arm", "file")


CHAT = turns(("user", "Q"), ("assistant", "A"))
CHATS: dict[str, Any] = {
    "openai": CHAT,
    "sharegpt": turns(("human", "Q"), ("gpt", "A"), role="from", text="value"),
    "capitals": turns(("Human", "Q"), ("GPT", "A"), role="from", text="value"),
    "chatgpt": turns(("human", "Q"), ("chatgpt", "A"), role="from", text="value"),
    "bing": turns(("user", "Q"), ("bing", "A"), role="from", text="value"),
    "bard": turns(("user", "Q"), ("Bard", "A"), role="from", text="value"),
    "prompter": turns(("prompter", "Q"), ("assistant", "A"), text="text"),
    "model": turns(("user", "Q"), ("model", "A")),
    "gpt-4": turns(("human", "Q"), ("gpt-4", "A"), role="from", text="value"),
    "from and content": turns(("USER", "Q"), ("ASSISTANT", "A"), role="from"),
    "role and value": turns(("user", "Q"), ("assistant", "A"), text="value"),
    "speaker": turns(("Human", "Q"), ("AI", "A"), role="speaker", text="text"),
    "parts": turns(("user", [{"type": "text", "text": "Q"}]), ("assistant", [{"type": "text", "text": "A"}])),
    "several parts": turns(("user", [{"type": "input_text", "text": "Q"}, ""]), ("assistant", ["A"])),
    "a json string": json.dumps(CHAT),
    "a python string": repr(CHAT),
    "columns of a table": {"role": ["user", "assistant"], "content": ["Q", "A"]},
    "columns of a table, sharegpt": {"from": ["human", "gpt"], "value": ["Q", "A"]},
    "a pair": [{"human": "Q", "assistant": "A"}],
    "an empty system message": turns(("system", ""), ("user", "Q"), ("assistant", "A")),
    "more keys": [{**turn, "weight": 1, "name": None, "tool_calls": None, "reasoning_content": ""} for turn in CHAT],
}


@pytest.mark.parametrize("column", ["messages", "conversations", "conversation"])
@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS.keys())
def test_a_question_and_its_answer(column: str, chat: Any) -> None:
    found = read({column: chat})
    assert [(each.prompt, each.completion) for each in found.examples] == [("Q", "A")]
    assert found.shape == ("messages" if column == "messages" else "ShareGPT") and not +found.dropped


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": turns(("user", "Q")), "completion": turns(("assistant", "A"))},
        {"prompt": turns(("user", "Q")), "completion": "A"},
        {"prompt": "Q", "completion": turns(("assistant", "A"))},
        {"prompt": json.dumps(turns(("user", "Q"))), "completion": json.dumps(turns(("assistant", "A")))},
        {"prompt": "Q", "completion": "A", "history": [], "system": None, "tools": "[]", "images": []},
    ],
)
def test_prompt_and_completion(row: Row) -> None:
    assert [(each.prompt, each.completion) for each in read(row).examples] == [("Q", "A")]


def test_a_prompt_that_is_a_list_stays_text() -> None:
    """Code problems have lists as text."""
    for text in ("[1, 2, 3]", '[{"a": 1}]', "[1, 2", "{", "[[[", '{"role": 1'):
        assert read({"prompt": text, "completion": text}).examples[0].prompt == text


SYSTEM = "You write Python."
HOLDERS: dict[str, Callable[[], Row]] = {
    "messages": lambda: {"messages": CHAT},
    "sharegpt": lambda: {"conversations": CHATS["sharegpt"]},
    "columns": lambda: dict(GOOD),
    "alpaca": lambda: {"instruction": "Q", "input": "", "output": "A"},
    "trl": lambda: {"prompt": turns(("user", "Q")), "completion": turns(("assistant", "A"))},
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize(
    "column",
    ["system", "system_prompt", "system_message", "instruction_system", "systemPrompt", "System", "sys_prompt",
     "system-instruction", "system_text", "default_system_prompt", "systemMessage", "chat_system"],
)  # fmt: skip
@pytest.mark.parametrize("text", [SYSTEM, {"from": "system", "value": SYSTEM}, [{"type": "text", "text": SYSTEM}]])
def test_a_system_text_in_a_column_is_refused_or_replaced_and_counted(holder: str, column: str, text: Any) -> None:
    row = {**HOLDERS[holder](), column: text}
    with pytest.raises(KiyasError, match=rf"1 of 1 rows carry a system message.*column {column}.*write Python"):
        read(row)
    assert not +read(row, system=SYSTEM).flags
    found = read(row, HOLDERS[holder](), system="Another.")
    assert len(found.examples) == 2 and +found.flags == {"other_system": 1}


@pytest.mark.parametrize("role", ["system", "System", "developer", "SYSTEM", "system_prompt"])
def test_a_system_turn(role: str) -> None:
    row = {"messages": turns((role, SYSTEM), ("user", "Q"), ("assistant", "A"))}
    with pytest.raises(KiyasError, match="carry a system message"):
        read(row)
    assert read(row, system=SYSTEM).examples[0].prompt == "Q"


@pytest.mark.parametrize("column", ["system_fingerprint", "operating_system", "file_system", "systems"])
def test_a_column_about_systems_is_listed_as_unused(column: str) -> None:
    assert read({**GOOD, column: "fp_44"}).unused == [column]


@pytest.mark.parametrize("holder", ["alpaca", "columns", "sharegpt"])
@pytest.mark.parametrize("column", ["history", "chat_history", "History", "conversation_history", "previous_turns"])
@pytest.mark.parametrize(
    "earlier", [[["q", "a"]], '[["q", "a"]]', turns(("user", "q"), ("assistant", "a")), "earlier: q, a"]
)
def test_earlier_turns_are_left_out_and_counted(holder: str, column: str, earlier: Any) -> None:
    found = read({**HOLDERS[holder](), column: earlier}, {**HOLDERS[holder](), column: []})
    assert len(found.examples) == 1 and found.dropped["not_one_question_and_answer"] == 1
    with pytest.raises(KiyasError, match=r"1 left out: not one question and answer[^$]*one question in plain text"):
        read({**HOLDERS[holder](), column: earlier})


@pytest.mark.parametrize("nothing", [[], [[]], [["", ""]], "", "[]", None, "null", float("nan")])
def test_an_empty_history_is_none(nothing: Any) -> None:
    assert len(read({**GOOD, "history": nothing}).examples) == 1


TWO = turns(("user", "Q"), ("assistant", "A"), ("user", "Q"), ("assistant", "A"))
ODD: dict[str, tuple[Any, str]] = {
    "two turns": (TWO, "not_one_question_and_answer"),
    "two pairs": ([{"human": "Q", "assistant": "A"}] * 2, "not_one_question_and_answer"),
    "a late system message": ([*CHAT, *turns(("system", "x"))], "not_one_question_and_answer"),
    "a tool": (turns(("user", "Q"), ("tool", "x"), ("assistant", "A")), "uses_tools_or_pictures"),
    "an observation": (turns(("human", "Q"), ("observation", "x"), ("gpt", "A")), "uses_tools_or_pictures"),
    "a call": (turns(("human", "Q"), ("function_call", "x"), ("gpt", "A")), "uses_tools_or_pictures"),
    "a stranger": (turns(("user", "Q"), ("Narrator", "A")), "unknown role 'Narrator'"),
    "a picture": (turns(("user", [{"type": "image_url"}]), ("assistant", "A")),
                  "has_reasoning_tools_or_pictures_beside_the_text"),
    "reasoning": ([CHAT[0], {**CHAT[1], "reasoning_content": "hm"}], "has_reasoning_tools_or_pictures_beside_the_text"),
    "a call in a field": ([CHAT[0], {**CHAT[1], "tool_calls": [{"id": 1}]}],
                          "has_reasoning_tools_or_pictures_beside_the_text"),
    "weight 0": ([CHAT[0], {**CHAT[1], "weight": 0}], "marked_as_not_to_be_learned"),
    "train: false": ([CHAT[0], {**CHAT[1], "train": False}], "marked_as_not_to_be_learned"),
    "two texts": ([CHAT[0], {**CHAT[1], "value": "B"}], "not_text"),
    "a number": (5, "not_text"),
    "text": ("### Human: Q", "not_text"),
    "nothing": (None, "not_text"),
}  # fmt: skip


@pytest.mark.parametrize(("chat", "why"), ODD.values(), ids=ODD.keys())
def test_other_conversations_are_left_out_by_name(chat: Any, why: str) -> None:
    found = read({"messages": chat}, {"messages": CHAT})
    assert len(found.examples) == 1 and +found.dropped == {why: 1}


@pytest.mark.parametrize("column", ["tools", "images", "image", "videos", "audio"])
def test_rows_with_tools_or_pictures_are_left_out(column: str) -> None:
    found = read({**GOOD, column: [{"name": "f"}]}, {**GOOD, column: []})
    assert len(found.examples) == 1 and found.dropped["uses_tools_or_pictures"] == 1


@pytest.mark.parametrize(
    "text",
    ["<|im_start|>user\nQ", "[INST] Q [/INST]", "<s>[INST] Q", "<<SYS>>x<</SYS>>", "<|start_header_id|>user",
     "Q<|eot_id|>", "### Human: Q", "### Instruction:\nQ\n\n### Response:", "\n\nHuman: Q\n\nAssistant:",
     "USER: Q ASSISTANT:",
     "<start_of_turn>user\nQ", "<|user|>\nQ", "<｜User｜>Q", "<|start|>user<|message|>Q", "GPT4 Correct User: Q",
     "Q<|endoftext|>", "Q</s>", "<|begin_of_text|>Q", "<|START_OF_TURN_TOKEN|>", "<|end|>", "<|prompter|>Q"],
)  # fmt: skip
def test_chat_tokens_in_the_text_are_flagged(text: str) -> None:
    assert +read({"prompt": text, "completion": "A"}).flags == {"chat_tokens": 1}
    assert +read({"prompt": "Q", "completion": text}).flags == {"chat_tokens": 1}


@pytest.mark.parametrize(
    "text",
    ["Read n.", "Input: 3\nOutput: 4", "a <s> b", "[1, 2]", "# Response", "x <| y |> z", "### Input format:\nn",
     "The human: a story", "if a < end > b", "Question: what?", "<user>"],
)  # fmt: skip
def test_plain_text_is_not_flagged(text: str) -> None:
    assert not carries_chat_tokens(text)


def test_unused_columns_are_listed() -> None:
    rows = [{**GOOD, "id": 1, "split": "train", "input": "more", "context": None, "tags": []}, {**GOOD, "split": "val"}]
    assert read(*rows).unused == ["input"]
    alpaca = {"instruction": "Q", "input": "", "output": "A", "context": "C"}
    assert read(alpaca).unused == ["context"]
    named = {"prompt_column": "instruction", "completion_column": "output"}
    assert read({**alpaca, "input": "3"}, **named).unused == ["input", "context"]


@pytest.mark.parametrize("row", [{"text": "Q A"}, {"question": "Q", "answer": "A"}, {"a": 1}, {"prompt": "Q"}])
def test_other_columns_are_refused_with_their_names(row: Row) -> None:
    with pytest.raises(KiyasError, match=f"it has {', '.join(row)}[^$]*dataset.(prompt|completion)_column"):
        read(row)


def test_surrogates_in_ids_and_groups_are_written_as_escapes() -> None:
    found = examples([{**GOOD, "id": "\ud800", "group": "\udfff"}, {**GOOD, "group": "g"}], Dataset(), "a", "f")
    assert {each.group for each in found.examples} == {"\\udfff", "g"} and found.examples[0].id == "\\ud800"
