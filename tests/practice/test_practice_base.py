"""The shipped base model: it loads, it answers, its tokenizer is exact, and it says where it comes from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from kiyas.practice import DATASETS, base_path, benchmark, dataset

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from kiyas.practice import make_base  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(base_path(), local_files_only=True)


@pytest.fixture(scope="module")
def model() -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(base_path(), local_files_only=True, dtype=torch.float32)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [row for name in DATASETS for row in dataset(name)]


def chat(tokenizer: Any, messages: list[dict[str, str]], generate: bool) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate))


def test_the_folder_is_whole_small_and_what_its_provenance_says() -> None:
    folder = base_path()
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
        "provenance.json",
    }
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_500_000
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    for name, sha256 in provenance["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
    assert {"recipe", "versions", "final_completion_loss", "benchmark_41", "license"} <= set(provenance)


def test_no_path_of_the_maker_is_left_in_the_folder() -> None:
    for path in base_path().glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert "/home" not in text and "/tmp" not in text and "/work" not in text, path.name


def test_every_prompt_and_answer_goes_through_the_tokenizer_and_back(
    tokenizer: Any, rows: list[dict[str, Any]]
) -> None:
    texts = {row["prompt"] for row in rows} | {row["completion"] for row in rows}
    texts |= {row["statement"] for row in benchmark(200)}
    texts |= {"Kıyas: ölçüp biçmek 😀\t\n\n   x  y", "a\r\nb", "  leading", "trailing  ", ""}
    for text in sorted(texts):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_file_and_the_loaded_tokenizer_cut_alike(tokenizer: Any, rows: list[dict[str, Any]]) -> None:
    """transformers rebuilds the tokenizer by the model's type; the plain file must mean the same."""
    plain = transformers.PreTrainedTokenizerFast(tokenizer_file=str(base_path() / "tokenizer.json"))
    for row in rows[::25]:
        for text in (row["prompt"], row["completion"]):
            assert plain(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_prompts_and_answers_are_short(tokenizer: Any, rows: list[dict[str, Any]]) -> None:
    statements = [row["prompt"] for row in rows] + [row["statement"] for row in benchmark(300)]
    prompts = [chat(tokenizer, [{"role": "user", "content": text}], True) for text in statements]
    prompt_tokens = [len(ids) for ids in tokenizer(prompts)["input_ids"]]
    assert max(prompt_tokens) <= 110 and 55 <= sum(prompt_tokens) / len(prompt_tokens) <= 80
    answer_tokens = [len(ids) for ids in tokenizer([row["completion"] for row in rows])["input_ids"]]
    assert max(answer_tokens) <= 100 and sum(answer_tokens) / len(answer_tokens) <= 60


def test_chat_is_qwens_chatml_without_a_default_system_message(tokenizer: Any) -> None:
    user = {"role": "user", "content": "Q"}
    assert chat(tokenizer, [user], True) == "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
    system = {"role": "system", "content": "S"}
    assert chat(tokenizer, [system, user], True).startswith("<|im_start|>system\nS<|im_end|>\n<|im_start|>user")
    answered = chat(tokenizer, [user, {"role": "assistant", "content": "A"}], False)
    assert answered == "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"


def test_special_tokens_are_single_and_distinct(tokenizer: Any) -> None:
    assert tokenizer.pad_token == "<|endoftext|>" and tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        assert len(tokenizer(text)["input_ids"]) == 1
    assert all(len(tokenizer(digit)["input_ids"]) == 1 for digit in "0123456789")
    assert len(tokenizer("2026")["input_ids"]) == 4


def test_prompt_and_answer_cut_apart_as_together(tokenizer: Any, rows: list[dict[str, Any]]) -> None:
    """So that the loss can start exactly at the answer."""
    for row in rows[::50]:
        messages = [{"role": "user", "content": row["prompt"]}]
        head = chat(tokenizer, messages, True)
        whole = chat(tokenizer, [*messages, {"role": "assistant", "content": row["completion"]}], False)
        tail = whole.removeprefix(head)
        assert tokenizer(head)["input_ids"] + tokenizer(tail)["input_ids"] == tokenizer(whole)["input_ids"]


def test_it_answers_with_a_program_and_an_end_of_turn(tokenizer: Any, model: Any) -> None:
    prompts = [row["statement"] for row in benchmark(12)]
    heads = [chat(tokenizer, [{"role": "user", "content": text}], True) for text in prompts]
    batch = tokenizer(heads, return_tensors="pt", padding=True, padding_side="left")
    with torch.no_grad():
        out = model.generate(**batch, max_new_tokens=160)
    answered = out[:, batch["input_ids"].shape[1] :]
    assert all(tokenizer.eos_token_id in row for row in answered.tolist())
    assert all("print(" in text for text in tokenizer.batch_decode(answered))


def test_it_solves_some_problems_and_not_half(tokenizer: Any, model: Any) -> None:
    verdicts = make_base.measure(model, tokenizer, 41)
    assert 0 < verdicts["AC"] < 41 / 2, verdicts


def test_quick_training_from_nothing_learns_and_is_repeatable(tmp_path: Path) -> None:
    """A handful of steps of the real recipe: the loss falls, and the same seed gives the same batches."""
    recipe = make_base.Recipe(examples=16 * 12, vocabulary=400, vocabulary_examples=200, warmup_steps=4)
    tokenizer = make_base.make_tokenizer(recipe)
    first = [tokens.tolist() for tokens, _, _ in make_base.batches(recipe, tokenizer)]
    assert first == [tokens.tolist() for tokens, _, _ in make_base.batches(recipe, tokenizer)]
    assert len(first) == recipe.steps
    model = make_base.make_model(recipe, tokenizer)
    assert make_base.pretrain(recipe, tokenizer, model)["final_completion_loss"] < 5.5


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_base_can_be_made_again(tmp_path: Path) -> None:
    """Minutes: the whole recipe, and what comes out is as good as what is shipped."""
    shipped = json.loads((base_path() / "provenance.json").read_text(encoding="utf-8"))
    made = make_base.make(tmp_path / "base", make_base.Recipe(), threads=1)
    assert made["sha256"]["tokenizer.json"] == shipped["sha256"]["tokenizer.json"]
    assert abs(made["final_completion_loss"] - shipped["final_completion_loss"]) < 0.02
    assert 0 < made["benchmark_41"]["AC"] < 41 / 2
