"""The command line as a newcomer meets it: help that teaches, mistakes told in words, exit codes, no tracebacks."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tiny
from kiyas import cli
from kiyas.report import languages
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Study

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


def test_mistakes_of_the_command_line_itself_exit_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("demo", "--until", "nowhere"), ("nonsense",), ("status", "a", "b"), ("run",)):
        with pytest.raises(SystemExit) as ended:
            call(*words)
        assert ended.value.code == 1
        assert "--help" in capsys.readouterr().err


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
