"""How a layer stores its weight, which decides what adds to it as it is and what transposed."""

from enum import Enum

__all__ = ["Layout"]


class Layout(str, Enum):
    """The kind of layer that a matrix belongs to."""

    LINEAR = "linear"
    """[outputs, inputs], as in torch.nn.Linear."""
    CONV1D = "conv1d"
    """[inputs, outputs], as in GPT-2."""
    EMBEDDING = "embedding"
    """[words, width]: an embedding is a linear layer on one-hot words, stored transposed."""
    UNKNOWN = "unknown"
    """Not recorded, or no matrix: it can be added where it lies, and not be factored."""

    @property
    def is_transposed(self) -> bool:
        """Whether the weight is stored as [inputs, outputs]."""
        return self in {Layout.CONV1D, Layout.EMBEDDING}
