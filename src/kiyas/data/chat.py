"""The chat's text as tokens: prompt, completion, end of turn. Needs the tokenizer only, not the model.

A chat template is a program that somebody wrote: it may lose the question, read the clock or never end. So a probe goes
through it before anything is spent (`refuse_unfit`), and what comes out is searched for what went in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from transformers import AutoTokenizer
from transformers.tokenization_utils_tokenizers import TokenizersBackend
from transformers.utils import chat_template_utils

from kiyas.data.model_files import refuse_strange
from kiyas.data.template_bounds import OutOfBoundsError, bounded
from kiyas.study import limits
from kiyas.types import KiyasError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "tokenizer_config.json")
DAY = datetime(2024, 7, 26)
"""Today, for every template that asks: prompts of one study must not change at midnight. Llama 3.1's own default."""
PROBE = 'Kiyas asks: is 1 < 2 & "x" != y?\n\n    for each in [1, 2]:\n\tprint(each)  # {{ n }}\nEnd of the question.'
Turns = Sequence[tuple[str, Any]]


class UnfitTemplateError(KiyasError):
    """The chat template cannot render these turns."""


class _Frame(NamedTuple):
    """What a template writes around every question."""

    before: str
    after: str
    trims: bool
    """it takes white space off both ends of the question"""

    def around(self, prompt: str) -> str:
        return f"{self.before}{prompt.strip() if self.trims else prompt}{self.after}"


@dataclass
class Chat:
    """A tokenizer and its chat template."""

    tokenizer: Any
    path: str
    _frames: dict[str | None, _Frame | None] = field(default_factory=dict, repr=False)
    """by system message; None where what is around a question depends on it"""

    @classmethod
    def load(cls, path: str | Path) -> Chat:
        """Raises KiyasError when the folder has no usable tokenizer."""
        if Path(path).is_dir():
            refuse_strange(Path(path))
        for file in TOKENIZER_FILES:
            if (found := Path(path) / file).is_file():
                limits.TOKENIZER.refuse_above(found.stat().st_size, found)
        try:
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise KiyasError(f"cannot load the tokenizer in {path}: {reason}") from error
        # A missing vocabulary file gives an empty tokenizer without any complaint.
        if len(tokenizer) < 3 or not tokenizer("print(1)", add_special_tokens=False)["input_ids"]:
            raise KiyasError(f"the tokenizer in {path} is empty: its vocabulary files are missing")
        return cls(tokenizer, str(path))

    def refuse_unfit(self, system: str | None) -> None:
        """Renders a probe with this system message, and looks for it.

        Raises KiyasError for a template that cannot be run, that loses or changes the question, or whose text is
        another one each time; and for a tokenizer that puts special tokens into every text.
        """
        if set(self._ids(PROBE)) & {self.tokenizer.eos_token_id, self.tokenizer.bos_token_id} - {None}:
            raise KiyasError(
                f"the tokenizer in {self.path} puts its special tokens into every text, even where they are not wanted",
                "set add_bos_token and add_eos_token to false in its tokenizer_config.json",
            )
        if not self.tokenizer.chat_template:
            self.prompt_ids(PROBE, system)
            return
        text = self._prompt(PROBE, system)
        if PROBE not in text:
            what = "changes" if PROBE[:11] in text else "loses"
            raise KiyasError(
                f"the chat template in {self.path} {what} the question: the model would be asked something else",
                "it expects a list of parts as content: use a template for text"
                if self._takes_parts()
                else "use the model's own tokenizer files, or repair the template: {{ message['content'] }}",
            )
        if any(self._prompt(PROBE, system) != text for _ in range(8)):
            raise KiyasError(
                f"the chat template in {self.path} draws random numbers: the same question gives other prompts",
                "remove `random` and `lipsum` from the template",
            )

    def _takes_parts(self) -> bool:
        with contextlib.suppress(KiyasError):
            return PROBE in self.render([("user", [{"type": "text", "text": PROBE}])])
        return False

    def render(self, turns: Turns, open_answer: bool = False, clock: bool = False) -> str:
        """Turns (role, text) as the template writes them; today is DAY, or with `clock` what the clock says.

        Raises UnfitTemplateError.
        """
        named = self.tokenizer.chat_template
        if isinstance(named, dict) and "default" not in named:
            names = ", ".join(map(str, named))
            raise UnfitTemplateError(
                f"the tokenizer in {self.path} has several chat templates ({names}) and no default",
                "call the one to train with `default`, in tokenizer_config.json or as chat_template.jinja",
            )
        source = self._source(clock)
        messages = [{"role": role, "content": text} for role, text in turns]
        try:
            with bounded(sum(len(text) for _, text in turns if isinstance(text, str))):
                return str(
                    self.tokenizer.apply_chat_template(
                        messages, chat_template=source, tokenize=False, add_generation_prompt=open_answer
                    )
                )
        except OutOfBoundsError as error:
            raise UnfitTemplateError(
                f"the chat template in {self.path} {error}",
                "use the model's own tokenizer files, or repair the template",
            ) from None
        except TemplateSyntaxError as error:
            raise UnfitTemplateError(
                f"the chat template in {self.path} is broken, line {error.lineno}: {error.message}",
                "use the model's own tokenizer files, or repair the template",
            ) from error
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            if not isinstance(error, TemplateError):
                reason = f"{type(error).__name__}: {reason}"
            raise UnfitTemplateError(f"the chat template in {self.path} refuses this chat: {reason}") from error

    def _source(self, clock: bool = False) -> str:
        source = str(self.tokenizer.get_chat_template())
        return _FIXED_CLOCK + source if "strftime_now" in source and not clock else source

    @cached_property
    def end_of_turn(self) -> int:
        """The token that ends an answer: what the chat template puts after the assistant's words, else eos."""
        # Some templates want a system message first.
        given: tuple[Turns, ...] = ([("user", "x")], [("system", "x"), ("user", "x")])
        around = (self.around_answer(turns) for turns in given if self.tokenizer.chat_template)
        ids = self._ids(next((after for _, after in filter(None, around)), ""))
        if ids and ids[0] in self.tokenizer.added_tokens_decoder:
            return int(ids[0])
        if self.tokenizer.eos_token_id is None:
            raise KiyasError(
                f"the tokenizer in {self.path} has no end-of-turn token (eos_token)",
                "name one in its tokenizer_config.json",
            )
        return int(self.tokenizer.eos_token_id)

    def around_answer(self, turns: Turns) -> tuple[str, str] | None:
        """What the template writes before and after an answer to these turns; None where it cannot be seen."""
        marker = "kiyas-marker"
        for more in ([], [("user", "x")]):  # some templates want the user's words last
            with contextlib.suppress(UnfitTemplateError):
                before, found, after = self.render([*turns, ("assistant", marker), *more]).rpartition(marker)
                if found:
                    return before, after
        return None

    def prompt_ids(self, prompt: str, system: str | None) -> list[int]:
        """The chat up to where the assistant starts to speak."""
        if self.tokenizer.chat_template:
            return self._ids(self._prompt(prompt, system))
        plain = self._ids(text := (f"{system}\n\n" if system else "") + prompt + "\n")
        ids = list(self.tokenizer(text)["input_ids"])
        starts = (start for start in range(len(ids) - len(plain) + 1) if ids[start : start + len(plain)] == plain)
        start = next(starts, None)
        if start is None:
            raise KiyasError(
                f"the tokenizer in {self.path} changes a text when it adds its special tokens",
                "use the model's own tokenizer files",
            )
        # What it puts behind a text, an end token usually, would say that the answer is over.
        return ids[: start + len(plain)]

    @property
    def appended(self) -> list[int]:
        """What the tokenizer puts behind a text by itself."""
        ids, plain = list(self.tokenizer("print(1)")["input_ids"]), self._ids("print(1)")
        places = [start for start in range(len(ids)) if ids[start : start + len(plain)] == plain]
        return ids[places[0] + len(plain) :] if places else []

    def _prompt(self, prompt: str, system: str | None) -> str:
        """Raises KiyasError, with what to change, when the template refuses the chat."""
        turns = [("user", prompt)]
        given = turns if system is None else [("system", system), *turns]
        try:
            return self.render(given, open_answer=True)
        except UnfitTemplateError as error:
            if error.hint:
                raise
            other = [("system", "x"), ("user", "x")] if system is None else [("user", "x")]
            error.hint = "use the model's own tokenizer files, or repair the template"
            with contextlib.suppress(UnfitTemplateError):
                self.render(other, open_answer=True)
                error.hint = (
                    "it needs a system message: set dataset.system"
                    if system is None
                    else "it does not support a system role: leave dataset.system out"
                )
            raise

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def completion_ids(self, completion: str) -> list[int]:
        """The answer and the end-of-turn token, which is learned whatever the pad token is."""
        return [*self._ids(completion), self.end_of_turn]

    def all_prompt_ids(self, prompts: Sequence[str], system: str | None) -> list[list[int]]:
        """`prompt_ids` of each. The template writes the same around every question, unless it reads it: that is found
        out once, and looked at again with one prompt of every call."""
        if not self.tokenizer.chat_template or not prompts:
            return [self.prompt_ids(prompt, system) for prompt in prompts]
        if system not in self._frames:
            self._frames[system] = self._frame(system)
        frame = self._frames[system]
        probe = max(prompts, key=len)
        if frame is not None and frame.around(probe) != self._prompt(probe, system):
            frame = self._frames[system] = None
        texts = [
            frame.around(prompt) if frame and prompt.strip() else self._prompt(prompt, system) for prompt in prompts
        ]
        return self._all_ids(texts)

    def all_completion_ids(self, completions: Sequence[str]) -> list[list[int]]:
        """`completion_ids` of each."""
        found = self._all_ids(completions)
        for ids in found:
            ids.append(self.end_of_turn)
        return found

    def _all_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """`_ids` of each, on all cores."""
        # A tokenizer with a way of its own is asked its own way.
        if getattr(type(self.tokenizer), "_encode_plus", None) is not TokenizersBackend._encode_plus:
            return list(map(self._ids, texts))
        self._ids("x")  # sets what is said of padding, truncation and special tokens
        found = self.tokenizer.backend_tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [each.ids for each in found]

    def _frame(self, system: str | None) -> _Frame | None:
        """What the template writes around every question; None where that may depend on the question."""
        text = self._prompt(PROBE_WITH_ENDS, system)
        if not self._leaves_unread(system, text):
            return None
        for marker, trims in ((PROBE_WITH_ENDS, False), (PROBE_WITH_ENDS.strip(), True)):
            before, found, after = text.partition(marker)
            if found and PROBE not in before + after:
                return _Frame(before, after, trims)
        return None

    def _leaves_unread(self, system: str | None, text: str) -> bool:
        """Whether the template writes this text without reading the question in it."""
        turns = [] if system is None else [{"role": "system", "content": system}]
        chat = [*turns, {"role": "user", "content": _Unread(PROBE_WITH_ENDS)}]
        with contextlib.suppress(Exception, OutOfBoundsError), bounded(len(text)):
            template = chat_template_utils._compile_jinja_template(self._source())
            if _compares_sideways(template.environment.parse(self._source())):
                return False
            environment, plain = template.environment, template.environment.call

            def call(context: Any, called: Any, *given: Any, **named: Any) -> Any:
                if any(isinstance(each, _Unread) for each in (*given, *named.values())):
                    raise TypeError("the question is read")
                return plain(context, called, *given, **named)

            environment.call = call
            try:
                written = template.render(
                    messages=chat,
                    tools=None,
                    documents=None,
                    add_generation_prompt=True,
                    **self.tokenizer.special_tokens_map,
                )
            finally:
                del environment.call
            return str.__eq__(str.__str__(written), text)
        return False  # whatever stands in the way, each question is rendered by itself

    def text(self, ids: list[int]) -> str:
        """An answer's tokens as text, without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


PROBE_WITH_ENDS = f" \n{PROBE}\t "


class _Unread(str):
    """A question that a template may write, put something before or after, and trim. Reading it is an error."""

    __slots__ = ()

    def __str__(self) -> str:
        return self

    def __bool__(self) -> bool:
        return True  # empty ones are left out before

    def __add__(self, other: Any) -> str:
        return _Unread(str.__add__(self, other))

    def __radd__(self, other: Any) -> str:
        return _Unread(str.__add__(other, self))

    def strip(self, *signs: Any) -> str:
        if signs not in ((), (None,)) or not str.__eq__(self, PROBE_WITH_ENDS):
            raise TypeError("the question is read")
        return _Unread(str.strip(self))


def _compares_sideways(template: nodes.Template) -> bool:
    """Whether something may be compared in a way that `_Unread` cannot notice: as the left side of `in`, or handed to a
    filter or a test."""

    def known(node: Any) -> bool:
        part = node.attr if isinstance(node, nodes.Getattr) else getattr(getattr(node, "arg", None), "value", None)
        return isinstance(node, nodes.Const) or part == "role"

    inside = (
        known(each.expr) or operand.op not in ("in", "notin")
        for each in template.find_all(nodes.Compare)
        for operand in each.ops
    )
    handed = (
        all(isinstance(given, nodes.Const) for given in each.args) and not each.kwargs and each.name != "in"
        for each in template.find_all((nodes.Filter, nodes.Test))
    )
    return not all(inside) or not all(handed)


def _refuse_to_be_read(*_: Any, **__: Any) -> Any:
    raise TypeError("the question is read")


for _name in dir(str):
    if (_name not in vars(_Unread) and _name not in dir(object)) or _name in (
        "__eq__",
        "__ne__",
        "__hash__",
        "__format__",
    ):
        setattr(_Unread, _name, _refuse_to_be_read)
for _name in ("__lt__", "__le__", "__gt__", "__ge__"):
    setattr(_Unread, _name, _refuse_to_be_read)


_DIRECTIVES = ("%-d", "%-m", *(f"%{letter}" for letter in "aAbBcdefGHIjmMpSuUVwWxXyYZz"))
_FIXED_CLOCK = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f"|replace('{each}', '{DAY.strftime(each)}')" for each in _DIRECTIVES)
    + " }}{% endmacro +%}"
)
"""Put in front of a template, it hides the clock that transformers gives."""
