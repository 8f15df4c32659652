"""Records of the lengths of SST-2, for measuring records per second.

With `$DPFT_ASSETS` the sentences of the training file under MiniLM's tokenizer; without it random
tokens, 2 + a log-normal number of them (fitted to these sentences: mean 2.07 and deviation 0.89 of
the logarithm), at most 66 as there.
"""

from typing import Any

import numpy as np

from benchmarks.cases import assets
from dpft.records import EncodingSettings, encode

__all__ = ["drawn_records", "sst2_records"]

_RECORDS = 67_349
_LOG_MEAN, _LOG_STD, _SHORTEST, _LONGEST = 2.07, 0.89, 2, 66
_SPECIAL = 2  # a token opens and a token closes every sentence


def sst2_records() -> list[dict[str, Any]]:
    """Return the encoded training records of SST-2, or records drawn to their lengths.

    Privacy:
        Nothing private: a public data set, and nothing of it is released.
    """
    folder = assets()
    if folder is None:
        return drawn_records(_RECORDS, vocabulary=30_522)
    import pyarrow.parquet
    from transformers import AutoTokenizer

    columns = ["sentence", "label"]
    path = folder / "data" / "glue" / "sst2" / "train.parquet"
    rows = pyarrow.parquet.read_table(path, columns=columns).to_pylist()
    tokenizer = AutoTokenizer.from_pretrained(folder / "models" / "minilm-l6")
    return encode(rows, tokenizer, EncodingSettings(text_field="sentence"))


def drawn_records(count: int, vocabulary: int) -> list[dict[str, Any]]:
    """Return records of random tokens and labels, their lengths drawn as stated above.

    Args:
        count: Number of records, >= 1.
        vocabulary: Number of tokens to draw from, >= 1.

    Privacy:
        Nothing, no data touched.
    """
    random = np.random.default_rng(0)
    words = np.exp(random.normal(_LOG_MEAN, _LOG_STD, count)).astype(int)
    lengths = np.clip(_SPECIAL + words, _SHORTEST, _LONGEST)
    return [
        {
            "input_ids": random.integers(vocabulary, size=length).tolist(),
            "token_type_ids": [0] * length,
            "attention_mask": [1] * length,
            "labels": int(random.integers(2)),
        }
        for length in lengths.tolist()
    ]
