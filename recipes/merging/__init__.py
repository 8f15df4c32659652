"""What `dpft merge` does: reads an expression or a configuration, checks it, and carries it out."""

__all__: list[str] = []
