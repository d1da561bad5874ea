"""K LoRA adapters as stacked tensors over one frozen base: the only batched LoRA in Kıyas.

Theory of operation. All adapters of a stack have the same modules; smaller ranks are padded with zeros, which
stay zero, and so does a module that an adapter leaves out. The weights of adapter k are one row of a flat tensor
theta [K, P]; every module's A and B are views into it. So clipping, AdamW, saving and freezing are row operations on
[K, P], and autograd accumulates straight into the flat gradient. In the forward pass the rows of a batch belong to the
adapters in order: [K·n, T, D] is read as [K, n·T, D], the base's own linear runs on the whole batch, and LoRA is two
batched products over K.

    y = x W + b + (x A_k) B_k · alpha_k / r_k          (Hu et al. 2021, as in PEFT's LoraLayer)

Shapes: K adapters, N rows·tokens of one adapter, I inputs, O outputs, R rank, P weights of one adapter.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from kiyas.model.quantized import Linear4bit, computes_in
from kiyas.types import AdapterId, KiyasError


@dataclass(frozen=True)
class Site:
    """One linear layer that takes an adapter: its name in the model and its shape."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Spec:
    """One adapter's rank, scale and modules."""

    rank: int
    alpha: float
    targets: tuple[str, ...] = ()
    """names of modules as in PEFT's `target_modules`; none: all of the stack's"""

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def adapts(self, site: Site) -> bool:
        return not self.targets or is_target(site.name, self.targets)


class Stack:
    """K adapters as rows of one flat tensor `theta` [K, P], of which every module's A and B are views."""

    def __init__(
        self,
        ids: Sequence[AdapterId],
        specs: Sequence[Spec],
        sites: Sequence[Site],
        device: torch.device,
        dtype: torch.dtype,
        theta: Tensor | None = None,
        rank: int | None = None,
    ) -> None:
        assert len(ids) == len(specs) > 0
        self.ids, self.specs, self.sites = list(ids), list(specs), list(sites)
        self.rank = rank or max(spec.rank for spec in specs)
        size = sum(self.rank * (site.inputs + site.outputs) for site in sites)
        self.theta = torch.zeros(len(ids), size, device=device, dtype=dtype) if theta is None else theta
        self._a: dict[str, Tensor] = {}
        self._b: dict[str, Tensor] = {}
        for site, a_KRI, b_KOR in self._views(self.theta):
            self._a[site.name], self._b[site.name] = a_KRI, b_KOR

    def _views(self, flat_KP: Tensor) -> Iterator[tuple[Site, Tensor, Tensor]]:
        K, start = flat_KP.shape[0], 0
        for site in self.sites:
            middle = start + self.rank * site.inputs
            end = middle + self.rank * site.outputs
            yield (
                site,
                flat_KP[:, start:middle].view(K, self.rank, site.inputs),
                flat_KP[:, middle:end].view(K, site.outputs, self.rank),
            )
            start = end

    def __len__(self) -> int:
        return len(self.ids)

    def a(self, name: str) -> Tensor:
        """A of one module, [K, R, I]."""
        return self._a[name]

    def scaled_b(self, name: str, dtype: torch.dtype) -> Tensor:
        """alpha / r · B of one module, [K, O, R]."""
        raise NotImplementedError

    def select(self, chosen: Sequence[int]) -> Stack:
        """A stack of some of the adapters, in the given order."""
        raise NotImplementedError

    def rows(self, start: int, end: int) -> Stack:
        """The adapters from `start` to `end`, as views of the same weights."""
        raise NotImplementedError

    def moved(self) -> list[bool]:
        """Which adapters have any non-zero B, and so must change the base's answer."""
        raise NotImplementedError


class AdapterStack(Stack):
    """Adapters that learn: `theta` is float32; `a(site)` is [K, R, I] and `b(site)` [K, O, R]."""

    def __init__(
        self,
        ids: Sequence[AdapterId],
        specs: Sequence[Spec],
        sites: Sequence[Site],
        device: torch.device,
        theta: Tensor | None = None,
        rank: int | None = None,
    ) -> None:
        super().__init__(ids, specs, sites, device, torch.float32, theta, rank)
        self.scale_K = torch.tensor([spec.scale for spec in specs], device=device)

    def b(self, name: str) -> Tensor:
        return self._b[name]

    def scaled_b(self, name: str, dtype: torch.dtype) -> Tensor:
        return (self._b[name] * self.scale_K[:, None, None]).to(dtype)

    def rows(self, start: int, end: int) -> AdapterStack:
        ids, specs, theta = self.ids[start:end], self.specs[start:end], self.theta[start:end]
        return AdapterStack(ids, specs, self.sites, theta.device, theta, self.rank)

    def train(self, gradient: Tensor | None = None) -> Tensor:
        """Makes the weights trainable; returns the flat gradient [K, P] that backward passes add to."""
        gradient = torch.zeros_like(self.theta) if gradient is None else gradient
        for site, a_grad, b_grad in self._views(gradient):
            for weights, grad in ((self._a, a_grad), (self._b, b_grad)):
                leaf = weights[site.name].detach().requires_grad_()
                leaf.grad = grad
                weights[site.name] = leaf
        return gradient

    def initialise(self, seeds: Sequence[int]) -> None:
        """PEFT's start: A Kaiming-uniform (a = √5), B zero. A function of (seed, module) alone, so that arms of
        one seed start from the same adapter whatever else is in the stack."""
        with torch.no_grad():
            for site in self.sites:
                for k, (seed, spec) in enumerate(zip(seeds, self.specs, strict=True)):
                    if not spec.adapts(site):
                        continue  # A and B zero: their gradients are, too
                    generator = torch.Generator().manual_seed(_seed("init", seed, site.name))
                    bound = 1 / math.sqrt(site.inputs)
                    start = torch.rand(spec.rank, site.inputs, generator=generator) * (2 * bound) - bound
                    self._a[site.name].data[k, : spec.rank] = start.to(self.theta.device)

    def set(self, k: int, site: Site, a_RI: Tensor, b_OR: Tensor) -> None:
        """Puts one adapter's weights of one module in place, padded with zeros to the stack's rank."""
        with torch.no_grad():
            self._a[site.name].data[k, : a_RI.shape[0]] = a_RI.to(self.theta.device)
            self._b[site.name].data[k, :, : b_OR.shape[1]] = b_OR.to(self.theta.device)

    def weights(self, k: int) -> Iterator[tuple[Site, Tensor, Tensor]]:
        """One adapter's weights, cut to its own modules and rank: (site, A [r, I], B [O, r])."""
        spec = self.specs[k]
        for site, a_KRI, b_KOR in self._views(self.theta):
            if spec.adapts(site):
                yield site, a_KRI[k, : spec.rank], b_KOR[k, :, : spec.rank]

    def select(self, chosen: Sequence[int]) -> AdapterStack:
        made = AdapterStack(
            [self.ids[k] for k in chosen], [self.specs[k] for k in chosen], self.sites, self.theta.device
        )
        if made.rank == self.rank:
            made.theta.copy_(self.theta[list(chosen)])
        else:
            for at, k in enumerate(chosen):
                for site, a_RI, b_OR in self.weights(k):
                    made.set(at, site, a_RI, b_OR)
        return made

    def moved(self) -> list[bool]:
        return [any(bool(b.any()) for _, _, b in self.weights(k)) for k in range(len(self))]


class FrozenStack(Stack):
    """Adapters that only answer: A and alpha / r · B in the base's own number format, ready to multiply with."""

    def __init__(
        self,
        ids: Sequence[AdapterId],
        specs: Sequence[Spec],
        sites: Sequence[Site],
        device: torch.device,
        dtype: torch.dtype,
        theta: Tensor | None = None,
        rank: int | None = None,
    ) -> None:
        super().__init__(ids, specs, sites, device, dtype, theta, rank)
        self._moved = [False] * len(ids)

    def put(self, k: int, weights: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Puts adapter k in place: float32 (A [r, I], B [O, r]) by module, on the CPU; absent modules are zero.

        Whether it moved is decided here, before rounding.
        """
        row = torch.zeros(1, self.theta.shape[1])
        for site, a_1RI, b_1OR in self._views(row):
            if site.name in weights:
                a_RI, b_OR = weights[site.name]
                a_1RI[0, : a_RI.shape[0]] = a_RI
                b_1OR[0, :, : b_OR.shape[1]] = b_OR * self.specs[k].scale
        self._moved[k] = any(bool(b_OR.any()) for _, b_OR in weights.values())
        self.theta[k] = row[0].to(self.theta.dtype)

    def scaled_b(self, name: str, dtype: torch.dtype) -> Tensor:
        return self._b[name].to(dtype)

    def rows(self, start: int, end: int) -> FrozenStack:
        ids, specs, theta = self.ids[start:end], self.specs[start:end], self.theta[start:end]
        made = FrozenStack(ids, specs, self.sites, theta.device, theta.dtype, theta, self.rank)
        made._moved = self._moved[start:end]
        return made

    def select(self, chosen: Sequence[int]) -> FrozenStack:
        ids, specs = [self.ids[k] for k in chosen], [self.specs[k] for k in chosen]
        made = FrozenStack(ids, specs, self.sites, self.theta.device, self.theta.dtype)
        for at, k in enumerate(chosen):
            made._moved[at] = self._moved[k]
            if made.rank == self.rank:
                made.theta[at] = self.theta[k]
                continue
            for site in self.sites:
                made._a[site.name][at] = self._a[site.name][k, : made.rank]
                made._b[site.name][at] = self._b[site.name][k, :, : made.rank]
        return made

    def moved(self) -> list[bool]:
        return list(self._moved)


def _seed(*parts: object) -> int:
    return zlib.crc32("\0".join(map(str, parts)).encode())


class Dropout:
    """LoRA dropout whose noise is a function of (training seed, step, sample, position, module, feature).

    It does not depend on what else is in the stack, on packing, or on how a batch is split, and it can be drawn again
    in the backward pass. `token_KN` holds an odd 32-bit key per token; every pair of features has an odd key; their
    product, mixed, is 16 random bits for each feature. So p is rounded to a multiple of 1/65,536. `p`: none, one for
    all adapters, or one for each.
    """

    def __init__(self, *p: float) -> None:
        self.on = any(p)
        self.token_KN: Tensor | None = None
        self._threshold = torch.tensor([round(each * 2**16) - 2**15 for each in p], dtype=torch.int16)[:, None, None]
        self._scale = torch.tensor([1 / (1 - each) for each in p])[:, None, None]
        self._features: dict[tuple[str, int, torch.device], Tensor] = {}

    def dropped(self, device: torch.device, inputs: int, name: str) -> Tensor | None:
        """Which inputs of a module are dropped, [K, N, I]; None: dropout is off."""
        if not self.on or self.token_KN is None:
            return None
        key = (name, inputs, device)
        if key not in self._features:
            generator = torch.Generator().manual_seed(_seed("dropout", name))
            odd = torch.randint(-(2**31), 2**31, (-(-inputs // 2),), generator=generator) | 1
            self._features[key] = odd.int().to(device)
            self._threshold, self._scale = self._threshold.to(device), self._scale.to(device)
        noise = self.token_KN[..., None] * self._features[key]
        noise ^= noise >> 15
        noise *= 0x7FEB352D  # a multiplier of Chris Wellons' lowbias32; a second round is not better (docs/log.md)
        noise += noise >> 16
        return noise.view(torch.int16)[..., :inputs] < self._threshold

    def scale(self, dtype: torch.dtype) -> Tensor:
        """1 / (1 - p), [K or 1, 1, 1]."""
        return self._scale.to(dtype)


def mix(x: Tensor) -> Tensor:
    """Scrambles int64 (the finaliser of MurmurHash3, with wrap-around)."""
    x = (x ^ (x >> 33)) * -49064778989728563
    x = (x ^ (x >> 33)) * -4265267296055464877
    return x ^ (x >> 33)


@dataclass
class _InUse:
    """What the layers of one model apply: shared by all of them, and without a way back to the model, so that a model
    that nobody holds is gone at once."""

    stack: Stack | None = None
    dropout: Dropout = field(default_factory=Dropout)


class _Lora(torch.autograd.Function):
    """y + drop(x) A_k B_k for K adapters. The dropped x is not kept for the backward pass but made again."""

    @staticmethod
    def forward(
        ctx: Any, y_KNO: Tensor, x_KNI: Tensor, a_KRI: Tensor, b_KOR: Tensor, dropout: Dropout, name: str
    ) -> Tensor:
        gone = dropout.dropped(x_KNI.device, x_KNI.shape[2], name)
        h_KNR = torch.bmm(x_KNI if gone is None else x_KNI.masked_fill(gone, 0), a_KRI.transpose(1, 2))
        if gone is not None:
            h_KNR *= dropout.scale(h_KNR.dtype)
        ctx.save_for_backward(x_KNI, a_KRI, b_KOR, h_KNR)
        ctx.dropout, ctx.name = dropout, name
        return torch.baddbmm(y_KNO, h_KNR, b_KOR.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, grad_KNO: Tensor) -> tuple[Tensor | None, ...]:
        x_KNI, a_KRI, b_KOR, h_KNR = ctx.saved_tensors
        gone = ctx.dropout.dropped(x_KNI.device, x_KNI.shape[2], ctx.name)
        grad_b = torch.bmm(grad_KNO.transpose(1, 2), h_KNR)
        grad_h = torch.bmm(grad_KNO, b_KOR)
        if gone is not None:
            grad_h *= ctx.dropout.scale(grad_h.dtype)
        grad_x = torch.bmm(grad_h, a_KRI) if ctx.needs_input_grad[1] else None
        if gone is not None:
            x_KNI = x_KNI.masked_fill(gone, 0)
            grad_x = None if grad_x is None else grad_x.masked_fill_(gone, 0)
        return grad_KNO, grad_x, torch.bmm(grad_h.transpose(1, 2), x_KNI), grad_b, None, None


class StackedLinear(nn.Module):
    """A frozen linear layer plus, while a stack is in use, the adapters' part."""

    def __init__(self, base: nn.Module, site: Site, in_use: _InUse) -> None:
        super().__init__()
        self.base = base
        self.site = site
        self._in_use = in_use

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(computes_in(self.base))  # in float16 the residual stream is wider (half.py)
        y: Tensor = self.base(x)
        stack = self._in_use.stack
        if stack is None:
            return y
        K, site = len(stack), self.site
        a_KRI, b_KOR = stack.a(site.name).to(x.dtype), stack.scaled_b(site.name, x.dtype)
        y_KNO, x_KNI = y.reshape(K, -1, site.outputs), x.reshape(K, -1, site.inputs)
        adapted: Tensor = _Lora.apply(y_KNO, x_KNI, a_KRI, b_KOR, self._in_use.dropout, site.name)  # type: ignore[no-untyped-call]
        return adapted.view_as(y)


class StackedModel:
    """A frozen model whose linear layers can carry a stack. Set `stack` to use one, None for the bare base."""

    def __init__(self, model: PreTrainedModel, target_modules: str | Sequence[str] = "all-linear") -> None:
        self.model = model
        self._in_use = _InUse()
        model.requires_grad_(False)
        self.sites = []
        for name, module in _targets(model, target_modules):
            inputs, outputs = _shape(module)
            site = Site(name, inputs, outputs)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, StackedLinear(module, site, self._in_use))
            self.sites.append(site)

    @property
    def stack(self) -> Stack | None:
        return self._in_use.stack

    @stack.setter
    def stack(self, stack: Stack | None) -> None:
        self.use(stack)

    def use(self, stack: Stack | None, dropout: Dropout | None = None) -> None:
        """Makes a stack, with dropout on its inputs or without, the one that forward and backward passes apply."""
        self._in_use.stack = stack
        self._in_use.dropout = dropout or Dropout()

    @property
    def conv1d(self) -> bool:
        """Whether the layers keep their weights transposed (GPT-2's Conv1D): PEFT's `fan_in_fan_out`."""
        first = self.model.get_submodule(self.sites[0].name)
        if not isinstance(first, StackedLinear):
            return False
        return first.base.conv1d if isinstance(first.base, Linear4bit) else isinstance(first.base, Conv1D)


def is_target(name: str, targets: Sequence[str]) -> bool:
    """PEFT's rule for a list of `target_modules`: a module's whole name, or its end."""
    return any(name == target or name.endswith("." + target) for target in targets)


def _targets(model: PreTrainedModel, target_modules: str | Sequence[str]) -> list[tuple[str, nn.Module]]:
    head = model.get_output_embeddings()
    linear = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    ]
    if target_modules == "all-linear":
        return linear
    chosen = [(name, module) for name, module in linear if is_target(name, target_modules)]
    names = sorted({name.rpartition(".")[2] for name, _ in linear})
    for target in target_modules:
        if not any(is_target(name, [target]) for name, _ in chosen):
            raise KiyasError(
                f"peft.target_modules: no linear layer called {target!r} in {type(model).__name__}",
                f"it has {', '.join(names)}",
            )
    return chosen


def _shape(module: nn.Module) -> tuple[int, int]:
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    assert isinstance(module, Conv1D)
    return module.weight.shape[0], module.nf
