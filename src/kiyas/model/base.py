"""The frozen base as transformers loads it, and the loss at its head.

Shapes: T tokens, D model width, V vocabulary, M labelled tokens.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging as transformers_logging

from kiyas.data import model_files
from kiyas.data.chat import Chat
from kiyas.model import attention, half, quantized
from kiyas.model.device import in_words, pick_device, pick_dtype
from kiyas.types import KiyasError


@dataclass
class Base:
    """A frozen causal decoder. `packed` says whether samples may lie end to end (see attention.py)."""

    model: PreTrainedModel
    chat: Chat
    packed: bool
    plain_head: bool
    float32_modules: tuple[str, ...] = ()
    """in float16: the modules that compute in float32, since float16's range is too small for them"""

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str = "auto",
        dtype: str = "auto",
        float32_modules: Sequence[str] | None = None,
        load_in_4bit: bool = False,
    ) -> Base:
        """Loads a model folder. Raises KiyasError when it is absent, broken or not a causal language model."""
        where = pick_device(device)
        folder = Path(path)
        if not (folder / "config.json").is_file():
            raise KiyasError(f"no model in {folder}: it holds no config.json")
        chat = Chat.load(folder)
        model = load_model(folder, where, pick_dtype(dtype, where), load_in_4bit)
        return cls.of(model, chat, float32_modules)

    @classmethod
    def of(cls, model: PreTrainedModel, chat: Chat, float32_modules: Sequence[str] | None = None) -> Base:
        """Wraps a loaded model: freezes it and finds out what its attention and head allow.

        `float32_modules`: in float16, what computes in float32 all the same; None: what a short probe finds.
        """
        model.requires_grad_(False)
        model.eval()
        if model.device.type == "cuda":
            # Its graph cache is keyed by exact shapes: decoding would build a graph at nearly every token.
            torch.backends.cuda.enable_cudnn_sdp(False)
        base = cls(model, chat, packed=False, plain_head=False)
        if base.dtype == torch.float16:
            base._probe_half(float32_modules)
        else:
            base._probe(contextlib.nullcontext())
        return base

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        """What its linear layers compute in, but for those that float16's range is too small for."""
        dtype = self.model.get_input_embeddings().weight.dtype
        assert isinstance(dtype, torch.dtype)
        return dtype

    @property
    def load_in_4bit(self) -> bool:
        """Whether its linear layers are kept in 4 bits."""
        return any(isinstance(module, quantized.Linear4bit) for module in self.model.modules())

    @property
    def parameters(self) -> int:
        """Its weights, however they are kept."""
        packed = (module for module in self.model.modules() if isinstance(module, quantized.Linear4bit))
        return int(self.model.num_parameters()) + sum(module.in_features * module.out_features for module in packed)

    @property
    def nbytes(self) -> int:
        """Of its weights."""
        return sum(each.nbytes for each in {*self.model.parameters(), *self.model.buffers()})

    @property
    def can_recompute(self) -> bool:
        return any(isinstance(module, GradientCheckpointingLayer) for module in self.model.modules())

    def recompute(self, on: bool) -> None:
        """Whether each layer's activations are computed again in the backward pass, or kept."""
        for module in self.model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                # In training mode the layer checkpoints itself; what is inside it stays in evaluation mode.
                module.gradient_checkpointing = module.training = on
                module._gradient_checkpointing_func = _recompute

    @torch.no_grad()
    def _probe_half(self, float32_modules: Sequence[str] | None) -> None:
        """Probes a float16 base, whose reference is itself in float32. Raises KiyasError if float16 cannot hold it."""
        hooks = half.prepare(self.model)
        if float32_modules is None:
            first, second = self._probe_samples()
            self.compute_in_float32(self.out_of_range([*first.tolist(), *second.tolist()]))
        else:
            self.compute_in_float32(float32_modules)
        self._probe(half.as_float32(self.model))
        if not self.packed:  # its own attention takes one type only
            for hook in hooks:
                hook.remove()
            if self.float32_modules:
                raise KiyasError(
                    f"{type(self.model).__name__} leaves float16's range in {self.float32_modules[0]}",
                    "set training.dtype=float32",
                )
            half.narrow(self.model)
            own = torch.cat([self.model(input_ids=x).logits[0] for x in self._probe_samples()])
            self._refuse_infinite(own, "set training.dtype=float32")

    def compute_in_float32(self, modules: Sequence[str]) -> None:
        """In float16: gives the linear layers of these modules float32 weights."""
        half.widen(self.model, modules)
        self.float32_modules = tuple(sorted({*self.float32_modules, *modules}))

    @torch.no_grad()
    def out_of_range(self, samples: Sequence[Sequence[int]]) -> tuple[str, ...]:
        """Names of the modules whose values come near the end of float16's range on these samples, found in float32."""
        largest: dict[str, float] = {}

        def see(name: str, value: float) -> None:
            if not value <= largest.get(name, 0.0):  # so that NaN is kept
                largest[name] = value

        own = self.model.config._attn_implementation
        if self.packed:
            self.model.set_attn_implementation("sdpa")
        try:
            with half.as_float32(self.model, see):
                for sample in samples:
                    ids = torch.tensor([sample], device=self.device)
                    self.model.base_model(input_ids=ids, use_cache=False)
        finally:
            self.model.set_attn_implementation(own)
        for name, value in largest.items():
            if not math.isfinite(value):
                raise KiyasError(f"{name} gives {value}, in float32 too: the base model's weights are broken")
        return tuple(name for name, value in largest.items() if value > half.LIMIT)

    def _probe_samples(self) -> tuple[Tensor, Tensor]:
        vocabulary = self.model.get_input_embeddings().num_embeddings
        generator = torch.Generator().manual_seed(0)
        first, second = (torch.randint(0, vocabulary, (1, n), generator=generator).to(self.device) for n in (11, 7))
        return first, second

    @torch.no_grad()
    def _probe(self, reference: contextlib.AbstractContextManager[None]) -> None:
        """Compares the head alone, and packed attention, with the model's own logits on two short samples.

        Inside `reference` the model computes what is compared with. Raises KiyasError when that is not finite.
        """
        first, second = self._probe_samples()
        with reference:
            expected = torch.cat([self.model(input_ids=x).logits[0] for x in (first, second)]).float()
            hidden = torch.cat([self.model.base_model(input_ids=x).last_hidden_state[0] for x in (first, second)])
            head = self.model.get_output_embeddings()
            logits = head(hidden) if isinstance(head, nn.Linear) else None
        self._refuse_infinite(expected, "are its weights whole? Else try training.dtype=float32")
        tolerance = 1e-3 if self.dtype == torch.float32 else 0.05
        scale = expected.abs().max().clamp(min=1e-6)

        def same(logits: Tensor) -> bool:
            return bool((logits.float() - expected).abs().max() <= tolerance * scale)

        self.plain_head = logits is not None and same(logits)

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
                found = self.logits(self.hidden(ids, positions, None, layout))
                self._refuse_infinite(found, "set training.dtype=float32")
                self.packed = same(found)
        if not self.packed:
            self.model.set_attn_implementation(own)

    def _refuse_infinite(self, logits: Tensor, hint: str) -> None:
        if not bool(logits.isfinite().all()):
            dtype = str(self.dtype).removeprefix("torch.")
            raise KiyasError(f"{type(self.model).__name__} gives logits that are not numbers in {dtype}", hint)

    def hidden(
        self, ids: Tensor, positions: Tensor, attention_mask: Tensor | None, layout: attention.Layout | None
    ) -> Tensor:
        """Last hidden states, flattened to [rows·T, D] (or logits [rows·T, V] where the head is not plain)."""
        with attention.using(layout):
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

    def losses(self, hidden: Tensor, label_index: Tensor, target: Tensor, scale_M: Tensor | None = None) -> Tensor:
        """Cross-entropy of M labelled tokens, float32 [M], from `hidden` [N, D].

        With a plain head [M, V] never exists whole. `scale_M` multiplies the gradients, not the losses: in float32,
        before anything is rounded to half precision.
        """
        selected = hidden.index_select(0, label_index)
        if not self.plain_head:
            loss = nn.functional.cross_entropy(selected.float(), target, reduction="none")
            return loss if scale_M is None else loss.detach() + (loss - loss.detach()) * scale_M
        head = self.model.get_output_embeddings()
        result: Tensor = HeadLoss.apply(selected, head.weight, head.bias, target, scale_M)  # type: ignore[no-untyped-call]
        return result

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer when decoding."""
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        more = configured if isinstance(configured, list) else [configured]
        return frozenset(i for i in (self.chat.end_of_turn, self.chat.tokenizer.eos_token_id, *more) if i is not None)


def load_model(folder: Path, device: torch.device, dtype: torch.dtype, load_in_4bit: bool = False) -> PreTrainedModel:
    """A model folder as transformers loads it, and nothing else from it or from elsewhere. Raises KiyasError."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    in_4bit = quantized.loading(dtype, device) if load_in_4bit else {}
    try:
        quantized.refuse_quantised(folder)
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            config=model_files.with_own_ways(config, folder),
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_kernels=False,
            weights_only=True,
            **in_4bit,
        )
    except KiyasError:
        raise
    except Exception as error:  # whatever a stranger's files make of the libraries that read them
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise in_words(error) or KiyasError(f"cannot load the model in {folder}: {reason}") from error
    return quantized.adopt(model) if load_in_4bit else model.to(device)


def _recompute(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    return checkpoint(
        function, *arguments, use_reentrant=False, preserve_rng_state=False, determinism_check="none", **named
    )


class HeadLoss(torch.autograd.Function):
    """Cross-entropy of [M, D] against a frozen head [V, D] without ever holding [M, V].

    The head does not learn, so the only gradient is that of the hidden states, found chunk by chunk in the
    forward pass (the idea of Liger Kernel's fused linear cross-entropy, Hsu et al. 2024, in plain torch).
    """

    CHUNK_BYTES = 2**26

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, scale_M: Tensor | None
    ) -> Tensor:
        rows = max(1, HeadLoss.CHUNK_BYTES // (4 * weight.shape[0]))
        losses = torch.empty(hidden.shape[0], device=hidden.device)
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if wanted else None
        for start in range(0, hidden.shape[0], rows):
            part = slice(start, start + rows)
            logits = nn.functional.linear(hidden[part].to(weight.dtype), weight, bias).float()
            top = torch.logsumexp(logits, 1)
            losses[part] = top - logits.gather(1, target[part, None])[:, 0]
            if gradient is not None:
                probability = logits.sub_(top[:, None]).exp_()
                probability[torch.arange(probability.shape[0], device=hidden.device), target[part]] -= 1
                if scale_M is not None:
                    probability *= scale_M[part, None]
                gradient[part] = probability.to(weight.dtype) @ weight
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad[:, None].to(gradient.dtype), None, None, None, None
