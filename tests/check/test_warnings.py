"""`kiyas check` warns where money would be lost, and is silent just inside of each limit."""

from __future__ import annotations

import dataclasses
import json
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kiyas import practice
from kiyas.check import Checked, page, remarks
from kiyas.check.sources import same_sources
from kiyas.cli import main
from kiyas.data import hub
from kiyas.pipeline import measure, mistakes
from kiyas.report.language import phrases
from kiyas.similarity.shared_rows import shared_rows
from kiyas.study.file import load
from kiyas.study.settings import Study
from kiyas.types import Example

TWO = {"a": {"dataset_name": "a.jsonl"}, "b": {"dataset_name": "b.jsonl"}}


def study(arms: dict[str, Any] | None = None, **training: Any) -> Study:
    given = {"name": "t", "model_name_or_path": "practice", "arms": arms or TWO, "training": training}
    return Study.model_validate(given)


def arm(rows: int = 1000, validation: int = 50, derived: bool = False) -> Any:
    return SimpleNamespace(trained=SimpleNamespace(rows=rows), validation=validation, derived=derived)


def codes(found: Any) -> list[str]:
    return [each.code for each in found if each.level is remarks.Level.WARNING]


def said(each: remarks.Remark) -> str:
    """Everything that the page says of it."""
    return " ".join(page.words(each, Checked.__new__(Checked)))


@pytest.fixture(autouse=True)
def grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checked, "group_by", "", raising=False)


# -- learning rates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hidden", "rate", "code"),
    [
        (1536, 2e4, "rate_impossible"),
        (1536, 2e-9, "rate_impossible"),
        (1536, 0.1, "rate_impossible"),
        (1536, 1e-2, "rate_unusual"),
        (1536, 5e-6, "rate_unusual"),
        (1536, 2e-5, None),
        (1536, 2e-4, None),
        (1536, 2e-3, None),
        (8192, 2e-3, "rate_unusual"),
        (8192, 2e-4, None),
        (96, 1e-2, None),
        (96, 1e-1, "rate_unusual"),
    ],
)
def test_a_rate_that_the_size_does_not_bear(hidden: int, rate: float, code: str | None) -> None:
    found = list(mistakes.rate_remarks(study(learning_rate=rate), hidden))
    assert codes(found) == ([code] if code else [])
    for each in found:
        assert f"training.learning_rate = {rate:g}" in said(each)
        assert ("noise" in said(each)) == (rate > 1e-3), "too high diverges, too low learns nothing"


def test_the_limits_of_a_rate_are_where_they_are_said_to_be() -> None:
    best = mistakes.best_rate(2000)
    assert best == pytest.approx(5e-4)
    for (low, high), code in ((mistakes.USUAL_RATES, "rate_unusual"), (mistakes.POSSIBLE_RATES, "rate_impossible")):
        for edge, outwards in ((low, 0.99), (high, 1.01)):
            rates = [edge * best * outwards, edge * best / outwards]
            outside, inside = (codes(mistakes.rate_remarks(study(learning_rate=rate), 2000)) for rate in rates)
            assert outside == [code] and inside != [code]


def test_every_rate_of_a_grid_and_of_an_arm_is_looked_at() -> None:
    found = list(mistakes.rate_remarks(study(learning_rate=[1e-4, 2e-4, 7.0]), 1536))
    assert [each.values["rate"] for each in found] == [7.0]
    own = {"a": {"dataset_name": "a.jsonl", "training": {"learning_rate": 3e-9}}, "b": {"dataset_name": "b.jsonl"}}
    (one,) = mistakes.rate_remarks(study(own), 1536)
    assert (one.values["key"], one.values["rate"]) == ("arms.a.training.learning_rate", 3e-9)


# -- budget ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "code"),
    [
        (0.01, "not_read_once"),
        (0.94, "not_read_once"),
        (0.96, None),
        (3.0, None),
        (16.0, None),
        (16.1, "many_epochs"),
        (50.0, "many_epochs"),
    ],
)
def test_a_budget_far_from_the_data(epochs: float, code: str | None) -> None:
    found = list(remarks.budget_remarks({"a": arm(), "b": arm()}, {"a": 3.0, "b": epochs}))
    assert codes(found) == ([code] if code else [])
    if code == "not_read_once":
        (one,) = found
        assert f"b {round(1000 * epochs)} of 1,000" in said(one) and "a 3" not in said(one)


def test_a_derived_arm_repeats_its_rows_on_purpose() -> None:
    assert not list(remarks.budget_remarks({"a": arm(), "one": arm(derived=True)}, {"a": 4.0, "one": 20.0}))
    assert codes(remarks.budget_remarks({"one": arm(derived=True)}, {"one": 0.5})) == ["not_read_once"]


# -- curves and validation rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "save", "evaluate", "wanted"),
    [
        (90, 100, 20, ["few_checkpoints"]),
        (200, 100, 20, ["few_checkpoints"]),
        (201, 100, 20, []),
        (300, 100, 20, []),
        (300, 100, 300, []),  # validation loss is measured where a checkpoint is saved, too
        (40, 40, 20, ["few_checkpoints", "few_losses"]),
        (41, 20, 20, []),
        (60, 20, 20, []),
    ],
)
def test_steps_that_leave_no_curve(steps: int, save: int, evaluate: int, wanted: list[str]) -> None:
    found = list(remarks.curve_remarks(study(save_steps=save, eval_steps=evaluate), {"a": arm()}, {"a": steps}))
    assert codes(found) == wanted
    for each in found:
        assert each.values["better"] == steps // 5 and f"about {steps // 5}" in said(each)


@pytest.mark.parametrize(("rows", "warned"), [(1, True), (49, True), (50, False)])
def test_validation_rows_that_say_nothing(rows: int, warned: bool) -> None:
    facts = {"a": arm(validation=50), "b": arm(validation=rows)}
    found = list(remarks.curve_remarks(study(), facts, {"a": 900, "b": 900}))
    assert codes(found) == (["few_validation"] if warned else [])
    assert all(f": b {rows}" in said(each) for each in found)


def test_who_holds_nothing_out_is_not_warned_of_its_curve() -> None:
    facts = {"a": arm(validation=0), "b": arm(validation=0)}
    assert not list(remarks.curve_remarks(study(save_steps=10, eval_steps=500), facts, {"a": 30, "b": 30}))
    one_sided = {"a": arm(validation=50), "b": arm(validation=0)}
    assert codes(remarks.curve_remarks(study(save_steps=10), one_sided, {"a": 900, "b": 900})) == ["few_validation"]


# -- shared rows ----------------------------------------------------------------------------------------------------


def rows(*numbers: int) -> list[Example]:
    return [Example(str(n), f"question {n}", f"print({n})", f"g{n}") for n in numbers]


@pytest.mark.parametrize(
    ("shared", "code"),
    [(9, None), (10, "shared_rows"), (94, "shared_rows"), (95, "nearly_same_data"), (100, "same_data")],
)
def test_rows_that_two_arms_share_are_counted(shared: int, code: str | None) -> None:
    of_b = range(100 - shared, 200 - shared)
    found = list(remarks.shared_remarks(study(), shared_rows({"a": rows(*range(100)), "b": rows(*of_b)}), []))
    assert codes(found) == ([code] if code else [])
    for each in found:
        assert f"{shared} of the 100" in said(each) or f"{shared} of 100" in said(each) or "same 100 rows" in said(each)


def test_a_derived_arm_shares_rows_on_purpose() -> None:
    arms = {"a": {"dataset_name": "a.jsonl"}, "b": {"from": "a", "fraction": 0.5}}
    shared = shared_rows({"a": rows(*range(100)), "b": rows(*range(50))})
    assert codes(remarks.shared_remarks(study(arms), shared, [])) == []


def test_a_run_is_told_of_identical_rows_and_of_a_rate_that_nothing_bears() -> None:
    same, other = shared_rows({"a": rows(1, 2), "b": rows(1, 2)}), shared_rows({"a": rows(1, 2), "b": rows(3, 4)})
    wasted = study(learning_rate=20)
    wasted = wasted.model_copy(update={"model_name_or_path": str(practice.base_path())})
    alike, rate = mistakes.in_words(wasted, same)
    assert "a and b are trained on the same 2 rows" in alike and "training.learning_rate = 20" in rate
    sound = wasted.model_copy(update={"training": study(learning_rate=1e-2).training})
    assert mistakes.in_words(sound, other) == []


def test_the_worst_comes_first_and_makes_a_swap_of_names_pointless() -> None:
    def found(code: str, **values: Any) -> remarks.Remark:
        return remarks.Remark(code, remarks.Level.WARNING, values)

    swap, one_seed, rate = found("swapped_name", arm="a", other="b"), found("one_seed"), found("rate_impossible")
    assert remarks.worst_first([one_seed, swap, rate]) == [rate, one_seed, swap]
    assert remarks.worst_first([one_seed, swap, rate, same := found("same_file", a="b", b="a")]) == [
        same,
        rate,
        one_seed,
    ]


def test_swapped_columns_are_programs_that_are_answered_with_text() -> None:
    swapped = [Example(str(n), f"print({n})", f"Print the number {n}.", f"g{n}") for n in range(20)]
    assert measure._columns_swapped(swapped, 20) and not measure._columns_swapped(swapped, 40)
    prose = [dataclasses.replace(row, prompt="Print a number.") for row in swapped]
    assert not measure._columns_swapped(prose, 20)


def files(folder: Path, **contents: str) -> dict[str, Any]:
    for name, text in contents.items():
        (folder / f"{name}.jsonl").write_text(text)
    return {name: {"dataset_name": str(folder / f"{name}.jsonl")} for name in contents}


def test_the_same_file_at_one_path_and_at_two(tmp_path: Path) -> None:
    arms = files(tmp_path, a="same", b="same", c="diff", d="other")
    (one,) = same_sources(study(arms))
    assert (one.a, one.b, len(one.sources)) == ("a", "b", 2)
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "a.jsonl")
    twice = {"a": arms["a"], "again": arms["a"], "link": {"dataset_name": str(tmp_path / "link.jsonl")}}
    assert [(each.a, each.b) for each in same_sources(study(twice))] == [
        ("a", "again"),
        ("a", "link"),
        ("again", "link"),
    ]
    of_hub = {
        "a": {"dataset_name": "o/n"},
        "b": {"dataset_name": "o/n"},
        "c": {"dataset_name": "o/n", "revision": "v2"},
    }
    assert [(each.a, each.b) for each in same_sources(study(of_hub))] == [("a", "b")]


def test_one_file_for_two_arms_is_one_warning(tmp_path: Path) -> None:
    arms, shared = files(tmp_path, a="same", b="same"), shared_rows({"a": rows(1, 2), "b": rows(1, 2)})
    (one,) = remarks.shared_remarks(study(arms), shared, same_sources(study(arms)))
    assert (one.code, one.level) == ("same_file", remarks.Level.WARNING)
    assert f"{tmp_path / 'a.jsonl'} and {tmp_path / 'b.jsonl'} hold the same bytes" in said(one)
    arms["b"]["training"] = {"learning_rate": 1e-4}  # then the recipes are what is compared
    (other,) = remarks.shared_remarks(study(arms), shared, same_sources(study(arms)))
    assert (other.code, other.level) == ("shared_other_recipe", remarks.Level.NOTE)


# -- whole studies --------------------------------------------------------------------------------------------------

PRESETS = ["practice", "deep-vs-diverse", "deep-vs-diverse-reasoning", "deep-vs-diverse-as-published"]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_ready_studies_are_healthy(preset: str, tmp_path: Path) -> None:
    """With the rows that their data sets have; of the published one, which has 15 to 19 validation rows, only these
    are too few."""
    file = tmp_path / f"{preset}.yaml"
    file.write_text((resources.files("kiyas.study") / "presets" / f"{preset}.yaml").read_text(encoding="utf-8"))
    own, published = load(file), preset.endswith("published")
    size = 1000 if preset == "practice" else 4700
    facts = {name: arm(size, 15 if published else 64, bool(each.sources)) for name, each in own.arms.items()}
    batch, epochs = own.training.effective_batch_size, own.training.budget.epochs
    steps = dict.fromkeys(facts, own.training.budget.steps or round((epochs or 0) * size / batch))
    found = [
        *mistakes.rate_remarks(own, 96 if preset == "practice" else 1536),
        *remarks.budget_remarks(facts, {name: steps[name] * batch / size for name in facts}),
        *remarks.curve_remarks(own, facts, steps),
    ]
    assert codes(found) == (["few_validation"] if published else [])
    assert not same_sources(own)


def test_fast_leaves_out_the_costs_and_the_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in practice.dataset("deep")[:100]))
    base = tmp_path / "base"
    base.mkdir()
    for each in practice.base_path().iterdir():
        if each.suffix != ".safetensors":
            (base / each.name).write_bytes(each.read_bytes())
    asked: list[dict[str, Any]] = []

    def snapshot(name: str, **how: Any) -> str:
        asked.append(how)
        return str(base)

    monkeypatch.setattr(hub, "find_commit", lambda *_: "0" * 40)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    file = tmp_path / "s.yaml"
    file.write_text(
        "name: t\nmodel_name_or_path: owner/base\narms: {a: {dataset_name: a.jsonl}, b: {dataset_name: a.jsonl}}\n"
        "dataset: {split_column: none}\njudge: {isolation: best}\nseeds: 2\n"
        "training: {budget: {steps: 1}, learning_rate: 20}\nbenchmarks: {primary: {dataset: practice, problems: 2}}\n"
    )
    assert main(["check", "--fast", str(file)]) == 0
    told = capsys.readouterr()
    text = " ".join(told.out.split())
    assert "on owner/base" in text and "because of --fast" in text and "costs" not in told.err
    assert "Assumed spread: this study" in text and " in 2 s" not in text
    wanted = ["a typing error?", "a 16 of", "saves 1 checkpoint in 1 step,", "b read the same data", "a 5, b 5"]
    assert [each for each in wanted if each not in text] == []
    assert asked and all("*.safetensors" not in each.get("allow_patterns", []) for each in asked)
    assert main(["check", "--fast", "--json", str(file)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["costs"] is None and found["design"][0]["hours"] is None
    with pytest.raises(SystemExit):
        main(["check", "--fast", "--card", "t4", str(file)])


@pytest.mark.parametrize(("language", "measured"), [("en", "With the measured spread"), ("tr", "Ölçülen yayılma")])
def test_the_report_says_that_its_figure_is_of_measured_spread(language: str, measured: str) -> None:
    found = [text for key, text in phrases(language).items() if key.startswith("conclusion.now_sees")]
    assert len(found) == 2 and all(text.startswith(measured) for text in found)
