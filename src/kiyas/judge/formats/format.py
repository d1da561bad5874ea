"""What a format is: one benchmark's rows, and everything that Kıyas knows about the benchmark."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kiyas.judge.rows import BadRowError, Row, take, take_json, take_tests, take_texts
from kiyas.judge.types import Problem, Test

__all__ = [
    "BadRowError",
    "Format",
    "Problem",
    "Row",
    "Test",
    "imported",
    "python3",
    "take",
    "take_json",
    "take_tests",
    "take_texts",
]


@dataclass(frozen=True, kw_only=True)
class Format:
    """How the rows of one benchmark are recognised and read. See docs/add-a-benchmark.md."""

    name: str
    """what `--format` and `benchmarks.primary.dataset` call it"""
    columns: tuple[str, ...]
    """keys that every row has; `a|b`: one of the two"""
    differs: Callable[[Row], str] = lambda row: ""
    """why a row with these columns is not of this benchmark all the same; "": it is. For rows that look alike"""
    problem: Callable[[Row], Problem]
    """a row as a problem; raises BadRowError"""
    modules: tuple[str, ...] = ()
    """modules beyond the standard library that its tests import"""
    solutions: Callable[[Row], tuple[str, ...]] | None = None
    """the row's own solutions, at most three programs in Python 3 that can be judged; None: the benchmark has none"""
    public: Callable[[Row], Row] | None = None
    """the row with its sample tests only; None: its sample tests are not marked"""
    title: str = ""
    """what reports call it"""
    citation: str = ""
    """BibTeX entry of its paper"""
    hub_id: str | None = None
    """data set on the Hub; None: it is read from files only"""
    hub_config: str | None = None
    """configuration of that data set; None: the default"""
    release_files: Callable[[str], list[str]] | None = None
    """files of a release such as `release_v5`, for a data set of files; None: it has no releases"""

    def absent(self, row: Row) -> list[str]:
        """The columns that the row lacks."""
        return [keys for keys in self.columns if all(row.get(key) is None for key in keys.split("|"))]

    def claims(self, row: Row) -> bool:
        return not self.absent(row) and not self.differs(row)


_IMPORT = re.compile(r"^[ \t]*(?:import[ \t]+([\w., \t]+)|from[ \t]+([\w.]+)[ \t]+import\b)", re.M)


def imported(code: object) -> set[str]:
    """Top-level names of the modules that some Python imports, also where it does not parse."""
    found = _IMPORT.findall(code) if isinstance(code, str) else []
    names = [name for several, one in found for name in (several or one).split(",")]
    return {name.split()[0].partition(".")[0] for name in names if name.strip()} - {""}


MOST_SOLUTIONS = 3
MOST_TRIED = 20


def python3(sources: Iterable[object]) -> tuple[str, ...]:
    """The first three of the sources that are programs in Python 3, without a fence around them."""
    found: list[str] = []
    for source, _ in zip(sources, range(MOST_TRIED), strict=False):
        text = _FENCED.sub(r"\1", source) if isinstance(source, str) else ""
        if text.strip() and tree(text) is not None:
            found.append(text)
        if len(found) == MOST_SOLUTIONS:
            break
    return tuple(found)


_FENCED = re.compile(r"\A\s*```[ \t]*(?:python3?|py)?[ \t]*\n(.*?)\n?[ \t]*```\s*\Z", re.DOTALL)


def tree(code: str) -> ast.Module | None:
    """The syntax tree; None where it is not Python 3."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
