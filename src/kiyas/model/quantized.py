"""A base whose linear layers are kept in 4 bits: NF4 (Dettmers et al. 2023), through bitsandbytes.

Theory of operation. Every weight becomes one of 16 values, times a float32 scale for each block of 64; the output head,
embeddings and norms keep their number format. A layer's weights are dequantised when it computes, once in the forward
pass and once in the backward pass, and never kept. bitsandbytes does the arithmetic, but its own layer is not used: on
processors with AVX512-BF16 it repacks its weights at the first pass without gradients, and from then on passes no
gradient back.

It is another base than the one in 16 bits: its answers differ before anything is trained.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from kiyas.runfolder.files import read_json
from kiyas.types import KiyasError

TYPE, BLOCK = "nf4", 64
BYTES = 0.5 + 4 / BLOCK
"""of a weight with its share of the scale"""

# It warns of an optional kernel that Kıyas has no use for, whenever something imports it.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: not str(record.msg).startswith("Failed to load CPU gemm_4bit_forward")
)


class Linear4bit(nn.Linear):
    """A frozen linear layer whose weights are packed in 4 bits. Computes in `dtype`, whatever its input is in."""

    weight: Tensor
    """two weights a byte, uint8 [in · out / 2, 1]"""
    absmax: Tensor
    """scales of the blocks, float32"""

    def __init__(
        self,
        shape: tuple[int, int],
        weight: Tensor,
        absmax: Tensor,
        bias: nn.Parameter | None,
        dtype: torch.dtype,
        conv1d: bool,
    ) -> None:
        """`shape`: outputs and inputs. `conv1d`: it replaces a layer that keeps its weights transposed."""
        nn.Module.__init__(self)  # nn.Linear's own would allocate the weights
        self.out_features, self.in_features = shape
        self.register_buffer("weight", weight)
        self.register_buffer("absmax", absmax)
        self.bias = bias  # type: ignore[assignment]
        self.dtype, self.conv1d = dtype, conv1d

    @classmethod
    def of(cls, layer: nn.Module) -> Linear4bit:
        """Quantises a layer, or takes what bitsandbytes' own layer was loaded with."""
        import bitsandbytes

        bias = layer.bias
        assert bias is None or isinstance(bias, nn.Parameter)
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            state = layer.weight.quant_state
            shape, conv1d = (layer.out_features, layer.in_features), layer.source_cls is Conv1D
            return cls(shape, layer.weight.data, state.absmax, bias, state.dtype, conv1d)
        conv1d, weight = isinstance(layer, Conv1D), layer.weight
        assert isinstance(weight, Tensor)
        whole = weight.detach().T if conv1d else weight.detach()
        packed, state = bitsandbytes.functional.quantize_4bit(
            whole.contiguous(), blocksize=BLOCK, compress_statistics=False, quant_type=TYPE
        )
        return cls((whole.shape[0], whole.shape[1]), packed, state.absmax, bias, weight.dtype, conv1d)

    def _state(self, *shape: int) -> Any:
        from bitsandbytes.functional import QuantState

        return QuantState(self.absmax, shape=torch.Size(shape), dtype=self.dtype, blocksize=BLOCK, quant_type=TYPE)

    def dequantised(self) -> Tensor:
        """Its weights in `dtype`, [O, I]."""
        from bitsandbytes.functional import dequantize_4bit

        O, I = self.out_features, self.in_features
        # As one row: on a CPU blocks that go on in the next row are read wrong (bitsandbytes 0.50.2).
        whole: Tensor = dequantize_4bit(self.weight, self._state(O * I))
        return whole.view(O, I)

    def forward(self, input: Tensor) -> Tensor:
        x, bias = input.to(self.dtype), None if self.bias is None else self.bias.to(self.dtype)
        if torch.is_grad_enabled() and x.requires_grad:
            y: Tensor = _Product.apply(x, self, bias)  # type: ignore[no-untyped-call]
        elif x.is_cuda and self.in_features % BLOCK == 0:
            from bitsandbytes import matmul_4bit  # few rows are multiplied without dequantising

            y = matmul_4bit(x, self.weight, self._state(self.out_features, self.in_features), bias=bias)
        else:
            y = nn.functional.linear(x, self.dequantised(), bias)
        return y


class _Product(torch.autograd.Function):
    """x Wᵀ + b; the dequantised W is not kept for the backward pass but made again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Linear4bit, bias: Tensor | None) -> Tensor:
        ctx.layer = layer
        return nn.functional.linear(x, layer.dequantised(), bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad @ ctx.layer.dequantised().to(grad.dtype), None, None


def quantise(model: PreTrainedModel) -> PreTrainedModel:
    """Replaces every linear layer but the output head by one in 4 bits."""
    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear | Conv1D) and not isinstance(module, Linear4bit) and module is not head:
            model.set_submodule(name, Linear4bit.of(module))
    return model


def adopt(model: PreTrainedModel) -> PreTrainedModel:
    """What `loading` loaded, with our own layers and without transformers' special treatment."""
    quantise(model).hf_quantizer.remove_quantization_config(model)
    model.is_loaded_in_4bit = False
    return model


def loading(dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Arguments for `from_pretrained`: each tensor is quantised as it is read; the base is never there whole."""
    from transformers import BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=TYPE,
        bnb_4bit_use_double_quant=False,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": how, "device_map": {"": device}}


def computes_in(linear: nn.Module) -> torch.dtype:
    """The type that a linear layer computes in."""
    dtype = linear.dtype if isinstance(linear, Linear4bit) else linear.weight.dtype
    assert isinstance(dtype, torch.dtype)
    return dtype


def refuse_quantised(folder: Path) -> None:
    """Raises KiyasError for a base whose files are quantised already: that is done while loading, or not at all."""
    if "quantization_config" in read_json(folder / "config.json"):
        raise KiyasError(
            f"the weights of the base model in {folder} are quantised already (quantization_config in config.json)",
            "take the model in 16 bits; training.load_in_4bit=true quantises it when it is loaded",
        )
