"""How the arms behave, beyond how much they solve: what they lose and gain, where they stay stuck, how they fail.

Everything here is for orientation: it is looked at in many ways at once, nothing is corrected for that, and the
conclusion uses none of it. Missing answers are never failures: where something is missing a problem is left out,
and the number of those left out is reported. Definitions: docs/statistics.md.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kiyas.analyse.failures import exception, failure
from kiyas.analyse.findings import (
    Behaviour,
    Copied,
    Copying,
    Diversity,
    Failure,
    FailureCounts,
    FailureDifference,
    Group,
    LostAndGained,
    Shared,
    Sharing,
    Start,
    Stuck,
    Training,
)
from kiyas.analyse.load import Loaded, PassRates
from kiyas.analyse.programs import Overlap, behaviour_on_tests, code, matches, tokens
from kiyas.analyse.tags import tags_of
from kiyas.judge import Outcome
from kiyas.runfolder.files import each_row
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
        lost_and_gained=tuple(
            found
            for arm in chosen
            if arm != BASE_ARM
            for found in _lost_and_gained(arm, [points for t, points in trainings.items() if t.arm == arm], rates)
        ),
    )


def _title(loaded: Loaded, problem: str) -> str:
    return loaded.problems[problem].title or problem


# -- what comes and goes ----------------------------------------------------------------------------------------


def _lost_and_gained(arm: str, trainings: list[list[AdapterId]], rates: PassRates) -> Iterator[LostAndGained]:
    """From the base, and from the first checkpoint of each training, to its last."""
    starts = {Start.BASE: [(BASE, points[-1]) for points in trainings] if BASE in rates else []}
    starts[Start.CHECKPOINT] = [(points[0], points[-1]) for points in trainings if len(points) > 1]
    for start, pairs in starts.items():
        if pairs:
            found = lost_and_gained(np.stack([[rates[a], rates[b]] for a, b in pairs]))
            if found is not None:
                yield dataclasses.replace(found, arm=arm, start=start)


def lost_and_gained(rates_T2P: Floats) -> LostAndGained | None:
    """Shares of right answers at the start and at the end of T trainings; None where no problem has all of them.

    Lost: right at the start and wrong at the end, an answer compared with each answer. While a problem's chance stays
    what it is, both are as likely, whatever comes and goes in between; so under chance alone the sign of each problem's
    net change, summed over the trainings, is arbitrary.
    """
    whole_T2P = rates_T2P[..., ~np.isnan(rates_T2P).any(axis=(0, 1))]
    T, _, P = whole_T2P.shape
    if P == 0:
        return None
    start_TP, end_TP = whole_T2P[:, 0], whole_T2P[:, 1]
    lost, gained = (start_TP * (1 - end_TP)).sum() / T, ((1 - start_TP) * end_TP).sum() / T
    net_P = (end_TP - start_TP).mean(axis=0)
    p = inference.sign_flip(net_P, resamples=2000)
    solved, net = float(start_TP.sum()) / T, float(net_P.mean())
    return LostAndGained("", Start.BASE, T, P, solved, float(lost), float(gained), net, _score_interval(net_P), p)


def _score_interval(net_P: Floats) -> Interval:
    """Of a mean in [−1, 1]: the means that a score test does not reject, which at zero nearly is the sign flip.

    The spread is at least that of one problem that changed altogether.
    """
    P, mean, z2 = net_P.size, float(net_P.mean()), stats.norm.ppf(0.975) ** 2
    half = math.sqrt(z2 * max(float(net_P.var()), 1 / P) / (P - z2)) if z2 < P else 2.0
    return Interval(max(-1.0, mean - half), min(1.0, mean + half))


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
        ids: list[str] = []

        def solutions(arm: str = arm, ids: list[str] = ids) -> Iterator[list[str]]:
            for row in each_row(RunDir(loaded.run).arm_data(arm)):
                example = Example(**row)
                if example.split == "train":
                    ids.append(example.id)
                    yield tokens(code(example.completion))

        whose = [each for each in (arm, BASE_ARM) if each in written]
        found = iter(matches([text for each in whose for *_, text in written[each]], solutions()))
        for each in whose:
            of_arm = list(zip(written[each], found, strict=False))
            if of_arm and ids:
                copying.append(_copying_of(arm, each, len(ids), [match for _, match in of_arm]))
            if each == arm:
                nearest = sorted(of_arm, key=lambda x: (not x[1].near, -x[1].run))[:MOST_COPIED]
                copied += [
                    Copied(a, problem, ids[m.solution], m.run, m.tokens, m.near)
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
