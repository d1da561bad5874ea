"""What a tokenizer and its chat template do by themselves, which two trainers seldom do alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiyas.data.chat import Chat, UnfitTemplateError
from kiyas.data.model_files import read_settings

_SYSTEM, _USER = "kiyas-system", "kiyas-user"


@dataclass(frozen=True)
class ChatFacts:
    """The chat of the base model."""

    template: bool
    """whether there is a chat template at all"""
    system_prompt: str | None
    """what every chat of the study begins with (dataset.system)"""
    system_refused: bool
    """the template raises an error for a system role"""
    system_ignored: bool
    """the template silently drops a system message"""
    default_system: str
    """what the template inserts where no system message is given"""
    end_of_turn: str
    """token that ends an answer"""
    pad_is_end: bool
    """the padding token is the end of turn: a trainer that masks padding never teaches to stop"""
    appends: str
    """what the tokenizer puts behind a text by itself, where there is no template: it would end the prompt"""
    unopened: bool
    """the template does not open the assistant's turn: it ignores add_generation_prompt"""
    prompt_ends: bool
    """the prompt ends with the token that ends an answer"""
    reads_clock: bool
    """the template writes the date or the time"""
    stop_tokens: tuple[str, ...]
    """tokens that end an answer by the model's own configuration; Kıyas adds the end of turn"""

    @property
    def end_stops(self) -> bool:
        return self.end_of_turn in self.stop_tokens


def chat_facts(chat: Chat, folder: Path, system: str | None) -> ChatFacts:
    """Looks at the tokenizer and the configuration in the base's folder."""
    token = chat.tokenizer.convert_ids_to_tokens
    stops = {chat.tokenizer.eos_token_id, *_configured_stops(folder)} - {None}
    with_system, refused = _rendered(chat, [("system", _SYSTEM), ("user", _USER)])
    bare, _ = _rendered(chat, [("user", _USER)])
    given = [*([("system", system)] if system is not None else []), ("user", "x")]
    prompt, _ = _rendered(chat, given, open_answer=True)
    ids = chat.prompt_ids("x", system)
    return ChatFacts(
        template=bool(chat.tokenizer.chat_template),
        system_prompt=system,
        system_refused=refused,
        system_ignored=not refused and bool(with_system) and _SYSTEM not in with_system,
        default_system=_inserted(bare, with_system),
        end_of_turn=str(token(chat.end_of_turn)),
        pad_is_end=chat.tokenizer.pad_token_id == chat.end_of_turn,
        appends=str(chat.tokenizer.decode(chat.appended)) if not chat.tokenizer.chat_template else "",
        unopened=_unopened(chat, given, prompt),
        prompt_ends=ids[-1:] == [chat.end_of_turn],
        reads_clock=bool(prompt) and prompt != chat.render(given, open_answer=True, clock=True),
        stop_tokens=tuple(sorted(str(token(id)) for id in stops)),
    )


def _rendered(chat: Chat, turns: Sequence[tuple[str, str]], open_answer: bool = False) -> tuple[str, bool]:
    """(text, whether the template refused); no text without a template."""
    if not chat.tokenizer.chat_template:
        return "", False
    try:
        return chat.render(turns, open_answer), False
    except UnfitTemplateError:
        return "", True


def _unopened(chat: Chat, given: Sequence[tuple[str, str]], prompt: str) -> bool:
    """Asking for the assistant's turn changes nothing, and more than the prompt is before an answer."""
    around = chat.around_answer(given) if prompt == _rendered(chat, given)[0] and prompt else None
    return around is not None and around[0].rstrip() != prompt.rstrip()


def _inserted(bare: str, with_system: str) -> str:
    """The system text of a chat that was given none: what is in the place of a given one."""
    before, given, after = with_system.partition(_SYSTEM)
    if given and bare.startswith(before) and bare.endswith(after) and len(bare) > len(before) + len(after):
        return bare[len(before) : len(bare) - len(after)].strip()
    return ""


def _configured_stops(folder: Path) -> list[Any]:
    """eos_token_id of generation_config.json, else of config.json: one or several."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        if path.is_file():
            found = read_settings(path).get("eos_token_id")
            if found is not None:
                return list(found) if isinstance(found, list) else [found]
    return []
