"""The command line: rows, exit codes, resuming, clean ends."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from judge_bench import descendants

from kiyas import cli

pytestmark = pytest.mark.usefixtures("strong")

PROBLEMS = [{"id": "double", "tests": [{"input": "21\n", "output": "42\n"}, {"input": "0\n", "output": "0\n"}]}]
AC, WA = "print(int(input()) * 2)", "print(42)"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    problems, programs = tmp_path / "problems.jsonl", tmp_path / "programs.jsonl"
    problems.write_text("".join(json.dumps(row) + "\n" for row in PROBLEMS))
    rows = [{"problem_id": "double", "program": (AC, WA)[i % 2], "number": i} for i in range(12)]
    programs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return programs, problems


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "kiyas.judge", *map(str, arguments)]


def kiyas(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_in_order_with_the_input_keys(files: tuple[Path, Path]) -> None:
    done = kiyas(files[0], "--problems", files[1])
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert [row["number"] for row in rows] == list(range(12))
    assert [row["verdict"] for row in rows] == ["AC", "WA"] * 6
    assert (rows[1]["passed"], rows[1]["total"], rows[1]["tier"]) == (1, 2, "strong")
    assert {"cpu_s", "wall_s", "peak_mb", "tests", "detail", "flags"} <= rows[0].keys()
    assert {"got", "stderr", "exception"} <= rows[1]["tests"][1].keys()
    assert "12 programs: 6 AC, 6 WA (50.0 % accepted)" in done.stderr
    assert "strong" in done.stderr


def test_both_modes(files: tuple[Path, Path]) -> None:
    done = kiyas(files[0], "--problems", files[1], "--mode", "both")
    assert {json.loads(line)["verdict_livecodebench"] for line in done.stdout.splitlines()} == {"AC", "WA"}
    assert "the modes differ on 0 of 12 programs" in done.stderr


def test_stop_early(files: tuple[Path, Path]) -> None:
    files[0].write_text(json.dumps({"problem_id": "double", "program": "print(1)"}) + "\n")
    row = json.loads(kiyas(files[0], "--problems", files[1], "--stop-early").stdout)
    assert len(row["tests"]) == 1 and row["total"] == 2


def test_mistakes_exit_1_without_traceback(files: tuple[Path, Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"problem_id": "double", "program": ""}\n{"problem_id": "nope", "program": ""}\n')
    for arguments in (
        (bad, "--problems", files[1]),
        (files[0], "--problems", tmp_path / "nope"),
        (files[1], "--problems", files[1]),
        (files[0], "--problems", files[1], "--out", files[0]),
        (files[0], "--problems", files[1], "--out", tmp_path / "no" / "x" / ".." / ".." / "problems.jsonl"),
    ):
        done = kiyas(*arguments)
        assert done.returncode == 1, done
        assert "Traceback" not in done.stderr
    assert f"{bad}:2: problem 'nope'" in kiyas(bad, "--problems", files[1]).stderr


def test_sandbox_failure_exits_2(files: tuple[Path, Path]) -> None:
    done = kiyas(files[0], "--problems", files[1], "--python", "/nonexistent/python")
    assert done.returncode == 2 and "Traceback" not in done.stderr


def wait_for_end(pids: list[int]) -> None:
    """A zombie has ended: when it is reaped is the machine's affair."""
    deadline = time.monotonic() + 60
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                assert time.monotonic() < deadline, "processes outlived the judge"
                time.sleep(0.01)


def test_resume_after_kill(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "verdicts.jsonl"
    slow = "import time\nend = time.time() + 0.15\nwhile time.time() < end: pass\n" + AC
    rows = [{"problem_id": "double", "program": slow, "number": i} for i in range(12)]
    files[0].write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = (files[0], "--problems", files[1], "--out", out)
    process = subprocess.Popen(command(*arguments), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not out.exists() or out.read_bytes().count(b"\n") < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    started = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for_end(started)
    kept = out.read_bytes()
    out.write_bytes(kept + b'{"problem_id": "dou')
    done = kiyas(*arguments)
    assert done.returncode == 0, done.stderr
    assert "verdicts are there already" in done.stderr
    assert out.read_bytes().startswith(kept)
    assert [row["number"] for row in read(out)] == list(range(12))
    assert {row["verdict"] for row in read(out)} == {"AC"}
    before = out.read_bytes()
    assert kiyas(*arguments).returncode == 0
    assert out.read_bytes() == before


def test_resume_refuses_other_settings(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "verdicts.jsonl"
    assert kiyas(files[0], "--problems", files[1], "--out", out).returncode == 0
    assert json.loads(Path(f"{out}.meta.json").read_text())["tier"] == "strong"
    done = kiyas(files[0], "--problems", files[1], "--out", out, "--time-limit", "2")
    assert done.returncode == 1 and "time_limit" in done.stderr
    Path(f"{out}.meta.json").write_text("[]")
    done = kiyas(files[0], "--problems", files[1], "--out", out)
    assert done.returncode == 1 and "is not a JSON object" in done.stderr and "Traceback" not in done.stderr


def test_interrupt_leaves_nothing(files: tuple[Path, Path]) -> None:
    files[0].write_text(json.dumps({"problem_id": "double", "program": "while True: pass"}) + "\n")
    process = subprocess.Popen(
        command(files[0], "--problems", files[1]),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Tests started in the background of a shell inherit an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while len(started := descendants(process.pid)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130 and b"interrupted" in said and b"Traceback" not in said
    wait_for_end(started)


def test_another_interpreter_below_tmp(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Its folders are shown to programs although the sandbox has a /tmp of its own."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    module = next((tmp_path / "venv" / "lib").glob("python*/site-packages")) / "forty_two.py"
    module.write_text("answer = 42\n")
    source = "import tempfile, forty_two\nwith tempfile.TemporaryFile() as file: print(forty_two.answer)"
    files[0].write_text(json.dumps({"problem_id": "double", "program": source}) + "\n")
    done = kiyas(files[0], "--problems", files[1], "--python", tmp_path / "venv" / "bin" / "python", "--trust")
    assert json.loads(done.stdout)["passed"] == 1, done.stdout


def test_help_shows_an_example() -> None:
    said = kiyas("--help").stdout
    assert "examples:" in said and "--isolation" in said


def test_extraction_and_tolerance_are_chosen(tmp_path: Path) -> None:
    problems, programs = tmp_path / "problems.jsonl", tmp_path / "programs.jsonl"
    words = "The absolute or relative error of your answer must be at most 10^-2."
    test = [{"input": "", "output": "0.5\n"}]
    failing = "def check(input, expected, output):\n    return 1 / 0 if output else False\n"
    rows: list[dict[str, Any]] = [
        {"id": "p", "statement": words, "tests": test},
        {"id": "f", "entry_point": "f", "tests": [{"input": "1", "output": "2"}]},
    ]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [
        {"problem_id": "p", "answer": "```python\nprint(0.49)\n```\n```\n0.49\n```"},
        {"problem_id": "f", "answer": "```python\ndef f(x): return 2 * x\n```\n```python\ndef g(x): return x\n```"},
    ]
    programs.write_text("".join(json.dumps(row) + "\n" for row in asked))
    found = {}
    for options in ([], ["--tolerance", "exact"], ["--extraction", "livecodebench"]):
        done = kiyas(programs, "--problems", problems, *options)
        found[" ".join(options)] = [json.loads(line)["verdict"] for line in done.stdout.splitlines()]
    assert found == {"": ["AC", "AC"], "--tolerance exact": ["WA", "AC"], "--extraction livecodebench": ["WA", "RE"]}
    done = kiyas(programs, "--problems", problems)
    assert "1 of 2 problems are judged within the error that their statement allows: p" in done.stderr
    assert "1 accepted programs would not be, were outputs compared exactly" in done.stderr
    problems.write_text(json.dumps({"id": "p", "checker": failing, "tests": test}) + "\n")
    programs.write_text(json.dumps({"problem_id": "p", "program": "print(1)"}) + "\n")
    out = tmp_path / "out.jsonl"
    done = kiyas(programs, "--problems", problems, "--out", out)
    assert done.returncode == 2 and "problem p: test 1: the problem's checker failed: ZeroDivisionError" in done.stderr
    assert "1 of 1 verdicts are there already" in kiyas(programs, "--problems", problems, "--out", out).stderr


def test_a_table_on_a_terminal_and_rows_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps(PROBLEMS[0]))
    for folder, program in (("right", AC), ("wrong", WA)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "double.py").write_text(program)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    words = ["judge", "right", "wrong", "--problems", "p.jsonl"]
    assert cli.main(words) == 0
    head, right, wrong = capsys.readouterr().out.splitlines()
    assert head.split() == ["program", "verdict", "tests", "CPU", "s"]
    assert right.split()[:3] == ["right/double.py", "AC", "2/2"] and wrong.split()[:3] == [
        "wrong/double.py",
        "WA",
        "1/2",
    ]
    assert "test 2" in wrong and max(len(right), len(wrong)) < 60
    assert cli.main([*words, "--json"]) == 0
    assert [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()] == [
        "right/double.py",
        "wrong/double.py",
    ]
