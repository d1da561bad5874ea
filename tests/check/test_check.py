"""`kiyas check`: it finds what was planted, agrees with dull references, and says nothing of clean data."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from safetensors.torch import save_file

import tiny
from kiyas import practice
from kiyas.analyse import provenance
from kiyas.check import Checked, chat_template, check, costs, design, leaks, page, remarks
from kiyas.check.cluster import Training
from kiyas.cli import main
from kiyas.data.arms import ArmData
from kiyas.data.chat import Chat
from kiyas.model import meter
from kiyas.pipeline import measure, mistakes, stages
from kiyas.pipeline.looks import clusters
from kiyas.pipeline.prepare import unexpected
from kiyas.runfolder.files import read_json, read_sealed
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.similarity import contamination, looks, near_duplicates
from kiyas.similarity.shared_rows import shared_rows
from kiyas.stats import inference, planning
from kiyas.stats.random_effects import two_way
from kiyas.study.settings import Study
from kiyas.types import Example, KiyasError

Row = dict[str, Any]
PRACTICE = {"deep": {"dataset_name": "practice/deep"}, "diverse": {"dataset_name": "practice/diverse"}}


def study(arms: Row | None = None, **more: Any) -> Study:
    given = {
        "name": "t",
        "model_name_or_path": "practice",
        "arms": arms or PRACTICE,
        "training": {"budget": {"steps": 4}, "max_length": 256},
        "judge": {"isolation": "best"},
        **more,
    }
    return Study.model_validate(given)


def codes(checked: Checked, level: remarks.Level = remarks.Level.WARNING) -> list[str]:
    return [remark.code for remark in checked.remarks if remark.level is level]


def remark(checked: Checked, code: str) -> Row:
    (found,) = [each.values for each in checked.remarks if each.code == code]
    return found


@pytest.fixture(scope="module")
def clean() -> Checked:
    training = {"budget": {"steps": 240}, "learning_rate": 1e-2, "save_steps": 80, "max_length": 256}
    return check(study(seeds=2, training=training, generation={"max_new_tokens": 160}))


@pytest.fixture(scope="module")
def planted_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Practice rows with one of everything wrong, in files under swapped names."""
    folder = tmp_path_factory.mktemp("planted")
    deep, diverse = practice.dataset("deep")[:300], practice.dataset("diverse")[:300]
    problems = practice.benchmark(12)
    for number, row in enumerate(deep):  # five solutions a problem; by its row the split is random
        row["split"] = "validation" if number % 10 == 0 else "train"
    deep[6] |= {"prompt": problems[2]["statement"]}
    deep[7] |= {"prompt": "Solve this.\n" + problems[3]["statement"] + "\nThink first."}
    deep[8] |= {"prompt": problems[4]["statement"].replace("Output the sum", "Output their sum")}
    diverse[5] |= {"completion": "```python\ndef f(:\n```"}
    diverse[6] |= {"completion": "no program here, sorry"}
    diverse += [{**diverse[7], "id": "again"}, {**diverse[8], "id": "nearly", "prompt": diverse[8]["prompt"] + " Now."}]
    for number, row in enumerate(diverse):
        row["split"] = "validation" if number < 3 else "train"
    for row in diverse[20:60]:
        row["completion"] = "<think>\nhm\n</think>\n" + row["completion"]
    (folder / "diverse.jsonl").write_text("\n".join(map(json.dumps, deep)))
    (folder / "many.jsonl").write_text("\n".join(map(json.dumps, diverse)))
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, problems)))
    arms = {
        "deep": {"dataset_name": str(folder / "diverse.jsonl")},
        "diverse": {"dataset_name": str(folder / "many.jsonl")},
    }
    return study(
        arms,
        seeds=1,
        benchmarks={"primary": {"dataset": str(folder / "p.jsonl")}},
        generation={"max_new_tokens": 40},
    )


@pytest.fixture(scope="module")
def planted(planted_study: Study) -> Checked:
    return check(planted_study)


def test_it_reproduces_what_the_generator_knows(clean: Checked) -> None:
    deep, diverse = clean.arms["deep"], clean.arms["diverse"]
    assert (deep.trained.rows, deep.trained.problems) == (1000, 200)
    assert (deep.trained.solutions_per_problem, deep.trained.approaches_per_problem) == (5, 5)
    assert (diverse.trained.rows, diverse.trained.problems) == (1000, 1000)
    assert (diverse.trained.solutions_per_problem, diverse.trained.approaches_per_problem) == (1, 1)
    assert deep.read is not None and (deep.read.rows, deep.read.problems) == (1065, 213)
    for arm in (deep, diverse):
        assert arm.fenced == arm.read.rows  # type: ignore[union-attr]
        assert not (arm.unparsed or arm.no_program or arm.duplicates or arm.near_duplicates or arm.thinking)
    assert not any(each.most for each in (*clean.own_overlaps, *clean.left_overlaps))
    assert not any(each.found for each in clean.contamination)
    assert codes(clean) == []


def test_a_planted_leak(planted: Checked) -> None:
    values = next(r.values for r in planted.remarks if r.code == "split_leak" and r.values["arm"] == "deep")
    assert (values["found"], values["problems"]) == (30, 30)
    text = page.page(planted)
    assert "30 of 30 validation problems are also in the training set" in text
    assert "split_column: none" in text


def test_planted_contamination(planted: Checked) -> None:
    (found,) = [each for each in planted.contamination if each.arm == "deep"]
    assert {match.problem: match.row for match in found.exact} == {
        "practice-0-0002": practice.dataset("deep")[6]["id"],
        "practice-0-0003": practice.dataset("deep")[7]["id"],
    }
    assert [match.problem for match in (*found.ngram, *found.near)] == ["practice-0-0004"]
    assert not next(each.found for each in planted.contamination if each.arm == "diverse")


def test_planted_rows(planted: Checked) -> None:
    assert planted.arms["diverse"].duplicates == ("again",)
    assert planted.arms["diverse"].near_duplicates == ("nearly",)
    ids = [row["id"] for row in practice.dataset("diverse")]
    assert planted.arms["diverse"].unparsed == (ids[5],) and planted.arms["diverse"].no_program == (ids[6],)
    assert planted.arms["diverse"].thinking == 40
    wanted = {"swapped_name", "split_leak", "contaminated", "cut_answers", "thinking_differs", "one_seed"}
    assert wanted <= set(codes(planted))
    assert {"unparsed", "no_program", "duplicates", "near_duplicates"} <= set(codes(planted, remarks.Level.NOTE))
    assert remark(planted, "swapped_name") | {"source": ""} == {"arm": "deep", "source": "", "other": "diverse"}


def test_humanevals_own_solutions(tmp_path: Path, shared_data: Path) -> None:
    path = tmp_path / "h.jsonl"
    with gzip.open(shared_data / "humaneval" / "HumanEval.jsonl.gz", "rt") as file:
        lines = [next(file) for _ in range(20)]
    path.write_text("".join(lines))
    rows = [json.loads(line) for line in lines]
    from kiyas.data import benchmarks
    from kiyas.study.settings import Benchmark

    benchmark = Benchmark(dataset=str(path))
    solutions = benchmarks.solutions(benchmark)
    assert solutions == {row["task_id"]: row["canonical_solution"] for row in rows}
    stolen = Example("r", "Write it.", f"```python\ndef g(x):\n{rows[0]['canonical_solution']}```", "g")
    (found,) = contamination.contamination("b", benchmarks.read(benchmark), solutions, {"a": [stolen]})
    assert [(match.problem, match.row) for match in found.solution] == [("HumanEval/0", "r")]
    assert found.found == ["HumanEval/0"]


def test_what_was_expected() -> None:
    counts = {"a": {"groups": 100, "solutions_per_group": 5.0}}
    for expect, told in (
        ({"problems": 100, "solutions": 5.2}, []),
        ({"problems": 120, "solutions": 1}, ["problems", "solutions"]),
    ):
        settings_ = study({"a": {"dataset_name": "practice/deep", "expect": expect}})
        found = remarks.arm_remarks(settings_, {}, {}, unexpected(settings_, counts))
        assert [each.values["what"] for each in found if each.code == "not_as_expected"] == told


@pytest.mark.parametrize(
    ("source", "warned"),
    [
        ("practice/diverse", True),
        ("Naholav/CodeGen-Diverse-5K", True),
        ("Naholav/CodeGen-Deep-5K", False),
        ("x.jsonl", False),
        ("deep-and-diverse.jsonl", False),
    ],
)
def test_names_that_contradict(source: str, warned: bool) -> None:
    counted = measure.Rows(1, 1, 1.0, 1.0)
    arms = {
        "deep": SimpleNamespace(source=source, derived=False, read=counted, trained=counted),
        "diverse": SimpleNamespace(source="y.jsonl", derived=False, read=counted, trained=counted),
    }
    assert bool(list(remarks._swapped(arms))) is warned  # type: ignore[arg-type]


def test_grids_derived_arms_other_benchmarks_and_expectations_are_counted(tmp_path: Path) -> None:
    human = {
        "task_id": "HumanEval/0",
        "prompt": 'from typing import List\n\n\ndef f(numbers: List[int]) -> int:\n    """ The sum of the even ones, '
        'doubled, or minus seventeen where the list has none of them at all and is not empty either.\n    """\n',
        "entry_point": "f",
        "canonical_solution": "    return 2 * sum(n for n in numbers if n % 2 == 0)\n",
        "test": "def check(c): assert c([2]) == 4",
    }
    (tmp_path / "human.jsonl").write_text(json.dumps(human) + "\n")
    leaked = {"id": "leak", "prompt": human["prompt"], "completion": "```python\n1\n```"}
    rows = [*practice.dataset("deep")[:400], leaked]
    (tmp_path / "deep.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = check(
        study(
            {
                "deep": {"dataset_name": str(tmp_path / "deep.jsonl"), "expect": {"problems": 200}},
                "one": {"from": "deep", "solutions": 1},
            },
            seeds=2,
            dataset={"split_column": "none", "validation_fraction": 0.01},
            training={"budget": {"steps": 4}, "learning_rate": [1e-3, 1e-2], "save_steps": 2},
            benchmarks={"primary": {"dataset": "practice", "problems": 5}, "also": [str(tmp_path / "human.jsonl")]},
        )
    )
    assert found.benchmarks == {"practice": 5, "human": 1}
    leak = remark(found, "contaminated")
    assert (leak["benchmark"], leak["ids"], leak["arm"]) == ("human", ["HumanEval/0"], "deep")
    assert remark(found, "not_as_expected")["found"] == pytest.approx(81, abs=1)
    # 2 arms × 2 seeds × 2 rates × 2 saves.
    assert found.costs is not None
    assert (found.costs.checkpoints, found.costs.answers) == (16, 17 * 6)
    assert found.arms["one"].derived and found.design[0].problems == 5
    assert "human" in page.page(found)


PAIR = {"A": (2, 96), "B": (96, 2)}


def test_a_study_of_given_checkpoints_is_checked(tmp_path: Path) -> None:
    folder, module = tmp_path / "a" / "checkpoint-5", "model.layers.0.self_attn.q_proj"
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": 2, "base_model_name_or_path": "practice", "target_modules": [module]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    pair = {f"base_model.model.{module}.lora_{part}.weight": torch.ones(shape) for part, shape in PAIR.items()}
    save_file(pair, folder / "adapter_model.safetensors")
    found = check(study({"a": {"checkpoints": str(tmp_path / "a")}}, seeds=1, generation={"max_new_tokens": 16}))
    assert found.costs is not None
    assert (found.costs.checkpoints, found.costs.answers, found.arms) == (1, 2 * 41, {})
    text = page.page(found)
    assert "programs" in text and "1 arm, given; nothing is trained" in text and "  Answering " in text
    assert found.costs.train_s == 0 and "Training " not in text and "training " not in text.replace("training on", "")
    assert "\n\n\n" not in text and "held out" not in text


def test_the_shape_and_a_row_as_the_model_sees_it(clean: Checked) -> None:
    assert clean.arms["deep"].shape == "prompt, completion"
    row = next(row for row in practice.dataset("deep") if row["completion"][:20] in clean.shown["deep"])
    shown = clean.shown["deep"]
    learned = shown.partition(">>>")[2]
    assert learned.startswith(row["completion"][:20]) and learned.endswith("<<<") and row["prompt"][:20] in shown
    text = page.page(clean)
    assert "recognised as" in text and "One row of deep as the model sees it" in text and ">>>" in text


# -- texts, against dull references ---------------------------------------------------------------------------------


def edited(words: list[str], edits: int, noise: random.Random) -> str:
    made = list(words)
    for place in noise.sample(range(len(words)), edits):
        made[place] = f"new{noise.randrange(10**6)}"
    return " ".join(made)


def test_minhash_against_exact_jaccard() -> None:
    noise = random.Random(0)
    originals = [[f"w{noise.randrange(2000)}" for _ in range(120)] for _ in range(60)]
    all_texts = [" ".join(words) for words in originals]
    all_texts += [edited(words, edits, noise) for words in originals for edits in (1, 3, 6, 12)]
    sets = [near_duplicates.shingles(text) for text in all_texts]
    dull: list[int] = []
    for i in range(len(sets)):
        near = (
            k for k in range(i) if dull[k] == k and near_duplicates.jaccard(sets[i], sets[k]) >= near_duplicates.NEAR
        )
        dull.append(next(near, i))
    found = near_duplicates.leaders(all_texts)
    assert all(a in (b, i) for i, (a, b) in enumerate(zip(found, dull, strict=True))), "never near when it is not"
    missed = sum(a != b for a, b in zip(found, dull, strict=True))
    assert sum(k != i for i, k in enumerate(dull)) >= 120 and missed <= 3


def test_ngrams_against_every_window() -> None:
    noise = random.Random(1)
    common = [f"c{i}" for i in range(30)]
    statements = [[*common, *(f"s{n}w{i}" for i in range(60))] for n in range(3)]
    whole, part = " ".join(["ask", *statements[0], "end"]), " ".join(statements[1][:60])
    given_texts = [" ".join(common), whole, part, " ".join(noise.choices(statements[2], k=90))]
    found = near_duplicates.covered([" ".join(words) for words in statements], enumerate(given_texts))
    assert [hit and hit.key for hit in found] == [1, 2, None]
    windows = {" ".join(statements[0][i : i + near_duplicates.NGRAM]) for i in range(90 - near_duplicates.NGRAM + 1)}
    held = [window for window in windows if window in whole and not all(word[0] == "c" for word in window.split())]
    assert len(held) == 60 and found[0] is not None and found[0].share == pytest.approx(72 / 90)


def shares(statements: list[str], prompts: list[str]) -> list[float]:
    return [hit.share if hit else 0.0 for hit in near_duplicates.covered(statements, enumerate(prompts))]


def test_practice_benchmarks_are_clean_whatever_their_size() -> None:
    prompts = list(dict.fromkeys(row["prompt"] for name in ("deep", "diverse") for row in practice.dataset(name)))
    for count in (500, 41):
        statements = [row["statement"] for row in practice.benchmark(count)]
        assert max(share for share in shares(statements, prompts)) < near_duplicates.COVERED
    with_two = [*prompts, statements[5], f"Do it.\n{statements[7]}\nThink."]
    assert [i for i, share in enumerate(shares(statements, with_two)) if share >= near_duplicates.COVERED] == [5, 7]


# -- traps ----------------------------------------------------------------------------------------------------------


def chat_with(template: str | None) -> Chat:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = template
    return Chat(tokenizer, "tiny")


REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + tiny.CHATML
IGNORES = "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.content }}<|im_end|>\n{% endfor %}"


@pytest.mark.parametrize(
    ("template", "system", "told"),
    [
        (tiny.CHATML, None, ["pad_is_end"]),
        (None, None, ["no_template", "pad_is_end"]),
        (REFUSES, None, ["system_refused", "pad_is_end"]),
        (IGNORES, "Be brief.", ["system_ignored", "answer_unopened", "pad_is_end"]),
        (IGNORES, None, ["answer_unopened", "pad_is_end"]),
    ],
)
def test_traps(tmp_path: Path, template: str | None, system: str | None, told: list[str]) -> None:
    facts = chat_template.chat_facts(chat_with(template), tmp_path, system)
    assert [each.code for each in remarks.chat_remarks(facts)] == told


def test_an_end_of_turn_that_the_model_does_not_stop_at(tmp_path: Path) -> None:
    chat = chat_with(tiny.CHATML)
    chat.tokenizer.eos_token = "a"
    (tmp_path / "config.json").write_text('{"eos_token_id": [98, 99]}')
    facts = chat_template.chat_facts(chat, tmp_path, None)
    assert not facts.end_stops and "end_no_stop" in [each.code for each in remarks.chat_remarks(facts)]


def test_qwens_own_system_prompt(shared_data: Path) -> None:
    folder = shared_data / "qwen2.5-coder-tokenizer"
    facts = chat_template.chat_facts(Chat.load(folder), folder, None)
    assert facts.default_system == "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    assert {"default_system", "pad_is_end"} == {each.code for each in remarks.chat_remarks(facts)}
    said = chat_template.chat_facts(Chat.load(folder), folder, "Be brief.")
    assert "default_system" not in [each.code for each in remarks.chat_remarks(said)]


# -- what a design could see ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("discordance", "points"), [(0.2, 17.9), (0.3, 22.5), (0.4, 26.2)])
def test_published_mcnemar_numbers(discordance: float, points: float) -> None:
    assert 100 * design.mcnemar_detectable(41, discordance) == pytest.approx(points, abs=0.05)


@pytest.mark.parametrize(("seeds", "problems", "low", "high"), [(3, 41, 14, 22), (3, 300, 5, 11), (10, 300, 2.6, 4.2)])
def test_assumed_spread_gives_the_known_half_widths(seeds: int, problems: int, low: float, high: float) -> None:
    """At the mean squares that are expected."""
    parts = planning.ASSUMED
    expected = (problems * parts.seed + parts.rest, seeds * parts.problem + parts.rest, parts.rest)
    seed, problem, rest = (np.array([each]) for each in expected)
    assert low <= 100 * planning.half_widths((seed, problem, rest), seeds, problems)[0] <= high


def test_mcnemar_power_by_simulation() -> None:
    rng = np.random.default_rng(0)
    a, b = 0.3 / 2 - 0.2 / 2, 0.3 / 2 + 0.2 / 2
    drawn = rng.multinomial(60, [a, b, 1 - a - b], size=3000)
    rejected = np.mean([inference.mcnemar(int(x), int(y)).mid <= 0.05 for x, y, _ in drawn])
    assert design.mcnemar_power(60, 0.3, 0.2) == pytest.approx(rejected, abs=0.03)


@pytest.mark.parametrize(("seeds", "problems", "samples"), [(3, 100, 1), (5, 100, 1), (10, 100, 10)])
def test_what_is_promised_is_found_by_simulation(seeds: int, problems: int, samples: int) -> None:
    """At the detectable difference the two-way t test rejects about four times in five."""
    rng, parts = np.random.default_rng(0), design.assumed(samples)
    truth, found = design.sees(seeds, problems, samples), 0
    for _ in range(400):
        d_SP = (
            truth
            + rng.normal(0, math.sqrt(parts.seed), (seeds, 1))
            + rng.normal(0, math.sqrt(parts.problem), (1, problems))
            + rng.normal(0, math.sqrt(parts.rest), (seeds, problems))
        )
        found += two_way(d_SP).p < 0.05
    assert 0.7 < found / 400 < 0.9


def test_design_table_begins_with_the_study() -> None:
    cells = design.table(3, 41, 1)
    assert (cells[0].seeds, cells[0].problems, cells[0].samples) == (3, 41, 1)
    assert len(cells) == len({(c.seeds, c.problems, c.samples) for c in cells}) == 3 * 4 * 2
    assert design.sees(10, 300) < 0.055 < design.sees(3, 300) < design.sees(3, 41)


@pytest.mark.parametrize(("seeds", "alpha"), [(1, 0.05), (1, 0.05 / 3), (5, 0.05), (5, 0.05 / 3)])
def test_power_at_the_level_of_several_contrasts(seeds: int, alpha: float) -> None:
    """By simulation: found 4 times in 5 at that level, and less often at a stricter one."""
    rng, parts, n = np.random.default_rng(1), planning.ASSUMED, 300
    truth = design.sees(seeds, 100, alpha=alpha)
    if seeds == 1:
        d = parts.problem + parts.rest
        shares = [(d - truth) / 2, (d + truth) / 2, 1 - d]
        p = [inference.mcnemar(int(a), int(b)).mid for a, b, _ in rng.multinomial(100, shares, size=n)]
    else:
        noise = [rng.normal(0, math.sqrt(v), s) for v, s in ((parts.seed, (n, seeds, 1)), (parts.problem, (n, 1, 100)))]
        d_NSP = truth + sum(noise) + rng.normal(0, math.sqrt(parts.rest), (n, seeds, 100))
        p = [two_way(d_SP).p for d_SP in d_NSP]
    assert 0.72 < np.mean(np.array(p) <= alpha) < 0.88


def test_the_table_is_for_the_declared_contrasts() -> None:
    one, three = design.table(3, 41, 1), design.table(3, 41, 1, contrasts=3)
    assert all(a.detectable <= b.detectable for a, b in zip(one, three, strict=True))
    assert three[0].detectable == design.sees(3, 41, alpha=0.05 / 3) > one[0].detectable


def test_what_it_finds_is_said_with_its_assumption(clean: Checked) -> None:
    said = " ".join(page.page(clean).split())
    own = clean.design[0]
    assert f"finds a true difference of {100 * own.detectable:.0f}" in said and "4 times in 5, if" in said
    assert "two trainings on the same data differ by 2 points and two adapters' answers differ on 30%" in said
    assert clean.contrasts == 1 and "declared contrasts" not in said and "detect" not in said
    three = " ".join(page.page(dataclasses.replace(clean, contrasts=3)).split())
    assert "4 times in 5 in each of its 3 declared contrasts, if" in three
    lone = dataclasses.replace(own, seeds=1)
    one = " ".join(page.page(dataclasses.replace(clean, design=[lone])).split())
    assert "4 times in 5, if two adapters' answers differ on 30%" in one
    blind = dataclasses.replace(own, detectable=1.0)
    none = " ".join(page.page(dataclasses.replace(clean, design=[blind, *clean.design[1:]])).split())
    assert "finds no difference 4 times in 5, however large" in none


def test_rows_that_arms_share_are_counted(clean: Checked) -> None:
    assert [(each.a, each.b) for each in clean.shared] == [("deep", "diverse")]
    (shared,) = clean.shared
    assert f"share: {shared.a_shared:,} of {shared.a_rows:,}" in " ".join(page.page(clean).split())
    row = Example("1", "Write a program.", "print(1)", "g")
    same = shared_rows({"deep": [row], "diverse": [row]})
    warned = dataclasses.replace(clean, shared=same, remarks=[*remarks.shared_remarks(study(), same, [])])
    assert "no difference in data to find" in " ".join(page.page(warned).split())


# -- costs, page, JSON ----------------------------------------------------------------------------------------------


def test_costs_add_up(clean: Checked) -> None:
    c = clean.costs
    assert c is not None
    # Rank 16 on seven linear layers of three blocks: counted by hand from the shapes in config.json.
    config = json.loads((practice.base_path() / "config.json").read_text())
    d, f = config["hidden_size"], config["intermediate_size"]
    kv = config["num_key_value_heads"] * d // config["num_attention_heads"]
    shapes = [(d, d), (d, kv), (d, kv), (d, d), (d, f), (d, f), (f, d)]
    assert c.adapter_parameters == config["num_hidden_layers"] * 16 * sum(a + b for a, b in shapes)
    # 2 arms × 2 seeds × 3 saves.
    assert (c.checkpoints, c.answers) == (12, 13 * 41)
    assert c.disk_bytes == 4 * c.adapter_parameters * 12 + 12 * c.adapter_parameters * 4
    assert 0 < c.train_s < 600 and 0 < c.generate_s <= c.runaway_s < 600 and c.judge_s is not None
    assert 1e6 < c.memory_bytes < c.memory_here
    assert clean.design[0].hours == pytest.approx(c.total_s / 3600)


@pytest.mark.parametrize("family", ["gpt2", "gemma3", "bloom"])
def test_other_families_can_be_measured(tmp_path: Path, family: str) -> None:
    tiny.save(tmp_path, family)
    settings_ = study(
        model_name_or_path=str(tmp_path), peft={"r": 2, "lora_dropout": 0.1}, generation={"max_new_tokens": 8}
    )
    work = costs.Work(2, 2, 1, 1, (Training(500.0, 0.0, 1),) * 2, ((8, 6), (12, 9)), 21, 9, 11, 5)
    problems = practice.benchmark(1)
    found = costs.estimate(settings_, work, problems, Chat.load(tmp_path))
    assert found.train_s > 0 and found.generate_s > 0 and found.adapter_parameters > 0


def test_a_run_writes_down_the_same_numbers(planted: Checked, planted_study: Study, tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "run")
    stages.run(planted_study, folder, until=Stage.DATA)
    assert read_json(folder.contamination) == json.loads(json.dumps(planted.to_json()["contamination"]))
    made = read_sealed(folder.data_facts)
    assert [each["arm"] for each in made] == list(planted.arms)
    for each in made:
        facts = planted.arms[each["arm"]]
        assert facts.lengths is not None
        (found,) = [len(one.found) for one in planted.contamination if one.arm == facts.name]
        assert each == {
            "arm": facts.name,
            "source": planted_study.arms[facts.name].dataset_name,
            **dataclasses.asdict(facts.trained),
            "validation": facts.validation,
            "answer_tokens": facts.completion_tokens,
            "longest": facts.lengths.longest,
            "duplicates": len(facts.duplicates),
            "near_duplicates": len(facts.near_duplicates),
            "contaminated": found,
            "sample_prompt": each["sample_prompt"],
            "sample_completion": each["sample_completion"],
        }
        # What check shows is cut shorter.
        prompt, completion = planted.shown[facts.name].removesuffix("<<<").split(">>>")
        for short, whole in ((prompt, each["sample_prompt"]), (completion, each["sample_completion"])):
            start, _, end = short.partition(measure.CUT)
            assert start and whole.startswith(start) and whole.endswith(end or start)
    assert [each["duplicates"] for each in made] == [0, 1] and made[0]["contaminated"] == 3


def test_json_holds_every_fact(planted: Checked) -> None:
    made = json.loads(json.dumps(planted.to_json()))
    assert set(Checked.__dataclass_fields__) < set(made)
    assert made["arms"]["diverse"]["duplicates"] == ["again"]
    assert made["contamination"][0]["exact"][0]["problem"] == "practice-0-0002"
    assert made["thresholds"]["near_jaccard"] == near_duplicates.NEAR


def test_the_page_fits_and_every_remark_has_words(clean: Checked, planted: Checked) -> None:
    for checked in (clean, planted):
        lines = page.page(checked).splitlines()
        assert max(map(len, lines)) <= page.WIDTH and "\x1b" not in "".join(lines)
        for each in checked.remarks:
            assert all(
                "{" not in part or "dataset: {" in part or "budget: {" in part for part in page.words(each, checked)
            )
    assert len(page.page(clean).splitlines()) <= 70
    source = "".join(Path(room.__file__).read_text(encoding="utf-8") for room in (remarks, provenance, mistakes))
    for code in page.WORDS:
        assert f'"{code}"' in source, f"{code} is never remarked"


TEXT = some.text(alphabet=some.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=40, deadline=None)
@given(rows=some.lists(some.tuples(TEXT, TEXT, some.sampled_from(["train", "validation", "test", ""])), max_size=8))
def test_odd_rows_are_measured_without_a_traceback(rows: list[tuple[str, str, str]]) -> None:
    examples = [Example(str(i), p, c, p, split) for i, (p, c, split) in enumerate(rows)]
    arm = ArmData([e for e in examples if e.split == "train"], read=examples, lengths=[(1, 1)] * len(examples))
    answers = {e.completion: measure.answer(e.completion) for e in examples}
    prompts = looks.Prompts.of(examples)
    prompts.take([looks.look_at_prompts(looks.Wanted.of([], {}), [e.prompt for e in prompts.example])])
    cluster = clusters(prompts)
    facts = measure.facts("a", "f", arm, 1, answers, cluster, (10, 10))
    assert facts.read is not None and facts.read.rows == len(rows)
    for each in leaks.own_overlaps("a", arm, cluster):
        assert 0 <= each.same_prompt <= each.near_prompt <= each.problems
    problems = [{"id": "p", "statement": rows[0][0]}] if rows else []
    contamination.contamination("b", problems, {"p": "x = 1"}, {"a": examples})


def test_exit_codes_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in practice.dataset("deep")[:40]))
    file = tmp_path / "s.yaml"
    file.write_text(
        "name: t\nmodel_name_or_path: practice\narms: {a: {dataset_name: a.jsonl}}\nseeds: 1\n"
        "dataset: {split_column: none}\njudge: {isolation: best}\n"
        "training: {budget: {steps: 1}}\nbenchmarks: {primary: {dataset: practice, problems: 2}}\n"
    )
    assert main(["check", "--json", str(file)]) == 0
    out = capsys.readouterr()
    assert json.loads(out.out)["arms"]["a"]["read"]["rows"] == 40 and "check:" in out.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "s.yaml"]
    assert main(["check", str(file), "training.max_length=10"]) == 1
    assert "no train rows are left" in capsys.readouterr().err


def test_a_base_that_cannot_be_built_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> Callable[[], None]:
        raise ValueError("no such architecture")

    monkeypatch.setattr(meter.AutoModelForCausalLM, "from_config", fails)
    with pytest.raises(KiyasError, match="cannot build a small copy"):
        check(study(benchmarks={"primary": {"dataset": "practice", "problems": 2}}))
