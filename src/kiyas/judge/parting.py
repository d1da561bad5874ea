"""Which assert-style tests can run in a process of their own. Decided from the problem alone, never from a program.

They can where they call what a program defines with values that cross as data, and look at nothing but what comes back
(`inside/parted.py`). What they must not do: define classes, set attributes, capture streams, use modules that reach
into the program's process. Everything that is not understood shares the program's process.
"""

from __future__ import annotations

import ast
import builtins
import functools
import re
import symtable
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from .syntax import SOLUTION
from .types import Problem

# Modules that tests may use on their side: what they do there depends on their arguments only.
PURE_NAMES = (
    "bisect cmath collections copy datetime decimal fractions functools heapq itertools json math numbers numpy "
    "operator random re solution statistics string typing"
)
PURE = frozenset(PURE_NAMES.split())
# Built-ins that reach further than their arguments.
REACHING_NAMES = (
    "__import__ breakpoint compile delattr dir eval exec exit getattr globals hasattr input locals open quit setattr "
    "vars"
)
REACHING = frozenset(REACHING_NAMES.split())
BUILTIN = frozenset(dir(builtins))
DEFINITIONS = (ast.FunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Parting:
    """What the tests take from the program, and what of it is really a library's: name to (module, attribute or "")."""

    asked: tuple[str, ...]
    own: tuple[tuple[str, tuple[str, str]], ...]
    imports: str
    """the tests' own imports, which programs find in their namespace, as these benchmarks have it"""
    shared: tuple[str, ...]
    """modules beyond the standard library that both processes import"""


def parting(problem: Problem) -> Parting | None:
    """How the problem's tests are parted from its programs; None: they share a process."""
    assert problem.test_code is not None
    solutions = tuple(getattr(problem, "solutions", ()))
    return _parting(problem.test_code, problem.preamble, problem.entry_point or "", solutions[:1], problem.modules)


@functools.lru_cache(64)
def _parting(
    test_code: str, preamble: str, entry_point: str, solutions: tuple[str, ...], modules: tuple[str, ...]
) -> Parting | None:
    try:
        tests, before = ast.parse(test_code), ast.parse(preamble)
        solution = ast.parse(solutions[0] if solutions else "")
        (free, _), (free_before, bound_before) = names_of(test_code), names_of(preamble)
    except (SyntaxError, ValueError, RecursionError):
        return None
    for node in ast.walk(tests):
        if isinstance(node, ast.ClassDef | ast.AsyncFunctionDef):
            return None
        if isinstance(node, ast.Attribute) and (node.attr[:2] == "__" or not isinstance(node.ctx, ast.Load)):
            return None
    # What the tests use, directly or by a helper of the preamble's.
    used, helpers = names_in(tests), [node for node in before.body if isinstance(node, DEFINITIONS)]
    while reached := [node for node in helpers if node.name in used]:
        helpers = [node for node in helpers if node not in reached]
        used |= {name for node in reached for name in names_in(node)}
        if any(isinstance(node, ast.ClassDef) for node in reached):
            return None
    if used & REACHING:
        return None
    taken: set[str] = set()
    for module, attribute, name in [*imports_of(tests), *imports_of(before)]:
        root = module.partition(".")[0]
        if root not in PURE and (name in used or root not in sys.stdlib_module_names):
            return None
        if root == SOLUTION:
            if not attribute or attribute == "*":
                return None
            taken.add(attribute)
    classes = [node for node in solution.body if isinstance(node, ast.ClassDef)]
    methods = [part.name for node in classes for part in node.body if isinstance(part, ast.FunctionDef)]
    if any(name[:2] == "__" and name not in ("__init__", "__new__") for name in methods):
        return None  # an instance may be a result, and its class decides what that equals
    defined = {node.name for node in solution.body if isinstance(node, DEFINITIONS)}
    defined.add(re.split(r"\W", entry_point)[0])
    free = (free | taken | free_before & used) - bound_before
    asked = {name for name in free if name in defined or name not in BUILTIN}
    own = {
        name: (module, attribute)
        for module, attribute, name in imports_of(solution)
        if name in asked - defined and module.partition(".")[0] in PURE - {SOLUTION}
    }
    for name in asked - defined - set(own):
        if name in sys.stdlib_module_names:
            if name not in PURE:
                return None
            own[name] = (name, "")
    if not asked - set(own):
        return None
    if not solutions and any(_is_class(name) for name in asked - set(own) - {"Solution"}):
        return None  # perhaps a class with special methods of its own
    lines = [node for node in tests.body if isinstance(node, ast.Import | ast.ImportFrom)]
    kept = [ast.unparse(node) for node in lines if getattr(node, "module", "") != SOLUTION]
    shared = tuple(module for module in modules if module in PURE)
    return Parting(tuple(sorted(asked)), tuple(sorted(own.items())), "\n".join(kept), shared)


def _is_class(name: str) -> bool:
    """Written as classes are: `LikeThis`."""
    return name[0].isupper() and name.isalnum() and not name.isupper()


def names_of(code: str) -> tuple[set[str], set[str]]:
    """(names that are taken from the module but not bound in it, names bound in it)."""
    top = symtable.symtable(code, "<tests>", "exec")
    bound = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    taken: set[str] = set()
    waiting = [top]
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (table is top or symbol.is_global()):
                taken.add(symbol.get_name())
    return taken - bound, bound


def names_in(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def imports_of(tree: ast.AST) -> Iterator[tuple[str, str, str]]:
    """(module, attribute or "", name that it is bound to) of each import, wherever it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, "", alias.asname or alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield "." * node.level + (node.module or ""), alias.name, alias.asname or alias.name
