"""What problems are about: the benchmark's own tags, else those of the keyword table `tags.toml`."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any


@functools.cache
def keyword_table() -> Mapping[str, re.Pattern[str]]:
    """tag → one pattern of all its words."""
    text = (resources.files("kiyas.analyse") / "tags.toml").read_text(encoding="utf-8")
    return {
        tag: re.compile("|".join(f"(?:{word})" for word in words), re.IGNORECASE)
        for tag, words in tomllib.loads(text).items()
    }


def tags_of(problems: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, tuple[str, ...]]]:
    """(where the tags are from, the tags of each problem).

    "benchmark" where one problem at least says its own, "keywords" where statements must do, "" where there are none.
    """
    own = {problem: _own(row) for problem, row in problems.items()}
    if any(own.values()):
        return "benchmark", own
    texts = {p: f"{row.get('title') or ''}\n{row.get('statement') or ''}" for p, row in problems.items()}
    if not any(row.get("statement") for row in problems.values()):
        return "", own
    return "keywords", {
        problem: tuple(tag for tag, words in keyword_table().items() if words.search(text))
        for problem, text in texts.items()
    }


def _own(row: Mapping[str, Any]) -> tuple[str, ...]:
    tags = row.get("tags")
    return tuple(dict.fromkeys(str(tag) for tag in tags if tag)) if isinstance(tags, list) else ()
