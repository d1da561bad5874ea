"""Every hostile and awkward program gets its verdict in the tier `strong`, and so does the next one after it."""

import pytest
from judge_bench import QUICK, Bench, function, problem
from judge_hostile import CASES, Case, refused

from conftest import Place
from kiyas.judge import Limits, Outcome, Problem, Test, Tier

NOT_IN_STANDARD = dict.fromkeys((38, 39), "/proc is closed to programs: this one ends before it could see anything")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case: Case, place: Place) -> None:
    if place.tier is Tier.STANDARD and case.number in NOT_IN_STANDARD:
        pytest.skip(f"standard: {NOT_IN_STANDARD[case.number]}")
    limits = Limits(3, 2048) if case.roomy else Limits(0.1, 128) if case.asleep else QUICK
    verdict = place.judge(case.source, case.problem, limits=limits)
    assert verdict.verdict in case.verdicts.split(), f"{verdict.detail} | {verdict.tests}"[:2000]
    if case.flag:
        assert case.flag in verdict.flags
    after = place.judge("print(int(input()) * 2)", problem())
    assert after.verdict is Outcome.AC, after.tests


def test_30_overload(strong: None) -> None:
    """Half the limit of CPU time is AC on an overloaded machine too."""
    from kiyas.judge import Program, judge

    burn = "import time\nwhile time.process_time() < 0.25: pass\nprint(42)\n"
    verdicts = list(judge([Program("p", burn)] * 16, [problem()], limits=QUICK, workers=16))
    assert [v.verdict for v in verdicts] == [Outcome.AC] * 16, {v.detail for v in verdicts}


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
