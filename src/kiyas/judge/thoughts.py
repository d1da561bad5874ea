"""What of a model's output is its answer: without its thoughts, and up to the end of its turn."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .fences import Parser, fenced_blocks

_NAMES = (
    r"think|thinking|thoughts?|thought_process|reasoning|analysis|scratchpad|reflection|inner_monologue|antthinking|"
    r"seed:think"
)
_MESSAGE = r"\b[^<\n]{0,80}(?:<\|constrain\|>\w{0,20})?(?:<\|message\|>)?"
_KINDS = (
    # (opening, closing) of each kind of thought
    (rf"<(?:{_NAMES})(?:[ \t][^<>\n]{{0,80}})?>", rf"</[ \t]{{0,4}}(?:{_NAMES})[ \t]{{0,4}}>"),
    (r"\[(?:think|thinking|thought|reasoning)\]", r"\[/(?:think|thinking|thought|reasoning)\]"),
    (r"◁think▷", r"◁/think▷"),
    (r"<\|(?:begin_of_thought|begin_of_think|start_thinking|think|thinking|thought_start)\|>",
     r"<\|(?:end_of_thought|end_of_think|end_thinking|/think|/thinking|thought_end)\|>"),
    (rf"<\|channel\|>[ \t]{{0,4}}(?:analysis|commentary|thought|thinking){_MESSAGE}",
     rf"<\|channel\|>[ \t]{{0,4}}final{_MESSAGE}"),
    (r"<\|channel>[ \t]{0,4}thought\b", r"<channel\|>"),
    (r"^Thinking\.\.\.$", r"^\.\.\.done thinking\.$"),
    (r"\A\s{0,9}analysis(?=[A-Z])", r"assistantfinal"),
)  # fmt: skip
_TAG = re.compile(
    "|".join(f"(?P<o{n}>{opening})|(?P<c{n}>{closing})" for n, (opening, closing) in enumerate(_KINDS)),
    re.IGNORECASE | re.MULTILINE,
)
_ENDS = re.compile(
    r"<\|(?:im_end|endoftext|eot_id|eom_id|end|end_of_text|end_of_turn|return|eot|eos|endofprompt|call|user|im_sep"
    r"|END_OF_TURN_TOKEN|end▁of▁sentence|fim_\w{1,20}|file_sep\w{0,10}|pad)\|>|<｜end▁of▁sentence｜>|</s>|<end_of_turn>|<turn\|>|<eos>|<pad>|<\|end_of_sentence\|>",
    re.IGNORECASE,
)
_STARTS = re.compile(
    r"<\|(?:im_start|start)\|>[ \t]{0,4}(?:assistant|user|system)?|<\|start_header_id\|>[ \t]{0,4}\w{0,20}[ \t]{0,4}"
    r"<\|end_header_id\|>|<\|(?:assistant|begin_of_text|python_tag)\|>|<start_of_turn>(?:model)?|<｜Assistant｜>|<bos>|<s>|\[/INST\]",
    re.IGNORECASE,
)
_TAG_PART = re.compile(r"think|thought|reasoning|analysis|scratchpad|reflection|monologue|assistantfinal|channel\|?>")
_START_PART = re.compile(r"<\||<start_of_turn>|<bos>|<s>|\[/inst\]")
_END_PART = re.compile(r"<\||</s>|<end_of_turn>|<turn\|>|<eos>|<pad>")
_PARTS = {_TAG: _TAG_PART, _STARTS: _START_PART, _ENDS: _END_PART}
"""Each match in ASCII has one of them, in lower case: most texts have none, and need no search."""
_QUOTES = ("'", '"', "`")


def answer_of(text: str) -> tuple[str, str]:
    """(the answer, why it is less than the text or "")."""
    answer, unended = _without_thoughts(text)
    return _first_turn(answer), unended


def _without_thoughts(text: str) -> tuple[str, str]:
    tags = list(_outside_code(text, _TAG))
    if not tags:
        return text, ""
    last_end = {int(tag.lastgroup[1:]): tag.start() for tag in tags if tag.lastgroup and tag.lastgroup[0] == "c"}
    kept, start, inside, parser = list[str](), 0, -1, Parser.of(text)
    for tag in tags:
        assert tag.lastgroup is not None
        kind, opens = int(tag.lastgroup[1:]), tag.lastgroup[0] == "o"
        if inside < 0 and opens:
            # In the middle of a line, only what is closed again is a tag; the rest are words about one.
            if _begins_line(text, tag.start()) or last_end.get(kind, -1) > tag.start():
                kept.append(text[start : tag.start()])
                inside = kind
        elif not opens and (inside == kind or (inside < 0 and not _in_comment(text, tag.start()))):
            if inside < 0:
                kept.clear()  # it was opened in the prompt
            inside, start = -1, tag.end()
            plain = parser.left > 0 and text[start : start + 200].lstrip()[:1] not in ("[", "~")
            if plain and parser.program(text[start:]) is not None:
                break  # tags in it are in its strings and comments
    if inside >= 0:
        return "".join(kept), "a thought that never ended"
    return "".join([*kept, text[start:]]), ""


def _first_turn(text: str) -> str:
    """Without the tokens at its beginning; what follows an end of turn was not asked."""
    if "<" not in text and "[/INST]" not in text:
        return text
    pieces, start = list[str](), 0
    for tag in _outside_code(text, _STARTS):
        pieces.append(text[start : tag.start()])
        start = tag.end()
    text = "".join([*pieces, text[start:]])
    for tag in _outside_code(text, _ENDS):
        before = text[: tag.start()] if tag.start() < 200 else "x"
        if _ENDS.sub("", before).strip():
            return text[: tag.start()]
    return text


def _outside_code(text: str, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    """Matches that are neither quoted nor in a block that parses: there they are in a string or a comment of it."""
    if text.isascii() and _PARTS[pattern].search(text.lower()) is None:
        return
    found = [match for match in pattern.finditer(text) if not _quoted(text, match)]
    if not found:
        return
    spans = _code_spans(text)
    number = 0
    for match in found:
        while number < len(spans) and spans[number][1] <= match.start():
            number += 1
        if number == len(spans) or match.start() < spans[number][0]:
            yield match


def _code_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of blocks that parse; the whole text where it does, but a bracketed tag parses as a list."""
    parser = Parser.of(text)
    if not text.lstrip().startswith(("[", "~", "`", "<")) and parser.program(text) is not None:
        return [(0, len(text))]
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    return [
        (starts[block.first], starts[min(block.first + block.code.count("\n") + 1, block.last)])
        for block in fenced_blocks(text, parser)
        if block.tree is not None and block.fenced and block.last > block.first
    ]


def _quoted(text: str, match: re.Match[str]) -> bool:
    before, after = text[max(0, match.start() - 3) : match.start()], text[match.end() : match.end() + 1]
    return before[-1:] in _QUOTES and before[-1:] == after and before != "```"


def _begins_line(text: str, at: int) -> bool:
    line = text.rfind("\n", max(0, at - 200), at) + 1
    return not text[line if line else max(0, at - 200) : at].strip(" \t\r\ufeff\u200b\u00a0") or (
        at - line < 200 and not _STARTS.sub("", text[line:at]).strip()
    )


def _in_comment(text: str, at: int) -> bool:
    """After a `#` that has something before it on its line."""
    line = text[max(text.rfind("\n", max(0, at - 400), at) + 1, at - 400) : at]
    return line.find("#") > 0 and bool(line.partition("#")[0].strip())
