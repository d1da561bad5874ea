"""A study on a base in 4 bits: from end to end, and refused in one line where the packages are missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from kiyas import cli
from kiyas.check import check
from kiyas.check.cards import CARDS, Card
from kiyas.check.page import page
from kiyas.runfolder.files import read_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.runfolder.record import read_record
from kiyas.study.settings import Study
from kiyas.types import KiyasError

SHORT = {"budget": {"steps": 4}, "max_length": 256}
SMALL = [
    "training.budget.steps=4",
    "training.save_steps=4",
    "training.eval_steps=4",
    "training.effective_batch_size=4",
    "training.workers=1",
    "generation.max_new_tokens=20",
    "benchmarks.primary.problems=4",
    "seeds=1",
]


def demo(runs: Path, *more: str) -> int:
    return cli.main(["demo", "--runs", str(runs), *SMALL, *more])


@pytest.mark.slow
def test_a_whole_study(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("bitsandbytes")
    assert demo(tmp_path, "training.load_in_4bit=true") == 0
    out, err = capfd.readouterr()
    assert "another base than the 16-bit one" in out and "another base than the 16-bit one" in err
    assert "kernels" not in out + err
    packed, record = RunDir(tmp_path / "practice"), read_record(RunDir(tmp_path / "practice"))
    assert record.study is not None and record.study.training.load_in_4bit
    assert {"bitsandbytes", "accelerate"} <= record.packages.keys()
    assert demo(tmp_path, "name=whole") == 0
    whole = RunDir(tmp_path / "whole")
    losses = [[row["loss"] for row in read_jsonl(run.train_log)] for run in (packed, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=0.5) and losses[0] != pytest.approx(losses[1], rel=1e-3)
    # Another base: what was trained on it goes when the setting does.
    with pytest.raises(SystemExit) as refused:
        raise SystemExit(demo(tmp_path))
    assert refused.value.code != 0
    assert "training.load_in_4bit" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("card", [pytest.param(None, id="here"), pytest.param(CARDS["t4"], id="t4")])
def test_check_plans_for_4_bits(card: Card | None) -> None:
    pytest.importorskip("bitsandbytes")
    known: dict[str, Any] = {
        "name": "t",
        "model_name_or_path": "practice",
        "arms": {"deep": {"dataset_name": "practice/deep"}, "diverse": {"dataset_name": "practice/diverse"}},
        "judge": {"isolation": "best"},
    }
    whole, packed = (
        check(Study.model_validate({**known, "training": {**SHORT, "load_in_4bit": on}}), card) for on in (False, True)
    )
    if card is not None:  # here libraries count, too
        assert packed.costs.memory_bytes < whole.costs.memory_bytes
    assert packed.costs.train_s > 0 and packed.costs.adapter_parameters == whole.costs.adapter_parameters
    assert "4-bit" in page(packed) and "4-bit" not in page(whole)


@pytest.mark.parametrize("package", ["bitsandbytes", "accelerate"])
def test_a_missing_package_is_named_before_anything_is_spent(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == package else real(name, *more))
    assert demo(tmp_path, "training.load_in_4bit=true") == 1
    said = capsys.readouterr().err
    assert f"training.load_in_4bit needs {package}" in said and "pip install 'kiyas[quantized]'" in said
    assert "Traceback" not in said and not RunDir(tmp_path / "practice").resolved.exists()
    study = {"name": "t", "model_name_or_path": "practice", "arms": {"x": {"dataset_name": "practice/deep"}}}
    with pytest.raises(KiyasError, match=package):
        check(Study.model_validate({**study, "training": {"load_in_4bit": True}}))
