"""The error that a problem's statement allows.

Read where a sentence allows the answer an absolute or relative error and gives it as a small number: AtCoder's and
Codeforces' wording in English, AtCoder's in Japanese, CodeContests' plain text (`10 - 6`), and LeetCode's "answers
within 10^-5 of the actual answer". A sentence with two different numbers, or with none, is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from .types import Problem

MOST = 0.1
_LONGEST = 20_000
"""characters of a statement's end and beginning that are looked at"""
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_MINUS = re.compile("[\u2212\u2010-\u2015\uff0d\ufe63\u2796]|&minus;|\\\\textminus")
_RAISED = re.compile("([⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3})")
_MARKUP = re.compile(
    r"\\(?:left|right|mathrm|text|rm|displaystyle|,|;|!|:|\(|\)|\[|\])|&nbsp;|[${}`~\u00a0\u3000\u2009]"
)
_SUP = re.compile(r"<sup>[ \t]{0,3}([-+]?[ \t]{0,3}\d{1,3})[ \t]{0,3}</sup>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-z]{1,10}(?:[ \t][^<>\n]{0,100})?>", re.IGNORECASE)
_SENTENCES = re.compile(r"\.(?=\s|$)|。|\n[ \t]{0,20}\n|[!?！？](?=\s|$)")
_NUMBER = re.compile(
    r"(?<![\w.^])(?:(?P<by>\d(?:\.\d{1,6})?)[ ]?(?:\*|x|×|\\times|\\cdot)[ ]?)?"
    r"10[ ]?(?:\^|\*\*)?[ ]?\(?[ ]?-[ ]?(?P<power>\d{1,2})\)?(?![\w.]?\d)"
    r"|(?<![\w.^])(?P<mantissa>\d(?:\.\d{1,6})?)[ ]?e[ ]?-[ ]?0{0,2}(?P<e>\d{1,2})(?!\d)"
    r"|(?<![\w.^])(?P<plain>0?\.\d{1,15})(?![\d%])",
    re.IGNORECASE,
)
_ABSOLUTE = re.compile(r"\babsolute\b|絶対誤差", re.IGNORECASE)
_RELATIVE = re.compile(r"\brelative\b|相対誤差", re.IGNORECASE)
_ERROR = re.compile(r"\b(?:errors?|precision|accuracy|tolerance)\b|誤差", re.IGNORECASE)
_BOTH = re.compile(
    r"absolute and (?:the )?relative|relative and (?:the )?absolute|both (?:absolute|relative)", re.IGNORECASE
)
_ALLOWS = re.compile(
    r"\b(?:answers?|outputs?|output|your|you|print(?:ed)?|solutions?|results?|values?|correct|accept(?:ed|able)?|considered|"
    r"judges?|jury|allowed|permitted|checked|within|should|must|will)\b|以下|以内|未満|許容|正解|正答",
    re.IGNORECASE,
)
_FORMULA = re.compile(r"a ?- ?b.{0,40}max ?\(? ?1 ?,", re.DOTALL)
_LEETCODE = re.compile(
    r"\banswers?\b.{0,40}\bwithin\b.{0,80}\bof the (?:actual|correct|expected|true)\b.{0,60}\b(?:accept|correct)",
    re.IGNORECASE | re.DOTALL,
)


def stated(statement: str) -> tuple[float, str] | None:
    """(error, "either", "absolute" or "relative") that a statement allows; None where it does not say so clearly."""
    found = {
        (error, kind) for sentence in _SENTENCES.split(_plain(statement)) for error, kind in _of_sentence(sentence)
    }
    return found.pop() if len(found) == 1 else None


def _of_sentence(sentence: str) -> set[tuple[float, str]]:
    if len(sentence) > 2000:
        return set()
    absolute, relative = bool(_ABSOLUTE.search(sentence)), bool(_RELATIVE.search(sentence))
    if (absolute or relative) and _ERROR.search(sentence) and _ALLOWS.search(sentence) and not _BOTH.search(sentence):
        kind = "either" if absolute and relative else "absolute" if absolute else "relative"
    elif _FORMULA.search(sentence):
        kind = "either"
    elif _LEETCODE.search(sentence):
        kind = "absolute"
    else:
        return set()
    return {(error, kind) for match in _NUMBER.finditer(sentence) if 0 < (error := _value(match)) <= MOST}


def _value(match: re.Match[str]) -> float:
    if match["plain"]:
        return float(match["plain"])
    return float(f"{match['by'] or match['mantissa'] or 1}e-{match['power'] or match['e']}")


def _plain(statement: str) -> str:
    """Without LaTeX and HTML around numbers; every minus is a hyphen and every power a `^`."""
    text = statement if len(statement) <= 2 * _LONGEST else statement[:_LONGEST] + "\n\n" + statement[-_LONGEST:]
    text = _RAISED.sub(lambda match: "^" + match[1].translate(_SUPERSCRIPTS), text)
    text = _TAG.sub("", _SUP.sub(r"^\1", _MINUS.sub("-", text)))
    return re.sub(r"[ \t]{2,}|(?<!\n)\n(?!\n)", " ", _MARKUP.sub("", text))


def with_tolerance(problem: Problem) -> Problem:
    """The problem with the error of its statement; its own tolerance, checker or test code wins."""
    if problem.tolerance is not None or problem.checker is not None or problem.test_code is not None:
        return problem
    found = stated(problem.statement)
    if found is None:
        return problem
    error, kind = found
    if kind == "either":
        return replace(problem, tolerance=error)
    return replace(problem, checker=f"floats:{kind}:{error:g}")


def with_statement(problems: Iterable[Problem]) -> list[str]:
    """Ids of the problems that get a tolerance from their statement."""
    return [problem.id for problem in problems if with_tolerance(problem) is not problem]
