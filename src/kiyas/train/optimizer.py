"""Learning-rate schedule, AdamW and gradient clipping, row by row over stacked adapters.

Shapes: K adapters, P weights of one adapter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kiyas.study.settings import Recipe


def schedule(recipe: Recipe, step: int, steps: int) -> float:
    """Learning rate of optimizer step `step` (0-based) of `steps`: as transformers' `get_scheduler` computes it."""
    warmup = math.ceil(recipe.warmup_ratio * steps)
    if step < warmup:
        return recipe.rate * step / max(1, warmup)
    if recipe.lr_scheduler_type == "constant":
        return recipe.rate
    done = (step - warmup) / max(1, steps - warmup)
    factor = 1 - done if recipe.lr_scheduler_type == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return recipe.rate * max(0.0, factor)


class AdamW:
    """Decoupled weight decay (Loshchilov & Hutter 2019) as torch.optim.AdamW, row by row over [K, P]: each
    adapter has its own recipe and learning rate and does not move when it has no rate."""

    def __init__(self, theta_KP: Tensor, recipes: Sequence[Recipe]) -> None:
        self.theta = theta_KP
        self.m, self.v = torch.zeros_like(theta_KP), torch.zeros_like(theta_KP)
        # Rows with the same constants are updated together: usually all of them.
        self.groups: dict[tuple[float, float, float, float], list[int]] = {}
        for k, r in enumerate(recipes):
            self.groups.setdefault((r.adam_beta1, r.adam_beta2, r.adam_epsilon, r.weight_decay), []).append(k)

    @torch.no_grad()
    def step(self, gradient_KP: Tensor, rates: Mapping[int, float], step: int) -> None:
        """One update of the rows that have a learning rate; `step` counts from 1."""
        for constants, group in self.groups.items():
            chosen = [k for k in group if k in rates]
            if chosen:
                self._update(gradient_KP, [rates[k] for k in chosen], chosen, step, *constants)

    def _update(
        self,
        gradient_KP: Tensor,
        rates: list[float],
        chosen: list[int],
        step: int,
        beta1: float,
        beta2: float,
        epsilon: float,
        weight_decay: float,
    ) -> None:
        device, every = self.theta.device, len(chosen) == len(self.theta)
        rows = slice(None) if every else torch.tensor(chosen, device=device)
        theta, m, v, gradient = self.theta[rows], self.m[rows], self.v[rows], gradient_KP[rows]
        rate = torch.tensor(rates, device=device)[:, None]
        theta.mul_(1 - rate * weight_decay)
        m.lerp_(gradient, 1 - beta1)
        v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        denominator = (v.sqrt() / math.sqrt(1 - beta2**step)).add_(epsilon)
        theta.sub_(rate * (m / (1 - beta1**step)) / denominator)
        if not every:
            self.theta[rows], self.m[rows], self.v[rows] = theta, m, v


def clip(gradient_KP: Tensor, limits: Sequence[float]) -> Tensor:
    """Clips each adapter's gradient to its limit in place, as torch's clip_grad_norm_. Returns the norms [K]."""
    norm_K: Tensor = torch.linalg.vector_norm(gradient_KP, dim=1)
    limit_K = torch.tensor(limits, device=norm_K.device)
    gradient_KP.mul_((limit_K / (norm_K + 1e-6)).clamp(max=1.0)[:, None])
    return norm_K
