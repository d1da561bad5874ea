"""A chat template is a stranger's program: it runs in jinja2's sandbox, and here within bounds of time and memory.

Theory. Each chat may take so many lines of the template's own code and so many seconds, looked at on every line of
its own and of the filters; and so much memory, by the process's own limit while it renders. What one instruction could
spend without coming back to us is bounded where it begins: the arithmetic of long integers and repeated texts (`*`,
`**`), and the filters whose time grows faster than their text. Not guaranteed: a time below that of one pass over the
memory limit.
"""

from __future__ import annotations

import contextlib
import functools
import json.encoder
import os
import pprint
import resource
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import jinja2
from transformers.utils import chat_template_utils as theirs

STEPS = 1_000_000
"""Lines of a template's own code that one chat may take; real templates take some hundreds."""
SECONDS = 20.0
BYTES = 2**30
"""Memory that a chat may take, beside 32 bytes for each character of its texts."""
BITS = 10_000
"""of an integer"""
REPEATED = 1_000_000
"""characters or elements that `*` may make"""
LONGEST_SOURCE = 2_000_000
TEMPLATE = "<template>"
LOOPS = tuple(module.__file__ for module in (jinja2.filters, jinja2.utils, json.encoder, pprint, textwrap))
"""Code of filters that may go on for as long as a template says."""
SLOW_FILTERS = ("wordwrap", "urlize")
MOST_DIGITS = 20
"""that the filter `round` rounds to"""


class OutOfBoundsError(BaseException):
    """What one chat took too much of, in words. jinja2 swallows every Exception where it computes constants."""


@contextlib.contextmanager
def bounded(characters: int) -> Iterator[None]:
    """Inside, transformers renders a chat of so many characters within bounds. Raises OutOfBoundsError."""
    compile_theirs = theirs._compile_jinja_template
    theirs._compile_jinja_template = functools.partial(_compiled, compile_theirs)
    try:
        with _memory(BYTES + 32 * characters), _steps():
            yield
    except MemoryError:
        raise OutOfBoundsError("takes too much memory") from None
    finally:
        theirs._compile_jinja_template = compile_theirs


@functools.lru_cache(maxsize=8)
def _compiled(compile_theirs: Callable[[str], Any], source: str) -> Any:
    """The template as transformers compiles it, its operators and slow filters bounded."""
    if len(source) > LONGEST_SOURCE:
        raise OutOfBoundsError(f"is longer than {LONGEST_SOURCE:,} characters")
    # An environment of its own, made before the source is looked at: constants are computed when it is compiled.
    environment = compile_theirs(f"{{# {hash(source)} #}}").environment
    plain = environment.call_binop

    def call_binop(context: Any, operator: str, left: Any, right: Any) -> Any:
        _refuse_large(operator, left, right)
        return plain(context, operator, left, right)

    environment.intercepted_binops = frozenset(environment.default_binop_table)
    environment.call_binop = call_binop
    for name in SLOW_FILTERS:
        environment.filters[name] = _short(environment.filters[name])
    environment.filters["round"] = _few_digits(environment.filters["round"])
    return environment.from_string(source)


def _refuse_large(operator: str, left: Any, right: Any) -> None:
    numbers = [each for each in (left, right) if isinstance(each, int)]
    if any(each.bit_length() > BITS for each in numbers):
        raise OutOfBoundsError("computes with endless numbers")
    if operator == "**" and len(numbers) == 2 and right > 0 and left.bit_length() * right > BITS:
        raise OutOfBoundsError("computes with endless numbers")
    if operator == "*" and len(numbers) == 1:
        (other,) = (each for each in (left, right) if not isinstance(each, int))
        if hasattr(other, "__len__") and len(other) * numbers[0] > REPEATED:
            raise OutOfBoundsError(f"repeats a text more often than fits into {REPEATED:,} characters")


def _short(filter: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(filter)
    def guarded(*arguments: Any, **named: Any) -> Any:
        if any(isinstance(each, str) and len(each) > REPEATED for each in arguments):
            raise OutOfBoundsError(f"gives a slow filter more than {REPEATED:,} characters")
        return filter(*arguments, **named)

    return guarded


def _few_digits(filter: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(filter)
    def guarded(value: Any, precision: int = 0, *arguments: Any, **named: Any) -> Any:
        if not isinstance(precision, int) or abs(precision) > MOST_DIGITS:
            raise OutOfBoundsError(f"rounds to more than {MOST_DIGITS} digits")
        return filter(value, precision, *arguments, **named)

    return guarded


@contextlib.contextmanager
def _steps() -> Iterator[None]:
    """Inside, a template may take no more than STEPS lines of its own code, and SECONDS."""
    steps, end = 0, time.monotonic() + SECONDS

    def step(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal steps
        file = frame.f_code.co_filename
        # Not in what the garbage collector calls: it would swallow the error, and Python would call us no more.
        if file != TEMPLATE and file not in LOOPS:
            return None
        if time.monotonic() > end:
            raise OutOfBoundsError(f"does not end within {SECONDS:.0f} seconds for one chat")
        if file in LOOPS:
            return step
        steps += 1
        if steps > STEPS:
            raise OutOfBoundsError(f"does not end: more than {STEPS:,} steps for one chat")
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        yield
    finally:
        sys.settrace(before)


@contextlib.contextmanager
def _memory(more: int) -> Iterator[None]:
    """Inside, this process may map so many bytes more than now; where its size cannot be read, there is no limit."""
    try:
        file = os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        yield
        return
    now = int(os.read(file, 100).split()[0]) * resource.getpagesize()
    os.close(file)
    before = resource.getrlimit(resource.RLIMIT_AS)
    caps = [cap for cap in before if cap != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([now + more, *caps]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
