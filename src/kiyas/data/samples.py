"""The samples that a problem's statement shows, as tests.

Three ways to write them are read: headings ("Sample Input 1", "Sample Output 1", also "Example", and AtCoder's Japanese
ones); "Input" and "Output" below a heading "Examples", as on Codeforces; and doctests of a Python function. A sample's
text is what is in the code fence below its heading, else all up to the next heading; of an output only the first
paragraph, since an explanation may follow.

Not guaranteed: that an output with a blank line in it is read whole.
"""

from __future__ import annotations

import ast
import doctest
import re
from collections.abc import Iterator

from kiyas.judge import JudgeError, Problem, Test, problem_from_row

FENCE = re.compile(r"\s*(```+|~~~+)")
HEADING = re.compile(r"(?:(?:sample|example)s?\s+)(input|output)s?(?:\s*(?:case|#|no\.)?\s*\d+)?", re.IGNORECASE)
PLAIN = re.compile(r"(input|output)(?:\s*#?\s*\d+)?", re.IGNORECASE)
JAPANESE = re.compile(r"(入力|出力)例\s*\d*")
SECTION = re.compile(
    r"(?:(?:sample|example)s?(?:\s*\d+)?|note|notes|explanation|constraints|hint|hints)", re.IGNORECASE
)
REMARK = re.compile(r"(?:notes?|explanations?|hints?)\s*[:：].*", re.IGNORECASE)
"""a heading with its text behind it, right below an output"""
QUOTES = re.compile(r"^[ \t]*(?:\"\"\"|'''|```|~~~).*$", re.MULTILINE)
DEFINED = re.compile(r"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)[ \t]*\(", re.MULTILINE)
EMPTY = 3
"""so many blank lines below a heading are an output that is empty; what comes then explains it"""


def problem_of(statement: str, id: str) -> Problem:
    """A problem whose tests are the samples in its statement; without samples it has no tests."""
    tests = tuple(samples(statement))
    if not tests and (found := _of_doctests(statement, id)) is not None:
        return found
    return Problem(id=id, tests=tests, statement=statement)


def samples(statement: str) -> Iterator[Test]:
    """Pairs of input and output, in their order. An input without an output is left out."""
    waiting: str | None = None
    for kind, lines in _blocks(statement):
        if kind == "input":
            waiting = "\n".join(_trimmed(lines))
        elif kind == "output" and waiting is not None:
            output = "\n".join(_first_paragraph(lines))
            if output.strip():
                yield Test(f"{waiting}\n" if waiting else "", output)
            waiting = None


def _blocks(statement: str) -> Iterator[tuple[str, list[str]]]:
    """(input, output or "", the lines below the heading)."""
    kind, lines, fence, plain = "", list[str](), "", False
    for line in statement.splitlines():
        opening = FENCE.match(line)
        if opening and (not fence or line.strip().startswith(fence)):
            fence = "" if fence else opening[1]
            lines.append(line)
            continue
        heading, plain_too = ("", plain) if fence else _heading(line, plain)
        if heading or plain_too != plain:
            yield kind, lines
            kind, lines, plain = heading, [], plain_too
        else:
            lines.append(line)
    yield kind, lines


def _heading(line: str, plain: bool) -> tuple[str, bool]:
    """What a line begins: input, output, "section" or "" (no heading); and whether "Input" alone is a sample's heading
    from here on."""
    said = line.strip().strip("#*_ \t:：").strip("：: \t")
    if found := HEADING.fullmatch(said) or (plain and PLAIN.fullmatch(said)) or None:
        return found[1].lower(), plain
    if found := JAPANESE.fullmatch(said):
        return ("input" if found[1] == "入力" else "output"), plain
    if REMARK.fullmatch(said):
        return "section", plain
    if SECTION.fullmatch(said):
        return "section", said.lower().startswith(("sample", "example"))
    return "", plain


def _trimmed(lines: list[str]) -> list[str]:
    """What is in the first fence, or all, without blank lines around it."""
    fenced = [n for n, line in enumerate(lines) if FENCE.match(line)]
    if len(fenced) >= 2:
        lines = lines[fenced[0] + 1 : fenced[1]]
    filled = [n for n, line in enumerate(lines) if line.strip()]
    return [line.rstrip() for line in lines[filled[0] : filled[-1] + 1]] if filled else []


def _first_paragraph(lines: list[str]) -> list[str]:
    if any(FENCE.match(line) for line in lines):
        return _trimmed(lines)
    if not any(line.strip() for line in lines[:EMPTY]):
        return []
    found = _trimmed(lines)
    return found[: next((n for n, line in enumerate(found) if not line), len(found))]


def _of_doctests(statement: str, id: str) -> Problem | None:
    """A function with examples in its docstring, as HumanEval asks for them; None where there is none."""
    try:
        examples = doctest.DocTestParser().get_examples(QUOTES.sub("", statement))
    except ValueError:
        return None
    shown = [(each.source.strip(), each.want.strip()) for each in examples]
    pairs = [(source, want) for source, want in shown if _is_expression(source) and _is_value(want)]
    called = [name for name in DEFINED.findall(statement) if any(f"{name}(" in source for source, _ in pairs)]
    if not called:
        return None
    name = called[-1]
    lines = [f"    assert ({source}) == ({want})" for source, want in pairs if f"{name}(" in source]
    test = "\n".join(["def check(candidate):", f"    {name} = candidate", *lines])
    try:
        return problem_from_row({"task_id": id, "prompt": statement, "entry_point": name, "test": test}, "humaneval")
    except JudgeError:  # words and code: it is asked as it is
        code = f"{test}\n\ncheck({name})\n"
        return Problem(id=id, tests=(), statement=statement, entry_point=name, test_code=code)


def _is_expression(source: str) -> bool:
    try:
        ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _is_value(want: str) -> bool:
    try:
        ast.literal_eval(want)
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return False
    return True
