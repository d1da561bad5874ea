"""The model card says what the report says, in the Hub's own metadata, whatever names and texts are in it."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub._eval_results import parse_eval_result_entries

from finished import make_finished
from hub_server import wrong_in_card
from kiyas import practice, report
from kiyas.analyse import analyse
from kiyas.analyse.chosen import Finished
from kiyas.export import card
from kiyas.export.licence import Licence, licence_of
from kiyas.export.weights import Written
from kiyas.report.language import Language
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Benchmark, Study
from kiyas.types import KiyasError

LICENCE = Licence("mit", "as given with --license")
PLACES = "/home/me/x/deep: kept; ~/data/my.jsonl; see https://hf.co/a/b/c and runs/a/b"
HOSTILE = [
    "---\nlicense: mit\n---\n# owned",
    "x](javascript:alert(1)) <script>alert(1)</script>",
    "| a | b |\n| --- | --- |",
    "```\nrm -rf /",
    "\u202eevil\x1b[2J",
    "@everyone `code` $x$",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return make_finished(tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def subject(run: RunDir) -> card.Subject:
    found = Finished.read(run)
    return card.Subject(found, analyse(run.root), found.chosen("deep"), Written("float32"), False, LICENCE, True)


def with_study(subject: card.Subject, **update: Any) -> card.Subject:
    return replace(subject, run=replace(subject.run, study=subject.study.model_copy(update=update)))


def written(folder: Path, subject: card.Subject) -> tuple[ModelCard, str]:
    card.write(folder, subject)
    text = (folder / "README.md").read_text(encoding="utf-8")
    return ModelCard.load(folder / "README.md"), text


def test_the_card_goes_through_the_hubs_library_and_comes_back(subject: card.Subject, tmp_path: Path) -> None:
    found, text = written(tmp_path, subject)
    assert str(found) == text and found.data.to_dict() == card.metadata(subject).to_dict()
    assert isinstance(found.data.eval_results[0], EvalResult) and wrong_in_card(text) == []
    score = subject.run.score(subject.adapter)
    only = found.data.eval_results[0]
    assert only.metric_value == round(score.rate, 4)
    assert only.metric_type == "pass@1" and only.dataset_type == "practice"
    low, high = only.metric_args["interval_95"]
    assert low < only.metric_value < high and only.metric_args["problems"] == 12
    assert found.data.license == "mit" and found.data.library_name == "peft" and found.data.base_model is None


def test_the_figures_are_those_of_the_report(subject: card.Subject, tmp_path: Path) -> None:
    _, text = written(tmp_path, subject)
    words, findings = Language("en"), subject.findings
    plain = text.replace("\\", "")
    assert report.conclusion(findings) in plain
    score = findings.score(subject.adapter)
    assert score is not None
    said = f"**{words.percent(score.rate)}** (95% interval {words.share_interval(score.interval)}), "
    assert f"{said}{words.count(score.solved)} of 12 problems" in plain
    for each in findings.results:
        assert f"| {words.percent(each.mean)} | {words.share_interval(each.interval)} |" in plain
    primary = findings.primary
    assert primary is not None and math.isfinite(primary.difference)
    assert f"| diverse minus deep | {words.points(primary.difference)} | " in plain
    assert "of 0, 1" in plain and "not on the Hub" in plain and "There are only 12 problems" in plain


def test_strangers_texts_change_neither_metadata_nor_shape(subject: card.Subject, tmp_path: Path) -> None:
    _, before = written(tmp_path / "before", subject)
    hostile = with_study(
        replace(subject, findings=replace(subject.findings, notes=tuple(HOSTILE))),
        dataset=subject.study.dataset.model_copy(update={"system": HOSTILE[0] + HOSTILE[3]}),
        model_name_or_path="/home/me/" + HOSTILE[1].replace("/", "") + "\nlicense: other",
        name="2026-01-01",
    )
    found, text = written(tmp_path / "after", hostile)
    assert found.data.license == "mit" and found.data.base_model is None
    assert found.data.model_name == "2026-01-01 deep seed 0" and wrong_in_card(text) == []
    assert "/home/me" not in text, "no path of this machine"
    body = text.split("\n---\n", 1)[1]
    assert "<script" not in body and not re.search(r"(?<!\\)\]\(javascript", body)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", body)

    def shape(card: str) -> list[str]:
        lines = card.split("\n---\n", 1)[1].splitlines()
        return [line.split()[0] for line in lines if line.startswith(("#", "```", "---"))]

    assert shape(text) == shape(before)
    compile(re.search(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[1], "card", "exec")  # type: ignore[index]


def test_a_note_does_not_say_where_things_lie_on_this_machine(subject: card.Subject) -> None:
    noted = replace(subject, findings=replace(subject.findings, notes=(PLACES,)))
    said = card.body(noted).replace("\\", "")
    assert "…/deep: kept; …/my.jsonl; see https://hf.co/a/b/c and runs/a/b" in said and "/home" not in said


@pytest.mark.parametrize("merged", [False, True], ids=["adapter", "merged"])
def test_what_is_on_the_hub_is_named_by_its_metadata(subject: card.Subject, tmp_path: Path, merged: bool) -> None:
    deep = subject.study.arms["deep"].model_copy(update={"dataset_name": "acme/deep"})
    on_hub = with_study(
        replace(subject, merged=merged, written=Written("bfloat16", 0.25, 12.0)),
        model_name_or_path="acme/tiny",
        model_revision="c" * 40,
        arms={**subject.study.arms, "deep": deep},
    )
    found, text = written(tmp_path, on_hub)
    assert found.data.base_model == "acme/tiny" and found.data.datasets == ["acme/deep"] and wrong_in_card(text) == []
    assert found.data.base_model_relation == ("finetune" if merged else "adapter")
    assert found.data.library_name == ("transformers" if merged else "peft")
    assert ("measured with the unmerged adapter in float32" in text) == merged
    assert "c" * 40 in text and ("in bfloat16" in text) == merged and ("differ" in text and "0.25" in text) == merged


def test_the_recipe_names_what_a_weight_depends_on(subject: card.Subject) -> None:
    text = card.body(subject)
    for key in ("peft.r | 4", "training.learning_rate | 0.0002", "training.dtype | float32", "seed | 0", "| 40 |"):
        assert key in text.replace("\\", ""), key
    assert "training.device" not in text and "logging" not in text


def measured_on(subject: card.Subject, **benchmark: Any) -> card.Subject:
    """As if the study's problems were of HumanEval."""
    other = Benchmark.model_validate({"dataset": "humaneval", **benchmark})
    return with_study(subject, benchmarks=subject.study.benchmarks.model_copy(update={"primary": other}))


def test_a_whole_benchmark_of_the_hub_has_a_file_for_its_leaderboard(subject: card.Subject, tmp_path: Path) -> None:
    whole = measured_on(subject, revision="d" * 40)
    assert card.write(tmp_path, whole) == []
    read = parse_eval_result_entries(yaml.safe_load((tmp_path / ".eval_results" / "humaneval.yaml").read_text()))
    assert read == list(card.entries(whole).values()) and len(read) == 1
    assert read[0].dataset_id == "openai/openai_humaneval" and read[0].dataset_revision == "d" * 40
    assert read[0].value == round(subject.run.score(subject.adapter).rate, 4) and "12 problems" in (read[0].notes or "")


@pytest.mark.parametrize(
    "part",
    [{"problems": 5}, {"ids": ["a", "b"]}, {"difficulty": "easy"}, {"from": "2024-08"}],
    ids=lambda part: next(iter(part)),
)
def test_a_part_of_a_benchmark_has_no_place_on_a_leaderboard(
    subject: card.Subject, tmp_path: Path, part: dict[str, Any]
) -> None:
    (said,) = card.write(tmp_path, measured_on(subject, **part))
    assert "a part of it" in said and next(iter(part)) in said and not (tmp_path / ".eval_results").exists()
    data = ModelCard.load(tmp_path / "README.md").data
    assert list(data.eval_results[0].dataset_args) == list(part), "the card has its figure, and says of which part"


def test_a_checkpoint_that_the_rule_did_not_choose_says_so(subject: card.Subject) -> None:
    other = replace(subject, adapter=subject.run.chosen("deep", step=20))
    assert "chose another checkpoint" in card.body(other) and "chose another" not in card.body(subject)


def study(base: str) -> Study:
    return Study.model_validate({"name": "t", "model_name_or_path": base, "arms": {"x": {"dataset_name": "x"}}})


@pytest.mark.parametrize(
    ("readme", "found"),
    [
        (None, ("unknown", None)),
        ("no metadata", ("unknown", None)),
        ("---\nlicense: apache-2.0\n---\n", ("apache-2.0", None)),
        ("---\nlicense: other\nlicense_name: acme\nlicense_link: LICENSE\n---\n", ("other", "acme")),
        ("---\nlicense: [a, b]\n---\n", ("unknown", None)),
        ("---\nlicense: 'mit\\n# x'\n---\n", ("unknown", None)),
        ("---\n: : {\n---\n", ("unknown", None)),
        ("---\n- a\n---\n", ("unknown", None)),
    ],
    ids=["no-card", "no-block", "named", "other", "a-list", "lines", "broken", "not-a-mapping"],
)
def test_the_licence_is_the_bases_own_or_unknown(readme: str | None, found: tuple[str, str], tmp_path: Path) -> None:
    if readme is not None:
        (tmp_path / "README.md").write_text(readme)
    licence = licence_of(study(str(tmp_path)), tmp_path, None)
    assert (licence.id, licence.name) == found


def test_a_licence_that_is_given(tmp_path: Path) -> None:
    assert licence_of(study("practice"), practice.base_path(), "Apache-2.0").id == "apache-2.0"
    with pytest.raises(KiyasError, match="not a licence identifier of the Hub"):
        licence_of(study("practice"), tmp_path, "mit\nbase_model: a/b")


def test_a_single_seed_is_not_one_of_several() -> None:
    assert card._seeds([0]) == "the only one" and card._seeds([0, 1]) == "of 0, 1"
