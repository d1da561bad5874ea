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
from collections.abc import Iterator
from functools import cache
from typing import Any

from kiyas.judge.syntax import syntax_tree


def fingerprint(program: str) -> str | None:
    """16 hex digits, equal for programs that are the same; None, the same as no other, for what does not parse."""
    tree = syntax_tree(program)
    if tree is None:
        return None
    nodes = list(_walk(tree))
    parameters: dict[str, dict[str, _Scope]] = {}
    for node, scope, fields in nodes:
        scope.bind(node, fields)
        if type(node) is ast.arg:
            parameters.setdefault(scope.called, {})[node.arg] = scope
    numbers: dict[tuple[_Scope, str], int] = {}
    keywords: dict[ast.AST, _Scope] = {}
    words: list[str] = []

    def number(name: str, home: _Scope | None) -> str:
        if home is None or isinstance(home.node, ast.ClassDef):
            return repr(name)
        return f"#{numbers.setdefault((home, name), len(numbers))}"

    for node, scope, fields in nodes:
        words.append(type(node).__name__)
        if type(node) is ast.Constant:
            words.append(type(node.value).__name__)
            continue
        if type(node) is ast.Call:
            called = f".{node.func.attr}" if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            own = parameters.get(called, {})
            keywords |= {each: own[each.arg] for each in node.keywords if each.arg in own}
        names = _NAMES.get(type(node))
        for field, value in fields:
            words.append(f"{field}:")
            for item in value if type(value) is list else (value,):
                if isinstance(item, ast.AST):
                    words.append("*")
                elif isinstance(item, str) and field == names:
                    words.append(number(item, scope.home(item)))
                elif node in keywords:
                    words.append(number(item, keywords[node]))
                else:
                    words.append(repr(item))
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]


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
_Opens = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef | _Comprehension


class _Scope:
    """The names bound in a module, class, function or comprehension, and where others are looked up."""

    def __init__(self, node: ast.AST, parent: _Scope | None = None) -> None:
        self.node, self.parent = node, parent
        self.module: _Scope = parent.module if parent else self
        self.bound, self.globals, self.nonlocals = set[str](), set[str](), set[str]()

    @property
    def called(self) -> str:
        """What a call of it with named arguments looks like: `f`, of a method `.f`, of `__init__` its class."""
        name = getattr(self.node, "name", "")
        if self.parent is None or not isinstance(self.parent.node, ast.ClassDef):
            return name
        return self.parent.node.name if name == "__init__" else f".{name}"

    def bind(self, node: ast.AST, fields: _Fields) -> None:
        kind = type(node)
        if kind not in _NAMES or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)):
            return
        if isinstance(node, ast.Global):
            self.globals.update(node.names)
        elif isinstance(node, ast.Nonlocal):
            self.nonlocals.update(node.names)
        else:
            name = dict(fields)[_NAMES[kind]]
            if name in self.globals:
                self.module.bound.add(name)
            elif name is not None and name not in self.nonlocals:
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


def _walk(tree: ast.Module) -> Iterator[tuple[ast.AST, _Scope, _Fields]]:
    """Each node with the scope of its names and its fields, depth first; by hand, as programs may be deeper than Python
    recurses."""
    todo: list[tuple[ast.AST, _Scope]] = [(tree, _Scope(tree))]
    while todo:
        node, scope = todo.pop()
        fields = _fields(node)
        yield node, scope, fields
        inner = _Scope(node, scope) if isinstance(node, _Opens) else scope
        children = [
            (item, _scope(node, field, scope, inner))
            for field, value in fields
            for item in (value if type(value) is list else (value,))
            if isinstance(item, ast.AST)
        ]
        todo += reversed(children)


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


_Fields = list[tuple[str, Any]]


def _fields(node: ast.AST) -> _Fields:
    """A node's fields without what is only wording. A sign belongs to its number; an import names what it binds."""
    if isinstance(node, ast.alias):
        return [
            ("name", node.name),
            ("asname", node.asname or (None if node.name == "*" else node.name.split(".")[0])),
            ("package", node.asname is None and "." in node.name),
        ]
    found: _Fields = []
    for field in _kept(type(node)):  # type: ignore[arg-type]  # classes are hashable
        value = getattr(node, field)
        if type(value) is list:
            value = [_unsigned(item) for item in value if type(item) is not ast.Expr or not _is_bare_string(item)]
        elif type(value) is ast.UnaryOp:
            value = _unsigned(value)
        found.append((field, value))
    return found


@cache
def _kept(kind: type[ast.AST]) -> tuple[str, ...]:
    return tuple(field for field in kind._fields if field not in _ASIDE)


def _unsigned(node: Any) -> Any:
    number = type(node) is ast.UnaryOp and type(node.op) is ast.USub and type(node.operand) is ast.Constant
    return node.operand if number else node


def _is_bare_string(node: ast.Expr) -> bool:
    return type(node.value) is ast.Constant and type(node.value.value) is str
