"""Number format, parts and devices: chosen once, kept, and used by whatever machine goes on with the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from kiyas.check import costs
from kiyas.model import device
from kiyas.model.base import Base
from kiyas.pipeline import identity, layout, stages
from kiyas.pipeline.layout import Part, do, number_format, parts_of, settled
from kiyas.runfolder.files import read_json, write_json
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import Kind, Record, read_record, write_record
from kiyas.study.settings import Dtype, Study
from kiyas.types import KiyasError
from kiyas.work import workers
from kiyas.work.progress import bar
from kiyas.work.workers import HERE

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
    given: list[list[tuple[str, int]]] = []

    def noted(function: Any, lanes: list[list[tuple[Any, ...]]], *_: Any) -> None:
        given.extend([(place.device, number) for place, _, number in lane] for lane in lanes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "run_parts", noted)
        patch.setattr(layout, "_models", lambda *_: {})
        with bar("test", 1, "parts") as progress:
            do(HERE, RunDir(Path()), study(), print, parts, lambda part: (part.number,), lambda _: ([], []), progress)
    return given


def test_parts_keep_their_device_and_go_round_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunDir(tmp_path)
    on(monkeypatch, 3)
    parts = parts_of(HERE, folder, Stage.TRAIN, study(), UNITS)
    assert [(part.place, len(part.units)) for part in parts] == [(0, 2), (1, 2), (2, 1)]
    assert shared_out(parts) == [[("cuda:0", 0)], [("cuda:1", 1)], [("cuda:2", 2)]]
    for count, expected in (
        (2, [[("cuda:0", 0), ("cuda:0", 2)], [("cuda:1", 1)]]),
        (1, [[("cuda:0", 0), ("cuda:0", 1), ("cuda:0", 2)]]),
        (4, [[("cuda:0", 0)], [("cuda:1", 1)], [("cuda:2", 2)]]),
    ):
        on(monkeypatch, count)
        assert parts_of(HERE, folder, Stage.TRAIN, study(), UNITS) == parts, "decided once"
        assert shared_out(parts) == expected


def test_more_parts_than_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, 2)
    parts = parts_of(HERE, RunDir(tmp_path), Stage.TRAIN, study(), UNITS, most=1)
    assert parts == [Part(number, [unit], number % 2) for number, unit in enumerate(UNITS)]
    assert [[number for _, number in lane] for lane in shared_out(parts)] == [[0, 2, 4], [1, 3]]


def test_a_run_goes_on_with_the_shares_of_an_older_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, settings = RunDir(tmp_path), study(workers=1)
    stages.run(settings, folder, until=Stage.DATA)
    path = folder.train_state / "layout.json"
    write_json(path, [[["deep", "", 0]], [["diverse", "", 0]]])
    assert layout.parts_of(HERE, folder, Stage.TRAIN, settings, []) == [
        Part(0, [["deep", "", 0]], 0),
        Part(1, [["diverse", "", 0]], 1),
    ]
    load, loaded = Base.load, []

    def noted(path: Any, device: str, dtype: str, *others: Any) -> Base:
        loaded.append((device, dtype))
        return load(path, device, dtype, *others)

    monkeypatch.setattr(Base, "load", noted)
    stages.run(settings, folder, until=Stage.TRAIN)
    assert loaded == [("cpu", "float32")] * 2
    assert read_record(folder).dtype is Dtype.FLOAT32
    assert {id.arm for id in stages.saved_checkpoints(folder)} == {"deep", "diverse"}
    assert read_json(folder.root / "train" / "manifest.json")["counts"]["checkpoints"] == 2


# -- the number format ----------------------------------------------------------------------------------------


def cards(monkeypatch: pytest.MonkeyPatch, *capabilities: tuple[int, int]) -> None:
    on(monkeypatch, len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda each: capabilities[torch.device(each).index])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda each: f"card {torch.device(each).index}")


def run_folder(path: Path, dtype: Dtype | None, begun: bool) -> RunDir:
    folder = RunDir(path)
    write_record(folder, Record(kind=Kind.RUN, name="t", study=study(), dtype=dtype))
    if begun:
        folder.train_state.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ([(8, 0)], "bfloat16"),
        ([(9, 0)], "bfloat16"),
        ([(12, 0)], "bfloat16"),
        ([(7, 5)], "float16"),
        ([(7, 0)], "float16"),
        ([(6, 1)], "float32"),
        ([(8, 0), (7, 5)], "float16"),
        ([(7, 5), (6, 1)], "float32"),
        ([], "float32"),
    ],
)
def test_every_card_computes_in_what_its_hardware_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capabilities: list[tuple[int, int]], expected: str
) -> None:
    cards(monkeypatch, *capabilities)
    assert number_format(HERE, study()) == (expected, "")
    folder = run_folder(tmp_path, None, begun=False)
    assert settled(HERE, study(), folder).training.dtype == expected == read_record(folder).dtype
    assert number_format(HERE, study(dtype="float32")) == ("float32", "")


def test_the_device_that_is_used_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    cards(monkeypatch, (8, 0), (7, 5))
    assert (
        device.pick_dtype("auto", "cuda:0") is torch.bfloat16 and device.pick_dtype("auto", "cuda:1") is torch.float16
    )
    with pytest.raises(
        KiyasError, match=r"the card 1 \(compute capability 7\.5\) does not compute bfloat16\n.*=float16 or auto"
    ):
        number_format(HERE, study(dtype="bfloat16"))


@pytest.mark.parametrize(("capability", "expected"), [((8, 0), "bfloat16"), ((7, 5), "float32"), (None, "float32")])
def test_a_run_of_an_older_version_goes_on_as_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] | None, expected: str
) -> None:
    cards(monkeypatch, *([capability] if capability else []))
    folder = run_folder(tmp_path, None, begun=True)
    assert settled(HERE, study(), folder).training.dtype == expected == read_record(folder).dtype


def test_a_run_goes_on_in_its_format_on_another_machine_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder(tmp_path, Dtype.BFLOAT16, begun=True)
    cards(monkeypatch)
    assert settled(HERE, study(), folder).training.dtype is Dtype.BFLOAT16
    cards(monkeypatch, (7, 5))
    with pytest.raises(KiyasError, match=r"was begun in bfloat16: .*card 0[^\0]*on a machine that does"):
        settled(HERE, study(), folder)
    assert read_record(folder).dtype is Dtype.BFLOAT16
    # Nothing was trained yet, or it is to be done again: this machine chooses.
    again = run_folder(tmp_path / "again", Dtype.BFLOAT16, begun=False)
    assert settled(HERE, study(), again).training.dtype is Dtype.FLOAT16


@pytest.mark.parametrize(
    ("half_s", "free", "expected", "why"),
    [
        (1.0, 1e12, "bfloat16", "2.0 times as fast as float32 here"),
        (1.8, 1e12, "float32", "bfloat16 would take 0.9 times as long here"),
        (20.0, 1e12, "float32", "10.0 times as long here"),
        (20.0, 5e9, "bfloat16", "do not fit into 4.7 GiB"),
        (20.0, 1e9, "float32", "10.0 times"),
    ],
)
def test_a_large_base_on_a_processor(
    monkeypatch: pytest.MonkeyPatch, half_s: float, free: float, expected: str, why: str
) -> None:
    asked = []

    def seconds(shape: tuple[int, int], dtype: torch.dtype) -> float:
        asked.append(shape)
        return half_s if dtype is torch.bfloat16 else 2.0

    on(monkeypatch, 0)
    shapes = [(150_000, 1536), *[(8960, 1536)] * 56, *[(1536, 8960)] * 28, (1536,)]
    monkeypatch.setattr(identity, "shapes", lambda study: shapes)
    monkeypatch.setattr(device, "_seconds_of_product", seconds)
    monkeypatch.setattr(device, "available_bytes", lambda where: int(free))
    dtype, told = number_format(HERE, study())
    assert dtype == expected and why in told and set(asked) == {(8960, 1536)}
    assert number_format(HERE, study(dtype="float16")) == ("float16", "")


def test_the_measurement_is_of_a_product() -> None:
    assert 0 < device._seconds_of_product((512, 256), torch.float32) < 60
    assert device.pick_cpu_dtype(1, (512, 256))[0] in (torch.float32, torch.bfloat16)


def test_check_reckons_with_the_format_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "number_format", lambda engine, study: (Dtype.BFLOAT16, "faster"))
    assert costs._device(study(device="cpu"))[:2] == (torch.device("cpu"), torch.bfloat16)


def test_a_small_base_on_a_processor_needs_no_torch() -> None:
    code = (
        "import sys; from kiyas.pipeline.layout import number_format; from kiyas.study.settings import Study\n"
        "from kiyas.work.workers import HERE\n"
        "study = Study.model_validate({'name': 't', 'model_name_or_path': 'practice', "
        "'arms': {'a': {'dataset_name': 'practice/deep'}}})\n"
        "print(number_format(HERE, study), 'torch' in sys.modules)"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert found.stdout == "(<Dtype.FLOAT32: 'float32'>, '') False\n", found.stderr
