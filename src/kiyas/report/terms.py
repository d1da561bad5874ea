"""What the page's words mean: `[about]` of the phrases, each definition behind its word, none without one.

A word is a button that opens its definition (HTML's own popover, no script); the definitions are at the page's end.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator

from kiyas.report.language import Language, phrases


class Terms:
    """The definitions that one page uses, in order of use. `names`: of arms, in which no word is marked."""

    def __init__(self, words: Language, names: Collection[str] = ()) -> None:
        self._words = words
        self._names = frozenset(name for name in names if name)
        self.used: dict[str, str] = {}
        self._marked = set[str]()

    def use(self, key: str) -> str:
        """A definition, which the page will have."""
        return self.used.setdefault(key, self._words(f"about.{key}"))

    def pieces(self, sentence: str, *keys: str) -> Iterator[tuple[str, str]]:
        """A sentence in pieces: (text, key), with the key of the definition where the text is a word that has one.

        Each of the words is marked where it comes first: on the page; of `keys`, in every sentence.
        """
        pattern, at = _pattern(self._words.language, self._names), 0
        seen = set[str]() if keys else self._marked
        for match in pattern.finditer(sentence):
            key = match.lastgroup
            if key and key not in seen and (not keys or key in keys):
                seen.add(key)
                yield sentence[at : match.start()], ""
                yield match[0], key
                at = match.end()
        yield sentence[at:], ""


def forms(language: str) -> dict[str, list[str]]:
    """By key, how each term is written: `[term]`, forms separated by |; where an asterisk is, suffixes follow."""
    named = {key.removeprefix("term."): said for key, said in phrases(language).items() if key.startswith("term.")}
    return {key: said.split("|") for key, said in named.items()}


@functools.cache
def _pattern(language: str, names: frozenset[str]) -> re.Pattern[str]:
    """The longest form first: “selection bias” before “bias”. Names come before words and have no key."""
    parts = [(form, key) for key, written in forms(language).items() for form in written]
    parts.sort(key=lambda part: -len(part[0]))
    by_key: dict[str, list[str]] = {}
    for form, key in parts:
        suffix = r"[^\W\d]*(?:['’][^\W\d]+)?" if form.endswith("*") else ""
        by_key.setdefault(key, []).append(re.escape(form.removesuffix("*")) + suffix)
    listed = [f"(?-i:{re.escape(name)})" for name in sorted(names, key=len, reverse=True)]
    listed += [f"(?P<{key}>{'|'.join(written)})" for key, written in by_key.items()]
    whole = "|".join(listed)
    return re.compile(rf"(?<![\w@.-])(?:{whole})(?![\w@-])", re.IGNORECASE)
