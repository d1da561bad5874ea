"""A base and one of its adapters as one plain model, which any library loads.

    W' = W + alpha / r · B A        for every linear layer that the adapter adapts

Everything else of the base stays as it is: biases, norms, embeddings, and an output head that is tied to them, which no
adapter of ours touches. A base in 4 bits is dequantised first, since its layers computed with those weights.

The merged model is compared with the base and its adapter on a short text. In 32 bits they agree to rounding; in 16
bits the sum W' is rounded, and a small change of a large weight is lost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from kiyas.model.adapters import AdapterStack, Spec, StackedModel, is_target
from kiyas.model.base import load_model
from kiyas.model.checkpoints import load_stack, read_weights, save_adapter, saved_spec
from kiyas.model.meter import empty_model, read_config
from kiyas.model.quantized import Linear4bit
from kiyas.runfolder.files import atomic_text, read_json
from kiyas.runfolder.peft import CONFIG
from kiyas.types import AdapterId

CPU = torch.device("cpu")
PROBE = 18
"""tokens"""


@dataclass(frozen=True)
class Merged:
    """The merged model on the CPU, and how far its logits on the probe are from those of base and adapter."""

    model: PreTrainedModel
    dtype: str
    """its number format"""
    difference: float
    """the largest, in absolute value; NaN where the number format cannot hold the base's own logits"""
    largest: float
    """logit, in absolute value"""


@torch.no_grad()
def merge(base: Path, adapter: Path, dtype: str, load_in_4bit: bool = False) -> Merged:
    """Merges a saved adapter into its base. `dtype`: float32, bfloat16 or float16; auto: that of the base's files.

    Raises KiyasError for folders that cannot be read, or do not fit.
    """
    format = _own_format(base) if dtype == "auto" else getattr(torch, dtype)
    model = load_model(base, CPU, format, load_in_4bit).eval()
    stacked = StackedModel(model)
    weights = read_weights(adapter, {site.name: site for site in stacked.sites})
    scale = saved_spec(adapter).scale
    ids = torch.randint(0, model.get_input_embeddings().num_embeddings, (1, PROBE), generator=_generator())
    stacked.stack = load_stack([(AdapterId("merged"), adapter)], stacked, CPU, format)
    expected = model(input_ids=ids).logits.float()
    stacked.stack = None
    for site in stacked.sites:
        layer = model.get_submodule(site.name).base
        if site.name in weights:
            a_RI, b_OR = weights[site.name]
            layer = _plus(layer, scale * (b_OR @ a_RI))
        model.set_submodule(site.name, _plus(layer) if isinstance(layer, Linear4bit) else layer)
    found = model(input_ids=ids).logits.float()
    return Merged(
        model, str(format).removeprefix("torch."), float((found - expected).abs().max()), float(expected.abs().max())
    )


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _plus(layer: nn.Module, delta_OI: Tensor | None = None) -> nn.Module:
    """The layer with this added to its weights; one in 4 bits becomes a plain one."""
    if isinstance(layer, Linear4bit):
        layer = _plain(layer)
    if delta_OI is not None:
        weight = layer.weight
        assert isinstance(weight, nn.Parameter)
        delta = delta_OI.T if isinstance(layer, Conv1D) else delta_OI
        weight.data = (weight.data.float() + delta).to(weight.dtype)
    return layer


def _plain(layer: Linear4bit) -> nn.Module:
    whole = layer.dequantised()
    plain: nn.Module
    if layer.conv1d:
        plain = Conv1D(layer.out_features, layer.in_features)
        whole = whole.T.contiguous()
    else:
        plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    plain.weight = nn.Parameter(whole, requires_grad=False)
    plain.bias = layer.bias
    return plain


def _own_format(base: Path) -> torch.dtype:
    """The number format of a model folder's files; float32 where it does not say."""
    found = read_config(base).dtype
    return found if isinstance(found, torch.dtype) else torch.float32


def save_plain(folder: Path, adapter: Path, base: Path, name: str, dropout: float) -> None:
    """Writes a saved adapter again as PEFT itself would name and store it, for the base that it was answered with.

    Whatever the file was like (wrapped names, rank-stabilised scale, PyTorch's old format), PEFT applies what Kıyas
    applied: its scale is alpha / r. `name`: what to call the base. Raises KiyasError as `merge`.
    """
    stacked = StackedModel(empty_model(base))
    weights = read_weights(adapter, {site.name: site for site in stacked.sites})
    spec = saved_spec(adapter)
    sites = [site for site in stacked.sites if site.name in weights]
    stack = AdapterStack([AdapterId("plain")], [Spec(spec.rank, spec.alpha)], sites, CPU)
    for site in sites:
        stack.set(0, site, *weights[site.name])
    save_adapter(folder, stack, 0, stacked, name, dropout)
    # The ends of the names, as people write them, where they mean these layers and no other module.
    ends = sorted({site.name.rpartition(".")[2] for site in sites})
    if {each for each, _ in stacked.model.named_modules() if is_target(each, ends)} == weights.keys():
        config = {**read_json(folder / CONFIG), "target_modules": ends}
        atomic_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
