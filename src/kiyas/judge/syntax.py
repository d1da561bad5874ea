"""What a piece of Python is: whether it parses, whether it does anything, which names it lacks."""

from __future__ import annotations

import ast
import builtins
import sys
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

SOLUTION = "solution"
"""the module that tests may import the program from"""
_LONGEST_PARSED = 2_000_000
_BUILTIN = frozenset(dir(builtins)) | {"__file__", "__builtins__", "__annotations__", "exit", "quit"}
_DOING = (ast.Call, ast.Lambda, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef,
          ast.Raise, ast.Assert, ast.While, ast.For, ast.With)  # fmt: skip
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def syntax_tree(code: str) -> ast.Module | None:
    """None for text that is not Python, or that is too long or too deep for the parser."""
    found = read_syntax(code)
    return found if isinstance(found, ast.Module) else None


def read_syntax(code: str) -> ast.Module | SyntaxError | None:
    """The tree, or where the text stops being Python; None where the parser gives up."""
    if len(code) > _LONGEST_PARSED:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except SyntaxError as error:
        # Its frames lead back to whoever keeps it: a circle that holds every tree until it is collected.
        return error.with_traceback(None)
    except (ValueError, RecursionError, MemoryError, OverflowError):
        return None


def foreign_imports(code: str, tried: bool = True) -> tuple[str, ...]:
    """Modules beyond the standard library that some code imports, but for the program's own.

    `tried`: also those whose absence a `try` guards.
    """
    todo: deque[ast.AST] = deque([tree] if (tree := syntax_tree(code)) is not None else [])
    found: dict[str, None] = {}
    while todo:
        match todo.popleft():
            case ast.Try() if not tried:
                continue
            case ast.Import(names=names):
                found |= dict.fromkeys(each.name.partition(".")[0] for each in names)
            case ast.ImportFrom(module=str(module), level=0):
                found[module.partition(".")[0]] = None
            case node:
                todo.extend(ast.iter_child_nodes(node))
    return tuple(name for name in found if name not in sys.stdlib_module_names and name != SOLUTION)


def parses(code: str) -> bool:
    return syntax_tree(code) is not None


def only_values(tree: ast.Module) -> bool:
    """Names, constants and `name: value`, as in a sample: there is nothing to run."""
    return not any(
        isinstance(node, ast.Call)
        or (
            (isinstance(node, ast.stmt) and not isinstance(node, ast.Expr))
            and not (isinstance(node, ast.AnnAssign) and node.value is None)
        )
        for node in ast.walk(tree)
    )


def does_something(tree: ast.Module) -> bool:
    """More than assignments of what is known: it calls, defines, imports, loops or raises."""
    return any(isinstance(node, _DOING) for node in ast.walk(tree))


def returns_outside(tree: ast.Module) -> bool:
    """A `return` outside a function: the parser accepts it, the compiler does not."""
    return any(isinstance(node, ast.Return) for node in _outside_scopes(tree))


def _outside_scopes(tree: ast.Module) -> Iterator[ast.AST]:
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, _SCOPES):
            todo.extend(ast.iter_child_nodes(node))


@dataclass(frozen=True)
class Names:
    """`defined`: bound by something other than an import. `lacking`: read, and bound nowhere in the code.

    `fetched`: imported from a module that is not in the standard library, perhaps the solution's own.
    """

    defined: frozenset[str]
    lacking: frozenset[str]
    fetched: frozenset[str]


def names(tree: ast.Module) -> Names:
    """Of all scopes together. Annotations are not read, and after `import *` nothing is lacking."""
    defined, imported, fetched, read = set[str](), set[str](), set[str](), set[str]()
    star = False
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        match node:
            case ast.Name(id=name):
                (read if isinstance(node.ctx, ast.Load) else defined).add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                defined.add(name)
            case ast.arg(arg=name):
                imported.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                imported.add(name)
            case ast.MatchMapping(rest=str(name)):
                imported.add(name)
            case ast.Import() | ast.ImportFrom():
                bound = {alias.asname or alias.name.partition(".")[0] for alias in node.names}
                star |= "*" in bound
                imported |= bound
                module = getattr(node, "module", None) or ""
                if isinstance(node, ast.ImportFrom) and module.partition(".")[0] not in sys.stdlib_module_names:
                    fetched |= {alias.name for alias in node.names}
        for name, value in ast.iter_fields(node):
            if name not in ("annotation", "returns"):
                todo.extend(
                    each for each in (value if isinstance(value, list) else [value]) if isinstance(each, ast.AST)
                )
    lacking = set() if star else read - defined - imported - _BUILTIN
    return Names(frozenset(defined), frozenset(lacking), frozenset(fetched))


def defines(tree: ast.Module, entry_point: str) -> bool:
    """A function (also a method) of that name with a body, or a name that is assigned or imported."""
    name = entry_point.replace("()", "").rpartition(".")[2]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name:
            if not all(_is_stub(each) for each in node.body):
                return True
        elif isinstance(node, ast.Assign) and any(
            isinstance(each, ast.Name) and each.id == name for each in node.targets
        ):
            return True
    return (
        any(
            isinstance(node, ast.Import | ast.ImportFrom)
            and any((alias.asname or alias.name) == name for alias in node.names)
            for node in tree.body
        )
        and name not in names(tree).fetched
    )


def _is_stub(node: ast.stmt) -> bool:
    match node:
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Raise(exc=ast.Name(id="NotImplementedError") | ast.Call(func=ast.Name(id="NotImplementedError"))):
            return True
    return False
