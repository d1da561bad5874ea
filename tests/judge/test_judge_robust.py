"""Long lists, large tests, threads, a process that has loaded torch."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from judge_bench import Bench

from kiyas.judge import Outcome, Problem, Program, Test, Tier, judge
from kiyas.judge.attacks import problem
from kiyas.judge.groups import Group
from kiyas.judge.resources import INPUTS, _held
from kiyas.judge.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("strong")


def resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def check_bounded(count: int) -> None:
    def programs() -> Iterator[Program]:
        for number in range(count):
            yield Program("p", f"# {number}" + "x" * 20_000 + "\nprint(42)")

    early, accepted = 0, 0
    for number, verdict in enumerate(judge(programs(), [problem()], workers=2)):
        accepted += verdict.accepted
        if number == 300:
            early = resident_kb()
    assert accepted == count
    assert resident_kb() - early < 8_000
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("judge-")]


def test_memory_is_bounded() -> None:
    check_bounded(1_000)  # programs of 20 kB: kept, they would be 14 MB


@pytest.mark.slow
def test_memory_is_bounded_over_10000_programs() -> None:
    check_bounded(10_000)


PEAK = """
import sys
from kiyas.judge import Problem, Program, Test, judge
size, workers = int(sys.argv[1]) << 20, int(sys.argv[2])
tests = tuple(Test("7" * size + chr(10), "7" * size + chr(10)) for _ in range(2))
programs = [Program("p", f"print(input())  # {n}") for n in range(4)]
verdicts = list(judge(programs, [Problem("p", tests)], workers=workers))
assert all(v.accepted for v in verdicts), verdicts[0].detail
# Not getrusage's figure, which begins with what the process was forked from.
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:")) // 1024)
"""


def test_large_tests_do_not_multiply_by_workers() -> None:
    """Only what the programs themselves print does: that is theirs, and capped."""

    def peak_mb(size: int, workers: int) -> int:
        done = subprocess.run([sys.executable, "-c", PEAK, str(size), str(workers)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    one, four = peak_mb(20, 1), peak_mb(20, 4)
    assert one < 30 + 4 * 20 + 7 * 20  # two tests, input and output of 20 MB each; an output in the making
    assert four - one < 3 * 3 * 20  # three more outputs in the making; with the tests it would be 3 * 5 * 20


def test_a_large_input_stands_in_memory_once() -> None:
    text = "x" * (2 << 20)
    with INPUTS.take(text) as a, INPUTS.take(text) as b:
        assert os.fstat(a).st_ino == os.fstat(b).st_ino
        assert os.read(a, 10) == b"x" * 10 and os.lseek(b, 0, os.SEEK_CUR) == 0
        with pytest.raises(OSError):
            os.write(a, b"y")
        os.close(a)
        os.close(b)
    assert not INPUTS._held


def test_from_several_threads() -> None:
    results: dict[int, list[Outcome]] = {}

    def work(number: int) -> None:
        programs = [Program("p", f"print({41 + (i + number) % 2})") for i in range(10)]
        results[number] = [verdict.verdict for verdict in judge(programs, [problem()], workers=2)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [Outcome.AC if (i + n) % 2 else Outcome.WA for i in range(10)] for n in range(3)}


def test_beside_torch() -> None:
    """A process with torch's threads in it: the sandbox is exec'ed, never forked from it."""
    torch = pytest.importorskip("torch")
    torch.ones(300, 300) @ torch.ones(300, 300)
    verdicts = list(judge([Program("p", "print(42)")] * 4, [problem()], workers=2))
    assert {verdict.verdict for verdict in verdicts} == {Outcome.AC}


HIDING = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
end = time.time() + 1.2
while time.time() < end:
    if os.fork() == 0:
        start = time.process_time()
        while time.process_time() - start < 0.004: pass
        os._exit(0)
    time.sleep(0.003)
print(42)
"""


def test_a_control_group_counts_what_polling_cannot_see(bench: Bench) -> None:
    """Children that live for less than a look, and that nobody waits for."""
    if not isinstance(bench.sandbox.group, Group):
        pytest.skip(bench.sandbox.group_note)
    assert bench.judge(HIDING, problem()).verdict is Outcome.TLE
    assert bench.judge("print(42)", problem()).tests[0].cpu_s < 0.1


def test_nothing_is_left_of_a_sandbox() -> None:
    """Control groups, scratch folders, and the users of programs."""
    boxes = [Sandbox(Tier.WEAK) for _ in range(3)]
    uids = {box.uid for box in boxes}
    assert len(uids) == (3 if os.geteuid() == 0 and None not in uids else 1)
    left = [folder for box in boxes for folder in ([box.folder] if box.folder else []) + groups_of(box)]
    assert all(folder.exists() for folder in left)
    for box in boxes:
        box.close()
        box.close()
    assert not any(folder.exists() for folder in left)
    for uid in uids - {None}:
        held = _held(uid)
        assert held is not None
        held.close()


def groups_of(box: Sandbox) -> list[Path]:
    return box.group.folders if box.group is not None else []


def test_tests_of_no_length() -> None:
    verdicts = list(judge([Program("p", "pass")], [Problem("p", (Test("", ""),))], workers=1))
    assert verdicts[0].verdict is Outcome.AC
