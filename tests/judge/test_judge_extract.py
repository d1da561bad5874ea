"""Extraction: the rules, and that it never raises."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiyas.judge import extract
from kiyas.judge.extract import fenced_blocks, livecodebench_rule, parses

PIECES = st.lists(
    st.sampled_from(
        [
            "```",
            "```python",
            "~~~",
            "````",
            "<think>",
            "</think>",
            "print(1)",
            "x = (",
            "  y",
            "\0",
            "\ud800",
            "\r",
            "Hi.",
            "",
        ]
    ),
    max_size=12,
).map("\n".join)


@given(st.text() | PIECES)
def test_never_raises_and_parsing_methods_parse(answer: str) -> None:
    found = extract(answer)
    assert found.reason
    if found.method in ("fence", "unclosed-fence", "whole"):
        ast.parse(found.program)
    if found.method == "none":
        assert found.program == ""
    if any(parses(block.code) for block in fenced_blocks(answer)) and "think>" not in answer:
        ast.parse(found.program)


@pytest.mark.parametrize(
    ("answer", "program", "method"),
    [
        ("Hi\n```python\nprint(1)\n```\nBye", "print(1)\n", "fence"),
        ("```\nprint(1)\n```\n```python\nprint(2)\n```", "print(2)\n", "fence"),
        ("```python\nprint(1)\n```\nOutput:\n```\n3\n```", "print(1)\n", "fence"),
        ("```python\nprint(1)\n```\n```text\nnot python at all\n```", "print(1)\n", "fence"),
        ("~~~py\nprint(1)\n~~~", "print(1)\n", "fence"),
        ("````\nx = '''\n```\n'''\n````", "x = '''\n```\n'''\n", "fence"),
        ("```python\nprint(1)\n", "print(1)\n\n", "unclosed-fence"),
        ("print(1)", "print(1)", "whole"),
        ("Just words here.", "", "none"),
        ("", "", "none"),
        ("<think>```python\nprint(0)\n```</think>print(1)", "print(1)", "whole"),
        ("thinking ```python\nprint(0)\n```\n</think>\n```\nprint(1)\n```", "print(1)\n", "fence"),
        ("1. List:\n   ```python\n   if 1:\n       print(1)\n   ```", "if 1:\n    print(1)\n", "fence"),
        ("```python\nprint(1\n```", "print(1\n", "fence-unparsed"),
    ],
)
def test_rules(answer: str, program: str, method: str) -> None:
    found = extract(answer)
    assert (found.program, found.method) == (program, method)


def test_livecodebench_rule_stands_beside() -> None:
    assert livecodebench_rule("a\n```python\nprint(1)\n```\nb") == "print(1)"
    assert livecodebench_rule("one ``` only") == ""
    assert extract("```\nprint(1)\n```\n```\n3\n```").livecodebench == "3"
