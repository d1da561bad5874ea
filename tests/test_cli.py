"""The command line as a newcomer meets it: help that teaches, mistakes told in words, exit codes, no tracebacks."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kiyas
import tiny
from kiyas import cli, judge, report
from kiyas.analyse import analyse
from kiyas.report import languages
from kiyas.runfolder import manifests
from kiyas.runfolder.files import write_sealed
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.study.file import load
from kiyas.study.settings import Study
from kiyas.types import KiyasError
from synthetic import make_run

ROOT = Path(__file__).resolve().parent.parent


def call(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def commands() -> list[str]:
    """The commands that the parser has."""
    actions = cli.build_parser()._actions
    return [name for each in actions if isinstance(each, argparse._SubParsersAction) for name in each.choices]


def test_every_command_has_help_and_is_in_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    listed = capsys.readouterr().out
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert commands()
    for command in commands():
        assert f"    {command} " in listed
        assert f"kiyas {command}" in readme, f"the README does not show `kiyas {command}`"
        with pytest.raises(SystemExit) as ended:
            call(command, "--help")
        assert ended.value.code == 0
        assert len(capsys.readouterr().out) > 150
    known = {*commands(), "--version", "--help"}
    for used in re.findall(r"^\s*(?:\$ )?kiyas ([a-z-]+)", readme, re.MULTILINE):
        assert used in known, f"the README shows `kiyas {used}`, which does not exist"


def test_every_language_of_the_report_can_be_asked_for() -> None:
    for word in languages():
        assert cli.build_parser().parse_args(["report", "run", "--language", word]).language == word
    with pytest.raises(SystemExit):
        cli.build_parser().parse_args(["report", "run", "--language", "xx"])


def test_init_check_and_never_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.yaml"
    assert call("init", file, "--preset", "practice") == 0
    assert call("check", file) == 0
    out = capsys.readouterr().out
    assert "deep has the most solutions per problem (5), diverse has the most problems (1,000)" in out
    assert call("init", file) == 1
    assert "exists already" in capsys.readouterr().err


def test_own_data_preset_names_every_missing_file_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("init", tmp_path / "s.yaml") == 0
    assert call("run", tmp_path / "s.yaml", "--runs", tmp_path / "runs") == 1
    told = capsys.readouterr().err
    for missing in ("Qwen2.5-Coder-1.5B-Instruct", "first.jsonl", "second.jsonl", "problems.jsonl"):
        assert missing in told
    assert not (tmp_path / "runs").exists(), "nothing is written for a study that cannot run"


@pytest.mark.parametrize("preset", ["own-data", "own-checkpoints"])
def test_init_marks_every_line_that_must_be_edited(
    preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "s.yaml"
    assert call("init", file, "--preset", preset) == 0
    marked = {n for n, line in enumerate(file.read_text().splitlines(), 1) if "# <-" in line}
    assert f"edit the lines marked <- ({', '.join(map(str, sorted(marked)))})" in capsys.readouterr().err
    with pytest.raises(KiyasError) as refused:
        load(file)
    wrong = {int(number) for number in re.findall(r"line (\d+):", str(refused.value))}
    assert len(wrong) >= 2 and wrong <= marked


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "none.yaml"], "no study file none.yaml"),
        (["check", "none.yaml"], "no study file none.yaml"),
        (["status", "none"], "none is not a run folder"),
        (["report", "none"], "none is not a run folder"),
        (["demo", "seedz=3"], "unknown key seedz; did you mean seeds?"),
        (["demo", "--limit", "0"], "benchmarks.primary.problems"),
        (["import", "none", "--out", "x"], "none"),
        (["compare", "none"], "no such run folder or CSV file: none"),
        (["judge", "none.jsonl", "--problems", "none.jsonl"], "none.jsonl"),
    ],
)
def test_mistakes_are_told_in_words(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 1
    err = capsys.readouterr().err
    assert told in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["status", "report", "verify", "check"])
def test_a_run_in_runs_is_meant(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "resolved.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert call(command, "mine") == 1
    assert "did you mean runs/mine?" in capsys.readouterr().err


def test_mistakes_of_the_command_line_itself_exit_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("demo", "--until", "nowhere"), ("nonsense",), ("status", "a", "b"), ("run",)):
        with pytest.raises(SystemExit) as ended:
            call(*words)
        assert ended.value.code == 1
        assert "--help" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("chek",), "'chek' is not one of demo, init, check,"),
        (("chek",), "completion; did you mean check?\n  hint: kiyas --help"),
        (
            ("check", "--crd", "t4", "s.yaml"),
            "kiyas check: unknown: --crd; did you mean --card?\n  hint: kiyas check --help",
        ),
        (("demo", "--until", "trian"), "did you mean train?"),
        (("my-study.yaml",), "did you mean kiyas run my-study.yaml?"),
        (("--versoin",), "kiyas: unknown: --versoin; did you mean --version?"),
    ],
    ids=str,
)
def test_a_slip_of_the_keyboard_is_understood(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        call(*words)
    assert ended.value.code == 1
    assert told in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("-V", "--version"):
        with pytest.raises(SystemExit):
            call(option)
    one, other = capsys.readouterr().out.splitlines()
    assert one == other == f"kiyas {kiyas.__version__}"


@pytest.fixture(scope="module")
def three_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newest is `second`, by an hour; one has lost its record."""
    runs = tmp_path_factory.mktemp("three") / "runs"
    for name, hour in (("first", 1), ("second", 2), ("third", 0)):
        run = make_run(runs / name, seeds=(0,), steps=(20,), problems=3)
        for path in (run, *run.rglob("*")):
            os.utime(path, (3600 * hour, 3600 * hour))
    manifests.finish(RunDir(runs / "third"), Stage.DATA, {}, {}, 1.0)
    (runs / "third" / "resolved.json").unlink()
    for path in (runs / "third").rglob("*"):
        os.utime(path, (0, 0))
    (runs / "no run").mkdir()
    return runs


def test_runs_are_listed_newest_first_and_status_shows_the_newest(
    three_runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(three_runs.parent)
    assert call("runs", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["folder"] for each in listed] == ["runs/second", "runs/first", "runs/third"]
    assert "resolved.json is missing" in listed[2]["state"] and listed[0]["changed"] == 7200
    assert listed[0]["state"] == "data in progress"
    monkeypatch.setenv("COLUMNS", "60")
    assert call("runs") == 0
    shown = capsys.readouterr().out
    assert shown.index("runs/second") < shown.index("runs/first") and "days ago" in shown
    assert max(map(len, shown.splitlines())) <= 60
    assert call("status") == 0
    assert capsys.readouterr().out.startswith("second (")
    assert call("status", "--json", "runs/first") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "first" and found["sound"] and found["stages"][0]["stage"] == "data"
    assert call("runs", "no run") == 1 and call("status", "--runs", "nowhere") == 1
    assert capsys.readouterr().err.count("no runs in") == 2


def test_the_list_shows_what_each_concludes(three_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = three_runs / "first"
    findings = analyse(run)
    write_sealed(RunDir(run).findings, findings.to_json())
    assert call("status", run, "--json") == 0
    assert json.loads(capsys.readouterr().out)["badge"] == report.badge(findings)
    assert call("runs", three_runs, "--json") == 0
    assert report.badge(findings) in [each["conclusion"] for each in json.loads(capsys.readouterr().out)]


def test_verify_as_json(three_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDir(Path(shutil.copytree(three_runs / "second", tmp_path / "run")))
    manifests.finish(run, Stage.JUDGE, {}, {}, 1.0)
    assert call("verify", run.root, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sound"] and found["stages"] == ["judge"] and found["files"] > 0 and "train" in found["unfinished"]
    run.judgments.write_text(run.judgments.read_text() + "\n")
    assert call("verify", run.root, "--json") == 1
    (damaged,) = json.loads(capsys.readouterr().out)["damaged"]
    assert damaged["file"] == str(run.judgments) and damaged["hint"]


def test_a_report_is_opened_on_request(
    three_runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, opened = three_runs / "second" / "report" / "index.html", list[str]()
    monkeypatch.setattr("kiyas.pipeline.stages.redraw", lambda folder, language: (analyse(folder.root), page))
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address))
    assert call("report", three_runs / "second", "--open") == 0
    assert opened == [page.as_uri()] and "open the page yourself" in capsys.readouterr().err
    assert call("report", three_runs / "second", "--open", "--text") == 1
    assert len(opened) == 1


def test_a_shell_completes_commands_options_and_choices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for shell in cli.SHELLS:
        assert call("completion", shell) == 0
        assert "doctor" in capsys.readouterr().out
    assert call("completion", "bash") == 0
    (tmp_path / "kiyas.bash").write_text(capsys.readouterr().out)
    asked = """source ./kiyas.bash
        complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_kiyas kiyas "${!#}" "${COMP_WORDS[$# - 2]}"
        echo "${COMPREPLY[@]}"; }
        complete_words kiyas che; complete_words kiyas check --ca; complete_words kiyas demo --until tr"""
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines() == ["check", "--card", "train"], done.stderr


def test_doctor_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    weak = judge.tiers.TierReport(judge.Tier.WEAK, True, "", ("a note",))
    monkeypatch.setattr("kiyas.judge.probe", lambda: (weak,))
    assert call("doctor", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["isolation"] == [{"tier": "weak", "holds": True, "reason": "", "notes": ["a note"]}]
    assert call("doctor") == 0
    assert "  weak      holds\n            a note" in capsys.readouterr().out
    assert call("doctor", "--attack", "--json") == 1


def study_file(folder: Path, **changes: str) -> Path:
    """A study of a tiny model on two files of our own."""
    tiny.save(folder / "model")
    for arm in ("a", "b"):
        rows = [{"prompt": f"{arm} {i}", "completion": f"print({i})"} for i in range(20)]
        (folder / f"{arm}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    problem = {"id": "p", "statement": "Print 1", "tests": [{"input": "", "output": "1"}]}
    (folder / "p.jsonl").write_text(json.dumps(problem) + "\n")
    settings = {"budget": "{steps: 2}", "max_length": "200", "more": "", **changes}
    (folder / "s.yaml").write_text(
        f"""\
name: own
model_name_or_path: model
arms: {{a: {{dataset_name: a.jsonl}}, b: {{dataset_name: b.jsonl}}}}
seeds: 1
peft: {{r: 2, lora_alpha: 4}}
training: {{budget: {settings["budget"]}, effective_batch_size: 2, max_length: {settings["max_length"]}, workers: 1}}
benchmarks: {{primary: {{dataset: p.jsonl}}}}
generation: {{max_new_tokens: 4}}
judge: {{isolation: best}}
{settings["more"]}
"""
    )
    return folder / "s.yaml"


def test_own_files_from_nothing_to_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = study_file(tmp_path)
    assert call("check", file) == 0
    assert call("run", file, "--runs", tmp_path / "runs", "--until", "train") == 0
    assert call("status", tmp_path / "runs" / "own") == 0
    assert "generate  to do" in capsys.readouterr().out
    assert call("run", file, "--runs", tmp_path / "runs") == 0
    assert call("report", tmp_path / "runs" / "own", "--text", "--language", "tr") == 0
    assert call("status", tmp_path / "runs" / "own") == 0
    assert "report:" in capsys.readouterr().out
    folder = RunDir(tmp_path / "runs" / "own")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl", "model", "p.jsonl", "runs", "s.yaml"]
    assert not folder.train_state.exists(), "optimizer state is removed when training has finished"


def broken(folder: Path, what: str) -> tuple[Path, str]:
    """A study with one thing wrong, and what must be told."""
    if what == "long":
        return study_file(folder, max_length="10"), "training.max_length = 10"
    file = study_file(folder)
    if what == "columns":
        (folder / "a.jsonl").write_text('{"input": "x", "output": "y"}\n')
        return file, "arm a: " + str(folder / "a.jsonl") + " has no column 'prompt'; it has input, output"
    if what == "empty":
        (folder / "b.jsonl").write_text("")
        return file, "b.jsonl holds no rows"
    if what == "no validation":
        rows = [{"prompt": "x", "completion": "y", "split": "train"}] * 3
        (folder / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file, "arm b: no validation rows"
    if what == "weights":
        (folder / "model" / "model.safetensors").write_bytes(b"not weights")
        return file, "model"
    if what == "cut off":
        weights = folder / "model" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
        return file, "model.safetensors is not a safetensors file, or it was cut off"
    if what == "positions":
        (folder / "model" / "config.json").write_text(
            (folder / "model" / "config.json").read_text().replace("32768", "20")
        )
        return file, "but the base model's limit is 20"
    if what == "tokenizer":
        (folder / "model" / "tokenizer.json").unlink()
        (folder / "model" / "tokenizer_config.json").unlink()
        return file, "tokenizer"
    if what == "problems":
        (folder / "p.jsonl").write_text('{"id": "p"}\n')
        return file, "p.jsonl"
    if what == "statement":
        (folder / "p.jsonl").write_text('{"id": "p", "tests": [{"input": "", "output": "1"}]}\n')
        return file, "problem p has no statement"
    raise AssertionError(what)


@pytest.mark.parametrize(
    "what",
    [
        "long",
        "columns",
        "empty",
        "no validation",
        "weights",
        "cut off",
        "positions",
        "tokenizer",
        "problems",
        "statement",
    ],
)
def test_unusable_input_is_told_and_exits_1(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    file, told = broken(tmp_path, what)
    assert call("run", file, "--runs", tmp_path / "runs") == 1
    err = capsys.readouterr().err
    assert told in err and "Traceback" not in err, err


def test_diverging_loss_stops_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = study_file(tmp_path, budget="{steps: 60}")
    arguments = ("training.learning_rate=1e30", "training.max_grad_norm=1e30", "training.warmup_ratio=0")
    assert call("run", file, "--runs", tmp_path / "runs", *arguments) == 1
    assert "the training loss of" in capsys.readouterr().err


def test_unknown_modules_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = study_file(tmp_path)
    assert call("run", file, "--runs", tmp_path / "runs", "peft.target_modules=[q_projj]") == 1
    assert "no linear layer called 'q_projj'" in capsys.readouterr().err


def test_a_run_that_is_at_work_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = study_file(tmp_path)
    with RunDir(tmp_path / "runs" / "own").lock():
        assert call("run", file, "--runs", tmp_path / "runs") == 1
    assert "another process" in capsys.readouterr().err


def test_a_run_folder_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = study_file(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "own").write_text("precious")
    assert call("run", file, "--runs", tmp_path / "runs") == 1
    assert call("run", file, "--runs", tmp_path / "s.yaml") == 1
    assert "cannot write" in capsys.readouterr().err
    assert (tmp_path / "runs" / "own").read_text() == "precious"


def test_patience_needs_validation_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = study_file(tmp_path)
    for wish in ("training.patience=1", "compare.select=validation"):
        assert call("check", file, wish, "dataset.validation_fraction=0") == 1
        assert "needs validation rows, and there are none in a, b" in capsys.readouterr().err


def test_our_bug_is_told_as_ours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "_schema", lambda args: 1 / 0)
    assert call("schema") == 2
    err = capsys.readouterr().err
    assert "this should not have happened: ZeroDivisionError" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("kiyas.judge", ("torch", "numpy", "pydantic", "rich", "pandas")),
        ("kiyas", ("torch", "numpy", "pydantic")),
        ("kiyas.cli", ("torch", "transformers", "altair", "numpy", "pydantic")),
        ("kiyas.report", ("torch", "transformers")),
        ("kiyas.interop", ("torch", "transformers")),
        ("kiyas.pooling", ("torch", "transformers", "altair")),
    ],
)
def test_light_imports(module: str, forbidden: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([m for m in {forbidden} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_schema_documents_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    """A key is described itself, or it is a section and that is; also in lists, and for the arms by name."""
    assert call("schema") == 0
    schema = json.loads(capsys.readouterr().out)
    seen = set()

    def walk(section: dict[str, Any], path: str) -> None:
        assert section.get("description"), f"{path or 'the study'}: no description"
        for key, field in section.get("properties", {}).items():
            where = f"{path}.{key}".lstrip(".")
            seen.add(where)
            inside = [schema["$defs"][name] for name in re.findall(r"#/\$defs/(\w+)", json.dumps(field))]
            assert "$ref" in field or field.get("description"), f"{where}: no description"
            for each in inside:
                if "properties" in each:
                    walk(each, where)

    walk(schema, "")
    assert {*Study.model_fields} <= seen
    assert {"arms.from", "arms.training.budget.steps", "benchmarks.also.dataset", "peft.lora_dropout"} <= seen


def test_keys_that_the_documentation_names_exist() -> None:
    sections = {key: field.annotation for key, field in Study.model_fields.items()}
    for file in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for section, key in re.findall(r"`([a-z]+)\.([a-z_]+)(?:: [^`]*)?`", file.read_text(encoding="utf-8")):
            fields = getattr(sections.get(section), "model_fields", None)
            if fields is not None and key not in ("py", "md"):
                assert key in fields, f"{file.name}: `{section}.{key}` is not a key of the study file"
