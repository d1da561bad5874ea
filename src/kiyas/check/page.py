"""What was checked, as one page for the terminal: every word of `kiyas check` is in this file, and in
cluster_page.py what concerns a cluster."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from kiyas.analyse.provenance import shared_remark
from kiyas.check import Checked, Level, Remark, cluster_page, design
from kiyas.check.units import duration, size
from kiyas.judge.terminal import many
from kiyas.pipeline.measure import ArmFacts
from kiyas.stats import planning
from kiyas.work.console import plain_console, printed, safe

if TYPE_CHECKING:
    from kiyas.check.costs import Costs

WIDTH = 100
ARMS_A_TABLE = 5
LABEL, ARM = 26, 14
"""columns that the names of the facts, and an arm, want in a table"""
SHOWN_IDS = 6
SHOWN_COLUMNS = 12

FIX_SPLIT = "dataset: {{group_by: {group_by}, split_column: none}}"

# What a remark says, what follows from it, and what to do. `{name}` are the remark's values.
WORDS: dict[str, tuple[str, str, str]] = {
    "rate_impossible": (
        "{key} = {rate:g} is far from every rate at which LoRA learns on a base of this size",
        "{rate_consequence}; the training would be wasted",
        "is it a typing error? Usual here (hidden size {hidden_size:,}): {low:.2g} to {high:.2g}",
    ),
    "rate_unusual": (
        "{key} = {rate:g} is outside {low:.2g} to {high:.2g}, where LoRA usually learns on a base of this size "
        "(hidden size {hidden_size:,})",
        "{rate_consequence}",
        "try about {best:.1g}, or a list of rates, from which each seed chooses by its validation loss",
    ),
    "not_read_once": (
        "the budget does not read all training rows once: {read_words}",
        "rows that are not read teach nothing, and the conclusion is not about them",
        "raise training.budget (its epochs count passes over the smallest arm; all arms take the same number of steps)",
    ),
    "many_epochs": (
        "the budget repeats the same rows very often: {epochs_words}",
        "after about 16 passes, further ones teach hardly anything, and the model memorises the rows",
        "lower training.budget",
    ),
    "few_checkpoints": (
        "training.save_steps = {every:,} saves {points_words} in {steps_words}, and only saved checkpoints are judged",
        "the report cannot show when an arm stops improving or begins to get worse",
        "set training.save_steps to about {better:,}",
    ),
    "few_losses": (
        "training.eval_steps = {every:,} measures validation loss {times_words} in {steps_words}",
        "so few points do not make a curve: it cannot show where overfitting begins",
        "set training.eval_steps to about {better:,}",
    ),
    "few_validation": (
        "there are very few validation rows: {validation_words}",
        "with so few rows, chance decides the validation loss and all that is chosen by it",
        "hold out more (dataset.validation_fraction), or mark more rows in the split column",
    ),
    "same_file": (
        "{a} and {b} read the same data: {sources_words}",
        "all {a_rows:,} training rows are the same, so there is no difference in data to find",
        "correct arms.{a}.dataset_name or arms.{b}.dataset_name",
    ),
    "shared_other_recipe": (
        "{shared:,} of the {a_rows:,} training rows of {a} and {b_shared:,} of the {b_rows:,} of {b} are in both",
        "the two arms have different training or peft settings, so the study compares these as well",
        "",
    ),
    "swapped_name": (
        "arms.{arm} reads {source}, which carries the name of arm {other}",
        "if the names are swapped, the conclusion will name the wrong data",
        "swap the two dataset_name keys, or rename the arm",
    ),
    "not_as_expected": (
        "arm {arm} was expected to have {wanted:g} {what_words}, and has {found:.3g}",
        "it is not the data that the study is about",
        "look at dataset_name and dataset.group_by, or correct `expect`",
    ),
    "duplicates": (
        "{found} of {rows} rows of {arm} repeat an earlier row word for word",
        "the model sees them more often than the others, and they add nothing new",
        "remove them",
    ),
    "near_duplicates": (
        "{found} of {rows} rows of {arm} are nearly the same as an earlier row, in problem and answer",
        "the arm has less to learn from than its number of rows suggests",
        "remove them, or mention them where the arms are compared",
    ),
    "unparsed": (
        "{found} of {rows} programs of {arm} are not Python (--json names them)",
        "the model learns to write programs that cannot run",
        "remove or repair these rows",
    ),
    "no_program": (
        "in {found} of {rows} answers of {arm} the judge finds no program (--json names them)",
        "answers like these count as failures on the benchmark",
        "put the program in a ```python fence, or remove these rows",
    ),
    "columns_swapped": (
        "in {found} of {rows} answers of {arm} the judge finds no program, and the prompts look like programs",
        "the model would learn to write the question from its answer",
        "the columns may be swapped: look at dataset.prompt_column and dataset.completion_column",
    ),
    "too_long": (
        "{found} of {rows} samples of {arm} are longer than training.max_length = {limit}; the longest: {longest}",
        "they are left out, never cut (other trainers cut them, and so teach answers without an end)",
        "raise training.max_length, if memory allows",
    ),
    "cut_answers": (
        "{share:.0%} of the training answers of {arm} are longer than generation.max_new_tokens = {limit}",
        "answers this long would be cut on the benchmark, and count as failures",
        "raise generation.max_new_tokens to {longest} or more",
    ),
    "tokens_differ": (
        "{most} learns from {times:.2g} times as many answer tokens as {least}",
        "more answer tokens mean more training signal: a difference may come from this, not from the kind of data",
        "give the budget in tokens: training.budget: {{completion_tokens: N}}",
    ),
    "same_data": (
        "{a} and {b} are trained on the same {a_rows:,} rows, prompt and completion",
        "there is no difference in data to find",
        "look at the two dataset_name keys",
    ),
    "nearly_same_data": (
        "{a} and {b} are trained on nearly the same rows: {shared:,} of {a_rows:,} of {a} and {b_shared:,} of "
        "{b_rows:,} of {b} are in both",
        "a difference can only come from the rest",
        "look at the two dataset_name keys",
    ),
    "shared_rows": (
        "{a} and {b} share training rows: {shared:,} of the {a_rows:,} of {a} ({a_share:.0%}) and {b_shared:,} of the "
        "{b_rows:,} of {b} ({b_share:.0%})",
        "a difference in data can only come from the other rows",
        "remove them from one of the two; if this is intended, say so where the arms are compared",
    ),
    "thinking_differs": (
        "answers with <think> reasoning: {shares_words}",
        "the study then compares reasoning with no reasoning as much as it compares the data",
        "use the same kind of answer in every arm",
    ),
    "thinking_mixed": (
        "some answers have <think> reasoning and others do not, in {arms_words}",
        "the model learns a random mixture of both",
        "",
    ),
    "fences_differ": (
        "answers with a ``` fence: {shares_words}",
        "the arms learn different answer formats as well as different programs",
        "use one answer format in all arms",
    ),
    "fences_mixed": (
        "some answers have a ``` fence and others do not, in {arms_words}",
        "the judge understands both",
        "",
    ),
    "split_leak": (
        "{arm}: {found} of {problems} {split} problems are also in the training set, by the file's own split",
        "{split_consequence}",
        "split by problem: " + FIX_SPLIT,
    ),
    "near_leak": (
        "{arm}: {found} of {problems} held-out problems have a near copy among its training prompts",
        "its validation loss will look too good; Kıyas separates problems by dataset.group_by only",
        "give such rows the same group: " + FIX_SPLIT,
    ),
    "contaminated": (
        "{found} of the {problems_words} of the benchmark {benchmark!r} are in training rows of {arm} ({kinds}): "
        "{ids_words}",
        "{arm} may have memorised the answers; a gain on these problems proves nothing",
        "remove the training rows (--json names them), or these problems",
    ),
    "no_template": (
        "the tokenizer has no chat template",
        "prompts are plain text that ends with a line break; an instruct model expects its own format",
        "use the model's own tokenizer files, unless it is a base model",
    ),
    "system_ignored": (
        "the chat template silently drops the system message",
        "dataset.system has no effect",
        "remove dataset.system, or put its text into the prompts",
    ),
    "system_refused": (
        "the chat template does not support a system message",
        "leave dataset.system out of this study",
        "",
    ),
    "default_system": (
        "without a system message the chat template inserts its own: {text!r}",
        "training and benchmark both use it here; with another system message the model may answer differently",
        "set it explicitly: dataset: {{system: ...}}",
    ),
    "other_system": (
        "{found} of {rows} rows of {arm} carry a system message that is not dataset.system",
        "it is left out, and dataset.system is used in its place",
        "look at these messages: what the answers depend on must be in dataset.system or in the prompt",
    ),
    "chat_tokens": (
        "{found} of {rows} rows of {arm} already hold the marks of a chat template, such as <|im_start|> or [INST]",
        "they are put into the chat template of the base a second time",
        "take the marks out: prompt and completion are plain text",
    ),
    "unused_columns": (
        "{arm}: nothing was read from the columns {columns_words}",
        "what is in them the model does not see",
        "",
    ),
    "end_appended": (
        "the tokenizer appends {token} to every text",
        "a prompt that ends with it says that the text is over; Kıyas takes it off, other trainers do not",
        "set add_eos_token to false in its tokenizer_config.json",
    ),
    "answer_unopened": (
        "the chat template does not open the assistant's turn: it ignores add_generation_prompt",
        "the model learns to answer right behind the question, in a chat that it was not made for",
        "use the model's own template, or open the assistant's turn in it",
    ),
    "prompt_ends": (
        "every prompt ends with {token}, which also ends an answer",
        "the model may answer nothing",
        "use the model's own template, or open the assistant's turn in it",
    ),
    "reads_clock": (
        "the chat template writes today's date",
        "Kıyas writes {day} always, in training and on the benchmark; other software writes another day",
        "write a fixed date into the template",
    ),
    "stated_tolerance": (
        "{found} of {problems} problems are judged within the error that their statement allows: {ids_words}",
        "there a number may differ from the expected one by as much as the statement says",
        "to compare exactly: judge: {{tolerance: exact}}",
    ),
    "base_in_4bit": (
        "the base is loaded in 4 bits (4-bit NF4)",
        "it is another base than the 16-bit one, and the conclusions will be about it",
        "",
    ),
    "pad_is_end": (
        "the padding token is the end of turn ({token})",
        "trainers that mask padding never teach the model to stop; Kıyas trains on the end of turn anyway",
        "",
    ),
    "end_no_stop": (
        "{token} ends an answer, but the model's configuration stops at {stops_words} only",
        "Kıyas stops there; other software continues unless it is configured to stop",
        "",
    ),
    "problems_found_wrong": (
        "{what}",
        "a benchmark must prove itself: tests that never run accept every program, broken ones refuse every program",
        "mend these problems, or leave them out",
    ),
    "memory": (
        "the study does not fit into memory: {trouble_words}",
        "it would stop before it is finished",
        "lower training.workers, training.max_tokens_per_pass or generation.max_rows",
    ),
    "card_too_small": (
        "{card}: takes no {takes_no_words}: {reason}",
        "the other cards do without it; its node's processor cores judge all the same",
        "",
    ),
    "cluster_too_small": (
        "no card of this cluster can {too_small_words}",
        "the study cannot run there",
        "take larger cards, a smaller base, or training.load_in_4bit: true; training.max_length and "
        "generation.max_new_tokens need memory, too",
    ),
    "disk": (
        "the checkpoints need about {needed_words} of disk; {free_words} are free here",
        "it would stop before it is finished",
        "raise training.save_steps, lower peft.r, or free some space",
    ),
    "no_isolation": (
        "programs cannot be isolated here as judge.isolation asks: {reason}",
        "`kiyas run` would refuse to start on this machine",
        "run `kiyas doctor` to see what is missing",
    ),
    "device_elsewhere": (
        "the study asks for {wanted}, which this machine does not have",
        "time and memory below are for this machine's processor",
        "run the check again on the machine that will run the study",
    ),
    "one_seed": (
        "one seed: the conclusion can only be about these two adapters",
        "another training on the same data may reverse the result",
        "seeds: 3 or more",
    ),
    "design_of_pass1": (
        "what the design can detect is computed for pass@1; compare.metric is {metric}",
        "its differences may vary more or less from problem to problem than those of pass@1",
        "",
    ),
}
RATE_CONSEQUENCE = {
    "high": "training at such a rate is likely to diverge, and the answers become noise",
    "low": "at such a rate the adapter hardly changes, and the arm answers like the base",
}
BY_ARM: dict[str, Callable[[Any], str]] = {
    "read": lambda pair: f"{pair[0]:,} of {pair[1]:,} ({pair[0] / pair[1]:.1%})",
    "epochs": lambda times: f"{times:,.0f} times",
    "validation": str,
}
KINDS = {"exact": "whole", "ngram": "in long runs of words", "near": "nearly the same", "solution": "its own solution"}


def page(checked: Checked, *, width: int = WIDTH, color: bool = False) -> str:
    """One page, at most `width` columns; plain text unless `color`."""
    console = plain_console(width, color)

    def say(line: str, style: str = "", indent: int = 0, further: int = 0) -> None:
        wrapped = textwrap.wrap(safe(line), width - 1, initial_indent=" " * indent, subsequent_indent=" " * further)
        console.print(Text("\n".join(wrapped), style=style))

    count = f" ({checked.parameters:,} parameters)" if checked.parameters else ""
    say(f"{checked.name}: {_asked(checked)} on {checked.base}{count}", "bold")
    for line in filter(None, (_sight(checked), _extremes(checked))):
        say(line)
    warnings = [each for each in checked.remarks if each.level is Level.WARNING]
    if warnings:
        console.print()
        say(f"{many(len(warnings), 'warning')}", "bold yellow")
    for remark in warnings:
        said, so, fix = words(remark, checked)
        say(f"! {said}", "", 0, 2)
        say(f"→ {so}" + (f". {fix[0].upper()}{fix[1:]}" if fix else ""), "", 2, 4)
    names = list(checked.arms)
    together = max(1, min(ARMS_A_TABLE, (width - LABEL) // ARM))
    for start in range(0, len(names), together):
        console.print(_arms_table(checked, names[start : start + together]))
    for name, sample in checked.shown.items():
        one_line = sample.replace("\n", "\\n")
        say(f"One row of {name} as the model sees it, what it learns between >>> and <<<: {one_line}", "", 0, 2)
    for line in (*_held_out(checked), *_shared(checked), *_contamination(checked)):
        say(line, "", 0, 2)
    notes = [each for each in checked.remarks if each.level is Level.NOTE]
    for remark in notes:
        said, so, _ = words(remark, checked)
        say(f"· {said}: {so}", "", 0, 2)
    console.print()
    if checked.cluster is None:
        for line in _costs(checked.costs):
            say(line, "", 0, 2)
    else:
        for line in cluster_page.summary(checked.cluster):
            say(line, "", 0, 2)
        console.print(cluster_page.stages(checked.cluster))
        for line in cluster_page.details(checked.cluster):
            say(line, "", 0, 2)
    console.print()
    samples = sorted({cell.samples for cell in checked.design})
    hours = "" if checked.costs is None else ", and the hours"
    level = f" in each of {checked.contrasts} contrasts" if checked.contrasts > 1 else ""
    say(
        f"What each design finds 4 times in 5{level}: the true difference in points{hours}. The spread is assumed, as "
        "above (docs/check.md); the report uses the measured one. Smaller differences are found less often."
    )
    console.print(_design_table(checked, samples))
    say(f"no mistakes found; {many(len(warnings), 'warning')}", "bold")
    return printed(console)


def _asked(checked: Checked) -> str:
    """2 arms × 3 seeds; and which of the arms are not trained here."""
    given, arms = len(checked.given), len(checked.arms) + len(checked.given)
    seeds = many(checked.seeds, "seed")
    if not checked.arms:
        return f"{many(arms, 'arm')}, given; nothing is trained ({seeds})"
    return f"{many(arms, 'arm')}{f' ({given} of them given)' if given else ''} × {seeds}"


def words(remark: Remark, checked: Checked) -> tuple[str, str, str]:
    """What a remark says, its consequence, and the fix (may be empty)."""
    values = {**remark.values, **_worded(remark.values, checked)}
    said, so, fix = (text.format(**values) for text in WORDS[remark.code])
    return said, so, fix


def _worded(values: Mapping[str, Any], checked: Checked) -> dict[str, str | float]:
    made: dict[str, str | float] = {"group_by": checked.group_by or "COLUMN_OF_THE_PROBLEM"}
    for key in ("needed", "here", "free"):
        if key in values:
            made[f"{key}_words"] = size(values[key])
    if "trouble" in values:
        needed, here = size(values["needed"]), size(values["here"])
        made["trouble_words"] = values["trouble"] or f"it needs about {needed}, and {here} are free"
    if "shares" in values:
        made["shares_words"] = ", ".join(f"{arm} {share:.0%}" for arm, share in values["shares"].items())
    for key in ("arms", "stops"):
        if key in values:
            made[f"{key}_words"] = ", ".join(values[key]) or "nothing"
    for key, shown in BY_ARM.items():
        if key in values:
            made[f"{key}_words"] = ", ".join(f"{arm} {shown(value)}" for arm, value in values[key].items())
    if "points" in values:
        made["points_words"] = many(values["points"], "checkpoint")
        made["steps_words"] = many(values["steps"], "step")
        made["times_words"] = ("once", "twice")[values["points"] - 1]
    if "too" in values:
        made["rate_consequence"] = RATE_CONSEQUENCE[values["too"]]
    if "sources" in values:
        one, *other = values["sources"]
        made["sources_words"] = f"{one} and {other[0]} hold the same bytes" if other else one
    if "ids" in values:
        ids = values["ids"]
        made["ids_words"] = ", ".join(ids[:SHOWN_IDS]) + (f" and {len(ids) - SHOWN_IDS} more" * (len(ids) > SHOWN_IDS))
        made["kinds"] = ", ".join(f"{values[kind]} {how}" for kind, how in KINDS.items() if values[kind])
    if "problems" in values:
        made["problems_words"] = many(values["problems"], "problem")
    if "takes_no" in values:
        made["takes_no_words"] = " and no ".join(
            {"train": "training", "answer": "answers"}[n] for n in values["takes_no"]
        )
    if "train" in values:
        made["too_small_words"] = "hold one training" if values["train"] else "give one answer"
    if "columns" in values:
        columns = values["columns"]
        more = f" and {len(columns) - SHOWN_COLUMNS} more" * (len(columns) > SHOWN_COLUMNS)
        made["columns_words"] = ", ".join(columns[:SHOWN_COLUMNS]) + more
    if "what" in values:
        made["what_words"] = {"problems": "problems", "solutions": "solutions per problem"}[values["what"]]
    if "rows" in values:
        made["share"] = values["found"] / max(1, values["rows"])
    if "split" in values:
        made["split_consequence"] = _split_consequence(values)
    return made


def _split_consequence(values: Mapping[str, Any]) -> str:
    if values["ignored"]:
        return "this study does not use that split (split_column: none) and holds whole problems out instead"
    if values["split"] != "validation":
        return "a loss or score on it would look too good; Kıyas does not use these rows"
    if not values["same_group"]:
        return f"validation loss of {values['arm']} will look too good; the wording differs, so Kıyas cannot detect it"
    lost = f"{values['lost']} training rows" if values["lost"] else "the training rows"
    return (
        f"validation loss of {values['arm']} would look too good; Kıyas takes {lost} of held-out problems out, other "
        "trainers do not"
    )


def _sight(checked: Checked) -> str:
    """What the study finds 4 times in 5, under which assumption, and a design that finds less or enough."""
    own, better = checked.design[0], _better(checked)
    each = f" in each of its {checked.contrasts} declared contrasts" if checked.contrasts > 1 else ""
    far = f"a true difference of {_points(own.detectable)} points 4 times in 5"
    finds = far if own.detectable < 1 else "no difference 4 times in 5, however large"
    study = (
        f"this study ({many(own.seeds, 'seed')} × {many(own.problems, 'problem')}, {many(own.samples, 'answer')} each)"
    )
    now = (
        f"Assumed spread: {study} finds {finds}{each}, if {_assumption(max(own.seeds, better.seeds if better else 1))}"
    )
    if checked.groups is not None:
        now += f" and problems are independent (these are in {checked.groups:,} contests or templates: it finds less)"
    if own.detectable <= checked.matters:
        return f"{now}: enough for the equivalence margin of {_points(checked.matters)} points."
    if better is None:
        return f"{now}."
    extra = f" × {better.samples} answers" if better.samples > 1 else ""
    hours = "" if better.hours is None else f", in about {duration(better.hours * 3600)}"
    larger = f"{many(better.seeds, 'seed')} × {many(better.problems, 'problem')}{extra}"
    return f"{now}. {larger} would find {_points(better.detectable)} points as often{hours}."


def _better(checked: Checked) -> design.Cell | None:
    """The cheapest design that finds the margin, else the one that finds the smallest difference."""
    own, *others = checked.design
    better = [cell for cell in others if cell.detectable < own.detectable and cell.seeds >= own.seeds]
    if own.detectable <= checked.matters or not better:
        return None
    enough = [cell for cell in better if cell.detectable <= checked.matters]
    if enough:
        return min(enough, key=lambda cell: (cell.hours or 0.0, cell.seeds * cell.problems * cell.samples))
    return min(better, key=lambda cell: cell.detectable)


def _assumption(seeds: int) -> str:
    """What `planning.ASSUMED` assumes of the spread."""
    parts = planning.ASSUMED
    answers = f"two adapters' answers differ on {parts.problem + parts.rest:.0%} of the problems"
    apart = f"two trainings on the same data differ by {_points(math.sqrt(parts.seed))} points and "
    return (apart if seeds > 1 else "") + answers


def _points(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.095 else f"{100 * share:.1f}".removesuffix(".0")


def _extremes(checked: Checked) -> str:
    """Which arm really has the most solutions, and which the most problems."""
    trained = {name: facts.trained for name, facts in checked.arms.items()}
    if len(trained) < 2 or any(each.code in ("same_file", "same_data") for each in checked.remarks):
        return ""
    solutions = {name: rows.solutions_per_problem for name, rows in trained.items()}
    problems = {name: rows.problems for name, rows in trained.items()}
    return (
        f"Measured: {_largest(solutions)} the most solutions per problem ({max(solutions.values()):.3g}), "
        f"{_largest(problems)} the most problems ({max(problems.values()):,})."
    )


def _largest(values: Mapping[str, float]) -> str:
    """deep has; deep and diverse have"""
    names = [name for name, value in values.items() if value == max(values.values())]
    return f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'}"


# -- tables -------------------------------------------------------------------------------------------------------


def _arms_table(checked: Checked, names: list[str]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column("", overflow="fold")
    for name in names:
        made.add_column(safe(name), justify="right", overflow="fold")
    for label, cell in _FACTS.items():
        cells = [cell(checked, checked.arms[name]) for name in names]
        if any(cells):
            made.add_row(label, *(safe(text) or "-" for text in cells))
    return made


def _read(of: Callable[[ArmFacts], str]) -> Callable[[Checked, ArmFacts], str]:
    return lambda _, facts: of(facts) if facts.read else ""


def _splits(facts: ArmFacts) -> str:
    return " / ".join(f"{facts.splits[split]:,} {split}" for split in facts.splits) if facts.splits else "none"


def _of_rows(key: str) -> Callable[[Checked, ArmFacts], str]:
    def shown(facts: ArmFacts) -> str:
        value = getattr(facts, key)
        found = value if isinstance(value, int) else len(value)
        rows = facts.read.rows if facts.read else 0
        return f"{found:,} ({found / max(1, rows):.0%})" if found else "0"

    return _read(shown)


_FACTS: dict[str, Callable[[Checked, ArmFacts], str]] = {
    "recognised as": lambda _, f: f.shape,
    "rows read": _read(lambda f: f"{f.read.rows:,}" if f.read else ""),
    "  by the file's own split": _read(_splits),
    "  problems": _read(lambda f: f"{f.read.problems:,}" if f.read else ""),
    "  exact, near duplicates": _read(lambda f: f"{len(f.duplicates):,}, {len(f.near_duplicates):,}"),
    "  with <think>": _of_rows("thinking"),
    "  program in a ``` fence": _of_rows("fenced"),
    "  not Python, no program found": _read(lambda f: f"{len(f.unparsed):,}, {len(f.no_program):,}"),
    "  tokens: median, 95 %, longest": _read(
        lambda f: f"{f.lengths.median:,}, {f.lengths.ninety_five:,}, {f.lengths.longest:,}" if f.lengths else ""
    ),
    "  longer than max_length": _read(lambda f: f"{f.lengths.too_long:,}" if f.lengths else ""),
    "left out": lambda _, f: ", ".join(f"{n:,} {why.replace('_', ' ')}" for why, n in f.left_out.items()),
    "trained on": lambda _, f: many(f.trained.rows, "row"),
    "  problems ": lambda _, f: f"{f.trained.problems:,}",
    "  solutions per problem": lambda _, f: f"{f.trained.solutions_per_problem:.3g}",
    "  different approaches per problem": lambda _, f: f"{f.trained.approaches_per_problem:.3g}",
    "for validation": lambda _, f: many(f.validation, "row"),
    "spends: steps, epochs": lambda c, f: f"{c.spent[f.name].steps:,}, {c.spent[f.name].epochs:.3g}",
    "  examples": lambda c, f: f"{c.spent[f.name].examples:,}",
    "  answer tokens": lambda c, f: f"{c.spent[f.name].completion_tokens:,}",
}


def _held_out(checked: Checked) -> list[str]:
    if not checked.arms:
        return []
    if not checked.left_overlaps:
        return ["Nothing is held out: there will be no validation loss."]
    if any(each.most for each in checked.left_overlaps):
        return ["Held-out problems: see the warnings."]
    group = f"`{checked.group_by}`" if checked.group_by else "problem"
    return [f"Held-out problems: none was found in any arm's training set, by {group} or by near-equal prompt."]


def _shared(checked: Checked) -> list[str]:
    """Of the pairs of arms that no remark is about."""
    lines = []
    for each in checked.shared:
        remark = shared_remark(each)
        if remark.level is Level.OK:
            lines.append(
                f"Training rows that {each.a} and {each.b} share: {each.a_shared:,} of {each.a_rows:,} and "
                f"{each.b_shared:,} of {each.b_rows:,}; prompts alone: {each.a_prompts:,} and {each.b_prompts:,}."
            )
    return lines


def _contamination(checked: Checked) -> list[str]:
    lines = []
    for name, count in checked.benchmarks.items():
        arms = [each.arm for each in checked.contamination if each.benchmark == name and not each.found]
        if arms:
            lines.append(
                f"Benchmark {name} ({many(count, 'problem')}): not found in the training data of {', '.join(arms)} "
                "(whole, in long runs of words, nearly the same)."
            )
    return lines


def _costs(c: Costs | None) -> list[str]:
    if c is None:
        return ["Time, memory and disk are not estimated and the base's weights are not checked, because of --fast."]
    judged = f", judging at least {duration(c.judge_s)}" if c.judge_s is not None else ""
    longer = f" (if every answer ran to the limit: {duration(c.runaway_s)})" if c.runaway_s > 1.5 * c.generate_s else ""
    processes = " and ".join(map(str, dict.fromkeys(c.workers)))
    m = c.memory
    trained, stacked = "A", ""
    if c.train_s:
        trained = f"Training {duration(c.train_s)}, a"
        stacked = f"training {size(m.training)} with {many(m.trainings, 'adapter')} at once in {m.layout}, "
    here = (
        f"Estimate for this machine ({c.device}, {c.dtype}, {processes} at once; from one layer, measured for "
        f"{c.measured_s:.0f} s): about {duration(c.total_s)}."
    )
    there = (
        f"Estimate for one {c.device} ({c.dtype}; computed, not measured; the judge as measured here): about "
        f"{duration(c.total_s)}."
    )
    return [
        there if c.on_card else here,
        f"  {trained}nswering {duration(c.generate_s)}{longer}{judged}.",
        f"  Memory {size(c.memory_bytes)} of {size(c.memory_here)}: {stacked}answering {size(m.answering)} with "
        f"{many(m.decoding.rows, 'answer')} at once{' (each process)' if max(c.workers) > 1 else ''}.",
        f"  Disk {size(c.disk_bytes)} for {many(c.checkpoints, 'checkpoint')}, {size(c.disk_free)} free. "
        f"{many(c.answers, 'program')} to judge.",
    ]


def _design_table(checked: Checked, samples: list[int]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column("")
    own = checked.design[0]
    for problems in sorted({cell.problems for cell in checked.design}):
        made.add_column(many(problems, "problem"), justify="right")
    for m in samples:
        for seeds in sorted({cell.seeds for cell in checked.design}):
            row = sorted(
                (cell for cell in checked.design if (cell.seeds, cell.samples) == (seeds, m)), key=lambda c: c.problems
            )
            answers = f" × {m} answers" if m > 1 else ""
            cells = [
                f"{'* ' if cell == own else ''}{_points(cell.detectable)}"
                + ("" if cell.hours is None else f" in {duration(cell.hours * 3600)}")
                for cell in row
            ]
            made.add_row(f"{many(seeds, 'seed')}{answers}", *cells)
    made.caption = "* this study; one seed compares two adapters only" if own.seeds == 1 else "* this study"
    made.caption_justify = "left"
    if design.SAMPLES in samples and checked.samples == 1:
        made.caption += "; several answers require generation.temperature above 0"
    return made
