"""Wording never makes another program, whatever is renamed to what; any other step does."""

from __future__ import annotations

import ast
from string import Template

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiyas.similarity.fingerprint import fingerprint

# Each $name is one binding: it may be called anything that is not yet taken in its scope or in one around it.
PROGRAM = """
import math as $m
from collections import deque as $q

def $f($a, $b=$one, *, $c=$two):
    global $g
    $g = $a
    try:
        $t = [$i + $b for $i in $a if $i != $three]
        $u = ($j := $a[$one])
    except ValueError as $e:
        print($e, end=$text, sep=$c)
        raise
    def $h($x):
        nonlocal $t
        $t = $t, $x
        return $t.count($x)
    $a.append($h($x=$u))
    return $m.sqrt($t), $j

class $K:
    append = $one
    def __init__(self, $y):
        self.count = $y
    def count(self, $z):
        return count($z, append=$three), self.append

$n = [lambda $v, $w=$two: $v + $w, $K($y=$f(end, $b=$three, $c=$text))]
for $k in range($one, $n[$two].count(-$three)):
    while $k < $two and ($s := {$r: $text for $r in $q($k)}):
        $k += $one
    match $s:
        case [$o, *$p] if $o:
            print(f'{$o:>5} {$p}')
print($g)
"""
TAKEN = {
    "module": list("mqfgKnksop"),
    "f": list("abctujeh"),
    "comprehension in f": ["i"],
    "h": ["x"],
    "init": ["y"],
    "count": ["z"],
    "lambda": ["v", "w"],
    "comprehension": ["r"],
}
AROUND = {"comprehension in f": "f", "h": "f"}
# Some are also names of attributes, keywords, class members or modules: those are not the variable's.
WORDS = ["append", "sep", "sqrt", "math", "deque", *(f"a{n}" for n in range(20))]
CONSTANTS = {"one": ("1", "0", "77"), "two": ("2", "10"), "three": ("3", "5"), "text": ("''", '"a # b"')}


def written(names: dict[str, str], constants: dict[str, str]) -> str:
    return Template(PROGRAM).substitute(names | constants)


PLAIN = written(
    {name: f"{name}_own" for names in TAKEN.values() for name in names},
    {name: values[0] for name, values in CONSTANTS.items()},
)


@st.composite
def wordings(draw: st.DrawFn) -> str:
    """The program in other words: names used again wherever scopes allow, constants of the same type."""
    names: dict[str, str] = {}
    # A name of a scope around may be used within: it would be hidden.
    for scope, own in TAKEN.items():
        hidden = {names[each] for each in TAKEN["module"] if scope != "module"}
        hidden |= {names[each] for each in TAKEN.get(AROUND.get(scope, ""), [])}
        free = [word for word in WORDS if word not in hidden]
        names |= zip(own, draw(st.permutations(free))[: len(own)], strict=True)
    program = written(names, {name: draw(st.sampled_from(values)) for name, values in CONSTANTS.items()})
    lines = []
    for line in program.splitlines():
        lines.append(line + draw(st.sampled_from(["", "  # said again", " "])))
        if draw(st.booleans()):
            lines.append("")
    return draw(st.sampled_from(["", '"""Doc."""\n', "'a'\n'b'\n", "# -*- coding: utf-8 -*-\n"])) + "\n".join(lines)


@given(wordings())
def test_wording_is_left_aside(program: str) -> None:
    assert fingerprint(program) == fingerprint(PLAIN) is not None


@given(wordings(), st.data())
def test_another_variable_makes_another_program(program: str, data: st.DataObject) -> None:
    """One read of a name becomes a read of a name that no one has: the variable's other uses stay."""
    tree = ast.parse(program)
    reads = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    data.draw(st.sampled_from(reads)).id = "of_nobody"
    assert fingerprint(ast.unparse(tree)) != fingerprint(PLAIN)


@given(st.data())
def test_attributes_are_no_names(data: st.DataObject) -> None:
    tree = ast.parse(PLAIN)
    data.draw(st.sampled_from([node for node in ast.walk(tree) if isinstance(node, ast.Attribute)])).attr = "other"
    assert fingerprint(ast.unparse(tree)) != fingerprint(PLAIN)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("n = int(input())\nprint(n + 1)", "count = int(input())  # read\nprint(count + 25)\n"),
        ("n = 1\nprint(n)", '"""Doc."""\ncount = 27  # more\nprint(count)'),
        ("def f(a, b=2):\n    'doc'\n    return a", "def solve(x, y=7):\n    return x\n"),
        ("def f(a, b):\n    return a", "def g(x, y):\n    'doc'\n    return x"),
        ("import math as m\nprint(m.pi)", "import math as mathematics\nprint(mathematics.pi)"),
        ("import math as m\nm.sqrt(2)", "import math as q\nq.sqrt(3)"),
        ("import math\nprint(math.pi)", "import math as m\nprint(m.pi)"),
        ("for i in 'ab':\n    for j in 'c': print(i, j)", "for x in 'q':\n    for y in 'r': print(x, y)"),
        ("a = []\na.append(1)", "b = []\nb.append(2)"),
        ("try: f()\nexcept E as e: print(e)", "try: f()\nexcept E as error: print(error)"),
        ("count = 'a'.count('b')\nprint(count)", "n = 'a'.count('b')\nprint(n)"),
        ("end = 1\nprint(end, end='')", "n = 1\nprint(n, end='')"),
        ("x = [x for x in x]", "y = [x for x in y]"),
        ("def f(n): return n\nn = 1\nprint(f(n))", "def f(m): return m\nn = 1\nprint(f(n))"),
        ("def f(a): return a\nf(a=1)", "def f(b): return b\nf(b=2)"),
        ("def f():\n    global x\n    x = 1", "def f():\n    global y\n    y = 1"),
        ("for i in range(5, -1, -1): pass", "for i in range(7, 0, 2): pass"),
        ("x = " + "-" * 60 + "1", "y = " + "-" * 60 + "1"),
    ],
)
def test_the_same_program(one: str, other: str) -> None:
    assert fingerprint(one) == fingerprint(other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("print(1)", "input(1)"),
        ("print(min(x))", "print(max(x))"),
        ("print(1)", "print('1')"),
        ("a = 1", "a = 'x'"),
        ("x = 1\ny = 2\nprint(x)", "x = 1\ny = 2\nprint(y)"),
        ("def f(a, b):\n    return a", "def f(a, b):\n    return b"),
        ("a.append(1)", "a.remove(1)"),
        ("f(*a)", "f(a)"),
        ("if a: b\nelse: c", "if a:\n    b\n    c"),
        ("x = {**a, 1: 2}", "x = {1: 2, **a}"),
        ("import math", "import os"),
        ("import os.path as o\no.a", "import os.path\nos.a"),
        ("a < b", "a > b"),
        ("x = 1\ndef f(): x = 2\nprint(x)", "x = 1\ndef f():\n    global x\n    x = 2\nprint(x)"),
        ("class A:\n    def __lt__(a, b): pass", "class A:\n    def __gt__(a, b): pass"),
        ("print(1, end='')", "print(1, sep='')"),
        ("x = 1\ny = [y for x in y]", "x = 1\ny = [x for x in y]"),
    ],
)
def test_another_program(one: str, other: str) -> None:
    assert None is not fingerprint(one) != fingerprint(other) is not None


@pytest.mark.parametrize("text", ["def f(:", "x = '\x00'", "((" * 5000, "\ud800"])
def test_what_does_not_parse_is_the_same_as_nothing(text: str) -> None:
    assert fingerprint(text) is None


def test_a_program_deeper_than_python_recurses() -> None:
    one = "if a: b\n" + "".join(f"elif a == {n}: x = {n}\n" for n in range(900))
    assert fingerprint(one) == fingerprint(one.replace("x", "y")) != fingerprint(one + "else: b\n")
