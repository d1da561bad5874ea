"""Tiny random models of several families, a tiny tokenizer, and samples: what the tests train on."""

from __future__ import annotations

import copy
import random
import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoConfig,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from kiyas.data.chat import Chat
from kiyas.model.base import Base
from kiyas.types import TokenizedExample

VOCABULARY = 300
END = 257
STOPS = [END, *range(7, 250, 12)]  # several, as instruct models have, so that answers end
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "eos_token_id": END,
    "pad_token_id": END,
}
CONFIGS = {
    "qwen2": Qwen2Config(**_SHAPE, tie_word_embeddings=True),
    "llama": LlamaConfig(**_SHAPE),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=512,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=END,
    ),
    # Layers that see only the last 8 tokens, between layers that see all.
    "gemma3": Gemma3TextConfig(**_SHAPE, head_dim=8, sliding_window=8, sliding_window_pattern=2),
    # Soft-capped attention and logits: the packed layout does not do that, nor is the head plain.
    "gemma2": Gemma2Config(**_SHAPE, head_dim=8, attn_logit_softcapping=3.0, final_logit_softcapping=5.0),
    # No attention interface; learned positions, which left padding shifts.
    "gpt_neo": GPTNeoConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=8,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=END,
    ),
    # No attention interface; ALiBi.
    "bloom": BloomConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        n_layer=2,
        n_head=4,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=END,
    ),
}
PACKED = ("qwen2", "llama", "gpt2", "gemma3")

CHATML = (
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor -%}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif -%}"
)


def real_config(layers: int = 28, **more: Any) -> Qwen2Config:
    """The shape of Qwen2.5-Coder-1.5B."""
    return Qwen2Config(
        vocab_size=151_936,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=layers,
        num_attention_heads=12,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        **more,
    )


def model(family: str, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[family])).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # spread the logits: a fresh model is nearly flat
            if parameter.dim() > 1:
                parameter.normal_(0, 0.12)
    made.generation_config.eos_token_id = STOPS
    return made


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, ChatML, pad = eos (the trap)."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=core)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.eos_token = made.pad_token = "<|im_end|>"
    made.chat_template = CHATML
    assert made.eos_token_id == END
    return made


def base(family: str = "qwen2", seed: int = 0) -> Base:
    return Base.of(model(family, seed), Chat(tokenizer(), "tiny"))


def save(folder: Path, family: str = "qwen2", seed: int = 0) -> Path:
    """A model folder as people have them."""
    model(family, seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def samples(count: int, seed: int, longest: int = 30) -> list[TokenizedExample]:
    """Samples with something to learn: the completion counts on from the prompt's last token."""
    noise = random.Random(seed)
    made = []
    for _ in range(count):
        prompt = [noise.randrange(250) for _ in range(noise.randrange(3, longest // 2))]
        answer = [(prompt[-1] + i) % 250 for i in range(1, noise.randrange(2, longest // 2))]
        made.append(TokenizedExample((*prompt, *answer, END), len(prompt)))
    return made


def with_real_vocabulary(folder: Path, tokenizer: Path) -> None:
    """Saves Qwen's real architecture and vocabulary with two small layers of random weights, and its tokenizer."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        eos_token_id=151_645,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for file in tokenizer.iterdir():
        shutil.copy(file, folder / file.name)
