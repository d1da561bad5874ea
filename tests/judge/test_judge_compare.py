"""Comparison against dull references, and the rules one by one."""

import json
from decimal import Decimal, InvalidOperation

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiyas.judge import compare

TEXT = st.text(alphabet=st.sampled_from("ab1.0- \t\r\n"), max_size=30)


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


def test_strict_beyond_a_piece() -> None:
    """Large outputs are compared by pieces of a megabyte."""
    large = "ü1 2\n" * 300_000
    for got, right in ((large, True), (large[:-1], True), (large + "\n\n", True), (large + "3", False)):
        assert (compare.strict(got.encode(), large) is None) is right
    for at in (0, (1 << 20) - 1, 1 << 20, len(large) - 2):
        assert compare.strict((large[:at] + "x" + large[at + 1 :]).encode(), large) is not None
    assert compare.strict(b"", large) is not None and compare.strict(large.encode(), "") is not None


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
    ],
)
def test_livecodebench_rules(got: str, expected: str, right: bool) -> None:
    assert (compare.livecodebench(got, expected) is None) is right


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
    ],
)
def test_strict_json_rules(got: object, expected: object, tolerance: float | None, right: bool) -> None:
    assert compare.strict_json(got, expected, tolerance) is right
