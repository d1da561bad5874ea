"""Extraction: the rules, and that it never raises."""

import ast
import gc
import sys

import pytest
from answer_shapes import BLOCKS_AFTER, DOC, FENCES, NONE, TAGS_IN_CODE, THOUGHT, THOUGHTS, F, P
from hypothesis import given, settings
from hypothesis import strategies as st

from kiyas.judge import ExtractionRule, extract
from kiyas.judge.extract import livecodebench_rule
from kiyas.judge.fences import Parsed, fenced_blocks
from kiyas.judge.syntax import defines, names, only_values, parses, syntax_tree

PIECES = st.lists(
    st.sampled_from(
        [
            "```",
            "```python",
            "x = 1```",
            "[BEGIN]",
            "[/PYTHON]",
            "<code>",
            "<|im_end|>",
            "[THINK]",
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
        ("```\n3\n```\n```\n1 2\n```", "1 2\n", "no fenced block parses as Python"),
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
        ("```\na\n```python\nb\n```", ["a\n", "b\n"], [False, True]),
        ("``\na\n``", [], []),
        ("~~~~\na\n~~~\n~~~~", ["a\n~~~\n"], [True]),
        ("x ```\na\n```", ["a\n"], [True]),
        ("x ``` in words\na", [], []),
        ("```python title\na\n```", ["a\n"], [True]),
        ("``` `a`\nb", [], []),
        ("```\r\na\r\n```\r\n```\r\nb", ["a\n", "b\n"], [True, False]),
        ("```\n \n```\n```\na\n```", ["a\n"], [True]),
        ("  ```\n   a\n b\n\tc\n\n  ```", ["  a\nb\nc\n\n"], [True]),
        ("\t```\n\t\ta\nb\n\t```", ["\t\ta\nb\n"], [True]),
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
    monkeypatch.setattr(sys.modules["kiyas.judge.syntax"], "_LONGEST_PARSED", 5)
    assert parses("x = 1") and not parses("x = 12")


def test_warnings_of_a_program_are_its_own() -> None:
    assert parses("x = 1 is 1\ny = '\\d'")


@pytest.mark.parametrize(
    ("code", "values"),
    [("3", True), ("x", True), ("[1, -2]", True), ("", True), ("3\n'YES'", True), ("Input: 5\nname: double", True),
     ("f()", False), ("[f()]", False), ("x = 1", False), ("x: int = 1", False), ("pass", False), ("import x", False)],
)  # fmt: skip
def test_only_values(code: str, values: bool) -> None:
    tree = syntax_tree(code)
    assert tree is not None and only_values(tree) is values


@pytest.mark.parametrize(
    ("code", "lacking"),
    [("print(n)", "n"), ("n = 1\nprint(n)", ""), ("def f(x): return x + y", "y"), ("f = lambda x: x", ""),
     ("from a import *\nprint(n)", ""), ("import os.path\nos.sep", ""), ("for i in a: print(i)", "a"),
     ("try: pass\nexcept E as e: print(e)", "E"), ("def f(x: List) -> Tree: ...", ""), ("[i for i in range(3)]", ""),
     ("match x:\n case [a, *b]: a, b\n case {**c}: c", "x"), ("print(__name__)", ""), ("with a as b: b", "a")],
)  # fmt: skip
def test_names_that_are_lacking(code: str, lacking: str) -> None:
    tree = syntax_tree(code)
    assert tree is not None and names(tree).lacking == set(lacking)


@pytest.mark.parametrize(
    ("code", "name", "right"),
    [("def f(): return 1", "f", True), ("def f(): ...", "f", False), ("def f():\n 'doc'\n pass", "f", False),
     ("def f(): raise NotImplementedError", "f", False), ("async def f(): return 1", "f", True), ("f = 1", "f", True),
     ("class S:\n def f(self): return 1", "f", True), ("class S:\n def f(self): return 1", "S.f", True),
     ("class S:\n def f(self): return 1", "S().f", True), ("from math import f", "f", True),
     ("from solution import f", "f", False), ("f()", "f", False), ("def g(): return f", "f", False)],
)  # fmt: skip
def test_a_block_that_defines_the_entry_point(code: str, name: str, right: bool) -> None:
    tree = syntax_tree(code)
    assert tree is not None and defines(tree, name) is right


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


@pytest.mark.parametrize("after", BLOCKS_AFTER.values(), ids=BLOCKS_AFTER)
def test_a_block_after_the_program_is_not_the_program(after: str) -> None:
    assert extract(f"Here:\n{F}\nAnd so:\n{after}").program.strip() == P


@pytest.mark.parametrize("after", [v for k, v in BLOCKS_AFTER.items() if k != "untagged call"])
def test_nor_after_an_untagged_program(after: str) -> None:
    assert extract(f"Here:\n```\n{P}\n```\nAnd so:\n{after}").program.strip() == P


@pytest.mark.parametrize("answer", FENCES.values(), ids=FENCES)
def test_shapes_of_fences(answer: str) -> None:
    assert extract(answer).program.replace("\r", "").strip() == P


@pytest.mark.parametrize("answer", FENCES.values(), ids=FENCES)
def test_a_thought_before_any_shape(answer: str) -> None:
    found = extract(f"<think>\n{THOUGHT}\n</think>\n{answer}")
    assert found.program.replace("\r", "").strip() == P


@pytest.mark.parametrize("thought", THOUGHTS.values(), ids=THOUGHTS)
def test_thoughts_are_not_the_answer(thought: str) -> None:
    assert extract(thought + F).program.strip() == P
    assert extract(thought + P).program.strip() == P


@pytest.mark.parametrize("code", TAGS_IN_CODE.values(), ids=TAGS_IN_CODE)
def test_tags_in_strings_and_comments_are_code(code: str) -> None:
    for answer in (f"```python\n{code}\n```", code):
        assert extract(answer).program.strip() == code
        assert extract(f"<think>a</think>\n{answer}").program.strip() == code


@pytest.mark.parametrize("answer", NONE.values(), ids=NONE)
def test_no_program(answer: str) -> None:
    found = extract(answer)
    assert found.program == "" and found.method == "none" and found.reason


@pytest.mark.parametrize("around", ["```python\n%s\n```", "````\n%s\n````", "Hi\n```\n%s\n```\n```\n5\n```", "%s"])
def test_fences_in_a_docstring(around: str) -> None:
    assert extract(around % DOC).program.strip() == DOC


ADD = "def add(a, b):\n    return a + b"


@pytest.mark.parametrize(
    "after",
    [
        "assert add(1, 2) == 3",
        "print(add(1, 2))",
        "from solution import add\nprint(add(1, 2))",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(add(1, 2), 3)",
        "def test_add():\n    assert add(1, 2) == 3",
        "def add(a, b): ...",
        "x = add(1, 2)\nprint(x)",
        "print(3)",
        "def sub(a, b):\n    return add(a, -b)",
    ],
)
def test_with_an_entry_point_the_block_that_defines_it(after: str) -> None:
    assert extract(f"```python\n{ADD}\n```\nSo:\n```python\n{after}\n```", "add").program.strip() == ADD


def test_with_an_entry_point_the_last_block_that_defines_it() -> None:
    assert extract(f"```python\n{ADD} + 1\n```\nNo:\n```python\n{ADD}\n```", "add").program.strip() == ADD


def test_the_rest_of_a_function() -> None:
    body = "    return [2 * x for x in xs]\n"
    found = extract(body, "twice")
    assert (found.program, found.method) == (body, "body")
    assert extract(f"```python\n{body}```", "twice").program == body


def test_an_import_that_an_earlier_block_has_does_not_make_a_later_program_a_usage() -> None:
    later = "class Solution:\n    def f(self, xs: List[int]) -> int:\n        return sum(xs)"
    answer = f"```python\nfrom typing import List\ndef g(): return 1\n```\n```python\n{later}\n```"
    assert extract(answer).program.strip() == later


def test_livecodebench_extraction_can_be_chosen() -> None:
    answer = f"{F}\n```\n10\n```"
    found = extract(answer, rule=ExtractionRule.LIVECODEBENCH)
    assert (found.program, found.method, found.livecodebench) == ("10", "livecodebench", "10")
    assert extract("words", rule=ExtractionRule.LIVECODEBENCH).method == "none"


# --- growth: steps, not seconds --------------------------------------------------------------------------------

GROWING = [
    "`", "~", "```", "~~~", "```\n", "~~~\n", "````\n```\n", "```python\n", "```py\nx = (\n", "```\nx\n```\n", "a```\n",
    "```python x```y", "```x = 1\na``` b\n", "```\n'''\n", "```\n'''\n```\n", "~~~\n```\n", "> ```\n", "    ```\nx\n",
    "'''py\n", "<think>", "<think>\n", "</think>", "</think>\n", "<think></think>", "<think>a</think>x = 1\n",
    "x </think>\n", "[THINK]\n", "[THINK][/THINK]", "<|channel|>analysis<|message|>", "<|channel|>final", "<|im_end|>",
    "<|im_start|>assistant", "</s>", "<s>", "[BEGIN]\n", "[DONE]\n", "[PYTHON]x = 1[/PYTHON]", "<code>", "</code>\n",
    "<code>x = 1\n", "<answer>a</answer>\n", "`a`\n", "İ", "İ</think>", "<", "<|", "[", "\\begin{", "x = 1\n", "(",
    "\n\nTwo words\n", "```\n\nTwo words\n", "word ", "#", '"""\n', "\t", "\u200b", "<reasoning>\n```\n",
    "```python\nx = 1\n\nTwo words here\n\n", "```\ndef f():\n    return 1\nf(\n```\n",
]  # fmt: skip


def steps(answer: str) -> int:
    """Calls made, and characters parsed."""
    count = 0

    def step(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    parse = ast.parse

    def counted(code: str) -> ast.Module:
        nonlocal count
        count += len(code)
        return parse(code)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ast, "parse", counted)
        before = sys.getprofile()
        sys.setprofile(step)
        try:
            extract(answer, "f")
        finally:
            sys.setprofile(before)
    return count


@pytest.mark.parametrize("piece", GROWING)
@pytest.mark.parametrize("before", ["", "```python\n", "<think>\n", "x "])
def test_steps_grow_with_the_length(before: str, piece: str) -> None:
    small, large = (steps(before + piece * n) for n in (300, 1200))
    assert large <= 6 * small + 20_000


@given(st.lists(st.sampled_from(GROWING), min_size=1, max_size=4).map("".join))
@settings(max_examples=40, deadline=None)
def test_steps_grow_with_the_length_of_mixtures(piece: str) -> None:
    small, large = (steps(piece * n) for n in (100, 400))
    assert large <= 6 * small + 20_000


def test_what_was_parsed_is_gone_at_once() -> None:
    """No circle keeps the trees of an answer until they are collected: with many answers that is most of the time."""
    gc.collect()
    gc.disable()
    try:
        extract("We count words.\n\n```python\nprint(1)\n```\n\n```python\nprint(\n```\n")
        assert not [each for each in gc.get_objects() if type(each) in (ast.Module, SyntaxError)]
    finally:
        gc.enable()


def test_what_was_parsed_is_handed_on() -> None:
    parsed: Parsed = {}
    found = extract("So:\n```python\nprint(1)\n```\n", parsed=parsed)
    tree = parsed[found.program]
    assert isinstance(tree, ast.Module) and ast.unparse(tree) == "print(1)"
    assert isinstance(next(iter(parsed.values())), SyntaxError), "the whole answer was tried first"
