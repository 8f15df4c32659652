"""Settings of beam search. No torch in here."""

from typing import Annotated

from pydantic import Field

from dpft.configuration import validated

__all__ = ["Generation"]


@validated
class Generation:
    """How texts are written for held-out tables.

    Args:
        beams: Number of beams, >= 1; 1 takes the likeliest token each time.
        length_penalty: Exponent of the length that a text's log-probability is divided by.
        no_repeat_ngram: Length of the runs of tokens that occur once in a text; 0 rules out none.
        max_new_tokens: Longest text in tokens.
        batch_size: Tables at a time; a knob of speed alone.

    Privacy:
        Nothing, no data touched.

    References:
        The defaults are those of Yu et al. 2022 (2110.06500) and Hu et al. 2022 (2106.09685) for
        E2E and DART: beam 10, length penalty 0.8, no repeated 4-gram, at most 64 tokens.
    """

    beams: Annotated[int, Field(ge=1)] = 10
    length_penalty: Annotated[float, Field(ge=0)] = 0.8
    no_repeat_ngram: Annotated[int, Field(ge=0)] = 4
    max_new_tokens: Annotated[int, Field(ge=1)] = 64
    batch_size: Annotated[int, Field(ge=1)] = 16
