"""`kiyas compare`: what is pooled, what is refused, what is left out, and what is said."""

from __future__ import annotations

import csv
import json
import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kiyas
from kiyas import cli, pooling
from kiyas.analyse import Decision, analyse
from kiyas.pooling import Agreement, Pooled, pool
from kiyas.report import pooled
from kiyas.report.language import Language, languages, phrases
from kiyas.runfolder.files import read_json, read_jsonl, write_json
from kiyas.stats import inference, meta_analysis
from kiyas.stats.random_effects import two_way
from kiyas.types import KiyasError
from synthetic import make_run

NAMES = ("mine", "yours", "theirs")


def small(folder: Path, rng_seed: int, **changes: Any) -> Path:
    return make_run(folder, rng_seed=rng_seed, **{"steps": (60,), "seeds": (0, 1), "base": False, **changes})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("replications")
    return [small(folder / name, i) for i, name in enumerate(NAMES)]


@pytest.fixture
def copies(runs: list[Path], tmp_path: Path) -> list[Path]:
    """The same runs, to be spoilt."""
    return [Path(shutil.copytree(run, tmp_path / run.name)) for run in runs]


def counts(file: Path, *rows: str) -> Path:
    file.write_text("\n".join(("study,arm,solved,total", *rows)) + "\n", encoding="utf-8")
    return file


def differences(run: Path) -> np.ndarray:
    """By hand: share of seeds that solved, diverse minus deep, by problem."""
    solved: dict[str, dict[str, list[bool]]] = {}
    for row in read_jsonl(run / "judge" / "judgments.jsonl"):
        solved.setdefault(row["problem_id"], {}).setdefault(row["arm"], []).append(row["verdict"] == "AC")
    return np.array([np.mean(s["diverse"]) - np.mean(s["deep"]) for _, s in sorted(solved.items())])


def test_runs_on_the_same_problems_are_crossed_with_them(runs: list[Path]) -> None:
    found = pool(runs)
    crossed, classic = found.answers
    by_hand = two_way(np.stack([differences(run) for run in runs]))
    assert (crossed.method, crossed.difference) == ("crossed", pytest.approx(by_hand.mean))
    assert crossed.interval.low == pytest.approx(by_hand.interval().low)
    assert found.problems == 41 and [each.name for each in found.replications] == list(NAMES)
    # Next to it the answer on these problems: without the problems' component of each run's error.
    errors = np.array([each.within_error for each in found.replications], dtype=float)
    assert (errors <= [each.standard_error for each in found.replications]).all()
    means = np.array([differences(run).mean() for run in runs])
    assert classic.difference == pytest.approx(meta_analysis.random_effects(means, errors).mean)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_each_replication_is_its_own_report(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    run = small(tmp_path / "run", 3, seeds=seeds)
    own, found = analyse(run).primary, pool([run])
    assert own is not None and found.agreement is Agreement.ALONE and found.meta is None
    (each,) = found.replications
    assert (each.method, each.seeds, each.problems) == (own.method, own.seeds, own.problems)
    assert (each.difference, each.p) == (pytest.approx(own.difference), pytest.approx(own.p))
    assert each.interval == own.interval and each.interval90 == own.interval90
    assert found.decision is own.decision
    said = pooled.text(found)
    assert "There is only one replication" in said and "says nothing about agreement" in said


def test_arms_that_never_differ_have_an_error_all_the_same(tmp_path: Path) -> None:
    right = lambda row: {**row, "verdict": "AC"}  # noqa: E731
    found = pool([small(tmp_path / name, i, change=right, program=f"{name} {{arm}}") for i, name in enumerate(NAMES)])
    assert all(each.standard_error > 0 for each in found.replications)
    # 41 problems on which nothing differed: no more than Tango's interval says.
    assert found.answers[0].difference == 0 and found.decision is Decision.UNDECIDED
    assert found.answers[0].interval.high == pytest.approx(inference.paired_interval(0, 0, 41).high, abs=1e-6)


@pytest.mark.parametrize("language", languages())
def test_a_prediction_says_which_problems_it_is_about(runs: list[Path], tmp_path: Path, language: str) -> None:
    """Narrower than the average's interval, since that one is about other problems too."""
    words, same = Language(language), pool(runs)
    assert same.meta is not None and same.meta.prediction is not None
    interval = words.points_interval(same.meta.prediction)
    said = pooled.conclusion(same, words).more
    assert words("pooled.prediction_within", interval=interval, problems=41) in said
    assert (
        words("pooled.agree" if same.agreement is Agreement.AGREE else "pooled.open", where=words("pooled.within"))
        in said
    )
    assert words("pooled.row_prediction_within") in pooled.text(same, language=language)
    other = pool([thirteen(tmp_path / "public.csv")])
    assert other.meta is not None
    interval = words.points_interval(other.meta.prediction)
    assert words("pooled.prediction", interval=interval) in pooled.conclusion(other, words).more


def test_two_adapters_have_both_p_values(tmp_path: Path) -> None:
    five = lambda r: {**r, "verdict": "AC" if r["arm"] == "diverse" and r["problem_id"] < "p005" else "WA"}  # noqa: E731
    found = pool([small(tmp_path / "one", 0, seeds=(0,), change=five)])
    (each,) = found.replications
    assert (each.p, each.exact_p) == (pytest.approx(0.03125), pytest.approx(0.0625))
    table = pooled.rows(found, Language())
    assert table.shown[0]["p"] == "0.031 / 0.062" and dict(table.columns)["p"] == Language()("column.p_both")
    assert pool([small(tmp_path / "two", 1)]).replications[0].exact_p is None


def thirteen(file: Path) -> Path:
    """Made up, with mean −0.4 points, SD 6.4, five wins, five losses and three ties of 41 problems."""
    d = [-4, -3, -3, -3, -1, 0, 0, 0, 1, 2, 2, 2, 5]
    assert np.mean(d) / 0.41 == pytest.approx(-0.4, abs=0.05)
    assert np.std(d, ddof=1) / 0.41 == pytest.approx(6.4, abs=0.05)
    rows = [(f"r{i:02d}", 12 - x // 2, 12 - x // 2 + x) for i, x in enumerate(d)]
    return counts(file, *(f"{r},diverse,{a},41\n{r},deep,{b},41" for r, a, b in rows))


def test_thirteen_replications_are_no_evidence_of_a_difference(tmp_path: Path) -> None:
    found = pool([thirteen(tmp_path / "public.csv")])
    (answer,) = found.answers
    assert (found.a, found.b, answer.method) == ("diverse", "deep", "meta")
    assert answer.difference == pytest.approx(-0.004, abs=0.002)
    assert answer.interval.low < -0.03 and answer.interval.high > 0.03
    assert found.decision is Decision.UNDECIDED and found.agreement is Agreement.OPEN
    (fact,) = pooled._facts(found, Language("en"))
    assert (fact.name, fact.kind) == ("13", "Replications"), "so many would fill the first screen"
    said = pooled.text(found)
    assert "do not decide between" in said and "would probably have been narrower" in " ".join(said.split())
    assert pool([tmp_path / "public.csv"], arms=("deep", "diverse")).answers[0].difference == -answer.difference


def test_long_names_do_not_break_the_text(tmp_path: Path) -> None:
    a, b = "a" * 150, "b" * 150
    rows = [f"{'name' * 20}{i},{arm},{n},9999" for i in range(4) for arm, n in ((a, 1), (b, 9998))]
    found = pool([counts(tmp_path / "c.csv", *rows)])
    for language in languages():
        assert max(map(len, pooled.text(found, language=language).splitlines())) <= 100
    # The axis' title would take the room of the chart.
    titles = re.findall(r"'title': (\[[^\]]*\])", str(pooled.forest(found, Language("en")).spec["layer"]))
    assert titles and max(map(len, titles)) < 60


def test_seeds_and_further_columns_of_a_csv(tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    file.write_text("seed,total,solved,arm,study\n0,40,10,a,s\n1,40,14,a,s\n0,40,12,b,s\n0,40,9.5,b,only\n")
    found = pool([file])
    (each,) = found.replications
    assert (each.a_rate, each.b_rate, each.difference) == (0.3, 0.3, 0.0)
    assert each.standard_error == meta_analysis.unpaired([(10, 40), (14, 40)], [(12, 40)]).standard_error
    assert "only is left out: it has no row of a." in pooled.text(found, width=200)


def many(file: Path, *pairs: tuple[int, int]) -> Path:
    return counts(file, *(f"r{i},a,{a},500\nr{i},b,{b},500" for i, (a, b) in enumerate(pairs)))


@pytest.mark.parametrize(
    ("pairs", "wanted"),
    [
        ([(100, 200), (110, 205), (95, 190), (100, 210)], Agreement.AGREE),
        ([(100, 200), (200, 100), (150, 150)], Agreement.DISAGREE),
        ([(100, 200), (200, 100)], Agreement.DISAGREE),
        ([(100, 200), (110, 205)], Agreement.OPEN),
        ([(100, 110), (110, 100), (100, 105)], Agreement.OPEN),
        ([(100, 200)], Agreement.ALONE),
    ],
)
def test_agreement(tmp_path: Path, pairs: list[tuple[int, int]], wanted: Agreement) -> None:
    found = pool([many(tmp_path / "c.csv", *pairs)])
    assert found.agreement is wanted
    said = pooled.conclusion(found, Language("en")).more[0]
    assert ("The replications agree" in said) == (wanted is Agreement.AGREE)
    assert ("The replications disagree" in said) == (wanted is Agreement.DISAGREE)


@pytest.mark.parametrize("language", languages())
@pytest.mark.parametrize(
    ("rates", "matters", "wanted"),
    [
        ({"a": 0.15, "b": 0.8}, 0.05, Decision.MORE),
        ({"a": 0.8, "b": 0.15}, 0.05, Decision.LESS),
        ({"a": 0.4, "b": 0.4}, 0.45, Decision.EQUIVALENT),
        ({"a": 0.4, "b": 0.4}, 0.001, Decision.UNDECIDED),
    ],
)
def test_words_follow_numbers(
    tmp_path: Path, rates: dict[str, float], matters: float, wanted: Decision, language: str
) -> None:
    runs = [small(tmp_path / f"r{i}", i, rates=rates, compare={"matters": matters}) for i in range(3)]
    found = pool(runs)
    assert found.decision is wanted and found.margin == matters
    said = pooled.conclusion(found, Language(language))
    whole = pooled.text(found, language=language)
    assert "{" not in whole and not re.search(r"proven|kanıtlan|nan\b", whole, re.IGNORECASE)
    assert max(map(len, whole.splitlines())) <= 100
    if language == "en":
        assert ("solves more" in said.sentence) == (wanted in (Decision.MORE, Decision.LESS))
        if wanted is Decision.LESS:
            assert re.match(r"Over 3 replications a solves more than b: \+", said.sentence)


def edit(run: Path, **changes: Any) -> None:
    resolved = read_json(run / "resolved.json")
    for key, value in changes.items():
        at = resolved
        *path, last = key.split("__")
        for part in path:
            at = at[part]
        at[last] = value
    write_json(run / "resolved.json", resolved)


def test_settings_that_differ_are_named(copies: list[Path], tmp_path: Path) -> None:
    edit(copies[1], base__name_or_path="other", study__training__learning_rate=1e-4, study__compare__matters=0.1)
    edit(copies[2], study__compare__select="validation")
    shutil.rmtree(copies[2] / "train")
    found = pool([*copies, small(tmp_path / "more", 9, seeds=(0, 1, 2))])
    values = {r.values["what"]: r.values["values"] for r in found.remarks if r.code == "differs"}
    assert values.keys() == {"compare.select", "model_name_or_path", "training.learning_rate"}
    assert values["training.learning_rate"] == "0.0002 (mine, theirs, more); 0.0001 (yours)"
    assert found.margin is None and "margins_differ" in {remark.code for remark in found.remarks}


def test_arms_are_found_by_name_mapped_and_turned(copies: list[Path]) -> None:
    plain = pool(copies)
    edit(copies[1], study__compare__primary=["diverse", "deep"])
    assert pool(copies).replications == plain.replications, "always b minus a, whatever a run calls its question"
    for file in (copies[2] / "judge" / "judgments.jsonl", copies[2] / "train" / "log.jsonl"):
        file.write_text(file.read_text().replace('"diverse"', '"many"'))
    edit(
        copies[2],
        study__arms={"deep": {"dataset_name": "deep"}, "many": {"dataset_name": "many"}},
        study__compare__primary=["deep", "many"],
    )
    with pytest.raises(KiyasError, match=r"has no arm diverse: its arms are deep, many(.|\n)*--arm OLD=NEW"):
        pool(copies)
    assert pool(copies, names={"many": "diverse"}).answers[0] == plain.answers[0]
    with pytest.raises(KiyasError, match="theirs: two arms would be called deep"):
        pool(copies, names={"many": "deep"})
    with pytest.raises(KiyasError, match="cannot be compared with itself"):
        pool(copies, arms=("deep", "deep"))


def test_a_run_counts_once(copies: list[Path], tmp_path: Path) -> None:
    with pytest.raises(KiyasError, match="given twice"):
        pool([copies[0], copies[0] / ".." / "mine"])
    again = small(tmp_path / "again", 0, seeds=(0, 1))
    text = (again / "judge" / "judgments.jsonl").read_text().replace('"cpu_s": 0.04', '"cpu_s": 0.05')
    (again / "judge" / "judgments.jsonl").write_text(text)
    with pytest.raises(KiyasError, match="hold the same programs and verdicts"):
        pool([copies[0], again])
    other = small(tmp_path / "y" / "mine", 7)
    assert [each.name for each in pool([copies[0], other]).replications] == [str(copies[0]), str(other)]


def test_other_problems_are_no_replication(runs: list[Path], tmp_path: Path) -> None:
    fewer = small(tmp_path / "fewer", 8, problems=30)
    with pytest.raises(KiyasError, match=r"they share 30 \(mine 41, fewer 30\)(.|\n)*--problems shared"):
        pool([runs[0], fewer])
    shared = pool([runs[0], fewer], problems="shared")
    assert shared.problems == 30 and [each.problems for each in shared.replications] == [30, 30]
    assert shared.replications[0].difference == pytest.approx(differences(runs[0])[:30].mean())
    own = pool([runs[0], fewer], problems="own")
    assert own.problems is None and [answer.method for answer in own.answers] == ["meta"]
    assert [each.problems for each in own.replications] == [41, 30]
    tests = (fewer / "data" / "problems.jsonl").read_text().replace('"output": "0', '"output": "1')
    (fewer / "data" / "problems.jsonl").write_text(tests)
    with pytest.raises(KiyasError, match="problem p000 has other tests in"):
        pool([runs[0], fewer], problems="shared")


def test_owed_verdicts_leave_a_run_out(runs: list[Path], tmp_path: Path) -> None:
    lost = small(tmp_path / "lost", 8, change=lambda row: None if row["problem_id"] == "p001" else row)
    unjudged = small(tmp_path / "unjudged", 9, change=lambda row: None if row["arm"] == "deep" else row)
    found = pool([*runs, lost, unjudged])
    assert found.replications == pool(runs).replications
    said = pooled.text(found, width=300)
    assert "lost is left out: 4 of the compared verdicts are missing" in said
    assert "unjudged is left out: one of its two arms has no verdicts." in said
    with pytest.raises(KiyasError, match="nothing to pool: verdicts of deep or diverse are missing in lost"):
        pool([lost])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("study;arm;solved;total\n", "has no column study, arm, solved, total; its first line is"),
        ("study,arm,solved\nx,a,1\n", "has no column total"),
        ("study,arm,solved,total\n", "holds no rows"),
        ("study,arm,solved,total\nx,a,one,41\nx,b,42,41\n,b,1,41\nx,,1,41\nx,b,1\n", "line 2: solved must be a number"),
        ("study,arm,solved,total\nx,a,1,41\nx,b,42,41\n", "line 3: 42 solved of 41"),
        ("study,arm,solved,total\nx,a,nan,41\nx,b,0,0\n", "line 3: 0 solved of 0"),
        ("study,arm,solved,total\nx,a,1,41\nx,b,1,41\nx,c,1,41\n", "has 3 arms: a, b, c"),
        ("study,arm,solved,total\nx,a,1,41\n", "has 1 arms: a"),
        ("", "has no column study"),
        ("study,arm,solved,total\nx,\udcff,1,41\n", "is not a CSV file in UTF-8"),
    ],
)
def test_mistakes_of_a_csv_are_told_with_their_lines(
    tmp_path: Path, text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.csv"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert cli.main(["compare", str(file)]) == 1
    err = capsys.readouterr().err
    assert (told in err and "hint" in err) or "holds no rows" in err
    if "one" in text:
        assert all(f"line {n}: " in err for n in range(2, 7))


def test_runs_and_counts_together(runs: list[Path], tmp_path: Path) -> None:
    file = counts(tmp_path / "c.csv", "x,deep,11,41", "x,diverse,13,41", "mine,deep,11,41", "mine,diverse,13,40")
    found = pool([runs[0], file])
    assert [each.method for each in found.replications] == ["two-way", "unpaired", "unpaired"]
    assert found.problems is None and [answer.method for answer in found.answers] == ["meta"]
    codes = {remark.code for remark in found.remarks}
    assert {"unpaired", "problems_unknown", "totals_differ"} <= codes
    again = counts(tmp_path / "d.csv", "x,deep,11,41", "x,diverse,13,41")
    with pytest.raises(KiyasError, match="study x is in two files"):
        pool([file, again])


@pytest.mark.parametrize("path", ["nothing", "."])
def test_what_is_neither(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KiyasError, match=r"no such run folder|is not a run folder"):
        pool([Path(path)])


def test_every_remark_has_its_phrase() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(pooling.__file__).parent.glob("*.py"))
    codes = {*re.findall(r"Remark\(\s*\"(\w+)\"", sources), "owed", "not_judged", *pooling.runs.EXPLORATORY}
    codes |= {*re.findall(r"\"((?:not_)?wider_\w+|differs\w*)\"", sources)}
    assert len(codes) > 10 and {f"pooled.{code}" for code in codes} <= phrases("en").keys()


def test_chosen_on_the_benchmark_is_exploratory(runs: list[Path], tmp_path: Path) -> None:
    chosen = small(tmp_path / "chosen", 8, steps=(40, 60), compare={"select": "primary"})
    found = pool([runs[0], chosen])
    assert found.exploratory and "(exploratory)" in pooled.conclusion(found, Language("en")).badge
    assert not pool(runs).exploratory


FILES = {"index": ("html",), "forest": ("svg", "png", "pdf"), "pooled": ("csv", "md")}


def test_files_are_complete_offline_and_safe(tmp_path: Path) -> None:
    evil = "<script>x</script>'\"]\x1b[2J|`"
    quoted = evil.replace('"', '""')
    rows = [f'"{quoted}{i}",{arm},{n},41' for i in range(3) for arm, n in (("=a", 9), ("b", 12))]
    found = pool([counts(tmp_path / "c.csv", *rows)])
    html = pooled.write(tmp_path / "out", found).read_text(encoding="utf-8")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"index.html", "forest.svg", "forest.png", "forest.pdf", "pooled.csv", "pooled.md"}
    assert "<script>x" not in html and "&lt;script&gt;" in html
    policy = unescape(html).split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0]
    assert policy.startswith("default-src 'none'; ") and "script-src 'sha256-" in policy
    markup = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert not re.search(r"""(src|href)=["'](?!data:|#|forest\.|pooled\.)""", markup)
    assert "<script" not in (tmp_path / "out" / "pooled.md").read_text()
    assert "<script" not in (tmp_path / "out" / "forest.svg").read_text()
    assert (tmp_path / "out" / "forest.pdf").read_bytes().startswith(b"%PDF")
    assert "\x1b" not in pooled.text(found)
    with (tmp_path / "out" / "pooled.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["method"] for row in table] == ["unpaired"] * 3 + ["meta", "prediction"]
    assert table[0]["a"] == "'=a" and float(table[3]["difference"]) == pytest.approx(3 / 41, abs=1e-6)


def test_command_and_python(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(run) for run in runs]
    assert cli.main(["compare", *paths, "--json", "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    found: Pooled = pool(runs)
    assert json.loads(told.out) == json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert "index.html" in told.err
    compared = kiyas.compare(paths)
    assert str(compared) == f"diverse against deep: Undecided. {compared.conclusion}"
    assert "do not decide between" in compared.conclusion
    assert list(compared.table["method"]) == ["two-way"] * 3 + ["crossed", "meta", "prediction"]
    assert cli.main(["compare", *paths, "--arm", "x"]) == 1
    assert "expected OLD=NEW" in capsys.readouterr().err
