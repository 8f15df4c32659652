"""Task arithmetic on real data: addition, forgetting by negation, analogy.

Runs with and without privacy, and evaluations; the arithmetic itself is `dpft.taskvectors`. The
command is `python -m benchmarks.editing`.
"""

__all__: list[str] = []
