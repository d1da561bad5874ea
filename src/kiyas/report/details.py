"""The tables about training and single problems: readings, losses, partly solved, stability, the grid."""

from __future__ import annotations

from kiyas.analyse.findings import Findings
from kiyas.report import sentences
from kiyas.report.table import Table, bounds, columns
from kiyas.report.words import DASH, Words

KINDS = ("always", "learned", "forgotten", "flickering", "never")


def readings(findings: Findings, words: Words) -> Table:
    shown, raw = [], []
    for curve in findings.curves:
        training, found = curve.training, curve.reading
        shown.append({"arm": training.arm, "seed": str(training.seed), "reading": sentences.reading(curve, words)})
        raw.append(
            {
                "arm": training.arm,
                "variant": training.variant,
                "seed": training.seed,
                "of": found.of if found else None,
                "lowest_step": found.lowest_step if found else None,
                "lowest": found.lowest if found else None,
                "last_step": found.last_step if found else None,
                "last": found.last if found else None,
                "turned": found.turned if found else None,
                "rise": found.rise if found else None,
                "gap": found.gap if found else None,
                "slow_step": found.slow_step if found else None,
            }
        )
    return Table(
        "readings",
        words("table.readings"),
        columns(words, "arm", "seed", "reading"),
        tuple(shown),
        tuple(raw),
    )


def losses(findings: Findings, words: Words) -> Table:
    raw = [
        {
            "arm": curve.training.arm,
            "variant": curve.training.variant,
            "seed": curve.training.seed,
            "set": name,
            "step": point.step,
            "epoch": point.epoch,
            "loss": point.loss,
        }
        for curve in findings.curves
        for name, points in (("train", curve.train), ("validation", curve.validation), *curve.others.items())
        for point in points
    ]
    return Table("losses", words("table.losses"), columns(words, "arm", "seed", "set", "step", "loss"), (), tuple(raw))


def loss_matrix(findings: Findings, words: Words) -> Table:
    """Last losses of every arm on every arm's validation set, where there are several sets."""
    cells = findings.loss_matrix if len({cell.on for cell in findings.loss_matrix}) > 1 else ()
    shown = [
        {
            "arm": cell.arm,
            "set": cell.on,
            "loss": words.number(cell.mean, 3),
            "range": f"{words.number(cell.low, 3)}–{words.number(cell.high, 3)}" if cell.seeds > 1 else DASH,
            "seeds": str(cell.seeds),
        }
        for cell in cells
    ]
    raw = [{"arm": c.arm, "set": c.on, "loss": c.mean, "low": c.low, "high": c.high, "seeds": c.seeds} for c in cells]
    keys = ("arm", "set", "loss", "range", "seeds")
    strong = frozenset(i for i, cell in enumerate(cells) if cell.arm == cell.on)
    title = words("table.loss_matrix")
    return Table("loss_matrix", title, columns(words, *keys), tuple(shown), tuple(raw), strong, frozenset(keys[2:]))


def partial(findings: Findings, words: Words) -> Table:
    """Problems of which a chosen checkpoint passes some tests and not all; one column a checkpoint."""
    chosen = [adapter for result in findings.results for adapter in result.adapters]
    scores = {adapter: findings.score(adapter) for adapter in chosen}
    column = {adapter: i for i, adapter in enumerate(findings.columns)}
    shown, raw = [], []
    for row in findings.grid:
        partly = [a for a in chosen if (score := scores[a]) is not None and row.problem in score.partial]
        if not partly:
            continue
        line = {"problem": row.problem, "title": row.title if row.title != row.problem else ""}
        for adapter in chosen:
            cell = row.cells[column[adapter]]
            if adapter in partly:
                line[str(adapter)] = words("cell.of", solved=cell.passed, n=cell.total)
            else:
                line[str(adapter)] = "✓" if cell.samples and cell.right == cell.samples else ""
        shown.append(line)
        for adapter in partly:
            cell = row.cells[column[adapter]]
            raw.append(
                {
                    "problem": row.problem,
                    "title": row.title,
                    **adapter.fields(),
                    "verdict": cell.verdict,
                    "passed": cell.passed,
                    "total": cell.total,
                }
            )
    seeds = len({adapter.seed for adapter in chosen}) > 1
    heads = tuple((str(adapter), sentences.short(words, adapter, seed=seeds)) for adapter in chosen)
    return Table(
        "partial",
        words("table.partial"),
        (*columns(words, "problem", "title"), *heads),
        tuple(shown),
        tuple(raw),
        numeric=frozenset(key for key, _ in heads),
    )


def stability(findings: Findings, words: Words) -> Table:
    shown, raw = [], []
    for each in findings.stability:
        interval = words.share_interval(each.forgetting) if each.forgetting else DASH
        rate = words.percent(each.forgetting_rate)
        shown.append(
            {
                "arm": each.training.arm,
                "seed": str(each.training.seed),
                "k": str(each.checkpoints),
                **{kind: str(len(getattr(each, kind))) for kind in KINDS},
                **{
                    kind: words("cell.shuffled", n=len(getattr(each, kind)), chance=words.number(chance))
                    for kind, chance in each.shuffled.items()
                },
                "forgetting": f"{rate} ({interval})" if each.forgetting_rate is not None else DASH,
            }
        )
        raw.append(
            {
                "arm": each.training.arm,
                "variant": each.training.variant,
                "seed": each.training.seed,
                "checkpoints": each.checkpoints,
                **{kind: len(getattr(each, kind)) for kind in KINDS},
                **{f"{kind}_in_random_order": chance for kind, chance in each.shuffled.items()},
                "forgetting_rate": each.forgetting_rate,
                **bounds("forgetting", each.forgetting),
            }
        )
    keys = ("arm", "seed", "k", *KINDS, "forgetting")
    return Table(
        "stability",
        words("table.stability"),
        columns(words, *keys),
        tuple(shown),
        tuple(raw),
        numeric=frozenset(keys[2:]),
    )


def trajectories(findings: Findings, words: Words) -> Table:
    """The pattern of every problem in every training; a CSV file only."""
    raw = [
        {
            "arm": each.training.arm,
            "variant": each.training.variant,
            "seed": each.training.seed,
            "problem": problem,
            "pattern": kind,
        }
        for each in findings.stability
        for kind in KINDS
        for problem in getattr(each, kind)
    ]
    return Table("trajectories", words("table.trajectories"), columns(words, "arm", "seed", "problem"), (), tuple(raw))


def forgotten(findings: Findings, words: Words) -> Table:
    """Each forgotten problem with the last point at which it was still solved: the base (step 0) or a checkpoint."""
    shown, raw = [], []
    rows = {row.problem: row for row in findings.grid}
    for each in findings.stability:
        training = (each.training.arm, each.training.variant, each.training.seed)
        of_training = [(i, a) for i, a in enumerate(findings.columns) if a.training == training or a.is_base]
        for problem in each.forgotten:
            row = rows[problem]
            solved = [
                a for i, a in of_training if row.cells[i].samples and 2 * row.cells[i].right >= row.cells[i].samples
            ]
            last = solved[-1] if solved else None
            title = row.title if row.title != problem else ""
            shown.append(
                {
                    "arm": each.training.arm,
                    "seed": str(each.training.seed),
                    "problem": problem,
                    "title": title,
                    "last_solved": sentences.checkpoint(words, last) if last else DASH,
                }
            )
            raw.append(
                {
                    "arm": each.training.arm,
                    "variant": each.training.variant,
                    "seed": each.training.seed,
                    "problem": problem,
                    "title": title,
                    "last_solved_step": last.step if last else None,
                }
            )
    keys = ("arm", "seed", "problem", "title", "last_solved")
    return Table("forgotten", words("table.forgotten"), columns(words, *keys), tuple(shown), tuple(raw))


def grid(findings: Findings, words: Words) -> Table:
    raw = [
        {
            "problem": row.problem,
            "title": row.title,
            **{
                str(adapter): cell.verdict or "missing" if cell.samples <= 1 else f"{cell.right}/{cell.samples}"
                for adapter, cell in zip(findings.columns, row.cells, strict=True)
            },
        }
        for row in findings.grid
    ]
    return Table("grid", words("table.grid"), columns(words, "problem", "title"), (), tuple(raw))
