"""Arms that are whole fine-tuned models: answered by themselves, judged and compared with adapters on the base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from test_given_checkpoints import save
from transformers import AutoModelForCausalLM

from kiyas import check, cli
from kiyas.analyse.findings import Findings
from kiyas.data.chat import Chat
from kiyas.pipeline import stages
from kiyas.practice import base_path
from kiyas.runfolder.files import read_json, read_jsonl
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.study.settings import Study
from kiyas.types import KiyasError


def whole(folder: Path) -> None:
    """The practice base with other weights, as `save_pretrained` leaves it, and its training's state."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base_path(), dtype=torch.float32)
    with torch.no_grad():
        for each in model.parameters():
            each += 0.02 * torch.randn_like(each)
    model.save_pretrained(folder)
    for path in base_path().glob("*token*"):
        shutil.copy(path, folder)
    for path in base_path().glob("*.jinja"):
        shutil.copy(path, folder)
    state = {"global_step": 500, "log_history": [{"step": 250, "loss": 2.0}, {"step": 500, "loss": 1.5}]}
    (folder / "trainer_state.json").write_text(json.dumps(state))


def study(model: Path, adapter: Path | None = None, **settings: object) -> Study:
    arms = {"full": {"model": str(model)}} | ({"lora": {"checkpoints": str(adapter)}} if adapter else {})
    return Study.model_validate(
        {
            "name": "whole",
            "model_name_or_path": "practice",
            "arms": arms,
            "seeds": 1,
            "training": {"dtype": "float32", "workers": 1},
            "generation": {"max_new_tokens": 24},
            "benchmarks": {"primary": {"dataset": "practice", "problems": 3}},
            "judge": {"isolation": "best"},
            **settings,
        }
    )


def test_a_whole_model_answers_by_itself_and_is_compared(tmp_path: Path) -> None:
    model, adapter = tmp_path / "full" / "checkpoint-500", tmp_path / "lora"
    whole(model)
    save(adapter / "checkpoint-100", 1, target_modules="all-linear")
    folder, asked = RunDir(tmp_path / "run"), study(model, adapter)
    stages.run(asked, folder)
    answers = {(r["arm"], r["step"], r["problem_id"]): r["text"] for r in read_jsonl(folder.completions)}
    assert {key[:2] for key in answers} == {("base", 0), ("full", 500), ("lora", 100)} and len(answers) == 9
    chat, loaded = Chat.load(base_path()), AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    for problem in read_jsonl(folder.problems):
        prompt = torch.tensor([chat.prompt_ids(problem["statement"], None)])
        made = loaded.generate(prompt, max_new_tokens=24, do_sample=False, pad_token_id=chat.end_of_turn)
        assert answers["full", 500, problem["id"]] == chat.text(made[0, prompt.shape[1] :].tolist())
    assert [row["loss"] for row in read_jsonl(folder.train_log)] == [2.0, 1.5]
    remarks = {remark.code: remark for remark in Findings.from_json(read_json(folder.findings)).remarks}
    assert remarks["base_not_shared"].values["arms"] == "full"
    page = (folder.report / "index.html").read_text(encoding="utf-8")
    assert "do not share the study&#39;s base: full" in page or "do not share the study's base: full" in page

    # Nothing is done again; another model in its place is refused.
    stages.run(asked, folder)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"note": 1}))
    with pytest.raises(KiyasError, match="checkpoint-500 changed after"):
        stages.run(asked, folder)


def test_a_resumed_run_makes_the_same_answers(tmp_path: Path) -> None:
    whole(tmp_path / "full")
    asked, texts = study(tmp_path / "full"), []
    for name in ("whole", "killed"):
        folder = RunDir(tmp_path / name)
        stages.run(asked, folder, until=Stage.TRAIN)
        if name == "killed":  # after the first of two parts
            shutil.copytree(tmp_path / "state", folder.stage(Stage.GENERATE) / "state")
        else:
            kept = []
            original = shutil.rmtree

            def keep(path: Path, original=original, kept=kept, **options: object) -> None:  # type: ignore[no-untyped-def]
                if Path(path).name == "state" and not kept:
                    kept.append(shutil.copytree(path, tmp_path / "state"))
                original(path, **options)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(shutil, "rmtree", keep)
                stages.run(asked, folder, until=Stage.GENERATE)
            parts = sorted((tmp_path / "state").glob("part-?.jsonl"))
            assert [path.name for path in parts] == ["part-0.jsonl", "part-1.jsonl"]
            parts[1].unlink()
        stages.run(asked, folder, until=Stage.GENERATE)
        texts.append([row["text"] for row in read_jsonl(folder.completions)])
    assert texts[0] == texts[1] and len(texts[0]) == 6


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda model: (model / "adapter_config.json").write_text("{}"), "is an adapter, not a whole model"),
        (lambda model: (model / "model.safetensors").unlink(), "lacks weights of its model"),
        (lambda model: (model / "model.safetensors").write_bytes(b"version https://git-lfs.github"), "Git LFS pointer"),
        (lambda model: (model / "model.safetensors").write_bytes(b"\0" * 99), "is not a safetensors file"),
        (lambda model: (model / "config.json").write_text("{"), "not valid JSON"),
        (
            lambda model: (model / "config.json").write_text('{"quantization_config": {}}'),
            "are quantised already",
        ),
    ],
)
def test_check_refuses_a_model_that_is_not_whole(tmp_path: Path, spoil: object, told: str) -> None:
    whole(tmp_path / "full")
    spoil(tmp_path / "full")  # type: ignore[operator]
    for verb in (check.check, lambda asked: stages.run(asked, RunDir(tmp_path / "run"))):
        with pytest.raises(KiyasError, match=told):
            verb(study(tmp_path / "full"))


def test_check_and_the_study_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole(tmp_path / "full")
    file = tmp_path / "study.yaml"
    file.write_text(
        "name: mine\nmodel_name_or_path: practice\narms: {a: {model: full}}\nseeds: 1\n"
        "benchmarks: {primary: {dataset: practice, problems: 3}}\njudge: {isolation: best}\n"
    )
    assert cli.main(["check", str(file)]) == 0
    capsys.readouterr()
    file.write_text(file.read_text().replace("seeds: 1", "seeds: 2"))
    assert cli.main(["check", str(file)]) == 1
    assert "a whole model is one training: write seeds: 1" in capsys.readouterr().err
    file.write_text(file.read_text().replace("full", "absent"))
    assert cli.main(["check", str(file)]) == 1
    assert "no model folder 'absent'" in capsys.readouterr().err
