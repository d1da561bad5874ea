"""The model of the real study, Qwen2.5-Coder-1.5B, on the meter: memory, launches and waits. Runs in a process with
the guard: see child.py. Cards are those of `stand_in.CARDS`; what does not fit is counted all the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import on_shadow
import stand_in
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

import tiny
from kiyas.data.chat import Chat
from kiyas.generate.decoder import Generator
from kiyas.generate.work import Job, Question
from kiyas.model.adapters import AdapterStack, Spec, StackedModel
from kiyas.model.base import Base
from kiyas.study.settings import Study
from kiyas.train.loop import JointTraining, Task
from kiyas.types import AdapterId, TokenizedExample

LAYERS = 28


def base(layers: int, dtype: str) -> Base:
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=layers,
        num_attention_heads=12,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    made = Base.of(model.to("cuda"), Chat(tiny.tokenizer(), "tiny"))
    assert made.packed and made.plain_head
    return made


def study(dropout: float, batch: int, tokens: int | None, **generation: Any) -> Study:
    return Study.model_validate(
        {
            "name": "t",
            "model_name_or_path": "practice",
            "arms": {"a": {"dataset_name": "practice/deep"}, "b": {"dataset_name": "practice/diverse"}},
            "peft": {"r": 16, "lora_alpha": 32, "lora_dropout": dropout},
            "training": {
                "budget": {"steps": 1},
                "effective_batch_size": batch,
                "learning_rate": 2e-4,
                "max_tokens_per_pass": tokens,
            },
            "generation": generation,
        }
    )


def meter(card: str) -> stand_in.Device:
    return stand_in.Device(replace(stand_in.CARDS[card], strict=False), numbers=False)


def training(
    adapters: int,
    layers: int = 2,
    length: int = 1024,
    batch: int = 16,
    dropout: float = 0.1,
    dtype: str = "bfloat16",
    card: str = "24gb",
    steps: int = 1,
    pass_tokens: int | None = None,
) -> dict[str, Any]:
    """Training steps of so many adapters, of samples of one length, half of it labelled; passes as large as the card
    allows, or of so many tokens."""
    sample = TokenizedExample((5,) * length, length // 2)
    tasks = [Task(AdapterId("ab"[k % 2], "", k // 2), [sample] * batch, steps) for k in range(adapters)]
    with meter(card) as device:
        made = base(layers, dtype)
        weights = device.live
        loop = JointTraining(made, tasks, {}, study(dropout, batch, pass_tokens))
        before = device.live
        device.reset()
        loop.run()
        return {"weights": weights, "adapters": before - weights, **device.counts()}


def decoding(
    adapters: int,
    rows: int,
    tokens: int,
    layers: int = 2,
    prompt: int = 256,
    temperature: float = 0.0,
    dtype: str = "bfloat16",
    card: str = "24gb",
) -> dict[str, Any]:
    """As many answers of every adapter, each of so many tokens, at once."""
    with meter(card) as device, torch.no_grad():
        made = base(layers, dtype)
        model, weights = StackedModel(made.model), device.live
        ids = [AdapterId("a", "", 0, k) for k in range(adapters)]
        stack = AdapterStack(ids, [Spec(16, 32)] * adapters, model.sites, made.device)
        before = device.live
        settings = study(0.0, 1, None, max_new_tokens=tokens, temperature=temperature, top_p=0.95).generation
        generator = Generator(made, model, stack, settings, stop_ids=frozenset())
        jobs = [Job(k, Question(f"p{i}", (5,) * prompt), 0) for k in range(adapters) for i in range(rows)]
        device.reset()
        answers = list(generator.answer(jobs, adapters * rows))
        assert len(answers) == adapters * rows and {a.tokens for a in answers} == {tokens}
        return {"weights": weights, "adapters": before - weights, **device.counts()}


def everything() -> dict[str, Any]:
    """Launches and waits by what they are spent on, from runs that differ in it alone; peaks of two depths."""
    one = {"batch": 2, "pass_tokens": 2 * 1024}  # two passes
    base, deeper, longer = training(2, **one), training(2, layers=3, **one), training(2, steps=2, **one)
    more = training(2, batch=4, pass_tokens=2 * 1024)
    dry = [training(2, layers=n, dropout=0.0, **one)["launches"] for n in (2, 3)]
    a_pass = (more["waits"] - base["waits"]) / 2

    short, deep = decoding(2, 4, 4), decoding(2, 4, 4, layers=3)
    long, deep_long, wide = decoding(2, 4, 8), decoding(2, 4, 8, layers=3), decoding(2, 8, 4)
    padded = [on_shadow.decoding("gpt_neo", rows, tokens)["waits"] for rows, tokens in ((3, 4), (3, 8), (5, 4), (5, 8))]
    padded_row = (padded[3] - padded[2] - padded[1] + padded[0]) / (2 * 4)
    return {
        "launches": {
            "training, a layer and pass": (deeper["launches"] - base["launches"]) / 2,
            "training without dropout": (dry[1] - dry[0]) / 2,
            "decoding, a layer and token": (
                deep_long["launches"] - long["launches"] - deep["launches"] + short["launches"]
            )
            / 4,
        },
        "waits": {
            "training, a step": longer["waits"] - base["waits"] - 2 * a_pass,
            "training, a pass": a_pass,
            "decoding, a token": (long["waits"] - short["waits"]) / 4,
            "decoding, an answer": (wide["waits"] - short["waits"]) / 8,
            "decoding, a layer of a prefill": deep["waits"] - short["waits"],
            "padded decoding, a token": (padded[1] - padded[0]) / 4 - 3 * padded_row,
            "padded decoding, a row and token": padded_row,
        },
        "peak": {k: [training(k, layers=n, batch=1, pass_tokens=k * 1024)["peak"] for n in (2, 3)] for k in (2, 9, 54)},
        "decoding attention": list(short["where"]["attention"]),
    }
