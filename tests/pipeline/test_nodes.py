"""`--ray`: nodes of a real cluster train, answer and judge, come and go; findings are those of this machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.harness import litter, same
from faults.table import call, demo
from kiyas import practice
from kiyas.pipeline.cluster import ATTEMPTS, Cluster, _Node, _Worker, joined
from kiyas.runfolder.files import read_json
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.types import KiyasError
from nodes import Nodes, nodes

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


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_head_is_killed(tmp_path: Path) -> None:
    with nodes("one") as cluster:
        driver = Driver(tmp_path / "practice", cluster)
        driver.until(lambda: rows(driver.run.train_state / "part-0.jsonl") > 0)
        cluster.kill("head")
        assert driver.process.wait(120) == 1
    assert "the head of the cluster, " in driver.said and "does not answer any more" in driver.said
    assert "Traceback" not in driver.said


def test_an_address_without_a_cluster(tmp_path: Path) -> None:
    said = call([*demo(tmp_path / "practice"), "--ray", "127.0.0.1:1"], tmp_path)
    assert said.code == 1 and "no Ray cluster can be joined at '127.0.0.1:1'" in said.err and "hint: " in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("address", "why"),
    [("head-of-mine", "it is neither auto nor HOST:PORT"), ("ray://head:10001", "Ray Client is not supported")],
    ids=["no port", "client"],
)
def test_an_address_that_cannot_be_one(address: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KiyasError, match=f"no Ray cluster can be joined at '{address}': {why}"), joined(address):
        pass
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(KiyasError, match=why), joined("auto"):
        pass


def test_ray_of_another_version_and_ray_in_use_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(**_: object) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.59.0\n    Python: 3.10.1\n")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(KiyasError, match=r"started with: Ray: 2\.59\.0 Python: 3\.10\.1"), joined("auto"):
        pass
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "shutdown", lambda: pytest.fail("it is the caller's"))
    with pytest.raises(KiyasError, match="has joined a Ray cluster already"), joined("auto"):
        pass


@pytest.mark.parametrize("unfit", ["no namespaces", ""], ids=["unfit", "lost"])
def test_nodes_that_do_not_judge_lose_nothing(unfit: str) -> None:
    """However many there are; but a program that always ends its worker ends the run."""
    found = object.__new__(Cluster)
    found.nodes, found._placed = {}, []

    def drive(room: object, kind: object, waiting: deque[str], start: object, hear: object, lose: Any) -> Iterator[str]:
        for number in range(ATTEMPTS + 1):
            node = _Node("id", f"node-{number}", 1, 0, 0, None, None, 0.0, unfit_to_judge=unfit)
            lose(_Worker(node, None, None, job=[waiting.popleft(), waiting.popleft()]))
        yield from waiting

    found._drive = drive  # type: ignore[method-assign, assignment]
    given = found.each(lambda: iter(()), Path(), (), (), ["first", "second", "third"])
    if unfit:
        assert list(given) == ["first", "second", "third"]
    else:
        with pytest.raises(KiyasError, match=f"one program lost its worker {ATTEMPTS} times .* last on node-4"):
            list(given)


# -- nodes that come and go -----------------------------------------------------------------------------------

CONTAINED = [sys.executable, str(Path(__file__).parents[1] / "security" / "contained.py"), "2", sys.executable]
"""Runs a node as a container that forbids namespaces does."""
LONGER = [
    "training.budget.steps=30",
    "training.save_steps=6",
    "training.eval_steps=15",
    "generation.max_new_tokens=150",
    "benchmarks.primary.problems=24",
    "seeds=2",
    "training.workers=4",
]


def longer(run: Path) -> list[str]:
    return [*demo(run), *LONGER]


@pytest.fixture(scope="module")
def longer_here(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = tmp_path_factory.mktemp("longer") / "practice"
    assert call(longer(run), run).code == 0
    return RunDir(run)


class Driver:
    """The command as a process of its own, on a cluster."""

    def __init__(self, run: Path, cluster: Nodes, *more: str) -> None:
        self.run, self.log = RunDir(run), run.parent / "stderr.txt"
        with self.log.open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kiyas", *longer(run), "--ray", cluster.address, *more],
                stdout=subprocess.DEVNULL,
                stderr=err,
                start_new_session=True,
            )

    def until(self, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + 300
        while not ready():
            assert self.process.poll() is None, f"the run ended before that: {self.said[-3000:]}"
            assert time.monotonic() < end, self.said[-3000:]
            time.sleep(0.02)

    def under_way(self, stage: Stage) -> bool:
        """Have at least two nodes delivered something of this stage?"""
        if stage is Stage.JUDGE:
            return rows(self.run.judgments) > 0
        parts = self.run.stage(stage).glob("state/part-*.jsonl")
        return sum(rows(path) > 0 for path in parts) >= 2

    @property
    def said(self) -> str:
        return self.log.read_text()

    def ended_well(self, expected: RunDir) -> None:
        assert self.process.wait(400) == 0, self.said[-3000:]
        assert same(self.run, expected) == "" and litter(self.run) == []


def rows(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("stage", [Stage.TRAIN, Stage.GENERATE, Stage.JUDGE])
def test_a_node_is_killed(stage: Stage, longer_here: RunDir, tmp_path: Path) -> None:
    with nodes("one", "two") as cluster:
        driver = Driver(tmp_path / "practice", cluster)
        driver.until(lambda: driver.under_way(stage))
        cluster.kill("two")
        driver.ended_well(longer_here)
    assert "cluster: a worker on two was lost; what it had not finished is done again" in driver.said
    assert at_work(driver.run, stage) == {"one", "two"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_process_that_takes_files_is_killed_alone(longer_here: RunDir, tmp_path: Path) -> None:
    with nodes("one") as cluster:
        driver = Driver(tmp_path / "practice", cluster)
        driver.until(lambda: rows(driver.run.train_state / "part-0.jsonl") > 0)
        cluster.hands()[0].kill()
        driver.ended_well(longer_here)
    assert driver.said.count("cluster: one joined") == 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_time_ends_on_a_cluster(longer_here: RunDir, tmp_path: Path) -> None:
    """Every command does something, and what has begun ends at a saved state."""
    with nodes("one", "two") as cluster:
        for _ in range(3):
            driver = Driver(tmp_path / "practice", cluster, "--max-hours", "0.003")
            assert driver.process.wait(200) == 0, driver.said[-3000:]
        assert driver.said.count("all of it is kept") == 3 and "was lost" not in driver.said
        Driver(driver.run.root, cluster).ended_well(longer_here)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_node_comes_late_and_takes_over(longer_here: RunDir, tmp_path: Path) -> None:
    with nodes("one") as cluster:
        driver = Driver(tmp_path / "practice", cluster)
        driver.until(lambda: rows(driver.run.train_state / "part-0.jsonl") > 0)
        cluster.add("late")
        driver.until(lambda: "cluster: late joined" in driver.said)
        driver.until(lambda: sum(rows(path) > 0 for path in driver.run.train_state.glob("part-*.jsonl")) >= 2)
        cluster.kill("one")
        driver.ended_well(longer_here)
    assert "late" in at_work(driver.run, Stage.TRAIN) and at_work(driver.run, Stage.GENERATE) == {"late"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_node_of_another_tier_judges_nothing(longer_here: RunDir, tmp_path: Path) -> None:
    with nodes("one") as cluster:
        cluster.add("weak", wrapped=CONTAINED)
        cluster.wait_for("weak")
        driver = Driver(tmp_path / "practice", cluster)
        driver.ended_well(longer_here)
    assert "cluster: weak does not judge: " in driver.said
    assert at_work(driver.run, Stage.TRAIN) == {"one", "weak"} and at_work(driver.run, Stage.JUDGE) == {"one"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_node_without_the_model_is_sent_it(longer_here: RunDir, tmp_path: Path) -> None:
    hidden = practice.base_path()
    without = [
        "unshare",
        "--mount",
        "--map-root-user",
        "sh",
        "-c",
        f'mount -t tmpfs none "{hidden}" && exec "$@"',
        "sh",
    ]
    with nodes("one") as cluster:
        cluster.add("bare", wrapped=without)
        cluster.wait_for("bare")
        driver = Driver(tmp_path / "practice", cluster)
        driver.ended_well(longer_here)
    assert driver.said.count("cluster: bare does not have practice: it is sent there") == 1
    assert {"one", "bare"} == at_work(driver.run, Stage.TRAIN) == at_work(driver.run, Stage.GENERATE)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("number", "stage"),
    [(signal.SIGINT, Stage.TRAIN), (signal.SIGINT, Stage.JUDGE), (signal.SIGKILL, Stage.TRAIN)],
    ids=["Ctrl-C", "Ctrl-C while it judges", "kill -9"],
)
def test_the_driver_ends_and_the_cluster_is_free(
    number: int, stage: Stage, longer_here: RunDir, tmp_path: Path
) -> None:
    with nodes("one", "two") as cluster:
        driver = Driver(tmp_path / "practice", cluster)
        driver.until(lambda: driver.under_way(stage))
        driver.process.send_signal(number)
        assert driver.process.wait(30) == (130 if number == signal.SIGINT else -number)
        end = time.monotonic() + 30
        while left := cluster.hands():
            assert time.monotonic() < end, left
            time.sleep(0.1)
        assert "Traceback" not in driver.said
        if number == signal.SIGINT:  # the same command goes on, with the cluster or without
            Driver(driver.run.root, cluster).ended_well(longer_here)
    if number != signal.SIGINT:
        said = call(longer(driver.run.root), driver.run.root)
        assert said.code == 0 and same(driver.run, longer_here) == "" and litter(driver.run) == []
