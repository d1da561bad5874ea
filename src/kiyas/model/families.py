"""Which families of models can be a base: causal decoders with attention, and a cache of keys and values."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from kiyas.model.meter import read_config
from kiyas.types import KiyasError

_OTHER = "choose a base with attention in its layers, such as Qwen, Llama, Gemma, Mistral or GPT-NeoX"


def refuse_other(folder: Path) -> None:
    """Raises KiyasError for a base that Kıyas cannot train and decode: not a decoder, or without attention."""
    config = read_config(folder)
    try:
        found: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    except KeyError:
        raise KiyasError(
            f"{folder}: {config.model_type} is not a causal language model, which answers from left to right", _OTHER
        ) from None
    cls = found[0] if isinstance(found, tuple) else found
    arguments = inspect.signature(cls.forward).parameters
    text = config.get_text_config()
    if not getattr(text, "num_attention_heads", None) or not {"cache", "past_key_values"} & set(arguments):
        raise KiyasError(
            f"{folder}: {cls.__name__} keeps its memory of a text in a state of its own, not in attention: Kıyas "
            "cannot train adapters for it, nor decode with it",
            _OTHER,
        )
