"""float16 on a base whose values leave its range.

Theory of operation. float16 ends at 65,504, and Qwen2 is known to go beyond: in the residual stream, and in the product
inside some MLPs. So the residual stream and the norms are always float32, which costs little: the norms compute in
float32 anyway. Every linear layer computes in the type of its weights, which is float16; where a probe in float32 finds
inputs or outputs near the end of the range, the layers of that module get float32 weights. Attention computes its
scores, and the head its softmax, in float32 as ever.

Not guaranteed: that values stay in range on other texts or after training. A loss that is not a number stops the run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from kiyas.model.quantized import Linear4bit, computes_in

LIMIT = 2.0**14
"""A quarter of float16's range: training moves values."""


def prepare(model: PreTrainedModel) -> list[RemovableHandle]:
    """Makes the residual stream and the norms float32; linear layers take any input. Returns what undoes the hooks."""
    for module in model.modules():
        if not isinstance(module, nn.Linear | Conv1D | nn.Embedding):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.float()
    stream = model.get_input_embeddings().register_forward_hook(_in_float32)
    return [stream, *(linear.register_forward_pre_hook(_in_own_type) for _, linear in _linears(model))]


def _in_float32(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output.float()


def _in_own_type(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    x, *others = args
    return (x.to(computes_in(module)), *others)


def narrow(model: PreTrainedModel) -> None:
    """Takes back what `prepare` and `widen` made float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.half()
    for _, linear in _linears(model):
        if isinstance(linear, Linear4bit):
            linear.dtype = torch.float16


def widen(model: PreTrainedModel, modules: Iterable[str]) -> None:
    """Gives the linear layers of these modules float32 weights."""
    chosen = set(modules)
    for name, linear in _linears(model):
        if _owner(name) in chosen:
            for parameter in linear.parameters(recurse=False):  # `linear.float()` cannot where there are no contents
                parameter.data = parameter.data.float()
            if isinstance(linear, Linear4bit):
                linear.dtype = torch.float32


@contextlib.contextmanager
def as_float32(model: PreTrainedModel, see: Callable[[str, float], None] | None = None) -> Iterator[None]:
    """Every linear layer computes in float32, one at a time, from its float16 weights: the reference.

    `see` is called with the name of the module that a layer is in, and the largest absolute input or output.
    """
    handles, packed = [], {linear: linear.dtype for _, linear in _linears(model) if isinstance(linear, Linear4bit)}
    for each in packed:
        each.dtype = torch.float32
    for name, linear in _linears(model):
        handles.append(linear.register_forward_pre_hook(_upcast, prepend=True))
        handles.append(linear.register_forward_hook(_downcast))
        if see is not None:

            def note(module: nn.Module, args: Any, output: Tensor, name: str = _owner(name)) -> None:
                see(name, float(torch.stack([args[0].abs().max(), output.abs().max()]).max()))

            handles.append(linear.register_forward_hook(note))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for each, dtype in packed.items():
            each.dtype = dtype


def _upcast(module: nn.Module, args: Any) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.narrow_data = parameter.data  # type: ignore[attr-defined]
        parameter.data = parameter.data.float()


def _downcast(module: nn.Module, args: Any, output: Tensor) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.data = parameter.narrow_data  # type: ignore[attr-defined]
        del parameter.narrow_data  # type: ignore[attr-defined]


def _linears(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]


def _owner(name: str) -> str:
    """The module that a linear layer belongs to: `model.layers.3.mlp` of `model.layers.3.mlp.up_proj.base`."""
    return name.removesuffix(".base").rpartition(".")[0]
