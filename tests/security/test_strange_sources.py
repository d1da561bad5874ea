"""Folders that lead in circles, pipes in place of rows, patterns without an end, studies that ask for no isolation."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from hostile import oddity

from kiyas import cli
from kiyas.interop import adapters
from kiyas.judge import trust
from kiyas.judge.types import Tier
from kiyas.runfolder import peft
from kiyas.types import KiyasError
from synthetic import make_run

ROW = {"question_id": "p", "passed": True, "extracted_code": "print(1)"}


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "socket"])
@pytest.mark.parametrize(
    "command", ["import", "import-named", "problems", "judge", "judge-problems", "check", "compare"]
)
def test_odd_files_in_place_of_input(
    kind: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = tmp_path / "in" / "deep_checkpoint-100.jsonl"
    good.parent.mkdir()
    good.write_text(json.dumps({**ROW, "problem_id": "p", "program": "print(1)"}) + "\n")
    odd = oddity(kind, tmp_path / "in" / ("odd_checkpoint-100.jsonl" if "import" in command else "odd.csv"))
    words = {
        "import": ["import", good.parent, "--out", tmp_path / "run"],
        "import-named": ["import", odd, "--out", tmp_path / "run"],
        "problems": ["import", good, "--problems", odd, "--out", tmp_path / "run"],
        "judge": ["judge", odd, "--problems", good, "--isolation", "best"],
        "judge-problems": ["judge", good, "--problems", odd, "--isolation", "best"],
        "check": ["check", odd],
        "compare": ["compare", odd],
    }[command]
    code = cli.main([*map(str, words)])
    said = capsys.readouterr().err
    assert code == (0 if command == "import" else 1) and "should not have happened" not in said
    assert command == "import" or len(said.splitlines()) <= 2


def test_links_in_circles_and_out_of_the_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secret_checkpoint-300.jsonl").write_text(json.dumps({**ROW, "question_id": "mine"}) + "\n")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "deep_checkpoint-100.jsonl").write_text(json.dumps(ROW) + "\n")
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "deep_checkpoint-200.jsonl").write_text(json.dumps(ROW) + "\n")
    for name, target in (("up", tmp_path), ("root", "/"), ("proc", "/proc/self"), ("me", folder), ("beside", beside)):
        (folder / name).symlink_to(target)
    assert cli.main(["import", str(folder), "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert "2 answers to 1 problem" in said and "step 200" in said, "a link to a folder beside it is followed"
    assert adapters.folders(folder) == [folder, folder / "beside"]


@pytest.mark.parametrize("key", ["target_modules", "exclude_modules", "layers_pattern"])
def test_patterns_without_an_end(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peft, "PATTERNS_S", 0.2)
    slow = r"([a-z_.0-9]*)*([a-z_.0-9]*)*!"
    config = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"], key: slow}
    if key == "layers_pattern":
        config |= {"layers_to_transform": [0]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    adapter = peft.read_adapter(tmp_path)
    sites = [f"model.layers.{n}.self_attention_of_a_long_name.q_proj" for n in range(4)]
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(KiyasError, match="longer than 0 seconds to match"):
        peft.in_base(tmp_path / "adapter_model.safetensors", adapter, sites, sites)
    assert signal.getsignal(signal.SIGALRM) == before


def weak_study(folder: Path, isolation: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(
        "name: s\nmodel_name_or_path: practice\narms:\n  deep: {dataset_name: practice/deep}\n"
        f"judge: {{isolation: {isolation}}}\n"
    )
    return path


@pytest.mark.parametrize("isolation", ["weak", "best"])
def test_a_study_that_asks_for_no_isolation(
    isolation: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "choose", lambda isolation: Tier.WEAK)
    study = weak_study(tmp_path, isolation)
    ran: list[object] = []
    monkeypatch.setattr("kiyas.check.check", lambda *given: ran.append(given))
    monkeypatch.setattr("kiyas.check.page.page", lambda *given, **more: "")
    monkeypatch.setattr("kiyas.pipeline.stages.run", lambda *given, **more: ran.append(given))
    runs = ["--runs", str(tmp_path / "runs"), "--until", "data"]
    for words in (["check", str(study)], ["run", str(study), *runs]):
        assert cli.main(words) == 1
        said = capsys.readouterr().err
        assert "asks for weak isolation" in said and "--trust" in said and len(said.splitlines()) == 2
    assert not ran
    assert cli.main(["run", str(study), *runs, f"judge.isolation={isolation}"]) == 0, "the user's own word"
    assert cli.main(["run", str(study), *runs, "--trust"]) == 0 and cli.main(["run", str(study), *runs]) == 0
    study.write_text(study.read_text() + "seeds: 2\n")
    assert cli.main(["run", str(study), *runs]) == 1 and "has changed since" in capsys.readouterr().err
    assert len(ran) == 3


def test_isolation_that_holds_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "choose", lambda isolation: Tier.STANDARD)
    for isolation in ("best", "standard", "strong"):
        trust.allow_weak(weak_study(tmp_path, isolation), isolation, ask=False)


@pytest.mark.parametrize("name", ["report/tables", "analyse", "judge/judgments.jsonl", "train/log.jsonl"])
def test_links_that_lead_what_is_written_elsewhere(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", seeds=(0,), steps=(20,), problems=3)
    place, elsewhere = run / name, tmp_path / "elsewhere"
    if place.suffix:
        place.rename(elsewhere)
    else:
        elsewhere.mkdir()
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(elsewhere)
    before = elsewhere.read_bytes() if elsewhere.is_file() else None
    assert cli.main(["report", str(run)]) == 1
    said = capsys.readouterr().err
    assert f"{place} is a link out of the run folder" in said and len(said.splitlines()) == 2
    assert (elsewhere.read_bytes() if before is not None else not any(elsewhere.iterdir())) in (before, True)
