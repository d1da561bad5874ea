"""How the arms behave, beyond how much they solve: what they forget, where they are stuck, how they fail and copy.

Everything here is for orientation: it is looked at in many ways at once, nothing is corrected for that, and the
conclusion uses none of it. Missing answers are never failures: where something is missing a problem is left out,
and the number of those left out is reported. Definitions: docs/statistics.md.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kiyas.analyse.failures import exception, failure
from kiyas.analyse.findings import (
    Behaviour,
    Copied,
    Copying,
    Diversity,
    Failure,
    FailureCounts,
    FailureDifference,
    Forgetting,
    Group,
    Shared,
    Sharing,
    Stuck,
    Training,
)
from kiyas.analyse.load import Loaded, PassRates
from kiyas.analyse.problems import ratio, redrawn
from kiyas.analyse.programs import Overlap, behaviour_on_tests, code, matches, tokens
from kiyas.analyse.tags import tags_of
from kiyas.judge import Outcome
from kiyas.runfolder.files import read_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.similarity.fingerprint import fingerprint
from kiyas.stats import inference
from kiyas.stats.inference import Floats, Interval
from kiyas.types import BASE, BASE_ARM, AdapterId, Example, Judgment

MOST_COPIED = 20
"""Programs of an arm that are listed with the training row they are nearest to."""

Chosen = Mapping[str, tuple[AdapterId, ...]]
Flags = NDArray[np.bool_]
Kinds = Mapping[tuple[AdapterId, str], list[Failure | None]]


def behaviour(
    loaded: Loaded,
    trainings: Mapping[Training, list[AdapterId]],
    chosen: Chosen,
    wanted: tuple[str, ...],
    rates: PassRates,
) -> Behaviour:
    """`chosen`: the checkpoints that represent each arm, the base among them. `wanted`: the two arms compared."""
    whole_P = np.ones(len(loaded.problems), dtype=np.bool_)
    for adapter in itertools.chain(*chosen.values()):
        whole_P &= ~np.isnan(rates[adapter])
    kinds = {
        (adapter, problem): [_failure(loaded, each) for each in loaded.judged(adapter, problem)]
        for adapter in itertools.chain(*chosen.values())
        for problem in loaded.problems
    }
    tags_from, tags = tags_of(loaded.problems)
    pair = wanted if len(wanted) == 2 and all(arm in chosen for arm in wanted) else ()
    copying, copied, no_data = _copying(loaded, chosen)
    return Behaviour(
        forgetting=tuple(
            _forgetting(loaded, arm, [points for t, points in trainings.items() if t.arm == arm], chosen[arm], rates)
            for arm in chosen
            if arm != BASE_ARM
        ),
        stuck=tuple(stuck for training, points in trainings.items() for stuck in _stuck(loaded, training, points)),
        outcomes=tuple(_outcomes(loaded, arm, chosen[arm], kinds) for arm in chosen),
        differences=_differences(loaded, chosen, pair, kinds, whole_P),
        shared=_shared(loaded, chosen, pair, kinds, rates, whole_P, tags),
        left_out=int((~whole_P).sum()),
        tags_from=tags_from,
        groups=_groups(loaded, chosen, rates, whole_P, tags),
        diversity=tuple(found for arm in chosen if (found := _diversity(loaded, arm, chosen[arm])) is not None),
        copying=copying,
        copied=copied,
        no_data=no_data,
    )


def _title(loaded: Loaded, problem: str) -> str:
    return loaded.problems[problem].title or problem


# -- what comes and goes ----------------------------------------------------------------------------------------


def _forgetting(
    loaded: Loaded, arm: str, trainings: list[list[AdapterId]], chosen: tuple[AdapterId, ...], rates: PassRates
) -> Forgetting:
    """Lost answers from point to point, and lost ones where nothing changed, both as numerator and denominator."""
    start = [BASE] if BASE in rates else []
    steps = [pair for points in trainings for pair in itertools.pairwise([*start, *points])]
    last = [(points[-2], points[-1]) for points in trainings if len(points) >= 3]
    zero_P = np.zeros(len(loaded.problems))
    source, floor, times = "", (zero_P, zero_P), 0
    if loaded.samples > 1:
        source, points = "samples", list(itertools.chain(*trainings))
        floor, times = _answered_twice(loaded.samples, [rates[a] for a in points]), len(points)
    elif last:
        # Those steps are the floor, so they are not also what is held against it.
        source, steps = "checkpoints", [pair for pair in steps if pair not in last]
        floor, times = _either_way([(rates[a], rates[b]) for a, b in last]), 2 * len(last)
    elif len(chosen) > 1:
        pairs = list(itertools.combinations(chosen, 2))
        source, floor, times = "seeds", _either_way([(rates[a], rates[b]) for a, b in pairs]), 2 * len(pairs)
    lost_P, from_P = zero_P.copy(), zero_P.copy()
    for a, b in steps:
        lost_P += np.nan_to_num(rates[a] * (1 - rates[b]))
        from_P += np.where(np.isnan(rates[b]), 0, np.nan_to_num(rates[a]))
    rate, interval = ratio(lost_P, from_P)
    floor_rate, floor_interval = ratio(*floor) if source else (None, None)
    return Forgetting(
        arm=arm,
        steps=len(steps),
        lost=float(lost_P.sum()) / max(1, len(steps)),
        rate=rate,
        interval=interval,
        source=source if floor_rate is not None else "",
        floor_lost=float(floor[0].sum()) / times if floor_rate is not None else None,
        floor=floor_rate,
        floor_interval=floor_interval,
        excess=rate - floor_rate if rate is not None and floor_rate is not None else None,
        excess_interval=_excess(lost_P, from_P, *floor) if rate and floor_rate else None,
    )


def _answered_twice(samples: int, rates: list[Floats]) -> tuple[Floats, Floats]:
    """Of two answers of one checkpoint the first right and the second wrong: c(n − c)/(n(n − 1)), unbiased."""
    lost_P = sum((np.nan_to_num(r * (1 - r)) * samples / (samples - 1) for r in rates), np.zeros_like(rates[0]))
    return lost_P, sum((np.nan_to_num(r) for r in rates), np.zeros_like(rates[0]))


def _either_way(pairs: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Two points in both orders: nothing says which came first."""
    both = [~np.isnan(a + b) for a, b in pairs]
    lost = [np.where(k, a * (1 - b) + b * (1 - a), 0) for k, (a, b) in zip(both, pairs, strict=True)]
    from_ = [np.where(k, a + b, 0) for k, (a, b) in zip(both, pairs, strict=True)]
    return np.sum(lost, axis=0), np.sum(from_, axis=0)


def _excess(lost_P: Floats, from_P: Floats, floor_lost_P: Floats, floor_from_P: Floats) -> Interval | None:
    """Problem bootstrap of the difference of two ratios; None where no draw has both."""
    draws_BP = redrawn(lost_P.size)
    below_B, floor_below_B = draws_BP @ from_P, draws_BP @ floor_from_P
    usable = (below_B > 0) & (floor_below_B > 0)
    if not usable.any():
        return None
    excess = (draws_BP @ lost_P)[usable] / below_B[usable] - (draws_BP @ floor_lost_P)[usable] / floor_below_B[usable]
    low, high = np.quantile(excess, [0.025, 0.975])
    return Interval(float(low), float(high))


def _stuck(loaded: Loaded, training: Training, points: list[AdapterId]) -> Iterator[Stuck]:
    """Of each problem the longest stretch of two or more checkpoints that is half-solved; of equal ones the later."""
    for problem in loaded.problems:
        best = [_half_solved(loaded, adapter, problem) for adapter in points]
        stretches = [
            [i for i, _ in group]
            for half, group in itertools.groupby(enumerate(best), key=lambda x: x[1] is not None)
            if half
        ]
        longest = max(stretches, key=lambda s: (len(s), s[0]), default=[])
        if len(longest) < 2:
            continue
        halves = [half for i in longest if (half := best[i]) is not None]
        top = max(halves, key=lambda half: half.passed or 0)
        yield Stuck(
            training,
            problem,
            _title(loaded, problem),
            points[longest[0]].step,
            points[longest[-1]].step,
            len(longest),
            longest[-1] == len(points) - 1,
            top.passed or 0,
            top.total or 0,
            _always_failing(halves),
        )


def _half_solved(loaded: Loaded, adapter: AdapterId, problem: str) -> Judgment | None:
    """The best answer, if no answer is right, none is missing, and this one passes some of the tests."""
    judged = loaded.judged(adapter, problem)
    if len(judged) < loaded.samples or any(each.solved for each in judged):
        return None
    return max((each for each in judged if each.partly), key=lambda each: each.passed or 0, default=None)


def _always_failing(halves: list[Judgment]) -> dict[str, str] | None:
    tests = [each.tests for each in halves]
    if not all(tests):
        return None
    return {
        str(i + 1): tests[-1][i].verdict.value
        for i in range(min(map(len, tests)))
        if all(each[i].verdict is not Outcome.AC for each in tests)
    }


# -- how it fails -----------------------------------------------------------------------------------------------


def _failure(loaded: Loaded, answer: Judgment) -> Failure | None:
    return failure(answer, loaded.problems[answer.problem_id], cut=answer.key in loaded.cut)


def _outcomes(loaded: Loaded, arm: str, adapters: tuple[AdapterId, ...], kinds: Kinds) -> FailureCounts:
    met: Counter[Failure | None] = Counter()
    exceptions: Counter[str] = Counter()
    for adapter, problem in itertools.product(adapters, loaded.problems):
        for answer, kind in zip(loaded.judged(adapter, problem), kinds[adapter, problem], strict=True):
            met[kind] += 1
            if kind is Failure.CRASH:
                exceptions[exception(answer)] += 1
    return FailureCounts(
        arm,
        met.total(),
        met[None],
        {kind.value: met[kind] for kind in Failure if met[kind]},
        dict(exceptions.most_common()),
        sum(loaded.missing(adapter) for adapter in adapters),
    )


def _differences(
    loaded: Loaded, chosen: Chosen, pair: tuple[str, ...], kinds: Kinds, whole_P: Flags
) -> tuple[FailureDifference, ...]:
    """Problem by problem, seeds and answers averaged: speaks of these checkpoints."""
    problems = [problem for problem, whole in zip(loaded.problems, whole_P, strict=True) if whole]
    if not pair or not problems:
        return ()
    found = []
    for kind in Failure:
        a_P, b_P = (
            np.array([np.mean([k is kind for a in chosen[arm] for k in kinds[a, problem]]) for problem in problems])
            for arm in pair
        )
        if a_P.any() or b_P.any():
            d_P = b_P - a_P
            interval = inference.problem_bootstrap(d_P, resamples=2000)
            found.append(FailureDifference(kind, float(d_P.mean()), interval, inference.sign_flip(d_P, resamples=2000)))
    return tuple(found)


def _shared(
    loaded: Loaded,
    chosen: Chosen,
    pair: tuple[str, ...],
    kinds: Kinds,
    rates: PassRates,
    whole_P: Flags,
    tags: Mapping[str, tuple[str, ...]],
) -> tuple[Shared, ...]:
    if not pair:
        return ()
    found = []
    for i, problem in enumerate(loaded.problems):
        if whole_P[i]:
            a, b = ([rates[adapter][i] >= 0.5 for adapter in chosen[arm]] for arm in pair)
            leading = [_leading([k for adapter in chosen[arm] for k in kinds[adapter, problem]]) for arm in pair]
            found.append(Shared(problem, _title(loaded, problem), tags[problem], sharing(a, b), *leading))
    return tuple(found)


def sharing(a: Sequence[bool], b: Sequence[bool]) -> Sharing:
    """Who fails a problem, from whether each seed of the two arms solves it."""
    if all(a) and all(b):
        return Sharing.NEITHER
    if not any(a) and not any(b):
        return Sharing.BOTH
    if not any(a) and all(b):
        return Sharing.ONLY_A
    return Sharing.ONLY_B if all(a) and not any(b) else Sharing.MIXED


def _leading(kinds: list[Failure | None]) -> str:
    failures = Counter(kind.value for kind in kinds if kind is not None)
    return failures.most_common(1)[0][0] if failures else ""


def _groups(
    loaded: Loaded, chosen: Chosen, rates: PassRates, whole_P: Flags, tags: Mapping[str, tuple[str, ...]]
) -> tuple[Group, ...]:
    """Every tag, difficulty and month with its problems; a problem of several tags is in several groups."""
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, (id, problem) in enumerate(loaded.problems.items()):
        if not whole_P[i]:
            continue
        for tag in tags[id] or ("",):
            members["tag", tag].append(i)
        for kind, value in (("difficulty", problem.difficulty), ("month", problem.date[:7])):
            if value:
                members[kind, value].append(i)
    order = {kind: n for n, kind in enumerate(("tag", "difficulty", "month"))}
    means = {arm: np.mean([rates[adapter] for adapter in adapters], axis=0) for arm, adapters in chosen.items()}
    found = []
    for (kind, name), places in sorted(
        members.items(), key=lambda x: (order[x[0][0]], 0 if x[0][0] == "month" else -len(x[1]), x[0][1])
    ):
        right = {arm: float(mean_P[places].sum()) for arm, mean_P in means.items()}
        n = len(places)
        intervals = {arm: inference.wilson(count, n) for arm, count in right.items()}
        found.append(Group(kind, name, n, {arm: count / n for arm, count in right.items()}, intervals))
    # One group of a kind that holds all problems says nothing.
    several = Counter(group.kind for group in found)
    return tuple(group for group in found if several[group.kind] > 1)


# -- what it writes ---------------------------------------------------------------------------------------------


def _diversity(loaded: Loaded, arm: str, adapters: tuple[AdapterId, ...]) -> Diversity | None:
    """None where no problem has two programs that parse."""
    programs, trees, behaviours = [], [], []
    for problem in loaded.problems:
        written = [each for adapter in adapters for each in loaded.judged(adapter, problem) if each.program]
        prints = [found for each in written if (found := fingerprint(each.program or "")) is not None]
        if len(prints) < 2:
            continue
        programs.append(len(prints))
        trees.append(len(set(prints)))
        done = [behaviour_on_tests(each) for each in written]
        if None not in done:
            behaviours.append(len(set(done)))
    if not programs:
        return None
    known = float(np.mean(behaviours)) if behaviours else None
    return Diversity(arm, len(programs), float(np.mean(programs)), float(np.mean(trees)), known)


def _copying(loaded: Loaded, chosen: Chosen) -> tuple[tuple[Copying, ...], tuple[Copied, ...], tuple[str, ...]]:
    """Each arm's programs against its own training data; the base's, which never saw them, beside for comparison."""
    written = {arm: list(_programs(loaded, adapters)) for arm, adapters in chosen.items()}
    copying, copied, no_data = [], [], []
    for arm in chosen:
        path = RunDir(loaded.run).arm_data(arm)
        if arm == BASE_ARM:
            continue
        if not path.exists():
            no_data.append(arm)
            continue
        data = [example for row in read_jsonl(path) if (example := Example(**row)).split == "train"]
        solutions = [tokens(code(example.completion)) for example in data]
        whose = [each for each in (arm, BASE_ARM) if each in written]
        found = iter(matches([text for each in whose for *_, text in written[each]], solutions))
        for each in whose:
            of_arm = list(zip(written[each], found, strict=False))
            if of_arm and solutions:
                copying.append(_copying_of(arm, each, len(solutions), [match for _, match in of_arm]))
            if each == arm:
                nearest = sorted(of_arm, key=lambda x: (not x[1].near, -x[1].run))[:MOST_COPIED]
                copied += [
                    Copied(a, problem, data[m.solution].id, m.run, m.tokens, m.near)
                    for (a, problem, _), m in nearest
                    if m.solution >= 0
                ]
    return tuple(copying), tuple(copied), tuple(no_data)


def _programs(loaded: Loaded, adapters: tuple[AdapterId, ...]) -> Iterator[tuple[AdapterId, str, list[str]]]:
    for adapter, problem in itertools.product(adapters, loaded.problems):
        for answer in loaded.judged(adapter, problem):
            if found := tokens(answer.program or ""):
                yield adapter, problem, found


def _copying_of(data: str, arm: str, solutions: int, found: list[Overlap]) -> Copying:
    return Copying(
        data,
        arm,
        solutions,
        len(found),
        float(np.median([match.run for match in found])),
        float(np.median([match.run / match.tokens for match in found])),
        max(match.run for match in found),
        sum(match.near for match in found),
    )
