"""`kiyas keys`: every key of the study file, its default and meaning, from the settings themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from kiyas import cli
from kiyas.study.file import parse
from kiyas.study.keys import AS_UNDER, Key, keys, keys_of
from kiyas.study.settings import Study, flat
from kiyas.types import KiyasError

SMALL = "name: s\nmodel_name_or_path: practice\narms: {NAME: {dataset_name: practice/deep}}\n"


def known() -> dict[str, Key]:
    return {each.name: each for each in keys()}


def test_every_key_is_listed_with_its_default_and_a_meaning() -> None:
    listed = known()
    settings = flat(parse(SMALL, "s", Path.cwd()).model_dump(by_alias=True))
    for name, value in settings.items():
        if any(name.startswith(each) for each in (*AS_UNDER, "name", "model_name", "arms.NAME.dataset_name")):
            continue
        written = YAML(typ="safe").load(listed[name].default) if listed[name].default else None
        assert written == (value or None if isinstance(value, list) else value) or name == "training.budget.epochs", (
            name
        )
    assert all(each.meaning.strip() and each.kind for each in keys())
    assert {*Study.model_fields} <= listed.keys()
    assert not [name for name in listed if "from_" in name]


def test_kinds_and_defaults_are_as_they_are_written() -> None:
    listed = known()
    assert listed["seeds"].kind == "a whole number or a list" and listed["seeds"].default == "3"
    assert listed["training.lr_scheduler_type"].kind == "linear, cosine or constant"
    assert listed["training.budget"].default == "{epochs: 3}" and listed["name"].default == "required"
    assert listed["arms.NAME.training"].kind == "keys, as under training"
    assert listed["compare.matters"].text(60).splitlines()[0] == "compare.matters: 0.05  (a number)"
    assert listed["judge.python"].text(60).startswith("judge.python:  (a text; may be left out)\n    Interp")
    assert max(map(len, listed["training.dtype"].text(60).splitlines())) <= 60


def test_a_section_or_one_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert [each.name for each in keys_of("peft")][:2] == ["peft", "peft.r"]
    assert cli.main(["keys", "training.budget"]) == 0
    assert "training.budget.epochs:" in capsys.readouterr().out
    assert cli.main(["keys", "judge.mode", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["name"], one["default"]) == ("judge.mode", "strict")
    for wrong, hint in (
        ("trainin", "did you mean training?"),
        ("matters", "did you mean compare.matters?"),
        ("lora_r", "here it is called peft.r"),
    ):
        with pytest.raises(KiyasError, match=hint.replace("?", r"\?")):
            keys_of(wrong)
