"""Choices, one YAML file each; no code in here."""

__all__: list[str] = []
