"""`python child.py LIBRARY MODULE.FUNCTION ARGUMENTS RESULT`: calls a function beside a CUDA device that is not there.

The library is guard.cpp, compiled: it must be loaded before torch, and it changes torch for a whole process, hence a
process of its own. ARGUMENTS is JSON; what the function returns is written to RESULT as JSON.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    library, case, arguments, result = sys.argv[1:]
    os.environ["HF_HUB_OFFLINE"] = "1"
    ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    import torch

    torch.set_num_threads(1)
    # Tensors that wrap another one cannot be views in inference mode. Before kiyas is imported: it decorates with it.
    torch.inference_mode = lambda on=True: torch.no_grad() if on else contextlib.nullcontext()  # type: ignore[assignment,misc]
    sys.path.insert(1, str(Path(__file__).parent.parent))  # for tiny.py
    importlib.import_module("stand_in")  # before Kıyas, too
    module, _, function = case.rpartition(".")
    value = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    Path(result).write_text(json.dumps(value), encoding="utf-8")
    sys.stderr.flush()
    os._exit(0)  # the threads that autograd has started for the devices do not end by themselves
