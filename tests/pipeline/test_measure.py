"""What a run writes down of its training data, and what the findings have of it and of the run itself."""

from __future__ import annotations

import json
from pathlib import Path

from kiyas import practice
from kiyas.analyse import analyse
from kiyas.analyse.findings import DataFacts
from kiyas.data.chat import Chat
from kiyas.pipeline import stages
from kiyas.pipeline.measure import CUT, Sample
from kiyas.report import first_screen
from kiyas.report.language import Language
from kiyas.runfolder.files import read_sealed, write_jsonl, write_sealed
from kiyas.runfolder.manifests import finish
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.study.settings import Study
from synthetic import make_run


def test_a_derived_arm_a_loss_on_everything_and_a_long_text(tmp_path: Path) -> None:
    rows = practice.dataset("deep")[:40]
    for row in rows[35:]:
        row["split"] = "validation"
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, practice.benchmark(2))))
    study = Study.model_validate(
        {
            "name": "t",
            "model_name_or_path": "practice",
            "arms": {
                "own": {"dataset_name": str(tmp_path / "a.jsonl")},
                "half": {"from": "own", "fraction": 0.5, "training": {"completion_only_loss": False}},
            },
            "benchmarks": {"primary": {"dataset": str(tmp_path / "p.jsonl")}},
            "training": {"budget": {"steps": 4}, "max_length": 256},
            "judge": {"isolation": "best"},
        }
    )
    folder = RunDir(tmp_path / "run")
    stages.run(study, folder, until=Stage.DATA)
    assert "data/facts.json" in (folder.manifest(Stage.DATA) or {})["outputs"]
    own, half = (DataFacts(**each) for each in read_sealed(folder.data_facts))
    counts = folder.arm_counts
    for each in (own, half):
        assert (each.rows, each.validation, each.problems, each.answer_tokens, each.longest) == tuple(
            counts[each.arm][key] for key in ("train", "validation", "groups", "completion_tokens", "max_tokens")
        )
    assert half.rows == 18 and own.duplicates == own.near_duplicates == own.contaminated == 0
    assert half.duplicates is half.near_duplicates is half.contaminated is None, "they are those of its source"
    assert half.sample_prompt == "", "the loss is computed on all of it"
    chat = Chat.load(practice.base_path())
    assert chat.tokenizer(own.sample_prompt)["input_ids"] == chat.prompt_ids(rows[0]["prompt"], None)
    assert own.sample_completion.startswith(rows[0]["completion"])
    assert Sample("p" * 10, "abcdefghijk").cut(10) == Sample("p" * 10, f"abcde{CUT}ghijk")


def test_the_findings_have_the_data_and_the_page_the_time(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", seeds=(0,), steps=(60,), problems=6)
    folder = RunDir(run)
    before = analyse(run)
    assert (before.data, before.shared_rows) == ((), ())
    row = {"id": "1", "prompt": "p", "completion": "c", "group": "g", "split": "train"}
    for arm in ("deep", "diverse"):
        write_jsonl(folder.arm_data(arm), [row, {**row, "id": "2", "completion": arm}])
    facts = ("practice/deep", 2, 0, 1, 2.0, 2.0, 9, None, 0, 0, None, "p", "c")
    write_sealed(folder.data_facts, [vars(DataFacts("deep", *facts))])
    finish(folder, Stage.DATA, {}, {"arms": {}}, 1.5)
    finish(folder, Stage.TRAIN, {}, {"steps": {"deep": 60, "diverse": 60}}, 12.0)
    found = analyse(run)
    assert found.data == (DataFacts("deep", *facts),)
    (shared,) = found.shared_rows
    assert (shared.a_shared, shared.b_shared, shared.a_prompts, shared.problems) == (1, 1, 2, 1)
    spent = first_screen.facts(folder, found, Language())[-1]
    assert (spent.name, spent.lines) == ("14 s", ("training 12 s",))
    assert type(found).from_json(json.loads(json.dumps(found.to_json()))) == found
