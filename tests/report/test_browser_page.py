"""The page as people meet it: its first screen, its length, on a phone, for those who cannot see it or its colours."""

from __future__ import annotations

import dataclasses
import itertools
import re
import runpy
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import until
from kiyas import report
from kiyas.analyse import Findings, analyse
from kiyas.analyse.findings import DataFacts
from kiyas.report import charts
from kiyas.report.language import Language
from kiyas.runfolder.files import write_sealed
from synthetic import make_run

pytestmark = pytest.mark.browser
MOST_WORDS = 900
OPEN_ALL = "document.querySelectorAll('details').forEach((details) => { details.open = true; })"
LONG_NAME = """() => {
  const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll("diverse", "x".repeat(120));
}"""


@pytest.fixture(scope="session")
def analysed_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Findings]:
    """A study of our own in both languages, like the practice one: two arms, three seeds, 41 problems."""
    run = make_run(tmp_path_factory.mktemp("study") / "practice", rates={"deep": 0.35, "diverse": 0.5})
    facts = [
        DataFacts(arm, arm, 1000, 64, problems, 1000 / problems, 1.0, 52_362, 184, 0, 1, 0, "Write.\n", "print(1)\n")
        for arm, problems in (("deep", 200), ("diverse", 1000))
    ]
    write_sealed(run / "data" / "facts.json", [dataclasses.asdict(each) for each in facts])
    findings = analyse(run)
    report.write(run, findings, language="tr")
    return run, findings


@pytest.fixture(scope="session")
def study(analysed_study: tuple[Path, Findings]) -> Path:
    return analysed_study[0]


@pytest.fixture(scope="session")
def drawn(analysed_study: tuple[Path, Findings]) -> dict[str, charts.Chart]:
    return charts.charts(analysed_study[1], Language("en"))


class Opened:
    """A page at one width, with what it said on its console."""

    def __init__(self, browser: Any, run: Path, width: int, height: int = 800, **options: Any) -> None:
        name = options.pop("name", "index.html")
        self.context = browser.new_context(viewport={"width": width, "height": height}, offline=True, **options)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto((run / "report" / name).as_uri())
        self.page.wait_for_selector("body[data-ready=yes]", timeout=30_000)

    def open_all(self) -> None:
        """Every fold; the charts in them are drawn then."""
        self.page.evaluate(OPEN_ALL)
        until(self.page, "document.querySelectorAll('figure:not([data-drawn=yes])').length === 0")


@pytest.fixture(scope="module")
def desktop(browser: Any, study: Path) -> Iterator[Opened]:
    opened = Opened(browser, study, 1280)
    yield opened
    opened.context.close()


def check_first_screen(page: Any) -> None:
    """What was compared, the answer, the picture and what would decide it are on the screen without scrolling."""
    page.evaluate("scrollTo(0, 0)")
    for part in (".strip", ".badge", "h1", "[data-chart=rates] svg", "[data-chart=difference] svg", ".needed"):
        box = page.locator(part).bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 800, part
    picture = page.locator(".picture").inner_text()
    assert "95% interval" in picture and "the equivalence margin, ±5.0 points" in picture and "single seeds" in picture


def check_words(page: Any, most: int = MOST_WORDS) -> None:
    """With folds closed the page is short, and what one must know is among its words."""
    said = page.locator("body").inner_text()
    assert len(said.split()) <= most
    for must in ("Which data make the better code model", "This holds for", "What would decide it", "±5.0 points"):
        assert must in said, must
    assert len(re.findall(r"\d\d\.\d% \(\d\d\.\d–\d\d\.\d%\)", said)) >= 3, "base and both rates, with intervals"


def test_the_first_screen_has_question_answer_and_picture(desktop: Opened) -> None:
    check_first_screen(desktop.page)
    strip = desktop.page.locator(".strip").inner_text()
    for must in (
        "Base",
        "deep",
        "1,000 rows",
        "200 problems, 5 each",
        "52.4 k answer tokens",
        "seeds: 3",
        "LoRA",
    ):
        assert must in " ".join(strip.split()), must
    assert "41 problems" in strip and "learning rate" in strip and "last checkpoint" in strip
    assert desktop.said == []


def test_with_folds_closed_the_page_is_short(desktop: Opened) -> None:
    check_words(desktop.page)
    warnings, notes = desktop.page.locator(".verdict > .warnings"), desktop.page.locator(".verdict details .warnings")
    assert warnings.count() == 0 and not notes.is_visible() and notes.locator("li").count() == 5


@pytest.mark.slow
def test_the_practice_study(browser: Any, tmp_path: Path) -> None:
    from kiyas.cli import main

    assert main(["demo", "--runs", str(tmp_path)]) == 0
    opened = Opened(browser, tmp_path / "practice", 1280)
    check_first_screen(opened.page)
    check_words(opened.page)
    assert "There are only 41 problems" in opened.page.locator(".warnings").inner_text()
    assert "Time spent" in opened.page.locator(".strip").inner_text()
    opened.context.close()


def overlapping(page: Any) -> list[str]:
    """Pairs of texts in charts that lie on each other."""
    boxes = page.eval_on_selector_all(
        "figure[data-drawn=yes] svg",
        """all => all.map(svg => [...svg.querySelectorAll("text")].filter(t => t.textContent.trim()).map(t => {
             const b = t.getBoundingClientRect();
             return [t.textContent, b.left, b.top, b.right, b.bottom, getComputedStyle(t).opacity];
           }))""",
    )
    found = []
    for texts in boxes:
        for (one, *a, _), (other, *b, _) in itertools.combinations([text for text in texts if text[5] != "0"], 2):
            across = min(a[2], b[2]) - max(a[0], b[0])
            along = min(a[3], b[3]) - max(a[1], b[1])
            if across > 1 and along > 3:
                found.append(f"{one!r} on {other!r}")
    return found


@pytest.mark.parametrize("name", ["index.html", "index.tr.html"])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_it_fits_every_screen(browser: Any, study: Path, width: int, name: str) -> None:
    opened = Opened(browser, study, width, name=name)
    page = opened.page
    opened.open_all()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    theme = page.locator("#theme").bounding_box()
    assert theme["x"] >= 0 and theme["x"] + theme["width"] <= width
    assert overlapping(page) == []
    beyond = page.eval_on_selector_all(
        "figure svg text",
        """all => all.filter(t => {
             const text = t.getBoundingClientRect(), svg = t.ownerSVGElement.getBoundingClientRect();
             return text.left < svg.left - 1 || text.right > svg.right + 1;
           }).map(t => t.textContent)""",
    )
    assert beyond == []
    # A table that is wider than the screen says so, and keeps its first column.
    for box in page.locator(".scroll:has(> .data)").all():
        wide = box.evaluate("box => box.scrollWidth > box.clientWidth + 1")
        assert ("wide-table" in (box.get_attribute("class") or "")) == wide
        if wide:
            box.evaluate("box => { box.scrollLeft = 9999; }")
            left = box.evaluate("box => [box, box.querySelector('td')].map(e => e.getBoundingClientRect().left)")
            assert abs(left[0] - left[1]) <= 2
    assert opened.said == []
    opened.context.close()


def test_on_a_phone_the_answer_is_first(browser: Any, study: Path) -> None:
    opened = Opened(browser, study, 390, 844)
    at = {part: opened.page.locator(part).bounding_box()["y"] for part in ("h1", ".picture", ".strip")}
    assert at["h1"] < 300 and at["h1"] < at[".picture"] < at[".strip"]
    # However long an arm's name is, the page is not wider, and a table's first column leaves room for the others.
    opened.open_all()
    opened.page.evaluate(LONG_NAME)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    firsts = opened.page.eval_on_selector_all(".data td:first-child", "all => all.map(cell => cell.offsetWidth)")
    assert max(firsts) <= 200
    opened.context.close()


def violations(page: Any) -> list[tuple[str, str]]:
    """What axe-core finds at WCAG AA, and the first place of each."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = axe.Axe().run(page, options={"runOnly": {"type": "tag", "values": tags}})
    return [(each["id"], each["nodes"][0]["html"][:200]) for each in found.response["violations"]]


def test_it_is_accessible(desktop: Opened) -> None:
    assert violations(desktop.page) == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index.html", "index.tr.html"])
def test_everything_open_it_is_accessible(browser: Any, study: Path, name: str, scheme: str) -> None:
    opened = Opened(browser, study, 1280, name=name, color_scheme=scheme)
    opened.open_all()
    assert violations(opened.page) == []
    opened.context.close()


def test_one_colour_an_arm_everywhere(desktop: Opened, drawn: dict[str, charts.Chart]) -> None:
    deep, diverse = charts.COLOURS[:2]

    def colours(name: str) -> set[str]:
        return set(re.findall(r"#[0-9a-f]{6}", str(drawn[name].spec["layer"])))

    assert colours("rates") >= {deep, diverse, charts.BASE_COLOUR} and colours("pass") >= {deep, diverse}
    assert deep in colours("loss-deep") and diverse not in colours("loss-deep")
    assert diverse in colours("loss-diverse") and deep not in colours("loss-diverse")
    chips = desktop.page.eval_on_selector_all(".chip", "all => all.map(c => c.getAttribute('style').split(':')[1])")
    assert {deep, diverse, charts.BASE_COLOUR} == set(chips)


def test_losses_side_by_side_have_one_scale(drawn: dict[str, charts.Chart]) -> None:
    scales = [
        layer["encoding"]["y"]["scale"]["domain"]
        for name in ("loss-deep", "loss-diverse")
        for layer in drawn[name].spec["layer"]
        if "scale" in layer["encoding"].get("y", {})
    ]
    assert len(scales) >= 4 and all(scale == scales[0] for scale in scales)


def test_single_seeds_can_be_switched_off(browser: Any, study: Path) -> None:
    opened = Opened(browser, study, 1280)
    dots = "[data-chart=rates] svg path[aria-roledescription=point], [data-chart=rates] svg .mark-symbol path"
    visible = (
        f"""[...document.querySelectorAll("{dots}")].filter(p => (p.getAttribute("opacity") ?? "1") !== "0").length"""
    )
    before = opened.page.evaluate(visible)
    opened.page.locator("#seeds").uncheck()
    opened.page.wait_for_timeout(300)
    assert opened.page.evaluate(visible) == before - 6, "three seeds of two arms"
    opened.context.close()


def test_a_link_opens_what_it_leads_to(browser: Any, study: Path) -> None:
    opened = Opened(browser, study, 1280)
    opened.page.locator("nav a[href='#behaviour']").click()
    assert opened.page.locator("#behaviour > details").get_attribute("open") is not None
    opened.context.close()


def test_print_opens_what_should_be_read_and_shows_where_links_lead(desktop: Opened) -> None:
    page = desktop.page
    page.emulate_media(media="print")
    for part in (".strip", ".verdict details ul >> nth=0", "#behaviour .data >> nth=0", "#method .reading >> nth=0"):
        assert page.locator(part).is_visible(), part
    after = page.eval_on_selector_all(
        "#results .files a",
        "all => all.map(a => getComputedStyle(a, '::after').content.includes(a.getAttribute('href')))",
    )
    assert after and all(after)
    page.emulate_media(media="screen")


def test_the_pictures_of_the_documents(browser: Any, study: Path, tmp_path: Path) -> None:
    """What `make pictures` takes."""
    made = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "pictures.py"))
    made["pictures"](browser, study, tmp_path)
    light, dark = ((tmp_path / name).read_bytes() for name in ("report.png", "report-dark.png"))
    assert light != dark and all(each[16:24] == struct.pack(">II", 1920, 1200) for each in (light, dark))
