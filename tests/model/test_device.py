"""Errors of the device and of memory in words: what happened, and what to do."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from kiyas import cli, practice
from kiyas.model import base as base_module
from kiyas.model.base import Base
from kiyas.model.device import errors_in_words, in_words, is_out_of_memory
from kiyas.pipeline import stages
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.train import stage
from kiyas.types import KiyasError

LOST = RuntimeError(
    "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported\n"
)
CASES: list[tuple[BaseException, str, str]] = [
    (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …\nmore"),
        "the device ran out of memory: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …",
        "finished work is kept",
    ),
    (
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        "the device ran out of memory",
        "lower training.max_tokens_per_pass",
    ),
    (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), "the device ran out of memory", "lower"),
    (
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"),
        "this machine ran out of memory",
        "training.workers",
    ),
    (MemoryError(), "this machine ran out of memory: MemoryError", "generation.max_rows"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "this machine ran out of memory", "lower"),
    (
        RuntimeError(
            "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver"
        ),
        "the NVIDIA driver does not suit the torch that is installed",
        "update the driver",
    ),
    (
        RuntimeError(
            "Unexpected error from cudaGetDeviceCount(). CUDA driver version is insufficient for CUDA runtime"
        ),
        "the NVIDIA driver does not suit",
        "training.device=cpu",
    ),
    (
        RuntimeError("CUDA error: no kernel image is available for execution on the device"),
        "the torch that is installed does not compute on this GPU",
        "generation",
    ),
    (AssertionError("Torch not compiled with CUDA enabled"), "the GPU cannot be used", "training.device"),
    (RuntimeError("CUDA error: invalid device ordinal"), "the GPU cannot be used", "nvidia-smi"),
    (LOST, "the GPU failed: CUDA error: an illegal memory access was encountered", "run the same command again"),
    (RuntimeError("CUDA error: unspecified launch failure"), "the GPU failed", "finished work is kept"),
    (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "the GPU failed", "finished work is kept"),
    (KiyasError("mine", "and mine"), "mine", "and mine"),
]


@pytest.mark.parametrize(("error", "told", "hint"), CASES, ids=range(len(CASES)))
def test_in_words(error: BaseException, told: str, hint: str) -> None:
    found = in_words(error)
    assert found is not None and found.args[0].startswith(told) and hint in found.hint
    assert "\n" not in found.args[0]
    assert is_out_of_memory(error) == ("ran out of memory" in told)
    with pytest.raises(KiyasError, match=r"."), errors_in_words():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("CUDA error"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("CUDA error: device-side assert triggered"),
        OSError(errno.ENOENT, "No such file"),
        AssertionError(),
    ],
)
def test_our_own_faults_are_not_excused(error: BaseException) -> None:
    assert in_words(error) is None
    with pytest.raises(type(error)), errors_in_words():
        raise error


def test_a_real_allocation_that_fails_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)


def test_memory_that_ends_while_the_base_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(base_module.AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(KiyasError, match=r"the device ran out of memory[^\0]*finished work is kept"):
        Base.load(practice.base_path(), "cpu")


def test_a_device_that_is_lost_costs_one_line_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["training.budget.steps=4", "training.save_steps=2", "training.workers=1", "seeds=1"]
    command: list[Any] = ["demo", "--runs", str(tmp_path), *settings, "--until", "train"]
    real, folder = stage.JointTraining.run, RunDir(tmp_path / "practice")

    def fails(training: stage.JointTraining, report: Any, **settings: Any) -> None:
        def reported(count: int, note: str) -> None:
            report(count, note)
            if training.step == 3:
                raise LOST

        real(training, reported, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(stage.JointTraining, "run", fails)
        assert cli.main(command) == 1
    told = capsys.readouterr().err
    assert "kiyas: the GPU failed: CUDA error: an illegal memory access was encountered\n  hint: run the same" in told
    assert "should not have happened" not in told and {id.step for id in stages.saved_checkpoints(folder)} == {2}
    assert cli.main(command) == 0
    assert {id.step for id in stages.saved_checkpoints(folder)} == {2, 4} and folder.manifest(Stage.TRAIN)
