"""The presets themselves, from the Hub to the report, on a CUDA device that is not there.

Qwen's architecture, vocabulary, tokenizer and chat template, with two small layers of random weights. What is shortened
is the number of steps, the answers, and the validation sets, whose vocabulary of 152,000 takes a CPU too long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import real_size
import tiny
from hub_server import Hub, serve
from kiyas.runfolder.files import read_json, read_jsonl
from kiyas.runfolder.paths import RunDir

OnCuda = Callable[..., Any]
STEPS = ["training.budget={steps: 2}", "training.save_steps=2", "training.eval_steps=2", "training.logging_steps=1"]
FEW = [*STEPS, "generation.max_new_tokens=3", "judge.isolation=best"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny.with_real_vocabulary(folder, shared_data / "qwen2.5-coder-tokenizer")
    return folder


@pytest.fixture
def hub(model: Path, shared_data: Path) -> Iterator[Hub]:
    with serve() as running:
        running.model = model
        yield running


def looked_at(found: dict[str, Any], name: str) -> RunDir:
    assert (found["data"], found["report"]) == (0, 0)
    folder = RunDir(Path(found["folder"]) / "runs" / name)
    assert (folder.report / "index.html").exists()
    return folder
