"""What the ready study files say of themselves: the differences that they can detect, and the hours that they take.

Every `N seeds x P problems: D points` is one of the design table's, and every `H h on one CARD` is what `kiyas check
--card` computes for training and answering, for data as assumed below.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

import tiny
from kiyas.check import costs, design
from kiyas.check.cards import CARDS
from kiyas.check.cluster import Training
from kiyas.check.costs import Work
from kiyas.data.chat import Chat
from kiyas.study.file import load
from kiyas.study.settings import Study

PRESETS = resources.files("kiyas.study") / "presets"
TRAINED_ON = 4_700
"""Rows of an arm: 5,000 less what is held out or too long."""
PROMPT, LONGEST_PROMPT = 400, 1500
"""Tokens of a problem as the model is asked it."""
PRIMARY, ALSO = 300, 164 + 257
"""Problems: of the primary benchmark as the headers count them, of HumanEval and MBPP."""
CARDS_NAMED = {"A100 (40 GB)": "a100-40", "H100": "h100"}
GRID = ["training.learning_rate=[1.0e-4, 2.0e-4, 4.0e-4]"]


def header(preset: str) -> str:
    """The comment at the top, as one line."""
    text = (PRESETS / f"{preset}.yaml").read_text(encoding="utf-8")
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line.removeprefix("#").strip() for line in lines)


def study(preset: str, folder: Path, more: list[str]) -> Study:
    """As written to the folder."""
    file = folder / f"{preset}.yaml"
    file.write_text((PRESETS / f"{preset}.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return load(file, more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen2.5-Coder-1.5B without its weights: a file of their size, with nothing in it."""
    folder = tmp_path_factory.mktemp("real")
    config = tiny.real_config()
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
    trainings = points * len(study.seed_list)
    saves, passes = math.ceil(steps / t.save_steps), 1 + math.ceil(steps / t.eval_steps)
    held_out = arms * (17 if study.dataset.split_column == "split" else 250)
    primary = len(study.benchmarks.primary.ids or range(PRIMARY))
    return Work(
        checkpoints=trainings * arms * saves,
        saved=trainings * arms * saves,
        problems=primary + (ALSO if study.benchmarks.also else 0),
        samples=study.generation.num_samples,
        each_training=(
            Training(float(steps * t.effective_batch_size * sample), float(passes * held_out * sample), saves),
        )
        * (trainings * arms),
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


@pytest.mark.parametrize(
    "preset", [file.name.removesuffix(".yaml") for file in PRESETS.iterdir() if file.name.endswith(".yaml")]
)
def test_what_it_can_detect(preset: str) -> None:
    text = header(preset)
    cells = re.findall(r"(\d+) seeds? x (\d+) problems(?: x (\d+) answers)?: ([\d.]+) points", text)
    for seeds, problems, samples, points in cells:
        found = 100 * design.sees(int(seeds), int(problems), int(samples or 1))
        assert f"{found:.{len(points.partition('.')[2])}f}" == points, (seeds, problems, samples)
    assert cells
    own = yaml.safe_load((PRESETS / f"{preset}.yaml").read_text(encoding="utf-8"))
    assert int(cells[0][0]) == own["seeds"], "the study's own design comes first"
    assert (own["generation"].get("num_samples", 1), cells[0][2]) == (1, "")
    if "ids" in own["benchmarks"]["primary"]:
        assert int(cells[0][1]) == len(own["benchmarks"]["primary"]["ids"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "more", "said"),
    [
        ("deep-vs-diverse", [], r"([\d.]+) h on one (A100 \(40 GB\))"),
        ("deep-vs-diverse-as-published", [], r"([\d.]+) h on one (A100 \(40 GB\))"),
        ("deep-vs-diverse-reasoning", [], r"([\d.]+) h on one (H100)"),
        ("deep-vs-diverse", GRID, r"takes ([\d.]+) h instead()"),
        ("deep-vs-diverse-reasoning", ["seeds=10"], r"ten seeds take ([\d.]+) h()"),
    ],
)
def test_what_it_takes(folder: Path, monkeypatch: pytest.MonkeyPatch, preset: str, more: list[str], said: str) -> None:
    monkeypatch.setattr(costs, "judging", lambda *_: (0.0, ""))
    text = header(preset)
    found = re.search(said, text)
    assert found is not None, text
    card = CARDS_NAMED[found[2] or re.search(r"h on one (A100 \(40 GB\)|H100)", text)[1]]  # type: ignore[index]
    assert f"--card {card}" in text and "not measured" in text
    assert hours(
        study(preset, folder, [f"model_name_or_path={folder / 'model'}", *more]), card, tokens(text)
    ) == pytest.approx(float(found[1]), rel=0.1)
