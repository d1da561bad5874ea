"""Qwen2.5-Coder-1.5B's shape with random weights on this machine: trains, is killed, goes on, answers, is judged."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from kiyas import practice
from kiyas.runfolder.files import read_jsonl
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import read_record

NEEDED = 14e9

STUDY = """\
name: real-shape
model_name_or_path: {base}
arms: {{deep: {{dataset_name: deep.jsonl}}, diverse: {{dataset_name: diverse.jsonl}}}}
dataset: {{split_column: none, validation_fraction: 0.1}}
seeds: 1
peft: {{r: 16, lora_alpha: 32, lora_dropout: 0.1}}
training: {{budget: {{steps: 2}}, effective_batch_size: 2, max_length: 128, save_steps: 1, eval_steps: 2}}
benchmarks: {{primary: {{dataset: practice, problems: 3}}}}
generation: {{max_new_tokens: 24}}
judge: {{isolation: best}}
compare: {{primary: [deep, diverse]}}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if psutil.virtual_memory().available < NEEDED:
        pytest.skip(f"needs {NEEDED / 1e9:.0f} GB of free memory")
    folder = tmp_path_factory.mktemp("real")
    base = folder / "base"
    config = tiny.real_config(bos_token_id=None, eos_token_id=0)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (practice.base_path() / name).exists():
            (base / name).write_bytes((practice.base_path() / name).read_bytes())
    for arm in ("deep", "diverse"):
        rows = sorted(practice.dataset(arm)[:400], key=lambda row: len(str(row)))[:60]
        (folder / f"{arm}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    file = folder / "study.yaml"
    file.write_text(STUDY.format(base=base))
    return file


def kiyas(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kiyas", *arguments]
    # One thread: with two, whatever else runs here makes each wait for the other.
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=cwd, env=alone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def most_held(process: subprocess.Popen[str]) -> int:
    """Bytes at the peak, asked until it ends. (`ru_maxrss` is inherited from the process that started it.)"""
    most = 0
    while process.poll() is None:
        with contextlib.suppress(OSError, StopIteration):  # it has just ended
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            most = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
        time.sleep(0.1)
    return most


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_real_shape_from_end_to_end(study: Path) -> None:
    checked = kiyas("check", "--json", "study.yaml", cwd=study.parent)
    said, _ = checked.communicate()
    assert checked.returncode == 0, said
    costs: dict[str, Any] = json.loads(said[said.index("{\n") :])["costs"]

    folder = RunDir(study.parent / "runs" / "real-shape")
    started = time.monotonic()
    first = kiyas("run", "study.yaml", cwd=study.parent)
    while not any(folder.checkpoints.glob("**/step-000001/adapter_config.json")) and first.poll() is None:
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    out, _ = first.communicate()
    assert first.returncode == -signal.SIGKILL and folder.manifest(Stage.TRAIN) is None, out

    second = kiyas("run", "study.yaml", cwd=study.parent)
    peak = most_held(second)
    out, _ = second.communicate()
    took = time.monotonic() - started
    assert second.returncode == 0, out
    assert {row["step"] for row in read_jsonl(folder.train_log) if row["kind"] == "validation"} == {0, 1, 2}
    judged = read_jsonl(folder.judgments)
    assert len(judged) == 5 * 3 and (folder.report / "index.html").exists()
    assert read_record(folder).dtype is not None

    predicted = costs["memory_bytes"]
    print(f"\n{took:.0f} s, peak {peak / 1e9:.1f} GB, predicted {predicted / 1e9:.1f} GB, {costs['dtype']}")
    assert abs(predicted - peak) <= 0.1 * peak
