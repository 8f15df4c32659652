"""Benchmarks: committed scripts that print tables of ratios, never bare times.

Run from the root of a checkout: `python -m benchmarks.step`, `.epoch`, `.forms`. Contenders take
turns in one process, so that a busy machine slows all of them; imported by nobody.
"""

__all__: list[str] = []
