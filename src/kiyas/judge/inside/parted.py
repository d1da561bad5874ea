"""Tests and program in two processes: values cross as data, and no object of the program's ever enters the tests.

    zygote ──fork──> tests ──fork──> program

The tests' process is forked from first. It holds what is expected, is not dumpable (so that a program of the same user
cannot read it) and alone has the report. The program's process was forked before the tests were read; it answers calls
until the pipe closes. Both ends speak the same: JSON, in which every value that is more than an atom is a list that
begins with its tag. A subclass crosses as its base's value, read by the base's methods; a function, an iterator or any
other object as a number, by which the other side can call it, ask for its next value or for an attribute. What the
callee changed in its arguments is written into the caller's. See docs/judge.md for what this guarantees.
"""

# A program may raise anything at all.
# ruff: noqa: BLE001
from __future__ import annotations

import builtins
import collections
import json
import os
import re
import select
import signal
import sys
from contextlib import suppress
from types import ModuleType

import runner  # type: ignore[import-not-found,unused-ignore]

TYPE_CHECKING = False  # `typing` itself would cost every fork
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

TESTS = 5  # descriptor of what only the tests' process may read
MOST_NESTED = 200
LARGE = 1 << 63
DTYPE = re.compile(r"[<>|=][biufcSUmM]\d+(\[\w{1,5}\])?")
ENCODE = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
ATOMS: dict[type, Callable[[Any], bool]] = {
    float: lambda items: True,
    bool: lambda items: True,
    int: lambda items: max(max(items), -min(items)) < LARGE,
    str: lambda items: all(map(str.isascii, items)),
}
# What crosses, by module and name: how it is taken apart, by its own class's methods, and put together again.
# `parts` are encoded like any other values; those that can change are made empty and then filled.
APART: dict[str, Callable[[Any], list[Any]]] = {
    "builtins.int": lambda v: [int.__format__(v, "x")],
    "builtins.float": lambda v: [float.__pos__(v)],
    "builtins.str": lambda v: [str.encode(v, "utf-8", "surrogatepass").hex()],
    "builtins.complex": lambda v: [complex.__pos__(v).real, complex.__pos__(v).imag],
    "builtins.bytes": lambda v: [bytes.hex(v)],
    "builtins.bytearray": lambda v: [bytearray.hex(v)],
    "builtins.tuple": lambda v: list(tuple.__iter__(v)),
    "builtins.list": lambda v: list(list.__iter__(v)),
    "builtins.set": lambda v: list(set.__iter__(v)),
    "builtins.frozenset": lambda v: list(frozenset.__iter__(v)),
    "builtins.dict": lambda v: [part for item in dict.items(v) for part in item],
    "builtins.range": lambda v: [v.start, v.stop, v.step],
    "builtins.dict_keys": list,
    "builtins.dict_values": list,
    "builtins.dict_items": list,
    "collections.OrderedDict": lambda v: [part for item in collections.OrderedDict.items(v) for part in item],
    "collections.Counter": lambda v: [part for item in dict.items(v) for part in item],
    "collections.defaultdict": lambda v: [part for item in dict.items(v) for part in item],
    "collections.deque": lambda v: [v.maxlen, *collections.deque.__iter__(v)],
    "decimal.Decimal": lambda v: [sys.modules["decimal"].Decimal.__str__(v)],
    "fractions.Fraction": lambda v: [v._numerator, v._denominator],
    "datetime.date": lambda v: [sys.modules["datetime"].date.isoformat(v)],
    "datetime.datetime": lambda v: [sys.modules["datetime"].datetime.isoformat(v)],
    "datetime.time": lambda v: [sys.modules["datetime"].time.isoformat(v)],
    "datetime.timedelta": lambda v: [v.days, v.seconds, v.microseconds],
    "numpy.ndarray": lambda v: [v.dtype.str, list(v.shape), v.tobytes().hex()],
    "numpy.generic": lambda v: [v.dtype.str, None, v.tobytes().hex()],
}
EMPTY: dict[str, Callable[[list[Any]], Any]] = {
    "builtins.list": lambda parts: [],
    "builtins.dict": lambda parts: {},
    "builtins.set": lambda parts: set(),
    "builtins.bytearray": lambda parts: bytearray(),
    "collections.OrderedDict": lambda parts: collections.OrderedDict(),
    "collections.Counter": lambda parts: collections.Counter(),
    "collections.defaultdict": lambda parts: collections.defaultdict(None),
    "collections.deque": lambda parts: collections.deque(maxlen=parts[0]),
}
TOGETHER: dict[str, Callable[..., Any]] = {
    "builtins.int": lambda digits: int(digits, 16),
    "builtins.float": float,
    "builtins.str": lambda text: bytes.fromhex(text).decode("utf-8", "surrogatepass"),
    "builtins.complex": complex,
    "builtins.bytes": bytes.fromhex,
    "builtins.tuple": lambda *parts: parts,
    "builtins.frozenset": lambda *parts: frozenset(parts),
    "builtins.range": range,
    "builtins.dict_keys": lambda *parts: dict.fromkeys(parts).keys(),
    "builtins.dict_values": lambda *parts: dict(enumerate(parts)).values(),
    "builtins.dict_items": lambda *parts: dict(parts).items(),
    "decimal.Decimal": lambda text: __import__("decimal").Decimal(text),
    "fractions.Fraction": lambda *parts: __import__("fractions").Fraction(*parts),
    "datetime.date": lambda text: __import__("datetime").date.fromisoformat(text),
    "datetime.datetime": lambda text: __import__("datetime").datetime.fromisoformat(text),
    "datetime.time": lambda text: __import__("datetime").time.fromisoformat(text),
    "datetime.timedelta": lambda *parts: __import__("datetime").timedelta(*parts),
    "numpy.ndarray": lambda *parts: numpy_array(*parts),
    "numpy.generic": lambda *parts: numpy_array(*parts)[()],
}


def numpy_array(dtype: str, shape: list[int] | None, content: str) -> Any:
    if not DTYPE.fullmatch(dtype):
        raise ValueError(f"dtype {dtype}")
    numpy = __import__("numpy")
    return numpy.frombuffer(bytes.fromhex(content), dtype=dtype).reshape(shape or ()).copy()


def fill(thing: Any, tag: str, parts: list[Any]) -> None:
    """Give `thing` these parts in place of its own."""
    if tag == "builtins.list":
        thing[:] = parts
    elif tag == "builtins.bytearray":
        thing[:] = bytes.fromhex(parts[0])
    elif tag == "numpy.ndarray":
        thing[...] = numpy_array(*parts)
    else:
        thing.clear()
        if tag == "builtins.set":
            thing.update(parts)
        elif tag == "collections.deque":
            thing.extend(parts[1:])
        else:
            for key, value in zip(parts[::2], parts[1::2], strict=True):
                thing[key] = value


def tag_of(kind: type) -> str | None:
    """The name of the first class among its bases that crosses as data; None where there is none."""
    if kind not in _tags:
        names = [f"{base.__module__}.{base.__qualname__}" for base in type.mro(kind)]
        _tags[kind] = next((name for name in names if name in APART), None)
    return _tags[kind]


_tags: dict[type, str | None] = {}


def builtin_type(value: Any) -> str | None:
    """The name of a built-in type, an exception's too; None for anything else."""
    if not issubclass(type(value), type):
        return None
    name = type.__getattribute__(value, "__name__")
    return str(name) if vars(builtins).get(name) is value else None


class Foreign:
    """An object of the other process: equals only itself, has no special methods, is asked for its attributes."""

    __slots__ = ("_ask",)

    def __init__(self, ask: Callable[[str], Any]) -> None:
        object.__setattr__(self, "_ask", ask)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask(name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name!r} of an object of the program cannot be set")


class ForeignIterator:
    def __init__(self, following: Callable[[], Any]) -> None:
        self.following = following

    def __iter__(self) -> ForeignIterator:
        return self

    def __next__(self) -> Any:
        return self.following()


class Gone(BaseException):
    """The other process has ended."""


class Channel:
    """One end. Each end keeps what it gave away by number, and what it got by number."""

    def __init__(self, reading: int, writing: int, process: int = 0) -> None:
        self.reading, self.writing = reading, writing
        self.given: list[Any] = []
        self.number_of: dict[int, int] = {}
        """of what was given away, and (as -1 - number) of what was got, by id"""
        self.got: dict[int, Any] = {}
        self.names: dict[str, Any] | None = None
        """the program's; None in the tests' process, which answers calls of its own functions only"""
        self.last: BaseException | None = None
        self.unread = bytearray()
        self.poller = select.poll()
        self.poller.register(reading, select.POLLIN)
        self.watched = bool(process) and hasattr(os, "pidfd_open")
        if self.watched:  # a child of the program's may hold the pipe open after its end
            self.poller.register(os.pidfd_open(process), select.POLLIN)

    def send(self, message: list[Any]) -> None:
        content = ENCODE(message).encode()
        try:
            runner.write_all(len(content).to_bytes(8, "big") + content, self.writing)
        except BrokenPipeError:
            raise Gone from None

    def receive(self) -> list[Any]:
        message = json.loads(self._read(int.from_bytes(self._read(8), "big")))
        if type(message) is not list or not message:
            raise ValueError("not a message")
        return message

    def _read(self, size: int) -> bytearray:
        while len(self.unread) < size:
            if self.watched and not any(fd == self.reading for fd, _ in self.poller.poll()):
                raise Gone
            if not (chunk := os.read(self.reading, 1 << 16)):
                raise Gone
            self.unread += chunk
        content = self.unread[:size]
        del self.unread[:size]
        return content

    # Values. `known`: what can change, in the order in which it was met, so that the same object stays the same.

    def encode(self, value: Any, known: list[Any], ids: dict[int, int], depth: int = 0) -> Any:
        kind = type(value)
        if value is None or kind is bool or kind is float:
            return value
        if (kind is int and -LARGE < value < LARGE) or (kind is str and value.isascii()):
            return value
        if id(value) in ids:
            return ["=", ids[id(value)]]
        if (tag := tag_of(kind)) and depth < MOST_NESTED and not (tag[:5] == "numpy" and value.dtype.hasobject):
            if tag in EMPTY or tag == "numpy.ndarray":
                ids[id(value)] = len(known)
                known.append(value)
            with suppress(AttributeError, KeyError):  # a class that only bears the name
                return self.body(value, tag, known, ids, depth)
        if (name := builtin_type(value)) is not None:
            return ["type", name]
        number = self.number_of.get(id(value))
        if number is None:
            number = self.number_of[id(value)] = len(self.given)
            self.given.append(value)
        if number < 0:
            return ["yours", -1 - number]
        what = "iterator" if hasattr(kind, "__next__") else "function" if callable(value) else "object"
        return [what, number]

    def body(self, value: Any, tag: str, known: list[Any], ids: dict[int, int], depth: int = 0) -> list[Any]:
        """Tag, whether the parts are atoms all, parts."""
        parts = APART[tag](value)
        kinds = set(map(type, parts))
        if len(kinds) == 1 and (atoms := ATOMS.get(kinds.pop())) and atoms(parts):
            return [tag, True, parts]
        return [tag, False, [self.encode(part, known, ids, depth + 1) for part in parts]]

    def decode(self, tree: Any, known: list[Any]) -> Any:
        if type(tree) is not list:
            return tree
        tag = tree[0]
        if tag == "=":
            return known[tree[1]]
        if tag in EMPTY:
            thing = EMPTY[tag](tree[2])
            known.append(thing)
            fill(thing, tag, self.parts(tree, known))
            return thing
        if tag == "numpy.ndarray":  # known before its parts, which are atoms
            known.append(TOGETHER[tag](*self.parts(tree, [])))
            return known[-1]
        if tag in TOGETHER:
            return TOGETHER[tag](*self.parts(tree, known))
        if tag == "type":
            kind = vars(builtins)[tree[1]]
            if not isinstance(kind, type):
                raise ValueError("not a type")
            return kind
        if tag == "yours":
            return self.given[tree[1]]
        number: int = tree[1]
        if number not in self.got:
            thing = self.stand_in(tag, number)
            self.got[number], self.number_of[id(thing)] = thing, -1 - number
        return self.got[number]

    def parts(self, tree: list[Any], known: list[Any]) -> list[Any]:
        return tree[2] if tree[1] else [self.decode(part, known) for part in tree[2]]

    def stand_in(self, what: str, number: int) -> Any:
        if what == "function":
            return lambda *args, **kwargs: self.call(number, list(args), kwargs)
        if what == "iterator":
            return ForeignIterator(lambda: self.ask(["next", number]))
        return Foreign(lambda name: self.ask(["attribute", number, name]))

    # Questions and answers.

    def call(self, number: int, args: list[Any], kwargs: dict[str, Any]) -> Any:
        known: list[Any] = []
        tree = self.encode([args, kwargs], known, {})
        return self.ask(["call", number, tree], known)

    def ask(self, question: list[Any], known: list[Any] | None = None) -> Any:
        """The other side's answer; its questions in between are answered. Raises what it raises, as a built-in type."""
        self.send(question)
        while (message := self.receive())[0] not in ("value", "error"):
            self.answer(message)
        kind, changed, *rest = message
        known = known or []
        for thing, tree in zip(tuple(known), changed, strict=False):
            fill(thing, tag_of(type(thing)) or "", self.parts(tree, known))
        value = self.decode(rest[0], known)
        if kind == "value":
            return value
        cls = getattr(builtins, rest[1], None)
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            cls = Exception
        try:
            self.last = cls(*value)
        except TypeError:  # one that is made otherwise
            self.last = cls.__new__(cls)
        raise self.last

    def answer(self, question: list[Any]) -> None:
        kind, *rest = question
        known: list[Any] = []
        changed: list[Any] = []
        args: Any = None
        try:
            if kind == "call":
                args = self.decode(rest[1], known)
                value = self.given[rest[0]](*args[0], **args[1])
            elif kind == "next":
                value = next(self.given[rest[0]])
            elif self.names is None:
                raise ValueError(f"the tests do not answer {kind!r}")
            elif kind == "attribute":
                value = getattr(self.given[rest[0]], rest[1])
            elif kind == "name":
                value = self.names[rest[0]]
            else:
                assert self.last is not None
                runner.show(self.last)
                value = sys.stderr.flush()
            reply = ["value"]
        except Gone:
            raise
        except BaseException as error:
            self.last = error
            name = next(c.__name__ for c in type(error).__mro__ if getattr(builtins, c.__name__, None) is c)
            value, reply = error.args, ["error"]
        ids = {id(thing): at for at, thing in enumerate(known)}
        if args is not None and self.encode(args, [], {}) != rest[1]:
            changed = [self.body(thing, tag_of(type(thing)) or "", known, ids) for thing in tuple(known)]
        tree = self.encode(value, known, ids)
        self.send([*reply, changed, tree] if reply == ["value"] else [*reply, changed, tree, name])

    def serve(self, code: Any, folder: str, imports: bytes) -> None:
        """In the program's process: the program, then what the tests import; then answers, until the tests end."""
        module = runner.new_module("solution", folder)
        try:
            exec(code, module.__dict__)
            exec(imports, module.__dict__)
        except BaseException as error:
            runner.show(error)
            sys.stderr.flush()
            os._exit(1)
        self.names = module.__dict__
        try:
            self.send(["ready"])
            while True:
                self.answer(self.receive())
        except Gone:
            os._exit(0)


# --- the two processes ---------------------------------------------------------------------------------------------


def run(
    folder: str, sizes: tuple[int, int, int], keep_code: bool, modules: list[str], become: Callable[[], None]
) -> None:
    """In the process that will run the tests; never returns. `become` gives the program's process what it may have."""
    for name in modules:  # once for both
        with suppress(ImportError):
            __import__(name)
    (asked, asking), (answered, answering) = os.pipe(), os.pipe()
    program = os.fork()
    if program == 0:
        try:
            for fd in (TESTS, asking, answered):
                os.close(fd)
            become()
            runner.run("parted", folder, None, sizes, keep_code, Channel(asked, answering).serve)
        finally:
            os._exit(1)
    # The program must neither interrupt the tests nor choose what they read.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.close(asked)
    os.close(answering)
    run_tests(Channel(answered, asking, program), program)


class Names(dict[str, object]):
    """The tests' names; those of the program's that they may ask for are fetched when they are used."""

    def __init__(self, channel: Channel, asked: list[str], own: dict[str, tuple[str, str]]) -> None:
        super().__init__(__name__="solution", __builtins__=builtins)
        self.channel, self.asked, self.own = channel, asked, own

    def __missing__(self, name: str) -> object:
        if name not in self.asked:
            raise KeyError(name)
        value = self.channel.ask(["name", name])  # a KeyError if the program has none
        if name in self.own:  # the library's, whatever the program has under this name
            module, attribute = self.own[name]
            value = __import__(module, fromlist=["x"])
            value = getattr(value, attribute) if attribute else value
            self[name] = value
        return value

    def attribute(self, name: str) -> object:
        """For `from solution import name`."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def run_tests(channel: Channel, program: int) -> None:
    size = os.fstat(TESTS).st_size
    given = json.loads(os.pread(TESTS, size, 0))
    names = Names(channel, given["asked"], given["own"])
    sys.modules["solution"] = ModuleType("solution")
    sys.modules["solution"].__dict__["__getattr__"] = names.attribute
    try:
        tests = compile(given["tests"], "<tests>", "exec", dont_inherit=True)
        channel.receive()  # that it is ready
        exec(compile(given["preamble"], "<preamble>", "exec", dont_inherit=True), names)
        exec(tests, names)
        channel.ask(["name", "__name__"])  # its end in a call that the tests shield must not go unseen
    except Gone:
        end_as(program)
    except BaseException as error:
        try:
            report(channel, error)
        except Gone:
            end_as(program)
        end(program, 1)
    runner.write_all(given["token"].encode() + b" %d" % os.getpid())
    end(program, 0)


def report(channel: Channel, error: BaseException) -> None:
    if error is channel.last:
        channel.ask(["show"])
        return
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, AssertionError) and line is not None:
        runner.write_all(json.dumps({"failed_line": line}).encode() + b"\n")
    runner.show(error)
    sys.stderr.flush()


def end(program: int, status: int) -> None:
    os.kill(program, signal.SIGKILL)
    os.waitpid(program, 0)
    os._exit(status)


def end_as(program: int) -> None:
    """The program has ended: its end is ours. (One that is ending already keeps its status, whatever signal comes.)"""
    os.kill(program, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    if status < 0:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(max(status, 1) if status < 0 else status)
