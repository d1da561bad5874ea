"""The program in a model's answer. Never raises, whatever the answer."""

from __future__ import annotations

import ast
import re
import warnings

from .types import Extraction

_THINK = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<tag>[^\s`]*)[^`]*$")
_LONGEST_PARSED = 2_000_000


def extract(answer: str) -> Extraction:
    """The last fenced block that parses as Python; without a fence, the whole answer if it parses.

    Closed `<think>` blocks are removed first, and all before a `</think>` whose opening was in the prompt. `~~~` fences
    and a last fence that is never closed count. A block that is only a literal (a sample output) is taken only if there
    is no other. If no block parses, the last one tagged Python is taken, else the last: its verdict will be CE.
    """
    other_rule = livecodebench_rule(answer)
    text = _THINK.sub("", answer)
    end = text.lower().rfind("</think>")
    if end >= 0:
        text = text[end + len("</think>") :]
    blocks = fenced_blocks(text)
    if not blocks:
        stripped = text.strip()
        if stripped and parses(text):
            return Extraction(text, "whole", "no fence; the whole answer parses", other_rule)
        reason = "the answer is empty" if not stripped else "no fence, and the whole answer is not Python"
        return Extraction("", "none", reason, other_rule)
    parsing = [block for block in blocks if parses(block.code)]
    programs = [block for block in parsing if not only_literals(block.code)]
    if programs or parsing:
        block = (programs or parsing)[-1]
        after = len(blocks) - 1 - blocks.index(block)
        reason = f"block {blocks.index(block) + 1} of {len(blocks)}" + (
            f", {after} after it passed over" if after else ""
        )
        return Extraction(block.code, "fence" if block.closed else "unclosed-fence", reason, other_rule)
    tagged = [block for block in blocks if block.tag.lower() in ("python", "py", "python3")]
    return Extraction((tagged or blocks)[-1].code, "fence-unparsed", "no fenced block parses as Python", other_rule)


class _Block:
    """`code` is the block without the indentation of its fence (in a list, for example)."""

    def __init__(self, tag: str, indent: int) -> None:
        self.tag, self.indent, self.lines, self.closed = tag, indent, list[str](), False

    @property
    def code(self) -> str:
        lines = []
        for line in self.lines:
            spaces = len(line) - len(line.lstrip(" \t"))
            lines.append(line[min(self.indent, spaces) :])
        return "\n".join(lines) + "\n"


def fenced_blocks(text: str) -> list[_Block]:
    """Blocks between fences; a fence is closed by one of the same sign, at least as long, with nothing after it."""
    blocks: list[_Block] = []
    fence = ""
    for line in text.replace("\r\n", "\n").split("\n"):
        match = _FENCE.match(line)
        if not fence:
            if match:
                fence = match["fence"]
                blocks.append(_Block(match["tag"], len(match["indent"])))
        elif match and match["fence"][0] == fence[0] and len(match["fence"]) >= len(fence) and not match["tag"]:
            blocks[-1].closed, fence = True, ""
        else:
            blocks[-1].lines.append(line)
    return [block for block in blocks if block.code.strip()]


def syntax_tree(code: str) -> ast.Module | None:
    """None for text that is not Python, or that is too long or too deep for the parser."""
    if len(code) > _LONGEST_PARSED:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None


def parses(code: str) -> bool:
    return syntax_tree(code) is not None


def only_literals(code: str) -> bool:
    """Nothing but bare names and constants, as in a sample's output: such a program could do nothing."""
    tree = syntax_tree(code)
    return tree is not None and not any(
        isinstance(node, ast.Call | ast.stmt) and not isinstance(node, ast.Expr) for node in ast.walk(tree)
    )


def livecodebench_rule(answer: str) -> str:
    """Between the last two lines that contain three backticks, whatever is there; "" with fewer than two."""
    lines = answer.split("\n")
    marks = [number for number, line in enumerate(lines) if "```" in line]
    return "\n".join(lines[marks[-2] + 1 : marks[-1]]) if len(marks) >= 2 else ""
