"""Programs that solve a problem, in five genuinely different styles.

`loop` accumulates in a for loop, `comprehension` builds lists, `functional` uses filter, map and lambdas,
`while` walks by index, `functions` has a helper and a main(). The reference solver is elsewhere (`grammar`),
so a slip here is found by the tests rather than trained on.
"""

from __future__ import annotations

import re

from kiyas.practice.grammar import Constant, Spec

STYLES = ("loop", "comprehension", "functional", "while", "functions")

CONDITIONS = {
    "list": {
        "even": "x % 2 == 0",
        "odd": "x % 2 == 1",
        "above": "x > {k}",
        "below": "x < {k}",
        "divisible": "x % {k} == 0",
        "positive": "x > 0",
        "negative": "x < 0",
        "unequal": "x != {k}",
    },
    "string": {
        "vowel": 'x in "aeiou"',
        "consonant": 'x not in "aeiou"',
        "equal": 'x == "{k}"',
        "unequal": 'x != "{k}"',
        "after": 'x > "{k}"',
        "before": 'x < "{k}"',
    },
}
SLICES = {"odd_places": "[::2]", "even_places": "[1::2]"}
EXPRESSIONS = {
    "list": {
        "": "x",
        "square": "x * x",
        "absolute": "abs(x)",
        "add": "x + {k}",
        "times": "x * {k}",
        "half": "x // 2",
        "subtract": "x - {k}",
        "remainder": "x % {k}",
        "digit_sum": "sum(map(int, str(abs(x))))",
        "negate": "-x",
        "cap": "min(x, {k})",
    },
    "string": {
        "": "x",
        "upper": "x.upper()",
        "double": "x * 2",
        "star": 'x + "*"',
        "triple": "x * 3",
        "alphabet": "str(ord(x) - 96)",
        "brackets": '"[" + x + "]"',
    },
    "pair": {
        "": "x",
        "square": "x * x",
        "digit_sum": "sum(map(int, str(x)))",
        "add": "x + {k}",
        "times": "x * {k}",
        "remainder": "x % {k}",
        "half": "x // 2",
        "digit_count": "len(str(x))",
        "digits_reversed": "int(str(x)[::-1])",
    },
}
# The value of a reduce on the list b. Where nothing may be left, " if b else -1" is added to the marked ones.
RESULTS = {
    "list": {
        "sum": "sum(b)",
        "max": "max(b)",
        "min": "min(b)",
        "count": "len(b)",
        "last": "b[-1]",
        "first": "b[0]",
        "distinct": "len(set(b))",
        "range": "max(b) - min(b)",
        "product": "prod(b) % 1000",
        "alternating": "sum(b[::2]) - sum(b[1::2])",
        "join": "*b",
        "lines": '*b, sep="\\n"',
        "sort": "*sorted(b)",
        "sort_down": "*sorted(b)[::-1]",
        "reversed": "*b[::-1]",
    },
    "string": {
        "join": '"".join(b)',
        "reverse": '"".join(b)[::-1]',
        "count": "len(b)",
        "last": "b[-1]",
        "first": "b[0]",
        "max": "max(b)",
        "sort": '"".join(sorted(b))',
        "distinct": "len(set(b))",
        "dashes": '"-".join(b)',
        "lines": '*b, sep="\\n"',
    },
    "pair": {
        "sum": "p + q",
        "product": "p * q",
        "difference": "abs(p - q)",
        "max": "max(p, q)",
        "min": "min(p, q)",
        "concat": "str(p) + str(q)",
        "average": "(p + q) // 2",
        "sum_of_squares": "p * p + q * q",
    },
}
# Reduces that `loop` and `while` do in a running variable: start, step, result.
RUNNING = {
    "sum": ("s = 0", "s += {e}", "s"),
    "count": ("s = 0", "s += 1", "s"),
    "product": ("s = 1", "s = s * ({e}) % 1000", "s"),
}


def program(spec: Spec, style: str) -> str:
    """The source of a right program in one of `STYLES`, without a final newline."""
    if style not in STYLES:
        raise ValueError(f"no style {style!r}; there are {', '.join(STYLES)}")
    lines = _pair(spec, style) if spec.family == "pair" else _sequence(spec, style)
    return "\n".join(lines)


def completion(spec: Spec, style: str) -> str:
    """The answer as a model should write it: one fenced block and nothing else."""
    return f"```python\n{program(spec, style)}\n```"


def _with_k(text: str, k: Constant) -> str:
    return text.replace("{k}", str(k))


def _output(spec: Spec, result: str, nothing: str = "") -> list[str]:
    """The lines that print `result`; `nothing` is the list whose emptiness makes the value -1."""
    if nothing and spec.reduce_op.undefined_on_nothing and spec.filter:
        result = f"{result} if {nothing} else -1"
    if spec.form == "value":
        return [f"print({result})"]
    test = _with_k("r > {k}", spec.form_k) if spec.form == "threshold" else "r % 2 == 0"
    return [f"r = {result}", f'print("Yes" if {test} else "No")']


def _sequence(spec: Spec, style: str) -> list[str]:
    """Lists and strings: read a, keep and map into b, print a value of b."""
    text = spec.family == "string"
    condition = _with_k(CONDITIONS[spec.family].get(spec.filter, ""), spec.filter_k)
    part = SLICES.get(spec.filter, "")
    expression = _with_k(EXPRESSIONS[spec.family][spec.map], spec.map_k)
    result = RESULTS[spec.family][spec.reduce]
    imports = ["from math import prod"] if "prod(" in result else []
    clause = f" if {condition}" if condition else ""
    output = _output(spec, result, "b")

    if style == "loop":
        read = ["a = input()"] if text else ["input()", "a = list(map(int, input().split()))"]
        start, step, output, imports = _running(spec, expression, output, imports)
        body = [f"    if {condition}:", f"        {step}"] if condition else [f"    {step}"]
        return [*imports, *read, start, f"for x in a{part}:", *body, *output]

    if style == "comprehension":
        read = ["a = input()"] if text else ["input()", "a = [int(x) for x in input().split()]"]
        return [*imports, *read, f"b = [{expression} for x in a{part}{clause}]", *output]

    if style == "functional":
        read = ["b = input()"] if text else ["input()", "b = list(map(int, input().split()))"]
        steps = [f"b = b{part}"] if part else []
        steps += [f"b = list(filter(lambda x: {condition}, b))"] if condition else []
        steps += [f"b = list(map(lambda x: {expression}, b))"] if spec.map else []
        return [*imports, *read, *steps, *output]

    if style == "while":
        read = ["a = input()", "n = len(a)"] if text else ["n = int(input())", "a = input().split()"]
        item = "a[i]" if text else "int(a[i])"
        start, step, output, imports = _running(spec, expression, output, imports)
        body = [f"    if {condition}:", f"        {step}"] if condition else [f"    {step}"]
        first, stride = (1 if spec.filter == "even_places" else 0), (2 if part else 1)
        walk = [f"i = {first}", "while i < n:", f"    x = {item}", *body, f"    i += {stride}"]
        return [*imports, *read, start, *walk, *output]

    read = ["    a = input()"] if text else ["    input()", "    a = list(map(int, input().split()))"]
    if spec.map:
        helper = ["def f(x):", f"    return {expression}"]
        collect = f"    b = [f(x) for x in a{part}{clause}]"
    elif condition:
        helper = ["def f(x):", f"    return {condition}"]
        collect = "    b = [x for x in a if f(x)]"
    else:
        helper = ["def f(a):", f"    return list(a{part})"]
        collect = "    b = f(a)"
    main = ["def main():", *read, collect, *(f"    {line}" for line in output)]
    return [*imports, *helper, *main, "main()"]


def _running(
    spec: Spec, expression: str, output: list[str], imports: list[str]
) -> tuple[str, str, list[str], list[str]]:
    """Start line, step line, output lines and imports of a loop: a running variable, or a growing list."""
    if spec.family == "string" or spec.reduce not in RUNNING:
        return "b = []", f"b.append({expression})", output, imports
    start, step, result = RUNNING[spec.reduce]
    step = step.replace("({e})", "{e}") if expression == "x" else step
    return start, step.replace("{e}", expression), _output(spec, result), []


def _pair(spec: Spec, style: str) -> list[str]:
    """Two integers: P from A, Q from B, print a value of both."""
    f = _with_k(EXPRESSIONS["pair"][spec.filter], spec.filter_k)
    g = _with_k(EXPRESSIONS["pair"][spec.map], spec.map_k)
    output = _output(spec, RESULTS["pair"][spec.reduce])

    if style == "loop":
        read = ["v = []", "for x in input().split():", "    v.append(int(x))", "a, b = v"]
        return [*read, f"p = {_in(f, 'a')}", f"q = {_in(g, 'b')}", *output]
    if style == "comprehension":
        return ["a, b = [int(x) for x in input().split()]", f"p, q = {_in(f, 'a')}, {_in(g, 'b')}", *output]
    if style == "functional":
        read = ["a, b = map(int, input().split())"]
        return [*read, f"f = lambda x: {f}", f"g = lambda x: {g}", "p = f(a)", "q = g(b)", *output]
    if style == "while":
        walk = ["v = input().split()", "i = 0", "while i < 2:", "    v[i] = int(v[i])", "    i += 1"]
        return [*walk, f"p = {_in(f, 'v[0]')}", f"q = {_in(g, 'v[1]')}", *output]
    helpers = ["def f(x):", f"    return {f}", "def g(x):", f"    return {g}"]
    main = ["a, b = map(int, input().split())", "p = f(a)", "q = g(b)", *output]
    return [*helpers, "def main():", *(f"    {line}" for line in main), "main()"]


def _in(expression: str, variable: str) -> str:
    """The expression in x with another variable."""
    return re.sub(r"\bx\b", variable, expression)
