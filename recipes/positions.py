"""Whether a model has as many positions as records may have tokens. No torch in here."""

from dpft.errors import ConfigurationError
from dpft.recipes.base_models import stored_config

__all__ = ["refuse_missing_positions"]

# Their positions are counted from one beyond the padding token.
_COUNTED_FROM_PADDING = {"camembert", "roberta", "xlm-roberta"}
_FIELDS = ("max_position_embeddings", "n_positions")


def refuse_missing_positions(
    base_model: str, max_length: int, *, soft: int = 0, written: int = 0
) -> None:
    """Raise if records may be longer than the model has positions.

    Args:
        base_model: Name of the base model; one that cannot be found is left to its loading.
        max_length: Most tokens of a record.
        soft: Positions of a soft prompt before it.
        written: Most tokens that are written after it; an encoder-decoder writes them elsewhere.

    Raises:
        ConfigurationError: If the configuration states fewer positions, and they are learnt or
            were all that it was trained on.

    Privacy:
        Nothing, no data touched.
    """
    try:
        config = stored_config(base_model)
    except (OSError, ValueError):
        return
    if config.model_type in {"mt5", "t5", "umt5"}:  # relative positions have no end
        return
    stated = [getattr(config, field, None) for field in _FIELDS]
    taken = soft + (0 if config.is_encoder_decoder else written)
    if config.model_type in _COUNTED_FROM_PADDING:
        taken += (config.pad_token_id or 0) + 1
    most = min((number for number in stated if isinstance(number, int)), default=max_length + taken)
    if max_length > most - taken:
        raise ConfigurationError(
            f"Expected architecture.max_length={max_length} <= {most - taken}, the positions of "
            f"model={base_model}{_less(soft, written)}. Longer records would fail, or be read as "
            "never trained. Lower it."
        )


def _less(soft: int, written: int) -> str:
    taken = {"adapter.num_virtual_tokens": soft, "generation.max_new_tokens": written}
    return "".join(f" less {name}={number}" for name, number in taken.items() if number)
