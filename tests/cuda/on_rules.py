"""What the stand-ins allow and forbid, in plain torch. Runs in a process with the guard: see child.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import stand_in
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


def _refused(work: Callable[[], Any]) -> str:
    try:
        work()
    except (RuntimeError, TypeError) as error:
        return str(error)
    return ""


def devices() -> dict[str, str]:
    """What each line raises; "" where it runs."""
    with stand_in.Device(stand_in.Card(count=2)):
        x, mask = torch.ones(3, 4, device="cuda"), torch.ones(3, 4, dtype=torch.bool)
        host, index, other = torch.ones(3, 4), torch.tensor([0, 2]), torch.ones(3, 4, device="cuda:1")
        lines: dict[str, Callable[[], Any]] = {
            "add": lambda: x + host,
            "matmul": lambda: x @ host.T,
            "cat": lambda: torch.cat([x, host]),
            "index_select": lambda: x.index_select(0, index),
            "where": lambda: torch.where(mask, x, x),
            "scalar first": lambda: host * x.sum(),
            "another card": lambda: x + other,
            "a third card": lambda: torch.ones(1, device="cuda:2"),
            "numpy": lambda: x.numpy(),
            "scalar": lambda: x * torch.tensor(2.0),
            "index": lambda: x[index],
            "write": lambda: x[1].copy_(host[0]),
            "put": lambda: x.__setitem__(index, 1.0),
            "move": lambda: x.cpu() + host + other.to("cpu"),
        }
        return {name: _refused(line) for name, line in lines.items()}


def counts() -> dict[str, list[int]]:
    """Waits and copies to the device of each line."""
    with stand_in.Device() as device:
        x = torch.ones(3, 4, device="cuda")
        host, mask = torch.ones(3, 4), torch.ones(3, 4, dtype=torch.bool, device="cuda")
        lines: dict[str, Callable[[], Any]] = {
            "add": lambda: x + x,
            "item": lambda: x.sum().item(),
            "if": lambda: bool(x.sum() > 0),
            "tolist": lambda: x.tolist(),
            "copy": lambda: host.to("cuda"),
            "copy without waiting": lambda: host.to("cuda", non_blocking=True),
            "make": lambda: torch.tensor([1, 2], device="cuda"),
            "mask": lambda: x[mask],
            "fill by mask": lambda: x.__setitem__(mask, 0.0),
            "index of the host": lambda: x[torch.tensor([0])],
        }
        made = {}
        for name, line in lines.items():
            device.reset()
            line()
            made[name] = [sum(device.waits.values()), sum(device.copies.values())]
        return made


def memory(numbers: bool) -> dict[str, Any]:
    """Bytes of a card of 100 MB, of which 10 are reserved."""
    card = stand_in.Card(memory=100_000_000, reserved=10_000_000)
    with stand_in.Device(card, numbers) as device:
        free = [torch.cuda.mem_get_info()[0]]
        x = torch.zeros(10_000_000, device="cuda")
        y = x[5:].view(-1)  # a view is no memory
        live = [device.live]
        del x
        live.append(device.live)
        del y
        live.append(device.live)
        free.append(torch.cuda.mem_get_info()[0])
        torch.cuda.empty_cache()
        free.append(torch.cuda.mem_get_info()[0])
        too_much = _refused(lambda: torch.zeros(30_000_000, device="cuda"))
        card.shrinks = 1_000_000
        free += [torch.cuda.mem_get_info()[0] for _ in range(2)]
        return {"live": live, "peak": device.peak, "free": free, "too much": too_much}


def kernels() -> dict[str, list[str]]:
    """Attention of a decoding step and of training, grouped heads expanded or not, on each card."""
    made: dict[str, list[str]] = {}
    for name in ("t4", "24gb"):
        with stand_in.Device(stand_in.CARDS[name], numbers=False) as device:
            for dtype in (torch.float16, torch.float32):
                q, k = (torch.ones(2, heads, 8, 64, device="cuda", dtype=dtype) for heads in (4, 2))
                full, mask = k.repeat_interleave(2, 1), torch.ones(8, 8, dtype=torch.bool, device="cuda")
                functional.scaled_dot_product_attention(q, full, full, is_causal=True)
                functional.scaled_dot_product_attention(q, full, full, attn_mask=mask)
                functional.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True)
            made[name] = list(device.attention)
    return made


def autograd() -> dict[str, Any]:
    """A small network on the CPU and on the shadow, with tied weights, attention and a layer computed again."""

    def gradients(device: str) -> tuple[list[torch.Tensor], bool]:
        torch.manual_seed(0)
        first, middle, last = nn.Embedding(7, 8), nn.Linear(8, 8), nn.Linear(8, 7, bias=False)
        last.weight = first.weight
        model = nn.ModuleList([first, middle, last]).to(device)

        def layer(x: torch.Tensor) -> torch.Tensor:
            h = middle(x)[None, None]
            return functional.scaled_dot_product_attention(h, h, h, is_causal=True)[0, 0] + x

        ids = torch.arange(6, device=device)
        logits = last(checkpoint(layer, first(ids), use_reentrant=False))
        functional.cross_entropy(logits, ids).backward()
        return [p.grad.cpu() for p in model.parameters()], last.weight is first.weight

    cpu, _ = gradients("cpu")
    with stand_in.Device():
        cuda, tied = gradients("cuda")
    return {"tied": tied, "distance": max(float((a - b).abs().max()) for a, b in zip(cpu, cuda, strict=True))}


def everything() -> dict[str, Any]:
    return {
        "devices": devices(),
        "counts": counts(),
        "memory": [memory(True), memory(False)],
        "kernels": kernels(),
        "autograd": autograd(),
        "outside": _refused(lambda: torch.ones(1, device="cuda")) != "",
    }
