"""The tier of isolation is decided once, when a run starts; what goes on elsewhere takes no other in silence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kiyas.judge import Problem, SandboxError, Test, Tier, TierReport
from kiyas.judge import tiers as judge_tiers
from kiyas.judging.stage import prove, verdicts
from kiyas.pipeline import identity
from kiyas.runfolder.files import write_sealed
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import JudgeFacts
from kiyas.study.settings import Judge

HERE = Tier.STANDARD
"""the best tier of the machine on which the run goes on"""


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(tier: Tier, python: str | None = None) -> TierReport:
        return TierReport(tier, tier is not Tier.STRONG, "no namespaces" if tier is Tier.STRONG else "")

    monkeypatch.setattr(judge_tiers, "probe_tier", probe)
    monkeypatch.setattr(identity, "probe_tier", probe)


def goes_on(folder: Path, asked: str, redo: Stage | None = None, was: str = "") -> Tier:
    record: Any = SimpleNamespace(
        judge=JudgeFacts(tier=Tier.STRONG, mode="strict"),
        study=SimpleNamespace(judge=Judge(isolation=was or asked)),
    )
    study: Any = SimpleNamespace(judge=Judge(isolation=asked))
    return identity._same_tier(study, RunDir(folder), record, redo)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("asked", ["best", "strong"])
def test_a_tier_that_no_longer_holds_is_refused(asked: str, tmp_path: Path) -> None:
    with pytest.raises(SandboxError) as refusal:
        goes_on(tmp_path, asked)
    said = str(refusal.value)
    assert "was started in strong isolation, which does not hold on this machine: no namespaces" in said
    assert "--redo judge" in said


@pytest.mark.usefixtures("elsewhere")
def test_where_everything_is_judged_anew_it_is_decided_anew(tmp_path: Path) -> None:
    for redo in (Stage.DATA, Stage.GENERATE, Stage.JUDGE):
        assert goes_on(tmp_path, "best", redo) is HERE
    with pytest.raises(SandboxError, match="isolation strong does not hold"):
        goes_on(tmp_path, "strong", Stage.JUDGE)
    with pytest.raises(SandboxError, match="was started in strong isolation"):
        goes_on(tmp_path, "best", Stage.REPORT)
    assert goes_on(tmp_path, "standard", was="strong") is HERE  # nothing was judged yet


@pytest.mark.usefixtures("elsewhere")
def test_a_report_needs_no_isolation(tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    write_sealed(folder.manifest_path(Stage.JUDGE), {"inputs": {}, "counts": {}, "seconds": 0.0})
    assert goes_on(tmp_path, "best") is Tier.STRONG


def test_no_stage_chooses_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where another tier would hold by now: the one that was decided on is used, and is in every row."""
    study: Any = SimpleNamespace(judge=Judge(isolation="best", time_limit_s=2))
    study.model_copy = lambda update: SimpleNamespace(**update)
    settings = identity.isolated(study, Tier.WEAK).judge
    assert settings.isolation == Tier.WEAK and settings.time_limit_s == 2
    problem = Problem(
        "p", (Test("", "1"),), checker="def check(i, e, o): return o.strip() == e", solutions=("print(1)",)
    )
    asked = list[str]()
    real = judge_tiers.choose
    monkeypatch.setattr(
        judge_tiers, "choose", lambda isolation, python=None: asked.append(isolation) or real(isolation)
    )
    assert prove([problem], settings, lambda done, total: None) == []
    (verdict,) = verdicts([("p", "print(1)")], [problem], settings)
    assert verdict.tier is Tier.WEAK and set(asked) == {"weak"}
