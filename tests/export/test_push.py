"""`kiyas export --push` against a local server that speaks the Hub's protocol."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants

from finished import contents, make_finished
from hub_server import TOKEN, Hub, around, serve
from kiyas import practice
from kiyas.export import Wanted
from kiyas.export import export as exported
from kiyas.export.hub import task_of
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Benchmark

EVAL = b"name: HumanEval\ntasks:\n- {id: whole, config: openai_humaneval, split: test}\n- {id: other, config: x}\n"
BASE_CARD = b"---\nlicense: apache-2.0\n---\n# Tiny\n"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    files = {path.name: path.read_bytes() for path in practice.base_path().iterdir()}
    with serve() as running:
        running.add("models", "acme/tiny", {**files, "README.md": BASE_CARD})
        running.add("datasets", "openai/openai_humaneval", {"eval.yaml": EVAL})
        yield running


@pytest.fixture(scope="module")
def run(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    benchmark = hub.repos["datasets", "openai/openai_humaneval"]
    study = {
        "model_name_or_path": "acme/tiny",
        "model_revision": hub.repos["models", "acme/tiny"].commit,
        "benchmarks": {"primary": {"dataset": "humaneval", "revision": benchmark.commit}},
    }
    return make_finished(tmp_path_factory.mktemp("runs") / "small", study)


def export(hub: Hub, run: RunDir, folder: Path, *words: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    environment = {**around(hub.endpoint, folder), "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "kiyas", "export", str(run.root), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250)


def test_what_is_uploaded_is_said_before_and_is_the_folder(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: the client is led to the local Hub."""
    for name, value in {"ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    place = exported(make_finished(tmp_path / "run"), Wanted("deep", out=tmp_path / "out", push="acme/local"))
    repo, said = hub.repos["models", "acme/local"], capsys.readouterr().err
    assert repo.private and repo.files == contents(place)
    assert said.index("uploading to") < said.index("adapter_model.safetensors") < said.index("pushed:")
    assert "(new, private)" in said and f"{hub.endpoint}/acme/local/commit/" in said
    asked = [request.split("?")[0] for request in hub.requests]
    order = ["POST /api/validate-yaml 200", "POST /api/repos/create 200", "POST /api/models/acme/local/commit/main 200"]
    assert [asked.index(each) for each in order] == sorted(asked.index(each) for each in order)


@pytest.mark.slow
def test_a_base_and_a_benchmark_of_the_hub(hub: Hub, run: RunDir, tmp_path: Path) -> None:
    done = export(hub, run, tmp_path, "deep", "--push", "acme/deep", "--out", "out")
    assert done.returncode == 0, done.stderr
    repo = hub.repos["models", "acme/deep"]
    assert repo.private and repo.files == contents(tmp_path / "out") and done.stdout == "out\n"
    assert {"adapter_model.safetensors", "README.md", ".eval_results/humaneval.yaml"} <= repo.files.keys()
    assert b"task_id: whole" in repo.files[".eval_results/humaneval.yaml"], "as the data set's eval.yaml calls it"
    data = ModelCard(repo.files["README.md"].decode()).data
    assert data.license == "apache-2.0" and data.base_model == "acme/tiny", "the base's own card names its licence"
    assert '"revision"' in repo.files["adapter_config.json"].decode(), "PEFT fetches the base at the run's commit"


@pytest.mark.slow
def test_a_push_that_the_hub_refuses_leaves_the_folder_whole(hub: Hub, run: RunDir, tmp_path: Path) -> None:
    done = export(hub, run, tmp_path, "diverse", "--push", "acme/other", "--out", "out", token="hf_of_nobody")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "the token needs permission to write" in done.stderr and "hf upload acme/other out ." in done.stderr
    assert "adapter_model.safetensors" in contents(tmp_path / "out") and ("models", "acme/other") not in hub.repos


@pytest.mark.slow
def test_a_public_merged_model_into_a_repository_that_is_there(hub: Hub, run: RunDir, tmp_path: Path) -> None:
    hub.add("models", "acme/there", {"mine.txt": b"mine"})
    done = export(hub, run, tmp_path, "deep", "--merged", "--push", "acme/there", "--public", "--license", "made-up")
    assert done.returncode == 1 and "the Hub refused the model card" in done.stderr
    assert hub.repos["models", "acme/there"].files == {"mine.txt": b"mine"}
    again = export(hub, run, tmp_path, "deep", "--merged", "--push", "acme/there", "--public", "--out", "out")
    assert again.returncode == 0 and "exists already, its visibility does not change" in again.stderr
    assert {"mine.txt", "model.safetensors", "tokenizer.json"} <= hub.repos["models", "acme/there"].files.keys()


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached(run: RunDir, tmp_path: Path) -> None:
    with serve() as gone:
        files = {path.name: path.read_bytes() for path in practice.base_path().iterdir()}
        gone.add("models", "acme/tiny", {**files, "README.md": BASE_CARD})
        first = export(gone, run, tmp_path, "deep", "--out", "first")  # the base is in the cache now
        assert first.returncode == 0, first.stderr
    done = export(gone, run, tmp_path, "deep", "--push", "acme/deep", "--out", "out")
    assert done.returncode == 1 and "cannot be reached" in done.stderr and "hf upload" in done.stderr


@pytest.mark.parametrize(
    ("file", "task"),
    [
        (EVAL, "whole"),
        (b"tasks: [{config: openai_humaneval, id: 7}]", "openai_humaneval"),
        (b"tasks: 3", "openai_humaneval"),
        (b"- a", "openai_humaneval"),
        (b"{", "openai_humaneval"),
        (b"\xff", "openai_humaneval"),
        (b"tasks: [{config: [a], id: b}, 2020-99-99]", "openai_humaneval"),
        (b"[" * 999, "openai_humaneval"),
        (None, "openai_humaneval"),
    ],
    ids=["named", "number", "no-list", "list", "torn", "binary", "odd", "deep", "none"],
)
def test_the_task_of_a_leaderboard(
    file: bytes | None, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if file is not None:
        (tmp_path / "eval.yaml").write_bytes(file)
        monkeypatch.setattr("kiyas.data.hub.dataset_file", lambda *_: tmp_path / "eval.yaml")
    assert task_of(Benchmark(dataset="humaneval", revision="e" * 40)) == task
