"""A run folder with checkpoints of a tiny model, ready to answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch

import tiny
from kiyas.model import checkpoints
from kiyas.model.adapters import AdapterStack, Spec, StackedModel
from kiyas.runfolder.files import write_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.types import AdapterId

MakeRun = Callable[[Sequence[AdapterId], Mapping[str, str]], RunDir]


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("base"))


@pytest.fixture
def made_run(tmp_path: Path) -> MakeRun:
    """`ids`: the base and the checkpoints that are saved. `problems`: their statements by id."""

    def make(ids: Sequence[AdapterId], problems: Mapping[str, str]) -> RunDir:
        made, model = RunDir(tmp_path / "run"), StackedModel(tiny.base().model)
        stack = [Spec(1, 1), *[Spec(4, 8)] * (len(ids) - 1)]
        weights = AdapterStack(list(ids), stack, model.sites, torch.device("cpu"))
        weights.theta[1:].normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
        for k, id in enumerate(ids[1:], 1):
            checkpoints.save_adapter(made.checkpoints / id.folder, weights, k, model, "tiny", 0.0)
        write_jsonl(made.problems, [{"id": id, "statement": text} for id, text in problems.items()])
        return made

    return make
