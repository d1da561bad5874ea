"""What cannot be exported is refused by name, before anything is written, with what to do."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import pytest

from finished import contents, make_finished
from kiyas.analyse.chosen import Finished
from kiyas.cli import main
from kiyas.export import Wanted, export
from kiyas.export.hub import refuse_unready
from kiyas.runfolder import manifests
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import read_record, write_record
from kiyas.types import AdapterId, KiyasError
from synthetic import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return make_finished(tmp_path_factory.mktemp("runs") / "small", seeds=(3, 1))


@pytest.fixture
def copy(run: RunDir, tmp_path: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(run.root, tmp_path / "copy")))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted("dep"), "no arm 'dep'; did you mean deep?.*arms: deep, diverse"),
        (Wanted("base"), "base is the model before training"),
        (Wanted("deep@7"), "deep has no seed 7.*its seeds: 3, 1"),
        (Wanted("deep@first"), "'first' is not a seed.*deep@0"),
        (Wanted("@1"), "no arm ''"),
        (Wanted("deep", step=30), "no checkpoint at step 30.*steps: 20, 40"),
        (Wanted("deep", variant="lr-1"), "no point 'lr-1'.*there was no grid"),
        (Wanted("deep", licence="my own!"), "not a licence identifier"),
    ],
    ids=["arm", "base", "seed", "no-seed", "empty", "step", "variant", "licence"],
)
def test_what_the_run_does_not_have(run: RunDir, tmp_path: Path, wanted: Wanted, message: str) -> None:
    place = tmp_path / "out"
    with pytest.raises(KiyasError, match=f"(?s){message}"):
        export(run, Wanted(**{**vars(wanted), "out": place}))
    assert not place.exists() and list(tmp_path.iterdir()) == []


def test_without_a_seed_it_is_the_first_of_the_study_and_not_the_best(run: RunDir) -> None:
    found = Finished.read(run)
    assert found.chosen("deep") == AdapterId("deep", "", 3, 40) == found.chosen("deep", seed=3)
    assert found.chosen("deep@1").seed == 1 and found.chosen("deep@1", step=20).step == 20
    rates = {seed: found.score(found.chosen("deep", seed=seed)).rate for seed in (3, 1)}
    assert rates[1] != rates[3]


def test_an_import_has_no_weights(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "imported", imported=True, seeds=(0,), problems=5)
    with pytest.raises(KiyasError, match=r"(?s)is an import.*no weights.*checkpoints: FOLDER"):
        export(RunDir(folder), Wanted("deep", out=tmp_path / "out"))


def test_a_run_that_is_not_finished(tmp_path: Path) -> None:
    folder = make_finished(tmp_path / "half", until=Stage.GENERATE)
    with pytest.raises(KiyasError, match=r"(?s)the stage judge is missing.*kiyas run .*half goes on"):
        export(folder, Wanted("deep", out=tmp_path / "out"))


def test_a_damaged_or_removed_checkpoint(copy: RunDir, tmp_path: Path) -> None:
    chosen = copy.checkpoints / AdapterId("deep", "", 3, 40).folder / "adapter_model.safetensors"
    data = bytearray(chosen.read_bytes())
    data[-1] ^= 1
    chosen.write_bytes(bytes(data))
    with pytest.raises(KiyasError, match=r"adapter_model\.safetensors was changed or damaged"):
        export(copy, Wanted("deep", out=tmp_path / "out"))
    shutil.rmtree(chosen.parent)
    with pytest.raises(KiyasError, match="is missing"):
        export(copy, Wanted("deep", out=tmp_path / "out"))
    export(copy, Wanted("diverse", out=tmp_path / "out"))  # what is damaged is not its own


def test_an_edited_verdict(copy: RunDir, tmp_path: Path) -> None:
    copy.judgments.write_text(copy.judgments.read_text().replace('"WA"', '"AC"', 1))
    with pytest.raises(KiyasError, match=r"(?s)judgments.jsonl was changed.*kiyas verify"):
        export(copy, Wanted("deep", out=tmp_path / "out"))


def test_another_base(copy: RunDir, tmp_path: Path) -> None:
    record = read_record(copy)
    assert record.base is not None and record.base.files is not None
    name = "model.safetensors"
    other = record.base.files[name].model_copy(update={"sha256": "0" * 64})
    base = record.base.model_copy(update={"files": {**record.base.files, name: other}})
    write_record(copy, record.model_copy(update={"base": base}))
    with pytest.raises(KiyasError, match=r"is not the model that .* was made with"):
        export(copy, Wanted("deep", out=tmp_path / "out"))


def test_a_whole_model_has_nothing_to_merge(tmp_path: Path) -> None:
    arms = {"deep": {"model": "models/deep"}, "diverse": {"dataset_name": "diverse"}}
    folder = make_finished(tmp_path / "whole", {"arms": arms, "seeds": [0]}, seeds=(0,))
    with pytest.raises(KiyasError, match=r"(?s)deep is a whole model.*models/deep"):
        export(folder, Wanted("deep", merged=True, out=tmp_path / "out"))


@pytest.mark.parametrize("kind", ["full", "file", "inside", "link"])
def test_a_place_that_is_taken(run: RunDir, tmp_path: Path, kind: str) -> None:
    place = run.root / "export" if kind == "inside" else tmp_path / "out"
    if kind == "full":
        place.mkdir()
        (place / "mine.txt").write_text("mine")
    elif kind == "file":
        place.write_text("mine")
    elif kind == "link":
        place.symlink_to(tmp_path / "nowhere")
    before = contents(tmp_path)
    with pytest.raises(KiyasError, match="another folder with --out"):
        export(run, Wanted("deep", out=place))
    assert contents(tmp_path) == before and not (run.root / "export").exists()


@pytest.mark.parametrize("name", ["out", "."])
def test_an_empty_folder_is_a_place(run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    place = tmp_path / "out"
    place.mkdir()
    monkeypatch.chdir(tmp_path if name == "out" else place)
    export(run, Wanted("deep", out=Path(name)))
    assert {"README.md", "adapter_config.json"} <= contents(place).keys()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_nothing_is_left_where_writing_fails(run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kiyas.export.card.write", broken)
    with pytest.raises(KeyboardInterrupt):
        export(run, Wanted("deep", out=tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("merged", [False, True])
def test_a_full_disk_is_named(run: RunDir, tmp_path: Path, merged: bool) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(KiyasError, match=r"cannot write .*File too large"):
            export(run, Wanted("deep", merged=merged, out=tmp_path / "out"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_nothing_can_be_written_into(run: RunDir, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(KiyasError, match=r"cannot write .*out: Not a directory"):
        export(run, Wanted("deep", out=tmp_path / "file" / "out"))


def test_what_could_not_be_pushed_is_refused_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(KiyasError, match="HF_HUB_OFFLINE is set"):
        refuse_unready("acme/deep")
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False)
    with pytest.raises(KiyasError, match=r"(?s)no Hub token.*hf auth login.*HF_TOKEN"):
        refuse_unready("acme/deep")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_x")
    refuse_unready("acme/deep")
    for name in ("deep", "a/b/c", "https://huggingface.co/a/b", "../b", ""):
        with pytest.raises(KiyasError, match="not the name of a repository"):
            refuse_unready(name)


def test_files_of_the_stage_are_what_the_fixture_says(run: RunDir) -> None:
    """The run folder of these tests is sound, so that what is refused is refused for its own reason."""
    assert manifests.damages(run, whole=True) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dtype", "bfloat16"], "an adapter is in float32"),
        (["--public"], "--public needs --push"),
        (["--dtype", "int4", "--merged"], "'int4' is not one of"),
    ],
    ids=["dtype", "public", "unknown"],
)
def test_options_that_mean_nothing_alone(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["export", str(tmp_path), "deep", *words])
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 1 and said in capsys.readouterr().err


def test_a_base_that_is_not_here(copy: RunDir, tmp_path: Path) -> None:
    record = read_record(copy)
    assert record.study is not None
    study = record.study.model_copy(update={"model_name_or_path": str(tmp_path / "gone")})
    write_record(copy, record.model_copy(update={"study": study}))
    with pytest.raises(KiyasError, match=r"the base of .*copy is not here: no model in .*gone"):
        export(copy, Wanted("deep", out=tmp_path / "out"))
