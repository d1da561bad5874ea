"""Which layout a training takes: the fastest that fits the memory at hand, measured without contents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

from kiyas.model.meter import Shape, metered
from kiyas.study.settings import Study
from kiyas.train.loop import JointTraining, Task
from kiyas.train.memory import CPU_TOKENS, MOST_TOKENS, Layout, unplanned
from kiyas.types import AdapterId, KiyasError, TokenizedExample

SMALL_BASE = 10_000_000
"""Weights of a base that is not planned for on a CPU."""
ENOUGH_TOKENS = 2048
"""Passes of so many tokens keep a device busy: rather than larger ones, activations are kept."""


def is_small(kind: str, parameters: int) -> bool:
    """Whether the base is so small that on this type of device planning costs more than it tells."""
    return kind != "cuda" and parameters < SMALL_BASE


@dataclass
class Plan:
    """Trainings of one device, as far as memory depends on them."""

    shape: Shape
    study: Study
    ids: Sequence[AdapterId]
    longest: int
    """tokens of the longest sample"""
    parameters: int
    """of the base"""
    _passes: dict[tuple[int, Layout], int] = field(default_factory=dict)

    @property
    def step_tokens(self) -> int:
        """Of a step of all trainings, if all their samples were the longest."""
        batch = max(self.study.recipe(id.arm, id.variant).effective_batch_size for id in self.ids)
        return batch * self.longest * len(self.ids)

    @cached_property
    def adapter_bytes(self) -> int:
        """Weights, gradient and two moments of one training, in float32."""

        def measure(layers: int) -> int:
            with metered():
                return 4 * self._training(layers, 1, [TokenizedExample((0, 0), 1)], Layout(2)).gradient.nbytes

        return self.shape.grown(measure)

    def peak(self, layout: Layout, trainings: int | None = None) -> int:
        """Bytes: the base, all trainings (or so many of them), and the largest pass."""
        trainings = trainings or len(self.ids)
        together = layout.together(trainings, self.longest)
        if (together, layout) not in self._passes:
            samples = [TokenizedExample((0,) * length, 1) for length in layout.row(together, self.longest)]

            @cache  # two layers are asked for by `grown`, and once for each kind of module in float32
            def measure(layers: int, float32_modules: tuple[str, ...] = ()) -> int:
                with metered() as meter:
                    training = self._training(layers, together, samples, layout, float32_modules)
                    meter.peak = meter.live  # a base in 4 bits is built from one that is not
                    training.backward([samples] * together, 0)
                    return meter.peak

            few = min(2, self.shape.layers)
            wider = {name: measure(few, (name,)) - measure(few) for name in self.shape.wide_kinds}
            self._passes[together, layout] = self.shape.grown(measure) + sum(
                count * wider[name] for name, count in self.shape.wide_kinds.items()
            )
        return self._passes[together, layout] + (trainings - together) * self.adapter_bytes

    def _training(
        self,
        layers: int,
        together: int,
        samples: list[TokenizedExample],
        layout: Layout,
        float32_modules: tuple[str, ...] = (),
    ) -> JointTraining:
        """The trainings with the largest rank, on some layers of the base."""
        widest = sorted(self.ids, key=lambda id: -self.study.peft_of(id.arm).r)[:together]
        tasks = [Task(id, samples, 1) for id in widest]
        base = replace(self.shape, float32_modules=float32_modules).base(layers)
        return JointTraining(base, tasks, {}, self.study, layout=layout)

    def chosen(self, budget: int, kind: str) -> Layout:
        """The layout that a run takes on a type of device. Raises KiyasError where none fits the budget in bytes."""
        asked = self.study.training.max_tokens_per_pass
        if is_small(kind, self.parameters):
            return unplanned(asked, self.longest)
        if asked:
            whole = Layout(asked)
            return whole if self.peak(whole) <= budget else Layout(asked, recompute=True)
        return self.layout(budget, CPU_TOKENS if kind == "cpu" else MOST_TOKENS)

    def layout(self, budget: int, most_tokens: int) -> Layout:
        """The fastest layout within a budget in bytes. Raises KiyasError where none fits."""
        top = max(self.longest, min(most_tokens, self.step_tokens))
        enough = min(ENOUGH_TOKENS, top)
        sizes = sorted({max(self.longest, each) for each in (0, enough, *(top * n // 8 for n in (1, 2, 3, 4, 6, 8)))})
        kept = self._largest([Layout(size) for size in sizes], budget)
        if kept is not None and kept.pass_tokens >= enough:
            return kept
        again = self._largest([Layout(size, recompute=True) for size in sizes], budget)
        found = again or kept
        if found is None:
            need = self.peak(Layout(self.longest, recompute=True))
            raise KiyasError(
                f"training needs {need / 1e9:.1f} GB for {len(self.ids)} adapters and one sample of {self.longest:,} "
                f"tokens, but only {budget / 1e9:.1f} GB can be used",
                "lower training.max_length or peft.r, or take a smaller base",
            )
        return found

    def _largest(self, layouts: Sequence[Layout], budget: int) -> Layout | None:
        """The last that fits, of layouts that need more and more."""
        low, high = 0, len(layouts)
        while low < high:
            middle = (low + high) // 2
            if self.peak(layouts[middle]) <= budget:
                low = middle + 1
            else:
                high = middle
        return layouts[low - 1] if low else None

    def together(self, budget: int) -> int:
        """How many of the trainings to do at once: as many as leave room to keep activations, else as many as fit at
        all, at least one. The others follow in parts of their own."""
        size = max(self.longest, min(ENOUGH_TOKENS, self.step_tokens))
        for layout in (Layout(size), Layout(size, recompute=True)):
            sharing = layout.together(len(self.ids), self.longest)
            most = sharing + (budget - self.peak(layout, sharing)) // self.adapter_bytes
            if most >= 1:
                return min(most, len(self.ids))
        return 1
