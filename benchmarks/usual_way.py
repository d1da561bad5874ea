"""The practice study by Kıyas and the usual way, stage by stage, on the same files in one run.

The usual way, as the published study and its replications did it: per arm and seed Hugging Face `Trainer` + PEFT with
every sample padded to the maximum; per checkpoint load base and adapter, then `generate` one problem at a time; a cold
`python` process per test. Kıyas' times are whole stages, with the start of its worker processes and all imports; the
usual way's leave imports out.

    python benchmarks/usual_way.py [--steps 120] [--seeds 2] [--problems 41] [--threads 2]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kiyas.data.arms import tokenise
from kiyas.data.chat import Chat
from kiyas.data.hub import model_folder
from kiyas.runfolder.files import read_json, read_jsonl
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.study.settings import Study
from kiyas.types import Example, TokenizedExample


def kiyas_study(folder: Path, args: argparse.Namespace) -> tuple[RunDir, dict[str, float]]:
    """Runs the practice study; seconds of each stage."""
    overrides = [
        f"training.budget.steps={args.steps}",
        f"training.save_steps={args.save_steps}",
        f"seeds={args.seeds}",
        f"benchmarks.primary.problems={args.problems}",
    ]
    subprocess.run(
        [sys.executable, "-m", "kiyas", "demo", "--runs", str(folder), *overrides], check=True, stdout=sys.stderr
    )
    run = RunDir(folder / "practice")
    manifests = {stage: run.manifest(stage) for stage in (Stage.TRAIN, Stage.GENERATE, Stage.JUDGE)}
    return run, {stage.value: manifest["seconds"] for stage, manifest in manifests.items() if manifest}


def train_usual(run: RunDir, study: Study, out: Path, arm: str, seed: int, steps: int) -> float:
    """One Trainer run with everything padded to max_length; seconds."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM, PrinterCallback, Trainer, TrainingArguments, set_seed

    t, chat = study.training, Chat.load(model_folder(study.model_name_or_path))
    examples = [Example(**row) for row in read_jsonl(run.arm_data(arm))]

    def padded(sample: TokenizedExample) -> dict[str, Any]:
        n = len(sample.ids)
        labels = [-100] * sample.start + list(sample.ids[sample.start :])
        fill = t.max_length - n
        return {
            "input_ids": torch.tensor([*sample.ids, *[0] * fill]),  # masked, whatever it is
            "attention_mask": torch.tensor([1] * n + [0] * fill),
            "labels": torch.tensor([*labels, *[-100] * fill]),
        }

    sets = {
        split: [padded(tokenise(e, chat, study, arm)) for e in examples if e.split == split]
        for split in ("train", "validation")
    }
    set_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(model_folder(study.model_name_or_path), dtype=torch.float32)
    config = peft.LoraConfig(r=study.peft.r, lora_alpha=study.peft.lora_alpha, target_modules="all-linear")
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        learning_rate=t.learning_rate,
        lr_scheduler_type=t.lr_scheduler_type,
        warmup_steps=round(t.warmup_ratio * steps),
        weight_decay=t.weight_decay,
        per_device_train_batch_size=t.effective_batch_size,
        per_device_eval_batch_size=t.effective_batch_size,
        logging_steps=t.logging_steps,
        eval_strategy="steps",
        eval_steps=t.eval_steps,
        save_steps=t.save_steps,
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = Trainer(
        peft.get_peft_model(model, config), arguments, train_dataset=sets["train"], eval_dataset=sets["validation"]
    )
    trainer.remove_callback(PrinterCallback)
    started = time.perf_counter()
    trainer.train()
    return time.perf_counter() - started


def generate_usual(run: RunDir, study: Study, folder: Path | None) -> tuple[float, list[str]]:
    """Loads base and adapter, answers one problem at a time; seconds and answers."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    started = time.perf_counter()
    model: Any = AutoModelForCausalLM.from_pretrained(model_folder(study.model_name_or_path), dtype=torch.float32)
    chat = Chat.load(model_folder(study.model_name_or_path))
    if folder is not None:
        model = peft.PeftModel.from_pretrained(model, str(folder))
    model.eval()
    answers = []
    for problem in read_jsonl(run.problems):
        ids = torch.tensor([chat.prompt_ids(problem["statement"], study.dataset.system)])
        with torch.no_grad():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=study.generation.max_new_tokens,
            )
        answers.append(chat.text(out[0, ids.shape[1] :].tolist()))
    return time.perf_counter() - started, answers


def judge_usual(problems: list[dict[str, Any]], programs: list[str], limit: float) -> tuple[float, list[int]]:
    """A cold interpreter per test; seconds, and tests passed per program."""
    started = time.perf_counter()
    passed = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "program.py"
        for problem, program in zip(problems, programs, strict=True):
            file.write_text(program)
            count = 0
            for test in problem["tests"]:
                try:
                    done = subprocess.run(
                        [sys.executable, str(file)], input=test["input"], capture_output=True, text=True, timeout=limit
                    )
                except subprocess.TimeoutExpired:
                    continue
                same = [line.split() for line in done.stdout.strip().splitlines()] == [
                    line.split() for line in test["output"].strip().splitlines()
                ]
                count += done.returncode == 0 and same
            passed.append(count)
    return time.perf_counter() - started, passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=120, help="optimizer steps per training, on both sides")
    parser.add_argument("--save-steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2, help="trainings per arm")
    parser.add_argument("--problems", type=int, default=41)
    parser.add_argument("--threads", type=int, help="PyTorch threads of the usual way; default: PyTorch's own choice")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, ours = kiyas_study(folder, args)
        study = Study.model_validate(read_json(run.resolved)["study"])
        import torch

        if args.threads:
            torch.set_num_threads(args.threads)
        usual = {"train": 0.0, "generate": 0.0, "judge": 0.0}
        for arm in study.arms:
            for seed in study.seed_list:
                usual["train"] += train_usual(run, study, folder / f"{arm}-{seed}", arm, seed, args.steps)
        problems, judgments = read_jsonl(run.problems), read_jsonl(run.judgments)
        mine = {(c["arm"], c["seed"], c["step"], c["problem_id"]): c["text"] for c in read_jsonl(run.completions)}
        same_text = same_verdict = total = 0
        for key in dict.fromkeys((j["arm"], j["seed"], j["step"]) for j in judgments):
            arm, seed, step = key
            checkpoint = None if arm == "base" else run.checkpoints / arm / f"seed-{seed}" / f"step-{step:06d}"
            seconds, answers = generate_usual(run, study, checkpoint)
            usual["generate"] += seconds
            found = {j["problem_id"]: j for j in judgments if (j["arm"], j["seed"], j["step"]) == key}
            rows = [found[problem["id"]] for problem in problems]
            seconds, passed = judge_usual(problems, [j["program"] for j in rows], study.judge.time_limit_s or 6)
            usual["judge"] += seconds
            total += len(rows)
            same_text += sum(mine[(*key, p["id"])] == a for p, a in zip(problems, answers, strict=True))
            same_verdict += sum(j["passed"] == n for j, n in zip(rows, passed, strict=True))
        print(f"{'stage':<10} {'usual way':>10} {'kıyas':>10} {'ratio':>7}")
        for stage, seconds in usual.items():
            print(f"{stage:<10} {seconds:>9.1f}s {ours[stage]:>9.1f}s {seconds / ours[stage]:>6.1f}x")
        theirs, own = (each["generate"] + each["judge"] for each in (usual, ours))
        print(f"{'evaluation':<10} {theirs:>9.1f}s {own:>9.1f}s {theirs / own:>6.1f}x   (generate + judge)")
        print(f"equal answers: {same_text} of {total}; equal tests passed: {same_verdict} of {total}")


if __name__ == "__main__":
    main()
