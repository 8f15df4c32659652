"""Bridges to other libraries: one module each, imported on demand and by nobody else.

A bridge may import everything but the recipes, and is the only place that imports its library.
"""

__all__: list[str] = []
