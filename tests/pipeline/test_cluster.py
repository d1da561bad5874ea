"""`--ray`: nodes of a real cluster train, answer and judge, come and go; findings are those of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.harness import litter, same
from faults.table import call, demo
from kiyas.runfolder.files import read_json
from kiyas.runfolder.paths import RunDir, Stage
from nodes import nodes

pytest.importorskip("ray")
SHARED = "training.workers=2"
"""as many parts here and there: then even rounding is the same"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The run on this machine alone."""
    run = tmp_path_factory.mktemp("here") / "practice"
    assert call([*demo(run), SHARED], run).code == 0
    return RunDir(run)


def at_work(run: RunDir, stage: Stage) -> set[str]:
    return {each["node"] for each in read_json(run.manifest_path(stage))["counts"]["placed"]}


def test_a_cluster_finds_what_this_machine_finds(here: RunDir, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "practice")
    with nodes("one", "two") as cluster:
        said = call([*demo(run.root), SHARED, "--ray", cluster.address], run.root)
    assert said.code == 0, said.err
    assert "cluster: head is left out: it gives no core" in said.err
    assert same(run, here) == "" and litter(run) == []
    for stage in (Stage.TRAIN, Stage.GENERATE, Stage.JUDGE):
        assert at_work(run, stage) == {"one", "two"}, stage
    assert call(["verify", str(run.root)], run.root).code == 0
    assert call([*demo(run.root), SHARED], run.root).code == 0, "and without a cluster it is finished, too"


def test_an_address_without_a_cluster(tmp_path: Path) -> None:
    said = call([*demo(tmp_path / "practice"), "--ray", "127.0.0.1:1"], tmp_path)
    assert said.code == 1 and "no Ray cluster can be joined at '127.0.0.1:1'" in said.err and "hint: " in said.err
    assert "Traceback" not in said.err
