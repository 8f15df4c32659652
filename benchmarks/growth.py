"""What a private step costs as one thing grows: T, B, the model, the numbers that are trained.

    python -m benchmarks.growth --rounds 10 --threads 1 --out growth.json
    python -m benchmarks.growth --only "T=64 "

As `benchmarks.step`, with two engines: the plain step and ours. LoRA on MiniLM, r = 8, 16 records
of 64 tokens, from which one thing at a time departs; models of other sizes have random weights.
"""

import dataclasses

from benchmarks.cases import Case, Family, Method
from benchmarks.engines import PLAIN
from benchmarks.step import Contest, main

__all__ = ["GROWTH"]

_MIDDLE = Case(Family.MINILM, Method.LORA, 16, 64)
_TOKENS = (16, 32, 128, 256, 512)
_RECORDS = (1, 4, 64, 128)
_SIZES = ((2, 128), (4, 256), (4, 512), (8, 512), (12, 768))  # layers and width
_RANKS = (1, 32, 128, 384)
_GROWN = (
    *({"tokens": tokens} for tokens in _TOKENS),
    *({"records": records} for records in _RECORDS),
    *({"size": size} for size in _SIZES),
    *({"rank": rank} for rank in _RANKS),
    {"method": Method.FULL},
)
GROWTH = Contest(
    "benchmarks.growth",
    (_MIDDLE, *(dataclasses.replace(_MIDDLE, **changed) for changed in _GROWN)),  # type: ignore[arg-type]  # fields of a case
    (PLAIN, "dpft"),
)
"""One departure at a time."""

if __name__ == "__main__":
    main(contest=GROWTH)
