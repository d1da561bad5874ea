"""The program in a model's answer. Never raises, whatever the answer, and takes time linear in it.

The parts: thoughts.py says what the answer is, fences.py which blocks are in it, syntax.py what a block is; here is
which of them is the program.
"""

from __future__ import annotations

import ast

from .fences import INVISIBLE, PYTHON, Block, Parsed, Parser, fenced_blocks
from .syntax import defines, does_something, names, only_values
from .thoughts import answer_of
from .types import MOST_PROGRAM, Extraction, ExtractionRule


def extract(
    answer: str,
    entry_point: str | None = None,
    rule: ExtractionRule = ExtractionRule.KIYAS,
    parsed: Parsed | None = None,
) -> Extraction:
    """The last code block that is a program; without blocks, the whole answer if it is a program.

    Reasoning (`<think>`) is not part of the answer. With `entry_point`, the last block that defines it is the program,
    if one does. A block in another language, one with values only (a sample), and one that uses names which only an
    earlier block defines (a usage, a test) are not programs; blocks tagged Python come before others. If nothing
    parses, the last block tagged Python is used, else the last untagged one: its verdict will be CE.

    An answer of more than MOST_PROGRAM characters is not searched.

    `parsed` collects the parsed blocks, for callers that need the program's syntax tree.

    `livecodebench`: what is between the last two lines with three backticks, as LiveCodeBench does.
    """
    if len(answer) > MOST_PROGRAM:
        return Extraction("", "none", f"the answer is longer than {MOST_PROGRAM:,} characters")
    other_rule = livecodebench_rule(answer)
    if rule == ExtractionRule.LIVECODEBENCH:
        method, reason = ("livecodebench", "between the last two lines with three backticks")
        if not other_rule.strip():
            method, reason = "none", "nothing between two lines with three backticks"
        return Extraction(other_rule, method, reason, other_rule)
    text, unended = answer_of(answer)
    parser = Parser.of(text, parsed)
    stripped = text.strip(" \t\r\n" + INVISIBLE)
    if not stripped:
        return Extraction("", "none", unended or "the answer is empty", other_rule)
    if not stripped.startswith(("~", "[", "`")) and "[DONE]" not in text and parser.program(_visible(text)):
        return Extraction(_visible(text), "whole", "no fence; the whole answer parses", other_rule)
    blocks = fenced_blocks(text, parser)
    chosen = _chosen(blocks, entry_point)
    if chosen is not None:
        reason = _which(blocks, chosen)
        method = "fence-unparsed" if chosen.tree is None else "fence" if chosen.closed else "unclosed-fence"
        if chosen.tree is None:
            reason = "no fenced block parses as Python"
        return Extraction(chosen.code, method, reason, other_rule)
    return _unfenced(text, stripped, bool(blocks), entry_point, parser, unended, other_rule)


def _unfenced(
    text: str, stripped: str, fenced: bool, entry_point: str | None, parser: Parser, unended: str, other_rule: str
) -> Extraction:
    if fenced:
        return Extraction("", "none", "no block is a Python program", other_rule)
    if entry_point is not None and _is_body(text):
        return Extraction(text, "body", "no fence; the answer is the body of a function", other_rule)
    for code in filter(None, (_visible(text), _unquoted(stripped))):
        if (tree := parser.tree(code)) is not None:
            if not only_values(tree):
                return Extraction(code, "whole", "no fence; the whole answer parses", other_rule)
            return Extraction("", "none", "no fence, and the whole answer is only a value", other_rule)
    return Extraction("", "none", unended or "no fence, and the whole answer is not Python", other_rule)


def _visible(text: str) -> str:
    """Without invisible characters before and after it, where Python does not accept them."""
    code = text.lstrip(INVISIBLE + " \t\r\n")
    before = text[: len(text) - len(code)]
    if any(sign in INVISIBLE for sign in before):
        text = "".join(sign for sign in before.rpartition("\n")[2] if sign in " \t") + code
    code = text.rstrip(INVISIBLE + " \t\r\n")
    return code if any(sign in INVISIBLE for sign in text[len(code) :]) else text


def _unquoted(text: str) -> str:
    """Out of one pair of single or double backticks around all of it; "" without them."""
    marks = len(text) - len(text.lstrip("`"))
    if not 0 < marks < 3 or not text.endswith("`" * marks):
        return ""
    first, line_end, rest = text[marks:-marks].partition("\n")
    return rest if PYTHON.fullmatch(first.strip()) else first + line_end + rest


def _is_body(text: str) -> bool:
    """The indented rest of a function, as base models complete it."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    if first[:1] not in (" ", "\t"):
        return False
    tree = Parser.of(text).tree(f"def _():\n{text}\n")
    return tree is not None and any(isinstance(node, ast.Return | ast.Yield) for node in ast.walk(tree))


def _chosen(blocks: list[Block], entry_point: str | None) -> Block | None:
    """The block that is the program, or the one to be judged as CE; None where there is none."""
    parsing = [block for block in blocks if block.tree is not None and not block.foreign]
    programs = [block for block in parsing if block.tree is not None and not only_values(block.tree)]
    if entry_point is not None:
        definers = [block for block in programs if block.tree is not None and defines(block.tree, entry_point)]
        if definers:
            return max(enumerate(definers), key=lambda pair: (pair[1].python, pair[0]))[1]
    if len(programs) == 1:
        return programs[0]
    ranked = []
    earlier = set[str]()
    for number, block in enumerate(programs):
        assert block.tree is not None
        found = names(block.tree)
        usage = not earlier.isdisjoint((found.lacking | found.fetched) - found.defined)
        earlier |= found.defined
        ranked.append(
            (not usage, does_something(block.tree), not block.inline, block.python, not found.lacking, number)
        )
    if ranked:
        return programs[max(ranked)[-1]]
    unparsed = [block for block in blocks if block.tree is None and not block.foreign]
    return max(unparsed, key=lambda block: (block.python, block.first), default=None)


def _which(blocks: list[Block], chosen: Block) -> str:
    number = next(n for n, block in enumerate(blocks, 1) if block is chosen)
    after = len(blocks) - number
    return f"block {number} of {len(blocks)}" + (f", {after} after it passed over" if after else "")


def livecodebench_rule(answer: str) -> str:
    """Between the last two lines that contain three backticks, whatever is there; "" with fewer than two."""
    end = answer.rfind("\n", 0, max(0, answer.rfind("```")))
    start = answer.rfind("```", 0, max(0, end))
    return answer[answer.find("\n", start) + 1 : end] if start >= 0 else ""
