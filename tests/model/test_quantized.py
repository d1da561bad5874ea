"""A base in 4 bits equals the base of its dequantised weights, and says that it is another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

import tiny
from kiyas.data.chat import Chat
from kiyas.model.base import Base
from kiyas.model.quantized import Linear4bit, quantise
from kiyas.train.loop import JointTraining
from kiyas.train.memory import Layout
from kiyas.types import KiyasError
from trainings import VALIDATION, close, losses, runs, study

pytest.importorskip("bitsandbytes")
FORMATS = (torch.float32, torch.bfloat16, torch.float16)
WHOLE = Layout(10_000)


def in_4bit(family: str = "qwen2", dtype: torch.dtype = torch.float32, change: Any = None) -> Base:
    model = tiny.model(family)
    if change is not None:
        with torch.no_grad():
            change(model)
    return Base.of(quantise(model.to(dtype)), Chat(tiny.tokenizer(), "tiny"))


def dull(family: str = "qwen2", dtype: torch.dtype = torch.float32) -> Base:
    """The same weights, dequantised into plain linear layers."""
    model = quantise(tiny.model(family).to(dtype))
    for name, layer in list(model.named_modules()):
        if isinstance(layer, Linear4bit):
            plain: nn.Module = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
            weight = layer.dequantised()
            if layer.conv1d:
                plain, weight = Conv1D(layer.out_features, layer.in_features), weight.T.contiguous()
            plain.weight = nn.Parameter(weight)  # type: ignore[assignment]
            plain.bias = layer.bias  # type: ignore[assignment]
            model.set_submodule(name, plain)
    return Base.of(model, Chat(tiny.tokenizer(), "tiny"))


def train(on: Base, steps: int = 8, layout: Layout = WHOLE, chosen: Any = None, **settings: Any) -> JointTraining:
    training = JointTraining(on, chosen or runs((steps,) * 3), VALIDATION, study(**settings), layout=layout)
    training.run()
    return training


@pytest.mark.parametrize("family", list(tiny.CONFIGS))
@pytest.mark.parametrize("dtype", FORMATS)
def test_equals_the_dequantised_weights(family: str, dtype: torch.dtype) -> None:
    packed, plain = train(in_4bit(family, dtype)), train(dull(family, dtype))
    assert packed.base.load_in_4bit and not plain.base.load_in_4bit
    assert packed.base.dtype == dtype and packed.base.packed == plain.base.packed
    rel = 1e-5 if dtype == torch.float32 else 3e-3
    for run in runs():
        for kind in ("train", "validation"):
            assert losses(packed, run.id, kind) == pytest.approx(losses(plain, run.id, kind), rel=rel)
    assert close(packed.stack.theta, plain.stack.theta, {torch.float32: 1e-4}.get(dtype, 0.1))
