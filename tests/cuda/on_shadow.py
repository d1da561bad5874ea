"""What the tests do on the shadow device. Runs in a process with the guard: see child.py."""

from __future__ import annotations

import contextlib
import itertools
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import stand_in
import torch
from safetensors.torch import load_file

import tiny
from kiyas.check import check, costs
from kiyas.data.chat import Chat
from kiyas.generate.decoder import Generator
from kiyas.generate.stage import generate_part, part_file
from kiyas.generate.work import Job, Question
from kiyas.model.adapters import StackedModel
from kiyas.model.attention import Decode, SlotCache
from kiyas.model.base import Base
from kiyas.model.checkpoints import load_stack
from kiyas.runfolder.files import read_json, read_jsonl, write_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.runfolder.peft import WEIGHTS
from kiyas.runfolder.record import Kind, Record, write_record
from kiyas.study.settings import Study
from kiyas.train.loop import layout_notes, layout_path, part_log
from kiyas.train.stage import train_part
from kiyas.types import BASE, Example
from kiyas.work.engine import Place

TRAININGS = [["a", "", 0], ["b", "", 0], ["a", "", 1], ["b", "", 1]]
STEPS = {"a": 4, "b": 3}


def study(model: Path | str, device: str, temperature: float = 0.0, **training: Any) -> Study:
    return Study.model_validate(
        {
            "name": "t",
            "model_name_or_path": str(model),
            "arms": {"a": {"dataset_name": "practice/deep"}, "b": {"dataset_name": "practice/diverse"}},
            "peft": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1},
            "training": {
                "budget": {"steps": 4},
                "effective_batch_size": 4,
                "learning_rate": 1e-2,
                "lr_scheduler_type": "constant",
                "warmup_ratio": 0.0,
                "eval_steps": 2,
                "save_steps": 2,
                "logging_steps": 1,
                "max_tokens_per_pass": 600,
                "device": device,
                "dtype": "float32",
                **training,
            },
            "generation": {
                "max_new_tokens": 12,
                "temperature": temperature,
                "top_p": 0.9,
                "num_samples": 2 if temperature else 1,
                "max_rows": 14,
            },
        }
    )


def fill(folder: RunDir) -> None:
    """Two arms of short texts and a benchmark of four problems."""
    noise = random.Random(0)

    def text(longest: int) -> str:
        return "".join(noise.choice("abcdef +=()") for _ in range(noise.randrange(2, longest)))

    for arm, count in (("a", 11), ("b", 8)):
        rows = [
            asdict(Example(str(i), text(20), text(20), str(i), "train" if i > 2 else "validation"))
            for i in range(count)
        ]
        write_jsonl(folder.arm_data(arm), rows)
    write_jsonl(folder.problems, [{"id": f"p{i}", "statement": text(30)} for i in range(4)])
    folder.train_state.mkdir(parents=True)
    write_record(folder, Record(kind=Kind.RUN, name="t"))


class KilledError(Exception):
    pass


def trained(folder: RunDir, settings: Study, kill_after: int | None = None) -> None:
    steps = itertools.count(1)

    def report(count: int, note: str) -> None:
        if kill_after is not None and next(steps) == kill_after:
            raise KilledError

    train_part(
        Place(str(folder.root), settings.training.device), settings.model_dump(mode="json"), TRAININGS, STEPS, 0, report
    )


def answered(folder: RunDir, settings: Study, part: int) -> list[dict[str, Any]]:
    """By the base and the last checkpoints."""
    adapters = [[*asdict(BASE).values()], *([arm, variant, seed, STEPS[arm]] for arm, variant, seed in TRAININGS)]
    generate_part(
        Place(str(folder.root), settings.training.device),
        settings.model_dump(mode="json"),
        adapters,
        None,
        part,
        [],
        lambda count, note: None,
    )
    return sorted(read_jsonl(part_file(folder, part)), key=str)


def weights(folder: RunDir) -> torch.Tensor:
    """Of all saved checkpoints."""
    files = sorted(folder.checkpoints.rglob(WEIGHTS))
    return torch.cat([x.flatten() for file in files for _, x in sorted(load_file(file).items())])


def stages(
    root: Path, model: Path, device: str, temperatures: tuple[float, ...] = (0.0, 0.8), dtype: str = "float32"
) -> tuple[RunDir, list[Any]]:
    """Trains, and answers greedily and by sampling: the stages themselves, on one device."""
    folder = RunDir(root / device)
    fill(folder)
    trained(folder, study(model, device, dtype=dtype))
    return folder, [answered(folder, study(model, device, t, dtype=dtype), part) for part, t in enumerate(temperatures)]


@contextlib.contextmanager
def temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def family(name: str) -> dict[str, Any]:
    """The stages on the CPU and on the shadow device, then killed and gone on there."""
    with temporary() as root:
        model = tiny.save(root / "base", name)
        cpu, expected = stages(root, model, "cpu")
        with stand_in.Device() as device:
            cuda, got = stages(root, model, "cuda")
            again = RunDir(root / "again")
            fill(again)
            with contextlib.suppress(KilledError):
                trained(again, study(model, "cuda"), kill_after=3)
            killed = weights(again)
            trained(again, study(model, "cuda"))
        a, b = weights(cpu), weights(cuda)
        logs = [read_jsonl(part_log(each, 0)) for each in (cpu, cuda, again)]
        return {
            "weights": float((a - b).norm() / a.norm()),
            "losses": [[row["loss"] for row in log] for log in logs[:2]],
            "kinds": dict(Counter(row["kind"] for row in logs[1])),
            "answers": [len(each) for each in got],
            "same answers": got == expected,
            "killed early": killed.numel() < b.numel(),
            "resumed": torch.equal(weights(again), b) and logs[1] == logs[2],
            "counts": device.counts(),
        }


def out_of_memory() -> dict[str, Any]:
    """Other processes take the card's memory during a training, on a card that raises when it is full."""
    with temporary() as root:
        model = tiny.save(root / "base")
        calm, crowded = RunDir(root / "calm"), RunDir(root / "crowded")
        for folder in (calm, crowded):
            fill(folder)
        with stand_in.Device() as device:
            trained(calm, study(model, "cuda"))
        with stand_in.Device(stand_in.Card()) as device:
            steps = itertools.count(1)

            def report(count: int, note: str) -> None:
                if next(steps) == 2:  # less than the largest pass has needed
                    left = device.live + 2 * (device.peak - device.live) // 3
                    device.card.taken = device.card.memory - device.card.reserved - left

            settings = study(model, "cuda").model_dump(mode="json")
            train_part(Place(str(crowded.root), settings["training"]["device"]), settings, TRAININGS, STEPS, 0, report)
        a, b = weights(calm), weights(crowded)
        layout = read_json(layout_path(crowded, 0))
        return {"weights": float((a - b).norm() / a.norm()), "said": layout_notes([layout]), "free": device.card.room}


def quick(families: list[str]) -> dict[str, Any]:
    """For every run of the tests. A failure is told by its text, so that the others still count."""
    others = {case.__name__: _told(case) for case in (out_of_memory, measured)}
    return {**others, "families": {name: _told(family, name) for name in families}}


def _told(case: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return case(*arguments)
    except Exception as error:  # noqa: BLE001 (the test shows it)
        return f"{type(error).__name__}: {error}"


def stages_alone(name: str, dtype: str = "float32") -> dict[str, Any]:
    """Counts of the stages on the shadow device; nothing is compared."""
    with temporary() as root, stand_in.Device() as device:
        stages(root, tiny.save(root / "base", name), "cuda", (0.8,), dtype)
        return device.counts()


def runaway() -> dict[str, Any]:
    """Counts of a decoding step with one row much longer than the others."""
    with stand_in.Device() as device, torch.no_grad():
        lengths = [20] * 15 + [4000]
        cache = SlotCache(len(lengths))
        cache.reserve(max(lengths) + 1)
        step = Decode(cache, torch.tensor(lengths).to("cuda"), lengths)
        assert step.long_M is not None
        q, k, v = (torch.ones(len(lengths), heads, 1, 8, device="cuda") for heads in (4, 2, 2))
        assert step.attend(0, q, k, v, None, None).shape == (16, 1, 4, 8)
        return device.counts()


def decoding(family: str, rows: int, tokens: int) -> dict[str, Any]:
    """Counts of as many answers at once, each of so many tokens, by the base alone."""
    with stand_in.Device() as device:
        base = Base.of(tiny.model(family).to("cuda"), Chat(tiny.tokenizer(), "tiny"))
        model = StackedModel(base.model)
        settings = study("practice", "cuda").generation.model_copy(update={"max_new_tokens": tokens})
        stack = load_stack([(BASE, None)], model, base.device, base.dtype)
        generator = Generator(base, model, stack, settings, stop_ids=frozenset())
        device.reset()
        answers = list(generator.answer([Job(0, Question(f"p{i}", (1, 2, 3)), 0) for i in range(rows)], rows))
        assert {answer.tokens for answer in answers} == {tokens}
        return device.counts()


def measured() -> dict[str, Any]:
    """What `kiyas check` says of a study for this device."""
    costs.ENOUGH_S = 0.0
    with temporary() as root, stand_in.Device(stand_in.Card("A card", memory=10 * stand_in.GB)) as device:
        found = check(study(tiny.save(root / "base"), "cuda")).costs
        return {**asdict(found), "total": found.total_s, "counts": device.counts()}
