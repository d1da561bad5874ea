"""The verdicts' colours: told apart with any colour vision, never an arm's, and legible under their letters.

Colour blindness is simulated as by Machado, Oliveira & Fernandes (2009), severity 1; differences are CIEDE2000.
"""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from numpy.typing import NDArray

from kiyas.report import charts
from kiyas.report.page import asset

Floats = NDArray[np.float64]
VISIONS = {
    "normal": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
SRGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
VERDICTS = ("ac", "wa", "tle", "mle", "re", "ole", "ce", "ie", "mixed")
APART = 12.0
"""CIEDE2000: about a dozen times what is just seen side by side"""


def linear(colour: str) -> Floats:
    """#rrggbb, or #rgb, → linear light, 0 to 1."""
    digits = colour.lstrip("#")
    whole = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    c = np.array([int(whole[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(light: Floats) -> Floats:
    """CIELAB under D65."""
    t = np.clip(light, 0, 1) @ SRGB_TO_XYZ.T / SRGB_TO_XYZ.sum(1)
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def ciede2000(one: Floats, other: Floats) -> float:
    """Sharma, Wu & Dalal (2005)."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    c_7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    g = (1 - np.sqrt(c_7 / (c_7 + 25.0**7))) / 2
    c1, c2 = np.hypot(a1 * (1 + g), b1), np.hypot(a2 * (1 + g), b2)
    h1, h2 = (np.degrees(np.arctan2(b, a * (1 + g))) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0.0
    hue = (h1 + turn / 2) % 360 if c1 * c2 else h1 + h2
    d_hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    l, c = (l1 + l2) / 2, (c1 + c2) / 2
    waves = ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.2, 4, -63))
    t = 1 + sum(size * np.cos(np.radians(times * hue + shift)) for size, times, shift in waves)
    s_l, s_c, s_h = 1 + 0.015 * (l - 50) ** 2 / np.sqrt(20 + (l - 50) ** 2), 1 + 0.045 * c, 1 + 0.015 * c * t
    r = -2 * np.sqrt(c**7 / (c**7 + 25.0**7)) * np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    x, y, z = (l2 - l1) / s_l, (c2 - c1) / s_c, d_hue / s_h
    return float(np.sqrt(x * x + y * y + z * z + r * y * z))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
        ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0),
    ],
)
def test_the_ruler_is_true(one: tuple[float, ...], other: tuple[float, ...], expected: float) -> None:
    """Published pairs of Sharma, Wu & Dalal."""
    assert ciede2000(np.array(one), np.array(other)) == pytest.approx(expected, abs=5e-5)


def themes() -> dict[str, dict[str, str]]:
    """Light and dark by the blocks of the style sheet that set them; dark is there twice, and both must agree."""
    blocks = [
        dict(re.findall(r"--([\w-]+):(#[0-9a-f]{3,6})(?=[;}])", block))
        for block in re.findall(r"\{[^{}]*--ac:[^{}]*\}", asset("page.css"))
    ]
    light, dark, again = blocks
    assert dark == again
    return {"light": light, "dark": dark}


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_any_two_verdicts_and_the_card_are_apart(theme: str, vision: str) -> None:
    colours = themes()[theme]
    assert colours["ie"] == colours["card"], "what is missing is an empty cell with an outline"
    seen = {name: lab(np.clip(linear(colours[name]) @ VISIONS[vision].T, 0, 1)) for name in VERDICTS}
    close = {(a, b): d for a, b in itertools.combinations(seen, 2) if (d := ciede2000(seen[a], seen[b])) < APART}
    assert not close


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_verdict_has_the_colour_of_an_arm(theme: str) -> None:
    colours, arms = themes()[theme], (*charts.COLOURS, charts.BASE_COLOUR)
    apart = {(v, arm): ciede2000(lab(linear(colours[v])), lab(linear(arm))) for v in VERDICTS for arm in arms}
    assert not {pair: d for pair, d in apart.items() if d < APART}


def contrast(one: str, other: str) -> float:
    """WCAG 2.2."""
    dark, light = sorted(float(linear(colour) @ SRGB_TO_XYZ[1]) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_letters_are_legible_on_their_verdicts(theme: str) -> None:
    colours = themes()[theme]
    found = {verdict: contrast(colours[verdict], colours[f"{verdict}-ink"]) for verdict in VERDICTS}
    assert not {verdict: ratio for verdict, ratio in found.items() if ratio < 4.5}
