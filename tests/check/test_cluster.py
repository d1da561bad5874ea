"""`kiyas check --cluster`: its formulas by hand, what it takes of memory, and what it says."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from kiyas import practice
from kiyas.check import Checked, check, cluster_costs, costs, page, remarks
from kiyas.check.cards import CARDS, Speed
from kiyas.check.cluster import Bottleneck, Load, Pool, Training, nodes_of, parsed, plan
from kiyas.check.cluster_costs import ClusterCosts, estimate
from kiyas.check.memory import Memory
from kiyas.cli import CARD_NAMES, main
from kiyas.data.chat import Chat
from kiyas.generate.memory import Plan as Decoding
from kiyas.model.meter import Shape
from kiyas.study.settings import Study
from kiyas.train.memory import Layout
from kiyas.types import KiyasError

SPEED = Speed(train=3e-3, forward=1e-3, prefill=1e-3, step=2e-3)
ONE = Training(tokens=1000.0, validated=500.0, saves=10)
"""3.5 s at SPEED"""
LOAD = Load((ONE,) * 6, answers=1200, prompt_tokens=100, answer_tokens=50, judge_s=0.5)
"""an answer takes 0.2 s at SPEED, and half a second of a core"""


def pool(count: int, trainings: int = 2, rows: int = 4, speed: Speed = SPEED) -> Pool:
    return Pool(count, speed, trainings, rows)


# -- formulas -----------------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    found = plan(LOAD, [pool(4)])
    assert found.train.wall_s == pytest.approx(7.0)  # 6 trainings on 4 cards: two rounds
    assert found.train.card_s == pytest.approx((21.0,))
    assert found.generate.wall_s == pytest.approx(1200 * 0.2 / 4)
    assert found.cores == 32 and found.judge_s == pytest.approx(1200 * 0.5 / 32)
    assert found.judge_cores == pytest.approx(600 / 60)
    assert found.wall_s == pytest.approx(7 + 60 + 18.75)
    assert found.longest_s == pytest.approx(3.5)


def test_a_card_by_hand() -> None:
    """7 billion weights on an H100, 40 million of an adapter, in bfloat16: FLOP by weights, and bytes by bandwidth."""
    kept = Memory(0, 0, 1, Layout(2048), Decoding(2, 100, 100), "", "", "")
    speed = CARDS["h100"].speed(7_000_000_000, 14_000_000_000, 40_000_000, 10**8, kept, 2)
    rate = 0.35 * 989e12
    assert speed.forward == speed.prefill == pytest.approx(2 * 7.04e9 / rate)
    assert speed.train == pytest.approx((2 * 7.04e9 + 2 * 7e9 + 4 * 0.04e9) / rate)
    streamed = 14e9 + 2 * 2 * 40e6 + 100 * 1e8
    assert speed.step == pytest.approx(max(streamed / (0.5 * 3350e9), 0.025) / 100)
    again = replace(kept, layout=Layout(2048, recompute=True))
    recomputed = CARDS["h100"].speed(7_000_000_000, 14_000_000_000, 40_000_000, 10**8, again, 2)
    assert recomputed.train == pytest.approx(speed.train + speed.forward)


@pytest.mark.parametrize("times", [2, 5])
def test_each_stage_grows_as_its_work_does(times: int) -> None:
    one = plan(LOAD, [pool(3)])
    longer = replace(ONE, tokens=times * ONE.tokens, validated=times * ONE.validated)
    trained = plan(replace(LOAD, trainings=(longer,) * 6), [pool(3)])
    assert trained.train.wall_s == pytest.approx(times * one.train.wall_s)
    more = plan(replace(LOAD, trainings=LOAD.trainings * times), [pool(3)])
    assert more.train.wall_s == pytest.approx(times * one.train.wall_s)  # they fill the cards
    assert (trained.generate, trained.judge_s) == (one.generate, one.judge_s)
    answered = plan(replace(LOAD, answers=times * LOAD.answers), [pool(3)])
    assert answered.generate.wall_s == pytest.approx(times * one.generate.wall_s)
    assert answered.judge_s == pytest.approx(times * (one.judge_s or 0))
    wider = plan(LOAD, [pool(3 * times)])
    assert wider.generate.wall_s == pytest.approx(one.generate.wall_s / times)
    assert wider.train.wall_s == pytest.approx(max(3.5, one.train.wall_s / times))


def test_work_of_two_kinds_of_card_adds_up() -> None:
    slow = Speed(*(4 * each for each in (SPEED.train, SPEED.forward, SPEED.prefill, SPEED.step)))
    found = plan(LOAD, [pool(2), pool(4, speed=slow)])
    assert found.generate.wall_s == pytest.approx(1200 * 0.2 / 3)  # as much as three of the fast ones
    # No card trains what another one would end sooner: 3 on each fast card take 10.5 s, one on a slow card 14.
    assert found.train.wall_s == pytest.approx(10.5) and found.train.card_s[1] == 0
    both = plan(replace(LOAD, trainings=LOAD.trainings * 2), [pool(2), pool(4, speed=slow)])
    assert both.train.wall_s == pytest.approx(14.0) and both.train.card_s == pytest.approx((28.0, 56.0))


def test_a_card_that_is_too_small_takes_nothing_of_that_stage() -> None:
    found = plan(LOAD, [pool(2), pool(6, trainings=0), pool(8, rows=0)])
    assert found.train.card_s[1] == 0 and found.generate.card_s[2] == 0
    assert found.generate.wall_s == pytest.approx(1200 * 0.2 / 8)
    assert found.train.wall_s == pytest.approx(3.5) and found.cores == 8 * 16  # their cores judge
    none = plan(LOAD, [pool(2, trainings=0)])
    assert math.isinf(none.train.wall_s) and math.isfinite(none.generate.wall_s)
    assert plan(replace(LOAD, trainings=()), [pool(2, trainings=0)]).train.wall_s == 0


def test_the_bottleneck() -> None:
    quick = replace(LOAD, answers=12)
    assert plan(LOAD, [pool(1)]).bottleneck is Bottleneck.ANSWERING_CARDS
    assert plan(quick, [pool(3)]).bottleneck is Bottleneck.TRAINING_CARDS
    assert plan(quick, [pool(6)]).bottleneck is Bottleneck.LONGEST_TRAINING
    assert plan(quick, [pool(600)]).bottleneck is Bottleneck.LONGEST_TRAINING
    assert plan(replace(LOAD, judge_s=9.0), [pool(3)]).bottleneck is Bottleneck.JUDGE_CORES
    long = replace(ONE, tokens=100_000.0)
    found = plan(replace(LOAD, trainings=(*LOAD.trainings, long)), [pool(4)])
    assert found.bottleneck is Bottleneck.LONGEST_TRAINING and found.train.wall_s == pytest.approx(300.5)


def test_nodes_are_full_and_of_one_kind() -> None:
    assert nodes_of([8, 2]) == [[0] * 8, [1] * 2]
    assert [len(node) for node in nodes_of([1000, 9])] == [8] * 125 + [8, 1]


def test_twenty_arms_on_a_thousand_cards_with_failures() -> None:
    """Half a save interval of eight cards is lost at each failure, in training; half a wave in answering."""
    saves = replace(ONE, tokens=3e8, validated=0.0, saves=100)  # 250 h, saved every 5 h with another one beside it
    load = replace(LOAD, trainings=(saves,) * 1000, answers=10**9)
    always = cluster_costs._losses(load, [pool(1000)], 100 * 3600.0)
    assert always.failures > 100 and always.wall_s is not None
    never = plan(load, [pool(1000)])
    work = sum(never.train.card_s) + sum(never.generate.card_s)
    trained = 1000 * 250 / 100 / 8 * 8 * 2.5  # hours: a failure every 100 h of a node, each takes 2.5 h of 8 cards
    assert always.lost == pytest.approx(trained * 3600 / work, rel=0.25)
    assert never.wall_s < always.wall_s < 1.5 * never.wall_s


# -- what is asked for --------------------------------------------------------------------------------------------


def named(text: str) -> dict[str, int]:
    return {card.name: count for card, count in parsed(text).items()}


def test_clusters_are_read_as_people_write_them() -> None:
    assert named("8xH100,2xT4") == {"h100": 8, "t4": 2}
    assert named(" 1000 x h100 , T4,2 × a100 40GB, 3*A100-80gb,24GB ") == {
        "h100": 1000,
        "t4": 1,
        "a100-40": 2,
        "a100-80": 3,
        "24gb": 1,
    }
    assert named("4xH100,4xh100") == {"h100": 8}
    assert {card.name: named(f"1x{card.name.upper()}") for card in CARDS.values()} == {
        name: {name: 1} for name in CARDS
    }
    assert tuple(CARDS) == CARD_NAMES


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("8xA100", "'A100' is not known; did you mean a100-40 or a100-80?"),
        ("8xH10", "'H10' is not known; did you mean h100?"),
        ("8xGeForce", "'GeForce' is not known"),
        ("0xT4", "'0xT4' is no card at all"),
        ("-3xT4", "'-3xT4' is not known"),
        ("T4,,T4", "between two commas"),
        ("", "no cards"),
        ("20000xT4,90000xH100", "110,000 cards"),
    ],
)
def test_what_is_not_a_cluster_is_refused(text: str, wrong: str) -> None:
    with pytest.raises(KiyasError) as error:
        parsed(text)
    assert wrong in str(error.value) and "a100-40, a100-80, h100" in error.value.hint


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(KiyasError) as error:
        parsed("8xA100,0xT4,,5xH10")
    for each in ("a100-80?", "'0xT4'", "two commas", "h100?"):
        assert each in str(error.value)


# -- a study ------------------------------------------------------------------------------------------------------


def without_weights(folder: Path, **changes: Any) -> Path:
    """A base of 15 GB, in many narrow layers, of which only configuration and tokenizer are here."""
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 500,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "vocab_size": 2000,
        "tie_word_embeddings": False,
        "max_position_embeddings": 4096,
    }
    folder.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(practice.base_path() / file, folder)
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


def study(base: Path, **training: Any) -> Study:
    return Study.model_validate(
        {
            "name": "t",
            "model_name_or_path": str(base),
            "arms": {"deep": {"dataset_name": "practice/deep"}, "diverse": {"dataset_name": "practice/diverse"}},
            "seeds": 3,
            "training": {
                "budget": {"steps": 200},
                "save_steps": 20,
                "max_length": 1024,
                "max_tokens_per_pass": 2048,
                **training,
            },
            "benchmarks": {"primary": {"dataset": "practice", "problems": 6}},
            "generation": {"num_samples": 10, "max_new_tokens": 1024, "temperature": 0.8},
            "judge": {"isolation": "best"},
        }
    )


WORK = costs.Work(
    each_training=(Training(4e6, 1e5, 10),) * 6,
    checkpoints=60,
    saved=60,
    problems=1055,
    samples=10,
    lengths=((200, 100),) * 32,
    longest=1024,
    prompt_tokens=200,
    longest_prompt=500,
    answer_tokens=400,
)


def estimated(base: Path, cards: str, **training: Any) -> ClusterCosts:
    return estimate(study(base, **training), WORK, practice.benchmark(2), Chat.load(base), parsed(cards))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_weights(tmp_path_factory.mktemp("bases") / "deep")


@pytest.fixture(scope="module")
def checked(base: Path) -> Checked:
    return check(study(base), cluster=parsed("8xH100,2xT4"))


@pytest.fixture(scope="module")
def too_small(base: Path) -> ClusterCosts:
    return estimated(base, "4xT4")


def test_a_card_on_which_the_base_does_not_fit_is_named(checked: Checked) -> None:
    found = checked.cluster
    assert found is not None
    h100, t4 = found.cards
    assert not h100.cannot_train and not h100.cannot_answer and h100.train_s > 0 and h100.needed is not None
    assert "the base alone takes 15." in t4.cannot_train and t4.cannot_answer == t4.cannot_train
    assert (t4.train_s, t4.generate_s, t4.needed) == (0, 0, None)
    assert (found.nodes, found.cores, found.dtype) == (2, 80, "bfloat16")
    # 2 arms × 3 seeds × 10 saves; the eight cards share the six trainings.
    assert (found.trainings, found.checkpoints, found.answers) == (6, 60, 61 * 60)
    assert h100.needed.trainings == 1
    assert found.checkpoint_bytes == 4 * found.adapter_parameters * 60 + 12 * 6 * found.adapter_parameters
    assert found.disk_bytes == found.checkpoint_bytes + found.answer_bytes
    # Rank 16 on seven linear layers of 500 blocks, and the weights, counted by hand.
    shapes = [(1024, 1024), (1024, 256), (1024, 256), (1024, 1024), (1024, 4096), (1024, 4096), (4096, 1024)]
    assert found.adapter_parameters == 500 * 16 * sum(a + b for a, b in shapes)
    assert found.base_bytes == pytest.approx(2 * 500 * sum(a * b for a, b in shapes), rel=0.01)
    assert [each.mtbf_s for each in found.losses] == [6300 * 3600, 24 * 3600]


def test_nothing_fits(too_small: ClusterCosts) -> None:
    found = too_small
    assert (found.train_s, found.generate_s, found.wall_s, found.bottleneck, found.losses) == (None,) * 4 + ((),)
    json.dumps(asdict(found), allow_nan=False)


def test_a_card_without_the_number_format_is_named(base: Path) -> None:
    auto, brain = study(base), study(base, dtype="bfloat16")
    cards = [CARDS["h100"], CARDS["t4"]]
    assert cluster_costs._format(auto, cards) == "float16"  # what all of them compute
    assert cluster_costs._format(auto, cards[:1]) == cluster_costs._format(brain, cards[:1]) == "bfloat16"
    for asked, words in ((auto, ""), (brain, "training.dtype: a T4 (16 GB) does not compute bfloat16")):
        of = cluster_costs._Base(asked, WORK, None, 10**9, 10**9, 10**6)  # type: ignore[arg-type]
        assert [of.cannot(card) for card in cards] == ["", words]


@pytest.mark.slow
def test_memory_is_what_the_meter_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all layers at once, where the plan has measured two of them and three."""
    base = without_weights(tmp_path / "wide", num_hidden_layers=7, hidden_size=512, intermediate_size=1536)
    found = estimated(base, "2xH100")
    monkeypatch.setattr(Shape, "grown", lambda self, measure: measure(self.layers))
    counted = estimated(base, "2xH100")
    planned, metered = found.cards[0].needed, counted.cards[0].needed
    assert planned is not None and metered is not None and planned.trainings == 3
    assert planned.training == pytest.approx(metered.training, rel=0.02)
    assert planned.answering == pytest.approx(metered.answering, rel=0.02)
    assert (found.adapter_parameters, found.base_bytes) == (counted.adapter_parameters, counted.base_bytes)


def test_the_page_names_it_all(checked: Checked) -> None:
    for width in (60, 100):
        text = page.page(checked, width=width)
        assert max(map(len, text.splitlines())) <= width
        flat = " ".join(text.split())
        for each in (
            "T4 (16 GB): takes no training and no answers: the base alone takes 15.",
            "Estimate for 8 × H100 (80 GB) + 2 × T4 (16 GB) (bfloat16;",
            "2 nodes of at most 8 cards, 80 processor cores in all",
            "Bottleneck: the ",
            "Memory of each H100 (80 GB): training ",
            "judge at the pace of the cards",
            "a node every 6,300 h, so one of 2 every 3,150 h",
            "of the work is lost",
        ):
            assert each in flat, each
        assert "None" not in flat and "--fast" not in flat
    document = json.loads(json.dumps(checked.to_json(), allow_nan=False))
    assert document["costs"] is None and [each["card"] for each in document["cluster"]["cards"]] == ["h100", "t4"]


def test_the_page_of_a_cluster_that_is_too_small(checked: Checked, too_small: ClusterCosts) -> None:
    found = replace(checked, cluster=too_small)
    assert "it cannot run there: see the warnings" in " ".join(page.page(found, width=60).split())
    told = [page.words(each, found)[0] for each in remarks.cluster_remarks(too_small)]
    assert told[-1] == "no card of this cluster can hold one training" and told[0].startswith("T4 (16 GB): takes no")


def test_options_that_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "study.yaml"
    for other in (["--card", "t4"], ["--fast"]):
        with pytest.raises(SystemExit):
            main(["check", str(file), "--cluster", "2xT4", *other])
        assert "not allowed with argument" in capsys.readouterr().err


REAL = {
    "7B": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28},
    "32B": {
        "hidden_size": 5120,
        "intermediate_size": 27648,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
    },
}
"""Qwen2.5-Coder"""


@pytest.mark.slow
@pytest.mark.parametrize(("size", "parameters"), [("7B", 7.6e9), ("32B", 32.8e9)])
def test_twenty_arms_of_a_large_base(tmp_path: Path, size: str, parameters: float) -> None:
    base = without_weights(tmp_path / size, vocab_size=152064, **REAL[size])
    work = replace(WORK, each_training=(Training(4e7, 1e6, 100),) * 20, checkpoints=2000, saved=2000)
    found = estimate(study(base), work, practice.benchmark(2), Chat.load(base), parsed("8xH100,2xT4"))
    assert found.base_bytes == pytest.approx(2 * parameters, rel=0.01)
    h100, t4 = found.cards
    assert t4.cannot_train and not h100.cannot_train and not h100.cannot_answer
    assert found.answers == 2001 * 10550 and found.wall_s is not None


def test_the_table_of_cards_is_the_cards() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "check.md").read_text(encoding="utf-8")
    for card in CARDS.values():
        row = f"| {card.memory / 1e9:.0f} | {card.flops / 1e12:,.0f} | {card.bandwidth / 1e9:,.0f} |"
        assert re.search(rf"^\| `{card.name}`[^|]* {re.escape(row)}$", text, re.MULTILINE), row
