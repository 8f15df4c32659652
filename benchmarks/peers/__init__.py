"""Other libraries: what lets older ones run here, and scripts for environments of their own."""

__all__: list[str] = []
