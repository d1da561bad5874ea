"""Loss tables as people have them: a column is a training loss, a validation loss, or listed as not understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kiyas.interop import columns, import_study
from kiyas.runfolder.files import read_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.types import KiyasError

TRAIN = [
    "loss",
    "Loss",
    "train_loss",
    "Train_Loss",
    "Training Loss",
    "training loss",
    "training_loss",
    "trainLoss",
    "trainingLoss",
    "TrainLoss",
    "trainloss",
    "TRAIN LOSS",
    "train/loss",
    "train-loss",
    "train.loss",
    "loss/train",
    "Loss/train",
    "loss_train",
    "losses/train",
    "Train loss",
    "train_losses",
    "tr_loss",
    "avg_train_loss",
    "mean loss",
    "deep-1 - train/loss",
    "Group: deep - train/loss",
    "Eğitim Kaybı",
    "egitim_kaybi",
    "train/train_loss",
    " train_loss ",
]
VALIDATION = [
    "eval_loss",
    "Eval Loss",
    "evalLoss",
    "valid_loss",
    "Validation Loss",
    "validation_loss",
    "val_loss",
    "valLoss",
    "valloss",
    "validloss",
    "Val Loss",
    "eval/loss",
    "val/loss",
    "loss/val",
    "Loss/validation",
    "dev_loss",
    "loss_eval",
    "eval/eval_loss",
    "Doğrulama Kaybı",
    "deep-1 - eval/loss",
    "evaluation loss",
    "avg_val_loss",
]
OTHER_SETS = [
    ("test_loss", "test"),
    ("Test Loss", "test"),
    ("test/loss", "test"),
    ("eval_diverse_loss", "diverse"),
    ("eval/diverse_loss", "diverse"),
]
STRANGE = [
    "aux_loss",
    "router_z_loss",
    "kl_loss",
    "moe_loss",
    "load_balancing_loss",
    "lm loss",
    "total_loss",
    "train/aux_loss",
    "eval_kl_loss",
    "eval_aux_loss",
    "mtp_loss",
    "distill_loss",
    "ce_loss",
    "policy_loss",
    "deep_loss",
    "train_loss_ema",
    "train_loss_epoch",
    "smoothed_loss",
    "val_train_loss",
    "l2_reg_loss",
    "loss_fn",
    "train/loss_std",
    "best_loss",
    "x_loss",
]
SILENT = [
    "lr",
    "grad_norm",
    "epoch",
    "train/loss__MIN",
    "deep-1 - train/loss__MAX",
    "loss_scale",
    "perplexity",
    "lossless",
]


@pytest.mark.parametrize("name", TRAIN)
def test_training_losses(name: str, tmp_path: Path) -> None:
    assert read(tmp_path, f"step,{name}\n20,0.5\n") == [("train", 20, None, 0.5)]


@pytest.mark.parametrize("name", VALIDATION)
def test_validation_losses(name: str, tmp_path: Path) -> None:
    assert read(tmp_path, f"step,{name.split('eval')[0] if ' - ' in name else ''}train_loss,{name}\n20,0.5,0.75\n")[
        1:
    ] == [("validation", 20, "deep", 0.75)]


@pytest.mark.parametrize(("name", "on"), OTHER_SETS)
def test_losses_on_other_data(name: str, on: str, tmp_path: Path) -> None:
    assert read(tmp_path, f"step,train_loss,{name}\n20,0.5,0.75\n")[1:] == [("validation", 20, on, 0.75)]


@pytest.mark.parametrize("name", STRANGE)
def test_other_columns_are_listed(name: str, tmp_path: Path) -> None:
    assert read(tmp_path, f"step,train_loss,{name}\n20,0.5,0.75\n", name) == [("train", 20, None, 0.5)]


@pytest.mark.parametrize("name", SILENT)
def test_what_is_no_loss_is_passed_over(name: str, tmp_path: Path) -> None:
    assert read(tmp_path, f"step,train_loss,{name}\n20,0.5,0.75\n") == [("train", 20, None, 0.5)]


def read(folder: Path, text: str, strange: str = "") -> list[tuple[str, int, str | None, float]]:
    folder.joinpath("deep.csv").write_text(text, encoding="utf-8")
    summary = import_study([folder / "deep.csv"], folder / "run")
    listed = [note for note in summary.notes if "does not understand" in note]
    assert bool(listed) == bool(strange) and all(f": {strange} (" in note for note in listed)
    return rows(folder / "run")


def rows(run: Path) -> list[tuple[str, int, str | None, float]]:
    return [(row["kind"], row["step"], row.get("on"), row["loss"]) for row in read_jsonl(RunDir(run).train_log)]


@pytest.mark.parametrize(
    "step",
    ["step", "Step", "global_step", "Global Step", "train/global_step", "trainer/global_step", "iteration", "Adım"],
)
def test_steps(step: str, tmp_path: Path) -> None:
    assert read(tmp_path, f"{step},Training Loss\n20,0.5\n") == [("train", 20, None, 0.5)]


def test_a_trackers_own_step_gives_way(tmp_path: Path) -> None:
    assert read(tmp_path, "Step,train/global_step,train/loss\n1,20,0.5\n") == [("train", 20, None, 0.5)]


@pytest.mark.parametrize("nothing", ["No log", "no log", "", "N/A", "-", "None", "null", " "])
def test_nothing_is_nothing(nothing: str, tmp_path: Path) -> None:
    text = f"Epoch,Step,Training Loss,Validation Loss\n1,100,{nothing},0.8904\n2,200,0.8011,0.8123\n"
    assert read(tmp_path, text) == [
        ("validation", 100, "deep", 0.8904),
        ("train", 200, None, 0.8011),
        ("validation", 200, "deep", 0.8123),
    ]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(delimiter: str, tmp_path: Path) -> None:
    text = "Step;Training Loss;Validation Loss\n100;0,9623;0,8904\n".replace(";", delimiter)
    text = text.replace(",", ".") if delimiter == "\t" else text
    assert read(tmp_path, text) == [("train", 100, None, 0.9623), ("validation", 100, "deep", 0.8904)]


def test_a_trackers_export_with_several_runs(tmp_path: Path) -> None:
    header = ["Step"]
    for run in ("brisk-pond-1", "brisk-pond-2", "şeker"):
        header += [f"{run} - _step", f"{run} - train/loss", f"{run} - train/loss__MIN", f"{run} - train/loss__MAX"]
    lines = [",".join(f'"{name}"' for name in header), "20,20,1,0,2,20,3,0,4,20,5,0,6", "40,40,0.5,0,2,,,,,40,4,0,6"]
    path = tmp_path / "wandb_export_2025-01-01T10_00_00.000+00_00.csv"
    path.write_text("\n".join(lines))
    summary = import_study([path], tmp_path / "run")
    assert dict(summary.losses) == {("brisk-pond-1", 0): (2, 40), ("brisk-pond-2", 0): (1, 20), ("şeker", 0): (2, 40)}
    found = {(row["arm"], row["step"]): row["loss"] for row in read_jsonl(RunDir(tmp_path / "run").train_log)}
    assert found["brisk-pond-1", 20] == 1 and found["brisk-pond-2", 20] == 3 and found["şeker", 40] == 4
    named = import_study([path], tmp_path / "run", arm_of={"brisk-pond-1": "deep", "brisk-pond-2": "diverse"})
    assert {arm for arm, _ in named.losses} == {"deep", "diverse", "şeker"}


def test_two_columns_that_may_both_be_the_loss_are_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "deep.csv").write_text("step,loss,train_loss,eval_loss\n20,1.0,0.5,2.0\n40,0.7,0.7,1.9\n")
    summary = import_study([tmp_path / "deep.csv"], tmp_path / "run")
    assert rows(tmp_path / "run") == [
        ("validation", 20, "deep", 2.0),
        ("train", 40, None, 0.7),
        ("validation", 40, "deep", 1.9),
    ]
    assert any("loss, train_loss" in note for note in summary.notes)


def test_losses_without_a_step_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "deep.csv").write_text("Epoch,Training Loss,Validation Loss\n1,1.0,2.0\n")
    with pytest.raises(KiyasError, match=r"deep\.csv: losses without a step: Epoch, Training Loss") as caught:
        import_study([tmp_path / "deep.csv"], tmp_path / "run")
    assert caught.value.hint == "add a column `step`"


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"train": [{"step": 20, "loss": 0.5}], "eval": [{"step": 20, "loss": 0.75}]}, ["train", "deep"]),
        ({"validation": [{"step": 20, "loss": 0.75}], "training": [{"step": 20, "loss": 0.5}]}, ["train", "deep"]),
        ({"eval_history": [{"step": 20, "loss": 0.75}]}, ["deep"]),
        ({"test": [{"step": 20, "loss": 0.75}]}, ["test"]),
        ({"global_step": 20, "train_loss": 9, "log_history": [{"step": 20, "loss": 0.5}]}, ["train"]),
        ([{"step": 20, "loss": 0.5}], ["train"]),
    ],
)
def test_lists_in_a_document_are_what_they_are_called(document: Any, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text(json.dumps(document))
    import_study([tmp_path / "deep.json"], tmp_path / "run")
    found = rows(tmp_path / "run")
    assert [on or kind for kind, _, on, _ in found] == expected
    assert all(loss == (0.5 if kind == "train" else 0.75) for kind, _, _, loss in found)


@pytest.mark.parametrize("row", [{"step": 20, "loss": 0.5}, {"question_id": "p", "passed": True}])
def test_lists_whose_names_say_nothing_are_refused(row: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "all.json").write_text(json.dumps({"deep": [row], "diverse": [row]}))
    with pytest.raises(KiyasError, match=r"all.json: several lists hold (losses|results), deep, diverse") as caught:
        import_study([tmp_path / "all.json"], tmp_path / "run")
    assert "a file of its own" in caught.value.hint


def test_a_key_with_braces_is_a_place_like_others(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text(json.dumps({"{}[{9}]": [{"step": "x", "loss": 0.5}]}))
    with pytest.raises(KiyasError, match="step is 'x', expected a number"):
        import_study([tmp_path / "deep.json"], tmp_path / "run")


def test_a_step_that_is_not_whole_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "deep.csv").write_text("step,loss\n0.5,1.0\n1,0.9\n1.5,0.8\n2.0,0.7\n")
    summary = import_study([tmp_path / "deep.csv"], tmp_path / "run")
    assert [row[1] for row in rows(tmp_path / "run")] == [1, 2]
    assert summary.rows == "2 of 4 rows were used; 2 were left out because they had no whole step (2)"


def test_a_trainers_history_with_auxiliary_losses(tmp_path: Path) -> None:
    history: list[dict[str, Any]] = [
        {"loss": 0.9, "aux_loss": 0.01, "router_z_loss": 0.02, "step": 20, "epoch": 0.5},
        {"eval_loss": 0.95, "eval_diverse_loss": 1.5, "step": 20},
        {"loss": 0.8, "aux_loss": 0.01, "kl_loss": 0.03, "step": 40, "epoch": 1.0},
        {"train_loss": 0.85, "train_runtime": 10.0, "step": 40},
    ]
    path = tmp_path / "in" / "deep" / "trainer_state.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"global_step": 40, "log_history": history}))
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    assert rows(tmp_path / "run") == [
        ("train", 20, None, 0.9),
        ("validation", 20, "deep", 0.95),
        ("validation", 20, "diverse", 1.5),
        ("train", 40, None, 0.8),
    ]
    assert any("aux_loss, router_z_loss, kl_loss" in note for note in summary.notes)
    assert summary.rows == "3 of 4 rows were used; 1 was left out because it summed up the training (1)"


def test_every_column_is_one_thing() -> None:
    for name in [*TRAIN, *VALIDATION, *(name for name, _ in OTHER_SETS), *STRANGE, *SILENT]:
        found, strange = columns.losses([name])
        assert len(found) + len(strange) <= 1
