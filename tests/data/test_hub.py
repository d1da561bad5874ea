"""Everything by Hub id, against a local server that speaks the Hub's protocol: `kiyas run` from end to end."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from hub_server import Hub, around, lines, livecodebench_row, parquet, serve
from kiyas import practice
from kiyas.data import hub as hub_of_ours
from kiyas.data.benchmarks import question
from kiyas.runfolder.files import read_json, read_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.types import KiyasError

CONFIGS = b"""---
configs:
- config_name: default
  data_files:
  - {split: train, path: data/train-*}
  - {split: validation, path: data/validation-*}
---
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    rows = [{"prompt": f"Print {n}.", "completion": f"```python\nprint({n})\n```", "group": str(n)} for n in range(40)]
    messages = [
        {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]}
        for row in rows
    ]
    with serve() as running:
        running.add("models", "acme/tiny-coder", practice.base_path())
        running.add("models", "acme/locked", {"config.json": b"{}"}, gated=True)
        running.add("datasets", "acme/deep", {"README.md": b"# Deep", "deep.jsonl": lines(messages)})
        files = {"data/train-00000-of-00001.parquet": rows[:36], "data/validation-00000-of-00001.parquet": rows[36:]}
        running.add(
            "datasets", "acme/diverse", {"README.md": CONFIGS} | {name: parquet(part) for name, part in files.items()}
        )
        first = [livecodebench_row(300, "2023-05-01"), livecodebench_row(365, "2024-08-03")]
        second = [
            livecodebench_row(370, "2024-09-07"),
            livecodebench_row(371, "2024-09-14", difficulty="hard"),
            livecodebench_row(372, "2024-09-21", platform="leetcode"),
            livecodebench_row(387, "2025-03-01"),
        ]
        running.add(
            "datasets",
            "livecodebench/code_generation_lite",
            {"test.jsonl": lines(first), "test2.jsonl": lines(second), "test9.jsonl": b"not to be fetched"},
        )
        card = (
            b"---\nconfigs:\n- config_name: openai_humaneval\n  data_files: [{split: test, path: part/test-*}]\n---\n"
        )
        human = {
            "task_id": "H/0",
            "prompt": "def f():\n",
            "entry_point": "f",
            "canonical_solution": "",
            "test": "def check(c): assert c()",
        }
        running.add(
            "datasets", "openai/openai_humaneval", {"README.md": card, "part/test-00000.parquet": parquet([human])}
        )
        mbpp = {"task_id": 602, "prompt": "Do it.", "code": "", "test_imports": [], "test_list": ["assert g(1) == 2"]}
        card = b"---\nconfigs:\n- config_name: sanitized\n  data_files: [{split: test, path: part/test-*}]\n---\n"
        running.add(
            "datasets",
            "google-research-datasets/mbpp",
            {"README.md": card, "part/test-00000.parquet": parquet([mbpp])},
        )
        yield running


def benchmarks_of(run: Path) -> list[dict[str, Any]]:
    asked = read_json(run / "resolved.json")["study"]["benchmarks"]
    return [asked["primary"], *asked["also"]]


STUDY = """\
name: hub
model_name_or_path: acme/tiny-coder
arms:
  deep: {dataset_name: acme/deep}
  diverse: {dataset_name: acme/diverse}
seeds: 1
training:
  {budget: {steps: 2}, effective_batch_size: 4, max_length: 256, save_steps: 2, eval_steps: 2, workers: 1}
benchmarks:
  primary: {dataset: livecodebench, release: release_v2, platform: atcoder, difficulty: [easy],
            from: 2024-08, to: 2025-02, ids: [abc365_a, abc370_a]}
generation: {max_new_tokens: 24}
judge: {isolation: best}
"""


@pytest.fixture
def kiyas(hub: Hub, tmp_path: Path) -> Any:
    """Runs the command line in a process of its own with an empty cache: the Hub's client reads its variables once."""

    def call(
        *arguments: object, offline: bool = False, endpoint: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = around(endpoint or hub.endpoint, tmp_path) | ({"HF_HUB_OFFLINE": "1"} if offline else {})
        command = [sys.executable, "-m", "kiyas", *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, cwd=tmp_path)

    return call


def test_a_study_by_hub_ids_from_end_to_end(kiyas: Any, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    done = kiyas("run", "study.yaml", "--until", "data")
    assert done.returncode == 0, done.stderr
    folder = RunDir(tmp_path / "runs" / "hub")
    assert [row["id"] for row in read_jsonl(folder.problems)] == ["abc365_a", "abc370_a"]
    assert len(read_jsonl(folder.problems)[0]["tests"]) == 4  # sample and hidden
    assert len([row for row in read_jsonl(folder.arm_data("diverse")) if row["split"] == "validation"]) == 4
    study = read_json(folder.resolved)["study"]
    commits = {id: repo.commit for (_, id), repo in hub.repos.items()}
    assert study["model_revision"] == commits["acme/tiny-coder"]
    assert study["arms"]["deep"]["revision"] == commits["acme/deep"]
    assert study["benchmarks"]["primary"]["revision"] == commits["livecodebench/code_generation_lite"]
    assert not any("test9.jsonl" in request for request in hub.requests)
    # The Hub moves on, and cannot be reached any more: the run goes on with the commits it was begun with.
    before = hub.repos["datasets", "acme/deep"]
    hub.add("datasets", "acme/deep", {"README.md": b"# Deep, changed", "deep.jsonl": b"{}\n"})
    done = kiyas("run", "study.yaml", offline=True)
    assert done.returncode == 0, done.stderr
    assert folder.findings.exists() and (folder.report / "index.html").exists()
    assert read_json(folder.resolved)["study"]["arms"]["deep"]["revision"] == commits["acme/deep"]
    hub.repos["datasets", "acme/deep"] = before


@pytest.mark.slow
def test_a_fast_check_fetches_no_weights(kiyas: Any, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    before = len(hub.requests)
    done = kiyas("check", "--fast", "study.yaml")
    assert done.returncode == 0, done.stderr
    assert "on acme/tiny-coder" in done.stdout and "not estimated" in done.stdout
    asked = hub.requests[before:]
    assert any("tokenizer" in request for request in asked) and not any("safetensors" in request for request in asked)
    done = kiyas("check", "study.yaml")
    assert done.returncode == 0 and "Estimate for this machine" in done.stdout, done.stderr
    assert any("safetensors" in request for request in hub.requests[before:])


MISTAKES = [
    (("acme/tiny-coder", "acme/tiny-codre"), "acme/tiny-codre: no such model on the Hub"),
    (("acme/tiny-coder", "acme/locked"), "acme/locked: this model is gated"),
    (("acme/diverse", "acme/divers"), "acme/divers: no such data set on the Hub"),
    (("seeds: 1", "seeds: 1\nmodel_revision: v9"), "acme/tiny-coder: this model has no revision 'v9'"),
    (("ids: [abc365_a,", "ids: [abc366_a,"), "abc366_a missing, abc365_a too many"),
    (
        ("difficulty: [easy]", "difficulty: [medium]"),
        "the filter difficulty leaves no problem; there are easy: 4, hard: 1",
    ),
    (("release_v2", "release_v7"), "has no test3.jsonl"),
]
EACH_MISTAKE = """
import os, sys
from pathlib import Path
from kiyas import cli
for name in sys.argv[1:]:
    os.dup2(os.open(f"{name}.err", os.O_WRONLY | os.O_CREAT), 2)
    code = cli.main(["run", f"{name}.yaml", "--until", "data", "--runs", f"{name}-runs"])
    Path(f"{name}.code").write_text(str(code))
"""


@pytest.fixture(scope="module")
def mistaken(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each mistake ended with; all in one process, since each would load the libraries anew."""
    folder = tmp_path_factory.mktemp("mistakes")
    for number, (change, _) in enumerate(MISTAKES):
        assert change[0] in STUDY
        (folder / f"{number}.yaml").write_text(STUDY.replace(*change))
    names = map(str, range(len(MISTAKES)))
    environment = around(hub.endpoint, folder)
    subprocess.run([sys.executable, "-c", EACH_MISTAKE, *names], env=environment, check=True, timeout=280, cwd=folder)
    return folder


@pytest.mark.parametrize(("number", "told"), [(n, told) for n, (_, told) in enumerate(MISTAKES)])
def test_mistakes_are_one_clear_line(mistaken: Path, number: int, told: str) -> None:
    err = (mistaken / f"{number}.err").read_text()
    assert (mistaken / f"{number}.code").read_text() == "1" and "Traceback" not in err, err
    assert told in err
    said = re.sub(r"\n  hint:.*", "", err).strip().splitlines()
    assert len([line for line in said if "still at work" not in line]) <= 2  # a slow machine says that, too


def test_offline_and_unreachable_are_told(kiyas: Any, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    done = kiyas("run", "study.yaml", offline=True)
    assert done.returncode == 1 and "HF_HUB_OFFLINE" in done.stderr and "Traceback" not in done.stderr
    done = kiyas("run", "study.yaml", endpoint="http://127.0.0.1:9")
    assert done.returncode == 1 and "acme/" in done.stderr and "Traceback" not in done.stderr


def test_humaneval_and_mbpp_from_the_hub(kiyas: Any, tmp_path: Path) -> None:
    text = re.sub(r"primary: \{.*?\}", "primary: {dataset: humaneval}\n  also: [mbpp]", STUDY, flags=re.DOTALL)
    (tmp_path / "study.yaml").write_text(text)
    done = kiyas("run", "study.yaml", "--until", "data")
    assert done.returncode == 0, done.stderr
    problem, other = read_jsonl(RunDir(tmp_path / "runs" / "hub").problems)
    assert problem["id"] == "H/0" and problem["test_code"].endswith("check(f)\n")
    assert "benchmark" not in problem and question(problem).endswith("```python\ndef f():\n```")
    assert (other["id"], other["benchmark"]) == ("602", "mbpp")
    assert question(other) == "Do it. Your code should pass these tests:\n\nassert g(1) == 2"
    assert all(len(b["revision"]) == 40 for b in benchmarks_of(tmp_path / "runs" / "hub"))


def test_the_attempts_of_the_hubs_client_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    client = logging.getLogger("huggingface_hub.utils._http")
    with pytest.raises(KiyasError) as raised, hub_of_ours.told("dataset", "acme/deep", None):
        for attempt in range(5):
            client.warning("'[Errno 111]' thrown while requesting HEAD https://hub/x")
            client.warning(f"Retrying in 1s [Retry {attempt + 1}/5].")
        raise OSError("no\nmore\nlines")
    assert str(raised.value).startswith("acme/deep: this data set could not be read from the Hub: no\n  hint: is ")
    assert capsys.readouterr().err == "acme/deep: the Hub does not answer; trying again, for half a minute at most\n"
    assert client.filters == []


@pytest.mark.parametrize("fetched", [False, True])
def test_who_is_offline_is_told_of_the_cache_only_where_something_is_in_it(
    fetched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_of_ours, "_fetched", lambda kind, name: [object()] * fetched)
    with pytest.raises(KiyasError) as unreachable, hub_of_ours.told("model", "acme/tiny", None):
        raise httpx2.ConnectError("no route")
    assert ("HF_HUB_OFFLINE=1" in str(unreachable.value)) == fetched
    with pytest.raises(KiyasError) as absent, hub_of_ours.told("model", "acme/tiny", None):
        raise OfflineModeIsEnabled("offline")
    assert (str(unreachable.value) == str(absent.value)) == (not fetched)
