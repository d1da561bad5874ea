"""The widest decoding that a plan allows, tried before hours are spent: what does not fit fails in the first minute."""

from __future__ import annotations

import torch

from kiyas.generate.decoder import Flight, Generator
from kiyas.generate.memory import Plan
from kiyas.generate.work import Job, Question
from kiyas.model.adapters import FrozenStack, Spec, StackedModel
from kiyas.model.base import Base
from kiyas.study.settings import Generation
from kiyas.types import AdapterId

WORTH_PARAMETERS = 100_000_000
"""On a CPU a smaller base is not tried: it costs more than it tells."""


@torch.inference_mode()
def try_widest(base: Base, model: StackedModel, settings: Generation, plan: Plan, prompt: int, rank: int) -> None:
    """Takes all memory that the plan will: adapters of zeros, a prefill of prompts of `prompt` tokens, one full step.

    Everything is freed again. Raises torch.OutOfMemoryError as decoding would. A base that cannot pack is tried with
    one step after its prompts only, not with full rows.
    """
    if base.device.type == "cpu" and base.parameters < WORTH_PARAMETERS:
        return
    ids = [AdapterId("trial", step=k) for k in range(plan.adapters)]
    stack = FrozenStack(ids, [Spec(rank, 1.0)] * plan.adapters, model.sites, base.device, base.dtype)
    short = settings.model_copy(update={"max_new_tokens": min(2, settings.max_new_tokens)})
    generator = Generator(
        base, model, stack, settings if base.packed else short, frozenset(), prefill_tokens=plan.prefill_tokens
    )
    longest = prompt + settings.max_new_tokens
    longest = min(longest, generator.most_positions or longest)
    question = Question("trial", (0,) * min(prompt, longest - 1))
    slots = max(1, plan.rows // plan.adapters)
    jobs = [Job(k, question, slot) for k in range(plan.adapters) for slot in range(slots)]
    try:
        if base.packed:
            Flight(generator, jobs, slots).widest(longest)
        else:
            list(generator.answer(jobs, plan.rows))
    finally:
        model.stack = None
