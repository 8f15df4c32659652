"""Inputs near to valid ones: bytes that are flipped, cut and doubled, JSON whose values change."""

import json
from collections.abc import Callable, Sequence
from enum import Enum
from random import Random
from typing import Any

__all__ = ["Form", "mutated"]

_MARK = "@raw@"  # before text that is no JSON value and stands there without quotes
_RAW = ("NaN", "-Infinity", "1e999999", "1" * 5000, "9" * 30, "[" * 70, '{"a":1,"a":2}', "-0")
_VALUES: tuple[Any, ...] = (
    *(f"{_MARK}{raw}" for raw in _RAW),
    *(None, True, False, 0, 1, -1, 0.5, 1e-300, 1e300, 2**31, 2**63, 2**64, -(2**63)),
    *("", "a", "\ud800", "\x00", "\u202e", "../x", "/etc/passwd", "<script>", "{{7*7}}", "${x}"),
    *([], [[]], {}, {"": None}, [None], ["a"], {"a": "b"}),
)
_TOKENS = (
    *(b"\x00", b"\xff", b"\xed\xa0\x80", b"\n", b"\r\n", b'"', b"{", b"}", b"[", b"]", b":", b","),
    *(b"&a ", b"*a", b"<<: ", b"!!python/object:os.system ", b"!!timestamp ", b"${oc.env:HOME}"),
    *(
        b"0b_",
        b"2001-99-99",
        b"1:99:99",
        b"- ",
        b"? ",
        b"| ",
        b"---\n",
        b"%TAG ! a\n",
        b"\\U00110000",
    ),
    *(b"1e999999", b"9" * 400, b"(" * 200, b"[" * 1200, b"../", b"\xef\xbb\xbf", b"_target_"),
)


class Form(str, Enum):
    """What an input looks like, so that changes reach beyond the first check."""

    BYTES = "bytes"
    JSON = "json"
    LINES = "lines"
    """Lines that end in JSON, maybe after a word."""
    FRAMED = "framed"
    """Eight bytes with the length of a JSON text, the text, and more bytes: safetensors."""


def mutated(random: Random, seeds: Sequence[bytes], form: Form) -> bytes:
    """Return an input near to one of the seeds."""
    seed = random.choice(seeds)
    if form is not Form.BYTES and random.random() < 0.75:
        return _STRUCTURED[form](random, seed)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        seed = random.choice(_ON_BYTES)(random, seed, random.choice(seeds))
    return seed


def _flip(random: Random, data: bytes, _: bytes) -> bytes:
    if not data:
        return bytes([random.randrange(256)])
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]


def _truncate(random: Random, data: bytes, _: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _delete(random: Random, data: bytes, _: bytes) -> bytes:
    begin, end = _span(random, data)
    return data[:begin] + data[end:]


def _double(random: Random, data: bytes, _: bytes) -> bytes:
    begin, end = _span(random, data)
    return data[:end] + data[begin:end] * random.choice((1, 1, 50)) + data[end:]


def _insert(random: Random, data: bytes, _: bytes) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + random.choice(_TOKENS) + data[place:]


def _splice(random: Random, data: bytes, other: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def _span(random: Random, data: bytes) -> tuple[int, int]:
    begin = random.randrange(len(data) + 1)
    return begin, min(len(data), begin + random.choice((1, 2, 8, 64)))


_ON_BYTES: tuple[Callable[[Random, bytes, bytes], bytes], ...] = (
    *(_flip, _truncate, _delete, _double, _insert, _splice),
)


def _json(random: Random, seed: bytes) -> bytes:
    try:
        value = json.loads(seed)
    except ValueError:
        return _insert(random, seed, seed)
    for _ in range(random.choice((1, 1, 2, 3))):
        value = _changed(random, value)
    text = json.dumps(value, ensure_ascii=random.random() < 0.8)
    for raw in _RAW:
        text = text.replace(json.dumps(_MARK + raw), raw)
    return text.encode("utf-8", "surrogatepass")


def _lines(random: Random, seed: bytes) -> bytes:
    lines = seed.split(b"\n")
    place = random.randrange(len(lines))
    word, separator, text = lines[place].rpartition(b" " if b" {" in lines[place] else b"\t")
    choice = random.random()
    if choice < 0.1:
        del lines[place]
    elif choice < 0.2:
        lines.insert(random.randrange(len(lines) + 1), lines[place])
    else:
        lines[place] = word + separator + _json(random, text)
    return b"\n".join(lines)


def _framed(random: Random, seed: bytes) -> bytes:
    length = int.from_bytes(seed[:8], "little")
    text = _json(random, seed[8 : 8 + length])
    stated = len(text) if random.random() < 0.95 else random.choice((0, 1, 2**31, 2**64 - 1))
    return stated.to_bytes(8, "little") + text + seed[8 + length :]


_STRUCTURED: dict[Form, Callable[[Random, bytes], bytes]] = {
    Form.JSON: _json,
    Form.LINES: _lines,
    Form.FRAMED: _framed,
}


def _changed(random: Random, value: Any) -> Any:
    """Return a JSON value of which one part, anywhere, is another one."""
    if isinstance(value, list) and value and random.random() < 0.8:
        place = random.randrange(len(value))
        return [*value[:place], *_in_list(random, value, place), *value[place + 1 :]]
    if isinstance(value, dict) and value and random.random() < 0.9:
        return _in_mapping(random, dict(value))
    return random.choice(_VALUES)


def _in_list(random: Random, value: list[Any], place: int) -> list[Any]:
    choice = random.random()
    if choice < 0.1:
        return []
    return [value[place]] * 2 if choice < 0.2 else [_changed(random, value[place])]


def _in_mapping(random: Random, value: dict[str, Any]) -> dict[str, Any]:
    key, other = random.choice(list(value)), random.choice(list(value))
    choice = random.random()
    if choice < 0.08:
        del value[key]
    elif choice < 0.16:
        value[random.choice(("", "x", "\ud800", f"{key}2", "_target_"))] = value[key]
    elif choice < 0.3:
        value[key], value[other] = value[other], value[key]
    else:
        value[key] = _changed(random, value[key])
    return value
