"""A whole study on real input: Qwen's tokenizer and vocabulary, rows of the real data sets, the 41 real problems.

The model has the real architecture and vocabulary, but two small layers of random weights: what is tested is that
everything passes through, not what comes out.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, Qwen2ForCausalLM

import tiny
from kiyas import cli
from kiyas.data.arms import tokenise
from kiyas.data.chat import Chat
from kiyas.runfolder.files import read_json, read_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.study.file import load
from kiyas.study.settings import Study
from kiyas.types import Example

SYSTEM = "You are an expert Python programmer. Please read the problem carefully before writing any Python code."
SOURCES = {"deep": "deep5k_rows_from_B0DH1i.jsonl", "diverse": "diverse5k_rows_from_B0DH1i_truncated_input.jsonl"}


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    folder = tmp_path_factory.mktemp("real")
    tiny.with_real_vocabulary(folder / "model", shared_data / "qwen2.5-coder-tokenizer")
    for arm, source in SOURCES.items():
        lines = (shared_data / "dataset-rows" / source).read_text(encoding="utf-8").splitlines()
        rows = [{**json.loads(line), "split": "train" if i < 6 else "valid"} for i, line in enumerate(lines)]
        assert len(rows) == 8
        (folder / f"{arm}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = folder / "study.yaml"
    file.write_text(
        f"""\
name: real
model_name_or_path: model
arms:
  deep: {{dataset_name: deep.jsonl}}
  diverse: {{dataset_name: diverse.jsonl}}
dataset: {{system: "{SYSTEM}", prompt_column: input, completion_column: solution, split_column: split, group_by: input}}
seeds: 1
peft: {{r: 4, lora_alpha: 8, lora_dropout: 0.1}}
training: {{budget: {{steps: 4}}, learning_rate: 1e-2, effective_batch_size: 2, max_length: 2048,
           logging_steps: 1, eval_steps: 2, save_steps: 2, workers: 1}}
benchmarks: {{primary: {{dataset: {shared_data / "atcoder-easy-41" / "problems.jsonl"}}}}}
generation: {{max_new_tokens: 6}}
judge: {{isolation: best}}
"""
    )
    return file


@pytest.fixture(scope="module")
def run(study_file: Path) -> RunDir:
    assert cli.main(["run", str(study_file), "--runs", str(study_file.parent / "runs")]) == 0
    return RunDir(study_file.parent / "runs" / "real")


def test_chatml_and_label_mask_token_by_token(study_file: Path, shared_data: Path) -> None:
    study: Study = load(study_file)
    chat = Chat.load(study.model_name_or_path)
    assert chat.tokenizer.pad_token_id == chat.tokenizer.eos_token_id == 151_645, "the trap is in this tokenizer"
    row = json.loads((study_file.parent / "deep.jsonl").read_text().splitlines()[0])
    sample = tokenise(Example("0", row["input"], row["solution"], "g"), chat, study, "deep")
    plain = AutoTokenizer.from_pretrained(shared_data / "qwen2.5-coder-tokenizer")
    before = (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{row['input']}<|im_end|>\n<|im_start|>assistant\n"
    )
    prompt, answer = plain(before)["input_ids"], plain(row["solution"])["input_ids"]
    assert list(sample.ids) == [*prompt, *answer, 151_645]
    assert sample.start == len(prompt)
    # What the model's own template says of the whole chat, up to the last end of turn.
    chatted = plain.apply_chat_template(
        [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": row["input"]},
            {"role": "assistant", "content": row["solution"]},
        ],
        tokenize=False,
    )
    assert plain.decode(sample.ids) + "\n" == chatted


def test_the_end_of_turn_is_learned(study_file: Path) -> None:
    from kiyas.model.base import Base
    from kiyas.model.batches import pack, pad

    study = load(study_file)
    base = Base.load(study.model_name_or_path)
    row = json.loads((study_file.parent / "deep.jsonl").read_text().splitlines()[0])
    sample = tokenise(Example("0", row["input"], row["solution"], "g"), base.chat, study, "deep")
    for batch in (pack([[sample]]), pad([[sample, sample]])):
        assert int(batch.target[-1]) == 151_645
        assert base.packed


@pytest.mark.slow
def test_it_trains_and_checkpoints(run: RunDir) -> None:
    log = read_jsonl(run.train_log)
    for arm in SOURCES:
        losses = [r["loss"] for r in log if r["kind"] == "train" and r["arm"] == arm]
        assert len(losses) == 4 and all(math.isfinite(loss) for loss in losses)
        assert losses[0] == pytest.approx(math.log(151_936), abs=1), "a random model knows nothing"
        grid = {(r["step"], r["on"]) for r in log if r["kind"] == "validation" and r["arm"] == arm}
        assert grid == {(step, on) for step in (0, 2, 4) for on in SOURCES}
    counts = read_json(run.root / "data" / "manifest.json")["counts"]["arms"]
    assert all((c["train"], c["validation"]) == (6, 2) for c in counts.values())


@pytest.mark.slow
def test_checkpoints_load_in_peft(run: RunDir, study_file: Path) -> None:
    import peft

    folder = run.checkpoints / "deep" / "seed-0" / "step-000004"
    base = Qwen2ForCausalLM.from_pretrained(study_file.parent / "model")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        plain = base(input_ids=ids).logits
        adapted = peft.PeftModel.from_pretrained(base, str(folder)).eval()(input_ids=ids).logits
    assert not torch.allclose(plain, adapted)


@pytest.mark.slow
def test_every_answer_is_judged(run: RunDir) -> None:
    completions, judgments = read_jsonl(run.completions), read_jsonl(run.judgments)
    assert len(completions) == len(judgments) == 5 * 41
    assert all(c["tokens"] <= 6 for c in completions)
    assert {j["verdict"] for j in judgments} <= {"AC", "WA", "RE", "CE"}
    assert sum(j["total"] for j in judgments) == 5 * 118


@pytest.mark.slow
def test_it_reports(run: RunDir) -> None:
    page = (run.report / "index.html").read_text(encoding="utf-8")
    assert "abc365_a" in page and "deep" in page
    findings: dict[str, Any] = read_json(run.findings)
    assert findings["problems"] == 41


@pytest.mark.slow
def test_the_same_command_does_nothing_more(run: RunDir, study_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.root.rglob("*") if path.is_file() and path.name != ".lock"}
    assert cli.main(["run", str(study_file), "--runs", str(run.root.parent)]) == 0
    after = {path: path.stat().st_mtime_ns for path in run.root.rglob("*") if path.is_file() and path.name != ".lock"}
    assert before == after
    assert "report:" in capsys.readouterr().out
