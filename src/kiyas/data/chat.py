"""The chat's text as tokens: prompt, completion, end of turn. Needs the tokenizer only, not the model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import AutoTokenizer

from kiyas.types import KiyasError


@dataclass
class Chat:
    """A tokenizer and its chat template."""

    tokenizer: Any
    path: str

    @classmethod
    def load(cls, path: str | Path) -> Chat:
        """Raises KiyasError when the folder has no usable tokenizer."""
        try:
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise KiyasError(f"cannot load the tokenizer in {path}: {reason}") from error
        # A missing vocabulary file gives an empty tokenizer without any complaint.
        if len(tokenizer) < 3 or not tokenizer("print(1)", add_special_tokens=False)["input_ids"]:
            raise KiyasError(f"the tokenizer in {path} is empty: its vocabulary files are missing")
        return cls(tokenizer, str(path))

    @cached_property
    def end_of_turn(self) -> int:
        """The token that ends an answer: what the chat template puts after the assistant's words, else eos."""
        if self.tokenizer.chat_template:
            marker = "kiyas-marker"
            turn = [{"role": "user", "content": "x"}, {"role": "assistant", "content": marker}]
            text = self.tokenizer.apply_chat_template(turn, tokenize=False)
            ids = self.tokenizer(text.rpartition(marker)[2], add_special_tokens=False)["input_ids"]
            if ids and ids[0] in self.tokenizer.added_tokens_decoder:
                return int(ids[0])
        if self.tokenizer.eos_token_id is None:
            raise KiyasError(f"the tokenizer in {self.path} has no end-of-turn token (eos_token)")
        return int(self.tokenizer.eos_token_id)

    def prompt_ids(self, prompt: str, system: str | None) -> list[int]:
        """The chat up to where the assistant starts to speak."""
        if not self.tokenizer.chat_template:
            text = (f"{system}\n\n" if system else "") + prompt + "\n"
            return list(self.tokenizer(text)["input_ids"])
        messages = [{"role": "system", "content": system}] if system is not None else []
        messages.append({"role": "user", "content": prompt})
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise KiyasError(
                f"the chat template in {self.path} refuses this chat: {error}",
                "some templates do not support a system role: leave dataset.system out",
            ) from error
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def completion_ids(self, completion: str) -> list[int]:
        """The answer and the end-of-turn token, which is learned whatever the pad token is."""
        return [*self.tokenizer(completion, add_special_tokens=False)["input_ids"], self.end_of_turn]

    def text(self, ids: list[int]) -> str:
        """An answer's tokens as text, without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))
