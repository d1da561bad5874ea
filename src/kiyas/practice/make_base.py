"""Rebuild the practice base model from nothing: `python -m kiyas.practice.make_base --out FOLDER`.

Theory of operation. A byte-level BPE tokenizer is fitted to texts of the whole practice world, so that no arm
meets a word without a token. A small Qwen2 model is then trained from random weights on the narrow world plus
one per cent of the full one (without that grain some tokens would never be seen, and their embeddings, which
LoRA does not touch, would stay random). It ends as a model that writes well-formed programs and solves the
simpler part of the benchmark: there is something left to learn, and something to forget.

Same seed, same data and same order. The weights come out equal on one machine with one set of versions;
elsewhere they are only close. Takes six to eight minutes on one CPU thread.

Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from kiyas.judge import Program, extract, judge, problem_from_row
from kiyas.practice.worlds import FULL_SHARE_OF_BASE, base_examples, benchmark, vocabulary_texts

POSITIONS = 512
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
# How Qwen cuts text before merging: words, single digits, punctuation with its line end. transformers gives
# any tokenizer next to a Qwen2 model exactly this rule, so ours must have it too.
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Recipe:
    """How the shipped model was made."""

    seed: int = 0
    vocabulary: int = 640
    vocabulary_examples: int = 8_000
    hidden_size: int = 96
    layers: int = 3
    heads: int = 4
    key_value_heads: int = 2
    mlp_size: int = 256
    examples: int = 56_000
    batch_size: int = 16
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    final_share: float = 0.05
    """Learning rate at the end of the cosine, as a share of its peak."""
    prompt_weight: float = 0.1
    """Weight of a prompt token's loss against a completion token's."""
    sort_window: int = 16
    """Batches are cut from this many at once, sorted by length: little padding."""

    @property
    def steps(self) -> int:
        return self.examples // self.batch_size

    def rate(self, step: int) -> float:
        """Linear warm-up, then cosine down to `final_share`."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * (self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * done)))


def make_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits and ChatML; `<|endoftext|>` pads, `<|im_end|>` ends a turn."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    roles = ["user\n", "assistant\n", "system\n"] * recipe.vocabulary_examples
    bpe.train_from_iterator([*vocabulary_texts(recipe.vocabulary_examples, recipe.seed), *roles], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        clean_up_tokenization_spaces=False,
        model_max_length=POSITIONS,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def chat(tokenizer: Any, prompt: str) -> str:
    """The text up to where the answer begins."""
    messages = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def encode(tokenizer: Any, prompt: str, completion: str) -> tuple[list[int], int]:
    """Token ids of one conversation up to its end of turn, and how many of them are prompt."""
    head_ids = tokenizer(chat(tokenizer, prompt), add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer(completion + END, add_special_tokens=False)["input_ids"]
    return head_ids + answer_ids, len(head_ids)


def batches(recipe: Recipe, tokenizer: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
    """(tokens_BT, weights_BT, completion tokens), padded on the right; weights are 0 on padding."""
    rng = Random(f"kiyas.practice/batches/{recipe.seed}")
    window: list[tuple[list[int], int]] = []
    for _, prompt, completion in base_examples(recipe.steps * recipe.batch_size, recipe.seed):
        window.append(encode(tokenizer, prompt, completion))
        if len(window) == recipe.sort_window * recipe.batch_size:
            yield from _cut(recipe, tokenizer.pad_token_id, window, rng)
            window = []
    yield from _cut(recipe, tokenizer.pad_token_id, window, rng)


def _cut(
    recipe: Recipe, pad: int, window: list[tuple[list[int], int]], rng: Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
    window = sorted(window, key=lambda row: len(row[0]))
    groups = [window[i : i + recipe.batch_size] for i in range(0, len(window), recipe.batch_size)]
    rng.shuffle(groups)
    for rows in groups:
        width = max(len(ids) for ids, _ in rows)
        tokens = [ids + [pad] * (width - len(ids)) for ids, _ in rows]
        weights = [
            [recipe.prompt_weight] * head + [1.0] * (len(ids) - head) + [0.0] * (width - len(ids)) for ids, head in rows
        ]
        yield torch.tensor(tokens), torch.tensor(weights), sum(len(ids) - head for ids, head in rows)


def make_model(recipe: Recipe, tokenizer: Any) -> Qwen2ForCausalLM:
    """The untrained model, in float32."""
    torch.manual_seed(recipe.seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.key_value_heads,
        intermediate_size=recipe.mlp_size,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        use_cache=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model


def pretrain(recipe: Recipe, tokenizer: Any, model: Any) -> dict[str, float]:
    """Train in place. Returns the mean completion loss of the last 5 % of the steps, tokens and seconds."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay
    )
    model.train()
    started, tokens, losses = time.perf_counter(), 0, []
    for step, (tokens_BT, weights_BT, answered) in enumerate(batches(recipe, tokenizer)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        # Padding is on the right, where causal attention cannot see it: no mask is needed.
        logits_BTV = model(input_ids=tokens_BT, use_cache=False).logits[:, :-1]
        loss_N = torch.nn.functional.cross_entropy(
            logits_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten(), reduction="none"
        )
        weight_N = weights_BT[:, 1:].flatten()
        loss = (loss_N * weight_N).sum() / weight_N.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float((loss_N.detach() * (weight_N == 1)).sum()) / answered)
        tokens += int((weights_BT > 0).sum())
        if (step + 1) % 100 == 0 or step + 1 == recipe.steps:
            recent = sum(losses[-100:]) / len(losses[-100:])
            seconds = time.perf_counter() - started
            print(
                f"step {step + 1}/{recipe.steps}  loss {recent:.4f}  {seconds:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    last = losses[-max(1, len(losses) // 20) :]
    return {
        "final_completion_loss": round(sum(last) / len(last), 4),
        "tokens": tokens,
        "seconds": round(time.perf_counter() - started, 1),
    }


def answers(model: Any, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int = 160) -> list[str]:
    """Greedy answers to all prompts as one left-padded batch."""
    heads = [chat(tokenizer, prompt) for prompt in prompts]
    batch = tokenizer(heads, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    model.eval()
    with torch.no_grad():
        out_BT = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=max_new_tokens,
        )
    answered_BT = out_BT[:, batch["input_ids"].shape[1] :]
    return [text.removesuffix(PAD) for text in tokenizer.batch_decode(answered_BT, skip_special_tokens=True)]


def measure(model: Any, tokenizer: Any, count: int = 41) -> dict[str, int]:
    """How many of the default benchmark's programs end with which verdict."""
    problems = [problem_from_row(row, "kiyas") for row in benchmark(count)]
    texts = answers(model, tokenizer, [problem.statement for problem in problems])
    asked = zip(problems, texts, strict=True)
    programs = [Program(problem.id, extract(text, problem.entry_point).program) for problem, text in asked]
    # Our own programs: the best isolation that holds on this machine will do.
    found = Counter(verdict.verdict.value for verdict in judge(programs, problems, isolation="best"))
    return dict(sorted(found.items()))


def make(out: Path, recipe: Recipe, threads: int) -> dict[str, Any]:
    """Write the whole folder; returns what is in its provenance.json."""
    torch.set_num_threads(threads)
    tokenizer = make_tokenizer(recipe)
    model = make_model(recipe, tokenizer)
    trained = pretrain(recipe, tokenizer, model)
    model = model.to(torch.bfloat16)
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    # Measured as it will be used: rounded to bfloat16, loaded again, computed in float32.
    loaded = Qwen2ForCausalLM.from_pretrained(out, dtype=torch.float32)
    verdicts = measure(loaded, tokenizer)
    weights = (out / "model.safetensors").read_bytes()
    provenance = {
        "made_by": "python -m kiyas.practice.make_base",
        "recipe": asdict(recipe),
        "threads": threads,
        "data": f"kiyas.practice narrow world, {FULL_SHARE_OF_BASE:.0%} of the examples from the full world",
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
        **trained,
        "benchmark_41": verdicts,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "license": "Apache-2.0",
        "sha256": {
            "model.safetensors": hashlib.sha256(weights).hexdigest(),
            "tokenizer.json": hashlib.sha256((out / "tokenizer.json").read_bytes()).hexdigest(),
        },
    }
    (out / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    return provenance


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(prog="python -m kiyas.practice.make_base", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--examples", type=int, default=Recipe.examples, help="fewer for a quick try")
    given = parser.parse_args(arguments)
    recipe = Recipe(seed=given.seed, examples=given.examples)
    print(json.dumps(make(given.out, recipe, given.threads), indent=2))


if __name__ == "__main__":
    main()
