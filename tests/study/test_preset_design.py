"""What the ready study files say of themselves: the differences that they can detect, and the hours that they take.

Every `N seeds x P problems: D points` is one of the design table's, and every `H h on one CARD` is what `kiyas check
--card` computes for training and answering, for data as assumed below.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

import tiny
from kiyas.check import costs, design
from kiyas.check.cards import CARDS
from kiyas.check.costs import Work
from kiyas.data.chat import Chat
from kiyas.study.file import load
from kiyas.study.settings import Study

PRESETS = resources.files("kiyas.study") / "presets"
HUB = ("deep-vs-diverse", "deep-vs-diverse-as-published", "deep-vs-diverse-reasoning")
TRAINED_ON = 4_700
"""Rows of an arm: 5,000 less what is held out or too long."""
PROMPT, LONGEST_PROMPT = 400, 1500
"""Tokens of a problem as the model is asked it."""
PRIMARY, ALSO = 300, 164 + 257
"""Problems: of the primary benchmark as the headers count them, of HumanEval and MBPP."""
CARD = {"T4": "t4", "card with 24 GB": "24gb", "A100 (40 GB)": "a100-40", "H100": "h100"}


def header(preset: str) -> str:
    """The comment at the top, as one line."""
    text = (PRESETS / f"{preset}.yaml").read_text(encoding="utf-8")
    lines = [line.removeprefix("#").strip() for line in text.splitlines()[: text.splitlines().index(f"name: {preset}")]]
    return " ".join(lines)


def study(preset: str, folder: Path, more: list[str]) -> Study:
    file = folder / "study.yaml"
    file.write_text((PRESETS / f"{preset}.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return load(file, [f"model_name_or_path={folder / 'model'}", *more])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen2.5-Coder-1.5B without its weights: a file of their size, with nothing in it."""
    folder = tmp_path_factory.mktemp("real")
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
    )
    config.save_pretrained(folder / "model")
    tiny.tokenizer().save_pretrained(folder / "model")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    entries: dict[str, Any] = {}
    end = 0
    for name, weight in model.named_parameters():
        start, end = end, end + 2 * weight.numel()
        entries[name] = {"dtype": "BF16", "shape": list(weight.shape), "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    with (folder / "model" / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return folder


def work(study: Study, sample: int, answer: int) -> Work:
    """What `costs.work_of` counts, for data with samples and answers of so many tokens."""
    t, arms = study.training, len(study.trained)
    rows = 4505 if study.dataset.split_column == "split" else TRAINED_ON
    steps = math.ceil(rows * (t.budget.epochs or 0) / t.effective_batch_size)
    points = len(study.variants)
    seeds = points * len(study.seed_list)
    trainings = seeds + points * len(study.tuning_seed_list)
    saves, passes = math.ceil(steps / t.save_steps), 1 + math.ceil(steps / t.eval_steps)
    held_out = arms * (17 if study.dataset.split_column == "split" else 250)
    primary = len(study.benchmarks.primary.ids or range(PRIMARY))
    return Work(
        trainings=trainings * arms,
        checkpoints=seeds * arms * saves,
        saved=trainings * arms * saves,
        problems=primary + (ALSO if study.benchmarks.also else 0),
        samples=study.generation.num_samples,
        train_tokens=float(trainings * arms * steps * t.effective_batch_size * sample),
        validation_tokens=float(trainings * arms * passes * held_out * sample),
        lengths=((sample - answer, answer),) * 32,
        longest=t.max_length,
        prompt_tokens=PROMPT,
        longest_prompt=LONGEST_PROMPT,
        answer_tokens=answer,
    )


def hours(study: Study, card: str, tokens: tuple[int, int]) -> float:
    found = costs.estimate(study, work(study, *tokens), [], Chat(tiny.tokenizer(), "tiny"), CARDS[card])
    assert not found.memory.trouble
    return (found.train_s + found.generate_s) / 3600


def tokens(text: str) -> tuple[int, int]:
    """Of a sample and of an answer, as the header assumes them."""
    found = re.search(r"samples of ([\d,]+) tokens and answers of ([\d,]+)", text)
    assert found is not None
    sample, answer = (int(each.replace(",", "")) for each in found.groups())
    return sample, answer


@pytest.mark.parametrize("preset", [file.name.removesuffix(".yaml") for file in PRESETS.iterdir() if "yaml" in file.name])
def test_what_it_can_detect(preset: str, tmp_path: Path) -> None:
    text = header(preset)
    cells = re.findall(r"(\d+) seeds? x (\d+) problems(?: x (\d+) answers)?: ([\d.]+) points", text)
    for seeds, problems, samples, points in cells:
        found = 100 * design.sees(int(seeds), int(problems), int(samples or 1))
        assert f"{found:.{len(points.partition('.')[2])}f}" == points, (seeds, problems, samples)
    if preset == "own-data":
        return
    own = load(_file(preset, tmp_path))
    assert int(cells[0][0]) == len(own.seed_list), "the study's own design comes first"
    assert (own.generation.num_samples, cells[0][2]) == (1, "")
    if own.benchmarks.primary.ids is not None:
        assert int(cells[0][1]) == len(own.benchmarks.primary.ids)


def _file(preset: str, folder: Path) -> Path:
    file = folder / f"{preset}.yaml"
    file.write_text((PRESETS / f"{preset}.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return file
