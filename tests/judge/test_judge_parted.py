# ruff: noqa: E501  (the programs)
"""Assert-style tests in a process of their own: what crosses, what is parted and what is not, which verdicts result."""

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Place
from kiyas.judge import Limits, Outcome, Problem, Program, judge
from kiyas.judge.parting import parting
from kiyas.judge.verdicts import SHARED

LIMITS = Limits(3, 256)


def asserts(test_code: str, **others: Any) -> Problem:
    return Problem("p", (), test_code=test_code, **others)


def outcome(bench: Place, source: str, test_code: str, **others: Any) -> str:
    problem = asserts(test_code, **others)
    assert parting(problem) is not None, "these tests should be parted"
    verdict = bench.judge(source, problem, limits=LIMITS)
    assert SHARED not in verdict.flags
    return (
        verdict.verdict.value if verdict.verdict is not Outcome.RE else f"RE {verdict.detail} {verdict.tests[0].stderr}"
    )


# --- what crosses ------------------------------------------------------------------------------------------------

SAME = """
def same(a, b):
    if type(a) is not type(b): return False
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict): return len(a) == len(b) and all(same(x, y) and same(a[x], b[y]) for x, y in zip(a, b))
    return repr(a) == repr(b) if isinstance(a, (float, complex)) else a == b
"""
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers(allow_nan=False, allow_infinity=False)
    | st.text(st.characters())
    | st.text(st.sampled_from("a\ud83d\ude00\0\\'"))
    | st.binary()
    | st.integers(2**62, 2**64)
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.dates()
    | st.datetimes()
    | st.times()
    | st.timedeltas()
    | st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 3))
)
KEYS = st.none() | st.integers() | st.text() | st.booleans() | st.binary() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(st.integers(), max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.sets(KEYS, max_size=3)
        | st.frozensets(KEYS, max_size=3)
        | st.binary().map(bytearray)
    ),
    max_leaves=8,
)


def written(value: object) -> str:
    """As Python source."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if isinstance(value, list | tuple):
        inner = "".join(f"{written(part)}, " for part in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    if isinstance(value, dict):
        return "{" + "".join(f"{written(key)}: {written(part)}, " for key, part in value.items()) + "}"
    return repr(value).encode("ascii", "backslashreplace").decode() if isinstance(value, str) else repr(value)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(VALUES, min_size=1, max_size=5))
def test_values_cross_unchanged(bench: Place, values: list[Any]) -> None:
    lines = [f"assert same(back({written(value)}), {written(value)})" for value in values]
    code = "import datetime\nfrom decimal import Decimal\nfrom fractions import Fraction\n" + SAME + "\n".join(lines)
    assert outcome(bench, "def back(x): return x", code) == "AC"
    assert outcome(bench, "def back(x): return [x]", code) == "WA"


RESULTS = {
    "counter": ("from collections import Counter\ndef f(x): return Counter(x)", "assert f('aab') == {'a': 2, 'b': 1}"),
    "counter-methods": ("from collections import Counter\ndef f(x): return Counter(x)", "assert f('aab').most_common(1) == [('a', 2)]"),
    "default-dict": ("from collections import defaultdict\ndef f(x):\n    d = defaultdict(list)\n    d[x].append(1)\n    return d", "assert f(3) == {3: [1]}"),
    "ordered-dict": ("from collections import OrderedDict\ndef f(x): return OrderedDict([(x, 1), (0, 2)])", "assert list(f(3).items()) == [(3, 1), (0, 2)]"),
    "deque": ("from collections import deque\ndef f(x): return deque(x, 2)", "from collections import deque\nassert f([1, 2, 3]) == deque([2, 3]) and f([1]).maxlen == 2"),
    "named-tuple": ("from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(x): return P(x, x)", "assert f(3) == (3, 3)"),
    "int-enum": ("from enum import IntEnum\nclass E(IntEnum):\n    A = 3\ndef f(x): return E.A", "assert f(3) == 3"),
    "huge": ("def f(x): return -x * x", "assert f(10**9000) == -10**18000"),
    "map": ("def f(x): return map(str, x)", "assert list(f([1, 2])) == ['1', '2']"),
    "zip": ("def f(x): return zip(x, x)", "assert dict(f([1, 2])) == {1: 1, 2: 2}"),
    "generator": ("def f(x):\n    while True:\n        yield x\n        x += 1", "import itertools\nassert list(itertools.islice(f(3), 2)) == [3, 4]"),
    "keys": ("def f(x): return x.keys()", "assert f({1: 2}) == {1} and list(f({1: 2})) == [1]"),
    "items": ("def f(x): return x.items()", "assert list(f({1: 2})) == [(1, 2)]"),
    "values": ("def f(x): return x.values()", "assert sorted(f({1: 2})) == [2]"),
    "function": ("def f(x):\n    return lambda y: x + y", "assert f(3)(4) == 7 and callable(f(3))"),
    "callback": ("def f(g, x): return [g(y) for y in x]", "assert f(lambda y: y * 2, [1, 2]) == [2, 4]"),
    "callback-of-a-builtin": ("def f(g, x): return g(x)", "assert f(len, [1, 2]) == 2 and f(sorted, [2, 1]) == [1, 2]"),
    "callback-raises": ("def f(g):\n    try: g()\n    except ZeroDivisionError as e: return str(e)", "assert f(lambda: 1 // 0) == 'integer division or modulo by zero'"),
    "function-there-and-back": ("def f(g): return g", "g = lambda: 3\nassert f(g) is g and f(f) is f"),
    "type": ("def f(x): return type(x)", "assert f(3) is int and f(ValueError()) is not int"),
    "type-given": ("def f(x, t): return isinstance(x, t)", "assert f(3, int) and not f(3, str)"),
    "name": ("f = [1]\nMOST = 3", "assert f == [1] and MOST == 3"),
    "keywords": ("def f(*a, k=1, **kw): return a, k, kw", "assert f(1, k=2, z=3) == ((1,), 2, {'z': 3})"),
    "solution-module": ("def f(x): return x", "from solution import f as g\nimport math\nassert g(3) == 3"),
    "solution-method": ("class Solution:\n    def f(self, x): return x + 1", "def check(g):\n    assert g(x=2) == 3\ncheck(Solution().f)"),
    "instance-state": ("class Solution:\n    n = 0\n    def f(self, x):\n        self.n += x\n        return self.n", "s = Solution()\ns.f(1)\nassert s.f(2) == 3 and s.n == 3"),
    "instance-passed-back": ("class N:\n    def __init__(self, x): self.x = x\ndef make(x): return N(x)\ndef read(n): return n.x", "assert read(make(3)) == 3"),
    "recursion": ("def f(n): return n and 1 + f(n - 1)", "assert f(900) == 900"),
    "exits-by-the-tests": ("def f(x): raise ValueError('no')", "try:\n    f(1)\n    assert False\nexcept ValueError as error:\n    assert str(error) == 'no'"),
    "own-exception": ("class Bad(KeyError): pass\ndef f(x): raise Bad(3)", "try:\n    f(1)\n    assert False\nexcept KeyError as error:\n    assert error.args == (3,)"),
    "unicode-error": ("def f(x): return x.decode()", "try:\n    f(b'\\xff')\n    assert False\nexcept UnicodeDecodeError:\n    pass"),
    "imports-of-the-tests": ("def f(x): return math.sqrt(x)", "import math\nassert f(4) == 2"),
    "imports-of-the-program": ("import math\ndef f(x): return x / 3", "assert math.isclose(f(1), 0.333333333333333333)"),
    "prints": ("def f(x):\n    print('noise' * 9999)\n    return x", "print('too')\nassert f(3) == 3"),
    "own-file": ("import os\ndef f(x):\n    open('a', 'w').write('3')\n    return os.path.exists('/proc/self/maps') and open('/dev/stdin').read() + open('a').read()", "assert f(3) == '3'"),
}  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_results(name: str, bench: Place) -> None:
    assert outcome(bench, *RESULTS[name]) == "AC"


CHANGES = {
    "list": ("x.sort()", "[2, 1]", "[1, 2]"),
    "nested": ("x[0].append(x[1])", "[[], [1]]", "[[[1]], [1]]"),
    "list-cleared": ("del x[:]", "[[1], [2]]", "[]"),
    "rows-of-one-list": ("x[0][0] = 1", "[[0]] * 2", "[[1], [1]]"),
    "dict": ("x[(1, 2)] = x.pop('a')", "{'a': [1]}", "{(1, 2): [1]}"),
    "set": ("x.add(2)", "{1}", "{1, 2}"),
    "bytearray": ("x += b'2'", "bytearray(b'1')", "bytearray(b'12')"),
    "in-a-tuple": ("x[0].append(1)", "([],)", "([1],)"),
    "deque": ("x.rotate(1)", "collections.deque([1, 2])", "collections.deque([2, 1])"),
    "counter": ("x['a'] -= 1", "collections.Counter('aa')", "{'a': 1}"),
    "and-raises": ("x.append(1); 1 / 0", "[]", "[1]"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_changed_arguments(name: str, bench: Place) -> None:
    act, before, after = CHANGES[name]
    source = f"def f(x):\n    {act}\n    return x"
    code = f"import collections\nx = {before}\ntry:\n    y = f(x)\n    assert y is x or type(x) is tuple\nexcept ZeroDivisionError: pass\nassert x == {after}, x"
    assert outcome(bench, source, code) == "AC"


def test_a_list_that_holds_itself(bench: Place) -> None:
    source = "def f(x):\n    x.append(x)\n    return x"
    assert outcome(bench, source, "y = f([1])\nassert y[1] is y and y[0] == 1") == "AC"


# --- verdicts ----------------------------------------------------------------------------------------------------

CHECKED = "def check(f):\n    for n in (1, 2):\n        assert f(n) == 2 * n, 'double'\ncheck(f)\n"


@pytest.mark.parametrize(
    ("source", "expected", "detail"),
    [
        ("def f(n): return 2 * n", "AC", ""),
        ("def f(n): return n", "WA", "failed: assert f(n) == 2 * n, 'double'"),
        ("def f(n):\n    return {}[n]", "RE", "KeyError: 1 (line 2)"),
        ("def f(n): assert n == 9", "RE", "AssertionError"),
        ("def g(n): return 2 * n", "RE", "NameError: name 'f' is not defined"),
        ("import os\ndef f(n): os._exit(0)", "WA", "it ended before the tests did"),
        ("import os\ndef f(n): os._exit(3)", "RE", "exit code 3"),
        ("import os\ndef f(n): os.abort()", "RE", "ended by SIGABRT"),
        ("import sys\ndef f(n): sys.exit(0)", "RE", "SystemExit"),
        ("def f(n):\n    while True: pass", "TLE", ""),
        ("def f(n): return bytearray(10**9) and 2", "MLE", ""),
        ("def f(n): return [0] * 10**12", "MLE", "MemoryError"),
        ("def f(n): raise MemoryError", "MLE", "MemoryError"),
        ("def f(n):\n    while True: print('x' * 9999)", "OLE", ""),
        ("def f(n):", "CE", "IndentationError"),
        ("class Yes:\n    def __eq__(self, other): return True\ndef f(n): return Yes()", "WA", "failed"),
        ("class Yes:\n    def __iter__(self): return iter([1])\ndef f(n): return Yes()", "WA", "failed"),
    ],
)  # fmt: skip
def test_verdicts(source: str, expected: str, detail: str, bench: Place) -> None:
    verdict = bench.judge(source, asserts(CHECKED), limits=LIMITS)
    assert verdict.verdict == expected and detail in verdict.detail, verdict


@pytest.mark.parametrize("end", ["os._exit(0)", "os.abort()", "os.closerange(3, 99)", "os.kill(os.getppid(), 9)"])
def test_an_end_in_a_shielded_call_is_no_pass(end: str, bench: Place) -> None:
    source = f"import os\ndef f(n): {end}"
    assert outcome(bench, source, "try: f(1)\nexcept BaseException: pass") != "AC"


NUMPY = """
import numpy as np
def f(x): return np.array(x) * 2
def total(x): return np.array(x).sum()
def double(x): x *= 2
def bad(x): return [7]
"""
NUMPY_TESTS = """
import numpy as np
a = np.arange(6.0).reshape(2, 3)
assert np.allclose(f(a), a + a) and f(a).shape == (2, 3) and f(np.array([1, 2], dtype="u1")).dtype == np.uint8
assert (f([1, 2]) == [2, 4]).all() and total([1, 2]) == 3 and type(total([1])) is np.int64 and total([True, False]) == 1
b = a.copy()
double(b)
assert (b == 2 * a).all() and (f(a > 2) == [[0, 0, 0], [2, 2, 2]]).all() and f("ab").all() if 0 else True
"""


def test_numpy_crosses(strong: None) -> None:
    pytest.importorskip("numpy")
    problem = asserts(NUMPY_TESTS, modules=("numpy",))
    assert parting(problem) is not None
    programs = [Program("p", NUMPY), Program("p", NUMPY.replace("* 2", "* 3")), Program("p", NUMPY + "f = bad")]
    verdicts = [v.verdict for v in judge(programs, [problem], workers=1, python=sys.executable)]
    assert verdicts == [Outcome.AC, Outcome.WA, Outcome.WA]


def test_its_memory_and_time_are_those_of_both(bench: Place) -> None:
    source = (
        "import time\nkept = b'x' * (40 << 20)\ndef f(n):\n    while time.process_time() < 0.2: pass\n    return 2 * n"
    )
    (test,) = bench.judge(source, asserts("kept = 'y' * (40 << 20)\n" + CHECKED), limits=LIMITS).tests
    assert test.verdict is Outcome.AC and test.peak_mb > 80 and test.cpu_s >= 0.2


@pytest.mark.parametrize(
    "check",
    [
        "assert abs(f(1) - 2) < 1e-6",
        "assert f(1) < 3 and f(1) > 1",
        "assert len(f(1)) == 2",
        "assert f(1)[0] == 2",
        "assert sorted(f(1)) == [2]",
        "assert list(f(1)) == [2]",
        "assert str(f(1)) == '2'",
        "assert f'{f(1)}' == '2'",
        "assert not f(1)",
        "assert 2 in f(1)",
        "assert f(1) in [2]",
        "assert {2: 1}[f(1)] == 1",
        "assert isinstance(f(1), int)",
        "assert type(f(1)) is int",
        "assert set([f(1)]) == {2}",
        "assert round(f(1)) == 2",
        "import math\nassert math.isclose(f(1), 2)",
        "assert f(1) == 2 if f(1) != 2 else False",
    ],
)
@pytest.mark.parametrize("base", ["object", "int", "str", "list", "dict"])
def test_no_special_method_of_a_program_decides(base: str, check: str, bench: Place) -> None:
    methods = ["eq", "ne", "lt", "gt", "le", "ge", "sub", "rsub", "contains", "getitem"]
    lines = [f"    def __{name}__(self, other): return True" for name in methods]
    values = {
        "bool": "False",
        "len": "2",
        "iter": "iter([2])",
        "str": "'2'",
        "int": "2",
        "float": "2.0",
        "index": "2",
        "hash": "hash(2)",
        "abs": "0",
        "round": "2",
        "repr": "'2'",
    }
    lines += [f"    def __{name}__(self): return {value}" for name, value in values.items()]
    lines += ["    def __format__(self, spec): return '2'", "    __class__ = property(lambda self: int)"]
    source = f"class Yes({base}):\n" + "\n".join(lines) + "\ndef f(n): return Yes()"
    if (base, check) in (("str", "assert not f(1)"), ("int", "assert not f(1)"), ("list", "assert not f(1)"), ("dict", "assert not f(1)"),
                         ("int", "assert isinstance(f(1), int)"), ("int", "assert type(f(1)) is int"), ("int", "assert f(1) < 3 and f(1) > 1")):  # fmt: skip
        return  # true of the base's own value, too
    assert outcome(bench, source, check) != "AC"


# --- what is parted ----------------------------------------------------------------------------------------------

CLASS = "class Point:\n    def __init__(self, x): self.x = x\n    def __eq__(self, other): return self.x == other.x\n"


@pytest.mark.parametrize(
    ("test_code", "others"),
    [
        ("class A: pass\nassert f(A()) == 1", {}),
        ("import unittest\nclass T(unittest.TestCase): pass", {}),
        ("from unittest.mock import patch\nwith patch('os.listdir'): assert f() == 1", {}),
        ("import pytest\nwith pytest.raises(ValueError): f()", {}),
        ("import io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()) as out: f()\nassert out.getvalue()", {}),
        ("import sys\nassert f() == sys.modules", {}),
        ("assert f(open('x')) == 1", {}),
        ("assert eval('f()') == 1", {}),
        ("assert f.__name__ == 'f'", {}),
        ("n = f()\nn.next = 3\nassert g(n)", {}),
        ("from solution import *\nassert f() == 1", {}),
        ("import solution\nassert solution.f() == 1", {}),
        ("import asyncio\nassert asyncio.run(f()) == 1", {}),
        ("assert f() == os.sep", {}),
        ("assert abs(1) == 1", {}),
        ("assert f(", {}),
        ("assert Point(1) == Point(1)", {}),
        ("assert Point(1) == Point(1)", {"solutions": (CLASS,)}),
        ("assert f(1) == f(1)", {"solutions": (CLASS + "def f(x): return Point(x)",)}),
        ("assert f(Node(1)) == 1", {"preamble": "class Node:\n    def __init__(self, x): self.x = x"}),
        ("assert f(make(1)) == 1", {"preamble": "class Node: pass\ndef make(x): return Node()"}),
    ],
)  # fmt: skip
def test_what_shares_the_process(test_code: str, others: dict[str, Any], bench: Place) -> None:
    problem = known(test_code, others)
    assert parting(problem) is None
    verdict = bench.judge("def f(*a): return 1", problem, limits=LIMITS)
    assert SHARED in verdict.flags, verdict


def known(test_code: str, others: dict[str, Any]) -> Problem:
    """A problem with its own solutions, which the formats give."""
    problem = asserts(test_code, **{key: value for key, value in others.items() if key != "solutions"})
    if "solutions" in others:
        object.__setattr__(problem, "solutions", others["solutions"])
    return problem


@pytest.mark.parametrize(
    ("test_code", "others", "asked"),
    [
        ("assert f(1) == g(2)", {}, {"f", "g"}),
        ("assert sum(1, 2) == 3", {"solutions": ("def sum(a, b): return a + b",)}, {"sum"}),
        ("assert Diff([1]) == set(1)", {"solutions": ("def Diff(a): return set(a)",)}, {"Diff"}),
        ("assert f(Point(1)) == 1", {"solutions": ("class Point:\n    def __init__(self, x): self.x = x\ndef f(p): return 1",)}, {"f", "Point"}),
        ("check(Solution().f)", {"preamble": "import sys, os\nfrom typing import *\nclass ListNode: pass\ndef check(f): assert f(1) == 1"}, {"Solution"}),
        ("import os\nassert f(1) == 1", {}, {"f"}),
        ("from solution import f\ndef test_f(): assert f(1) == 1\ntest_f()", {}, {"f"}),
    ],
)  # fmt: skip
def test_what_is_parted(test_code: str, others: dict[str, Any], asked: set[str]) -> None:
    found = parting(known(test_code, others))
    assert found is not None and set(found.asked) == asked


LEETCODE = """
import sys, os, random, collections, math
from typing import *
from collections import *
from bisect import *
inf = float("inf")
class ListNode:
    def __init__(self, val=0, next=None): self.val, self.next = val, next
def list_node(values):
    head = None
    for value in reversed(values): head = ListNode(value, head)
    return head
"""


def test_leetcode_rows(bench: Place) -> None:
    """LeetCodeDataset's shape: only rows that use its linked lists share the program's process."""
    code = (
        "def check(candidate):\n    assert candidate(nums = [2, 7], target = 9) == [0, 1]\n\ncheck(Solution().twoSum)\n"
    )
    right = "class Solution:\n    def twoSum(self, nums: List[int], target: int) -> List[int]: return [0, bisect_left(nums, 7)]"
    assert outcome(bench, right, code, preamble=LEETCODE) == "AC"
    assert outcome(bench, right.replace("0, ", "1, "), code, preamble=LEETCODE) == "WA"
    linked = code.replace("[2, 7]", "list_node([2, 7])")
    assert parting(asserts(linked, preamble=LEETCODE)) is None
    walks = right.replace("[0, bisect_left(nums, 7)]", "[0, nums.next.val - 6]")
    assert bench.judge(walks, asserts(linked, preamble=LEETCODE), limits=LIMITS).verdict is Outcome.AC


@pytest.mark.parametrize("tier", ["weak", "standard", "standard-user"])
def test_other_tiers(tier: str, place_named: Callable[[str], Place]) -> None:
    place = place_named(tier)
    for source, expected in (("def f(n): return 2 * n", "AC"), ("def f(n): return n", "WA"), ("def f(n):\n    while 1: pass", "TLE"),
                             ("import os\ndef f(n):\n    os.fork() or os.setsid()\n    return 2 * n", "WA AC RE")):  # fmt: skip
        assert place.judge(source, asserts(CHECKED)).verdict in expected.split()


def test_an_assertion_of_a_helper_is_the_tests(bench: Place) -> None:
    verdict = bench.judge(
        "def f(x): return x", asserts("even(f(2))\neven(f(3))", preamble="def even(x): assert x % 2 == 0")
    )
    assert verdict.verdict is Outcome.WA and verdict.detail.endswith("failed: even(f(3))")


def test_helpers_of_the_statement_are_the_statements(bench: Place) -> None:
    """A program's own version of what the statement gives does not decide."""
    preamble = "def poly(xs, x): return xs[0] + xs[1] * x"
    code = "import math\nassert abs(poly([2, 1], root([2, 1]))) < 1e-6 and math.isclose(root([2, 1]), -2)"
    right, wrong = "def root(xs): return -xs[0] / xs[1]", "def poly(xs, x): return 0\ndef root(xs): return -2.5"
    assert outcome(bench, right, code, preamble=preamble) == "AC"
    assert outcome(bench, wrong + "\nimport math\nmath.isclose = lambda a, b: True", code, preamble=preamble) == "WA"


def test_a_shared_process_is_forged_and_says_so(bench: Place) -> None:
    problem = asserts("class Own: pass\nassert f(1) == 2")
    verdict = bench.judge("class Yes:\n    def __eq__(self, other): return True\ndef f(n): return Yes()", problem)
    assert verdict.verdict is Outcome.AC and verdict.flags == (SHARED,)
