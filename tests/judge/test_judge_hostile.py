"""Every hostile and awkward program gets its verdict, in two tiers, as root and as an ordinary user."""

import ast

import pytest
from judge_bench import Bench

from conftest import Place
from kiyas.judge import Limits, Outcome, Problem, Test
from kiyas.judge.attacks import Case, cases, function, problem, refused


def check(place: Place, case: Case, source: str) -> None:
    verdict = place.judge(source, case.problem, limits=case.limits)
    assert verdict.verdict in case.verdicts.split(), f"{verdict.detail} | {verdict.tests}"[:2000]
    if case.flag:
        assert case.flag in verdict.flags
    after = place.judge("print(int(input()) * 2)", problem())
    assert after.verdict is Outcome.AC, after.tests


@pytest.mark.parametrize("case", cases(), ids=str)
def test_case(case: Case, place: Place) -> None:
    if reason := case.unenforceable(place.tier):
        pytest.skip(f"{place.tier}: {reason}")
    check(place, case, case.source)


class Renamed(ast.NodeTransformer):
    """Other names for what a program calls by a name of its own."""

    def __init__(self, kept: str | None) -> None:
        self.names: dict[str, str] = {}
        self.kept = kept

    def collect(self, tree: ast.AST) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.names.setdefault(node.id, f"{node.id}_7")
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                self.names.pop(node.attr, None)
        self.names.pop(self.kept or "", None)

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)

    def visit_Global(self, node: ast.Global) -> ast.Global:
        return ast.Global([self.names.get(name, name) for name in node.names])


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=str(case), marks=[pytest.mark.slow] if case.number > 102 else [])
        for case in cases()
        if case.number not in (53, 93, 95, 97)
    ],
)
def test_the_text_is_not_recognised(case: Case, bench: Bench) -> None:
    """Renamed, and with a harmless line before it (53, 93 and 97 speak of their own text; 95 cannot be rewritten)."""
    source = case.source
    try:
        tree = ast.parse(source)
        renamed = Renamed(case.problem.entry_point)
        renamed.collect(tree)
        source = ast.unparse(renamed.visit(tree))
    except (SyntaxError, ValueError):
        pass
    check(bench, case, "qzx_1 = 7  # harmless\n" + source)


def test_30_overload(strong: None) -> None:
    """Half the limit of CPU time is AC on an overloaded machine too."""
    from kiyas.judge import Program, judge

    burn = "import time\nwhile time.process_time() < 0.1: pass\nprint(42)\n"
    verdicts = list(judge([Program("p", burn)] * 100, [problem()], limits=Limits(0.2), workers=16))
    assert [v.verdict for v in verdicts] == [Outcome.AC] * 100, {v.detail for v in verdicts}


def test_54_process_1_is_out_of_reach(bench: Bench) -> None:
    """Process 1 lasts from test to test: no signal reaches it, no limit or priority of it can be changed."""
    source = refused(
        "resource.prlimit(1, resource.RLIMIT_CPU, (1, 1))",
        "os.setpriority(os.PRIO_PROCESS, 1, 19)",
        "os.setpriority(os.PRIO_USER, 0, 19)",
        "os.sched_setaffinity(1, {0})",
        "os.sched_setscheduler(1, os.SCHED_BATCH, os.sched_param(0))",
        "open('/proc/1/oom_score_adj', 'w')",
        "os.mkdir('/x')",
        "os.mkdir('/scratch/x')",
        "os.chmod('/scratch', 0o777)",
    )
    attack = "import os, signal\nfor n in range(1, 65):\n    try: os.kill(1, n)\n    except OSError: pass\n" + source
    assert bench.judge(attack, problem()).verdict is Outcome.AC
    assert bench.judge(source, problem()).verdict is Outcome.AC


def test_50_no_counter_survives(bench: Bench) -> None:
    """Neither process ids nor inode numbers tell how many tests there were before."""
    source = (
        "import os\nfor _ in range(3):\n    if os.fork() == 0: os._exit(0)\n    os.wait()\n"
        "for i in range(9): open(f'{i}', 'w').close()\nprint(os.getpid(), os.getppid(), os.stat('8').st_ino)"
    )
    shown = {bench.judge(source, Problem("p", (Test("", ""),))).tests[0].got for _ in range(3)}
    assert len(shown) == 1 and next(iter(shown)).startswith("2 1 "), shown


def test_49_50_fresh_arguments_and_state(bench: Bench) -> None:
    source = "seen = []\ndef add(a):\n    seen.append(1)\n    a.append(len(seen))\n    return a\n"
    asked = Problem("p", (Test("[1]", "[1, 1]"), Test("[1]", "[1, 1]")), entry_point="add")
    assert bench.judge(source, asked).verdict is Outcome.AC


def test_function_never_sees_the_expected_value(bench: Bench) -> None:
    source = (
        "import sys\ndef add(a, b):\n    f, seen = sys._getframe(), ''\n    while f:\n"
        "        seen += repr(f.f_locals)\n        f = f.f_back\n    return '918' + '273' in seen"
    )
    assert bench.judge(source, function("918273")).verdict is Outcome.WA
    assert bench.judge(source, function("false")).verdict is Outcome.AC
