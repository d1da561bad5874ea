"""Phrases and numbers in the reader's language.

All of a language is in `phrases/LANGUAGE.toml`: every sentence, the section [format] (numbers, dates), and [grammar],
where words change with the word before them. A phrase may ask for an ending: `{arm:loc}` is the arm's name with the
ending `loc` of [grammar.endings]. What [grammar.letters] names in an ending is decided by the end of the word before
it: the first pattern that is found there counts. [grammar.spoken] says how numbers and letters are read.

`{n:problem/problems}` is 1 problem, 2 problems; `p {p:=}` is p = 0.012, p < 0.001.
"""

from __future__ import annotations

import datetime
import functools
import json
import math
import re
import string
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from kiyas.report import citations
from kiyas.stats.inference import Interval
from kiyas.types import KiyasError

DASH, MINUS = "–", "−"
FOLDER: Traversable = resources.files("kiyas.report") / "phrases"


@functools.cache
def languages() -> tuple[str, ...]:
    """The languages that have a phrase file."""
    return tuple(sorted(f.name.removesuffix(".toml") for f in FOLDER.iterdir() if f.name.endswith(".toml")))


@functools.cache
def _file(language: str) -> Mapping[str, Any]:
    if language not in languages():
        raise KiyasError(f"no report in language {language!r}", f"there are: {', '.join(languages())}")
    return tomllib.loads((FOLDER / f"{language}.toml").read_text(encoding="utf-8"))


@functools.cache
def phrases(language: str) -> Mapping[str, str]:
    """`section.key` → phrase. Raises KiyasError for an unknown language."""
    sections = {section: keys for section, keys in _file(language).items() if section != "grammar"}
    return {f"{section}.{key}": phrase for section, keys in sections.items() for key, phrase in keys.items()}


@functools.cache
def _grammar(language: str) -> _Grammar:
    file = _file(language)
    return _Grammar(**file["grammar"]) if "grammar" in file else _Grammar()


class _Grammar(string.Formatter):
    """Fills phrases; knows the endings of one language."""

    def __init__(
        self,
        endings: Mapping[str, str] | None = None,
        letters: Mapping[str, list[tuple[str, str]]] | None = None,
        spoken: list[tuple[str, str]] | None = None,
    ) -> None:
        self.endings, self.letters, self.spoken = endings or {}, letters or {}, spoken or []

    def format_field(self, value: Any, spec: str) -> str:
        if "/" in spec:
            one, more = spec.split("/")
            return f"{value} {one if str(value) == '1' else more}"
        if spec == "=":
            return str(value) if str(value).startswith("<") else f"= {value}"
        if spec not in self.endings:
            return str(super().format_field(value, spec))
        return f"{value}{self.ending(str(value), spec)}"

    def ending(self, word: str, name: str) -> str:
        said = re.sub(r"\W+$", "", word).lower().replace("\u0307", "")  # what is left of the dot of İ
        said += next((f" {read}" for pattern, read in self.spoken if re.search(pattern, said)), "")
        made = ""
        for letter in self.endings[name]:
            rules = self.letters.get(letter, [("", letter)])
            made += next(becomes for pattern, becomes in rules if re.search(pattern, said + made))
        return made


@dataclass(frozen=True)
class Language:
    """Speaks one language. `words("section.key", name=value)` gives the sentence.

    `paper`: citations keep their keys, for pandoc (see `citations`); otherwise they are author and year.
    """

    language: str = "en"
    paper: bool = False

    def __call__(self, key: str, **values: Any) -> str:
        phrase = phrases(self.language)[key]
        if "[@" in phrase:
            phrase = citations.IN_PHRASE.sub(lambda found: self.cite(*found[1].split("; ")), phrase)
        return _grammar(self.language).vformat(phrase, (), values) if values else phrase

    def has(self, key: str) -> bool:
        return key in phrases(self.language)

    def cite(self, *keys: str) -> str:
        """A citation of papers in the bibliography, by their keys with @."""
        if self.paper:
            return f"{citations.OPEN}{'; '.join(keys)}{citations.CLOSE}"
        return f"({'; '.join(self._author_year(each.removeprefix('@')) for each in keys)})"

    def _author_year(self, key: str) -> str:
        authors, year = citations.papers()[key]
        count = "one" if len(authors) == 1 else "two" if len(authors) == citations.AUTHORS else "more"
        return self(f"cited.{count}", a=authors[0], b=authors[-1], year=year)

    def number(self, value: float | None, digits: int = 1) -> str:
        """A plain number with the language's decimal mark and a true minus sign."""
        if value is None or not math.isfinite(value):
            return DASH
        text = f"{value:.{digits}f}"
        if float(text) == 0:
            text = f"{0:.{digits}f}"
        return text.replace("-", MINUS).replace(".", self("format.decimal"))

    def count(self, value: float) -> str:
        """A count, whole where it is whole."""
        return self.number(value, 0 if abs(value - round(value)) < 1e-9 else 1) if math.isfinite(value) else DASH

    def integer(self, value: int) -> str:
        """A whole number in groups of three: 20,000 (Turkish 20.000)."""
        return f"{value:,}".replace(",", self("format.group"))

    def size(self, value: int) -> str:
        """A large count in three digits: 52.4 k, 1.54 billion as 1.54 G (Turkish 52,4 bin, 1,54 milyar)."""
        for unit, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
            if value >= unit:
                scaled = value / unit
                return f"{self.number(scaled, max(0, 2 - int(math.log10(scaled))))}\u00a0{self(f'format.{name}')}"
        return str(value)

    def setting(self, value: float) -> str:
        """A number as somebody set it: 0.0002, 1e-08."""
        text = f"{value:g}" if isinstance(value, float) else str(value)
        return text.replace(".", self("format.decimal"))

    def date(self, stamp: str) -> str:
        """ISO 8601 → 2 January 2026."""
        try:
            day = datetime.date.fromisoformat(stamp[:10])
        except ValueError:
            return DASH
        return self("format.date", day=day.day, month=self("text.months").split()[day.month - 1], year=day.year)

    def percent(self, share: float | None) -> str:
        """0.317 → 31.7% (Turkish %31,7)."""
        if share is None or not math.isfinite(share):
            return DASH
        return self("format.percent", n=self.number(100 * share))

    def level(self, interval: Interval) -> str:
        """The level of an interval: 95%, 97.5%."""
        return self("format.percent", n=self.setting(round(100 * interval.level, 2)))

    def points(self, share: float | None, *, signed: bool = True) -> str:
        """A difference of shares in percentage points, with its sign."""
        if share is None or not math.isfinite(share):
            return DASH
        text = self.number(100 * share)
        return f"+{text}" if signed and not text.startswith(MINUS) and text != self.number(0) else text

    def between(self, least: float | None, most: float | None) -> str:
        """A share of which only bounds are known."""
        if least is None or most is None or math.isclose(least, most):
            return self.percent(least)
        return self.share_interval(Interval(least, most))

    def share_interval(self, interval: Interval | None) -> str:
        if interval is None or not math.isfinite(interval.low):
            return DASH
        low, high = (self.number(100 * end) for end in (interval.low, interval.high))
        return self("format.share_interval", low=low, high=high).replace(" ", "\u00a0")

    def points_interval(self, interval: Interval | None, *, signed: bool = True) -> str:
        if interval is None or not math.isfinite(interval.low):
            return DASH
        low, high = (self.points(end, signed=signed) for end in (interval.low, interval.high))
        return self("format.points_interval", low=low, high=high).replace(" ", "\u00a0")

    def estimate(self, said: str, limits: str) -> str:
        """A number with its interval, which has brackets in some languages."""
        return f"{said} {limits}" if limits.startswith("[") else f"{said} ({limits})"

    def p(self, value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return DASH
        return f"< {self.number(0.001, 3)}" if value < 0.001 else self.number(value, 3)

    def chart_percent(self) -> str:
        """The label of an axis of shares, as a Vega expression."""
        before, after = (json.dumps(part) for part in self("format.percent").split("{n}"))
        return f"{before} + format(datum.value * 100, '.0f') + {after}"

    def chart_locale(self) -> dict[str, Any]:
        """How a chart writes its numbers: Vega-Lite's `config.locale`."""
        marks = {"decimal": self("format.decimal"), "thousands": self("format.group")}
        return {"number": {**marks, "grouping": [3], "currency": ["", ""]}}


def suffix(language: str, own: str) -> str:
    """What the files of a language have in their names: nothing in a report's own language, else ".tr"."""
    return "" if language == own else f".{language}"


def others(language: str, own: str, wanted: Iterable[str]) -> list[tuple[str, str, str]]:
    """Language, its own name and the page, of every other language that a report is written in."""
    return [
        (each, Language(each)("format.name"), f"index{suffix(each, own)}.html") for each in wanted if each != language
    ]
