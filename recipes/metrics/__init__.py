"""Metrics of held-out records, and what each of them costs."""

__all__: list[str] = []
