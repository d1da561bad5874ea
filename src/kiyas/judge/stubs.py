"""A prompt that is the head of a function, and answers that are only the rest of it."""

from __future__ import annotations

import ast
import re
import textwrap
import threading
import warnings

from .syntax import defines, names, syntax_tree

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
    if not stub or len(source) > _LONGEST or _defines(source, name):
        return None
    is_python = _compiles(source)
    if is_python and not _is_rest(source, stub, name):
        return None
    body = [line for line in stub.splitlines()[1:] if line[:1] in (" ", "\t") and line.strip()]
    indent = body[-1][: len(body[-1]) - len(body[-1].lstrip())] if body else "    "
    # Often the first line, or each, has lost its indentation.
    first, each = indent + source.lstrip(), textwrap.indent(textwrap.dedent(source), indent)
    for rest in (each,) if is_python else (source, first, each):
        if _compiles(whole := f"{stub}{rest}"):
            return whole
    return None


def _defines(source: str, name: str) -> bool:
    return re.search(rf"^(?:async[ \t]+def|def|class)[ \t]+{re.escape(name)}\b", source, re.MULTILINE) is not None


def _is_rest(source: str, stub: str, name: str) -> bool:
    """Whether something that is Python by itself can only be meant as the rest: statements with the function's own
    parameters, or a class's methods."""
    tree, head = syntax_tree(source), syntax_tree(f"{stub}    pass\n")
    if tree is None or head is None or defines(tree, name):
        return False
    match head.body[-1]:
        case ast.ClassDef():
            return all(isinstance(node, ast.FunctionDef) and _of_class(node) for node in tree.body)
        case ast.FunctionDef() | ast.AsyncFunctionDef() as function:
            parameters = {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}
            return bool(names(tree).lacking & parameters)
    return False


def _of_class(method: ast.FunctionDef) -> bool:
    return bool(method.args.args) and method.args.args[0].arg in ("self", "cls")


def _compiles(source: str) -> bool:
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "<program>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return True
