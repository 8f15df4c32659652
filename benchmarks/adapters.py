"""One training step of every adapter: time and memory against the same adapter without privacy.

    python -m benchmarks.adapters --rounds 10 --threads 1 --out adapters.json

As `benchmarks.step`, with two engines: the plain step and ours.
"""

from benchmarks.cases import Case, Family, Method
from benchmarks.engines import PLAIN
from benchmarks.step import Contest, main

__all__ = ["ADAPTERS"]

_SHAPES = {Family.MINILM: (32, 128), Family.GPT2: (16, 128)}
ADAPTERS = Contest(
    "benchmarks.adapters",
    tuple(
        Case(family, method, *shape)
        for family, shape in _SHAPES.items()
        for method in Method
        if method not in (Method.FULL, Method.TIED_HEAD)
    ),
    (PLAIN, "dpft"),
)
"""Every adapter on both architectures."""

if __name__ == "__main__":
    main(contest=ADAPTERS)
