"""The grammar of the practice world: what a problem is, and what its right answer is.

A problem is a composition: family × filter × map × reduce × form.

- `list`: N integers. A filter keeps some, a map changes each, a reduce makes the answer.
- `string`: one line of lower-case letters; the same three steps on its characters.
- `pair`: two positive integers A and B. The "filter" slot holds P = f(A), the "map" slot Q = g(B),
  the "reduce" slot combines P and Q; an empty slot means P = A or Q = B.

The form prints the value, or Yes/No by a threshold or by parity. Operations marked `narrow` are the ones the
base model has seen; the rest is there to be learnt. A problem's *key* names its five slots without constants:
data sets are kept apart by keys. Statements are in `statements`, programs in `solutions`; the functions here
are the reference that both are tested against.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

Constant = int | str | None
VOWELS = "aeiou"
NOTHING = -1
"""The value of a maximum, minimum, first, last or range of nothing; statements say so."""


@dataclass(frozen=True)
class Op:
    """One operation of one slot. `constant` says what K is: "" (none), "number" or "letter"."""

    name: str
    apply: Callable[[Any, Any], Any]
    narrow: bool = False
    constant: str = ""
    numeric: bool = False
    """Reduces: the result is one integer, so that Yes/No forms apply."""
    undefined_on_nothing: bool = False
    tags: tuple[str, ...] = ()


def _named(*ops: Op) -> dict[str, Op]:
    return {op.name: op for op in ops}


def digit_sum(x: int) -> int:
    """Sum of the decimal digits of |x|."""
    return sum(int(d) for d in str(abs(x)))


LIST_FILTERS = _named(
    Op("even", lambda a, k: [x for x in a if x % 2 == 0], narrow=True, tags=("parity",)),
    Op("odd", lambda a, k: [x for x in a if x % 2 == 1], tags=("parity",)),
    Op("above", lambda a, k: [x for x in a if x > k], narrow=True, constant="number", tags=("comparison",)),
    Op("below", lambda a, k: [x for x in a if x < k], constant="number", tags=("comparison",)),
    Op("divisible", lambda a, k: [x for x in a if x % k == 0], True, "number", tags=("divisibility",)),
    Op("positive", lambda a, k: [x for x in a if x > 0], narrow=True, tags=("comparison",)),
    Op("negative", lambda a, k: [x for x in a if x < 0], tags=("comparison",)),
    Op("unequal", lambda a, k: [x for x in a if x != k], constant="number", tags=("comparison",)),
    Op("odd_places", lambda a, k: a[::2], narrow=True, tags=("positions",)),
    Op("even_places", lambda a, k: a[1::2], narrow=True, tags=("positions",)),
)
LIST_MAPS = _named(
    Op("square", lambda x, k: x * x, narrow=True, tags=("arithmetic",)),
    Op("absolute", lambda x, k: abs(x), narrow=True, tags=("arithmetic",)),
    Op("add", lambda x, k: x + k, narrow=True, constant="number", tags=("arithmetic",)),
    Op("times", lambda x, k: x * k, narrow=True, constant="number", tags=("arithmetic",)),
    Op("half", lambda x, k: x // 2, narrow=True, tags=("division",)),
    Op("subtract", lambda x, k: x - k, constant="number", tags=("arithmetic",)),
    Op("remainder", lambda x, k: x % k, constant="number", tags=("division",)),
    Op("digit_sum", lambda x, k: digit_sum(x), tags=("digits",)),
    Op("negate", lambda x, k: -x, tags=("arithmetic",)),
    Op("cap", lambda x, k: min(x, k), constant="number", tags=("comparison",)),
)
LIST_REDUCES = _named(
    Op("sum", lambda b, k: sum(b), narrow=True, numeric=True, tags=("sum",)),
    Op("max", lambda b, k: max(b, default=NOTHING), True, "", True, True, ("extremes",)),
    Op("min", lambda b, k: min(b, default=NOTHING), True, "", True, True, ("extremes",)),
    Op("count", lambda b, k: len(b), narrow=True, numeric=True, tags=("counting",)),
    Op("last", lambda b, k: b[-1] if b else NOTHING, True, "", True, True, ("positions",)),
    Op("join", lambda b, k: " ".join(map(str, b)), narrow=True, tags=("sequence",)),
    Op("lines", lambda b, k: "\n".join(map(str, b)), narrow=True, tags=("sequence",)),
    Op("sort", lambda b, k: " ".join(map(str, sorted(b))), narrow=True, tags=("sorting",)),
    Op("first", lambda b, k: b[0] if b else NOTHING, False, "", True, True, ("positions",)),
    Op("distinct", lambda b, k: len(set(b)), numeric=True, tags=("counting", "sets")),
    Op("range", lambda b, k: max(b) - min(b) if b else NOTHING, False, "", True, True, ("extremes",)),
    Op("product", lambda b, k: prod(b) % 1000, numeric=True, tags=("product",)),
    Op("alternating", lambda b, k: sum(b[::2]) - sum(b[1::2]), numeric=True, tags=("sum", "positions")),
    Op("sort_down", lambda b, k: " ".join(map(str, sorted(b, reverse=True))), tags=("sorting",)),
    Op("reversed", lambda b, k: " ".join(map(str, b[::-1])), tags=("sequence",)),
)
STRING_FILTERS = _named(
    Op("vowel", lambda s, k: [c for c in s if c in VOWELS], narrow=True, tags=("letters",)),
    Op("equal", lambda s, k: [c for c in s if c == k], narrow=True, constant="letter", tags=("comparison",)),
    Op("unequal", lambda s, k: [c for c in s if c != k], True, "letter", tags=("comparison",)),
    Op("odd_places", lambda s, k: s[::2], narrow=True, tags=("positions",)),
    Op("consonant", lambda s, k: [c for c in s if c not in VOWELS], tags=("letters",)),
    Op("after", lambda s, k: [c for c in s if c > k], constant="letter", tags=("comparison",)),
    Op("before", lambda s, k: [c for c in s if c < k], constant="letter", tags=("comparison",)),
    Op("even_places", lambda s, k: s[1::2], tags=("positions",)),
)
STRING_MAPS = _named(
    Op("upper", lambda c, k: c.upper(), narrow=True, tags=("letters",)),
    Op("double", lambda c, k: c * 2, narrow=True, tags=("repetition",)),
    Op("star", lambda c, k: c + "*", narrow=True, tags=("decoration",)),
    Op("triple", lambda c, k: c * 3, tags=("repetition",)),
    Op("alphabet", lambda c, k: str(ord(c) - ord("a") + 1), tags=("letters",)),
    Op("brackets", lambda c, k: f"[{c}]", tags=("decoration",)),
)
STRING_REDUCES = _named(
    Op("join", lambda b, k: "".join(b), narrow=True, tags=("sequence",)),
    Op("reverse", lambda b, k: "".join(b)[::-1], narrow=True, tags=("sequence",)),
    Op("count", lambda b, k: len(b), narrow=True, numeric=True, tags=("counting",)),
    Op("last", lambda b, k: b[-1] if b else NOTHING, True, "", False, True, ("positions",)),
    Op("sort", lambda b, k: "".join(sorted(b)), narrow=True, tags=("sorting",)),
    Op("distinct", lambda b, k: len(set(b)), numeric=True, tags=("counting", "sets")),
    Op("first", lambda b, k: b[0] if b else NOTHING, False, "", False, True, ("positions",)),
    Op("max", lambda b, k: max(b, default=NOTHING), False, "", False, True, ("extremes",)),
    Op("dashes", lambda b, k: "-".join(b), tags=("sequence",)),
    Op("lines", lambda b, k: "\n".join(b), tags=("sequence",)),
)
PAIR_MAPS = _named(
    Op("square", lambda x, k: x * x, narrow=True, tags=("arithmetic",)),
    Op("digit_sum", lambda x, k: digit_sum(x), narrow=True, tags=("digits",)),
    Op("add", lambda x, k: x + k, narrow=True, constant="number", tags=("arithmetic",)),
    Op("times", lambda x, k: x * k, narrow=True, constant="number", tags=("arithmetic",)),
    Op("remainder", lambda x, k: x % k, constant="number", tags=("division",)),
    Op("half", lambda x, k: x // 2, tags=("division",)),
    Op("digit_count", lambda x, k: len(str(x)), tags=("digits",)),
    Op("digits_reversed", lambda x, k: int(str(x)[::-1]), tags=("digits",)),
)
PAIR_REDUCES = _named(
    Op("sum", lambda v, k: v[0] + v[1], narrow=True, numeric=True, tags=("sum",)),
    Op("product", lambda v, k: v[0] * v[1], narrow=True, numeric=True, tags=("product",)),
    Op("difference", lambda v, k: abs(v[0] - v[1]), narrow=True, numeric=True, tags=("arithmetic",)),
    Op("max", lambda v, k: max(v), narrow=True, numeric=True, tags=("extremes",)),
    Op("min", lambda v, k: min(v), narrow=True, numeric=True, tags=("extremes",)),
    Op("concat", lambda v, k: f"{v[0]}{v[1]}", tags=("sequence",)),
    Op("average", lambda v, k: (v[0] + v[1]) // 2, numeric=True, tags=("division",)),
    Op("sum_of_squares", lambda v, k: v[0] ** 2 + v[1] ** 2, numeric=True, tags=("sum",)),
)
FILTERS = {"list": LIST_FILTERS, "string": STRING_FILTERS, "pair": PAIR_MAPS}
MAPS = {"list": LIST_MAPS, "string": STRING_MAPS, "pair": PAIR_MAPS}
REDUCES = {"list": LIST_REDUCES, "string": STRING_REDUCES, "pair": PAIR_REDUCES}
FAMILY_TAGS = {"list": "arrays", "string": "strings", "pair": "integers"}


@dataclass(frozen=True)
class Spec:
    """One problem: five slots and the constants of three of them ("" or None: an empty slot)."""

    family: str
    filter: str
    map: str
    reduce: str
    form: str
    filter_k: Constant = None
    map_k: Constant = None
    form_k: Constant = None

    @property
    def key(self) -> str:
        """The five slots without constants. No key is shared between a benchmark and anything trained on."""
        return "/".join((self.family, self.filter or "-", self.map or "-", self.reduce, self.form))

    @property
    def signature(self) -> str:
        """The key with its constants: two problems are the same problem if and only if this is equal."""
        return f"{self.key}/{self.filter_k}/{self.map_k}/{self.form_k}"

    @property
    def filter_op(self) -> Op | None:
        return FILTERS[self.family][self.filter] if self.filter else None

    @property
    def map_op(self) -> Op | None:
        return MAPS[self.family][self.map] if self.map else None

    @property
    def reduce_op(self) -> Op:
        return REDUCES[self.family][self.reduce]

    @property
    def steps(self) -> int:
        """How many operations there are between the input and the printed value (1 to 3)."""
        return 1 + bool(self.filter) + bool(self.map)

    @property
    def tags(self) -> list[str]:
        """What the problem is about, for grouping failures: the family, then the operations' tags."""
        ops = [op for op in (self.filter_op, self.map_op, self.reduce_op) if op is not None]
        tags = {tag for op in ops for tag in op.tags}
        if self.form != "value":
            tags.add("yes-no")
        return [FAMILY_TAGS[self.family], *sorted(tags)]

    @property
    def difficulty(self) -> str:
        """`easy`: one or two operations; `medium`: three; `hard`: three and a Yes/No question on top."""
        if self.steps < 3:
            return "easy"
        return "medium" if self.form == "value" else "hard"


def value(spec: Spec, items: Any) -> Any:
    """The value before the form: of a list of integers, a string, or a pair of integers."""
    first, second = spec.filter_op, spec.map_op
    if spec.family == "pair":
        a, b = items
        p = first.apply(a, spec.filter_k) if first else a
        q = second.apply(b, spec.map_k) if second else b
        return spec.reduce_op.apply([p, q], None)
    kept = first.apply(list(items), spec.filter_k) if first else list(items)
    mapped = [second.apply(x, spec.map_k) for x in kept] if second else kept
    return spec.reduce_op.apply(mapped, None)


def solve(spec: Spec, items: Any) -> str:
    """What a right program prints, without the final newline."""
    result = value(spec, items)
    if spec.form == "threshold":
        return "Yes" if result > spec.form_k else "No"
    if spec.form == "parity":
        return "Yes" if result % 2 == 0 else "No"
    return str(result)


def render_input(family: str, items: Any) -> str:
    """The standard input that carries `items`, with its final newline."""
    if family == "string":
        return f"{items}\n"
    line = " ".join(map(str, items))
    return f"{line}\n" if family == "pair" else f"{len(items)}\n{line}\n"
