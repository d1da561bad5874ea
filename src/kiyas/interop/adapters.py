"""PEFT checkpoints that were trained elsewhere → the run folder's checkpoints: "I already trained; judge these"."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from kiyas.interop import logs, names
from kiyas.interop.files import File, Notes, leads_down, tables
from kiyas.interop.names import SEED, STEP, Named
from kiyas.judge.terminal import ORDERS, one_line
from kiyas.runfolder import peft
from kiyas.runfolder.files import disk_errors, read_json
from kiyas.runfolder.litter import remove
from kiyas.runfolder.paths import RunDir
from kiyas.types import AdapterId, KiyasError

CONFIG = peft.CONFIG
WEIGHTS = (peft.WEIGHTS, peft.OLD_WEIGHTS)
STATE = "trainer_state.json"
MAX_NEW_TOKENS = 2048
UNEDITED = "# sha256 of the lines above, as they were written: "
T = TypeVar("T", CommentedMap, CommentedSeq)


@dataclass(frozen=True)
class Checkpoint:
    """One PEFT folder and what its path says; `step` is None where it is unknown."""

    path: Path
    seed: int
    step: int | None
    base: str
    """`base_model_name_or_path` of its configuration"""


def find(root: Path) -> tuple[list[Checkpoint], list[str]]:
    """All PEFT checkpoints in a folder, in order of seed and step, and what was odd.

    Seed and step come from the names below the folder (`seed-1/checkpoint-200`), a step also from `trainer_state.json`.
    An adapter without a step next to others that have one (a Trainer's last copy) is left out. Raises KiyasError where
    there is none, where two are the same, or where one is not LoRA.
    """
    found, notes = [], []
    inside = folders(root)
    for path in (each for each in inside if os.path.lexists(each / CONFIG)):
        if not any(os.path.lexists(path / name) for name in WEIGHTS):
            notes.append(f"{path}: {CONFIG} without weights (an interrupted save?); left out")
            continue
        adapter = peft.refuse(path)
        below = str(path.relative_to(root))
        seed, step = SEED.search(below), STEP.search(path.name)
        at = int(step.group(1)) if step else _global_step(path)
        found.append(Checkpoint(path, int(seed.group(1)) if seed else 0, at, adapter.base))
    if not found:
        others = not_adapters(inside)
        if others:
            raise KiyasError(*others[0])
        raise KiyasError(f"no PEFT checkpoint in {root}", f"a checkpoint is a folder with {CONFIG} and {WEIGHTS[0]}")
    kept: dict[tuple[int, int | None], Checkpoint] = {}
    numbered = {checkpoint.seed for checkpoint in found if STEP.search(checkpoint.path.name)}
    for checkpoint in found:
        if not STEP.search(checkpoint.path.name) and checkpoint.seed in numbered:
            notes.append(
                f"{checkpoint.path}: an adapter next to numbered checkpoints; left out as a copy of one of them"
            )
            continue
        key = (checkpoint.seed, checkpoint.step)
        if key in kept:
            raise KiyasError(
                f"{checkpoint.path} and {kept[key].path} are both seed {key[0]}, step {key[1]}",
                "give each arm its own folder, name the seeds (seed-1/checkpoint-200), or name one of them as the arm",
            )
        kept[key] = checkpoint
        if checkpoint.step is None:
            notes.append(f"{checkpoint.path}: its step is unknown; step 0 is assumed")
    return sorted(kept.values(), key=lambda each: (each.seed, each.step or 0)), notes


def folders(root: Path) -> list[Path]:
    """A folder and all in it, in order, links followed; one that is reached twice is listed by its own name."""
    found: dict[Path, Path] = {}
    waiting = [root]
    while waiting:
        for name, inner, _ in os.walk(waiting.pop(0)):
            folder = Path(name)
            if folder.resolve() in found:
                inner.clear()
                continue
            found[folder.resolve()] = folder
            waiting += [path for each in inner if (path := folder / each).is_symlink() and leads_down(path)]
    return sorted(found.values())


def not_adapters(folders: Iterable[Path]) -> list[tuple[str, str]]:
    """Trained weights that are not PEFT adapters: what lies there, and what to do."""
    found = []
    for folder in folders:
        if (folder / CONFIG).exists():
            continue
        if (folder / "zero_to_fp32.py").exists() or any(folder.glob("global_step*/*_states.pt")):
            told = "a DeepSpeed checkpoint, not an adapter", "save the adapter with save_pretrained after converting it"
        elif any(folder.glob("*.distcp")) or any(folder.glob("pytorch_model_fsdp*")):
            told = "an FSDP checkpoint, not an adapter", "merge it (accelerate merge-weights), then save_pretrained"
        elif (folder / "config.json").exists() and any(
            any(folder.glob(name)) for name in ("model*.safetensors", "pytorch_model*.bin")
        ):
            told = (
                "a whole fine-tuned model, not an adapter",
                f"make it an arm of its own in the study file: arms: {{name: {{model: {json.dumps(str(folder))}}}}}",
            )
        else:
            continue
        found.append((f"{folder} is {told[0]}", told[1]))
    return found


def _global_step(path: Path) -> int | None:
    state = read_json(path / STATE) if (path / STATE).is_file() else {}
    step = state.get("global_step") if isinstance(state, dict) else None
    return step if isinstance(step, int) and not isinstance(step, bool) and step >= 0 else None


def adopt(arm: str, root: Path, folder: RunDir, base: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Copies an arm's checkpoints into the run folder. Returns the losses that were next to them, and what was unusual.

    `base`: the model that they are about to be used with.
    """
    checkpoints, notes = find(root)
    remove(folder.checkpoints / arm)  # of an interrupted copy, whose source may have changed since
    others = sorted({each.base for each in checkpoints if each.base and Path(each.base).name != Path(base).name})
    notes += [f"trained on {other}, used with {base}" for other in others]
    rows: list[dict[str, Any]] = []
    of_seed: dict[int, list[Checkpoint]] = defaultdict(list)
    for checkpoint in checkpoints:
        of_seed[checkpoint.seed].append(checkpoint)
        place = folder.checkpoints / AdapterId(arm, "", checkpoint.seed, checkpoint.step or 0).folder
        with disk_errors(place):
            place.mkdir(parents=True, exist_ok=True)
            for name in (CONFIG, *WEIGHTS):
                if (checkpoint.path / name).is_file():
                    shutil.copyfile(checkpoint.path / name, place / name)
    for seed, of_one in of_seed.items():
        more, odd = history(arm, seed, [each.path for each in of_one])
        rows += more
        notes += odd
    return rows, notes


def history(arm: str, seed: int, folders: Sequence[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """The losses next to one training's checkpoints, and what was unusual."""
    # Each checkpoint's state holds the history so far: the last one's is all of it.
    states = [folder / STATE for folder in folders if (folder / STATE).is_file()]
    rows: list[dict[str, Any]] = []
    if not states:
        return rows, []
    file, odd = File(states[-1], False, ()), Notes()
    for table in tables(file, odd):
        if any(logs.recognises(row) for _, row in table):
            rows += logs.losses(table, file, Named(arm, seed, None, None), odd)
    return rows, list(odd.lines())


def whole_model(arm: str, folder: Path, seed: int) -> AdapterId:
    """Whose answers a whole fine-tuned model's are: its step is that of its name or its trainer's state."""
    step = STEP.search(folder.name)
    return AdapterId(arm, "", seed, int(step.group(1)) if step else _global_step(folder) or 0)


@dataclass(frozen=True)
class Trained:
    """The checkpoints of one arm that were met in someone's folders; `folder` holds all of them."""

    arm: str
    folder: Path
    checkpoints: list[Checkpoint]


def arms(folders: list[tuple[Path, tuple[str, ...]]], arm_of: Mapping[str, str], notes: Notes) -> list[Trained]:
    """PEFT folders, each with the names above it, by arm as the names say. Raises KiyasError where arms are mixed."""
    of_arm: dict[str, list[Path]] = defaultdict(list)
    found = [names.of_outcomes(path, arm_of, above) for path, above in folders]
    apart = names.in_study(names.told_apart(found, arm_of, copies=True))
    for (path, _), arm in zip(folders, apart, strict=True):
        of_arm[arm].append(path)
    for remark in names.notes_of([each.arm for each in found], apart):
        notes.add(remark)
    roots = {arm: Path(os.path.commonpath(paths)) for arm, paths in of_arm.items()}
    for arm, root in roots.items():
        inside = [
            path for other, paths in of_arm.items() if other != arm for path in paths if path.is_relative_to(root)
        ]
        if inside:
            raise KiyasError(
                f"{root} holds the checkpoints of arm {arm} and also {inside[0]}, which by its name is of another arm",
                "give each arm a folder of its own (deep/checkpoint-100), or name one arm for both: --arm 'GLOB=ARM'",
            )
    return [Trained(arm, root, find(root)[0]) for arm, root in sorted(roots.items())]


COURSE = {
    "dataset": "livecodebench",
    "release": "release_v5",
    "platform": "atcoder",
    "difficulty": ["easy", "medium"],
    "from": "2023-05",
    "to": "2025-02",
}
"""The benchmark of a study file where no problems were given."""


def to_edit(problems: Path | None) -> str:
    """What of a written study file is a guess, for the terminal."""
    asked = str(problems) if problems else "livecodebench (release_v5, AtCoder, easy and medium, 2023-05 to 2025-02)"
    return f"benchmarks: {asked}; generation: max_new_tokens {MAX_NEW_TOKENS}. Edit these lines where yours differ"


def is_unedited(text: str) -> bool:
    """Whether a study file is as an import wrote it."""
    lines, mark, digest = text.rpartition(UNEDITED)
    return bool(mark) and digest.strip() == hashlib.sha256(lines.encode("utf-8", "replace")).hexdigest()


def study_file(name: str, trained: Sequence[Trained], problems: Path | None) -> str:
    """A study file that answers and judges these checkpoints: what could not be known is marked.

    Names and paths are a stranger's: YAML's own writer quotes them, and a comment has one line.
    """
    bases = sorted({checkpoint.base for each in trained for checkpoint in each.checkpoints if checkpoint.base})
    seeds = sorted({checkpoint.seed for each in trained for checkpoint in each.checkpoints})
    primary = _flow(dataset=_text(str(problems.resolve()))) if problems else COURSE
    tree = CommentedMap(
        {
            "name": _text(name),
            "model_name_or_path": _text(bases[0]) if bases else "models/my-base",
            "arms": CommentedMap(
                {_text(each.arm): _flow(checkpoints=_text(str(each.folder.resolve()))) for each in trained}
            ),
            "dataset": CommentedMap(system=None),
            "seeds": _in_one_line(CommentedSeq(seeds)),
            "benchmarks": CommentedMap(primary=_in_one_line(CommentedMap(primary))),
            "generation": _flow(temperature=0.0, max_new_tokens=MAX_NEW_TOKENS),
            "compare": _flow(select="last", matters=0.05),
        }
    )
    tree.yaml_set_start_comment(
        "Written by `kiyas import`: adapters that were trained elsewhere. `kiyas run` begins with their answers."
    )
    tree["dataset"].yaml_add_eol_comment(
        "the system prompt of the training, word for word; null: what the chat template does", "system"
    )
    if len(bases) > 1:
        tree.yaml_add_eol_comment(
            one_line(f"the adapters name several bases: {', '.join(bases)}"), "model_name_or_path"
        )
    yaml, text = YAML(), io.StringIO()
    yaml.Representer = _WithNull
    yaml.width = sys.maxsize
    yaml.dump(tree, text)
    # Such characters are in double quotes only, where their escapes mean the same.
    lines = ORDERS.sub(lambda match: f"\\u{ord(match[0]):04x}", text.getvalue())
    return f"{lines}{UNEDITED}{hashlib.sha256(lines.encode()).hexdigest()}\n"


def _text(text: str) -> str:
    return DoubleQuotedScalarString(text) if ORDERS.search(text) else text


class _WithNull(RoundTripRepresenter):
    """Writes the word null, where ruamel leaves the place empty."""

    def represent_none(self, data: None) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_WithNull.add_representer(type(None), _WithNull.represent_none)


def _flow(**values: Any) -> CommentedMap:
    """A mapping on one line."""
    return _in_one_line(CommentedMap(values))


def _in_one_line(node: T) -> T:
    node.fa.set_flow_style()
    return node
