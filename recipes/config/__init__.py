"""Configuration of the command line: classes in `schema`, choices in `conf`, joined by `store`."""

__all__: list[str] = []
