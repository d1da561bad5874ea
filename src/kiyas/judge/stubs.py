"""A prompt that is the head of a function, and answers that are only the rest of it."""

from __future__ import annotations

import ast
import re
import textwrap
import threading
import warnings

_LONGEST = 200_000
_quiet = threading.Lock()  # the filters of warnings belong to all threads


def parted(prompt: str, name: str) -> tuple[str, str]:
    """What a prompt gives before the function or class `name`, and its head from there on, decorators included.

    A prompt that does not begin to define it is all before it where it is code, and nothing where it is prose.
    """
    head = re.search(rf"^(?:async[ \t]+def|def|class)[ \t]+{re.escape(name)}\b", prompt, re.MULTILINE)
    if head is None:
        return (prompt, "") if _gives(prompt) else ("", "")
    start = head.start()
    line = prompt.count("\n", 0, start) + 1
    for node in getattr(syntax_tree(prompt) or syntax_tree(prompt.rstrip() + "\n    pass\n"), "body", []):
        if getattr(node, "lineno", 0) == line and (decorators := getattr(node, "decorator_list", [])):
            start = len("".join(prompt.splitlines(keepends=True)[: decorators[0].lineno - 1]))
    return prompt[:start], prompt[start:].rstrip() + "\n"


def _gives(prompt: str) -> bool:
    """Nothing but imports, helpers and constants."""
    tree = syntax_tree(prompt)
    kinds = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.Expr
    return (
        tree is not None
        and all(isinstance(node, kinds) for node in tree.body)
        and len(tree.body) > sum(isinstance(node, ast.Expr) for node in tree.body)
    )


def completed(preamble: str, stub: str, name: str, source: str) -> str:
    """The program as it is run: after what the prompt gives, after its head too where it is only the rest of that."""
    if not source.strip():
        return source
    source = continued(stub, source, name) or source
    if not preamble.strip():
        return source
    future, rest = _future_first(source)
    return f"{future}{preamble}\n{rest}"


def _future_first(source: str) -> tuple[str, str]:
    """A program's imports from the future, which come first in a file, and the rest of it."""
    tree = syntax_tree(source) if "__future__" in source else None
    nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom)] if tree is not None else []
    names = [alias.name for node in nodes if node.module == "__future__" for alias in node.names]
    lines = source.split("\n")
    for node in nodes:
        if node.module == "__future__" and node.end_lineno is not None:
            first, last = lines[node.lineno - 1][: node.col_offset], lines[node.end_lineno - 1][node.end_col_offset :]
            lines[node.lineno - 1 : node.end_lineno] = [f"{first}pass{last}", *[""] * (node.end_lineno - node.lineno)]
    return (f"from __future__ import {', '.join(names)}\n", "\n".join(lines)) if names else ("", source)


def continued(stub: str, source: str, name: str) -> str | None:
    """The head with its rest; None where the source is not merely a rest: it is whole, or does not fit."""
    if not stub or len(source) > _LONGEST or _defines(source, name) or _compiles(source):
        return None
    body = [line for line in stub.splitlines()[1:] if line[:1] in (" ", "\t") and line.strip()]
    indent = body[-1][: len(body[-1]) - len(body[-1].lstrip())] if body else "    "
    # Often the first line, or each, has lost its indentation.
    first = indent + source.lstrip()
    for rest in (source, first, textwrap.indent(textwrap.dedent(source), indent)):
        if _compiles(whole := f"{stub}{rest}"):
            return whole
    return None


def _defines(source: str, name: str) -> bool:
    return re.search(rf"^(?:async[ \t]+def|def|class)[ \t]+{re.escape(name)}\b", source, re.MULTILINE) is not None


def _compiles(source: str) -> bool:
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "<program>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return True


def syntax_tree(code: str) -> ast.Module | None:
    """None for text that is not Python 3."""
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None
