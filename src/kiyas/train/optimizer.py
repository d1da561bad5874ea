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
        self.theta, self.recipes = theta_KP, list(recipes)
        self.m, self.v = torch.zeros_like(theta_KP), torch.zeros_like(theta_KP)

    @torch.no_grad()
    def step(self, gradient_KP: Tensor, rates: Mapping[int, float], step: int) -> None:
        """One update of the rows that have a learning rate; `step` counts from 1.

        Row by row: constants need no tensor on the device, and what is in between takes one row's memory.
        """
        for k, rate in rates.items():
            recipe, theta, m, v, gradient = self.recipes[k], self.theta[k], self.m[k], self.v[k], gradient_KP[k]
            beta1, beta2 = recipe.adam_beta1, recipe.adam_beta2
            theta.mul_(1 - rate * recipe.weight_decay)
            m.lerp_(gradient, 1 - beta1)
            v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            denominator = v.sqrt().div_(math.sqrt(1 - beta2**step)).add_(recipe.adam_epsilon)
            theta.addcdiv_(m, denominator, value=-rate / (1 - beta1**step))
