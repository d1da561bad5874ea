"""A CUDA device that is not there. Runs only where the guard is loaded: see child.py.

Theory of operation. A `Shadow` is a tensor that says it is on cuda and wraps a tensor of this machine. While a `Device`
is current, every operator on shadows comes through it: the devices of the operands are checked as CUDA checks them,
what happens is counted, and the operator runs on what the shadows wrap. There are two kinds of device:

- *shadow*, with numbers: a shadow wraps a CPU tensor, so whatever runs on it gives the numbers of a CPU.
- *meter*, without: a shadow of floating point wraps a tensor of torch's device "meta", which is all shape and no
  memory, so models of full size run through it. Integers and truth values are computed as long as they are few, since
  the host decides by them; those that would follow from unknown numbers are made up: zero, and a comparison comes out
  as of numbers in range, the first token always wins.

Both count launches, waits of the host for the device (by the line of Kıyas that waits; a copy to the device that is
not asked to be asynchronous waits too), copies to the device, attention calls by kernel, and bytes of memory.
torch.cuda answers as the card would, and an allocation that does not fit raises.

Not guaranteed: an operator is taken as one launch; memory has the allocator's rounding to 512 bytes, but its
fragmentation only as a part of `Card.reserved`; times are those of a roofline.
"""

from __future__ import annotations

import contextlib
import math
import sys
import types
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
GB = 10**9


@dataclass
class Card:
    """What a graphics card has. `taken` and `shrinks` may be changed while it is used."""

    name: str = "Shadow 24 GB"
    capability: tuple[int, int] = (8, 6)
    memory: int = 24 * GB
    count: int = 1
    reserved: int = int(1.5 * GB)
    """of the memory: for the context and fragmentation"""
    taken: int = 0
    """of the memory: by other processes"""
    shrinks: int = 0
    """how much more they take each time one asks what is free"""
    strict: bool = True
    """whether an allocation that does not fit raises"""
    flops: float = 70e12
    bandwidth: float = 0.7e12

    @property
    def room(self) -> int:
        return self.memory - self.reserved - self.taken

    def kernel(self, q: Tensor, k: Tensor, masked: bool, gqa: bool) -> str:
        """Which attention torch takes (sdp_utils.cpp): flash needs Ampere, half precision and no mask, and groups
        heads; the memory-efficient one wants equal heads, and bfloat16 only from Ampere; else scores are kept whole."""
        ampere = self.capability >= (8, 0)
        if ampere and not masked and q.dtype in (torch.float16, torch.bfloat16):
            return "flash"
        grouped = gqa and q.shape[1] != k.shape[1]
        return "math" if grouped or (q.dtype == torch.bfloat16 and not ampere) else "efficient"


# Sustained figures, about 70 % of the data sheets'.
T4 = Card("Tesla T4", (7, 5), int(15.6 * GB), flops=30e12, bandwidth=0.24e12)
A10 = Card("NVIDIA A10G")
A100 = Card("NVIDIA A100-SXM4-40GB", (8, 0), 42 * GB, flops=220e12, bandwidth=1.1e12)
H100 = Card("NVIDIA H100 80GB HBM3", (9, 0), 85 * GB, flops=550e12, bandwidth=2.4e12)
CARDS = {"t4": T4, "24gb": A10, "a100-40": A100, "h100": H100}


class Shadow(torch.Tensor):
    """Says it is on `device`; `inner` holds what it wraps."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, real: Tensor, device: torch.device) -> Shadow:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            real.shape,
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            device=device,
        )
        made.inner = real
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on a shadow, but no device is current")

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Shadow({self.inner!r})"

    @property
    def data(self) -> Tensor:
        own: Tensor = torch.Tensor.data.__get__(self)  # type: ignore[attr-defined]
        return own

    @data.setter
    def data(self, other: Shadow) -> None:
        torch.Tensor.data.__set__(self, other)  # type: ignore[attr-defined]
        self.inner = other.inner

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError("can't convert cuda device type tensor to numpy")
        return self.cpu().numpy()


INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "unique_consecutive"}
"""Operators whose result's value or shape the host must know."""
NO_LAUNCH = {"_unsafe_view", "_reshape_alias", "lift_fresh", "set_data", "is_same_size"}
GATHERS = {"index_select", "embedding", "index", "gather"}
UNLIKELY = {"gt", "ge", "any", "isnan", "isinf", "logical_not"}
"""Truth values that a meter makes up are true, except of these."""
FEW = 2**18
"""Elements of integers that a meter computes."""


class Device:
    """Makes the card current: `with Device(card) as device: ...`. Counters may be read and reset at any time."""

    def __init__(self, card: Card | None = None, numbers: bool = True) -> None:
        self.card, self.numbers = card or Card(), numbers
        self.live = self.cached = 0
        self._sizes: dict[int, int] = {}
        self.reset()

    def reset(self) -> None:
        """Counts from here on."""
        self.launches: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.attention: Counter[str] = Counter()
        self.bytes, self.flops, self.seconds = 0, 0, 0.0
        self.peak = self.live

    def counts(self) -> dict[str, Any]:
        """Everything since `reset`, for JSON. Bytes are those of memory traffic; peak and live those allocated."""
        totals = {name: sum(getattr(self, name).values()) for name in ("launches", "waits", "copies")}
        where = {name: dict(getattr(self, name)) for name in ("waits", "copies", "attention")}
        same = {name: getattr(self, name) for name in ("live", "peak", "bytes", "flops", "seconds")}
        return {**totals, **same, "where": where, "operators": dict(self.launches.most_common())}

    def __enter__(self) -> Device:
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.multiple(torch.cuda, **self._answers()))
            # Else torch.tensor(..., device="cuda") asks the device for memory; now it makes a CPU tensor and copies it.
            stack.enter_context(_set(torch._C._only_lift_cpu_tensors, torch._C._set_only_lift_cpu_tensors, True))
            # `model.to` then keeps tied weights tied.
            future = torch.__future__
            stack.enter_context(
                _set(future.get_swap_module_params_on_conversion, future.set_swap_module_params_on_conversion, True)
            )
            stack.enter_context(_Operators(self))
            _current.append(self)
            stack.callback(_current.pop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def _answers(self) -> dict[str, Any]:
        """What torch.cuda says."""
        card, current = self.card, [0]

        def mem_get_info(device: Any = None) -> tuple[int, int]:
            card.taken += card.shrinks
            return max(0, card.room - self.cached), card.memory

        def empty_cache() -> None:
            self.cached = self.live

        def reset_peak() -> None:
            self.peak = self.live

        def properties(device: Any = None) -> Any:
            major, minor = card.capability
            return types.SimpleNamespace(name=card.name, major=major, minor=minor, total_memory=card.memory)

        def wait(device: Any = None) -> None:
            self.waits[f"synchronize {site()}"] += 1

        nothing = torch.empty(0, dtype=torch.uint8)
        return {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "device_count": lambda: card.count,
            "current_device": lambda: current[0],
            "set_device": lambda device: current.__setitem__(0, torch.device(device).index or 0),
            "get_device_name": lambda device=None: card.name,
            "get_device_capability": lambda device=None: card.capability,
            "get_device_properties": properties,
            "is_bf16_supported": lambda including_emulation=True: including_emulation or card.capability >= (8, 0),
            "mem_get_info": mem_get_info,
            "empty_cache": empty_cache,
            "memory_allocated": lambda device=None: self.live,
            "memory_reserved": lambda device=None: self.cached,
            "max_memory_allocated": lambda device=None: self.peak,
            "reset_peak_memory_stats": lambda device=None: reset_peak(),
            "synchronize": wait,
            "get_rng_state": lambda device=None: nothing,
            "set_rng_state": lambda state, device=None: None,
        }

    # -- one operator -------------------------------------------------------------------------------------

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = func._schema.name.split("::")[1]
        tensors = _tensors((args, kwargs))
        shadows = [x for x in tensors if isinstance(x, Shadow)]
        asked = None if kwargs.get("device") is None else torch.device(kwargs["device"])
        if name in ("is_pinned", "_pin_memory"):
            return False if name == "is_pinned" else args[0]
        if not shadows and (asked is None or asked.type != "cuda"):
            return func(*args, **kwargs)
        place = asked or shadows[0].device
        if place.type == "cuda" and place.index is None:
            place = torch.device("cuda", torch.cuda.current_device())
        if place.type == "cuda" and place.index >= self.card.count:
            raise RuntimeError(f"CUDA error: invalid device ordinal: {place}")
        if asked is not None:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        self._check(func, name, tensors, shadows, args)
        self._count(func, name, place, shadows, args, kwargs)
        known = {id(x.inner): x for x in shadows}
        plain_args, plain_kwargs = _map(_inner, (args, kwargs))
        out = (func if self.numbers else self._shapes(func, name, place))(*plain_args, **plain_kwargs)
        if self.numbers and name == "_to_copy" and place.type == "cpu" and any(out is x.inner for x in shadows):
            out = out.clone()
        made = [x for x in _tensors(out) if id(x) not in known]
        if place.type == "cuda":
            self._allocated(made)
            self._work(func, name, plain_args, plain_kwargs, out)
            out = _map(lambda x: known[id(x)] if id(x) in known else Shadow(x, place), out)
        return out

    def _check(self, func: Any, name: str, tensors: list[Tensor], shadows: list[Shadow], args: tuple[Any, ...]) -> None:
        """Raises where CUDA would: operands on two devices, save numbers of the CPU without dimensions in operators
        that go element by element, and indices."""
        if name in ("_to_copy", "copy_"):
            return
        if len({x.device for x in shadows}) > 1:
            raise RuntimeError(f"mixed devices in {func} at {site()}: {sorted({str(x.device) for x in shadows})}")
        plain = [x for x in tensors if not isinstance(x, Shadow)]
        if not plain or not shadows:
            return
        if name in INDEXED and isinstance(args[0], Shadow):
            plain = [x for x in plain if not any(x is index for index in args[1])]
            allowed = True
        else:
            allowed = torch.Tag.pointwise in func.tags or name in ("fill_", "masked_fill", "masked_fill_")
        if plain and not (allowed and all(x.dim() == 0 for x in plain) and isinstance(args[0], Shadow | int | float)):
            shapes = [tuple(x.shape) for x in plain]
            raise RuntimeError(f"mixed devices in {func} at {site()}: on the CPU are {shapes}")

    def _count(
        self, func: Any, name: str, place: torch.device, shadows: list[Shadow], args: Any, kwargs: dict[str, Any]
    ) -> None:
        if name in ("_to_copy", "copy_"):
            source, target = (args[1].device, args[0].device) if name == "copy_" else (args[0].device, place)
            blocking = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
            if target.type == "cpu":
                self.waits[f"copy {site()}"] += 1
            elif source.type != "cuda":
                self._copied(1, blocking)
            else:
                self.launches[name] += 1
            return
        if name in WAITS:
            self.waits[f"{name} {site()}"] += 1
        elif name in INDEXED:
            self._count_index(name, args)
        if not func.is_view and name not in NO_LAUNCH and not name.startswith(("empty", "new_empty")):
            self.launches[name] += 1

    def _count_index(self, name: str, args: Any) -> None:
        """Truth values as an index are counted first, to know how many elements there are; a mask with one number of
        the host fills instead. What comes from the host is copied."""
        given = [x for x in args[1] if x is not None]
        masks = [x for x in given if x.dtype in _MASKS]
        value = args[2] if name != "index" else None
        if value is not None and not isinstance(value, Shadow) and len(masks) == len(given):
            return
        from_host = sum(not isinstance(x, Shadow) for x in (*given, *([] if value is None else [value])))
        self._copied(from_host, True, "index ")
        if masks:
            self.waits[f"mask {site()}"] += len(masks)

    def _copied(self, count: int, blocking: bool, what: str = "") -> None:
        """Copies to the device. From memory that is not pinned, they wait until they are done unless asked not to."""
        if count:
            self.copies[what + site()] += count
            if blocking:
                self.waits[f"copy to device {site()}"] += count

    # -- memory and time ----------------------------------------------------------------------------------

    def _allocated(self, made: list[Tensor]) -> None:
        for tensor in made:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._sizes:
                size = -(-storage.nbytes() // 512) * 512
                if self.card.strict and self.live + size > self.card.room:
                    raise torch.OutOfMemoryError(
                        f"CUDA out of memory. Tried to allocate {size / 2**30:.2f} GiB. {self.card.name} has "
                        f"{self.card.memory / 2**30:.2f} GiB, of which {self.live / 2**30:.2f} GiB are in use."
                    )
                self._sizes[key] = size
                weakref.finalize(storage, self._freed, key)
                self.live += size
                self.peak = max(self.peak, self.live)
                self.cached = max(self.cached, self.live)

    def _freed(self, key: int) -> None:
        self.live -= self._sizes.pop(key)

    def _work(self, func: Any, name: str, args: Any, kwargs: Any, out: Any) -> None:
        """Bytes read and written, floating-point operations, and the time they take at the least."""
        if func.is_view or name in NO_LAUNCH or name.startswith(("empty", "new_empty")):
            return
        made = sum(map(_bytes, _tensors(out)))
        if name in GATHERS:
            moved = 2 * made
        elif name in ("index_put_", "_index_put_impl_", "index_copy_"):
            moved = 2 * _bytes(args[-1] if name == "index_copy_" else args[2])
        else:
            moved = made + sum(map(_bytes, _tensors((args, kwargs))))
        counted = flop_registry.get(func.overloadpacket)
        flops = counted(*args, **kwargs, out_val=out) if counted else 0
        self.bytes += moved
        self.flops += flops
        self.seconds += max(flops / self.card.flops, moved / self.card.bandwidth, 3e-6)
        # Kernels of attention's backward add up the queries' gradients in float32, and expand grouped heads.
        if name.endswith("_attention_backward"):
            q, k = args[1], args[2]
            grouped = 2 * _bytes(q) if q.shape[1] != k.shape[1] else 0
            self.peak = max(self.peak, self.live + 4 * q.numel() + grouped)

    # -- attention ----------------------------------------------------------------------------------------

    def attend(self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Any = None, dropout_p: float = 0.0,
               is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False) -> Tensor:  # fmt: skip
        assert dropout_p == 0
        kernel = self.card.kernel(q, k, attn_mask is not None, enable_gqa)
        self.attention[f"{kernel} {str(q.dtype).removeprefix('torch.')}{' mask' if attn_mask is not None else ''}"] += 1
        out: Tensor
        if self.numbers:
            options = {"is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
            out = _Attention.apply(q, k, v, attn_mask, options)  # type: ignore[no-untyped-call]
        elif kernel == "flash":
            out = aten._scaled_dot_product_flash_attention(q, k, v, 0.0, is_causal, False, scale=scale)[0]
        elif kernel == "efficient":
            bias = attn_mask
            if bias is not None:
                if bias.dtype == torch.bool:
                    bias = torch.where(bias, 0.0, -math.inf).to(q.dtype)
                bias = bias.expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
            train = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
            out = aten._scaled_dot_product_efficient_attention(q, k, v, bias, train, 0.0, is_causal, scale=scale)[0]
        else:
            out = aten._scaled_dot_product_attention_math(
                q, k, v, attn_mask, 0.0, is_causal, None, scale=scale, enable_gqa=enable_gqa
            )[0]
        return out

    # -- without numbers ----------------------------------------------------------------------------------

    def _shapes(self, func: Any, name: str, place: torch.device) -> Callable[..., Any]:
        """`func`, computing integers that are few and of all else only the shape."""

        def run(*args: Any, **kwargs: Any) -> Any:
            given = _tensors((args, kwargs))
            known = all(x.device.type == "cpu" for x in given)
            if name in ("_to_copy", "copy_") and (kwargs.get("device") is not None or name == "copy_"):
                return _copied(func, name, place, *args, **kwargs)
            if name in WAITS:
                return func(*args, **kwargs) if known else _made_up_value(name, given[0])
            if name in INDEXED:
                if name.endswith("_") and any(x is not None and x.dtype in _MASKS for x in args[1]):
                    return func(*args, **kwargs) if known else args[0]
                args = (args[0], [y for x in args[1] for y in _positions(x)], *args[2:])
            there = {**kwargs, "device": torch.device("meta")} if "device" in kwargs else kwargs
            meta_args, meta_kwargs = _map(_meta, (args, there))
            out = func(*meta_args, **meta_kwargs)
            outs = _tensors(out)
            few = all(x.dtype in _WHOLE and x.numel() <= FEW for x in outs)
            if known and few:
                return func(*args, **kwargs)
            return _map(lambda x: _made_up(name, x), out)

        return run


_MASKS = {torch.bool, torch.uint8}
_WHOLE = {*_MASKS, torch.int8, torch.int16, torch.int32, torch.int64}


def _tensors(x: Any) -> list[Tensor]:
    """All tensors in an operator's arguments or results; torch's own walk over trees takes most of a run."""
    if isinstance(x, Tensor):
        return [x]
    if isinstance(x, dict):
        x = list(x.values())
    return [tensor for each in x for tensor in _tensors(each)] if isinstance(x, list | tuple) else []


def _map(function: Callable[[Tensor], Any], x: Any) -> Any:
    if isinstance(x, Tensor):
        return function(x)
    if isinstance(x, list | tuple):
        return type(x)([_map(function, each) for each in x])
    return {name: _map(function, each) for name, each in x.items()} if isinstance(x, dict) else x


def _inner(x: Any) -> Any:
    return x.inner if isinstance(x, Shadow) else x


def _meta(x: Tensor) -> Tensor:
    if x.device.type == "meta":
        return x
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def _bytes(x: Tensor) -> int:
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())


def _positions(index: Tensor | None) -> list[Tensor | None]:
    return [*index.nonzero().unbind(1)] if index is not None and index.dtype in _MASKS else [index]


def _made_up(name: str, x: Tensor) -> Tensor:
    if x.dtype not in _WHOLE or x.numel() > FEW:
        return x
    return torch.full(x.shape, x.dtype == torch.bool and name.rstrip("_") not in UNLIKELY, dtype=x.dtype)


def _copied(func: Any, name: str, place: torch.device, *args: Any, **kwargs: Any) -> Any:
    """`_to_copy` to a device, and `copy_`. Unknown numbers are 0.5 on the host."""
    source = args[0] if name == "_to_copy" else args[1]
    unknown = source.device.type == "meta"
    if name == "copy_":
        if args[0].device.type == "meta":
            return func(args[0], _meta(source))
        return args[0].fill_(0.5) if unknown else func(*args)
    if place.type == "cpu":
        dtype = kwargs.get("dtype") or source.dtype
        return torch.full(source.shape, 0.5, dtype=dtype) if unknown else func(*args, **kwargs)
    whole = (kwargs.get("dtype") or source.dtype) in _WHOLE
    if whole and not unknown and source.numel() <= FEW:
        return func(*args, **kwargs)
    return func(_meta(source), **{**kwargs, "device": torch.device("meta")})


def _made_up_value(name: str, x: Tensor) -> Any:
    if name == "_local_scalar_dense":
        return 0.5 if x.is_floating_point() else 0
    if name == "equal":
        return False
    raise NotImplementedError(f"{name} of unknown numbers")


class _Operators(TorchDispatchMode):
    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.device.run(func, args, kwargs or {})


_current: list[Device] = []
_attention = functional.scaled_dot_product_attention


def _attend(q: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return _current[-1].attend(q, *args, **kwargs) if isinstance(q, Shadow) else _attention(q, *args, **kwargs)


# Above autograd, since which kernel runs is the card's choice. child.py sees to it that Kıyas imports this one.
functional.scaled_dot_product_attention = _attend


class _Attention(torch.autograd.Function):
    """The CPU's attention on what the shadows wrap; computed again in the backward pass, as fused kernels do."""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any, mask: Any, options: dict[str, Any]) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.mask, ctx.options = None if mask is None else _inner(mask), options
        inner = [x.inner for x in (q, k, v)]
        return _launched(q, _attention(*inner, attn_mask=ctx.mask, **options))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> tuple[Tensor | None, ...]:
        inner = [x.inner.detach().requires_grad_() for x in ctx.saved_tensors]
        with torch.enable_grad():
            out = _attention(*inner, attn_mask=ctx.mask, **ctx.options)
        made = torch.autograd.grad(out, inner, grad.inner)
        return (*(_launched(grad, x) for x in made), None, None)


def _launched(like: Shadow, inner: Tensor) -> Shadow:
    _current[-1].launches["attention"] += 1
    _current[-1]._allocated([inner])
    return Shadow(inner, like.device)


@contextlib.contextmanager
def _set(get: Callable[[], bool], put: Callable[[bool], None], value: bool) -> Iterator[None]:
    before = get()
    put(value)
    try:
        yield
    finally:
        put(before)


def site() -> str:
    """The innermost line of Kıyas on the stack, as `file.function:line`; "elsewhere" where there is none: backward."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if "/kiyas/" in code.co_filename:
            file = code.co_filename.rpartition("/")[2].removesuffix(".py")
            return f"{file}.{code.co_qualname}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
