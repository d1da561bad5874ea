"""Phrases and numbers in the reader's language. Every sentence lives in `phrases/LANGUAGE.toml`."""

from __future__ import annotations

import datetime
import functools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from kiyas.stats.inference import Interval
from kiyas.types import KiyasError

DASH, MINUS = "–", "−"


@functools.cache
def languages() -> tuple[str, ...]:
    """The languages that have a phrase file."""
    folder = resources.files("kiyas.report") / "phrases"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


@functools.cache
def phrases(language: str) -> Mapping[str, str]:
    """`section.key` → phrase. Raises KiyasError for an unknown language."""
    if language not in languages():
        raise KiyasError(f"no report in language {language!r}", f"there are: {', '.join(languages())}")
    text = (resources.files("kiyas.report") / "phrases" / f"{language}.toml").read_text(encoding="utf-8")
    return {f"{section}.{key}": phrase for section, keys in tomllib.loads(text).items() for key, phrase in keys.items()}


@dataclass(frozen=True)
class Language:
    """Speaks one language. `words("section.key", name=value)` gives the sentence."""

    language: str = "en"

    def __call__(self, key: str, **values: Any) -> str:
        phrase = phrases(self.language)[key]
        return phrase.format(**values) if values else phrase

    def has(self, key: str) -> bool:
        return key in phrases(self.language)

    def number(self, value: float | None, digits: int = 1) -> str:
        """A plain number with the language's decimal mark and a true minus sign."""
        if value is None or not math.isfinite(value):
            return DASH
        text = f"{value:.{digits}f}"
        if float(text) == 0:
            text = f"{0:.{digits}f}"
        text = text.replace("-", MINUS)
        return text.replace(".", ",") if self.language == "tr" else text

    def count(self, value: float) -> str:
        """A count, whole where it is whole."""
        return self.number(value, 0 if abs(value - round(value)) < 1e-9 else 1) if math.isfinite(value) else DASH

    def integer(self, value: int) -> str:
        """A whole number in groups of three: 20,000 (Turkish 20.000)."""
        text = f"{value:,}"
        return text.replace(",", ".") if self.language == "tr" else text

    def size(self, value: int) -> str:
        """A large count in three digits: 52.4 k, 1.54 billion as 1.54 G."""
        for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if value >= unit:
                scaled = value / unit
                return f"{self.number(scaled, max(0, 2 - int(math.log10(scaled))))}\u00a0{letter}"
        return str(value)

    def setting(self, value: float) -> str:
        """A number as somebody set it: 0.0002, 1e-08."""
        text = f"{value:g}" if isinstance(value, float) else str(value)
        return text.replace(".", ",") if self.language == "tr" else text

    def date(self, stamp: str) -> str:
        """ISO 8601 → 2 January 2026."""
        try:
            day = datetime.date.fromisoformat(stamp[:10])
        except ValueError:
            return DASH
        return f"{day.day} {self('text.months').split()[day.month - 1]} {day.year}"

    def percent(self, share: float | None) -> str:
        """0.317 → 31.7% (Turkish %31,7)."""
        if share is None or not math.isfinite(share):
            return DASH
        number = self.number(100 * share)
        return f"%{number}" if self.language == "tr" else f"{number}%"

    def level(self, interval: Interval) -> str:
        """The level of an interval: 95%, 97.5%."""
        number = self.setting(round(100 * interval.level, 2))
        return f"%{number}" if self.language == "tr" else f"{number}%"

    def points(self, share: float | None, *, signed: bool = True) -> str:
        """A difference of shares in percentage points, with its sign."""
        if share is None or not math.isfinite(share):
            return DASH
        text = self.number(100 * share)
        return f"+{text}" if signed and not text.startswith(MINUS) and text.strip("0.,") else text

    def between(self, least: float | None, most: float | None) -> str:
        """A share of which only bounds are known."""
        if least is None or most is None or math.isclose(least, most):
            return self.percent(least)
        return self.share_interval(Interval(least, most))

    def share_interval(self, interval: Interval | None) -> str:
        if interval is None or not math.isfinite(interval.low):
            return DASH
        low, high = self.number(100 * interval.low), self.number(100 * interval.high)
        return f"%{low}–{high}" if self.language == "tr" else f"{low}–{high}%"

    def points_interval(self, interval: Interval | None) -> str:
        if interval is None or not math.isfinite(interval.low):
            return DASH
        joint = "…" if self.language == "tr" else "to"
        return f"{self.points(interval.low)} {joint} {self.points(interval.high)}".replace(" ", "\u00a0")

    def p(self, value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return DASH
        return f"< {self.number(0.001, 3)}" if value < 0.001 else self.number(value, 3)
