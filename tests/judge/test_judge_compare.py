"""Comparison against dull references, and the rules one by one."""

import itertools
import json
import math
from decimal import Decimal, InvalidOperation

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiyas.judge import JudgeError, Problem, Test, compare

TEXT = st.text(alphabet=st.sampled_from("ab1.0- \t\r\n"), max_size=30)


def within(error: float | None) -> compare.Tolerance | None:
    return None if error is None else compare.Tolerance(error)


def dull_strict(got: bytes, expected: bytes) -> bool:
    """Character by character: collect words, close lines, forget empty lines at the end."""

    def lines(data: bytes) -> list[list[bytes]]:
        result, line, word = [], [], b""
        for i in range(len(data)):
            sign = data[i : i + 1]
            if sign in (b" ", b"\t", b"\r", b"\n", b"\x0b", b"\x0c"):
                if word:
                    line.append(word)
                    word = b""
                if sign == b"\n":
                    result.append(line)
                    line = []
            else:
                word += sign
        if word:
            line.append(word)
        result.append(line)
        while result and result[-1] == []:
            result.pop()
        return result

    return lines(got) == lines(expected)


@given(TEXT, TEXT)
def test_strict_equals_the_dull_reference(a: str, b: str) -> None:
    assert (compare.strict(a.encode(), b) is None) == dull_strict(a.encode(), b.encode())


@given(st.text(max_size=40), st.sampled_from(["", "\n", " \r\n\n"]), st.sampled_from(["", "\n", "\n\n \n"]))
def test_strict_is_reflexive_and_ignores_the_end(text: str, after_got: str, after_expected: str) -> None:
    got, expected = text + after_got, text + after_expected
    assert compare.strict(got.encode(), expected) is None
    assert (compare.strict((got + "x").encode(), expected) is None) == dull_strict(
        (got + "x").encode(), expected.encode()
    )


def dull_reason(got: str, expected: str) -> str | None:
    """The first line, and the first token in it, that differs; lines by list."""

    def lines(text: str) -> list[list[str]]:
        return [line.split() for line in text.rstrip().split("\n")]

    for number, (a, b) in enumerate(itertools.zip_longest(lines(got), lines(expected)), 1):
        if a is None:
            words = [word for line in lines(expected)[number - 1 :] for word in line]
            return f"line {number}: missing, expected {words[0]!r}"
        if b is None:
            return f"line {number}: more than expected"
        if len(a) != len(b):
            return f"line {number}: {len(a)} tokens, expected {len(b)}"
        for column, (x, y) in enumerate(zip(a, b, strict=True), 1):
            if x != y:
                return f"line {number}, token {column}: {x!r}, expected {y!r}"
    return None


@given(st.text(alphabet=st.sampled_from("ab1ü \n"), max_size=20), st.data())
@settings(max_examples=400)
def test_the_reason_names_the_first_difference(expected: str, data: st.DataObject) -> None:
    """Outputs that differ in few places: some characters replaced by others, or by none."""
    got = expected
    for at in data.draw(st.lists(st.integers(0, len(expected)), max_size=2)):
        got = got[:at] + data.draw(st.sampled_from(["", "a", "c", " ", "\n", "\n\n"])) + got[at + 1 :]
    for a, b in ((got, expected), (expected, got)):
        assert compare.strict(a.encode(), b) == dull_reason(a, b)


@pytest.mark.parametrize(
    ("got", "expected", "reason"),
    [
        ("1\n2 3 4\n", "1\n2 3 5\n", "line 2, token 3: '4', expected '5'"),
        ("1\n2 3\n4\n5\n", "1\n2 3\n4\n6\n", "line 4, token 1: '5', expected '6'"),
        ("ü\n2 3 4\n", "ü\n2 3 5\n", "line 2, token 3: '4', expected '5'"),
        ("1\n", "1\n\n2 3\n", "line 2: missing, expected '2'"),
        ("1\n\n2\n", "1\n", "line 2: more than expected"),
        ("1 2\n", "1\n", "line 1: 2 tokens, expected 1"),
        ("", "7", "line 1: 0 tokens, expected 1"),
        ("a b\n", "\na\nb\n", "line 1: 2 tokens, expected 0"),
        ("\na\nb\n", "a b\n", "line 1: 0 tokens, expected 2"),
        ("x" * 60, "y" * 61, f"line 1, token 1: '{'x' * 60}', expected '{'y' * 60}'…"),
    ],
)
def test_strict_reasons(got: str, expected: str, reason: str) -> None:
    assert compare.strict(got.encode(), expected) == reason


def test_bytes_that_are_not_text_are_shown() -> None:
    assert compare.strict(b"\xff", "1") == "line 1, token 1: '\ufffd', expected '1'"


@pytest.mark.parametrize(
    ("got", "expected", "tolerance", "right"),
    [
        ("a 1.25 b", "a 1 b", 0.25, True),
        ("a 1.3 b", "a 1 b", 0.25, False),
        ("a 1 c", "a 1 b", 0.25, False),
        ("a 1.25 b", "a 1 b", None, False),
        ("7 1", "9 1", 0.125, False),
        ("0.25", "0", 0.25, True),
        ("250", "200", 0.25, True),
        ("251", "200", 0.25, False),
        ("-250", "-200", 0.25, True),
        ("200", "-200", 0.25, False),
        ("+.5e1", "5.", 0.0, True),
        ("1E-1", "0.1", 0.0, True),
        ("inf", "Infinity", 1e300, True),
        ("inf", "-inf", 1e300, False),
        ("1", "inf", 1e300, False),
        ("-inf", "1", 1e300, False),
        ("nan", "NaN", 1e300, False),
        ("1_0", "10", 0.5, False),
        ("10", "1_0", 0.5, False),
    ],
)
def test_tokens_within_a_tolerance(got: str, expected: str, tolerance: float | None, right: bool) -> None:
    assert (compare.strict(got.encode(), expected, within(tolerance)) is None) is right


def test_strict_beyond_a_piece() -> None:
    """Large outputs are compared by pieces of a megabyte."""
    large = "ü1 2\n" * 300_000
    for got, right in ((large, True), (large[:-1], True), (large + "\n\n", True), (large + "3", False)):
        assert (compare.strict(got.encode(), large) is None) is right
    for at in (0, (1 << 20) - 1, 1 << 20, len(large) - 2):
        assert compare.strict((large[:at] + "x" + large[at + 1 :]).encode(), large) is not None
    assert compare.strict(b"", large) is not None and compare.strict(large.encode(), "") is not None


def test_what_ends_with_a_piece_is_not_the_whole() -> None:
    piece = "x" * (1 << 20)
    for got, expected in ((piece, piece + "y"), (piece + "y", piece), (piece * 2, piece * 2 + "y")):
        assert compare.strict(got.encode(), expected) is not None
    text = "aü" * 1_200_000 + "\ud800"
    assert b"".join(compare.encoded(text)) == text.encode("utf-8", "surrogatepass")


def dull_livecodebench(got: str, expected: str) -> bool:
    a = [line.strip() for line in got.strip().split("\n")]
    b = [line.strip() for line in expected.strip().split("\n")]
    if len(a) != len(b):
        return False
    for x, y in zip(a, b, strict=True):
        if x == y:
            continue
        try:
            if [Decimal(w) for w in x.split()] != [Decimal(w) for w in y.split()]:
                return False
        except InvalidOperation:
            return False
    return True


@given(TEXT, TEXT)
def test_livecodebench_equals_the_dull_reference(a: str, b: str) -> None:
    assert (compare.livecodebench(a, b) is None) == dull_livecodebench(a, b)


@pytest.mark.parametrize(
    ("got", "expected", "right"),
    [
        ("1.0", "1", True),
        ("1e0 2", "1 2.00", True),
        ("1_0", "10", True),  # Decimal reads underscores
        ("a  b", "a b", False),
        ("nan", "NaN", False),
        ("snan", "1", False),
        ("", "", True),
        ("1\n\n2", "1\n2", False),
        ("a\n 1.0 \nb", "a\n1\nb ", True),
        ("1.0\nb", "1\nc", False),
        ("1 x", "1.0 x", False),
    ],
)
def test_livecodebench_rules(got: str, expected: str, right: bool) -> None:
    assert (compare.livecodebench(got, expected) is None) is right


@pytest.mark.parametrize(
    ("got", "expected", "reason"),
    [
        ("1\n2", "1", "2 lines, expected 1"),
        ("a\n2", "a\n3", "line 2: '2', expected '3'"),
        ("x" * 101, "y" * 101, f"line 1: {'x' * 100!r}, expected {'y' * 100!r}"),
    ],
)
def test_livecodebench_reasons(got: str, expected: str, reason: str) -> None:
    assert compare.livecodebench(got, expected) == reason


@pytest.mark.parametrize(
    ("got", "expected", "right"),
    [
        ([1, True], "[1.0, 1]", True),
        ([1], "[2]", False),
        (math.inf, "Infinity", True),
        (math.nan, "NaN", False),
        ([math.nan], "[NaN]", False),
    ],
)
def test_livecodebench_json_rules(got: object, expected: str, right: bool) -> None:
    assert compare.livecodebench_json(got, expected) is right


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_strict_json_is_reflexive(value: object) -> None:
    assert compare.strict_json(json.loads(json.dumps(value)), value)


@pytest.mark.parametrize(
    ("got", "expected", "tolerance", "right"),
    [
        (True, 1, None, False),
        (1, 1.0, None, True),
        (0.1 + 0.2, 0.3, None, False),
        (0.1 + 0.2, 0.3, 1e-9, True),
        ([1, [2.0001]], [1, [2]], 1e-3, True),
        ({"a": 1}, {"a": 1, "b": 2}, None, False),
        ("1", 1, None, False),
        (None, None, None, True),
        (10**400, 1.5, 1e-3, False),
        (1, True, None, False),
        (True, True, None, True),
        (False, True, None, False),
        (3, 4, None, False),
        (3, 4.0, 0.25, True),
        (3, 4.5, 0.25, False),
        ([1, 2], [1], None, False),
        ([1, 3], [1, 2], None, False),
        ([2, 1], [1, 1], None, False),
        ([1], 1, 9.0, False),
        (1, [1], 9.0, False),
        (1, "1", 9.0, False),
        ({"a": 1.25, "b": 2}, {"a": 1, "b": 2}, 0.25, True),
        ({"a": 1.25, "b": 2}, {"a": 1, "b": 2}, None, False),
        ({"a": 1, "b": 3}, {"a": 1, "b": 2}, None, False),
        ({"a": 1}, [1], None, False),
        (["a"], {"a": 1}, None, False),
        ("a", "b", 9.0, False),
        (None, 0, 9.0, False),
    ],
)
def test_strict_json_rules(got: object, expected: object, tolerance: float | None, right: bool) -> None:
    assert compare.strict_json(got, expected, within(tolerance)) is right


BIG = 7**400
RELATIVE, ABSOLUTE = compare.Kind.RELATIVE, compare.Kind.ABSOLUTE


@pytest.mark.parametrize(
    ("a", "b", "tolerance", "right"),
    [
        ("0.49", "0.5", within(0.01), True),
        ("0.4899999999999999999999", "0.5", within(0.01), False),
        ("0.51", "0.5", within(0.01), True),
        ("0.000001", "0", within(1e-6), True),
        ("1000001", "1000000", within(1e-6), True),
        (str(BIG), str(BIG + 1), within(1e-6), True),
        (str(BIG), str(2 * BIG), within(1e-6), False),
        (str(BIG), str(BIG), within(1e-6), True),
        (str(BIG), str(BIG + 1), compare.Tolerance(1e-6, ABSOLUTE), False),
        ("1e400", "1e401", within(1e-6), False),
        ("1e400", "1e400", within(1e-6), True),
        ("1e400", "inf", within(1e-6), False),
        ("inf", "infinity", within(1e-6), True),
        ("-inf", "inf", within(1e-6), False),
        ("nan", "nan", within(1e-6), False),
        ("1e-400", "0", within(1e-6), True),
        ("1e99999999999999999999", "1", within(1e-6), False),
        ("100.5", "100", compare.Tolerance(0.1, ABSOLUTE), False),
        ("100.5", "100", compare.Tolerance(0.1, RELATIVE), True),
        ("0.05", "0", compare.Tolerance(0.1, RELATIVE), False),
        ("0.05", "0", compare.Tolerance(0.1, ABSOLUTE), True),
        ("0", "0.0", compare.Tolerance(0.1, RELATIVE), True),
        ("0.9", "1", compare.Tolerance(0.1, RELATIVE), True),
        ("0.45", "0.5", compare.Tolerance(0.1, RELATIVE), True),
        ("0.4", "0.5", compare.Tolerance(0.1, RELATIVE), False),
    ],
)
def test_numbers_are_the_decimals_that_are_written(a: str, b: str, tolerance: compare.Tolerance, right: bool) -> None:
    assert compare.close(a.encode(), b.encode(), tolerance) is right


@pytest.mark.parametrize(
    ("checker", "error", "kind"),
    [
        ("floats:1e-6", 1e-6, "either"),
        ("floats:absolute:0.01", 0.01, "absolute"),
        ("floats:relative:1e-9", 1e-9, "relative"),
    ],
)
def test_floats_by_name(checker: str, error: float, kind: str) -> None:
    problem = Problem("p", (Test("", ""),), checker=checker)
    compare.check_checkers([problem])
    assert compare.Tolerance.of(problem) == compare.Tolerance(error, compare.Kind(kind))


def test_a_checker_that_nobody_knows() -> None:
    with pytest.raises(JudgeError, match="problem p: the checker 'unorderd' is not known"):
        compare.check_checkers([Problem("p", (Test("", ""),), checker="unorderd")])


@pytest.mark.parametrize(
    ("got", "expected", "right"),
    [("a b\nc\n", "c\na  b", True), ("a\na\nb", "a\nb\nb", False), ("a\n\nb", "b\na", True), ("a", "a\nb", False),
     ("a\nb", "a", False), ("", "\n", True), ("b a", "a b", False)],
)  # fmt: skip
def test_unordered_lines(got: str, expected: str, right: bool) -> None:
    reason = compare.unordered(got.encode(), expected)
    assert (reason is None) is right and (right or reason)


@pytest.mark.parametrize(("got", "expected", "right"), [("Yes", "YES", True), ("Ä", "ä", True), ("No", "YES", False)])
def test_case_insensitive(got: str, expected: str, right: bool) -> None:
    assert (compare.case_insensitive(got.encode(), expected) is None) is right


def test_bytes_that_are_not_text_equal_nothing() -> None:
    assert compare.case_insensitive(b"\xff", "\ufffd") is not None


def test_an_output_of_many_tokens_is_not_taken_apart() -> None:
    """What is kept in memory depends on what is expected, not on what was sent."""
    import tracemalloc

    many, lines = b"12 " * 100_000, b"".join(b"%d\n" % n for n in range(100_000))
    tracemalloc.start()
    try:
        for compared, output in (
            (compare.strict, many),
            (compare.unordered, lines),
            (compare.unordered, many),
            (lambda got, expected: compare.livecodebench(got.decode(), expected), many),
            (lambda got, expected: compare.livecodebench(got.decode(), expected), lines),
        ):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            assert compared(output, "12\n13\n" if output is lines else "12 13\n") is not None
            assert tracemalloc.get_traced_memory()[1] - before < 4 * len(output)
    finally:
        tracemalloc.stop()
    assert compare.strict(b"1 " * 5000, "1\n") == "line 1: more than 1002 tokens, expected 1"
    assert compare.unordered(b"b\nc\na\n", "a\nb\n") == "in any order: the line 'c' is not expected"
