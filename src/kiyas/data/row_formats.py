"""The usual shapes of training data → one prompt and one completion a row.

Recognised by their columns: `prompt`/`completion` (text, or TRL's lists of messages), `messages` (OpenAI's),
`conversations` (ShareGPT's), `instruction`/`input`/`output` (Alpaca's). Anything else is named with
dataset.prompt_column and dataset.completion_column.

Nothing is dropped in silence. A text that the model would have to see beside the question (a system message, earlier
turns, tools) is used, refused, or makes the row unusable, by name; columns that nothing was read from are listed.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from kiyas.study import limits
from kiyas.study.settings import Dataset
from kiyas.types import KiyasError

USER, ASSISTANT, SYSTEM, TOOL = "user", "assistant", "system", "tool"
ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "usr"), USER),
    **dict.fromkeys(
        ("assistant", "gpt", "chatgpt", "gpt3", "gpt35", "gpt4", "gpt4o", "bard", "bing", "bingchat"), ASSISTANT
    ),
    **dict.fromkeys(("model", "bot", "chatbot", "ai", "claude", "gemini", "llm"), ASSISTANT),
    **dict.fromkeys(("system", "developer", "systemprompt", "systemmessage", "sys"), SYSTEM),
    **dict.fromkeys(("tool", "tools", "observation", "function", "functioncall", "functionresponse"), TOOL),
    **dict.fromkeys(("toolcall", "toolcalls", "toolresponse", "toolresult", "functionresult", "ipython"), TOOL),
}
"""Letters and digits of a role's name → whose turn it is."""
USUAL = tuple(Dataset.model_fields[key].default for key in ("prompt_column", "completion_column"))
CHATS = ("messages", "conversations", "conversation")
_ROLE_KEYS = ("role", "from", "speaker", "author", "sender")
_TEXT_KEYS = ("content", "value", "text")
_BESIDE = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking", "images", "audio")
"""What a turn may hold beside its text, and a model that is given the text alone would not see."""
_SYSTEM_COLUMN = re.compile(
    r"(default|custom|chat|instruction|prompt|llm|model|the)*(system|sys)"
    r"(prompt|message|messages|msg|text|instruction|instructions|content|turn|role|input|context)*"
)
_EARLIER_COLUMN = re.compile(
    r"(chat|conversation|dialogue|dialog|message|context|prompt|qa)*history|(previous|prior|past|earlier)(turns|messages)"
)
_TOOLS_COLUMN = re.compile(r"tools?|images?|videos?|audios?|toolcalls")
_OWN_COLUMNS = ("id", "split", "group")
_TOKENS = re.compile(
    r"<\|(?:im_start|im_end|im_sep|start_header_id|end_header_id|eot_id|eom_id|begin_of_text|end_of_text|endoftext"
    r"|system|user|assistant|end|start|message|channel|return|turn|prompter|eot|role_end"
    r"|START_OF_TURN_TOKEN|END_OF_TURN_TOKEN|USER_TOKEN|CHATBOT_TOKEN|SYSTEM_TOKEN"
    r"|start_of_role|end_of_role|header_start|header_end)\|>"
    r"|\[/?INST\]|<</?SYS>>|\[/?SYSTEM_PROMPT\]|</?(?:start_of_turn|end_of_turn)>|<turn\|>|<\|turn>"
    r"|<｜[^｜<>\n]{1,30}｜>|<\[?\|?(?:Human|Assistant|User)\|?\]?>|GPT4 Correct (?:User|Assistant):"
    r"|(?:^|(?<=\n))[ \t]*(?:#{1,4}[ \t]*(?:Human|Assistant|User|Instruction|Response|System|GPT|Question|Answer)"
    r"[ \t]*:|(?:Human|HUMAN|Assistant|ASSISTANT|USER|SYSTEM)[ \t]*:)"
    r"|\bASSISTANT:|\A<s>|</s>\s*\Z"
)
_TOKEN_PARTS = re.compile(
    r"<\||INST\]|SYS>>|_PROMPT\]|_of_turn>|<｜|Human|Assistant|User|Instruction|Response|System|GPT|Question|Answer"
    r"|HUMAN|ASSISTANT|USER|SYSTEM|<turn\|>|</?s>"
)
"""Each match of `_TOKENS` has one of them: most texts have none, and need no search."""


class Reader:
    """Prompt and completion of every row of one source, and what was found on the way."""

    shape: str
    odd: Counter[str]
    """rows that are unusable, by reason"""
    flags: Counter[str]
    """rows that are used, and deserve a word, by what it is"""

    def __init__(self, columns: Collection[str], settings: Dataset, source: str) -> None:
        """`columns`: of all rows. Raises KiyasError for columns that are not there."""
        self._settings, self._source = settings, source
        self.odd, self.flags = Counter(), Counter()
        self._systems, self._rows, self._with_tokens = Counter[str](), 0, 0
        wanted = settings.prompt_column, settings.completion_column
        chat = next((name for name in CHATS if name in columns), None)
        self._take: Callable[[dict[str, Any]], _Taken]
        if all(column in columns for column in wanted):
            self.shape, used, self._take = ", ".join(wanted), list(wanted), _columns(*wanted)
        elif wanted == USUAL and chat is not None:
            self.shape = "messages" if chat == "messages" else "ShareGPT"
            used, self._take = [chat], lambda row: _turns(row.get(chat))
        elif wanted == USUAL and {"instruction", "output"} <= set(columns):
            self.shape, used, self._take = "Alpaca", ["instruction", "input", "output"], _alpaca
        else:
            missing = next(column for column in wanted if column not in columns)
            role = "prompt_column" if missing == wanted[0] else "completion_column"
            raise KiyasError(
                f"{source} has no column {missing!r}; it has {_some(columns)}",
                f"say which one it is with dataset.{role} (messages, ShareGPT and Alpaca are recognised by themselves)",
            )
        others = [column for column in columns if column not in used]
        self._system_columns, self._earlier, self._tools = (
            [column for column in others if pattern.fullmatch(_letters(column))]
            for pattern in (_SYSTEM_COLUMN, _EARLIER_COLUMN, _TOOLS_COLUMN)
        )
        aside = {*self._system_columns, *self._earlier, *self._tools}
        known = {*aside, settings.split_column, settings.group_by, *_OWN_COLUMNS}
        self._left = [column for column in others if column not in known]
        self._blank = set(self._left)

    def read(self, row: dict[str, Any]) -> tuple[Any, Any]:
        """Prompt and completion; (None, None) of an unusable row."""
        self._rows += 1
        taken = self._take(row)
        fault = (
            taken.fault
            or ("not_one_question_and_answer" if any(not _blank(row.get(name)) for name in self._earlier) else "")
            or ("uses_tools_or_pictures" if any(not _blank(row.get(name)) for name in self._tools) else "")
        )
        own = self._settings.system
        system = "\n".join([taken.system, *(_as_text(row.get(name)) for name in self._system_columns)]).strip()
        if system and own is None:
            self._systems[system] += 1
        if fault:
            named = fault in self.odd or len(self.odd) < 12
            self.odd[fault if named else "other reasons"] += 1
        elif system and own is not None and system != own.strip():
            self.flags["other_system"] += 1
        if self._blank:
            self._blank -= {name for name in self._blank if not _blank(row.get(name))}
        pair = (None, None) if fault else (taken.prompt, taken.completion)
        self._with_tokens += any(map(carries_chat_tokens, pair))
        return pair

    @property
    def unused(self) -> list[str]:
        """Columns with something in them that nothing was read from."""
        return [column for column in self._left if column not in self._blank]

    def finish(self) -> None:
        """After the last row. Raises KiyasError for system messages in the data that the study does not know of."""
        self.flags["chat_tokens"] = self._with_tokens
        if self._systems:
            text, count = self._systems.most_common(1)[0]
            where = f" (column {', '.join(self._system_columns)})" if self._system_columns else ""
            raise KiyasError(
                f"{self._source}: {sum(self._systems.values())} of {self._rows} rows carry a system message of their "
                f"own{where} (the most frequent, {count} times: {text[:80]!r})",
                "every chat of a study has the same one, in training and on the benchmark: set dataset.system",
            )


def carries_chat_tokens(text: Any) -> bool:
    """Whether a text holds the marks of a chat template: it would be put into one a second time."""
    return isinstance(text, str) and _TOKEN_PARTS.search(text) is not None and _TOKENS.search(text) is not None


@dataclass(frozen=True)
class _Taken:
    """One row. A fault says why it is unusable."""

    prompt: Any = None
    completion: Any = None
    system: str = ""
    fault: str = ""


def _columns(prompt_column: str, completion_column: str) -> Callable[[dict[str, Any]], _Taken]:
    def take(row: dict[str, Any]) -> _Taken:
        prompt, completion = (_chat_in(row.get(name)) for name in (prompt_column, completion_column))
        if isinstance(prompt, list) or isinstance(completion, list):
            before = prompt if isinstance(prompt, list) else [{"role": USER, "content": prompt}]
            after = completion if isinstance(completion, list) else [{"role": ASSISTANT, "content": completion}]
            return _turns([*before, *after])
        return _Taken(prompt, completion)

    return take


def _chat_in(value: Any) -> Any:
    """A list of turns where a text or a table of columns is one; else the value as it is."""
    if isinstance(value, dict) and any(key in value for key in (*_ROLE_KEYS, *map(str.title, _ROLE_KEYS))):
        lists = list(value.values())
        if all(isinstance(each, list) and len(each) == len(lists[0]) for each in lists):
            return [dict(zip(value, turn, strict=True)) for turn in zip(*lists, strict=True)]
        return [value]
    if isinstance(value, str) and len(value) <= limits.TEXT.most and value.lstrip()[:1] in ("[", "{"):
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(value.strip())
            except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
                continue
            found = _chat_in(found) if isinstance(found, dict) else found
            return found if isinstance(found, list) and found and all(map(_has_role, found)) else value
    return value


def _has_role(turn: Any) -> bool:
    return isinstance(turn, dict) and any(key in turn for key in _ROLE_KEYS)


def _turns(turns: Any) -> _Taken:
    turns = _chat_in(turns)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return _Taken(fault="not_text")
    said = [each for turn in turns for each in _said(turn)]
    system = ""
    while said and said[0][0] == SYSTEM:
        system = f"{system}\n{_as_text(said.pop(0)[1])}".strip()
    roles = [role for role, _, _ in said]
    fault = next((fault for _, _, fault in said if fault), "")
    if TOOL in roles:
        fault = "uses_tools_or_pictures"
    strange = [role for role in roles if role not in (USER, ASSISTANT, SYSTEM, TOOL)]
    if strange:
        fault = f"unknown role {strange[0][:30]!r}"
    elif roles != [USER, ASSISTANT]:
        fault = fault or "not_one_question_and_answer"
    return _Taken(system=system, fault=fault) if fault else _Taken(said[0][1], said[1][1], system)


def _said(turn: dict[str, Any]) -> list[tuple[str, Any, str]]:
    """(role, text, fault) of one turn; two where the turn is a question with its answer."""
    turn = {str(key).lower(): value for key, value in turn.items()}
    role_key = next((key for key in _ROLE_KEYS if not _blank(turn.get(key))), None)
    if role_key is None:
        pairs = [(ROLES[_letters(key)], value) for key, value in turn.items() if _letters(key) in ROLES]
        return [(role, *_plain(value)) for role, value in pairs] or [("", None, "")]
    given = str(turn[role_key])
    role = ROLES.get(_letters(given), given)
    written = [turn[key] for key in _TEXT_KEYS if not _blank(turn.get(key))]
    if any(not _blank(turn.get(key)) for key in _BESIDE):
        return [(role, None, "has_reasoning_tools_or_pictures_beside_the_text")]
    if role == ASSISTANT and any(
        str(turn[key]).lower() in ("0", "0.0", "false") for key in ("weight", "train") if not _blank(turn.get(key))
    ):
        return [(role, None, "marked_as_not_to_be_learned")]
    if len(written) > 1 and any(each != written[0] for each in written):
        return [(role, None, "not_text")]
    return [(role, *_plain(written[0] if written else ""))]


def _plain(content: Any) -> tuple[Any, str]:
    """The text of a turn whose content is text, or a list of parts that are text; and a fault."""
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return content, ""
    parts = []
    for part in content:
        given = part if isinstance(part, dict) else {"text": part}
        text = next((given[key] for key in _TEXT_KEYS if key in given), None)
        kind = given.get("type", "text")
        if kind not in ("text", "input_text", "output_text"):
            return None, "has_reasoning_tools_or_pictures_beside_the_text"
        if not isinstance(text, str):
            return None, "not_text"
        parts.append(text)
    return "".join(parts), ""


def _alpaca(row: dict[str, Any]) -> _Taken:
    instruction, given = row.get("instruction"), row.get("input")
    prompt = instruction if _blank(given) else f"{instruction}\n\n{given}" if isinstance(given, str) else None
    return _Taken(prompt, row.get("output"))


def _letters(name: Any) -> str:
    """`System-Prompt`, `systemPrompt` and `system_prompt` are one name."""
    return re.sub(r"[\W_]", "", str(name)).lower()


def _blank(value: Any) -> bool:
    """Nothing is in it: null, no text, not a number, or a list of such."""
    if isinstance(value, str):
        return value.strip() in ("", "[]", "{}", "null", "None", "nan")
    if isinstance(value, list | tuple):
        return all(map(_blank, value))
    if isinstance(value, dict):
        return all(map(_blank, value.values()))
    return value is None or value != value


def _as_text(value: Any) -> str:
    """A system message as text, however it is kept."""
    if _blank(value):
        return ""
    if isinstance(value, dict):
        value = next((value[key] for key in _TEXT_KEYS if key in value), value)
    text, _ = _plain(value)
    return text if isinstance(text, str) else str(value)


def _some(columns: Any) -> str:
    names = [str(name) for name in columns]
    return ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")
