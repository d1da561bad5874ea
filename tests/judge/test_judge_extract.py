"""Extraction: the rules, and that it never raises."""

import ast
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiyas.judge import extract
from kiyas.judge.extract import fenced_blocks, livecodebench_rule, only_literals, parses

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


@pytest.mark.parametrize(
    ("answer", "program", "reason"),
    [
        ("```\na=1\n```\n```\nb=1\n```\n```\nc=1\n```", "c=1\n", "block 3 of 3"),
        ("```\na=1\n```\n```\nb=1\n```\n```\n3\n```", "b=1\n", "block 2 of 3, 1 after it passed over"),
        ("```\na=1\n```\n```\n1 2\n```\n```\n3\n```", "a=1\n", "block 1 of 3, 2 after it passed over"),
        ("```\n3\n```\n```\n1 2\n```", "3\n", "block 1 of 2, 1 after it passed over"),
        ("```py\na(\n```\n```Python3\nb(\n```\n```text\nc(\n```", "b(\n", "no fenced block parses as Python"),
        ("```sh\na(\n```\n```text\nc(\n```", "c(\n", "no fenced block parses as Python"),
        ("```\n\n```\nx = 1", "", "no fence, and the whole answer is not Python"),
        (" \n", "", "the answer is empty"),
        ("x = 1", "x = 1", "no fence; the whole answer parses"),
        ("</think>x = 1", "x = 1", "no fence; the whole answer parses"),
        ("a</think>b</THINK>x = 1", "x = 1", "no fence; the whole answer parses"),
        ("<think>a</think>x = 1<THINK>\nb</Think>", "x = 1", "no fence; the whole answer parses"),
    ],
)
def test_which_block_and_why(answer: str, program: str, reason: str) -> None:
    found = extract(answer)
    assert (found.program, found.reason) == (program, reason)


@pytest.mark.parametrize(
    ("text", "codes", "closed"),
    [
        ("````\na\n```\nb\n`````\nc", ["a\n```\nb\n"], [True]),
        ("```\na\n~~~\nb\n```", ["a\n~~~\nb\n"], [True]),
        ("```\na\n```python\nb\n```", ["a\n```python\nb\n"], [True]),
        ("``\na\n``", [], []),
        ("~~~~\na\n~~~\n~~~~", ["a\n~~~\n"], [True]),
        ("x ```\na\n```", [], []),
        ("```python title\na\n```", ["a\n"], [True]),
        ("``` `a`\nb", [], []),
        ("```\r\na\r\n```\r\n```\r\nb", ["a\n", "b\n"], [True, False]),
        ("```\n \n```\n```\na\n```", ["a\n"], [True]),
        ("  ```\n   a\n b\n\tc\n\n  ```", [" a\nb\nc\n\n"], [True]),
        ("\t```\n\t\ta\nb\n\t```", ["\ta\nb\n"], [True]),
    ],
)
def test_fences(text: str, codes: list[str], closed: list[bool]) -> None:
    blocks = fenced_blocks(text)
    assert [block.code for block in blocks] == codes and [block.closed for block in blocks] == closed


@pytest.mark.parametrize(
    "code", ["\0", "\ud800", "(" * 500, "-" * 200_000 + "1", "x = " + "9" * 5000, "1 2", "x" + ".x" * 100_000]
)
def test_what_cannot_be_read_as_python(code: str) -> None:
    assert not parses(code) and extract(code).method == "none"


def test_the_longest_program_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["kiyas.judge.extract"], "_LONGEST_PARSED", 5)
    assert parses("x = 1") and not parses("x = 12")


def test_warnings_of_a_program_are_its_own() -> None:
    assert parses("x = 1 is 1\ny = '\\d'")


@pytest.mark.parametrize(
    ("code", "literal"),
    [("3", True), ("a b", False), ("x", True), ("[1, -2]", True), ("", True), ("3\n'YES'", True), ("f()", False),
     ("[f()]", False), ("x = 1", False), ("pass", False), ("import x", False)],
)  # fmt: skip
def test_only_literals(code: str, literal: bool) -> None:
    assert only_literals(code) is literal


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        ("```\na\n```\n```\nb\nc\n```\nd", "b\nc"),
        ("x ``` y\na\n```", "a"),
        ("```\n```", ""),
        ("```\na", ""),
        ("a", ""),
        ("```\na\n```\nb\n```", "b"),
    ],
)
def test_livecodebench_rule_between_the_last_two_marks(answer: str, program: str) -> None:
    assert livecodebench_rule(answer) == program


def test_livecodebench_rule_stands_beside() -> None:
    assert livecodebench_rule("a\n```python\nprint(1)\n```\nb") == "print(1)"
    assert livecodebench_rule("one ``` only") == ""
    assert extract("```\nprint(1)\n```\n```\n3\n```").livecodebench == "3"
