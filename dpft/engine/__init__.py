"""The clipping engine: per-record gradients by intercepting where parameters meet records.

Internal to `dpft`; the public doors are `dpft.fit`, `dpft.PrivateStep` and
`dpft.per_record_gradients`.
"""

__all__: list[str] = []
