"""What only a GPU can prove, then times against TRL: for the day a card is at hand. Ten minutes; nothing is downloaded.

The shape is Qwen2.5-Coder-1.5B's with random weights, LoRA of rank 16 on all layers. First the proofs, on its first
layers where depth does not matter: a stack equals its adapters alone, an adapter that is not applied is noticed, one
row answers as many do, a resumed training ends where an undisturbed one does, and memory peaks where the plan says.
Then tokens a second of training and decoding, beside TRL's SFTTrainer where it is installed. A proof that fails does
not stop the others; the script then exits with 1. Without a GPU, or with --tiny, everything is small and on what is
there; memory is then not looked at.

    benchmarks/gpu.sh [--tiny] [--device cuda:0] [--adapters 4]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from kiyas.data.chat import Chat
from kiyas.data.hub import model_folder
from kiyas.generate.decoder import Generator, NotAppliedError
from kiyas.generate.memory import Needs, decoding_budget
from kiyas.generate.trial import try_widest
from kiyas.generate.work import Job, Question
from kiyas.model.adapters import FrozenStack, Spec, StackedLinear, StackedModel
from kiyas.model.base import Base
from kiyas.model.device import available_bytes, pick_device, pick_dtype, release
from kiyas.model.meter import Shape
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Study
from kiyas.train import plan
from kiyas.train.loop import JointTraining, Task
from kiyas.train.memory import Layout, training_budget
from kiyas.types import AdapterId, TokenizedExample

RANK = 16
SAME = {"float32": (1e-4, 1e-3), "float16": (3e-3, 0.02), "bfloat16": (1e-2, 0.05)}
"""Distances that hold for a loss, relative, and for a gradient, of its norm: of an adapter in a stack and alone."""
RESUMED = 0.1
"""Of the way that the weights have gone: a GPU's attention adds gradients up in any order, and AdamW's first steps are
as large for small gradients as for large ones."""
AGREED = {"float32": 0.99, "float16": 0.5, "bfloat16": 0.3}
"""Share of the tokens of greedy answers before the first one that differs. Random weights tie often."""
PREDICTED = 0.10


@dataclass
class Bench:
    """Where it runs, how large it is, and what was found."""

    device: torch.device
    tiny: bool
    adapters: int
    rows: list[dict[str, Any]] = field(default_factory=list)

    def config(self, layers: int | None = None) -> Qwen2Config:
        small: dict[str, Any] = {"vocab_size": 600, "hidden_size": 64, "intermediate_size": 128}
        large: dict[str, Any] = {"vocab_size": 151_936, "hidden_size": 1536, "intermediate_size": 8960}
        return Qwen2Config(
            **(small if self.tiny else large),
            num_hidden_layers=min(layers or 28, 3 if self.tiny else 28),
            num_attention_heads=4 if self.tiny else 12,
            num_key_value_heads=2,
            max_position_embeddings=32_768,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=None,
        )

    def model(self, dtype: torch.dtype, layers: int | None = None) -> Any:
        torch.manual_seed(0)
        with self.device:
            model = AutoModelForCausalLM.from_config(self.config(layers), dtype=dtype)
        model.generation_config.eos_token_id = None
        return model

    def base(self, dtype: torch.dtype, layers: int | None = None) -> Base:
        return Base.of(self.model(dtype, layers), Chat.load(model_folder("practice")))

    @property
    def length(self) -> int:
        return 64 if self.tiny else 1024

    def samples(self, count: int, seed: int) -> list[TokenizedExample]:
        """Half as long as the longest on average, half of it labelled."""
        noise = random.Random(seed)
        made = []
        for number in range(count):
            length = self.length if number == 0 else noise.randrange(8, self.length)
            made.append(TokenizedExample(tuple(noise.randrange(600) for _ in range(length)), length // 2))
        return made

    def tasks(self, adapters: int, steps: int) -> list[Task]:
        return [Task(AdapterId("ab"[k % 2], "", k // 2), self.samples(48, k % 2), steps) for k in range(adapters)]

    def study(self, batch: int = 16, save: int = 1000, dropout: float = 0.1) -> Study:
        return Study.model_validate(
            {
                "name": "gpu",
                "model_name_or_path": "practice",
                "arms": {"a": {"dataset_name": "practice/deep"}, "b": {"dataset_name": "practice/diverse"}},
                "peft": {"r": RANK, "lora_alpha": 2 * RANK, "lora_dropout": dropout},
                "training": {
                    "budget": {"steps": 1},
                    "effective_batch_size": batch,
                    "learning_rate": 2e-4,
                    "logging_steps": 1,
                    "save_steps": save,
                    "eval_steps": 1000,
                    "warmup_ratio": 0.0,
                },
                "generation": {"max_new_tokens": 12 if self.tiny else 128},
            }
        )

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def note(self, what: str, value: str, ok: bool | None = None) -> None:
        mark = {None: "", True: "ok", False: "FAILED"}[ok]
        print(f"{what:<58} {value:>26}  {mark}", flush=True)
        self.rows.append({"what": what, "value": value, "ok": ok})


# -- proofs -------------------------------------------------------------------------------------------------------


def stack_equals_solo(bench: Bench, dtype: torch.dtype) -> None:
    """Loss and gradient of one adapter's first step, its weights not zero, beside another one and alone."""

    def first(tasks: Sequence[Task]) -> tuple[float, torch.Tensor]:
        training = JointTraining(bench.base(dtype, 4), tasks, {}, bench.study(4), layout=Layout(8 * bench.length))
        for k, row in enumerate(training.stack.theta):
            row.copy_(torch.randn(row.shape, generator=torch.Generator().manual_seed(k)) * 0.02)
        sums, _ = training.accumulate([each.batch(0) for each in training.trainees], 0)
        return sums[0], training.gradient[0].cpu()

    tasks = bench.tasks(2, 4)
    (loss, gradient), (alone, own) = first(tasks), first(tasks[:1])
    far = abs(loss - alone) / alone, float((gradient - own).norm() / own.norm())
    name = _name(dtype)
    limits = SAME[name]
    what = f"stack = solo, {name}: loss, gradient apart (≤ {limits[0]:g}, {limits[1]:g})"
    bench.note(what, f"{far[0]:.1e}, {far[1]:.1e}", far[0] <= limits[0] and far[1] <= limits[1])


def moved_stack(bench: Bench, base: Base, adapters: int) -> tuple[StackedModel, FrozenStack]:
    model = StackedModel(base.model)
    ids = [AdapterId("a", "", 0, k) for k in range(adapters)]
    stack = FrozenStack(ids, [Spec(RANK, 2 * RANK)] * adapters, model.sites, base.device, base.dtype)
    noise = torch.Generator().manual_seed(1)
    for k in range(adapters):
        weights = {
            site.name: (
                torch.randn(RANK, site.inputs, generator=noise) / site.inputs**0.5,
                torch.randn(site.outputs, RANK, generator=noise) * 0.01,
            )
            for site in model.sites
        }
        stack.put(k, weights)
    return model, stack


def canary(bench: Bench, dtype: torch.dtype) -> None:
    base = bench.base(dtype, 4)
    model, stack = moved_stack(bench, base, 3)
    generator = Generator(base, model, stack, bench.study().generation, frozenset())
    question = Question("p", tuple(range(5, 30)))
    generator.canary(question)
    noticed = False
    with mock.patch.object(StackedLinear, "forward", lambda self, x: self.base(x)):
        try:
            generator.canary(question)
        except NotAppliedError:
            noticed = True
    bench.note("an adapter that is not applied is noticed", str(noticed), noticed)


def one_row_answers_as_many(bench: Bench, dtype: torch.dtype) -> None:
    base = bench.base(dtype, 4)
    model, stack = moved_stack(bench, base, 2)
    generator = Generator(base, model, stack, bench.study().generation, frozenset())
    noise = random.Random(2)
    questions = [Question(f"p{i}", tuple(noise.randrange(600) for _ in range(10 + 5 * i))) for i in range(8)]
    jobs = [Job(k, question, 0) for k in range(2) for question in questions]
    chosen: list[dict[tuple[Any, str], list[int]]] = []
    for rows in (2, 16):
        tokens: dict[tuple[Any, str], list[int]] = {}
        real = generator._completion

        def keep(job: Job, made: list[int], tokens: Any = tokens, real: Any = real) -> Any:
            tokens[job.k, job.question.problem_id] = made
            return real(job, made)

        with mock.patch.object(generator, "_completion", keep):
            list(generator.answer(jobs, rows))
        chosen.append(tokens)
    few, many = chosen
    same = total = 0
    for key, made in few.items():
        equal = [a == b for a, b in zip(made, many[key], strict=True)]
        same += equal.index(False) if False in equal else len(equal)
        total += len(equal)
    name, share = _name(dtype), same / total
    bench.note(f"tokens equal, 1 row and 8 an adapter, {name}", f"{share:.3f}", share >= AGREED[name])


def resumed(bench: Bench, dtype: torch.dtype) -> None:
    ends, start = [], torch.zeros(0)
    with tempfile.TemporaryDirectory() as name:
        for kill in (False, True):
            folder = RunDir(Path(name) / str(kill))
            folder.train_state.mkdir(parents=True)

            def training(steps: int, folder: RunDir = folder) -> JointTraining:
                tasks, layout = bench.tasks(2, steps), Layout(4 * bench.length)
                return JointTraining(bench.base(dtype, 4), tasks, {}, bench.study(4, save=3), folder, layout=layout)

            if kill:
                dying = training(6)
                with mock.patch.object(JointTraining, "_step", _until(4)), contextlib.suppress(KeyboardInterrupt):
                    dying.run()
            whole = training(6)
            start = whole.stack.theta.cpu().clone()
            whole.run()
            ends.append(whole.stack.theta.cpu())
    far = float((ends[0] - ends[1]).norm() / (ends[0] - start).norm())
    bench.note(f"resumed = undisturbed: weights apart (at most {RESUMED:g})", f"{far:.1e}", far <= RESUMED)


def _until(step: int) -> Callable[..., None]:
    real = JointTraining._step

    def dying(self: JointTraining, *arguments: Any) -> None:
        if self.step == step:
            raise KeyboardInterrupt
        real(self, *arguments)

    return dying


@contextlib.contextmanager
def peak(bench: Bench) -> Iterator[dict[str, int]]:
    """Fills in the most bytes allocated, and reserved, inside."""
    release(bench.device)
    torch.cuda.reset_peak_memory_stats(bench.device)
    found: dict[str, int] = {}
    yield found
    found["allocated"] = torch.cuda.max_memory_allocated(bench.device)
    found["reserved"] = torch.cuda.max_memory_reserved(bench.device)


def memory_of_training(bench: Bench, dtype: torch.dtype) -> None:
    free = available_bytes(bench.device)
    base = bench.base(dtype)
    ids = [task.id for task in bench.tasks(bench.adapters, 1)]
    made = plan.Plan(Shape.of(base), bench.study(), ids, bench.length, base.model.num_parameters())
    layout = made.chosen(training_budget("cuda", free, 1), "cuda")
    with peak(bench) as found:
        training = JointTraining(base, bench.tasks(bench.adapters, 0), {}, bench.study(), layout=layout)
        training._try_largest()
    _compare(bench, f"memory of training, {layout.pass_tokens:,} tokens a pass", made.peak(layout), found, free)


def memory_of_decoding(bench: Bench, dtype: torch.dtype) -> None:
    free = available_bytes(bench.device)
    base = bench.base(dtype)
    model = StackedModel(base.model)
    settings = bench.study().generation.model_copy(update={"max_new_tokens": 2048})
    parameters = RANK * sum(site.inputs + site.outputs for site in model.sites)
    needs = Needs.of(base.model.config, base.dtype, parameters, 500, 2048, sampled=False)
    chosen = needs.plan(decoding_budget("cuda", available_bytes(bench.device), 1, base.nbytes), 40, 100, "cuda")
    with peak(bench) as found:
        try_widest(base, model, settings, chosen, 500, RANK)
    what = f"memory of decoding, {chosen.rows} rows of {chosen.adapters} adapters"
    _compare(bench, what, base.nbytes + needs.peak(chosen), found, free)


def _compare(bench: Bench, what: str, predicted: int, found: dict[str, int], free: int) -> None:
    near = abs(predicted / found["allocated"] - 1) <= PREDICTED and found["reserved"] <= free
    value = f"{predicted / 1e9:.1f}/{found['allocated'] / 1e9:.1f}/{found['reserved'] / 1e9:.1f} GB"
    bench.note(f"{what}: predicted/real/reserved", value, near)


# -- times --------------------------------------------------------------------------------------------------------


def training_speed(bench: Bench, dtype: torch.dtype) -> None:
    steps, free = 3, available_bytes(bench.device)
    for dropout in (0.0, 0.1):
        release(bench.device)
        base, tasks, study = bench.base(dtype), bench.tasks(bench.adapters, steps), bench.study(dropout=dropout)
        made = plan.Plan(Shape.of(base), study, [task.id for task in tasks], bench.length, base.model.num_parameters())
        layout = made.chosen(training_budget(bench.device.type, free, 1), bench.device.type)
        training = JointTraining(base, tasks, {}, study, layout=layout)
        batches = [[each.batch(step) for each in training.trainees] for step in range(steps)]
        training.accumulate(batches[0], 0)  # warms up
        bench.wait()
        began = time.perf_counter()
        for step in range(1, steps):
            training.accumulate(batches[step], step)
        bench.wait()
        tokens = sum(len(s.ids) for chosen in batches[1:] for row in chosen for s in row)
        speed = tokens / (time.perf_counter() - began)
        bench.note(f"training, {bench.adapters} adapters, dropout {dropout:g}: tokens a second", f"{speed:,.0f}")


def trl_speed(bench: Bench, dtype: torch.dtype) -> None:
    """One training by TRL, completion-only loss, at the fastest batch of those that fit; arms follow one another."""
    try:
        import datasets
        import peft
        import trl
    except ImportError as error:
        bench.note("TRL: not measured", f"no {error.name}")
        return
    tokenizer = Chat.load(model_folder("practice")).tokenizer
    rows = [
        {"input_ids": list(s.ids), "completion_mask": [0] * s.start + [1] * (len(s.ids) - s.start)}
        for s in bench.samples(48, 0)
    ]
    best, tried = 0.0, (2,) if bench.tiny else (4, 8, 16)
    for size in tried:
        release(bench.device)
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(torch.OutOfMemoryError):
            config = trl.SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=16 // size,
                max_steps=3,
                max_length=None,
                completion_only_loss=True,
                gradient_checkpointing=False,
                bf16=dtype == torch.bfloat16,
                fp16=dtype == torch.float16,
                use_cpu=bench.device.type == "cpu",
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
            )
            lora = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.1, target_modules="all-linear")
            # In float16 Trainer scales the loss, for which its weights are float32.
            model = bench.model(torch.float32 if dtype == torch.float16 else dtype)
            trainer = trl.SFTTrainer(
                model, args=config, train_dataset=datasets.Dataset.from_list(rows), processing_class=tokenizer,
                peft_config=lora,
            )  # fmt: skip
            times: list[float] = []
            real = trainer.training_step

            def timed(*arguments: Any, real: Any = real, times: list[float] = times, **named: Any) -> Any:
                bench.wait()
                times.append(time.perf_counter())
                return real(*arguments, **named)

            trainer.training_step = timed
            trainer.train()
            bench.wait()
            # Steps two and three, without the first one's warming up.
            seconds = time.perf_counter() - times[16 // size]
            best = max(best, 2 / 3 * sum(len(row["input_ids"]) for row in rows) / seconds)
    bench.note("training, TRL, one adapter, dropout 0.1: tokens a second", f"{best:,.0f}")


def decoding_speed(bench: Bench, dtype: torch.dtype) -> None:
    release(bench.device)
    base = bench.base(dtype)
    adapters, each = (2, 3) if bench.tiny else (9, 20)
    model, stack = moved_stack(bench, base, adapters)
    generator = Generator(base, model, stack, bench.study().generation, frozenset())
    question = tuple(range(5, 30 if bench.tiny else 505))
    for rows in (adapters, adapters * each):
        jobs = [Job(k, Question(f"p{i}", question), 0) for k in range(adapters) for i in range(rows // adapters)]
        list(generator.answer(jobs[:adapters], adapters))
        bench.wait()
        began = time.perf_counter()
        made = sum(answer.tokens for answer in generator.answer(jobs, rows))
        bench.wait()
        speed = made / (time.perf_counter() - began)
        bench.note(f"decoding, {adapters} adapters, {rows} rows: tokens a second", f"{speed:,.0f}")


# -- all ------------------------------------------------------------------------------------------------------------


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true", help="small shapes; the default without a GPU")
    parser.add_argument("--adapters", type=int, default=4, help="trained at once")
    args = parser.parse_args()
    device = pick_device(args.device)
    on_gpu = device.type == "cuda"
    bench = Bench(device, args.tiny or not on_gpu, args.adapters)
    own = pick_dtype("auto", device)
    card = torch.cuda.get_device_name(device) if on_gpu else "the CPU"
    print(f"{card}, torch {torch.__version__}, {_name(own)}{', tiny shapes' if bench.tiny else ''}")
    halves = [torch.float16] if on_gpu and own == torch.float16 else [torch.float16, torch.bfloat16]
    work: list[tuple[Callable[[Bench, torch.dtype], None], torch.dtype]] = [
        *((stack_equals_solo, dtype) for dtype in (torch.float32, *halves)),
        (canary, own),
        *((one_row_answers_as_many, dtype) for dtype in dict.fromkeys((torch.float32, own))),
        (resumed, own),
        *([] if bench.tiny else [(memory_of_training, own), (memory_of_decoding, own)]),
        (training_speed, own),
        (trl_speed, own),
        (decoding_speed, own),
    ]
    for measure, dtype in work:
        began = time.perf_counter()
        try:
            measure(bench, dtype)
        except Exception as error:  # noqa: BLE001 (noted, and the others still run)
            print("".join(traceback.format_exception(error)[-3:]), file=sys.stderr)
            bench.note(measure.__name__.replace("_", " "), type(error).__name__, ok=False)
        bench.rows[-1]["seconds"] = round(time.perf_counter() - began, 1)
    failed = sum(row["ok"] is False for row in bench.rows)
    print(f"{sum(row['ok'] is True for row in bench.rows)} proofs hold, {failed} fail")
    if out := os.environ.get("OUT"):
        facts = {"card": card, "torch": torch.__version__, "dtype": _name(own), "rows": bench.rows}
        Path(out, "gpu.json").write_text(json.dumps(facts, indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
