"""Is this the same program? One answer, for training data (`kiyas check`) and for what the models wrote (the report).

Two programs are the same if they differ only in wording: comments, layout, doc strings and other bare strings, the
names that they give themselves, and constants of the same type. Constants are left aside because both callers count
ways to solve a problem, and the same steps with another bound or message are not another way. For the same reason the
names that a program takes from elsewhere stay: builtins, modules, attributes, methods, the names in a class body.
`min` for `max` is another program.

Names are distinguished as Python does it, by scope: renaming an argument changes nothing, whatever else has its name.
Known limits: a renamed method or attribute makes another program, and so does a type annotation; a call by keyword of
any method that is named like one of the program's own counts as a call of that one.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from typing import Any

from kiyas.judge.syntax import syntax_tree


def fingerprint(program: str, tree: ast.Module | None = None) -> str | None:
    """16 hex digits, equal for programs that are the same; None, the same as no other, for what does not parse.

    `tree`: the program's, where it was parsed before.
    """
    tree = tree if tree is not None else syntax_tree(program)
    if tree is None:
        return None
    words, names, keywords, parameters = _read(tree)
    numbers: dict[tuple[_Scope, str], int] = {}
    known: dict[tuple[_Scope, str], str] = {}

    def number(name: str, home: _Scope) -> str:
        return f"#{numbers.setdefault((home, name), len(numbers))}"

    for at, name, scope in names:
        if at in keywords:
            own = parameters.get(keywords[at], {})
            words[at] = number(name, own[name]) if name in own else repr(name)
            continue
        if (word := known.get((scope, name))) is None:
            home = scope.home(name)
            outside = home is None or isinstance(home.node, ast.ClassDef)
            word = known[scope, name] = repr(name) if outside or home is None else number(name, home)
        words[at] = word
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]


def _read(
    tree: ast.Module,
) -> tuple[list[str], list[tuple[int, str, _Scope]], dict[int, str], dict[str, dict[str, _Scope]]]:
    """One way through all nodes, depth first; by hand, as programs may be deeper than Python recurses.

    The words of the program; which of them are still to be replaced by the number of a name, in order, with the scope
    that looks it up; which of these name an argument of a call, and of what; the parameters of all that can be called.
    """
    words: list[str] = []
    names: list[tuple[int, str, _Scope]] = []
    keywords: dict[int, str] = {}
    parameters: dict[str, dict[str, _Scope]] = {}
    called: dict[ast.AST, str] = {}
    todo: list[tuple[ast.AST, _Scope]] = [(tree, _Scope(tree))]
    while todo:
        node, scope = todo.pop()
        kind = type(node)
        if kind is ast.Name:  # half of all nodes are of these two kinds
            if type(node.ctx) is not ast.Load:  # type: ignore[attr-defined]
                scope.bind(node.id)  # type: ignore[attr-defined]
            words.append("Name id:")
            names.append((len(words), node.id, scope))  # type: ignore[attr-defined]
            words.append("")
            continue
        if kind is ast.Constant:
            words.append(f"Constant {type(node.value).__name__}")  # type: ignore[attr-defined]
            continue
        words.append(kind.__name__)
        if not (kept := _kept(kind)):  # type: ignore[arg-type]  # classes are hashable
            continue
        if isinstance(node, ast.Call) and node.keywords:
            name = f".{node.func.attr}" if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            called |= dict.fromkeys(node.keywords, name)
        elif kind is ast.keyword and node in called:
            keywords[len(words) + 1] = called[node]
        elif isinstance(node, ast.Global):
            scope.globals.update(node.names)
        elif isinstance(node, ast.Nonlocal):
            scope.nonlocals.update(node.names)
        elif isinstance(node, ast.arg):
            parameters.setdefault(scope.called, {})[node.arg] = scope
        own_name = _NAMES.get(kind)
        binds = own_name is not None and kind is not ast.Global and kind is not ast.Nonlocal
        inner = _Scope(node, scope) if kind in _OPENS else scope
        below = scope
        children: list[tuple[ast.AST, _Scope]] = []
        for field in kept:
            value = _imported(node)[field] if isinstance(node, ast.alias) else getattr(node, field)
            words.append(f"{field}:")
            if kind in _SCOPED:
                below = _scope(node, field, scope, inner)
            for item in value if type(value) is list else (value,):
                of = type(item)
                if of is ast.Expr and _is_bare_string(item):
                    continue
                if of is ast.UnaryOp:
                    item = _unsigned(item)
                if isinstance(item, ast.AST):
                    words.append("*")
                    children.append((item, below))
                elif of is str and (field == own_name or len(words) in keywords):
                    if binds:
                        scope.bind(item)
                    names.append((len(words), item, scope))
                    words.append("")
                else:
                    words.append(repr(item))
        children.reverse()
        todo += children
    return words, names, keywords, parameters


_NAMES = {
    ast.Name: "id",
    ast.arg: "arg",
    ast.alias: "asname",
    ast.FunctionDef: "name",
    ast.AsyncFunctionDef: "name",
    ast.ClassDef: "name",
    ast.ExceptHandler: "name",
    ast.MatchAs: "name",
    ast.MatchStar: "name",
    ast.MatchMapping: "rest",
    ast.Global: "names",
    ast.Nonlocal: "names",
}
"""where a node holds names of variables; all other strings stay as they are"""
_ASIDE = ("ctx", "type_comment", "kind", "type_ignores")
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_OPENS: frozenset[type[ast.AST]] = frozenset((
    ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.ListComp, ast.SetComp, ast.DictComp,
    ast.GeneratorExp,
))  # fmt: skip
_SCOPED = _OPENS | {ast.arguments, ast.arg, ast.comprehension, ast.NamedExpr}
"""Nodes whose children do not all look up their names where the node does."""


class _Scope:
    """The names bound in a module, class, function or comprehension, and where others are looked up."""

    def __init__(self, node: ast.AST, parent: _Scope | None = None) -> None:
        self.node, self.parent = node, parent
        self.bound, self.globals, self.nonlocals = set[str](), set[str](), set[str]()

    @property
    def module(self) -> _Scope:
        scope = self  # a field would lead back to itself, and keep the tree until it is collected
        while scope.parent:
            scope = scope.parent
        return scope

    @property
    def called(self) -> str:
        """What a call of it with named arguments looks like: `f`, of a method `.f`, of `__init__` its class."""
        name = getattr(self.node, "name", "")
        if self.parent is None or not isinstance(self.parent.node, ast.ClassDef):
            return name
        return self.parent.node.name if name == "__init__" else f".{name}"

    def bind(self, name: str) -> None:
        if name in self.globals:
            self.module.bound.add(name)
        elif name not in self.nonlocals:
            self.bound.add(name)

    def home(self, name: str) -> _Scope | None:
        """The scope that binds the name; None for one from elsewhere. Functions do not look into their class."""
        scope: _Scope | None = self
        while scope:
            if name in scope.globals:
                return self.module if name in self.module.bound else None
            if name in scope.bound and (scope is self or not isinstance(scope.node, ast.ClassDef)):
                return scope
            scope = scope.parent
        return None


def _scope(node: ast.AST, field: str, scope: _Scope, inner: _Scope) -> _Scope:
    """Where a child of the node looks up its names."""
    outside = field in ("defaults", "kw_defaults", "annotation") and isinstance(node, ast.arguments | ast.arg)
    first = isinstance(scope.node, _Comprehension) and node is scope.node.generators[0] and field == "iter"
    if (outside or first) and scope.parent:
        return scope.parent
    if isinstance(node, ast.NamedExpr) and field == "target":
        while isinstance(scope.node, _Comprehension) and scope.parent:
            scope = scope.parent
        return scope
    return inner if field in ("args", "body", "elt", "key", "value", "generators") else scope


@cache
def _kept(kind: type[ast.AST]) -> tuple[str, ...]:
    """A node's fields without what is only wording."""
    if kind is ast.alias:
        return ("name", "asname", "package")
    return tuple(field for field in kind._fields if field not in _ASIDE)


def _imported(node: ast.alias) -> dict[str, Any]:
    """An import names what it binds."""
    return {
        "name": node.name,
        "asname": node.asname or (None if node.name == "*" else node.name.split(".")[0]),
        "package": node.asname is None and "." in node.name,
    }


def _unsigned(node: Any) -> Any:
    """A sign belongs to its number."""
    number = type(node) is ast.UnaryOp and type(node.op) is ast.USub and type(node.operand) is ast.Constant
    return node.operand if number else node


def _is_bare_string(node: ast.Expr) -> bool:
    return type(node.value) is ast.Constant and type(node.value.value) is str
