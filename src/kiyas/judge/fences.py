"""Blocks of code in a text: between fences, as models really write them.

A fence is three backticks or tildes or more. CommonMark's rules come first; where a block read by them is not Python,
other readings are tried, and one counts only if the code then parses:

- code on the line of the opening fence, and a closing fence at the end of a line of code or with words after it
- fence lines inside a docstring, which do not close the block
- indentation of the fence that the code does not have, and the other way round
- words after the code of a block that was never closed

Tags such as `[PYTHON]`, `<code>` and `[BEGIN]` delimit a block too, if it parses; so does a closing fence alone.

Every line is read once and belongs to one block. Other readings spend from one allowance, a multiple of the text's
length, so that the whole is linear in it.
"""

from __future__ import annotations

import ast
import bisect
import itertools
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from .syntax import does_something, names, only_values, read_syntax, returns_outside

INVISIBLE = "\ufeff\u200b\u200c\u200d\u200e\u200f\u2060\u00ad\u00a0"
PYTHON = re.compile(r"(?:[icmr]?python|pypy|py|sage)[ -]?[\d.]{0,8}(?:-repl)?|[\w./-]{1,80}\.py", re.IGNORECASE)
FOREIGN = frozenset((
    "ada", "apl", "applescript", "asm", "assembly", "awk", "bash", "basic", "bat", "batch", "bnf", "brainfuck", "c",
    "c#", "c++", "cc", "clj", "clojure", "cmake", "cmd", "cobol", "coffee", "coffeescript", "common-lisp",
    "console", "cpp", "cs", "csharp", "css", "csv", "cuda", "cxx", "d", "dart", "diff", "dockerfile", "dot", "ebnf",
    "elisp", "elixir", "elm", "erl", "erlang", "error", "errors", "example", "expected", "f#", "f90", "fish",
    "fortran", "fsharp", "go", "golang", "graphql", "groovy", "h", "haskell", "hpp", "hs", "html", "http", "ini",
    "input", "java", "javascript", "jl", "js", "json", "json5", "jsonl", "jsx", "julia", "kotlin", "kt", "latex",
    "lisp", "log", "lua", "make", "makefile", "math", "mathematica", "matlab", "mermaid", "mysql", "nasm", "nim",
    "node", "objc", "objective-c", "objectivec", "ocaml", "octave", "out", "output", "pascal", "patch", "perl",
    "php", "pl", "postgres", "postgresql", "powershell", "prolog", "properties", "ps", "ps1", "pwsh", "pycon",
    "pytb", "python-console", "python-traceback", "r", "racket", "rb", "result", "results", "rs", "ruby", "rust",
    "sample", "samples", "scala", "scheme", "sed", "sh", "shell", "shell-session", "sol", "solidity", "sql",
    "sqlite", "stderr", "stdin", "stdout", "svg", "swift", "tcl", "terminal", "tests", "tex", "toml", "traceback",
    "ts", "tsv", "tsx", "typescript", "vb", "verilog", "vhdl", "vim", "xml", "yaml", "yml", "zig", "zsh",
))  # fmt: skip
"""Tags whose block is not a Python program, whatever it looks like."""
TRANSPARENT = ("markdown", "md")

_MARK = re.compile(r"`{3,}|~{3,}|'{3}(?=py)|\"{3}(?=py)")
_SIGNS = ("```", "~~~", "'''", '"""')
_BLANKS = " \t\r\x0b\x0c" + INVISIBLE
_LIST_MARK = re.compile(r"[-*+>#•]{1,6}|\(?\w{1,3}[.)]|\*{0,2}")
_WORD = re.compile(r"[ \t]*(?:\{[ \t]*)?\.?([\w+#./-]{1,80})")
_WRAP = re.compile(
    r"\[(?P<end>/?)(?P<name>PYTHON|CODE|BEGIN|DONE|ANSWER|SOLUTION)\]"
    r"|<(?P<end2>/?)(?P<name2>code|python|py|python_code|program|answer|final|final_answer|final_code|response|output"
    r"|solution|pre)(?:[ \t][^<>\n]{0,100})?>"
    r"|<\|(?P<name3>begin|end)_of_(?:solution|answer)\|>"
    r"|\\(?P<name4>begin|end)\{(?:lstlisting|verbatim|minted|code)\}(?:\[[^\]\n]{0,80}\]|\{\w{0,20}\}){0,2}",
    re.IGNORECASE,
)
_CODE_TAGS = ("python", "py", "python_code", "code", "program")
_TWO_WORDS = re.compile(r"\W{0,6}([^\W\d_][\w’'-]{0,60})[,:;]?[ \t]+\W{0,3}([^\W\d_][\w’'-]{0,60})")
_OTHER_SCRIPT = re.compile(r"[^\x00-\x7f].{0,400}[。．：！？]", re.DOTALL)
_OPEN_STRING = "unterminated triple-quoted"
_LOOSE, _LONGER = 4, 12
_ALLOWANCE = 16


@dataclass
class Block:
    """`code` without the indentation of its fence; `tree` None where it does not parse."""

    tag: str
    code: str
    closed: bool = True
    tree: ast.Module | None = None
    fenced: bool = True
    """False: between other tags, or before a closing fence"""
    inline: bool = False
    """in single backticks, alone on its line"""
    first: int = 0
    last: int = 0
    """lines of the text with its code; `last` is the first one after them"""

    @property
    def python(self) -> bool:
        return bool(PYTHON.fullmatch(self.tag))

    @property
    def foreign(self) -> bool:
        return self.tag.lower() in FOREIGN


Parsed = dict[str, ast.Module | SyntaxError | None]
"""By code: what read_syntax says of it; None also where it was not looked at any more."""


@dataclass
class Parser:
    """Parses until the allowance of characters is spent; then nothing parses any more."""

    left: int
    seen: Parsed = field(default_factory=dict)

    @classmethod
    def of(cls, text: str, seen: Parsed | None = None) -> Parser:
        """`seen`: takes what is parsed."""
        return cls(_ALLOWANCE * len(text) + 4096, {} if seen is None else seen)

    def read(self, code: str) -> ast.Module | SyntaxError | None:
        if code not in self.seen:
            self.left -= len(code) + 16
            self.seen[code] = read_syntax(code) if self.left > 0 else None
        return self.seen[code]

    def tree(self, code: str) -> ast.Module | None:
        found = self.read(code)
        return found if isinstance(found, ast.Module) else None

    def program(self, code: str) -> ast.Module | None:
        """The tree of what parses, has something to run, and does not return outside a function."""
        tree = self.tree(code)
        return tree if tree is not None and not only_values(tree) and not returns_outside(tree) else None


def fenced_blocks(text: str, parser: Parser | None = None) -> list[Block]:
    """All blocks of a text that are not blank, in its order."""
    return [block for block in _Reader(text, parser or Parser.of(text)).read() if block.code.strip()]


@dataclass(frozen=True)
class _Mark:
    """The first fence of a line: what is before it, its sign and length, what is after it."""

    before: str
    sign: str
    length: int
    rest: str

    @property
    def first(self) -> bool:
        return not self.before.strip(_BLANKS + ">")

    @property
    def bare(self) -> bool:
        return not self.rest.strip(_BLANKS)

    @property
    def opens(self) -> bool:
        """It can only be an opening fence: a language, and nothing that looks like words, after it."""
        word, more = info(self.rest)
        known = PYTHON.fullmatch(word) or word.lower() in FOREIGN or word.lower() in TRANSPARENT
        return bool(word) and self.rest[:1] not in " \t" and (bool(known) or not more.strip(_BLANKS))


def info(rest: str) -> tuple[str, str]:
    """(language, what is after it) of what is after an opening fence."""
    match = _WORD.match(rest)
    if match is None:
        return "", rest.strip(_BLANKS)
    word, more = match[1], rest[match.end() :]
    if PYTHON.fullmatch(word) and (number := re.match(r" (?:[23](?:\.\d{1,2})?)(?=[ \t\r]*$)", more)):
        more = more[number.end() :]
    if more[:1] in ("(", "[", "=", "'", '"') or (more[:1] == "." and not PYTHON.fullmatch(word)):
        return "", rest.strip(_BLANKS)
    return word.rstrip("."), more.strip(_BLANKS + "}")


class _Reader:
    def __init__(self, text: str, parser: Parser) -> None:
        self.parser = parser
        self.lines = text.replace("\r\n", "\n").split("\n")
        # Most lines have no fence, and need no search.
        signs = [sign for sign in _SIGNS if sign in text]
        fenced = {n for sign in signs for n, line in enumerate(self.lines) if sign in line}
        self.marks = {n: mark for n in sorted(fenced) if (mark := _mark(self.lines[n])) is not None}
        self.marked = list(self.marks)
        self.strict: dict[str, list[int]] = {}  # lines that may end a block of this sign, with nothing before the fence
        for n, mark in self.marks.items():
            if mark.first:
                self.strict.setdefault(mark.sign, []).append(n)
        self.blocks: list[Block] = []
        self.text: list[str] = []
        self.wrapped = ""
        self.done = False

    def read(self) -> list[Block]:
        n, rest = 0, None  # `rest`: of line n, what is still to be read of it
        while n < len(self.lines) and not self.done:
            line = self.lines[n] if rest is None else rest
            mark = self.marks.get(n) if rest is None else _mark(line)
            rest = None
            if mark is None:
                self._words(line, n)
                n += 1
                continue
            again = mark.rest.find(mark.sign * 3)
            if again >= 0 and not (mark.first and mark.sign == "~"):
                self._words(mark.before, n)
                self._one_line(mark.rest[:again], n)
                rest = mark.rest[again:].lstrip(mark.sign)
                continue
            if self._is_opener(mark):
                n, rest = self._block(n, mark)
                continue
            self._words(line, n)
            n += 1
        if self.wrapped:
            self._wrapper_ends(len(self.lines))
        return self.blocks

    def _is_opener(self, mark: _Mark) -> bool:
        if mark.sign == "`" and "`" in mark.rest:
            return False
        if mark.first or _LIST_MARK.fullmatch(mark.before.strip(_BLANKS + ">")):
            return True
        word, more = info(mark.rest)
        return mark.sign != "~" and (
            mark.bare or bool(PYTHON.fullmatch(word)) or (word.lower() in FOREIGN and not more)
        )

    # -- between blocks

    def _words(self, line: str, n: int) -> None:
        """Text outside of fences: other tags delimit blocks in it, and a line in single backticks is one."""
        end = 0
        for match in _WRAP.finditer(line):
            quoted = line[match.start() - 1 : match.start()]
            if quoted in ("`", "'", '"') and quoted and quoted == line[match.end() : match.end() + 1]:
                continue
            self.text.append(line[end : match.start()])
            end = match.end()
            name = next(match[group] for group in ("name", "name2", "name3", "name4") if match[group]).lower()
            closes = bool(match["end"] or match["end2"]) or name in ("end", "done")
            if closes:
                self._wrapper_ends(n + 1)
            self.text, self.wrapped = [], "" if closes else name
            if name == "done" and self.blocks:
                self.done = True  # what follows is another task
                return
        rest = line[end:]
        self.text.append(rest)
        span = rest.strip(_BLANKS)
        marks = len(span) - len(span.lstrip("`"))
        if 0 < marks < 3 and len(span) > 2 * marks and span.endswith("`" * marks):
            code = span[marks:-marks] + "\n"
            if "`" not in code and (tree := self.parser.program(code)) is not None:
                self.blocks.append(Block("", code, tree=tree, fenced=False, inline=True, first=n, last=n))

    def _wrapper_ends(self, n: int) -> None:
        """The text since the last tag is a block if it parses; between tags for code, also if it does not."""
        code = "\n".join(self.text).strip("\r\n") + "\n"
        tag = "python" if self.wrapped in _CODE_TAGS else ""
        tree = self.parser.program(code)
        if tree is None and (bare := code.strip(_BLANKS)) != code:
            tree = self.parser.program(bare)
            code = bare if tree is not None else code
        if tree is not None or (tag and code.count("\n") > 1):
            self.blocks.append(Block(tag, code, tree=tree, fenced=False, first=n - len(self.text), last=n))
        self.wrapped = ""

    def _one_line(self, code: str, n: int) -> None:
        word, more = info(code)
        known = PYTHON.fullmatch(word) or word.lower() in FOREIGN
        tag, code = (word, more) if known else ("", code.strip(_BLANKS))
        if (tree := self.parser.program(code)) is not None:
            self.blocks.append(Block(tag, code + "\n", tree=tree, first=n, last=n))

    # -- blocks

    def _block(self, n: int, mark: _Mark) -> tuple[int, str | None]:
        """Reads the block that line n opens; where reading goes on: the line, and the rest of it."""
        word, _ = info(mark.rest)
        if mark.bare:
            self.text.append(mark.before)
            code = "\n".join(self.text).strip("\r\n") + "\n"
            if (tree := self.parser.program(code)) is not None:
                # Only the closing fence of it is there.
                first = n + 1 - len(self.text)
                self.blocks.append(Block("", code, tree=tree, fenced=False, first=first, last=n + 1))
                self.text = []
                return n + 1, None
        self.text, self.wrapped = [], ""
        if word.lower() in TRANSPARENT:
            return n + 1, None
        if self._is_around(n, mark):
            return n + 1, None
        stop = next(self._ends(n, mark))
        block = self._parsed(n, stop, mark)
        if block.tree is None and self.parser.left > 0:
            found = self._longer(n, mark, block, stop) or self._shorter(n, mark, stop)
            if found is not None:
                block, after, rest = found
                self.blocks.append(block)
                return after, rest
            if not block.closed:
                self._without_words(block)
        self.blocks.append(block)
        if stop >= len(self.lines):
            return stop, None
        end = self.marks[stop]
        if end.opens:
            return stop, None
        return (stop + 1, None) if end.bare else (stop, end.rest)

    def _is_around(self, n: int, mark: _Mark) -> bool:
        """The block begins with another fence: it is a fence around fences."""
        while n + 1 < len(self.lines) and not self.lines[n + 1].strip(_BLANKS):
            n += 1
        inner = self.marks.get(n + 1)
        if inner is None or not inner.first:
            return False
        return inner.opens or (inner.bare and (inner.sign != mark.sign or inner.length < mark.length))

    def _ends(self, n: int, mark: _Mark) -> Iterator[int]:
        """Lines that may end the block, in order; at last the end of the text."""
        lines = self.strict.get(mark.sign, [])
        for k in range(bisect.bisect_right(lines, n), len(lines)):
            end = self.marks[lines[k]]
            self.parser.left -= 4
            if end.opens or (end.length >= mark.length and mark.sign * 3 not in end.rest):
                yield lines[k]
        yield len(self.lines)

    def _parsed(self, n: int, stop: int, mark: _Mark, last: str | None = None) -> Block:
        """Lines n + 1 to `stop` as a block (`last`: and this beginning of line `stop`), in the reading that parses."""
        word, more = info(mark.rest)
        lines = self.lines[n + 1 : stop] + ([] if last is None else [last])
        if ">" in mark.before:
            lines = [line.lstrip(_BLANKS).removeprefix(">").removeprefix(" ") for line in lines]
        closed = stop < len(self.lines) and (last is not None or not self.marks[stop].opens)
        known = PYTHON.fullmatch(word) or word.lower() in FOREIGN
        plain = Block(word, "", closed, first=n + 1, last=stop)
        indent = len(mark.before) - len(mark.before.lstrip(" \t")) if mark.first else 0
        readings = _dedented(lines, indent)
        plain.code = readings[0]
        if plain.foreign:
            return plain
        tag, head = (word, more) if known else ("", mark.rest.strip(_BLANKS))
        if head and not self._is_attribute(head, readings[0]):
            for code in readings:
                if (found := self.parser.program(f"{head}\n{code}")) is not None:
                    return Block(tag, f"{head}\n{code}", closed, found, first=n + 1, last=stop)
        for code in readings:
            tree = self.parser.tree(code)
            if tree is not None and not (code is not readings[0] and returns_outside(tree)):
                plain.code, plain.tree = code, tree
                return plain
        return plain

    def _is_attribute(self, head: str, code: str) -> bool:
        """What is after the fence's language is not code: a file's name, or `title="main.py"`."""
        tree = self.parser.tree(head)
        if tree is None or does_something(tree):
            return False
        alone = self.parser.program(code)
        return only_values(tree) or (alone is not None and not names(alone).lacking & names(tree).defined)

    def _longer(self, n: int, mark: _Mark, block: Block, stop: int) -> tuple[Block, int, str | None] | None:
        """The fence that seemed to close the block is in a string of it."""
        tries = 0
        for end in self._ends(n, mark):
            if end <= stop:
                continue
            error = self.parser.read(block.code)
            if not (isinstance(error, SyntaxError) and _OPEN_STRING in (error.msg or "")) or tries >= _LONGER:
                return None
            tries += 1
            block = self._parsed(n, end, mark)
            if block.tree is not None:
                if end >= len(self.lines) or self.marks[end].opens:
                    return block, end, None
                return block, end + 1, None if self.marks[end].bare else self.marks[end].rest
        return None

    def _shorter(self, n: int, mark: _Mark, stop: int) -> tuple[Block, int, str | None] | None:
        """A fence with code before it, or in a block without an end one of another sign or length, closes it."""
        first = bisect.bisect_right(self.marked, n)
        for k in self.marked[first : first + _LOOSE]:
            if k >= stop:
                break
            end = self.marks[k]
            if not (end.bare and stop == len(self.lines) if end.first else end.sign == mark.sign):
                continue
            block = self._parsed(n, k, mark, end.before)
            if block.tree is not None:
                return block, k + 1, None if end.bare else end.rest
        return None

    def _without_words(self, block: Block) -> None:
        """Words after the code are left out, from a paragraph on that begins with words which are not Python's."""
        lines = block.code.split("\n")
        begins = (n for n in range(1, len(lines)) if not lines[n - 1].strip() and is_prose(lines[n]))
        for at in itertools.islice(begins, _LOOSE):
            shorter = "\n".join(lines[:at]).rstrip() + "\n"
            if (tree := self.parser.program(shorter)) is not None:
                block.code, block.tree = shorter, tree
                return


def is_prose(line: str) -> bool:
    """Words of a language, not of Python: two plain names never follow each other there."""
    if match := _TWO_WORDS.match(line):
        return not any(
            keyword.iskeyword(word) or keyword.issoftkeyword(word) or word in ("print", "exec")
            for word in match.groups()
        )
    return bool(_OTHER_SCRIPT.match(line))


def _mark(line: str) -> _Mark | None:
    match = _MARK.search(line)
    if match is None or (match[0][0] in "'\"" and line[: match.start()].strip(_BLANKS)):
        closing = line.strip(_BLANKS)
        if closing in ("'''", '"""'):
            return _Mark("", closing[0], 3, "")
        return None
    return _Mark(line[: match.start()], match[0][0], len(match[0]), line[match.end() :])


def _dedented(lines: list[str], indent: int) -> list[str]:
    """Readings of the code's indentation: the fence's own where all lines have it, CommonMark's, none at all."""
    blanks = [len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()]
    least = min(blanks, default=0)
    common = min(indent, least)
    codes = ["\n".join(line[common:] if line.strip() else line[min(common, len(line)) :] for line in lines)]
    if indent > common:
        codes.append("\n".join(line[min(indent, len(line) - len(line.lstrip(" \t"))) :] for line in lines))
    if least > common:
        codes.append("\n".join(line[least:] for line in lines))
    return [code + "\n" for code in dict.fromkeys(codes)]
