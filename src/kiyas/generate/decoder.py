"""Decoding for the base and all checkpoints of all arms at once.

Theory of operation. Rows of the decode batch belong to adapters in order: K adapters × S slots. A finished answer's
slot is refilled from its adapter's queue (prompts are prefilled packed, see attention.py), so a runaway answer holds
up only its own slot; when the queues are empty the batch is compacted. Work is cut into *waves* of at most
`WAVE` × the number of rows, a long wave into *stretches*, and an unfinished stretch is decoded again as a whole, with
the same bits. For a stretch must begin from what can be written down: on a CPU the flight as it is, with its cache. A
GPU fills a cache faster than a disk takes one: there a stretch has a fixed number of steps, and begins by reading the
prompts and the tokens so far of all answers in flight into an empty cache, without a kill as well as after one.
Sampling noise is a function of (seed, adapter, problem, sample, position).

What is not guaranteed: greedy answers equal across batch shapes. Where two tokens are nearly tied, rounding decides;
the number of rows is therefore fixed and recorded per run, and redecoding.py has a sample of answers given again.

Shapes: K adapters, S slots per adapter, B = K·S rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from kiyas.generate.memory import rows_chosen_at_once
from kiyas.generate.work import Job, Question
from kiyas.model import checkpoints
from kiyas.model.adapters import Stack, StackedModel
from kiyas.model.attention import Decode, SlotCache
from kiyas.model.base import Base
from kiyas.model.batches import pack
from kiyas.study.settings import Generation
from kiyas.types import Completion, KiyasError, TokenizedExample

GoOn = Callable[[int], bool]
"""Called after each decoding step with how many there were: is another one to follow?"""


def to_the_end(steps: int) -> bool:
    return True


class NotAppliedError(RuntimeError):
    """An adapter with non-zero weights answers exactly as the base: it was silently not applied."""


class Generator:
    """Answers questions with every adapter of a stack. `stop_ids` end an answer; None: those of the base."""

    def __init__(
        self,
        base: Base,
        model: StackedModel,
        stack: Stack,
        settings: Generation,
        stop_ids: frozenset[int] | None = None,
        prefill_tokens: int = 4096,
        keeps_cache: bool = False,
    ) -> None:
        self.base, self.model, self.stack, self.settings = base, model, stack, settings
        self.prefill_tokens, self.keeps_cache = prefill_tokens, keeps_cache
        self.stop_ids = base.stop_ids if stop_ids is None else stop_ids
        self.left: list[Job] = []
        """what the last `answer` left to the next"""
        self.flight: Flight | None = None
        """the same, with its cache; only where the generator `keeps_cache`"""
        config = base.model.config
        self.most_positions: int | None = getattr(config, "max_position_embeddings", None) or getattr(
            config, "n_positions", None
        )

    @torch.inference_mode()
    def canary(self, question: Question) -> None:
        """Raises NotAppliedError when an adapter with non-zero B weights gives the base's own hidden states."""
        ids = torch.tensor([question.prompt] * len(self.stack), device=self.base.device)
        rows = [[TokenizedExample(question.prompt, len(question.prompt))]] * len(self.stack)
        batch = pack(rows).to(self.base.device)

        def hidden() -> Tensor:
            layout = batch.layout if self.base.packed else None
            made = self.base.hidden(ids, batch.positions, torch.ones_like(ids), layout)
            return made.view(len(self.stack), ids.shape[1], -1)

        # All positions, not the last one's logits alone: in bfloat16 a young adapter may round away there.
        self.model.stack = None
        plain_KTD = hidden()
        self.model.stack = self.stack
        adapted_KTD = hidden()
        differs = (plain_KTD != adapted_KTD).flatten(1).any(1).tolist()
        for k, moved in enumerate(self.stack.moved()):
            if moved and not differs[k]:
                raise NotAppliedError(
                    f"{self.stack.ids[k]}: the adapter's weights are not zero, yet the model answers exactly as the "
                    "base: the adapter is not applied. Nothing was generated with it."
                )

    @torch.inference_mode()
    def answer(self, wave: Sequence[Job], rows: int, go_on: GoOn = to_the_end) -> Iterator[Completion]:
        """Decodes one wave with at most `rows` answers in flight; yields each answer as it ends.

        Where `go_on` ends it before, `left` has what is left of it: answers in flight with their tokens so far, then
        those that were not begun, each adapter's in order. Answering those, with `flight` if there is one, goes on.
        """
        self.left = []
        for job in wave:
            if self.most_positions and len(job.question.prompt) >= self.most_positions:
                raise KiyasError(
                    f"problem {job.question.problem_id}: its prompt has {len(job.question.prompt)} tokens, but the "
                    f"base model's limit is {self.most_positions}"
                )
        decode = self._slots if self.base.packed else self._padded
        try:
            yield from decode(wave, rows, go_on)
        finally:
            self.model.stack = None

    # -- slots --------------------------------------------------------------------------------------------

    def _slots(self, wave: Sequence[Job], rows: int, go_on: GoOn) -> Iterator[Completion]:
        flight, steps = self.flight or Flight(self, wave, max(1, rows // len(self.stack))), 0
        self.flight, self.model.stack = None, flight.stack
        while flight.admit():
            yield from flight.step()
            steps += 1
            if not go_on(steps):
                if not self.keeps_cache:
                    yield from flight.ended()
                self.left = flight.left
                self.flight = flight if self.keeps_cache and self.left else None
                return

    # -- the dull way, for models that cannot pack --------------------------------------------------------

    def _padded(self, wave: Sequence[Job], rows: int, go_on: GoOn) -> Iterator[Completion]:
        """Left-padded batches through the model's own cache; no refill."""
        K, queues = len(self.stack), _queues(wave, len(self.stack))
        self.model.stack, steps, going_on = self.stack, 0, True

        def one_more() -> bool:
            nonlocal steps, going_on
            steps, going_on = steps + 1, go_on(steps + 1)
            return going_on

        while any(queues) and going_on:
            n = min(max(1, rows // K), max(map(len, queues)))
            batch = [queue.popleft() if queue else None for queue in queues for _ in range(n)]
            yield from self._decode_padded(batch, one_more)
        self.left += [job for queue in queues for job in queue]

    def _decode_padded(self, jobs: list[Job | None], one_more: Callable[[], bool]) -> Iterator[Completion]:
        """One batch, to its end or until `one_more` ends it: then `left` has its answers in flight."""
        device, blank = self.base.device, (0,)  # never attended to
        prompts = [job.ids if job else blank for job in jobs]
        T = max(map(len, prompts))
        ids = torch.tensor([[*blank * (T - len(p)), *p] for p in prompts], device=device)
        mask = torch.tensor([[0] * (T - len(p)) + [1] * len(p) for p in prompts], device=device)
        cache = DynamicCache(config=self.base.model.config)
        out: list[list[int]] = [list(job.made) if job else [] for job in jobs]
        open_rows = {b for b, job in enumerate(jobs) if job}
        limits = [self._limit(len(job.question.prompt)) if job else 0 for job in jobs]
        noise = [self._noise(job) if job else None for job in jobs]
        known = inspect.signature(self.base.model.forward).parameters
        only_last = {"logits_to_keep": 1} if "logits_to_keep" in known else {}

        def read(ids: Tensor, mask: Tensor) -> Tensor:
            # Left padding shifts positions; models with absolute ones need to know.
            positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            logits_BV: Tensor = self.base.model(
                input_ids=ids,
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
                **({"position_ids": positions} if "position_ids" in known else {}),
                **only_last,
            ).logits[:, -1]
            return logits_BV

        # What is longer than the prompts is read in pieces, which take no more memory than the prompts alone.
        longest = max(len(job.question.prompt) for job in jobs if job)
        piece = T if longest >= T else max(1, longest * longest // T)
        for start in range(0, T - piece, piece):
            read(ids[:, start : start + piece], mask[:, : start + piece])
        ids = ids[:, (T - 1) // piece * piece :]
        while open_rows:
            logits_BV = read(ids, mask)
            uniform_B = None
            if self.settings.temperature:
                at = [0.0 if each is None or b not in open_rows else each[len(out[b])] for b, each in enumerate(noise)]
                uniform_B = np.array(at, dtype=np.float32)
            token_B = self._next(logits_BV, uniform_B, lambda logits: logits)
            for b in sorted(open_rows):
                token = int(token_B[b])
                out[b].append(token)
                job = jobs[b]
                if job and (token in self.stop_ids or len(out[b]) >= limits[b]):
                    open_rows.discard(b)
                    yield self._completion(job, out[b])
            ids = torch.from_numpy(token_B).to(device, non_blocking=True)[:, None]
            mask = torch.cat([mask, mask.new_ones(len(jobs), 1)], 1)
            if not one_more():
                flying = {b: job for b, job in enumerate(jobs) if job and b in open_rows}
                self.left = [replace(job, made=tuple(out[b])) for b, job in flying.items()]
                return

    # -- shared -------------------------------------------------------------------------------------------

    def _limit(self, prompt: int) -> int:
        most = self.settings.max_new_tokens
        return min(most, self.most_positions - prompt) if self.most_positions else most

    def _noise(self, job: Job) -> np.ndarray | None:
        """Uniform numbers, one per position: a function of who answers what, never of what ran before."""
        if self.settings.temperature == 0:
            return None
        name = f"{self.settings.seed}\0{self.stack.ids[job.k]}\0{job.question.problem_id}\0{job.sample}"
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
        return np.random.Generator(np.random.Philox(key=key)).random(self.settings.max_new_tokens, dtype=np.float32)

    def _next(self, hidden_BD: Tensor, uniform_B: np.ndarray | None, head: Callable[[Tensor], Tensor]) -> np.ndarray:
        """The next token of every row, fetched: the one time a step that the host waits for the device.

        So many rows at a time that their logits, and the copies that sampling makes, stay within CHOICE_BYTES.
        """
        vocabulary = self.base.model.get_input_embeddings().num_embeddings
        rows = rows_chosen_at_once(vocabulary, self.settings.temperature > 0)
        uniform = None if uniform_B is None else torch.from_numpy(uniform_B).to(hidden_BD.device, non_blocking=True)
        tokens = [
            self._choose(head(hidden_BD[at : at + rows]), None if uniform is None else uniform[at : at + rows])
            for at in range(0, len(hidden_BD), rows)
        ]
        found: np.ndarray = (tokens[0] if len(tokens) == 1 else torch.cat(tokens)).cpu().numpy()
        return found

    def _choose(self, logits_BV: Tensor, uniform_B: Tensor | None) -> Tensor:
        """Greedy, or by inverting the cumulative distribution at one uniform number per row."""
        if uniform_B is None:
            return logits_BV.argmax(1)
        p_BV = torch.softmax(logits_BV.float() / self.settings.temperature, 1)
        if self.settings.top_p < 1:
            ranked, order = p_BV.sort(1, descending=True)
            ranked.masked_fill_(ranked.cumsum(1) - ranked >= self.settings.top_p, 0)
            p_BV = torch.zeros_like(p_BV).scatter_(1, order, ranked)
        total = p_BV.cumsum(1)
        chosen = torch.searchsorted(total, uniform_B[:, None] * total[:, -1:], right=True)[:, 0]
        return chosen.clamp(max=p_BV.shape[1] - 1)

    def _completion(self, job: Job, tokens: list[int]) -> Completion:
        ended = tokens[-1] in self.stop_ids
        return Completion(
            self.stack.ids[job.k],
            job.question.problem_id,
            job.sample,
            self.base.chat.text(tokens[:-1] if ended else tokens),
            len(job.question.prompt),
            len(tokens),
            "eos" if ended else "length",
        )


def _queues(wave: Sequence[Job], adapters: int) -> list[deque[Job]]:
    queues: list[deque[Job]] = [deque() for _ in range(adapters)]
    for job in wave:
        queues[job.k].append(job)
    return queues


class Flight:
    """The rows of one wave in flight. Row b = (position of its adapter in `kept`) · S + slot.

    Everything but weights and cache is kept on the host, which sends each row's last token and its length at every
    step and fetches the next tokens: nothing else is waited for.
    """

    def __init__(
        self, generator: Generator, wave: Sequence[Job], slots: int, kept: Sequence[int] | None = None
    ) -> None:
        """`kept`: so many slots of these adapters, whatever the wave needs."""
        self.g, self.S = generator, slots
        self.queues = _queues(wave, len(generator.stack))
        if kept is None:
            self.S = min(slots, max(map(len, self.queues)))
            # In a later stretch some adapters may have given all of their answers.
            later = any(job.made for job in wave)
            kept = [k for k, queue in enumerate(self.queues) if queue or not later]
        self.kept, whole = list(kept), len(kept) == len(generator.stack)
        self.stack = generator.stack if whole else generator.stack.select(self.kept)
        B, most = len(self.kept) * self.S, generator.settings.max_new_tokens
        self.jobs: list[Job | None] = [None] * B
        self.cache = SlotCache(B)
        self.length, self.last, self.made, self.limit = np.zeros((4, B), dtype=np.int64)
        self.out = np.zeros((B, most), dtype=np.int64)
        self.noise = np.zeros((B, most), dtype=np.float32) if generator.settings.temperature > 0 else None
        self.stop = np.array(sorted(generator.stop_ids), dtype=np.int64)
        generator.model.stack = self.stack

    def save(self, path: Path, notes: Mapping[str, Any]) -> None:
        """Writes all that a flight is, but for its jobs, which `left` has. `notes` are kept with it."""
        tensors = self.cache.tensors
        own = {
            "kept": self.kept,
            "slots": self.S,
            "rows": [b for b, job in enumerate(self.jobs) if job],
            "cache": {name: [str(x.dtype).removeprefix("torch."), list(x.shape)] for name, x in tensors.items()},
        }
        checkpoints.save_state(path, tensors, {**notes, **own})

    @classmethod
    def load(cls, generator: Generator, path: Path, left: Sequence[Job]) -> Flight:
        """The flight that was saved, which goes on as if nothing had been. `left`: as it was. Raises KiyasError for a
        file that is broken."""
        notes = checkpoints.state_notes(path)
        assert notes is not None
        made = cls(generator, left[len(notes["rows"]) :], notes["slots"], notes["kept"])
        device = generator.base.device
        tensors = {
            name: torch.empty(shape, dtype=getattr(torch, dtype), device=device)
            for name, (dtype, shape) in notes["cache"].items()
        }
        checkpoints.load_state(path, tensors)
        made.cache = SlotCache.of(tensors)
        for b, job in zip(notes["rows"], left, strict=False):
            made._put(b, job, len(job.ids) - 1)
            made.last[b] = job.made[-1]
        return made

    def _put(self, b: int, job: Job, cached: int) -> None:
        """Gives a row to an answer of which so many tokens are in the cache."""
        self.jobs[b] = job
        self.length[b], self.made[b] = cached, len(job.made)
        self.out[b, : len(job.made)] = job.made
        self.limit[b] = self.g._limit(len(job.question.prompt))
        noise = self.g._noise(job)
        if self.noise is not None and noise is not None:
            self.noise[b] = noise

    @property
    def free(self) -> list[int]:
        return [b for b, job in enumerate(self.jobs) if job is None]

    def admit(self) -> bool:
        """Refills free slots once enough are free to make a prefill worth it. False: nothing is left to do."""
        free, B = self.free, len(self.jobs)
        waiting = any(self.queues)
        if not waiting:
            if len(free) == B:
                return False
            self._compact()
            return True
        if len(free) * 8 >= B or len(free) == B:
            taken: list[list[tuple[int, Job]]] = [[] for _ in self.kept]
            for b in free:
                queue = self.queues[self.kept[b // self.S]]
                if queue:
                    taken[b // self.S].append((b, queue.popleft()))
            for some in self._together(taken):
                while any(some):
                    self._prefill([self._part(row, len(some)) for row in some])
        return True

    def _together(self, taken: list[list[tuple[int, Job]]]) -> Iterator[list[list[tuple[int, Job]]]]:
        """The rows of adapters that are prefilled together: all, since a prompt of each fits into one pass.

        Of answers that an earlier stretch began, which are longer, only so many adapters' as fit.
        """
        longest = max((len(job.ids) for row in taken for _, job in row), default=0)
        begun = any(job.made for row in taken for _, job in row)
        most = min(len(taken), max(1, self.g.prefill_tokens // longest)) if begun else len(taken)
        for start in range(0, len(taken), most):
            some = taken[start : start + most]
            if len(some) < len(taken):
                self.g.model.stack = self.stack.rows(start, start + len(some))
            yield some
        self.g.model.stack = self.stack

    def _part(self, row: list[tuple[int, Job]], adapters: int) -> list[tuple[int, Job]]:
        """Takes prompts off a row's front, as many as one prefill pass of so many adapters may hold."""
        part: list[tuple[int, Job]] = []
        room = self.g.prefill_tokens // adapters
        while row and (not part or room >= len(row[0][1].ids)):
            room -= len(row[0][1].ids)
            part.append(row.pop(0))
        return part

    def _prefill(self, taken: list[list[tuple[int, Job]]]) -> None:
        g, device = self.g, self.g.base.device
        prompts = [[TokenizedExample(job.ids, len(job.ids)) for _, job in row] for row in taken]
        longest = max(len(sample.ids) for row in prompts for sample in row)
        self.cache.reserve(longest + 1)
        batch = pack(prompts, cache=self.cache, slots=[[b for b, _ in row] for row in taken]).to(device)
        hidden = g.base.hidden(batch.ids, batch.positions, None, batch.layout)
        T, ends, rows = batch.ids.shape[1], [], []
        for k, row in enumerate(taken):
            at = k * T
            for b, job in row:
                at += len(job.ids)
                ends.append(at - 1)
                rows.append(b)
                self._put(b, job, len(job.ids))
        uniform = self.noise[rows, self.made[rows]] if self.noise is not None else None
        token = g._next(hidden[torch.tensor(ends).to(device, non_blocking=True)], uniform, g.base.logits)
        self.last[rows] = self.out[rows, self.made[rows]] = token
        self.made[rows] += 1

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in self.cache.tensors.values())

    @property
    def left(self) -> list[Job]:
        """Answers in flight, with their tokens so far, then those that wait."""
        flying = [
            replace(job, made=tuple(self.out[b, : self.made[b]].tolist())) for b, job in enumerate(self.jobs) if job
        ]
        return flying + [job for queue in self.queues for job in queue]

    def ended(self) -> Iterator[Completion]:
        """Yields the answers that have ended, and frees their rows."""
        done = (self.limit > 0) & (np.isin(self.last, self.stop) | (self.made >= self.limit))
        for b in np.flatnonzero(done).tolist():
            job = self.jobs[b]
            assert job is not None
            yield self.g._completion(job, self.out[b, : self.made[b]].tolist())
            self.jobs[b] = None
            # A free row goes on decoding garbage at position 0: its slot is overwritten by the next prefill.
            self.length[b] = self.made[b] = self.limit[b] = 0

    def step(self) -> Iterator[Completion]:
        """Yields what has ended, then decodes one token for every row that goes on."""
        g = self.g
        yield from self.ended()
        live = np.flatnonzero(self.limit)
        if not len(live):
            return
        self.cache.reserve(int(self.length.max()) + 1)
        sent = torch.from_numpy(np.stack([self.last, self.length])).to(g.base.device, non_blocking=True)
        layout = Decode(self.cache, sent[1], self.length.tolist())
        hidden = g.base.hidden(sent[0, :, None], sent[1, :, None], None, layout)
        every, at = np.arange(len(self.jobs)), np.minimum(self.made, self.out.shape[1] - 1)
        token = g._next(hidden, self.noise[every, at] if self.noise is not None else None, g.base.logits)
        self.last[live] = self.out[live, self.made[live]] = token[live]
        self.length[live] += 1
        self.made[live] += 1

    def widest(self, longest: int) -> None:
        """Prefill passes as large as they come, and one step with every row `longest` tokens long."""
        self.cache.reserve(longest + 1)
        slots = [range(p * self.S, (p + 1) * self.S) for p in range(len(self.kept))]
        taken = [list(zip(rows, queue, strict=False)) for rows, queue in zip(slots, self.queues, strict=True)]
        whole = [list(row) for row in taken]
        self._prefill([self._part(row, len(taken)) for row in taken])
        # As a later stretch begins, with answers that fill a pass.
        full = self.g.prefill_tokens // -(-self.g.prefill_tokens // max(1, longest - 1))
        begun = [[(b, replace(job, made=(0,) * (full - len(job.ids)))) for b, job in row] for row in whole]
        for some in itertools.islice(self._together(begun), 1):
            self._prefill([self._part(row, len(some)) for row in some])
        self.g.model.stack = self.stack
        self.length[:], self.made[:], self.limit[:] = longest - 1, 0, 2
        list(self.step())

    def _compact(self) -> None:
        """Once half of the rows are free for good: drops adapters that are done and unused slots."""
        rows = {p: [b for b in range(p * self.S, (p + 1) * self.S) if self.jobs[b]] for p in range(len(self.kept))}
        rows = {p: row for p, row in rows.items() if row}
        slots = max(map(len, rows.values()))
        if 2 * slots * len(rows) > len(self.jobs):
            return
        order = []
        for p, row in rows.items():
            spare = [b for b in range(p * self.S, (p + 1) * self.S) if not self.jobs[b]]
            order += (row + spare)[:slots]
        self.cache.keep(torch.tensor(order).to(self.g.base.device, non_blocking=True))
        self.length, self.last, self.made, self.limit, self.out = (
            x[order] for x in (self.length, self.last, self.made, self.limit, self.out)
        )
        if self.noise is not None:
            self.noise = self.noise[order]
        self.jobs = [self.jobs[b] for b in order]
        if len(rows) < len(self.kept):
            self.kept = [self.kept[p] for p in rows]
            self.g.model.stack = self.stack = self.g.stack  # an earlier selection goes before the next one is made
            self.g.model.stack = self.stack = self.g.stack.select(self.kept)
        self.queues = [deque() for _ in self.kept]
        self.S = slots
