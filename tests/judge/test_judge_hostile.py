"""Every hostile and awkward program gets its verdict in the tier `strong`, and so does the next one after it."""

import pytest
from judge_bench import QUICK, Bench, function, problem
from judge_hostile import CASES, Case

from kiyas.judge import Limits, Outcome, Problem, Test


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case: Case, bench: Bench) -> None:
    limits = Limits(3, 2048) if case.roomy else QUICK
    verdict = bench.judge(case.source, case.problem, limits=limits)
    assert verdict.verdict in case.verdicts.split(), f"{verdict.detail} | {verdict.tests}"[:2000]
    if case.flag:
        assert case.flag in verdict.flags
    after = bench.judge("print(int(input()) * 2)", problem())
    assert after.verdict is Outcome.AC, after.tests


def test_30_overload(strong: None) -> None:
    """Half the limit of CPU time is AC on an overloaded machine too."""
    from kiyas.judge import Program, judge

    burn = "import time\nwhile time.process_time() < 0.25: pass\nprint(42)\n"
    verdicts = list(judge([Program("p", burn)] * 24, [problem()], limits=QUICK, workers=16))
    assert [v.verdict for v in verdicts] == [Outcome.AC] * 24, {v.detail for v in verdicts}


def test_49_50_fresh_arguments_and_state(bench: Bench) -> None:
    source = "seen = []\ndef add(a):\n    seen.append(1)\n    a.append(len(seen))\n    return a\n"
    asked = Problem("p", (Test("[1]", "[1, 1]"), Test("[1]", "[1, 1]")), entry_point="add")
    assert bench.judge(source, asked).verdict is Outcome.AC


def test_source_prefix_changes_nothing(bench: Bench) -> None:
    for case in CASES[-60::7]:
        if "__future__" in case.source or case.number in (53, 93):
            continue
        verdict = bench.judge("qzx_1 = 7  # harmless\n" + case.source, case.problem)
        assert verdict.verdict in case.verdicts.split(), case


def test_function_never_sees_the_expected_value(bench: Bench) -> None:
    source = (
        "import sys\ndef add(a, b):\n    f, seen = sys._getframe(), ''\n    while f:\n"
        "        seen += repr(f.f_locals)\n        f = f.f_back\n    return '918' + '273' in seen"
    )
    assert bench.judge(source, function("918273")).verdict is Outcome.WA
    assert bench.judge(source, function("false")).verdict is Outcome.AC
