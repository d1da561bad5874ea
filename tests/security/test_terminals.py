"""No character that commands a terminal reaches one, whatever the text that a command quotes came from."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from hostile import ALL, STRINGS, orders_in

import kiyas
from kiyas import cli
from kiyas.judge.terminal import ORDERS, Printable, as_before, one_line, only_printable, printable, raw, straight
from kiyas.runfolder.files import write_jsonl
from kiyas.types import KiyasError
from kiyas.work import progress


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = cli.main([str(each) for each in arguments])
    return code, *capsys.readouterr()


def test_printable_keeps_text_and_takes_orders() -> None:
    assert printable("ü 漢 \U0001f600 a\tb\nc") == "ü 漢 \U0001f600 a\tb\nc"
    assert not orders_in(printable(ALL)) and "\ud800" not in printable("\ud800")
    assert not {"\n", "\t"} & set(one_line(ALL)) and not orders_in(one_line(ALL))
    assert straight("\u202ea\x1b\u2028") == "\ufffda\x1b\u2028"
    assert all(ORDERS.match(chr(code)) for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n")


def test_the_streams_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with only_printable(), only_printable():
        print("\x1b[1m", "a\rb")
        sys.stdout.writelines(["\x07"])
        print("\x1b[2m", file=raw(sys.stdout), end="")
        with as_before():
            print("\r", end="")
        assert isinstance(sys.stdout, Printable) and sys.stdout.raw is stream
    assert sys.stdout is stream and stream.getvalue() == "\ufffd[1m a\ufffdb\n\ufffd\x1b[2m\r"


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["report", "--text"],
        ["report"],
        pytest.param(["report", "--language", "tr"], marks=pytest.mark.slow),
    ],
)
def test_commands_on_a_strangers_run(
    command: list[str], stranger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(stranger, tmp_path / "run")
    code, out, err = said(capsys, command[0], tmp_path / "run", *command[1:])
    assert code == 0 and not orders_in(out + err), err
    assert "\nkiyas: all is well" not in out + err, "a name must not look like a line of ours"


def test_compare_on_strangers(stranger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = tmp_path / "counts.csv"
    lines = [f'"{text}",{arm},{n},41' for n, text in enumerate(STRINGS[15:20], 9) for arm in ("a", "=b")]
    counts.write_text("\n".join(["study,arm,solved,total", *lines]) + "\n", encoding="utf-8")
    for more in ([], ["--json"], ["--out", str(tmp_path / "out")]):
        code, out, err = said(capsys, "compare", counts, *more)
        assert code == 0 and not orders_in(out + err), err
    code, out, err = said(capsys, "compare", stranger, counts)
    assert code == 1 and not orders_in(out + err)


def test_import_says_what_it_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"question_id": text, "passed": True, "extracted_code": ALL, "problem_title": text, "error": ALL}
        for text in STRINGS
    ]
    folder = tmp_path / "in" / "a\x1b[31mb\n- all is well"
    write_jsonl(folder / "x\x1b]0;y\x07_checkpoint-100.jsonl", rows)
    (folder / "\x9bodd.csv").write_text("step,loss\n1,\x1b[2J\n", encoding="utf-8")
    code, out, err = said(capsys, "import", tmp_path / "in", "--out", tmp_path / "run\x1b[1m")
    assert code == 0 and not orders_in(out + err), err
    code, out, err = said(capsys, "status", tmp_path / "run\x1b[1m")
    assert code == 0 and not orders_in(out + err), err


def test_a_judged_program_and_the_list_of_both(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    problems = [{"id": ALL, "tests": [{"input": "", "output": "1\n"}]}]
    program = f"import sys\nprint(1)\nsys.stderr.write({ALL!r})\nraise SystemExit({ALL!r})"
    write_jsonl(tmp_path / "problems.jsonl", problems)
    write_jsonl(tmp_path / "programs.jsonl", [{"problem_id": ALL, "program": program}])
    words = ["judge", tmp_path / "programs.jsonl", "--problems", tmp_path / "problems.jsonl", "--mode", "both"]
    code, out, err = said(capfd, *words, "--isolation", "best")
    assert code == 0 and "the modes differ on 1" in err and not orders_in(out + err)
    assert json.loads(out)["problem_id"] == ALL, "data are whole all the same"
    assert "\nkiyas: all is well" not in err


@pytest.mark.parametrize("text", STRINGS)
def test_mistakes_that_quote_a_strangers_file(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(f"name: {json.dumps(text)}\n{json.dumps(text)}: 1\njudge: {{python: {json.dumps(text)}}}\n")
    code, out, err = said(capsys, "check", study)
    assert code == 1 and err.startswith("kiyas: ") and not orders_in(out + err)
    code, out, err = said(capsys, "run", study, f"x={text}")
    assert code == 1 and not orders_in(out + err)


def test_an_error_in_python_too() -> None:
    with pytest.raises(KiyasError) as caught:
        kiyas.Run(f"/nowhere/{ALL}")
    assert not orders_in(str(caught.value))
    assert not orders_in(str(kiyas.judge.JudgeError(ALL, ALL)))


def test_bars_and_lines_of_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    progress.tell(ALL)
    with progress.bar(ALL, 3, "units") as bar:
        bar.update(1, ALL)
        progress.tell(str(bar))
    assert not orders_in(capsys.readouterr().err)
    monkeypatch.setattr(progress, "moves", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "120")
    with progress.bar("[red]x[/nothing]", 3, "units") as bar:
        bar.update(1, "[/] \x1b]0;mine\x07")
    shown = capsys.readouterr().err
    assert "[red]x[/nothing]" in shown and "[/]" in shown and "\x1b]0" not in shown and "\x07" not in shown


def test_json_for_a_terminal_is_the_same_data(capsys: pytest.CaptureFixture[str]) -> None:
    cli._print_json({ALL: [ALL]}, 1)
    out = capsys.readouterr().out
    assert not orders_in(out) and json.loads(out) == {ALL: [ALL]}
