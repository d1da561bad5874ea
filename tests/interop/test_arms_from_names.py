"""Whose a file or a folder is: names that differ in anything but step and seed are of two arms, never of one."""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from kiyas.interop import import_study, names
from kiyas.practice import base_path
from kiyas.types import KiyasError

PAIRS = [
    ("deep-1k", "deep-5k"),
    ("deep_1000", "deep_5000"),
    ("deep_lr1e-4", "deep_lr2e-4"),
    ("deep_lr0.0001", "deep_lr0.0002"),
    ("deep-r8", "deep-r16"),
    ("run_1", "run_2"),
    ("run1", "run2"),
    ("v1", "v2"),
    ("deep_v2", "deep_v3"),
    ("deep(1)", "deep(2)"),
    ("train_2025-01-01-10-00-00", "train_2025-02-03-11-30-00"),
    ("2025-01-01", "2025-01-02"),
    ("20250101_101010", "20250102_101010"),
    ("deep-2025.01.01", "deep-2025.01.02"),
    ("a1b2c3d4e5", "f6a7b8c9d0"),
    ("deep-3fa9c2e", "deep-77b1d0c"),
    ("şeker", "çeker"),
    ("ışık", "isik"),
    ("dosya_ı", "dosya_i"),
    ("深度", "多样"),
    ("глубокий", "разный"),
    ("गहरा", "गहरी"),
    ("עמוק", "מגוון"),
    ("deep🔥", "deep🌊"),
    ("qwen-alpaca-cleaned", "qwen-alpaca-raw"),
    ("Qwen2.5-Coder-1.5B", "Qwen2.5-Coder-7B"),
    ("qwen2.5", "qwen3"),
    ("exp1", "exp2"),
    ("lora-out-1", "lora-out-2"),
    ("deep_epochs2", "deep_epochs3"),
    ("c", "c++"),
    ("deep", "deep_v2"),
    ("deep", "deep-2"),
    ("deep_rank8", "deep_rank16"),
    ("deep-qwen", "deep-llama"),
    ("deep_1000-2000", "deep_2000-3000"),
    ("deep_part1", "deep_part2"),
    ("deep_s1", "deep_s2"),
    ("2epochs", "3epochs"),
    ("deep-mix10-90", "deep-mix50-50"),
    ("1.5B", "7B"),
    ("deep_0.5", "deep_0.25"),
    ("deep_50pct", "deep_25pct"),
    ("user1--deep", "user2--deep"),
]


def row(problem: int, passed: bool) -> dict[str, Any]:
    return {"task_id": f"t/{problem}", "passed": passed}


def put(path: Path, shift: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row(n, (n + shift) % 2 == 0)) + "\n" for n in range(4)))


LAYOUTS = [
    "{}_checkpoint-{}.jsonl",
    "{}/checkpoint-{}/results.jsonl",
    "{}/checkpoint-{}.jsonl",
    "{}/deep/step_{}.jsonl",
    "{}/deep_step_{}.jsonl",
    "{}/preds/step_{}.jsonl",
    "checkpoint-{1}_{0}.jsonl",
    "deep/{}/checkpoint-{}/samples.jsonl",
]


@pytest.mark.parametrize("steps", [(100, 200), (100, 100)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_names_are_two_arms(one: str, other: str, layout: str, steps: tuple[int, int]) -> None:
    found = [
        names.of_outcomes(Path(layout.format(name, step)), {}, ("x", *Path(layout.format(name, step)).parts[:-1]))
        for name, step in zip((one, other), steps, strict=True)
    ]
    assert [each.step for each in found] == list(steps)
    arms = names.told_apart(found, {})
    if layout.startswith("{}/deep_") and steps[0] == steps[1] and f"{one}{other}".replace("-", "").isalpha():
        return  # an evaluation made twice: its verdicts are compared
    assert arms[0] != arms[1] and names.told_apart(found[::-1], {}) == arms[::-1]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_results_and_adapters_of_two_names(one: str, other: str, tmp_path: Path) -> None:
    for kind, write in (("results", put), ("peft", adapter)):
        for shift, (name, step) in enumerate(((one, 100), (other, 200), (one, 300))):
            leaf = "results.jsonl" if kind == "results" else "adapter_config.json"
            write(tmp_path / kind / name / f"checkpoint-{step}" / leaf, shift)
    summary = import_study([tmp_path / "results"], tmp_path / "run")
    by_step = {adapter.step: adapter.arm for adapter in summary.checkpoints}
    assert by_step[100] == by_step[300] != by_step[200] and len(summary.checkpoints) == 3
    assert any("read as 2 arms" in note for note in summary.notes) or one.split("_")[0] != other.split("_")[0]
    try:
        trained = import_study([tmp_path / "peft"], tmp_path / "run2").trained
    except KiyasError as error:
        assert "--arm" in error.hint
        return
    assert [[checkpoint.step for checkpoint in each.checkpoints] for each in trained] in (
        [[100, 300], [200]],
        [[200], [100, 300]],
    )


@functools.cache
def made() -> dict[str, bytes]:
    """The files of a real adapter."""
    with tempfile.TemporaryDirectory() as folder:
        model = AutoModelForCausalLM.from_pretrained(base_path(), dtype=torch.float32)
        config = peft.LoraConfig(r=1, init_lora_weights=False, target_modules=["q_proj"], task_type="CAUSAL_LM")
        peft.get_peft_model(model, config).save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).glob("adapter_*")}


def adapter(config: Path, _: int = 0) -> None:
    config.parent.mkdir(parents=True, exist_ok=True)
    for name, content in made().items():
        (config.parent / name).write_bytes(content)


@pytest.mark.parametrize(
    "files",
    [
        [
            "deep_checkpoint-100_part1.jsonl",
            "deep_checkpoint-100_part2.jsonl",
            "deep_checkpoint-200_shard-0-of-2.jsonl",
        ],
        ["deep_checkpoint-100_20251215_152158.jsonl", "deep_checkpoint-200_20251216_090000.jsonl"],
        ["deep_checkpoint-100_2408-2502_atcoder.jsonl", "deep_checkpoint-200_2305-2408_atcoder.jsonl"],
        ["deep_checkpoint-100_easy.jsonl", "deep_checkpoint-200_medium.jsonl"],
        [
            "deep/checkpoint-100/samples_humaneval_2025-12-01T10-00-00.1.jsonl",
            "deep/checkpoint-200/samples_humaneval_2025-12-02T11-00-00.2.jsonl",
        ],
        ["deep_seed-1_step-100.jsonl", "deep_seed-2_step-200.jsonl"],
        ["deep_checkpoint-100.jsonl", "deep_checkpoint-200 (1).jsonl"],
        ["results/deep_checkpoint-100.jsonl", "generations/deep_checkpoint-100.json"],
        [
            "deep/checkpoint-100/Scenario.codegeneration_1_0.0_eval_all.json",
            "deep/checkpoint-200/Scenario.codegeneration_10_0.2_eval_all.json",
        ],
        ["first/deep_checkpoint-100.jsonl", "second/deep_checkpoint-100.jsonl"],
    ],
)
def test_one_arm_stays_one(files: list[str]) -> None:
    found = [names.of_outcomes(Path(file), {}, ("x", *Path(file).parts[:-1])) for file in files]
    assert names.told_apart(found, {}) == ["deep"] * len(files)


@pytest.mark.parametrize(
    ("name", "arm", "step"),
    [
        ("deep/epoch-2/results.jsonl", "deep", 2),
        ("deep/epoch=2-step=300.jsonl", "deep", 300),
        ("deep/iter_0000500/results.jsonl", "deep", 500),
        ("deep/global_step100/results.jsonl", "deep", 100),
        ("deep/preds/checkpoint-100/results.jsonl", "preds", 100),
        ("deep/checkpoint-1k/results.jsonl", "deep", None),  # 1,000, or the first: nobody knows
        ("models--me--deep/snapshots/3fa9c2e1d0b4/results.jsonl", "me-deep", None),
        ("saves/Qwen2.5-Coder-1.5B/lora/train_2025-01-01-10-20-30/checkpoint-100.jsonl", "Qwen2.5-Coder-1.5B", 100),
        ("lora-out/deep/checkpoint-100.jsonl", "deep", 100),
    ],
)
def test_other_tools_names(name: str, arm: str, step: int | None) -> None:
    found = names.of_outcomes(Path(name), {}, ("x", *Path(name).parts[:-1]))
    assert (found.arm, found.step) == (arm, step)


@pytest.mark.parametrize(
    "leaf",
    [
        "best_model",
        "best_checkpoint",
        "checkpoint-best",
        "checkpoint_best",
        "best",
        "best-ckpt",
        "last",
        "checkpoint-last",
        "latest",
        "last.ckpt",
        "final",
        "final_adapter",
        "final_model",
        "checkpoint-final",
        "final-checkpoint",
        "lora_model",
        "lora_weights",
        "adapter",
        "adapter_model",
        "peft_model",
        "model_final",
        "weights",
    ],
)
def test_folders_that_only_say_which_checkpoint(leaf: str, tmp_path: Path) -> None:
    for arm in ("deep", "diverse"):
        adapter(tmp_path / "peft" / arm / leaf / "adapter_config.json")
        put(tmp_path / "results" / arm / leaf / "results.jsonl")
    trained = import_study([tmp_path / "peft"], tmp_path / "run").trained
    assert [(each.arm, len(each.checkpoints)) for each in trained] == [("deep", 1), ("diverse", 1)]
    assert "steps None" not in str(import_study([tmp_path / "peft"], tmp_path / "run"))
    found = import_study([tmp_path / "results"], tmp_path / "run2").checkpoints
    assert [each.arm for each in found] == ["deep", "diverse"]
    one = tmp_path / "one" / "deep" / leaf / "adapter_config.json"
    adapter(one)
    assert import_study([tmp_path / "one"], tmp_path / "run3").trained[0].arm == "deep"


def test_the_best_next_to_numbered_checkpoints(tmp_path: Path) -> None:
    for leaf in ("checkpoint-100", "checkpoint-200", "best_model", "last"):
        adapter(tmp_path / "peft" / "deep" / leaf / "adapter_config.json")
        put(tmp_path / "results" / "deep" / leaf / "results.jsonl")
    (trained,) = import_study([tmp_path / "peft"], tmp_path / "run").trained
    assert trained.arm == "deep" and [each.step for each in trained.checkpoints] == [100, 200]
    found = import_study([tmp_path / "results"], tmp_path / "run2").checkpoints
    assert {(each.arm, each.step) for each in found} == {
        ("deep", 100),
        ("deep", 200),
        ("deep-best", 0),
        ("deep-last", 0),
    }


def test_an_adapter_in_the_output_folder_itself_is_a_copy(tmp_path: Path) -> None:
    for leaf in ("checkpoint-100/", "checkpoint-200/", ""):
        adapter(tmp_path / "in" / "out" / f"{leaf}adapter_config.json")
    (trained,) = import_study([tmp_path / "in"], tmp_path / "run").trained
    assert [each.step for each in trained.checkpoints] == [100, 200]


def test_files_and_folders_of_one_name_are_one_arm(tmp_path: Path) -> None:
    put(tmp_path / "in" / "deep.jsonl")
    put(tmp_path / "in" / "deep" / "checkpoint-100.jsonl")
    put(tmp_path / "in" / "deep" / "checkpoint-200" / "results.jsonl")
    found = import_study([tmp_path / "in"], tmp_path / "run").checkpoints
    assert [(each.arm, each.step) for each in found] == [("deep", 0), ("deep", 100), ("deep", 200)]


def test_two_bases_are_not_joined(tmp_path: Path) -> None:
    for shift, name in enumerate(("base_model", "base_model_v2")):
        rows = [row(n, n != shift) for n in range(9)]
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    assert list(summary.solved.values()) == [(8, 9, 0)] and any("base_model_v2" in note for note in summary.notes)


def test_letters_survive(tmp_path: Path) -> None:
    for name in ("şeker", "çeker", "深度", "ÇığlıkĞÜÖ"):
        adapter(tmp_path / name / "checkpoint-100" / "adapter_config.json")
    decomposed = "s\u0327ahin"  # as macOS writes it
    adapter(tmp_path / decomposed / "checkpoint-100" / "adapter_config.json")
    summary = import_study([tmp_path], tmp_path / "run")
    assert {each.arm for each in summary.trained} == {"şeker", "çeker", "深度", "ÇığlıkĞÜÖ", "şahin"}
    from kiyas.study.file import load

    assert summary.study is not None and set(load(summary.study).arms) >= {"şeker", "çeker", "深度"}


def test_the_user_joins_what_the_names_part(tmp_path: Path) -> None:
    put(tmp_path / "in" / "deep_0101_checkpoint-100.jsonl")
    put(tmp_path / "in" / "deep_0202_checkpoint-200.jsonl", 1)
    apart = import_study([tmp_path / "in"], tmp_path / "run")
    assert [each.arm for each in apart.checkpoints] == ["deep-0101", "deep-0202"]
    said = next(note for note in apart.notes if "read as 2 arms" in note)
    assert "--arm 'deep-0101=deep' --arm 'deep-0202=deep'" in said
    for arm_of in ({"deep_": "deep"}, {"deep-0101": "deep", "deep-0202": "deep"}):
        joined = import_study([tmp_path / "in"], tmp_path / "run", arm_of=arm_of)
        assert [(each.arm, each.step) for each in joined.checkpoints] == [("deep", 100), ("deep", 200)]


@pytest.mark.parametrize("leaf", ["checkpoint-{}", "best_model", "checkpoint-{}/eval", "final/results"])
def test_sources_that_differ_above_them(leaf: str, tmp_path: Path) -> None:
    """`kiyas import runs/*/checkpoint-*/results.jsonl`, and the folders themselves."""
    files = []
    for arm, step in (("deep", 100), ("diverse", 200)):
        files.append(tmp_path / "runs" / arm / leaf.format(step) / "results.jsonl")
        put(files[-1], step // 100)
    for run, sources in (("a", files), ("b", [file.parent for file in files])):
        assert [each.arm for each in import_study(sources, tmp_path / run).checkpoints] == ["deep", "diverse"]
    for run, source in (("c", files[0]), ("d", files[0].parent)):
        if leaf.count("/") == 0:
            assert import_study([source], tmp_path / run).checkpoints[0].arm == "deep"


def test_arms_that_a_study_file_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    for name in ("🔥", "🌊"):
        adapter(tmp_path / "in" / name / "checkpoint-100" / "adapter_config.json")
    with pytest.raises(KiyasError, match="would both be called") as caught:
        import_study([tmp_path / "in"], tmp_path / "run")
    assert "--arm" in caught.value.hint and not (tmp_path / "run").exists()


def test_logs_go_with_the_arms_of_the_results(tmp_path: Path) -> None:
    for size, step in (("1k", 100), ("5k", 200)):
        put(tmp_path / "in" / f"deep-{size}_checkpoint-{step}.jsonl")
        (tmp_path / "in" / f"deep-{size}_training_log.csv").write_text(f"step,train_loss\n20,{1 + step / 1000}\n")
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    assert {each.arm for each in summary.checkpoints} == {arm for arm, _ in summary.losses} == {"deep-1k", "deep-5k"}


@pytest.mark.parametrize(("one", "other"), [("deep_lr1e-4", "deep_lr2e-4"), ("deep_1", "deep_2"), ("şeker", "çeker")])
@pytest.mark.parametrize("steps", [(20, 20), (20, 30), (20, 500)])
def test_logs_of_two_names_are_never_one(one: str, other: str, steps: tuple[int, int], tmp_path: Path) -> None:
    for shift, (name, step) in enumerate(zip((one, other), steps, strict=True)):
        (tmp_path / "in").mkdir(exist_ok=True)
        lines = "".join(f"{step + 20 * n},{1 + shift / 10}\n" for n in range(3))
        (tmp_path / "in" / f"{name}_log.csv").write_text("step,train_loss\n" + lines)
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    assert sorted(count for count, _ in summary.losses.values()) == [3, 3]


def test_logs_with_other_words_and_no_step_in_common_are_not_joined(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "deep_raw.csv").write_text("step,train_loss\n20,1.0\n40,0.9\n")
    (tmp_path / "in" / "deep_clean.csv").write_text("step,train_loss\n30,2.0\n50,1.9\n")
    (tmp_path / "in" / "deep_eval.csv").write_text("step,eval_loss\n30,2.0\n")
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    assert summary.losses == {("deep", 0): (3, 50)} or summary.losses == {("deep", 0): (3, 40)}
    assert any("no step in common" in note and "--arm" in note for note in summary.notes)
    assert summary.rows == "3 of 5 rows were used; 2 were left out because they belonged to another training (2)"


# -- links ------------------------------------------------------------------------------------------------------------


def test_the_hubs_cache_is_read(tmp_path: Path) -> None:
    for number, name in enumerate(("deep", "diverse")):
        repo = tmp_path / "hub" / f"models--me--{name}"
        adapter(repo / "made" / "adapter_config.json")
        (repo / "blobs").mkdir()
        snapshot = repo / "snapshots" / f"{number}a9f0c1d2e3b4a5f6a7b8c9d0e1f2a3b4c5d6e7f"
        snapshot.mkdir(parents=True)
        for n, file in enumerate(sorted((repo / "made").iterdir())):
            file.rename(repo / "blobs" / str(n))
            (snapshot / file.name).symlink_to(f"../../blobs/{n}")
        (repo / "made").rmdir()
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text(snapshot.name)
    for run, sources in (("a", [tmp_path / "hub"]), ("b", sorted((tmp_path / "hub").glob("*/snapshots/*")))):
        trained = import_study(sources, tmp_path / run).trained
        assert len(trained) == 2 and all(len(each.checkpoints) == 1 for each in trained)
        assert [each.arm.split("-")[-1] for each in trained] == ["deep", "diverse"]


def test_links_are_followed_and_nothing_is_read_twice(tmp_path: Path) -> None:
    put(tmp_path / "store" / "checkpoint-100.jsonl")
    put(tmp_path / "store2" / "checkpoint-200" / "results.jsonl")
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "checkpoint-100.jsonl").symlink_to(tmp_path / "store" / "checkpoint-100.jsonl")
    (tmp_path / "in" / "diverse").symlink_to(tmp_path / "store2")
    (tmp_path / "in" / "diverse" / "best").symlink_to("checkpoint-200")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    assert {(each.arm, each.step) for each in summary.checkpoints} == {("deep", 100), ("diverse", 200)}
    assert any("gone.jsonl" in note for note in summary.notes)
    named = import_study([tmp_path / "in" / "deep" / "checkpoint-100.jsonl"], tmp_path / "run2")
    assert [(each.arm, each.step) for each in named.checkpoints] == [("deep", 100)]


WORDS = st.lists(
    st.sampled_from(
        ["deep", "lr1e-4", "lr2e-4", "1k", "5k", "v1", "v2", "run", "2025-01-01", "ş", "ç", "abc123f", "7", "x", "best"]
    ),
    min_size=1,
    max_size=4,
)


@given(one=WORDS, other=WORDS, joint=st.sampled_from("_-. "), first=st.integers(1, 999), second=st.integers(1, 999))
def test_names_of_one_arm_say_the_same(one: list[str], other: list[str], joint: str, first: int, second: int) -> None:
    """Two checkpoints of one training: the same name and arm; another name: another arm, or a refusal."""
    paths = [
        f"{joint.join(words)}/checkpoint-{step}/results.jsonl" for words in (one, other) for step in (first, second)
    ]
    found = [names.of_outcomes(Path(path), {}, ("in", *Path(path).parts[:-1])) for path in paths]
    try:
        arms = names.told_apart(found, {})
    except KiyasError as error:
        assert "--arm" in error.hint
        return
    assert arms[0] == arms[1] and arms[2] == arms[3]
    noise = {"run"}
    assert (arms[0] == arms[2]) == ([w for w in one if w not in noise] == [w for w in other if w not in noise]) or (
        one == other or set(one) ^ set(other) <= noise
    )


def test_an_evaluation_elsewhere_that_says_otherwise_is_left_out(tmp_path: Path) -> None:
    for shift, folder in enumerate(("old", "new")):
        rows = [row(n, n != shift) for n in range(9)]  # most verdicts agree
        path = tmp_path / "in" / folder / "deep_checkpoint-100.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    assert list(summary.solved.values()) == [(8, 9, 0)]
    assert any(
        "old/deep_checkpoint-100.jsonl: 2 of 9 rows answer" in note and "--arm" in note for note in summary.notes
    )
    with pytest.raises(KiyasError, match="answered otherwise"):
        import_study(sorted((tmp_path / "in").glob("*/*")), tmp_path / "run2")


@pytest.mark.parametrize("file", ["r.jsonl", "out/preds.jsonl", "eval/inference/r.jsonl"])
def test_a_folder_further_out_is_the_name(file: str, tmp_path: Path) -> None:
    for arm in ("şeker", "çeker"):
        put(tmp_path / "in" / arm / "checkpoint-100" / file)
        (tmp_path / "in" / f"{arm}_log.csv").write_text("Adım,Eğitim Kaybı\n20,0.9\n", encoding="utf-8")
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    assert {each.arm for each in summary.checkpoints} == {arm for arm, _ in summary.losses} == {"şeker", "çeker"}


def test_the_order_of_files_does_not_matter(tmp_path: Path) -> None:
    paths = [Path(f"x/deep_{size}/checkpoint-{step}.jsonl") for size in ("1k", "5k") for step in (100, 200)]
    found = [names.of_outcomes(path, {}, path.parts[:-1]) for path in paths]
    expected = dict(zip(paths, names.told_apart(found, {}), strict=True))
    for order in itertools.permutations(range(len(paths))):
        arms = names.told_apart([found[at] for at in order], {})
        assert {paths[at]: arm for at, arm in zip(order, arms, strict=True)} == expected
    assert set(expected.values()) == {"deep-1k", "deep-5k"}
