"""`arms: {x: {checkpoints: FOLDER}}`: adapters that PEFT saved are answered as in PEFT; nothing is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from kiyas import cli, practice
from kiyas.data.chat import Chat
from kiyas.interop import adapters, import_study
from kiyas.pipeline import stages
from kiyas.pipeline.prepare import prepare
from kiyas.practice import base_path
from kiyas.runfolder.files import read_json, read_jsonl, write_jsonl
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.study.settings import Study
from kiyas.types import KiyasError


def save(folder: Path, seed: int, safe: bool = True, **config: Any) -> Any:
    """A PEFT adapter of the practice base with random weights; returns the model in PEFT's own hands."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base_path(), dtype=torch.float32)
    settings = peft.LoraConfig(r=4, lora_alpha=8, init_lora_weights=False, task_type="CAUSAL_LM", **config)
    made = peft.get_peft_model(model, settings)
    made.save_pretrained(folder)
    if not safe:  # as PEFT saved before safetensors
        weights = peft.get_peft_model_state_dict(made)
        (folder / "adapter_model.safetensors").unlink()
        torch.save(weights, folder / "adapter_model.bin")
    return made


def study(**arms: str) -> Study:
    return Study.model_validate(
        {
            "name": "given",
            "model_name_or_path": "practice",
            "arms": {name: {"checkpoints": folder} for name, folder in arms.items()},
            "seeds": 1,
            "training": {"dtype": "float32", "workers": 1},
            "generation": {"max_new_tokens": 24},
            "benchmarks": {"primary": {"dataset": "practice", "problems": 3}},
            "judge": {"isolation": "best"},
        }
    )


def test_checkpoints_from_elsewhere_answer_as_in_peft(tmp_path: Path) -> None:
    rank_stable = {"target_modules": ["q_proj", "down_proj"], "use_rslora": True}
    models = {
        ("a", 100): save(tmp_path / "a" / "checkpoint-100", 1, target_modules="all-linear"),
        ("a", 200): save(tmp_path / "a" / "checkpoint-200", 2, target_modules="all-linear"),
        ("b", 30): save(tmp_path / "b" / "checkpoint-30", 3, safe=False, **rank_stable),
    }
    history = [{"step": 50, "loss": 1.5}, {"step": 100, "loss": 1.0, "eval_loss": 1.25}]
    state = {"global_step": 100, "log_history": history}
    (tmp_path / "a" / "checkpoint-100" / "trainer_state.json").write_text(json.dumps(state))
    save(tmp_path / "a", 4, target_modules="all-linear")  # a Trainer's last copy, in the output folder itself

    folder = RunDir(tmp_path / "run")
    stages.run(study(a=str(tmp_path / "a"), b=str(tmp_path / "b")), folder, until=Stage.GENERATE)
    answers = {(r["arm"], r["step"], r["problem_id"]): r["text"] for r in read_jsonl(folder.completions)}
    assert {key[:2] for key in answers} == {("base", 0), *models}
    chat = Chat.load(base_path())
    for (arm, step), model in models.items():
        for problem in read_jsonl(folder.problems):
            prompt = torch.tensor([chat.prompt_ids(problem["statement"], None)])
            made = model.generate(prompt, max_new_tokens=24, do_sample=False, pad_token_id=chat.end_of_turn)
            told = chat.text(made[0, prompt.shape[1] :].tolist())
            assert answers[arm, step, problem["id"]] == told
    losses = [(row["kind"], row["step"], row["loss"]) for row in read_jsonl(folder.train_log)]
    assert losses == [("train", 50, 1.5), ("train", 100, 1.0), ("validation", 100, 1.25)]
    notes = read_json(folder.resolved)["notes"]
    assert len(notes) == 3 and "left out as a copy" in notes[0] and "used with practice" in notes[1]

    (tmp_path / "b" / "checkpoint-30" / "adapter_model.bin").write_bytes(b"another")
    with pytest.raises(KiyasError, match=r"adapter_model.bin changed after"):
        stages.run(study(a=str(tmp_path / "a"), b=str(tmp_path / "b")), folder)


def test_what_cannot_be_adopted_is_told(tmp_path: Path) -> None:
    with pytest.raises(KiyasError, match="no PEFT checkpoint"):
        adapters.find(tmp_path)
    for seed in (0, 1):
        save(tmp_path / f"seed-{seed}" / "checkpoint-5", seed, target_modules="all-linear")
    with pytest.raises(KiyasError, match=r"holds checkpoints of seed 0, 1(.|\n)*seeds: \[0, 1\]"):
        prepare(study(a=str(tmp_path)))
    torn = tmp_path / "seed-0" / "checkpoint-6"
    torn.mkdir()
    (torn / "adapter_config.json").write_text("{}")
    found, notes = adapters.find(tmp_path)
    assert [(each.seed, each.step) for each in found] == [(0, 5), (1, 5)]
    assert len(notes) == 1 and "interrupted" in notes[0]
    save(tmp_path / "again" / "checkpoint-5", 0, target_modules="all-linear")
    with pytest.raises(KiyasError, match="are both seed 0, step 5"):
        adapters.find(tmp_path)


def test_a_folder_of_finished_checkpoints_becomes_a_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`kiyas import FOLDER`, then `kiyas run` of the study file that it wrote."""
    for arm in ("deep", "diverse"):
        for step in (50, 100):
            save(tmp_path / "out" / arm / f"checkpoint-{step}", step, target_modules="all-linear")
    history = [{"step": 50, "loss": 1.5, "eval_loss": 1.2}, {"step": 100, "loss": 1.0, "eval_loss": 1.1}]
    state = {"global_step": 100, "log_history": history}
    (tmp_path / "out" / "deep" / "checkpoint-100" / "trainer_state.json").write_text(json.dumps(state))
    (tmp_path / "out" / "deep" / "checkpoint-100" / "tokenizer.json").write_text("{}")
    write_jsonl(tmp_path / "problems.jsonl", practice.benchmark(3))

    monkeypatch.chdir(tmp_path)

    def kiyas(*arguments: str) -> str:
        code, said = cli.main([*arguments]), capsys.readouterr()
        assert code == 0, said.err
        return said.out + said.err

    told = kiyas("import", "out", "--problems", "problems.jsonl", "--out", "runs/mine")
    assert "PEFT checkpoints of deep: steps 50, 100" in told and "unusual" not in told
    assert "kiyas run runs/mine/study.yaml" in told
    told = kiyas("run", "runs/mine/study.yaml", "generation.max_new_tokens=8", "judge.isolation=best")
    folder = RunDir(tmp_path / "runs" / "mine")
    assert {(r["arm"], r["step"]) for r in read_jsonl(folder.judgments)} == {
        ("base", 0), *((arm, step) for arm in ("deep", "diverse") for step in (50, 100))
    }  # fmt: skip
    assert (folder.report / "index.html").exists() and "diverse − deep" in told
    assert [row["loss"] for row in read_jsonl(folder.train_log)] == [1.5, 1.2, 1.0, 1.1]


def adapter(folder: Path) -> None:
    """A folder that is read as an adapter, without weights that anyone looks at."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": 2, "base_model_name_or_path": "owner/base", "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    pair = {name.format(part): torch.ones(shape) for part, shape in {"A": (2, 4), "B": (4, 2)}.items()}
    save_file(pair, folder / "adapter_model.safetensors")


def test_an_import_of_adapters_says_what_was_found_and_what_is_a_guess(tmp_path: Path) -> None:
    for place in ("deep/seed-0", "deep/seed-1", "wide"):
        adapter(tmp_path / "out" / place / "checkpoint-5")
    told = str(import_study([tmp_path / "out"], tmp_path / "run"))
    assert "3 PEFT adapters of 2 arms" in told and "deep: seed 0, step 5; seed 1, step 5" in told
    assert "owner/base" in told and "livecodebench" in told and "max_new_tokens 2048" in told
    assert "0 answers" not in told and "0 logged" not in told and "0 of 0" not in told


def test_a_study_file_that_nobody_edited_is_written_anew(tmp_path: Path) -> None:
    adapter(tmp_path / "out" / "deep" / "checkpoint-5")
    problems, run = tmp_path / "p.jsonl", tmp_path / "run"
    write_jsonl(problems, practice.benchmark(1))
    file = import_study([tmp_path / "out"], run).study
    assert file is not None
    import_study([tmp_path / "out"], run, problems=problems)
    assert str(problems) in file.read_text()
    edited = file.read_text().replace("max_new_tokens: 2048", "max_new_tokens: 512")
    file.write_text(edited)
    with pytest.raises(KiyasError, match=r"study\.yaml was edited"):
        import_study([tmp_path / "out"], run)
    assert file.read_text() == edited


def test_mixed_arms_are_refused(tmp_path: Path) -> None:
    for name in ("deep-checkpoint-5", "diverse-checkpoint-5", "diverse-checkpoint-6"):
        save(tmp_path / "out" / name, 0, target_modules=["q_proj"])
    with pytest.raises(KiyasError, match=r"holds the checkpoints of arm diverse and also(.|\n)*folder of its own"):
        import_study([tmp_path / "out"], tmp_path / "run")


def test_own_data_then_own_checkpoints_by_the_ready_study_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two JSONL files and a local model folder, to a report; then the checkpoints alone, to the same answers."""
    shutil.copytree(base_path(), tmp_path / "models" / "Qwen2.5-Coder-1.5B-Instruct")
    for file, arm in (("first.jsonl", "deep"), ("second.jsonl", "diverse")):
        rows = [{key: row[key] for key in ("prompt", "completion")} for row in practice.dataset(arm)[:60]]
        write_jsonl(tmp_path / file, rows)
    write_jsonl(tmp_path / "problems.jsonl", practice.benchmark(3))

    monkeypatch.chdir(tmp_path)

    def kiyas(*arguments: str) -> None:
        assert cli.main([*arguments, "generation.max_new_tokens=12", "judge.isolation=best"]) == 0

    for preset in ("own-data", "own-checkpoints"):
        (tmp_path / f"{preset}.yaml").write_text(cli._preset(preset))
    small = ("training.budget={steps: 2}", "training.save_steps=2", "training.dtype=float32", "training.workers=1")
    kiyas("run", "own-data.yaml", "seeds=1", *small)
    run = RunDir(tmp_path / "runs" / "my-study")
    assert (run.report / "index.html").exists()
    for ours, theirs in (("first", "a"), ("second", "b")):
        shutil.copytree(run.checkpoints / ours / "seed-0", tmp_path / "out" / theirs)
    model = "model_name_or_path=models/Qwen2.5-Coder-1.5B-Instruct"
    problems = "benchmarks.primary={dataset: problems.jsonl}"
    kiyas("run", "own-checkpoints.yaml", model, problems, "training.dtype=float32", "training.workers=1")
    again = RunDir(tmp_path / "runs" / "my-checkpoints")
    texts = [[row["text"] for row in read_jsonl(each.completions)] for each in (run, again)]
    assert texts[0] == texts[1] and len(texts[0]) == 9
    assert (again.report / "index.html").exists()
