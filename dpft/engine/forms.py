"""Which form of a per-record gradient is cheaper at one site, for one batch.

Shapes: B records, N terms a record, a matrix [P, D].
"""

__all__ = ["ghost_is_cheaper"]

# Both from benchmarks/forms.py on two cores with AVX2; the table stands in docs/engine.md. Small
# matrices stay in the cache, where the product costs little more than its operations; for large
# ones the traffic of B P D entries outweighs some hundred operations an entry.
_SMALL = 2**15
_THRESHOLD = 128


def ghost_is_cheaper(terms: int, rows: int, columns: int) -> bool:
    """Tell whether the ghost norm costs less than instantiating the gradients in full.

    Instantiating takes 2 B N P D operations and writes, keeps and reads B P D entries; the ghost
    norm takes 2 B N^2 (P + D) operations, keeps B N (P + D) entries, and forms the clipped sum by
    2 B N P D operations in one large product.

    Args:
        terms: Terms a record N, >= 0.
        rows: P, >= 1.
        columns: D, >= 1.

    Returns:
        True if the matrix is not small and N^2 (P + D) is less than 128 P D.

    Privacy:
        Sizes only; both forms give the same contribution
        (`tests/dpft/engine/test_forms.py`).

    References:
        Bu et al. 2022 (2205.10683), section 3.2 compares 2 N^2 with P D, which counts memory only.
    """
    entries = rows * columns
    return entries > _SMALL and terms * terms * (rows + columns) < _THRESHOLD * entries
