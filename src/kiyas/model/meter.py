"""How much memory something would take, found out without taking it.

Theory of operation. Under `Meter` the real code runs on tensors that have shapes and no contents (PyTorch's
FakeTensorMode); what is allocated and given back is counted, at full size, in a second and next to no memory. A model
is built with two layers and with three; a further layer costs what the third does.

What it does not see: what kernels and allocators take beyond the tensors, and fragments between them.
"""

from __future__ import annotations

import contextlib
import copy
import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from kiyas.data import model_files
from kiyas.data.chat import Chat
from kiyas.model import attention, half, quantized
from kiyas.model.base import Base
from kiyas.model.device import in_words
from kiyas.types import KiyasError

SMALL_VOCABULARY = 8192


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that live inside it. `peak` is the most that lived at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, FakeTensor):
                self._count(each.untyped_storage())
        self.peak = max(self.peak, self.live)
        return made

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._seen:
            self._seen.add(key)
            self.live += size
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


@contextlib.contextmanager
def metered() -> Iterator[Meter]:
    """Inside, tensors have no contents, and the meter counts them."""
    attention.register()
    with FakeTensorMode(allow_non_fake_inputs=True), Meter() as meter:
        yield meter


@dataclass(frozen=True)
class Shape:
    """What of a base its memory depends on."""

    config: Any
    """transformers' configuration"""
    dtype: torch.dtype
    packed: bool
    plain_head: bool
    float32_modules: tuple[str, ...] = ()
    load_in_4bit: bool = False

    @classmethod
    def of(cls, base: Base) -> Shape:
        config = base.model.config
        return cls(config, base.dtype, base.packed, base.plain_head, base.float32_modules, base.load_in_4bit)

    @classmethod
    def probed(cls, folder: Path, dtype: torch.dtype, chat: Chat, load_in_4bit: bool) -> Shape:
        """From a model folder's configuration: what its attention and head allow is tried on one layer."""
        config = read_config(folder)
        base = small_base(config, 1, chat, torch.device("cpu"), torch.float32)
        return cls(config, dtype, base.packed, base.plain_head, load_in_4bit=load_in_4bit)

    @property
    def layers(self) -> int:
        return int(self.config.num_hidden_layers)

    @property
    def wide_kinds(self) -> Counter[str]:
        """How many layers have each of the modules that compute in float32, named as in the first layer."""
        return Counter(re.sub(r"\.\d+\.", ".0.", name, count=1) for name in self.float32_modules)

    def base(self, layers: int, chat: Chat | None = None) -> Base:
        """A base of this shape with so many layers and random weights; inside `metered`, without contents."""
        with told_of_small():
            model = AutoModelForCausalLM.from_config(shallow(self.config, layers), dtype=self.dtype)
        if self.load_in_4bit:
            quantized.quantise(model)
        model.requires_grad_(False)
        model.eval()
        if self.packed:
            model.set_attn_implementation(attention.NAME)
        if self.dtype == torch.float16 and self.packed:
            half.prepare(model)
            half.widen(model, self.float32_modules)
        return Base(model, chat, self.packed, self.plain_head)  # type: ignore[arg-type]

    @cached_property
    def nbytes(self) -> int:
        """Of the weights of all layers."""

        def measure(layers: int) -> int:
            with metered():
                return self.base(layers).nbytes

        return self.grown(measure)

    def grown(self, measure: Callable[[int], int]) -> int:
        """What `measure` of all layers would be, from two layers and three."""
        if self.layers <= 3:
            return measure(self.layers)
        two, three = measure(2), measure(3)
        return two + (self.layers - 2) * (three - two)


def read_config(folder: Path) -> Any:
    """transformers' configuration of a model folder. Raises KiyasError for one that cannot be read."""
    model_files.refuse_strange(folder)
    quantized.refuse_quantised(folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return model_files.with_own_ways(config, folder)
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        StrictDataclassError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise KiyasError(f"cannot read the configuration of the model in {folder}: {reason}") from error


def empty_model(folder: Path) -> Any:
    """A model folder's model with shapes and without weights. Raises KiyasError for one that cannot be built."""
    config = read_config(folder)
    with told_of_small(), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def small_base(
    config: Any, layers: int, chat: Chat, device: torch.device, dtype: torch.dtype, load_in_4bit: bool = False
) -> Base:
    """The base with so many layers, random weights and a small vocabulary."""
    small = shallow(config, layers)
    small.vocab_size = min(config.vocab_size, SMALL_VOCABULARY)
    small.pad_token_id = small.bos_token_id = small.eos_token_id = None
    transformers_logging.set_verbosity_error()
    torch.manual_seed(0)
    with told_of_small():
        model = AutoModelForCausalLM.from_config(small, dtype=dtype).to(device)
    return Base.of(quantized.quantise(model) if load_in_4bit else model, chat)


def shallow(config: Any, layers: int) -> Any:
    """The configuration of a model with the first layers only."""
    made = copy.deepcopy(config)
    for name, value in list(vars(made).items()):
        if isinstance(value, list) and len(value) == config.num_hidden_layers:  # layer_types and the like
            setattr(made, name, value[:layers])
    made.num_hidden_layers = layers
    return made


@contextlib.contextmanager
def told_of_small() -> Iterator[None]:
    """Says in words that a model cannot be built from its configuration alone."""
    try:
        yield
    except (ValueError, KeyError, AttributeError, TypeError, RuntimeError, ArithmeticError) as error:
        words = in_words(error)
        raise words or KiyasError(f"cannot build a small copy of the base model to measure with: {error}") from error
