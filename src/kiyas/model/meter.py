"""How much memory something would take, found out without taking it.

Theory of operation. Under `Meter` the real code runs on tensors that have shapes and no contents (PyTorch's
FakeTensorMode); what is allocated and given back is counted, at full size, in a second and next to no memory. A model
is built with two layers and with three; a further layer costs what the third does.

What it does not see: what kernels and allocators take beyond the tensors, and fragments between them.
"""

from __future__ import annotations

import contextlib
import copy
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM

from kiyas.data.chat import Chat
from kiyas.model import attention, half
from kiyas.model.base import Base
from kiyas.types import KiyasError


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

    @classmethod
    def of(cls, base: Base) -> Shape:
        return cls(base.model.config, base.dtype, base.packed, base.plain_head, base.float32_modules)

    @property
    def layers(self) -> int:
        return int(self.config.num_hidden_layers)

    def base(self, layers: int, chat: Chat | None = None) -> Base:
        """A base of this shape with so many layers and random weights; inside `metered`, without contents."""
        with told_of_small(self.config):
            model = AutoModelForCausalLM.from_config(shallow(self.config, layers), dtype=self.dtype)
        model.requires_grad_(False)
        model.eval()
        if self.packed:
            model.set_attn_implementation(attention.NAME)
        if self.dtype == torch.float16 and self.packed:
            half.prepare(model)
            half.widen(model, self.float32_modules)
        return Base(model, chat, self.packed, self.plain_head)  # type: ignore[arg-type]

    def grown(self, measure: Callable[[int], int]) -> int:
        """What `measure` of all layers would be, from two layers and three."""
        if self.layers <= 3:
            return measure(self.layers)
        two, three = measure(2), measure(3)
        return two + (self.layers - 2) * (three - two)


def shallow(config: Any, layers: int) -> Any:
    """The configuration of a model with the first layers only."""
    made = copy.deepcopy(config)
    for name, value in list(vars(made).items()):
        if isinstance(value, list) and len(value) == config.num_hidden_layers:  # layer_types and the like
            setattr(made, name, value[:layers])
    made.num_hidden_layers = layers
    return made


@contextlib.contextmanager
def told_of_small(config: Any) -> Iterator[None]:
    """Says in words that a model cannot be built from its configuration alone."""
    try:
        yield
    except (ValueError, KeyError, AttributeError, TypeError, RuntimeError) as error:
        raise KiyasError(f"cannot build a small copy of the base model to measure with: {error}") from error
