"""What makes large data cheap equals the dull way: texts on disk, frames around questions, prints, shared-out work."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from datasketch import MinHash, MinHashLSH

import tiny
from kiyas.data.chat import Chat
from kiyas.data.texts import StoredExample, Texts
from kiyas.similarity import near_duplicates
from kiyas.types import Example, KiyasError, Samples, TokenizedExample
from kiyas.work.workers import spread

ODD = [
    "hi",
    "  a b \n",
    "x<|im_end|>y",
    "İ ğ 漢 😀",
    "tool",
    "a" * 3000,
    "\t\u2028 q",
    "{{ 1 }} {% raw %}",
    "\n\n",
    "é\u0301",
]
START = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
END = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


@pytest.mark.parametrize(
    ("content", "framed"),
    [
        ("{{ m.content }}", True),
        ("{{ m['content'] | trim }}", True),
        ("{{ 'x' + m.content + 'y' ~ 'z' }}", True),
        ("{% if m.content is string %}{{ m.content }}{% endif %}", True),
        ("{% if m.content %}{{ m.content }}{% endif %}", True),
        ("{{ '%s' | format(m.content) }}", False),
        ("{{ (' ' + m.content) | trim }}", False),
        ("{{ m.content }}{% if 'tool' in m.content %}!{% endif %}", False),
        ("{{ m.content }}{% if m.content in 'tool and hi' %}!{% endif %}", False),
        ("{{ m.content }}{% if m.role in ['user'] %}!{% endif %}", True),
        ("{{ m.content }}{{ 'tool and hi'.replace(m.content, '') }}", False),
        ("{{ m.content }}{{ 'tool and hi' | replace(m.content, '') }}", False),
        ("{{ m.content }}{% if m.content == 'hi' %}!{% endif %}", False),
        ("{{ m.content }}{{ m.content | length }}", False),
        ("{{ m.content }}{{ m.content[:1] }}", False),
        ("{{ m.content }}{{ m.content.split(' ')[0] }}", False),
        ("{{ m.content | upper }}", False),
        ("{{ m.content | tojson }}", False),
        ("{{ m.content | replace('a', 'b') }}", False),
        ("{{ m.content }}{{ m.content }}", False),
        ("{% for c in m.content %}{{ c }}{% endfor %}", False),
        ("{% if m.content < 'b' %}b{% endif %}{{ m.content }}", False),
        ("{{ m.content.strip('h') }}", False),
    ],
)
def test_a_frame_around_every_question(content: str, framed: bool) -> None:
    """A template that reads the question renders each one; the others are the same as rendered."""
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = START + content + END
    chat = Chat(tokenizer, "tiny")
    for system in (None, "Be brief."):
        assert (chat._frame(system) is not None) is framed
        for texts in (ODD, *([text] for text in ODD)):
            assert chat.all_prompt_ids(texts, system) == [chat.prompt_ids(text, system) for text in texts]
    assert chat.all_completion_ids(ODD) == [chat.completion_ids(text) for text in ODD]


def test_real_templates_are_framed(shared_data: Path) -> None:
    for chat in (Chat.load(shared_data / "qwen2.5-coder-tokenizer"), Chat(tiny.tokenizer(), "tiny")):
        for system in (None, "Be brief."):
            assert chat._frame(system) is not None
            assert chat.all_prompt_ids(ODD, system) == [chat.prompt_ids(text, system) for text in ODD]
        assert chat.all_completion_ids(ODD) == [chat.completion_ids(text) for text in ODD]


def test_without_a_template_each_is_asked() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = None
    chat = Chat(tokenizer, "tiny")
    assert chat.all_prompt_ids(ODD, "s") == [chat.prompt_ids(text, "s") for text in ODD]


def test_texts_are_kept_once_and_read_back() -> None:
    texts, noise = Texts(), random.Random(0)
    written = [noise.choice(["", "é", "x" * 70_000, "漢\0"]) + str(noise.randrange(60)) for _ in range(400)]
    numbers = [texts.number(text) for text in written]
    assert [texts[number] for number in numbers] == written
    assert len(texts) == len(set(written)) == len(set(numbers)) == max(numbers) + 1
    assert texts.number("new") == len(texts) - 1 and texts["xyz".find("y") - 1] == written[0]


def test_a_stored_example_is_an_example() -> None:
    texts = Texts()
    stored = StoredExample(texts, "1", texts.number("p"), texts.number("c"), texts.number("p"), "train")
    plain = Example("1", "p", "c", "p", "train")
    assert stored == plain and plain == stored and hash(stored) == hash(plain) and repr(stored) == repr(plain)
    assert stored.to_row() == plain.to_row() and stored.prompt_key == stored.group_key != stored.completion_key
    moved = stored.moved(split="validation", draw=2)
    assert moved == plain.moved("validation", 2) != plain and (moved.split, moved.draw, stored.split) == (
        "validation",
        2,
        "train",
    )


def test_samples_in_little_memory_are_the_samples() -> None:
    given = [TokenizedExample(tuple(range(n)), n // 2) for n in (3, 0, 7, 1)]
    kept = Samples(given)
    assert list(kept) == given and kept[-1] == given[-1] and kept[1:3] == given[1:3] and len(kept) == 4
    with pytest.raises(IndexError):
        kept[4]


def nearly(words: list[str], noise: random.Random) -> str:
    made = list(words)
    for _ in range(noise.choice([0, 0, 1, 2, 4, 8, 20])):
        made[noise.randrange(len(made))] = noise.choice("uvwxyz ")
    return " ".join(made)


def dull_leaders(texts: list[str]) -> list[int]:
    """As datasketch's own index does it, one text after another."""
    lsh = MinHashLSH(num_perm=96, params=(near_duplicates.BANDS, near_duplicates.ROWS))
    known: dict[int, frozenset[int]] = {}
    exact: dict[str, int] = {}
    found = []
    for i, text in enumerate(texts):
        plain, of = near_duplicates.normalised(text), near_duplicates.shingles(text)
        if plain not in exact:
            signature = MinHash(num_perm=96, seed=1, hashfunc=int)
            signature.update_batch(list(of))
            asked = sorted(lsh.query(signature))
            near = (k for k in asked if near_duplicates.jaccard(of, known[k]) >= near_duplicates.NEAR)
            exact[plain] = next(near, i)
            if exact[plain] == i:
                known[i] = of
                lsh.insert(i, signature)
        found.append(exact[plain])
    return found


@pytest.mark.parametrize("count", [1, 2, 20, near_duplicates.FEW, near_duplicates.FEW + 1, 300])
def test_leaders_are_those_of_datasketch(count: int) -> None:
    noise = random.Random(count)
    kinds = [[f"w{noise.randrange(300)}" for _ in range(noise.choice([3, 12, 60]))] for _ in range(1 + count // 6)]
    texts = [nearly(noise.choice(kinds), noise) for _ in range(count)]
    texts[count // 2] = noise.choice(["", "?!", "A b"])
    dull = dull_leaders(texts)
    assert near_duplicates.leaders(texts) == dull
    assert near_duplicates.leaders(texts, near_duplicates.prints(texts)) == dull
    assert count < 20 or len(set(dull)) < count


def doubled(shared: Any, batch: list[int]) -> list[int]:
    if shared == "die" and 7 in batch:
        os.kill(os.getpid(), signal.SIGKILL)
    return [2 * each for each in batch]


@pytest.mark.parametrize("many", [False, True])
def test_batches_come_back_in_order(many: bool) -> None:
    batches = [[i, i + 1] for i in range(0, 40, 2)]
    assert [each for part in spread(doubled, None, batches, many) for each in part] == list(range(0, 80, 2))


def test_a_killed_worker_is_told() -> None:
    with pytest.raises(KiyasError, match="a worker process was killed from outside"):
        list(spread(doubled, "die", ([i] for i in range(40)), many=True))
