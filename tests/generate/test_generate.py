"""Batched decoding against the dull references: transformers' own generate with PEFT, one problem at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch

import tiny
from kiyas.generate import memory
from kiyas.generate.decoder import Flight, Generator, NotAppliedError
from kiyas.generate.stage import generate_part, part_file
from kiyas.generate.work import WAVE, Job, Question, waves
from kiyas.model import checkpoints
from kiyas.model.adapters import AdapterStack, Spec, StackedLinear, StackedModel
from kiyas.model.base import Base
from kiyas.study.settings import Generation
from kiyas.types import BASE, AdapterId, Completion
from kiyas.work.engine import Place

IDS = [BASE, AdapterId("x", "", 0, 10), AdapterId("x", "", 0, 20), AdapterId("y", "", 0, 20)]
QUESTIONS = [Question(f"p{i}", s.ids[: s.start]) for i, s in enumerate(tiny.samples(9, 7, longest=40))]


def stack(model: StackedModel, device: torch.device) -> AdapterStack:
    made = AdapterStack(IDS, [Spec(1, 1), Spec(4, 8), Spec(4, 8), Spec(2, 6)], model.sites, device)
    noise = torch.Generator().manual_seed(3)
    for k in range(1, 4):
        rank = made.specs[k].rank
        for site in model.sites:
            a = torch.randn(rank, site.inputs, generator=noise) * 0.2
            made.set(k, site, a, torch.randn(site.outputs, rank, generator=noise) * 0.2)
    return made


def answers(family: str, rows: int, padded: bool = False, **settings: Any) -> dict[Any, Completion]:
    base = tiny.base(family)
    if padded and base.packed:
        base.model.set_attn_implementation("sdpa")
        base.packed = False
    model = StackedModel(base.model)
    chosen = Generation(max_new_tokens=40, **settings)
    generator = Generator(base, model, stack(model, base.device), chosen)
    generator.canary(QUESTIONS[0])
    made = [
        completion
        for wave in waves(len(IDS), QUESTIONS, chosen.num_samples, rows)
        for completion in generator.answer(wave, rows)
    ]
    assert len({c.key for c in made}) == len(made) == len(IDS) * len(QUESTIONS) * chosen.num_samples
    return {c.key: c for c in made}


@pytest.mark.parametrize("family", list(tiny.CONFIGS))
def test_greedy_equals_transformers_generate(family: str, tmp_path: Path) -> None:
    ours = answers(family, rows=12)
    assert len({c.stop for c in ours.values()}) == 2, "the case should hold both endings"
    base = tiny.base(family)
    model = StackedModel(base.model)
    weights = stack(model, base.device)
    for k, id in enumerate(IDS):
        reference: Any = tiny.model(family)
        if not id.is_base:
            checkpoints.save_adapter(tmp_path / str(k), weights, k, model, "tiny", 0.0)
            reference = peft.PeftModel.from_pretrained(reference, str(tmp_path / str(k))).eval()
        for question in QUESTIONS:
            ids = torch.tensor([question.prompt])
            out = reference.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=40
            )[0, ids.shape[1] :].tolist()
            mine = ours[(id, question.problem_id, 0)]
            ended = out[-1] in tiny.STOPS
            expected = base.chat.text(out[:-1] if ended else out)
            assert mine.text == expected or near_tie(reference, question, base, out, mine), (id, question)
            if mine.text == expected:
                assert mine.tokens == len(out)
                assert (mine.stop == "eos") == ended


def near_tie(reference: Any, question: Question, base: Base, out: list[int], mine: Completion) -> bool:
    """Whether the reference's two best logits lie within 1e-4 where the answers part."""
    got = base.chat.tokenizer(mine.text, add_special_tokens=False)["input_ids"]
    same = next((i for i, (a, b) in enumerate(zip(out, got, strict=False)) if a != b), min(len(out), len(got)))
    with torch.no_grad():
        logits = reference(input_ids=torch.tensor([[*question.prompt, *out[:same]]])).logits[0, -1]
    best = logits.topk(2).values
    return bool(best[0] - best[1] < 1e-4)


def test_more_adapters_than_rows_are_taken_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`max_rows` bounds what is in flight, whatever the number of adapters; the answers stay the same."""
    from kiyas.runfolder.files import read_jsonl, write_jsonl
    from kiyas.runfolder.paths import RunDir
    from kiyas.study.settings import Study

    folder, base = RunDir(tmp_path / "run"), tiny.save(tmp_path / "base")
    model = StackedModel(tiny.base().model)
    weights = stack(model, torch.device("cpu"))
    for k, id in enumerate(IDS):
        checkpoints.save_adapter(folder.checkpoints / id.folder, weights, k, model, "tiny", 0.0)
    write_jsonl(folder.problems, [{"id": f"p{i}", "statement": f"Print {i}"} for i in range(5)])
    settings = {
        "name": "t",
        "model_name_or_path": str(base),
        "arms": {"x": {"dataset_name": "x"}},
        "generation": {"max_new_tokens": 20, "max_rows": 20},
    }
    flown: list[int] = []
    made = Flight.__init__

    def spy(self: Any, generator: Any, wave: Any, slots: int) -> None:
        made(self, generator, wave, slots)
        flown.append(len(self.jobs))

    monkeypatch.setattr(Flight, "__init__", spy)
    texts = []
    for part, rows in enumerate((20, 3)):
        settings["generation"] = {"max_new_tokens": 20, "max_rows": rows}
        study = Study.model_validate(settings).model_dump(mode="json")
        generate_part(
            Place(str(folder.root), "cpu"),
            study,
            [[*id.fields().values()] for id in IDS],
            None,
            part,
            [],
            lambda n, t: None,
        )
        found = read_jsonl(part_file(folder, part))
        texts.append({(r["arm"], r["step"], r["problem_id"]): r["text"] for r in found})
        assert max(flown) <= rows
        flown.clear()
    assert len(texts[0]) == 20 and texts[0] == texts[1]


@pytest.mark.parametrize("rows", [4, 8, 36, 1000])
def test_greedy_does_not_depend_on_the_number_of_rows(rows: int) -> None:
    assert answers("qwen2", rows) == answers("qwen2", 16)


def test_sampling_is_a_function_of_who_answers_what() -> None:
    settings: dict[str, Any] = {"temperature": 0.8, "top_p": 0.9, "num_samples": 3}
    slots = answers("qwen2", 12, **settings)
    assert slots == answers("qwen2", 50, **settings)
    assert slots == answers("qwen2", 20, padded=True, **settings)
    assert slots != answers("qwen2", 12, **settings, seed=1)
    texts = [[slots[(id, q.problem_id, s)].text for s in range(3)] for id in IDS for q in QUESTIONS]
    assert sum(len(set(three)) == 3 for three in texts) > len(texts) / 2


def test_sampling_follows_the_distribution() -> None:
    base = tiny.base()
    model = StackedModel(base.model)
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0]).expand(40_000, 4)
    uniform = (torch.arange(40_000) + 0.5) / 40_000
    for top_p, expected in ((1.0, torch.softmax(logits[0] / 0.7, 0)), (0.8, None)):
        chosen = Generator(base, model, stack(model, base.device), Generation(temperature=0.7, top_p=top_p))
        seen = torch.bincount(chosen._choose(logits, uniform), minlength=4) / 40_000
        if expected is None:  # the nucleus of 0.8 is the first two
            two = torch.softmax(logits[0] / 0.7, 0)[:2]
            expected = torch.tensor([*(two / two.sum()), 0.0, 0.0])
        assert torch.allclose(seen, expected, atol=1e-3)


@pytest.mark.parametrize("padded", [False, True])
def test_tokens_chosen_for_a_few_rows_at_a_time_are_the_same(padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits of all rows at once would not fit beside a large vocabulary."""
    settings: dict[str, Any] = {"temperature": 0.8, "top_p": 0.9, "num_samples": 3}
    expected = answers("qwen2", 12, padded, **settings)
    monkeypatch.setattr(memory, "CHOICE_BYTES", 5 * tiny.VOCABULARY * memory.choice_bytes(sampled=True))
    assert memory.rows_chosen_at_once(tiny.VOCABULARY, True) == 5
    assert answers("qwen2", 12, padded, **settings) == expected


def test_canary_finds_an_adapter_that_is_not_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny.base()
    model = StackedModel(base.model)
    generator = Generator(base, model, stack(model, base.device), Generation())
    generator.canary(QUESTIONS[0])
    monkeypatch.setattr(StackedLinear, "forward", lambda self, x: self.base(x))
    with pytest.raises(NotAppliedError, match=r"x/seed-0/step-000010"):
        generator.canary(QUESTIONS[0])


def test_waves_hold_every_answer_once_and_are_balanced() -> None:
    made = waves(3, QUESTIONS, 2, rows=6)
    jobs = [job for wave in made for job in wave]
    assert len(set(jobs)) == len(jobs) == 3 * 9 * 2
    assert all(len(wave) <= WAVE * 6 for wave in made)
    assert all(len({sum(job.k == k for job in wave) for k in range(3)}) == 1 for wave in made)


@pytest.mark.parametrize("family", list(tiny.CONFIGS))
def test_checkpoints_load_in_peft_with_equal_logits(family: str, tmp_path: Path) -> None:
    base = tiny.base(family)
    model = StackedModel(base.model)
    weights = stack(model, base.device)
    ids = torch.tensor([QUESTIONS[0].prompt])
    folders: list[tuple[AdapterId, Path | None]] = []
    for k, id in enumerate(IDS):
        checkpoints.save_adapter(tmp_path / str(k), weights, k, model, "tiny", 0.1)
        folders.append((id, tmp_path / str(k)))
    again = checkpoints.load_stack(folders, model, base.device, base.model.dtype)
    assert again.moved() == weights.moved() == [False, True, True, True]
    for site in model.sites:
        assert torch.equal(again.a(site.name), weights.a(site.name))
        assert torch.equal(again.scaled_b(site.name, torch.float32), weights.scaled_b(site.name, torch.float32))
    for k in range(1, len(IDS)):
        theirs = peft.PeftModel.from_pretrained(tiny.model(family), str(tmp_path / str(k))).eval()
        with torch.no_grad():
            expected = theirs(input_ids=ids).logits[0]
            model.stack = weights.select([k])
            from kiyas.model.batches import pack
            from kiyas.types import TokenizedExample

            batch = pack([[TokenizedExample(QUESTIONS[0].prompt, 1)]])
            layout = batch.layout if base.packed else None
            hidden = base.hidden(ids, batch.positions, torch.ones_like(ids) if layout is None else None, layout)
            got = base.logits(hidden)
        assert torch.allclose(got, expected, atol=1e-4)
        assert not torch.allclose(tiny.model(family)(input_ids=ids).logits[0], expected, atol=1e-2)


def test_filling_at_a_rows_end_may_be_longer_than_the_cache() -> None:
    """One adapter refills many slots while another refills few: its row is mostly filling."""
    base = tiny.base()
    model = StackedModel(base.model)
    generator = Generator(base, model, stack(model, base.device), Generation(max_new_tokens=3))
    question = Question("p", tuple(range(1, 60)))
    wave = [Job(0, question, s) for s in range(12)] + [Job(3, question, 0)]
    made = list(generator.answer(wave, 48))
    assert len(made) == 13 and len({c.text for c in made if c.adapter.is_base}) == 1
