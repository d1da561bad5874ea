"""Frozen dataclasses ↔ plain JSON values, by their annotations."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any


def encode(value: Any) -> Any:
    """Dataclasses as plain JSON values; a number that is not finite becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


OLDER = {
    "missing": "owed",
    "overfits": "turned",
    "selection_bias": "flattery",
    "secondary": "beside",
    "aa_control": "same_arm",
    "uncontaminated": "clean",
    "learning_rates": "rates",
}
"""names of fields in findings of format 4"""


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def decode(kind: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return decode(next(each for each in arguments if each is not types.NoneType), value)
    if origin is tuple:
        return tuple(decode(arguments[0], item) for item in value)
    if origin is not None and issubclass(origin, Mapping):
        return {key: decode(arguments[1], item) for key, item in value.items()}
    if isinstance(kind, type):
        if dataclasses.is_dataclass(kind):
            hints = _hints(kind)
            # A later field is at its default in older findings.
            fields = [f for f in dataclasses.fields(kind) if f.name in value or f.name in OLDER]
            names = {f.name: f.name if f.name in value else OLDER[f.name] for f in fields}
            return kind(**{name: decode(hints[name], value[there]) for name, there in names.items()})
        if issubclass(kind, StrEnum):
            return kind(value)
        if kind is float:
            return float("nan") if value is None else float(value)
    return value
