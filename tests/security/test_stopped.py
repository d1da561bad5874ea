"""Ctrl-C: one line says what is kept and how to go on; `import --rejudge` goes on from what it has judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kiyas import cli
from kiyas.interop import kept, rejudge
from kiyas.runfolder.files import read_jsonl, write_jsonl
from kiyas.runfolder.paths import RunDir
from synthetic import make_run


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """An import of four answers to two problems."""
    problems = [{"id": p, "tests": [{"input": "21", "output": "42\n"}]} for p in "pq"]
    codes = ["print(42)", "print(int(input()) * 2)", "print(1)"]
    rows = [{"question_id": p, "passed": True, "extracted_code": code} for p, code in zip("pq", codes, strict=False)]
    write_jsonl(tmp_path / "problems.jsonl", problems)
    write_jsonl(tmp_path / "deep_checkpoint-100.jsonl", rows)
    more = [{"question_id": p, "passed": True, "extracted_code": codes[2]} for p in "pq"]
    write_jsonl(tmp_path / "diverse_checkpoint-100.jsonl", more)
    sources = [tmp_path / f"{arm}_checkpoint-100.jsonl" for arm in ("deep", "diverse")]
    given = ["--problems", tmp_path / "problems.jsonl", "--rejudge", "--isolation", "best", "--out", tmp_path / "run"]
    return ["import", *map(str, [*sources, *given])]


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The programs that were really run; the third of the first time brings Ctrl-C instead."""
    ran: list[tuple[str, str]] = []
    real = rejudge.verdicts

    def verdicts(programs: Any, problems: Any, settings: Any) -> Any:
        for verdict in real(programs, problems, settings):
            if len(ran) == 2 and "stopped" not in "".join(map(str, ran[:1])) and not once:
                once.append(1)
                raise KeyboardInterrupt
            ran.append((verdict.problem_id, verdict.program.source))
            yield verdict

    once: list[int] = []
    monkeypatch.setattr(rejudge, "verdicts", verdicts)
    return ran


def test_an_import_goes_on(
    words: list[str], judged: list[tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert cli.main(words) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert (
        last.startswith("kiyas: stopped; nothing was imported, the verdicts so far are kept in ") and str(run) in last
    )
    assert cli.main(["status", str(run)]) == 1 and cli.main(["report", str(run)]) == 1
    assert capsys.readouterr().err.count("is not a run folder") == 2
    first = list(judged)
    file = run / kept.FOLDER / "verdicts.jsonl"
    file.write_bytes(file.read_bytes() + b'{"key": "torn')
    assert cli.main(words) == 0
    assert len(first) == 2 and len(judged) == 4 and len(set(judged)) == 4, "no program was judged twice"
    assert not (run / kept.FOLDER).exists()
    rows = {(row["arm"], row["problem_id"]): row["verdict"] for row in read_jsonl(RunDir(run).judgments)}
    assert rows == {("deep", "p"): "AC", ("deep", "q"): "AC", ("diverse", "p"): "WA", ("diverse", "q"): "WA"}


def test_an_undisturbed_import_finds_the_same(words: list[str], tmp_path: Path, judged: list[Any]) -> None:
    judged += [("stopped", ""), ("", "")]
    assert cli.main([*words[:-1], str(tmp_path / "whole")]) == 0
    judged.clear()
    assert cli.main(words) == 130 and cli.main(words) == 0
    measured = ("cpu_s", "wall_s", "peak_mb", "tests")
    whole, run = (
        [
            {key: value for key, value in row.items() if key not in measured}
            for row in read_jsonl(RunDir(each).judgments)
        ]
        for each in (tmp_path / "whole", tmp_path / "run")
    )
    assert whole == run


@pytest.mark.parametrize("change", ["problem", "settings", "program", "row"])
def test_what_has_changed_is_judged_again(change: str, words: list[str], judged: list[Any], tmp_path: Path) -> None:
    assert cli.main(words) == 130 and len(judged) == 2
    file = tmp_path / "run" / kept.FOLDER / "verdicts.jsonl"
    if change == "problem":
        path = tmp_path / "problems.jsonl"
        write_jsonl(path, [{**row, "tests": [{"input": "4", "output": "8\n"}]} for row in read_jsonl(path)])
    elif change == "settings":
        words = [*words, "--time-limit", "3"]
    elif change == "program":
        path = tmp_path / "deep_checkpoint-100.jsonl"
        write_jsonl(path, [{**row, "extracted_code": row["extracted_code"] + "\n#"} for row in read_jsonl(path)])
    else:
        file.write_text("".join(json.dumps({"key": row["key"]}) + "\n" for row in read_jsonl(file)))
    assert cli.main(words) == 0 and len(judged) == 2 + 4


def test_a_second_import_of_the_same_is_refused_meanwhile(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunDir(tmp_path / "run").lock():
        assert cli.main(words) == 1 and "another process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "at", "says"),
    [
        ("run", "kiyas.pipeline.stages.run", "kept in the run folder; the same command continues"),
        ("demo", "kiyas.pipeline.stages.run", "kept in the run folder; the same command continues"),
        ("check", "kiyas.check.check", "nothing was written; the same command begins again"),
        ("import", "kiyas.interop.import_study", "nothing was imported; the same command begins again"),
        ("report", "kiyas.report.write", "what was judged is kept; the same command writes the report whole"),
        ("compare", "kiyas.pooling.pool", "the runs were not changed; the same command begins again"),
        ("doctor", "kiyas.pipeline.status.doctor", "nothing was changed"),
        ("status", "kiyas.pipeline.status.status", "nothing was changed"),
    ],
)
def test_every_command_says_what_is_kept(
    command: str, at: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def stop(*arguments: Any, **more: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(at, stop)
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "run", seeds=(0,), steps=(20,), problems=3)
    (tmp_path / "study.yaml").write_text(cli._preset("practice"))
    given = {
        "run": ["study.yaml"],
        "demo": [],
        "check": ["study.yaml"],
        "import": [str(run / "judge"), "--out", "x"],
        "doctor": [],
    }.get(command, [str(run)])
    assert cli.main([command, *given]) == 130
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1] == f"kiyas: stopped; {lines[-1].partition('; ')[2]}" and says in lines[-1]
