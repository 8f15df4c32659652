"""What is known of a merge, forecast or done: for the console, as JSON, for the model card."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Summary"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """A merge in public words and numbers.

    Args:
        expression: Coefficients by name of the adapter.
        method: The method.
        parameters: Its settings.
        family: Kind of adapter.
        base: Name of the base model; may be empty.
        base_digest: Its digest, if it is known.
        epsilon: Of the result; infinite if a run has no bound.
        delta: At which.
        unit: Whose data is protected.
        runs: Names of the runs behind the result.
        binding: Names of those whose sum epsilon is.
        exact: Whether the result is the weighted sum itself, up to the rounding of its type.
        ranks: Smallest and largest rank of a matrix; None without matrices.
        modules: Number of places that are changed.
        tensor_bytes: Bytes of the tensors; an upper bound if a tolerance decides the ranks.
        error: Relative error of the compression, all matrices together; None without or before.
        errors: By matrix.
        notes: What is left to say.

    Privacy:
        Nothing, no data touched: released weights and public numbers.
    """

    expression: Mapping[str, str]
    method: str
    parameters: Mapping[str, object]
    family: str
    base: str
    base_digest: str | None
    epsilon: float
    delta: float
    unit: str
    runs: Sequence[str]
    binding: Sequence[str]
    exact: bool
    ranks: tuple[int, int] | None
    modules: int
    tensor_bytes: int
    error: float | None = None
    errors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; infinity becomes null.

        Privacy:
            Nothing, no data touched.
        """
        fields = dataclasses.asdict(self)
        return fields | {"epsilon": self.epsilon if math.isfinite(self.epsilon) else None}
