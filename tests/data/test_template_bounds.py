"""A chat template that would take all time or memory is refused in one line; one that does not is rendered as ever."""

from __future__ import annotations

import resource
import sys

import pytest

import tiny
from kiyas.data import template_bounds
from kiyas.data.chat import Chat, UnfitTemplateError

C = tiny.CHATML
BOMBS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{{ i }}{% endfor %}{% endfor %}",
    "text": "{{ 'a' * 10**10 }}",
    "text-later": "{% set n = 10**9 %}{{ ('a' * n) * n }}",
    "list": "{{ [0] * 10**10 }}",
    "messages": "{{ messages * 10**9 }}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "power-of-a-name": "{% set n = 10**9 %}{{ n ** n }}",
    "squares": "{% set s = namespace(n=7) %}{% for i in range(60) %}{% set s.n = s.n * s.n %}{% endfor %}",
    "doubled": "{% set s = namespace(t='a') %}{% for i in range(60) %}{% set s.t = s.t ~ s.t %}{% endfor %}",
    "added": "{% set s = namespace(t='a') %}{% for i in range(60) %}{% set s.t = s.t + s.t %}{% endfor %}",
    "hex": "{{ ('f' * 999999)|int(base=16) // 7 }}",
    "center": "{{ 'a'|center(10000000000) }}",
    "format": "{{ '%10000000000d'|format(1) }}",
    "format-method": "{{ '{:>10000000000}'.format(1) }}",
    "zfill": "{{ 'a'.zfill(10000000000) }}",
    "slices": "{{ [1]|slice(1000000000)|list|length }}",
    "lipsum": "{{ lipsum(n=100000000) }}",
    "round": "{{ 5|round(-1000000000) }}",
    "round-up": "{{ 5|round(1000000000, 'ceil') }}",
    "wrap": "{% set s = namespace(t='a ' * 400000) %}{% for i in range(4) %}{% set s.t = s.t ~ s.t %}{% endfor %}{{ s.t|wordwrap(3) }}",  # noqa: E501
    "pprint": "{{ [[1, 'a'] * 400000]|pprint }}",
    "tojson": "{{ ([1, [2]] * 400000)|tojson(indent=1) }}",
    "replace": "{{ ('a' * 900000)|replace('a', 'b' * 900000) }}",
    "source": "{# " + "x" * 2_100_000 + " #}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_bounds, "SECONDS", 0.5)
    monkeypatch.setattr(template_bounds, "BYTES", 2**28)
    monkeypatch.setattr(template_bounds, "STEPS", 100_000)
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = BOMBS[name] + C
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(UnfitTemplateError) as caught:
        Chat(tokenizer, "tiny").refuse_unfit(None)
    assert len(str(caught.value).splitlines()) == 2, "what is wrong, and what to do"
    assert resource.getrlimit(resource.RLIMIT_AS) == limits and sys.gettrace() is None


def test_what_templates_do_is_what_transformers_does() -> None:
    turns = [("system", "s"), ("user", "ü < 1"), ("assistant", "yes")]
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '%02d' % loop.index + '-' * 3 ~ m.content|trim }}{{ 7 // 2 * 1.5|round(1) }}"
        "{{ [m.role] + ['x'] }}{{ m|tojson(indent=1) }}{{ m.content[::-1]|wordwrap(5) }}{{ 2 ** 10 % 7 }}{% endfor %}"
    )
    rows = [{"role": role, "content": text} for role, text in turns]
    assert Chat(tokenizer, "tiny").render(turns) == tokenizer.apply_chat_template(rows, tokenize=False)
