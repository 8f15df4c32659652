"""Text from a table or an instruction: encoding, beam search, and scoring against references.

May be imported by anything in `dpft.recipes`.
"""

__all__: list[str] = []
