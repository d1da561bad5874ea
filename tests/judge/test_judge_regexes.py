"""Every regular expression of the judge that meets other people's text takes steps linear in that text."""

import ast
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from regex_steps import Steps, TooManyError, attacks

import kiyas.judge

# module, name: how it is used
SEARCHED = {
    ("compare", "_NUMBER"): "fullmatch",
    ("compare", "FLOATS"): "fullmatch",
    ("fences", "PYTHON"): "fullmatch",
    ("fences", "_MARK"): "search",
    ("fences", "_LIST_MARK"): "fullmatch",
    ("fences", "_WORD"): "match",
    ("fences", "_WRAP"): "search",
    ("fences", "_TWO_WORDS"): "match",
    ("fences", "_OTHER_SCRIPT"): "match",
    ("thoughts", "_TAG"): "search",
    ("thoughts", "_ENDS"): "search",
    ("thoughts", "_STARTS"): "search",
    ("thoughts", "_TAG_PART"): "search",
    ("thoughts", "_START_PART"): "search",
    ("thoughts", "_END_PART"): "search",
    ("terminal", "ORDERS"): "search",
    ("tolerances", "_MINUS"): "search",
    ("tolerances", "_RAISED"): "search",
    ("tolerances", "_MARKUP"): "search",
    ("tolerances", "_SUP"): "search",
    ("tolerances", "_TAG"): "search",
    ("tolerances", "_SENTENCES"): "search",
    ("tolerances", "_NUMBER"): "search",
    ("tolerances", "_ABSOLUTE"): "search",
    ("tolerances", "_RELATIVE"): "search",
    ("tolerances", "_ERROR"): "search",
    ("tolerances", "_BOTH"): "search",
    ("tolerances", "_ALLOWS"): "search",
    ("tolerances", "_FORMULA"): "search",
    ("tolerances", "_LEETCODE"): "search",
    ("verdicts", "_LOCATION"): "search",
    ("verdicts", "_LAST"): "match",
    ("sandbox", "NAMED"): "search",
    ("formats.humaneval", "CHECK"): "search",
    ("formats.humaneval", "INPUTS"): "search",
    ("formats.format", "_IMPORT"): "search",
    ("formats.format", "_MEASURE"): "fullmatch",
    ("formats.bigcodebench", "CLASS"): "search",
    ("proof", "SEVERAL"): "search",
}
# Patterns written where they are used: of our own text, or of a text that is cut first.
IN_PLACE = {
    "attacks": 1, "fences": 1, "formats/__init__": 1, "parting": 1, "stubs": 2, "terminal": 1, "tolerances": 1,
    "verdicts": 1,
}  # fmt: skip
PATTERNS = {f"{module}.{name}": (module, name, how) for (module, name), how in SEARCHED.items()}


@pytest.fixture(autouse=True)
def deep(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    yield
    sys.setrecursionlimit(before)


def superlinear(pattern: str, flags: int, how: str) -> list[tuple[str, str, str]]:
    """The attacks on which four times the text takes more than six times the steps."""

    def steps(text: str) -> int:
        try:
            return Steps(pattern, flags, text).search(anchored=how != "search", whole=how == "fullmatch")
        except TooManyError:
            return 10**9

    found = []
    for before, pumped, after in attacks(pattern, flags):
        n = 60 // len(pumped) + 2
        small, large = (steps(before + pumped * k + after) for k in (n, 4 * n))
        if large == 10**9 or large > 6 * small + 1000:
            found.append((before, pumped, after))
    return found


@pytest.mark.parametrize("which", PATTERNS)
def test_steps_grow_with_the_text(which: str) -> None:
    module, name, how = PATTERNS[which]
    compiled = getattr(import_module(f"kiyas.judge.{module}"), name)
    pattern = compiled.pattern.decode() if isinstance(compiled.pattern, bytes) else compiled.pattern
    assert not superlinear(pattern, compiled.flags, how)


@pytest.mark.parametrize(
    ("pattern", "flags", "how"),
    [
        (r"(\d+\.?\d*|x)y", 0, "fullmatch"),
        (r"[ \t]*\{?[ \t]*\.?(\w{1,80})", 0, "match"),
        ("<think>.*?</think>", re.DOTALL, "search"),
        ("(~{3,})[^~]*(~+)x", 0, "search"),
    ],
)
def test_a_pattern_that_backtracks_is_seen(pattern: str, flags: int, how: str) -> None:
    assert superlinear(pattern, flags, how)


def test_no_pattern_is_left_out() -> None:
    root = Path(kiyas.judge.__file__).parent
    named, in_place = set(), dict[str, int]()
    for file in root.rglob("*.py"):
        module = str(file.relative_to(root).with_suffix(""))
        if module.startswith("inside"):
            continue
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("re."):
                    if ast.unparse(call.func) == "re.compile" and isinstance(node, ast.Assign):
                        named.add((module.replace("/", "."), ast.unparse(node.targets[0])))
                    elif ast.unparse(call.func) != "re.escape":
                        in_place[module] = in_place.get(module, 0) + 1
    assert named == set(SEARCHED)
    assert in_place == IN_PLACE
