"""Arms row by row: what is read, held out, dropped, drawn and counted, each rule at its boundary."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import tiny
from kiyas import practice
from kiyas.data import hub
from kiyas.data.arms import (
    ArmData,
    Size,
    _draw,
    _hold_out,
    _some,
    arm_counts,
    derive,
    drop_too_long,
    examples,
    read_arms,
    tokenise,
)
from kiyas.data.chat import Chat
from kiyas.data.row_files import read_rows
from kiyas.study.settings import Arm, Dataset, Study
from kiyas.types import Example, KiyasError

Row = dict[str, Any]


def study(arms: dict[str, Row] | None = None, **more: Any) -> Study:
    arms = arms or {"x": {"dataset_name": "x"}, "y": {"dataset_name": "y"}}
    return Study.model_validate({"name": "t", "model_name_or_path": "practice", "arms": arms, **more})


def row(i: int, **more: Any) -> Row:
    return {"prompt": f"p{i}", "completion": f"c{i}", **more}


def example(group: str, text: str = "short", split: str = "train", id: str = "1") -> Example:
    return Example(id, group, text, group, "".join(split))  # another object, as files give it


def test_files_that_cannot_be_read_name_the_place(tmp_path: Path) -> None:
    def refused(name: str, content: bytes | None) -> str:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(KiyasError) as caught:
            list(read_rows(str(tmp_path / name)))
        return str(caught.value)

    assert "cannot read" in refused("none.csv", None) and "No such file" in refused("none.json", None)
    assert "not UTF-8 text" in refused("d.csv", b"a\n\xff\n") and "not valid JSON" in refused("d.json", b"[")
    assert "expected a list of objects" in refused("d.json", b'[{"a": 1}, 2]')
    assert "the column 'a' occurs twice" in refused("d.csv", b"a,b,a\n1,2,3\n") and "holds no rows" in refused(
        "d.json", b"[]"
    )
    assert "row 1: more cells" in refused("d.csv", b"a\n1,2\n")


def test_practice_data_and_data_sets_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(practice, "dataset", lambda name: [{"practice": name}])
    monkeypatch.setattr(hub, "dataset_rows", lambda *asked: [{"hub": asked}])
    assert read_rows("practice/deep") == [{"practice": "deep"}]
    assert read_rows("owner/name", "v1", "part") == [{"hub": ("owner/name", "v1", "part")}]


def test_a_csv_with_a_mark_and_a_large_cell(tmp_path: Path) -> None:
    large = "x" * 200_000
    (tmp_path / "D.CSV").write_text(f"\ufeffprompt,completion\r\na,{large}\r\nb\r\n")
    rows = list(read_rows(str(tmp_path / "D.CSV")))
    assert rows == [{"prompt": "a", "completion": large}, {"prompt": "b", "completion": None}]


def test_an_example_of_every_row() -> None:
    given = [
        row(0, id=7, group="g", split=" Train "),
        row(1, id=None, group=None, split="EVAL"),
        row(2, id=0, group=3, split="dev"),
        row(3, split="test"),
        {"prompt": "p", "completion": " \n", "split": "train"},
        {"prompt": "\ud7ff\ue000", "completion": "c", "split": "train"},
        {"prompt": "p", "completion": "\ud800", "split": "train"},
        {"prompt": "p", "completion": "\udfff", "split": "train"},
        {"prompt": "p", "completion": 5, "split": "train"},
    ]
    found = examples(given, Dataset(), "x", "f")
    assert found.examples == [
        Example("7", "p0", "c0", "g", "train"),
        Example("1", "p1", "c1", "p1", "validation"),
        Example("0", "p2", "c2", "3", "validation"),
        Example("5", "\ud7ff\ue000", "c", "\ud7ff\ue000", "train"),
    ]
    assert found.dropped == {"other_split": 1, "empty": 1, "not_text": 3}
    assert [(e.id, e.split) for e in found.read] == [
        ("7", "train"), ("1", "validation"), ("0", "validation"), ("3", "test"), ("5", "train")
    ]  # fmt: skip
    assert not found.derived and found.split("train") == [found.examples[0], found.examples[3]]


def test_a_split_is_asked_for_by_name_or_put_aside() -> None:
    given = [row(i, part="train" if i < 8 else "val", split="train") for i in range(10)]
    named = examples(given, Dataset(split_column="part", group_by="part"), "x", "f")
    assert [e.split for e in named.examples] == ["train"] * 8 + ["validation"] * 2
    assert {e.group for e in named.examples} == {"train", "val"} and {e.split for e in named.read} == {
        "train",
        "validation",
    }
    aside = examples(given, Dataset(split_column="".join("none"), validation_fraction=0.3), "x", "f")
    assert len(aside.split("validation")) == 3 and {e.split for e in aside.read} == {"train"}
    for settings, key in ((Dataset(split_column="no"), "split_column"), (Dataset(group_by="no"), "group_by")):
        with pytest.raises(KiyasError, match=rf"arm x: f has no column 'no' \(dataset.{key}\); it has prompt, comp"):
            examples(given, settings, "x", "f")


@pytest.mark.parametrize(
    ("rows", "told", "hint"),
    [
        ([row(0, split="test"), row(1, split="train")],
         "no validation rows in f (column 'split' holds 'test': 1, 'train': 1)", "rows marked train"),
        ([row(0, split="test"), row(1, split="dev"), {"prompt": "", "completion": "c", "split": "dev"}],
         "no train rows in f (column 'split' holds 'dev': 2, 'test': 1, 1 without text)", "rows marked train"),
        ([{"prompt": "", "completion": "c"}, {"prompt": 1, "completion": "c"}],
         "no train rows in f (2 rows, 2 without text)", "must be text"),
        ([{"messages": [{"role": "assistant", "content": "A"}]}, {"messages": "x"}],
         "no train rows in f (2 rows, 1 without text, 1 left out: not one question and answer)", "must be text"),
    ],
)  # fmt: skip
def test_an_arm_without_rows_says_what_became_of_them(rows: list[Row], told: str, hint: str) -> None:
    with pytest.raises(KiyasError) as caught:
        examples(rows, Dataset(), "x", "f")
    assert told in str(caught.value) and hint in caught.value.hint


@pytest.mark.parametrize(
    ("groups", "fraction", "held"),
    [(10, 0.3, 3), (10, 0.01, 1), (2, 0.01, 1), (1, 0.4, 0), (10, 0.0, 0), (100, 0.05, 5), (10, 0.26, 3)],
)
def test_how_many_groups_are_held_out(groups: int, fraction: float, held: int) -> None:
    rows = [example(f"g{i % groups}", id=str(i)) for i in range(3 * groups)]
    out = _hold_out(rows, fraction)
    assert [e.id for e in out] == [e.id for e in rows]
    sides = {side: {e.group for e in out if e.split == side} for side in ("train", "validation")}
    assert len(sides["validation"]) == held and not sides["train"] & sides["validation"]


def test_which_groups_are_held_out_goes_by_their_names_alone() -> None:
    rows = [example(f"g{i}") for i in range(40)]
    held = {e.group for e in _hold_out(rows, 0.25) if e.split == "validation"}
    again = {e.group for e in _hold_out(rows[::-1], 0.25) if e.split == "validation"}
    assert held == again and len(held) == 10
    fewer = {e.group for e in _hold_out(rows[:20], 0.25) if e.split == "validation"}
    assert fewer & held, "of a part of the groups the same come first"
    assert held != {e.group for e in rows[:10]}


def test_arms_with_data_of_their_own_share_what_is_held_out(tmp_path: Path) -> None:
    for name, held in (("x", 0), ("y", 3)):
        rows = [row(i, split="val" if i == held else "train") for i in range(3 + (name == "y"))]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arms: dict[str, Row] = {n: {"dataset_name": str(tmp_path / f"{n}.jsonl")} for n in "xy"}
    found = read_arms(study({**arms, "z": {"from": "x", "solutions": 1}}))
    assert found.keys() == {"x", "y"}
    assert {n: [(e.group, e.split) for e in data.examples] for n, data in found.items()} == {
        "x": [("p0", "validation"), ("p1", "train"), ("p2", "train")],
        "y": [("p1", "train"), ("p2", "train"), ("p3", "validation")],
    }
    assert [found[n].dropped["in_a_validation_set"] for n in "xy"] == [0, 1]


CHAT = Chat(tiny.tokenizer(), "tiny")


def length(group: str, text: str) -> int:
    return len(tokenise(example(group, text), CHAT, study(), "x").ids)


def test_a_sample_of_exactly_the_limit_is_kept() -> None:
    limit = length("p", "abcd")
    arms = {"x": ArmData([example("p", "abcd"), example("q", "abcde"), example("p", "a")])}
    samples = drop_too_long(arms, CHAT, study(training={"max_length": limit}))
    assert [e.completion for e in arms["x"].examples] == ["abcd", "a"]
    assert [s.tokens for s in samples["x"]] == [limit, limit - 3]
    assert arms["x"].dropped == {"too_long": 1, "too_long_elsewhere": 0}


def test_lengths_are_of_every_row_that_was_read() -> None:
    rows = [example("p", "abc"), example("qq", "x" * 99)]
    arms = {"x": ArmData(rows[:1], read=rows)}
    drop_too_long(arms, CHAT, study())
    prompt, completion = arms["x"].lengths[0]
    assert prompt + completion == length("p", "abc") and completion == len(CHAT.completion_ids("abc"))
    assert arms["x"].lengths[1] == (prompt + 1, completion + 96)


def test_limits_are_an_arms_own_and_a_shared_problem_leaves_all() -> None:
    limit = length("p", "abcd")
    arms = {n: ArmData([example("p", "abcdef"), example("own " + n, "a"), example("own " + n, "b")]) for n in "xy"}
    own: dict[str, Row] = {"x": {"dataset_name": "x", "training": {"max_length": 500}}, "y": {"dataset_name": "y"}}
    drop_too_long(arms, CHAT, study(own, training={"max_length": limit + 4}))
    assert all(len(data.examples) == 3 for data in arms.values())
    drop_too_long(arms, CHAT, study(own, training={"max_length": limit + 1}))
    assert {n: [e.group for e in data.examples] for n, data in arms.items()} == {n: [f"own {n}"] * 2 for n in "xy"}
    assert (arms["x"].dropped["too_long_elsewhere"], arms["y"].dropped["too_long"]) == (1, 1)


def test_nothing_left_names_the_reasons() -> None:
    data = ArmData([example("p", "x" * 99), example("q", "y" * 99), example("v", "ok", "validation")])
    data.dropped["in_a_validation_set"] = 4
    with pytest.raises(
        KiyasError, match=r"no train rows are left: 2 are longer.* 50 tokens, 0 belong .* 4 to problems"
    ):
        drop_too_long({"x": data}, CHAT, study(training={"max_length": 50}))
    held = ArmData([example("p", "ok"), example("v", "x" * 99, "validation")])
    with pytest.raises(KiyasError, match="no validation rows are left: 1 are longer"):
        drop_too_long({"x": held}, CHAT, study(training={"max_length": 50}))


def test_a_random_part_keeps_the_order() -> None:
    things = list("abcdefghij")
    parts = {"".join(_some(things, 4, random.Random(i))) for i in range(50)}
    assert len(parts) > 30 and all(list(part) == sorted(part) and len(part) == 4 for part in parts)
    assert _some(things, 99, random.Random(0)) == things


def arm(**settings: Any) -> Arm:
    return Arm.model_validate(settings)


def source(arm: str, problems: int, solutions: int) -> ArmData:
    return ArmData([example(f"g{p}", f"{arm} {p} {s}") for p in range(problems) for s in range(solutions)])


SOURCES = {"deep": source("deep", 10, 6), "wide": source("wide", 30, 1)}


def drawn(draw: int = 0, name: str = "z", **settings: Any) -> list[Example]:
    return _draw(SOURCES, name, arm(**settings), draw)


def test_a_draw_takes_problems_then_solutions_then_a_share() -> None:
    whole = SOURCES["deep"].examples
    for part in (problems := drawn(**{"from": "deep", "problems": 4}), drawn(**{"from": "deep", "solutions": 2})):
        assert part == [e for e in whole if e in part], "in the source's order"
    assert Counter(Counter(e.group for e in problems).values()) == {6: 4}
    assert Counter(Counter(e.group for e in drawn(**{"from": "deep", "solutions": 2})).values()) == {2: 10}
    assert len(drawn(**{"from": "deep", "fraction": 0.25})) == 15
    assert len(drawn(**{"from": "deep", "problems": 4, "solutions": 3, "fraction": 0.6})) == 7
    assert len(drawn(**{"from": "deep", "fraction": 0.001})) == 1
    assert len(drawn(**{"from": "deep", "problems": 10})) == 60
    with pytest.raises(KiyasError, match="arm z: the study asks for 11 problems, but there are 10"):
        drawn(**{"from": "deep", "problems": 11})


def test_a_mix_is_as_large_as_its_shares_allow() -> None:
    counts = Counter(e.completion.split()[0] for e in drawn(mix={"deep": 3, "wide": 1}))
    assert counts == {"deep": 60, "wide": 20}, "all of the arm that is short"
    counts = Counter(e.completion.split()[0] for e in drawn(mix={"deep": 1, "wide": 2}))
    assert counts == {"deep": 15, "wide": 30}
    assert [e.completion.split()[0] for e in drawn(mix={"wide": 1, "deep": 1})] == ["wide"] * 30 + ["deep"] * 30


def test_a_draw_is_a_function_of_names_and_its_number() -> None:
    settings = {"from": "deep", "problems": 5, "solutions": 2, "fraction": 0.5}
    first = drawn(**settings)
    assert first == drawn(**settings) and len({tuple(drawn(i, **settings)) for i in range(8)}) == 8
    assert first != drawn(0, "other", **settings)


def derived(arms: dict[str, Row], **more: Any) -> tuple[dict[str, ArmData], dict[str, list[Size]]]:
    own: dict[str, Row] = {name: {"dataset_name": name} for name in SOURCES}
    wanted = study({**own, **arms}, seeds=3, **more)
    data = {name: ArmData([*each.examples, example("v", f"of {name}", "validation")]) for name, each in SOURCES.items()}
    samples = drop_too_long(data, CHAT, wanted)
    derive(data, samples, CHAT, wanted)
    return data, samples


def test_a_derived_arm_has_its_draws_their_samples_and_all_validation() -> None:
    data, samples = derived({"z": {"mix": {"deep": 1, "wide": 1}, "solutions": 1, "draws": 3}})
    made = data["z"]
    assert made.derived and made.shape == "derived from deep and wide" and not data["deep"].derived
    assert [e.completion for e in made.split("validation")] == ["of deep", "of wide"]
    train = made.split("train")
    assert sorted({e.draw for e in train}) == [0, 1, 2] and [e.draw for e in train] == sorted(e.draw for e in train)
    assert len(train) == len(samples["z"])
    for each, sample in zip(train, samples["z"], strict=True):
        whole = tokenise(each, CHAT, study(), "x")
        assert sample == (len(whole.ids), whole.start) and sample.labels == whole.labels


def test_a_derived_arm_with_a_recipe_of_its_own_is_cut_again() -> None:
    short = {"from": "deep", "problems": 9, "training": {"completion_only_loss": False}}
    _, samples = derived({"z": short})
    assert {s.start for s in samples["z"]} == {0} and 0 not in {s.start for s in samples["deep"]}


def test_what_the_manifest_says_of_an_arm() -> None:
    rows = [example("g", id="1"), example("g", id="2"), example("h", id="3"), example("v", split="validation")]
    later = Example("4", "k", "c", "k", "train", 1)
    data = ArmData([*rows, later], Counter({"too_long": 2, "empty": 1}), "Alpaca")
    samples = [Size(n, start) for n, start in ((5, 2), (9, 3), (6, 0), (50, 1))]
    assert arm_counts(data, samples) == {
        "train": 3, "validation": 1, "groups": 2, "solutions_per_group": 1.5, "completion_tokens": 3 + 6 + 5,
        "mean_tokens": 6.7, "max_tokens": 9, "draws": 2, "from": "Alpaca", "derived": False,
        "dropped_empty": 1, "dropped_too_long": 2,
    }  # fmt: skip
    three = ArmData([example("g"), example("g"), example("h"), example("k"), example("k"), example("k"), example("m")])
    assert arm_counts(three, [Size(2, 0)] * 7)["solutions_per_group"] == 1.75
    seven = ArmData([example(g) for g in "ggghhkk"])
    assert arm_counts(seven, [Size(2, 0)] * 7)["solutions_per_group"] == 2.333
