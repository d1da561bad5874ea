"""The study file: every mistake at once, with line and hint; YAML 1.2; overrides; the published schema."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kiyas.practice import DATASETS
from kiyas.study.file import PRACTICE_DATASETS, as_overrides, load, parse
from kiyas.types import KiyasError

GOOD = """\
name: a
model_name_or_path: practice
arms:
  deep: {dataset_name: practice/deep}
  diverse: {dataset_name: practice/diverse}
"""


def mistakes(text: str, overrides: list[str] | None = None) -> str:
    with pytest.raises(KiyasError) as caught:
        parse(text, "s.yaml", Path.cwd(), overrides)
    return str(caught.value)


def test_defaults() -> None:
    made = parse(GOOD, "s.yaml", Path.cwd())
    assert made.seed_list == [0, 1, 2]
    assert made.compare.select == "last" and made.training.patience is None
    assert made.training.completion_only_loss and made.judge.isolation == "strong"


def test_all_mistakes_at_once_with_line_and_hint() -> None:
    told = mistakes(
        GOOD
        + """\
lora_r: 8
seeds: 0
training:
  learning_rte: 1e-4
  r: 4
  epochs: 3
  budget: {epochs: 3, steps: 5}
  save_steps: often
  num_train_epochs: 2
compare: {primary: [deep, dip], select: besst}
"""
    )
    for line in (
        "line 6: unknown key lora_r; here it is called peft.r",
        "line 9: unknown key training.learning_rte; did you mean learning_rate?",
        "line 10: unknown key training.r; it belongs under peft:",
        "line 11: unknown key training.epochs; here it is called training.budget.epochs",
        "line 12: training.budget: give exactly one of epochs, steps, examples, completion_tokens",
        "line 13: training.save_steps:",
        "line 14: unknown key training.num_train_epochs; here it is called training.budget.epochs",
        "line 15: compare.select:",
        "line 7: seeds:",
    ):
        assert line in told, told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1\nb: 2", "line 2"),
        ("name: a\nname: b", 'duplicate key "name"'),
        ("- a\n- b", "a study file is a mapping"),
        ("", "a study file is a mapping"),
        ("name: \t{", "s.yaml, line 1"),
        (GOOD.replace("name: a", "name: ../up"), "line 1: name:"),
        (GOOD.replace("deep: {", "base: {"), "'base' is the untrained model's own name"),
        (GOOD.replace("deep: {", "problems: {"), "'problems' is the benchmark's own file name"),
        (GOOD.replace("diverse: {", "DEEP: {"), "differ only in upper and lower case"),
        (GOOD.replace("practice/deep", "practice/dep"), "line 4: arms.deep.dataset_name: no 'practice/dep'"),
        (GOOD.replace("practice/deep", "nope.jsonl"), "line 4: arms.deep.dataset_name: no data file 'nope.jsonl'"),
        (GOOD.replace("path: practice", "path: ./models/none"), "line 2: model_name_or_path: no model folder"),
        (GOOD + "benchmarks: {primary: {dataset: none.jsonl}}", "benchmarks.primary.dataset: no problems file"),
        (GOOD + "benchmarks: {primary: {dataset: livecodebench}}", "`release` goes with"),
        (GOOD + "benchmarks: {primary: {from: 2025, to: 2024-07}}", "from 2025 is after to 2024-07"),
        (GOOD + "benchmarks: {primary: {from: 2024-8}}", "is not a date"),
        (GOOD + "compare: {primary: [deep, dip]}", "no arm 'dip'; arms are deep, diverse"),
        (GOOD + "generation: {num_samples: 4}", "num_samples above 1 needs temperature above 0"),
        (GOOD + "seeds: [1, 1]", "the same seed twice"),
        ("name: a\nmodel_name_or_path: practice\narms: {}", "arms"),
        ("name: a", "model_name_or_path is missing"),
    ],
)
def test_mistakes(text: str, told: str) -> None:
    assert told in mistakes(text)


def test_yaml_1_2_numbers_and_words() -> None:
    made = parse(GOOD + "training: {learning_rate: 1e-5, adam_epsilon: 1E-8}", "s", Path.cwd())
    assert made.training.learning_rate == 1e-5
    # YAML 1.1 would read these as true, false and 8.
    made = parse(GOOD.replace("  deep", "  on").replace("  diverse", "  no") + "seeds: 010", "s", Path.cwd())
    assert list(made.arms) == ["on", "no"] and made.seeds == 10


def test_overrides() -> None:
    made = parse(GOOD, "s", Path.cwd(), ["training.learning_rate=1e-4", "seeds=[3, 4]", "report.language=tr"])
    assert (made.training.learning_rate, made.seed_list, made.report.language) == (1e-4, [3, 4], "tr")
    assert "unknown key training.lr; here it is called training.learning_rate" in mistakes(GOOD, ["training.lr=1"])
    assert "an override looks like" in mistakes(GOOD, ["nonsense"])
    assert "name is not a section" in mistakes(GOOD, ["name.x=1"])


def test_keywords_as_overrides_set_what_they_say() -> None:
    """Names with dots, numbers of numpy, paths, and characters that YAML would read as others."""
    odd = "a: 'b' # \\ \x85 \x7f \u2028 😀"
    given = {
        "arms": {"v1.5": {"from_": "deep", "fraction": np.float64(0.5)}},
        "seeds": np.array([3, 4]),
        "model_name_or_path": Path("practice"),
        "dataset": {"system": odd},
    }
    made = parse(GOOD, "s", Path.cwd(), as_overrides(given))
    assert (made.arms["v1.5"].from_, made.arms["v1.5"].fraction, made.seed_list) == ("deep", 0.5, [3, 4])
    assert made.dataset.system == odd
    assert "arms.v1.5.fraction" in mistakes(GOOD, ['arms."v1.5".from=deep', 'arms."v1.5".fraction=2'])


@pytest.mark.parametrize("kind", ["bytes", "set", "itself", "nested"])
def test_keywords_that_no_study_file_can_hold(kind: str) -> None:
    itself: list[object] = []
    itself.append(itself)
    nested: dict[str, object] = {}
    nested["training"] = nested
    odd = {"bytes": b"x", "set": {1}, "itself": itself, "nested": nested}
    with pytest.raises(KiyasError, match=r"a study file cannot hold|nested too deep"):
        as_overrides({"seeds": odd[kind]})


def test_paths_are_relative_to_the_study_file(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("{}\n")
    file = tmp_path / "s.yaml"
    file.write_text(GOOD.replace("practice/deep", "d.jsonl"))
    assert load(file).arms["deep"].dataset_name == str(tmp_path / "d.jsonl")
    assert load(file).arms["diverse"].dataset_name == "practice/diverse"


def test_missing_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(KiyasError, match="kiyas init"):
        load(tmp_path / "none.yaml")
    with pytest.raises(KiyasError, match="is a folder"):
        load(tmp_path)


def test_a_path_of_windows_whose_file_is_there_is_named_with_slashes(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("{}")
    with pytest.raises(KiyasError, match=r"; write the path with /: \./p\.jsonl is there"):
        parse(GOOD + r"benchmarks: {primary: {dataset: .\p.jsonl}}", "s.yaml", tmp_path)


@pytest.mark.parametrize(
    ("name", "meant"), [("mine.yml", "mine.yaml"), ("mine", "mine.yaml"), ("mien.yaml", "mine.yaml")]
)
def test_a_study_file_of_nearly_that_name_is_meant(tmp_path: Path, name: str, meant: str) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    with pytest.raises(KiyasError, match="no study file") as refused:
        load(tmp_path / name)
    assert f"did you mean {tmp_path / meant}?" in str(refused.value)


def test_practice_names_agree() -> None:
    assert {f"practice/{name}" for name in DATASETS} == set(PRACTICE_DATASETS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("benchmarks: {primary: {dataset: practice, from: 2024-02-31}}", "not valid YAML: day is out of range"),
        ("benchmarks: {primary: {dataset: practice, from: '2024-02-31'}}", "'2024-02-31' is not a date"),
        ("benchmarks: {primary: {dataset: practice, to: '2024-13'}}", "'2024-13' is not a date"),
        ("judge: {python: /nope/python}", "judge.python: no such interpreter"),
        ("training: {device: foo}", "training.device"),
    ],
)
def test_dates_devices_and_interpreters_that_are_none(text: str, told: str) -> None:
    assert told in mistakes(GOOD + text)


@pytest.mark.parametrize(
    ("text", "overrides", "told"),
    [
        ("seeds: 0", [], "s.yaml: a mistake\n  line 6: seeds: Input should be greater than or equal to 1 (got 0)"),
        ("seeds: [0, -3]", [], "s.yaml: a mistake\n  line 6: seeds.1: Input should be greater than or equal to 0"),
        ("seeds:", [], "s.yaml: a mistake\n  line 6: seeds: "),
        ("seeds: [1, 1]", [], "line 6: seeds: the same seed twice"),
        ("seeds: 3", ["seeds=0"], "override: seeds: Input should be greater"),
        ("training: {patience: 2}", ["training.epoch=3"], "override: unknown key training.epoch"),
        (
            "seeds: 3",
            ["benchmarks.primary.from=2024-13"],
            "override benchmarks.primary.from: benchmarks.primary: '2024-13'",
        ),
        ("seeds: 3", ["arms.deep.dataset_name=none.jsonl"], "override: arms.deep.dataset_name: no data file"),
        ("compare: {matters: 5}", [], "line 6: compare.matters: give a share, not points: 5 points are 0.05"),
        ("compare: {matters: 2.5 %}", [], "2.5 points are 0.025"),
        ("training:\n\tpatience: 2", [], "s.yaml, line 7: YAML does not allow a tab here\n  hint: indent with spaces"),
        ('dataset: {system: "C:\\models"}', [], "line 6: found unknown escape character 'm'\n  hint: in double quotes"),
        ('benchmarks: {primary: {dataset: "C:\\new.jsonl"}}', [], "no problems file 'C:\\new.jsonl'"),
        ('benchmarks: {primary: {dataset: "C:\\new.jsonl"}}', [], "in double quotes a back-slash begins an escape"),
        (r"benchmarks: {primary: {dataset: .\p.jsonl}}", [], r"no problems file '.\p.jsonl' (looked"),
        (r"benchmarks: {primary: {dataset: C:\Users\p.jsonl}}", [], r"'C:\Users\p.jsonl'"),
        ("benchmarks: {primary: {dataset: 'C:\\p.jsonl'}}", [], "; write the path with /"),
        ("training: {device: foo}", [], "training.device: give auto, cpu, mps, cuda or one GPU such as cuda:1 (got"),
        ("seeds: 3", ["name=my study"], "letters, digits, . _ and -, no blanks"),
        ("seeds: 3", ["seeds", "=", "3"], "KEY=VALUE is written without blanks: seeds=3"),
        ("seeds: 3", ["name=x", "seeds", "=3"], "KEY=VALUE is written without blanks: seeds=3"),
        ("seeds: 3", ["seeds=", "3", "name=x"], "KEY=VALUE is written without blanks: seeds=3"),
        ("benchmarks: {primary: {form: 2024}}", [], "unknown key benchmarks.primary.form; did you mean from?"),
        ("benchmarks: {primary: {colour: 2024}}", [], "difficulty, from, to,"),
    ],
    ids=str,
)
def test_a_mistake_is_said_once_where_it_was_made(text: str, overrides: list[str], told: str) -> None:
    assert told in mistakes(GOOD + text, overrides)
