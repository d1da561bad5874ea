"""The model of the real study, Qwen2.5-Coder-1.5B, on the meter: memory, launches and waits. Runs in a process with
the guard: see child.py. Cards are those of `stand_in.CARDS`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import on_shadow
import stand_in
import torch
from transformers import AutoModelForCausalLM

import tiny
from kiyas.data.chat import Chat
from kiyas.generate import memory
from kiyas.generate.decoder import Generator
from kiyas.generate.trial import try_widest
from kiyas.generate.work import Job, Question
from kiyas.model.adapters import FrozenStack, Spec, StackedModel
from kiyas.model.base import Base
from kiyas.model.device import available_bytes, pick_dtype
from kiyas.model.meter import Shape
from kiyas.study.settings import Study
from kiyas.train.loop import JointTraining, Task
from kiyas.train.memory import Layout, training_budget
from kiyas.train.plan import Plan
from kiyas.types import AdapterId, TokenizedExample

LAYERS = 28
LENGTH = 1024


def base(layers: int, float32_modules: Sequence[str] = ()) -> Base:
    """In the number format of the card, but for some modules."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(tiny.real_config(layers), dtype=pick_dtype("auto", "cuda"))
    made = Base.of(model.to("cuda"), Chat(tiny.tokenizer(), "tiny"), float32_modules)
    assert made.packed and made.plain_head
    return made


def study(dropout: float = 0.1, batch: int = 16, **generation: Any) -> Study:
    return Study.model_validate(
        {
            "name": "t",
            "model_name_or_path": "practice",
            "arms": {"a": {"dataset_name": "practice/deep"}, "b": {"dataset_name": "practice/diverse"}},
            "peft": {"r": 16, "lora_alpha": 32, "lora_dropout": dropout},
            "training": {"budget": {"steps": 1}, "effective_batch_size": batch, "learning_rate": 2e-4},
            "generation": generation,
        }
    )


def meter(card: str, **changes: Any) -> stand_in.Device:
    return stand_in.Device(replace(stand_in.CARDS[card], **changes), numbers=False)


def ids(adapters: int) -> list[AdapterId]:
    return [AdapterId("ab"[k % 2], "", k // 2) for k in range(adapters)]


def tasks(adapters: int, batch: int, steps: int = 1) -> list[Task]:
    """Trainings on samples of one length, half of it labelled."""
    sample = TokenizedExample((5,) * LENGTH, LENGTH // 2)
    return [Task(id, [sample] * batch, steps) for id in ids(adapters)]


# -- what things cost ---------------------------------------------------------------------------------------------


def training(
    adapters: int, layers: int = 2, batch: int = 2, dropout: float = 0.1, steps: int = 1, tokens: int = 2 * LENGTH
) -> dict[str, Any]:
    """Training steps in passes of so many tokens, on a card that is never full."""
    with meter("24gb", strict=False) as device:
        loop = JointTraining(
            base(layers), tasks(adapters, batch, steps), {}, study(dropout, batch), layout=Layout(tokens)
        )
        device.reset()
        loop.run()
        return device.counts()


def decoding(adapters: int, rows: int, tokens: int, layers: int = 2, temperature: float = 0.0) -> dict[str, Any]:
    """As many answers of every adapter, each of so many tokens, at once."""
    with meter("24gb", strict=False) as device, torch.no_grad():
        made = base(layers)
        model = StackedModel(made.model)
        stack = FrozenStack(ids(adapters), [Spec(16, 32)] * adapters, model.sites, made.device, made.dtype)
        settings = study(max_new_tokens=tokens, temperature=temperature, top_p=0.95).generation
        generator = Generator(made, model, stack, settings, stop_ids=frozenset())
        jobs = [Job(k, Question(f"p{i}", (5,) * 256), 0) for k in range(adapters) for i in range(rows)]
        device.reset()
        answers = list(generator.answer(jobs, adapters * rows))
        assert len(answers) == adapters * rows and {a.tokens for a in answers} == {tokens}
        return device.counts()


def costs() -> dict[str, Any]:
    """Launches and waits by what they are spent on, from runs that differ in it alone."""
    # Two passes; the same a layer deeper, a step longer, with two more passes.
    one, deeper = training(2), training(2, layers=3)
    longer, more = training(2, steps=2), training(2, batch=4)
    dry = [training(2, layers=n, dropout=0.0)["launches"] for n in (2, 3)]

    made = {key: decoding(2, *key[1:], layers=key[0]) for key in itertools.product((2, 3), (4,), (4, 8))}
    short, long, deep, deep_long = (made[key] for key in ((2, 4, 4), (2, 4, 8), (3, 4, 4), (3, 4, 8)))
    wide = decoding(2, 8, 4)
    sampled = [decoding(2, 4, n, temperature=0.8)["waits"] for n in (4, 8)]
    padded = [on_shadow.decoding("gemma2", rows, tokens)["waits"] for rows, tokens in ((3, 4), (3, 8), (5, 8))]
    return {
        "launches": {
            "training, a layer and pass": (deeper["launches"] - one["launches"]) / 2,
            "training without dropout": (dry[1] - dry[0]) / 2,
            "decoding, a layer and token": (
                deep_long["launches"] - long["launches"] - deep["launches"] + short["launches"]
            )
            / 4,
        },
        "waits": {
            "training, a step": longer["waits"] - one["waits"],
            "training, a pass": (more["waits"] - one["waits"]) / 2,
            "decoding, a token": (long["waits"] - short["waits"]) / 4,
            "decoding by sampling, a token": (sampled[1] - sampled[0]) / 4,
            "decoding, an answer": (wide["waits"] - short["waits"]) / 8,
            "decoding, a layer of a prefill": deep["waits"] - short["waits"],
            "padded decoding, a token": (padded[1] - padded[0]) / 4,
            "padded decoding, a row": padded[2] - padded[1],
        },
        "copies": {
            "training, a pass": (more["copies"] - one["copies"]) / 2,
            "decoding, a token": (long["copies"] - short["copies"]) / 4,
        },
        "decoding attention": list(short["where"]["attention"]),
    }


# -- what a card holds --------------------------------------------------------------------------------------------


def trained(card: str, adapters: int, shrinks: int = 0, wide: Sequence[int] = ()) -> dict[str, Any]:
    """The largest pass, and a step, as the stage plans them for steps of 16 samples.

    `shrinks`: bytes that other processes take between plan and run. `wide`: layers whose MLP computes in float32.
    """
    modules = tuple(f"model.layers.{layer}.mlp" for layer in wide)
    with meter(card) as device:
        settings = study()
        # As plan_parts and train_part do.
        shape = Shape(tiny.real_config(LAYERS), pick_dtype("auto", "cuda"), True, True, modules)
        plan = Plan(shape, settings, ids(adapters), LENGTH, 0)
        free = available_bytes(torch.device("cuda"))
        together = plan.together(training_budget("cuda", free, 1))
        plan = Plan(shape, settings, ids(adapters)[:together], LENGTH, 0)
        made = base(LAYERS, modules)
        free = available_bytes(made.device) + made.nbytes
        layout = plan.chosen(training_budget("cuda", free, 1), "cuda")
        device.card.taken += shrinks
        device.reset()
        loop = JointTraining(made, tasks(together, 1), {}, study(batch=1), layout=layout)
        loop.run(try_largest=True)
        return {
            "together": together,
            "layout": str(layout),
            "predicted": plan.peak(layout),
            "peak": device.peak,
            "free": device.card.memory - device.card.reserved - device.peak,
            "halvings": len(loop.halvings),
            "after halving": str(loop.layout),
            "attention": list(device.attention),
            "seconds": device.seconds,
        }


def answering(
    card: str, adapters: int, prompt: int = 500, tokens: int = 8192, shrinks: int = 0, wide: Sequence[int] = ()
) -> dict[str, Any]:
    """The widest decoding that the stage plans for so many checkpoints, tried as it does before it starts."""
    with meter(card) as device:
        made = base(LAYERS, [f"model.layers.{layer}.mlp" for layer in wide])
        model = StackedModel(made.model)
        settings = study(max_new_tokens=tokens).generation
        parameters = sum(site.inputs + site.outputs for site in model.sites) * 16
        needs = memory.Needs.of(
            made.model.config,
            made.dtype,
            parameters,
            prompt,
            tokens,
            sampled=False,
            float32_modules=made.float32_modules,
        )
        budget = memory.decoding_budget("cuda", available_bytes(made.device), 1, made.nbytes)
        plan = needs.plan(budget, adapters, 41, "cuda")
        device.card.taken += shrinks
        device.reset()
        while True:
            try:
                try_widest(made, model, settings, plan, prompt, 16)
                break
            except torch.OutOfMemoryError:
                smaller = plan.halved()
                assert smaller is not None
                plan = smaller
                device.reset()
        return {
            "adapters": plan.adapters,
            "rows": plan.rows,
            "predicted": made.nbytes + needs.peak(plan),
            "peak": device.peak,
            "free": device.card.memory - device.card.reserved - device.peak,
            "attention": list(device.attention),
        }


def quick() -> dict[str, Any]:
    """For every run of the tests: what things cost, and the published study and 163 checkpoints on a T4, on a base of
    which some modules compute in float32."""
    wide = (1, 2, 5, 26, 27)
    return {"costs": costs(), "trained": trained("t4", 2, wide=wide), "answering": answering("t4", 163, wide=wide)}
