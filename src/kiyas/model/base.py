"""The frozen base as transformers loads it, and the loss at its head.

Shapes: T tokens, D model width, V vocabulary, M labelled tokens.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from kiyas.data.chat import Chat
from kiyas.model import attention
from kiyas.model.device import pick_device, pick_dtype
from kiyas.types import KiyasError


@dataclass
class Base:
    """A frozen causal decoder. `packed` says whether samples may lie end to end (see attention.py)."""

    model: PreTrainedModel
    chat: Chat
    packed: bool
    plain_head: bool

    @classmethod
    def load(cls, path: str | Path, device: str = "auto", dtype: str = "auto") -> Base:
        """Loads a model folder. Raises KiyasError when it is absent, broken or not a causal language model."""
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        where = pick_device(device)
        folder = Path(path)
        if not (folder / "config.json").is_file():
            raise KiyasError(f"no model in {folder}: it holds no config.json")
        chat = Chat.load(folder)
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=pick_dtype(dtype, where), local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise KiyasError(f"cannot load the model in {folder}: {reason}") from error
        return cls.of(model.to(where), chat)

    @classmethod
    def of(cls, model: PreTrainedModel, chat: Chat) -> Base:
        """Wraps a loaded model: freezes it and finds out what its attention and head allow."""
        model.requires_grad_(False)
        model.eval()
        if model.device.type == "cuda":
            # Its graph cache is keyed by exact shapes: decoding would build a graph at nearly every token.
            torch.backends.cuda.enable_cudnn_sdp(False)
        base = cls(model, chat, packed=False, plain_head=False)
        base._probe()
        return base

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    @torch.no_grad()
    def _probe(self) -> None:
        """Compares the head alone, and packed attention, with the model's own logits on two short samples."""
        vocabulary = self.model.get_input_embeddings().num_embeddings
        generator = torch.Generator().manual_seed(0)
        first, second = (torch.randint(0, vocabulary, (1, n), generator=generator).to(self.device) for n in (11, 7))
        expected = torch.cat([self.model(input_ids=x).logits[0] for x in (first, second)]).float()
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.05
        scale = expected.abs().max().clamp(min=1e-6)

        def same(logits: Tensor) -> bool:
            return bool((logits.float() - expected).abs().max() <= tolerance * scale)

        hidden = torch.cat([self.model.base_model(input_ids=x).last_hidden_state[0] for x in (first, second)])
        head = self.model.get_output_embeddings()
        self.plain_head = isinstance(head, nn.Linear) and same(head(hidden))

        own = self.model.config._attn_implementation
        attention.register()
        index = torch.arange(18, device=self.device)
        slots = torch.cat([index, torch.full((4,), 11, device=self.device)])
        layout = attention.Packed(slots, index, [(2, 11)])
        ids = torch.cat([first, second], 1)
        positions = torch.cat([torch.arange(11), torch.arange(7)])[None].to(self.device)
        with contextlib.suppress(attention.UnsupportedError, ValueError, TypeError):
            self.model.set_attn_implementation(attention.NAME)
            if self.model.config._attn_implementation == attention.NAME:
                self.packed = same(self.logits(self.hidden(ids, positions, None, layout)))
        if not self.packed:
            self.model.set_attn_implementation(own)

    def hidden(
        self, ids: Tensor, positions: Tensor, attention_mask: Tensor | None, layout: attention.Layout | None
    ) -> Tensor:
        """Last hidden states, flattened to [rows·T, D] (or logits [rows·T, V] where the head is not plain)."""
        with attention.using(layout) if layout is not None else contextlib.nullcontext():
            arguments = {"input_ids": ids, "attention_mask": attention_mask, "use_cache": False}
            if layout is not None:
                arguments["position_ids"] = positions
            if self.plain_head:
                output: Tensor = self.model.base_model(**arguments).last_hidden_state
            else:
                output = self.model(**arguments).logits
        return output.flatten(0, 1)

    def logits(self, hidden: Tensor) -> Tensor:
        """[N, D] from `hidden` → [N, V]."""
        return self.model.get_output_embeddings()(hidden) if self.plain_head else hidden

    def losses(self, hidden: Tensor, label_index: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of M labelled tokens, float32 [M], from `hidden` [N, D].

        With a plain head [M, V] never exists whole.
        """
        selected = hidden.index_select(0, label_index)
        if not self.plain_head:
            return nn.functional.cross_entropy(selected.float(), target, reduction="none")
        head = self.model.get_output_embeddings()
        result: Tensor = HeadLoss.apply(selected, head.weight, head.bias, target)  # type: ignore[no-untyped-call]
        return result

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer when decoding."""
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        more = configured if isinstance(configured, list) else [configured]
        return frozenset(i for i in (self.chat.end_of_turn, self.chat.tokenizer.eos_token_id, *more) if i is not None)


class HeadLoss(torch.autograd.Function):
    """Cross-entropy of [M, D] against a frozen head [V, D] without ever holding [M, V].

    The head does not learn, so the only gradient is that of the hidden states, found chunk by chunk in the
    forward pass (the idea of Liger Kernel's fused linear cross-entropy, Hsu et al. 2024, in plain torch).
    """

    CHUNK_BYTES = 2**26

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor) -> Tensor:
        rows = max(1, HeadLoss.CHUNK_BYTES // (4 * weight.shape[0]))
        losses = torch.empty(hidden.shape[0], device=hidden.device)
        wanted = hidden.requires_grad
        gradient = torch.empty_like(hidden) if wanted else None
        for start in range(0, hidden.shape[0], rows):
            part = slice(start, start + rows)
            logits = nn.functional.linear(hidden[part], weight, bias).float()
            top = torch.logsumexp(logits, 1)
            losses[part] = top - logits.gather(1, target[part, None])[:, 0]
            if gradient is not None:
                probability = logits.sub_(top[:, None]).exp_()
                probability[torch.arange(probability.shape[0], device=hidden.device), target[part]] -= 1
                gradient[part] = probability.to(weight.dtype) @ weight
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad[:, None].to(gradient.dtype), None, None, None
