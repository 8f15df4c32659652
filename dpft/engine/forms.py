"""Which form of a per-record gradient is cheaper at one parameter, for one batch.

Shapes: B records, N terms a record, a matrix [P, D]. There are three:

- full: every record's gradient is formed once, and kept until the clipped sum.
- Gram: the norm from inner products of all pairs of terms; the clipped sum in one large product.
- chunked: the norm from gradients that are formed for a few records at a time and dropped; the
  clipped sum as before.

The two that keep no gradient are called ghosts. Counts are of multiplications a record.
"""

__all__ = ["ghost_is_cheaper", "gram_is_cheaper"]

# Both from benchmarks/forms.py on two cores with AVX2; the table stands in docs/engine.md. Small
# matrices stay in the cache, where the product costs little more than its operations; for large
# ones the traffic of B P D entries outweighs some hundred operations an entry.
_SMALL = 2**15
_THRESHOLD = 128
_MAX_FULL = 2**24  # entries of one parameter's gradients in full; 64 MiB in float32


def ghost_is_cheaper(products: int, shape: tuple[int, int], batch_size: int) -> bool:
    """Tell whether a ghost costs less than gradients in full, or would have to be taken anyway.

    Instantiating takes N P D multiplications and writes, keeps and reads P D entries; Gram takes
    `products` and forms the clipped sum by N P D multiplications in one large product.

    Args:
        products: Multiplications that the Gram matrices of all sites take, about N^2 (P + D).
        shape: (P, D), each >= 1.
        batch_size: B, >= 1.

    Returns:
        True if the gradients in full exceed their share of memory, or if the matrix is not small
        and `products` is less than 128 P D.

    Privacy:
        Sizes only; all forms give the same contribution
        (`tests/dpft/engine/test_forms.py`).

    References:
        Bu et al. 2022 (2205.10683), section 3.2 compares 2 N^2 with P D, which counts memory only.
    """
    entries = shape[0] * shape[1]
    if entries <= _SMALL:
        return False
    return batch_size * entries > _MAX_FULL or products < _THRESHOLD * entries


def gram_is_cheaper(products: int, terms: int, shape: tuple[int, int]) -> bool:
    """Tell which ghost takes the norm: Gram, or gradients of a few records at a time.

    Args:
        products: Multiplications that the Gram matrices of all sites take.
        terms: Terms N of all sites together.
        shape: (P, D), each >= 1.

    Returns:
        True if `products` is less than (N + 64) P D.

    Privacy:
        Sizes only (`tests/dpft/engine/test_forms.py`).
    """
    return products < (terms + _THRESHOLD // 2) * shape[0] * shape[1]
