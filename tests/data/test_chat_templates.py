"""Chat templates as people have them: a probe goes through each, and what comes out is searched for what went in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors
from transformers import AutoModelForCausalLM, MambaConfig, T5Config

import tiny
from kiyas.check import chat_template, remarks
from kiyas.data.chat import DAY, Chat
from kiyas.model import families
from kiyas.types import KiyasError

C = tiny.CHATML
PARTS = C.replace("{{ m.content }}", "{% for p in m.content %}{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}")  # fmt: skip  # noqa: E501
WANTS_SYSTEM = "{% if messages[0].role != 'system' %}{{ raise_exception('give a system message') }}{% endif %}" + C
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + C
USER_LAST = "{% if messages[-1].role == 'assistant' %}{{ raise_exception('the user is last') }}{% endif %}" + C
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + C
)
INLINE = "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}<|im_end|>{% endif %}{% endfor %}"  # fmt: skip  # noqa: E501


def chat(template: Any) -> Chat:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = template
    return Chat(tokenizer, "tiny")


def refused(template: Any, system: str | None = None) -> str:
    with pytest.raises(KiyasError) as caught:
        chat(template).refuse_unfit(system)
    assert caught.value.hint, "every refusal says what to do"
    return str(caught.value)


def remarked(template: Any, system: str | None = None) -> set[str]:
    made = chat(template)
    made.refuse_unfit(system)
    codes = {each.code for each in remarks.chat_remarks(chat_template.chat_facts(made, Path("none"), system))}
    return codes - {"pad_is_end"}


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (PARTS, "loses the question[^$]*list of parts"),
        (C.replace("m.content", "m.content[0]['text']"), "loses the question|undefined"),
        (C.replace("m.content", "m.text"), "loses the question"),
        (C.replace("m.content", "m.content|upper"), "loses the question"),
        (C.replace("m.content", "m.content|e"), "changes the question"),
        (C.replace("m.content", "m.content[:40]"), "changes the question"),
        (C.replace("m.content", "m.content|truncate(50)"), "changes the question"),
        (C.replace("m.content", "m.content|replace('\n', ' ')"), "changes the question"),
        (C.replace("messages", "messages[1:]"), "loses the question"),
        ("  ", "loses the question"),
        ("{% for m in messages %}{{ m.content ", "broken, line 1"),
        ("{% nonsense %}" + C, "broken, line 1"),
        ({"chat": C, "tool_use": C}, r"several chat templates \(chat, tool_use\) and no default"),
        ({"chat": C}, "no default"),
        (WANTS_SYSTEM, "give a system message[^$]*set dataset.system"),
        ("{{ raise_exception('never') }}", "refuses this chat: never"),
        ("{{ 1 / 0 }}" + C, "ZeroDivisionError"),
        ("{{ messages[0].content + 1 }}" + C, "TypeError"),
        ("{{ nothing.here.at_all }}" + C, "undefined"),
        ("{{ [1, 2]|random }}" + C, "draws random numbers"),
        ("{{ range(3)|list|random }}" + C, "draws random numbers"),
        ("{{ lipsum() }}" + C, "draws random numbers"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}" + C, "does not end"),
        ("{% for i in range(10**9) %}{% endfor %}" + C, "OverflowError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}" + C, "RecursionError"),
    ],
)
def test_templates_that_are_refused(template: Any, told: str) -> None:
    assert re.search(told, refused(template))


def test_a_system_message_where_none_is_supported() -> None:
    assert "leave dataset.system out" in refused(NO_SYSTEM, "Be brief.")
    assert "leave dataset.system out" not in refused(WANTS_SYSTEM)


@pytest.mark.parametrize(
    ("template", "system"),
    [
        (C, None), (C, "s"), (WANTS_SYSTEM, "s"), (NO_SYSTEM, None), (USER_LAST, None), (USER_LAST, "s"),
        (ALTERNATING, None), (INLINE, None), (C.replace("m.content", "m.content|trim"), None),
        ({"default": C, "tool_use": "x"}, None),
        ("{% if messages[-1].role != 'user' %}{{ raise_exception('x') }}{% endif %}" + WANTS_SYSTEM, "s"),
    ],
)  # fmt: skip
def test_templates_that_are_used(template: Any, system: str | None) -> None:
    made = chat(template)
    made.refuse_unfit(system)
    assert made.end_of_turn == tiny.END, "found wherever the template puts it"
    assert "Q?" in made.tokenizer.decode(made.prompt_ids("Q?", system))


@pytest.mark.parametrize(
    ("template", "codes"),
    [
        (C, set()),
        (INLINE, set()),
        (C.split("{%- if add")[0], {"answer_unopened"}),
        (C.split("{%- if add")[0].replace("<|im_end|>\n", "<|im_end|>"), {"answer_unopened"}),
        ("{{ strftime_now('%Y-%m-%d %H:%M:%S') }}" + C, {"reads_clock"}),
        ("{% set d = strftime_now('%d %b %Y') %}{{ d }}" + C, {"reads_clock"}),
        ("{% if strftime_now is defined %}x{% endif %}" + C, set()),
    ],
)
def test_what_is_remarked(template: Any, codes: set[str]) -> None:
    assert remarked(template) == codes


def test_a_lost_system_message_is_remarked() -> None:
    template = C.replace("in messages", "in messages if m.role != 'system'")
    assert remarked(template, "Be brief.") == {"system_ignored"} and remarked(template) == set()


def test_every_day_is_the_same_day() -> None:
    made = chat("\n{{ strftime_now('%d %B %Y, %H:%M') }}" + C)
    assert made.render([("user", "Q")]).startswith(f"\n{DAY:%d %B %Y}, 00:00<|im_start|>user")


@pytest.mark.parametrize("single", ["<s> $A <|im_end|>", "$A <|im_end|>", "$A <|im_end|> <|im_end|>", "<s> $A"])
def test_an_end_token_behind_the_prompt_is_taken_off(single: str) -> None:
    made = chat(None)
    made.tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<s>"]})
    ids = [(name, made.tokenizer.convert_tokens_to_ids(name)) for name in ("<s>", "<|im_end|>")]
    made.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    made.refuse_unfit(None)
    text = made.tokenizer.decode(made.prompt_ids("Q?", None))
    assert text == ("<s>" if "<s>" in single else "") + "Q?\n"
    facts = chat_template.chat_facts(made, Path("none"), None)
    assert ("end_appended" in [each.code for each in remarks.chat_remarks(facts)]) == ("im_end" in single)


def test_a_tokenizer_that_always_adds_its_special_tokens() -> None:
    class Adds:
        chat_template, eos_token_id, bos_token_id = C, tiny.END, None

        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": [1, 2, tiny.END]}

    with pytest.raises(KiyasError, match="into every text"):
        Chat(Adds(), "tiny").refuse_unfit(None)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, state_size=4), "MambaForCausalLM keeps"),
        (T5Config(vocab_size=300, d_model=32), "t5 is not a causal language model"),
    ],
)
def test_families_without_attention_are_refused(tmp_path: Path, config: Any, told: str) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(KiyasError, match=told):
        families.refuse_other(tmp_path)


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_families_with_attention_are_not(tmp_path: Path, family: str) -> None:
    AutoModelForCausalLM.from_config(tiny.CONFIGS[family]).config.save_pretrained(tmp_path)
    families.refuse_other(tmp_path)
