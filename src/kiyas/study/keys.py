"""Every key of the study file, with its kind, default and meaning: one list for `kiyas keys` and for documentation."""

from __future__ import annotations

import inspect
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from kiyas.study.file import KNOWN_ELSEWHERE
from kiyas.study.settings import Study
from kiyas.types import KiyasError, did_you_mean

NAMED = {"arms": "NAME"}
"""Sections of which there are several, each with a name of the user's."""
AS_UNDER = {"arms.NAME.training": "training", "arms.NAME.peft": "peft", "benchmarks.also": "benchmarks.primary"}
"""Sections with the keys of another one, which are listed there."""


@dataclass(frozen=True)
class Key:
    """One key of the study file."""

    name: str
    """with dots: training.budget.epochs, arms.NAME.from"""
    kind: str
    """what may be written, in words: `a number`, `linear, cosine or constant`"""
    default: str
    """as it is written in YAML; empty: none is needed. `required` where there is no default"""
    meaning: str

    def text(self, width: int) -> str:
        """For the terminal: `seeds: 3  (a whole number or a list)`, and below it what it means."""
        given = {"required": "; required", "": "; may be left out"}.get(self.default, "")
        value = "" if given else f" {self.default}"
        kind = f"({self.kind}{'' if self.kind.startswith('keys') and not self.default else given})"
        meaning = textwrap.fill(self.meaning, width, initial_indent="    ", subsequent_indent="    ")
        head = f"{self.name}:{value}"
        apart = "  " if len(head) + 2 + len(kind) <= width else "\n    "
        return f"{head}{apart}{kind}\n{meaning}"


@cache
def keys() -> tuple[Key, ...]:
    """All keys, a section before its own keys, in the order of the settings."""
    return tuple(_keys(Study, ""))


def keys_of(section: str) -> list[Key]:
    """The key of this name and the keys below it; all of them for "". Raises KiyasError for an unknown name."""
    found = [each for each in keys() if not section or each.name == section or each.name.startswith(f"{section}.")]
    if not found:
        names = [each.name for each in keys()]
        # The last part alone says which key is meant, where only one has it.
        ends = [name for name in names if name.endswith(f".{section}")]
        hint = f"; did you mean {' or '.join(ends)}?" if ends else did_you_mean(section, names)
        if section in KNOWN_ELSEWHERE:
            hint = f"; here it is called {KNOWN_ELSEWHERE[section]}"
        raise KiyasError(f"no key {section!r} in a study file{hint}", "`kiyas keys` lists all")
    return found


def _keys(model: type[BaseModel], prefix: str) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        full = f"{prefix}{field.alias or name}"
        inside = _model_in(field.annotation)
        meaning = field.description or (inspect.getdoc(inside) if inside else None) or ""
        kind = _kind(field) + (f", as under {AS_UNDER[full]}" if full in AS_UNDER else "")
        yield Key(full, kind, _default(field), " ".join(meaning.split()))
        if inside is not None and full not in AS_UNDER:
            yield from _keys(inside, f"{full}.{NAMED[full]}." if full in NAMED else f"{full}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The section in a key's type, also in lists and in sections by name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, typing.get_args(annotation))), None)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    value = field.default
    if isinstance(value, BaseModel):
        given = {key: each for key, each in value.model_dump().items() if key in value.model_fields_set}
        return _yaml(given) if given else ""
    return "" if value is None or value == [] else _yaml(value)


def _yaml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_yaml(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _kind(field: FieldInfo) -> str:
    said = list(dict.fromkeys(_kinds(field.annotation)))
    return " or ".join(said) if len(said) < 3 else f"{', '.join(said[:-1])} or {said[-1]}"


SCALARS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    date: "a date",
}


def _kinds(annotation: Any) -> Iterator[str]:
    """Of each thing that may be written: what it is."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        yield from _kinds(parts[0])
    elif origin in (typing.Union, types.UnionType):
        for part in parts:
            if part is not type(None):
                yield from _kinds(part)
    elif origin is typing.Literal:
        yield from map(str, parts)
    elif origin is list:
        yield "a list"
    elif origin is tuple:
        yield f"a list of {len(parts)}"
    elif origin is dict:
        yield "keys of your own"
    elif isinstance(annotation, type) and issubclass(annotation, StrEnum):
        yield from map(str, annotation)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "keys"
    else:
        yield SCALARS.get(annotation, "a value")
