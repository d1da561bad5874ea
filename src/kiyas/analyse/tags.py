"""What problems are about: the benchmark's own tags, else those of the keyword table `tags.toml`."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from importlib import resources

from kiyas.judge import Problem


@functools.cache
def keyword_table() -> Mapping[str, re.Pattern[str]]:
    """tag → one pattern of all its words."""
    text = (resources.files("kiyas.analyse") / "tags.toml").read_text(encoding="utf-8")
    return {
        tag: re.compile("|".join(f"(?:{word})" for word in words), re.IGNORECASE)
        for tag, words in tomllib.loads(text).items()
    }


def tags_of(problems: Mapping[str, Problem]) -> tuple[str, dict[str, tuple[str, ...]]]:
    """(where the tags are from, the tags of each problem).

    "benchmark" where at least one problem has tags of its own, "keywords" where the statements must do, "" where there
    are none.
    """
    own = {id: tuple(dict.fromkeys(problem.tags)) for id, problem in problems.items()}
    if any(own.values()):
        return "benchmark", own
    if not any(problem.statement for problem in problems.values()):
        return "", own
    texts = {id: f"{problem.title}\n{problem.statement}" for id, problem in problems.items()}
    return "keywords", {
        id: tuple(tag for tag, words in keyword_table().items() if words.search(text)) for id, text in texts.items()
    }
