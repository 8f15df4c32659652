"""From records, epsilon and hardware to a run: what `dpft plan` computes. No torch in here."""

__all__: list[str] = []
