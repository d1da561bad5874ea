"""Rows → examples: columns, splits by group, what is dropped is counted, clear errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from kiyas.data.arms import ArmData, drop_too_long, examples, read_arms, tokenise
from kiyas.data.chat import Chat
from kiyas.data.row_files import read_rows
from kiyas.study.settings import Dataset, Study
from kiyas.types import Example, KiyasError


def study(**more: Any) -> Study:
    return Study.model_validate(
        {
            "name": "t",
            "model_name_or_path": "practice",
            "arms": {"x": {"dataset_name": "x"}, "y": {"dataset_name": "y"}},
            **more,
        }
    )


def rows(count: int, **columns: Any) -> list[dict[str, Any]]:
    return [{"prompt": f"p{i}", "completion": f"c{i}", **columns} for i in range(count)]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    import pandas

    path = tmp_path / f"d{suffix}"
    written = [{"prompt": 'a,"b"\nc', "completion": "ç"}, {"prompt": "d", "completion": "e"}]
    frame = pandas.DataFrame(written)
    if suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, written)))
    elif suffix == ".json":
        path.write_text(json.dumps(written))
    elif suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    assert list(read_rows(str(path))) == written


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("d.jsonl", '{"a": 1}\n{"a": \n', "line 2: not valid JSON"),
        ("d.jsonl", "[1]\n", "item 1 is a number, not a JSON object"),
        ("d.jsonl", "[1]\n[2]\n", "line 1: expected a JSON object"),
        ("d.jsonl", "", "holds no rows"),
        ("d.json", '{"a": 1}', "expected a list"),
        ("d.parquet", "nonsense", "not a Parquet file"),
        ("d.txt", "x", "give .jsonl, .json, .csv or .parquet"),
        ("d.csv", 'a,b\n"x', "not valid CSV"),
        ("d.csv", "a,b\n1,2\n1,2,3", "row 2: more cells than the header"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(KiyasError, match=told):
        list(read_rows(str(tmp_path / name)))


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(KiyasError, match="line 1: not UTF-8"):
        list(read_rows(str(tmp_path / "d.jsonl")))


def test_split_column_words() -> None:
    given = [{**row, "split": s} for row, s in zip(rows(5), ("train", "valid", "VAL ", "test", "Train"), strict=True)]
    made = examples(given, Dataset(), "x", "f")
    assert [e.split for e in made.examples] == ["train", "validation", "validation", "train"]
    assert made.dropped["other_split"] == 1


def test_groups_never_stand_on_both_sides() -> None:
    given = [{"prompt": f"p{i % 20}", "completion": f"c{i}"} for i in range(100)]
    made = examples(given, Dataset(validation_fraction=0.2), "x", "f")
    train, held = ({e.group for e in made.split(s)} for s in ("train", "validation"))
    assert len(held) == 4 and not train & held
    again = examples(given[:50], Dataset(validation_fraction=0.2), "y", "f")
    assert {e.group for e in again.split("validation")} == held, "arms hold the same problems out"


def test_a_group_held_out_by_one_arm_is_taken_out_of_all(tmp_path: Path) -> None:
    for name, held in (("x", "p0"), ("y", "p1")):
        lines = [json.dumps({**row, "split": "validation" if row["prompt"] == held else "train"}) for row in rows(6)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    arms = read_arms(study(arms={n: {"dataset_name": str(tmp_path / f"{n}.jsonl")} for n in ("x", "y")}))
    for arm in arms.values():
        assert not {"p0", "p1"} & {e.group for e in arm.split("train")}
        assert arm.dropped["in_a_validation_set"] == 1


@pytest.mark.parametrize(
    ("given", "settings", "told"),
    [
        (rows(3), Dataset(prompt_column="input"), "no column 'input'; it has prompt, completion"),
        (rows(3), Dataset(split_column="part"), "no column 'part'"),
        (rows(3, split="test"), Dataset(), "no train rows in f .column 'split' holds 'test': 3"),
        (rows(3, split="train"), Dataset(), "no validation rows in f"),
        ([{"prompt": " ", "completion": "x"}], Dataset(), "no train rows in f .1 rows, 1 without text"),
        ([{"prompt": 3, "completion": None}], Dataset(), "1 without text"),
    ],
)
def test_unusable_rows(given: list[dict[str, Any]], settings: Dataset, told: str) -> None:
    with pytest.raises(KiyasError, match=told):
        examples(given, settings, "x", "f")


def test_too_long_samples_are_dropped_for_all_arms_and_counted() -> None:
    chat = Chat(tiny.tokenizer(), "tiny")
    long = "x" * 200

    def arm(*texts: tuple[str, str]) -> ArmData:
        return ArmData([Example(str(i), group, text, group) for i, (group, text) in enumerate(texts)])

    arms = {
        "x": arm(("shared", long), ("shared", "short"), ("own", long), ("own", "short")),
        "y": arm(("shared", "short"), ("else", "short")),
    }
    samples = drop_too_long(arms, chat, study(training={"max_length": 100}))
    assert [e.group for e in arms["x"].examples] == ["own"], "the arm that has the long one loses the problem too"
    assert [e.group for e in arms["y"].examples] == ["else"]
    assert (arms["x"].dropped["too_long"], arms["x"].dropped["too_long_elsewhere"]) == (2, 1)
    assert (arms["y"].dropped["too_long"], arms["y"].dropped["too_long_elsewhere"]) == (0, 1)
    assert [len(s) for s in samples.values()] == [1, 1]
    with pytest.raises(KiyasError, match="no train rows are left"):
        drop_too_long(arms, chat, study(training={"max_length": 10}))


def test_tokens_and_mask_one_by_one() -> None:
    chat = Chat(tiny.tokenizer(), "tiny")
    sample = tokenise(Example("1", "hi", "ok", "g"), chat, study(dataset={"system": "s"}), "x")
    start, end = 256, tiny.END
    text = chat.tokenizer.decode(sample.ids)
    assert (
        text == "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nok<|im_end|>"
    )
    assert sample.ids[0] == start and sample.ids[-1] == end
    assert chat.tokenizer.decode(sample.ids[sample.start :]) == "ok<|im_end|>", "the end of turn is learned: pad = eos"
    whole = tokenise(Example("1", "hi", "ok", "g"), chat, study(training={"completion_only_loss": False}), "x")
    assert whole.start == 0 and whole.labels == len(whole.ids) - 1


def test_rows_without_a_group_are_their_own() -> None:
    given = [{**row, "group": ""} for row in rows(3)]
    assert {e.group for e in examples(given, Dataset(validation_fraction=0), "x", "f").examples} == {
        "p0",
        "p1",
        "p2",
    }


def test_a_template_that_refuses_the_system_prompt() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}x"
    with pytest.raises(KiyasError, match=r"refuses this chat: no system role[^$]*leave dataset.system out"):
        Chat(tokenizer, "tiny").prompt_ids("hi", "s")


def turns(*said: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in said]


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"prompt": "Q", "completion": "A"}, "prompt, completion"),
        ({"prompt": turns(("user", "Q")), "completion": turns(("assistant", "A"))}, "prompt, completion"),
        ({"messages": turns(("user", "Q"), ("assistant", "A"))}, "messages"),
        ({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, "ShareGPT"),
        ({"conversations": turns(("user", "Q"), ("assistant", "A"))}, "ShareGPT"),
        ({"instruction": "Q", "input": "", "output": "A"}, "Alpaca"),
    ],
)
def test_usual_shapes_are_recognised(row: dict[str, object], shape: str) -> None:
    data_of_arm = examples([row], Dataset(validation_fraction=0), "arm", "file")
    (example,) = data_of_arm.examples
    assert (example.prompt, example.completion, data_of_arm.shape) == ("Q", "A", shape)


def test_alpaca_input_stands_below_the_instruction() -> None:
    rows = [{"instruction": "Double it.", "input": "21", "output": "42"}]
    assert examples(rows, Dataset(validation_fraction=0), "arm", "file").examples[0].prompt == "Double it.\n\n21"


def test_rows_that_are_no_question_and_answer_are_counted() -> None:
    rows: list[dict[str, object]] = [
        {"messages": turns(("user", "Q"), ("assistant", "A"))},
        {"messages": turns(("user", "Q"), ("assistant", "A"), ("user", "Q2"), ("assistant", "A2"))},
        {"messages": "text"},
        {"messages": turns(("assistant", "A"))},
    ]
    found = examples(rows, Dataset(validation_fraction=0), "arm", "file")
    assert len(found.examples) == 1
    assert found.dropped == {"not_one_question_and_answer": 2, "not_text": 1}


def test_system_messages_in_the_data_must_be_known_to_the_study() -> None:
    rows: list[dict[str, object]] = [{"messages": turns(("system", "Be brief."), ("user", "Q"), ("assistant", "A"))}]
    with pytest.raises(KiyasError, match="carry a system message"):
        examples(rows, Dataset(validation_fraction=0), "arm", "file")
    found = examples(rows, Dataset(validation_fraction=0, system="Be brief."), "arm", "file")
    assert found.examples[0].prompt == "Q"


def test_rows_that_are_no_text_are_counted_rightly_and_told(tmp_path: Path) -> None:
    def read(rows: list[dict[str, Any]]) -> ArmData:
        return examples(rows, study().dataset, "x", "x.jsonl")

    with pytest.raises(KiyasError, match=r"20 rows, 20 without text\)(.|\n)*must be text"):
        read([{"prompt": None, "completion": None}] * 20)
    half = {"prompt": "half of a pair: \ud800", "completion": "ok"}
    made = read([half, *({"prompt": f"p{i}", "completion": "ok"} for i in range(30))])
    assert made.dropped["not_text"] == 1 and len(made.examples) == 30
    (tmp_path / "twice.csv").write_text("prompt,completion,prompt\na,b,c\n")
    with pytest.raises(KiyasError, match="'prompt' occurs twice"):
        list(read_rows(str(tmp_path / "twice.csv")))
    (tmp_path / "deep.jsonl").write_text("[" * 100_000 + "\n")
    with pytest.raises(KiyasError, match=r"deep.jsonl, line 1"):
        list(read_rows(str(tmp_path / "deep.jsonl")))
