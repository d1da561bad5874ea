"""Problem statements: a few paraphrases for every sentence, the input format, one sample.

Prompts are short on purpose (about 75 tokens of the practice tokenizer): a demo trains on them in minutes.
"""

from __future__ import annotations

from random import Random
from typing import Any

from kiyas.practice.grammar import Constant, Spec, render_input, solve

INTRODUCTIONS = {
    "list": ("You are given N integers.", "Given are N integers.", "There is a list of N integers."),
    "string": ("You are given a string S.", "Given is a string S.", "There is a string S of small letters."),
    "pair": (
        "You are given two integers A and B.",
        "Given are integers A and B.",
        "There are two integers A and B.",
    ),
}
INPUT_FORMATS = {"list": "N\nA1 ... AN", "string": "S", "pair": "A B"}

LIST_FILTERS = {
    "even": ("Keep only the even ones.", "Take only even numbers."),
    "odd": ("Keep only the odd ones.", "Take only odd numbers."),
    "above": ("Keep only those greater than {k}.", "Take only numbers above {k}."),
    "below": ("Keep only those less than {k}.", "Take only numbers below {k}."),
    "divisible": ("Keep only multiples of {k}.", "Take only numbers divisible by {k}."),
    "positive": ("Keep only the positive ones.", "Take only positive numbers."),
    "negative": ("Keep only the negative ones.", "Take only negative numbers."),
    "unequal": ("Remove every {k}.", "Take only numbers not equal to {k}."),
    "odd_places": ("Keep only the 1st, 3rd, 5th and so on.", "Take only those at odd positions."),
    "even_places": ("Keep only the 2nd, 4th, 6th and so on.", "Take only those at even positions."),
}
LIST_MAPS = {
    "square": ("Square each.", "Replace each by its square."),
    "absolute": ("Take the absolute value of each.", "Replace each by its absolute value."),
    "add": ("Add {k} to each.", "Increase each by {k}."),
    "times": ("Multiply each by {k}.", "Replace each by {k} times itself."),
    "half": ("Halve each, rounding down.", "Divide each by 2, rounding down."),
    "subtract": ("Subtract {k} from each.", "Decrease each by {k}."),
    "remainder": ("Take each modulo {k}.", "Replace each by its remainder modulo {k}."),
    "digit_sum": ("Take the digit sum of each.", "Replace each by the sum of its digits."),
    "negate": ("Negate each.", "Change the sign of each."),
    "cap": ("Replace each above {k} by {k}.", "Cap each at {k}."),
}
LIST_REDUCES = {
    "sum": ("the sum", "the total"),
    "max": ("the maximum", "the largest"),
    "min": ("the minimum", "the smallest"),
    "count": ("the count", "how many there are"),
    "last": ("the last", "the last one"),
    "join": ("them in one line", "all of them in one line"),
    "lines": ("each on its own line", "one per line"),
    "sort": ("them in ascending order", "them sorted from small to large"),
    "first": ("the first", "the first one"),
    "distinct": ("the number of distinct values", "how many different values there are"),
    "range": ("the maximum minus the minimum", "the largest minus the smallest"),
    "product": ("the product modulo 1000", "the product, modulo 1000"),
    "alternating": (
        "the alternating sum (first minus second plus third ...)",
        "the alternating sum + - + - ...",
    ),
    "sort_down": ("them in descending order", "them sorted from large to small"),
    "reversed": ("them in reverse order", "them from last to first"),
}
STRING_FILTERS = {
    "vowel": ("Keep only the vowels.", "Take only vowels (aeiou)."),
    "equal": ("Keep only the letters {k}.", "Take only letters equal to {k}."),
    "unequal": ("Remove every {k}.", "Take only letters not equal to {k}."),
    "odd_places": LIST_FILTERS["odd_places"],
    "consonant": ("Keep only the consonants.", "Take only consonants (not aeiou)."),
    "after": ("Keep only letters after {k}.", "Take only letters later than {k}."),
    "before": ("Keep only letters before {k}.", "Take only letters earlier than {k}."),
    "even_places": LIST_FILTERS["even_places"],
}
STRING_MAPS = {
    "upper": ("Make each upper case.", "Turn each into a capital."),
    "double": ("Double each.", "Write each twice."),
    "star": ("Put a * after each.", "Add a * to each."),
    "triple": ("Triple each.", "Write each three times."),
    "alphabet": (
        "Replace each by its place in the alphabet.",
        "Turn each into its number in the alphabet (a is 1).",
    ),
    "brackets": ("Put each in [ ].", "Enclose each in [ ]."),
}
STRING_REDUCES = {
    "join": ("the result", "the resulting string"),
    "reverse": ("the result backwards", "the resulting string reversed"),
    "count": ("the count", "how many there are"),
    "last": ("the last", "the last one"),
    "sort": ("them sorted and joined", "them in ascending order, joined"),
    "distinct": ("the number of distinct letters", "how many different letters there are"),
    "first": ("the first", "the first one"),
    "max": ("the maximum", "the largest"),
    "dashes": ("them joined by -", "them with - between"),
    "lines": ("each on its own line", "one per line"),
}
PAIR_MAPS = {
    "": ("{v}",),
    "square": ("the square of {v}", "{v} squared"),
    "digit_sum": ("the digit sum of {v}", "the sum of the digits of {v}"),
    "add": ("{v} plus {k}", "{v} + {k}"),
    "times": ("{k} times {v}", "{v} times {k}"),
    "remainder": ("{v} modulo {k}", "the remainder of {v} modulo {k}"),
    "half": ("half of {v}, rounded down", "{v} divided by 2, rounded down"),
    "digit_count": ("the number of digits of {v}", "how many digits {v} has"),
    "digits_reversed": ("{v} with its digits reversed", "{v} read backwards"),
}
PAIR_REDUCES = {
    "sum": ("P + Q", "the sum of P and Q"),
    "product": ("P * Q", "the product of P and Q"),
    "difference": ("|P - Q|", "the absolute difference of P and Q"),
    "max": ("the larger of P and Q", "the maximum of P and Q"),
    "min": ("the smaller of P and Q", "the minimum of P and Q"),
    "concat": ("P followed by Q", "P and Q joined without a space"),
    "average": ("the average of P and Q, rounded down", "half of P + Q, rounded down"),
    "sum_of_squares": ("the sum of the squares of P and Q", "P squared plus Q squared"),
}
FILTERS = {"list": LIST_FILTERS, "string": STRING_FILTERS}
MAPS = {"list": LIST_MAPS, "string": STRING_MAPS}
REDUCES = {"list": LIST_REDUCES, "string": STRING_REDUCES, "pair": PAIR_REDUCES}
PRINTS = ("Print {r}.", "Output {r}.")
QUESTIONS = {
    "threshold": (
        "Print Yes if {r} is greater than {k}, else No.",
        "Is {r} above {k}? Print Yes or No.",
    ),
    "parity": ("Print Yes if {r} is even, else No.", "Is {r} even? Print Yes or No."),
}
NOTHING_LEFT = ("If nothing is left, print -1.", "Print -1 if there is none.")
NOTHING_LEFT_QUESTION = ("If nothing is left, use -1.", "Use -1 if there is none.")
# How a result is named inside a question, where it differs.
CLAUSES = {
    "how many there are": "the count",
    "how many different values there are": "the number of different values",
    "how many different letters there are": "the number of different letters",
}


def statement(spec: Spec, sample: Any, rng: Random) -> str:
    """The whole text that a model is asked: task, input format, one worked sample."""
    sentences = [rng.choice(INTRODUCTIONS[spec.family]), *_steps(spec, rng), *_question(spec, rng)]
    given = render_input(spec.family, sample)
    return (
        f"{' '.join(sentences)}\n\nInput\n{INPUT_FORMATS[spec.family]}\n\n"
        f"Sample Input\n{given}Sample Output\n{solve(spec, sample)}"
    )


def title(spec: Spec) -> str:
    """A short name made of the operations, such as `list: even, square, sum, threshold`."""
    parts = [spec.filter, spec.map, spec.reduce, spec.form if spec.form != "value" else ""]
    return f"{spec.family}: {', '.join(part.replace('_', ' ') for part in parts if part)}"


def _steps(spec: Spec, rng: Random) -> list[str]:
    if spec.family == "pair":
        p = _fill(rng.choice(PAIR_MAPS[spec.filter]), spec.filter_k, "A")
        q = _fill(rng.choice(PAIR_MAPS[spec.map]), spec.map_k, "B")
        return [f"Let P be {p} and Q be {q}."] if rng.random() < 0.5 else [f"Let P be {p}.", f"Let Q be {q}."]
    steps = []
    if spec.filter:
        steps.append(_fill(rng.choice(FILTERS[spec.family][spec.filter]), spec.filter_k))
    if spec.map:
        steps.append(_fill(rng.choice(MAPS[spec.family][spec.map]), spec.map_k))
    return steps


def _question(spec: Spec, rng: Random) -> list[str]:
    result = rng.choice(REDUCES[spec.family][spec.reduce])
    may_be_nothing = spec.reduce_op.undefined_on_nothing and spec.filter
    if spec.form == "value":
        sentences = [rng.choice(PRINTS).replace("{r}", result)]
        nothing = NOTHING_LEFT
    else:
        question = rng.choice(QUESTIONS[spec.form]).replace("{r}", CLAUSES.get(result, result))
        sentences = [_fill(question, spec.form_k)]
        nothing = NOTHING_LEFT_QUESTION
    return [*sentences, rng.choice(nothing)] if may_be_nothing else sentences


def _fill(text: str, k: Constant, variable: str = "") -> str:
    return text.replace("{k}", str(k)).replace("{v}", variable)
