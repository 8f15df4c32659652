"""Scripts that other libraries run in environments of their own. They import nothing of ours."""

__all__: list[str] = []
