"""Parts and devices: chosen once, kept, and done on whatever devices there are when the run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiyas.pipeline import layout, stages
from kiyas.pipeline.layout import Part, lanes, parts_of
from kiyas.runfolder.files import read_json, write_json
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.study.settings import Study
from kiyas.work import workers

UNITS = [["a", "", seed] for seed in range(5)]


def study(**training: object) -> Study:
    return Study.model_validate(
        {
            "name": "t",
            "model_name_or_path": "practice",
            "arms": {"deep": {"dataset_name": "practice/deep"}, "diverse": {"dataset_name": "practice/diverse"}},
            "seeds": 1,
            "training": {"budget": {"steps": 2}, "effective_batch_size": 2, "max_length": 256, **training},
            "benchmarks": {"primary": {"problems": 2}},
            "judge": {"isolation": "best"},
        }
    )


def on(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(workers, "gpus", lambda device: [f"cuda:{number}" for number in range(count)])


def shared_out(parts: list[Part]) -> list[list[tuple[str, int]]]:
    made = lanes(study(), parts, lambda part, own: (own["training"]["device"], part.number))
    return [[(device, number) for device, number in lane] for lane in made]


def test_parts_keep_their_device_and_go_round_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunDir(tmp_path)
    on(monkeypatch, 3)
    parts = parts_of(folder, Stage.TRAIN, study(), UNITS)
    assert [(part.place, len(part.units)) for part in parts] == [(0, 2), (1, 2), (2, 1)]
    assert shared_out(parts) == [[("cuda:0", 0)], [("cuda:1", 1)], [("cuda:2", 2)]]
    for count, expected in (
        (2, [[("cuda:0", 0), ("cuda:0", 2)], [("cuda:1", 1)]]),
        (1, [[("cuda:0", 0), ("cuda:0", 1), ("cuda:0", 2)]]),
        (4, [[("cuda:0", 0)], [("cuda:1", 1)], [("cuda:2", 2)]]),
    ):
        on(monkeypatch, count)
        assert parts_of(folder, Stage.TRAIN, study(), UNITS) == parts, "decided once"
        assert shared_out(parts) == expected


def test_more_parts_than_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, 2)
    parts = [Part(number, [unit], number % 2) for number, unit in enumerate(UNITS)]
    assert [[number for _, number in lane] for lane in shared_out(parts)] == [[0, 2, 4], [1, 3]]


def test_a_run_goes_on_with_the_shares_of_an_older_version(tmp_path: Path) -> None:
    folder, settings = RunDir(tmp_path), study(workers=1)
    stages.run(settings, folder, until=Stage.DATA)
    path = folder.train_state / "layout.json"
    write_json(path, [[["deep", "", 0]], [["diverse", "", 0]]])
    assert layout.parts_of(folder, Stage.TRAIN, settings, []) == [
        Part(0, [["deep", "", 0]], 0),
        Part(1, [["diverse", "", 0]], 1),
    ]
    stages.run(settings, folder, until=Stage.TRAIN)
    assert {id.arm for id in stages.saved_checkpoints(folder)} == {"deep", "diverse"}
    assert read_json(folder.root / "train" / "manifest.json")["counts"]["checkpoints"] == 2
