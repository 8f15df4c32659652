"""Reports of finished runs and merges as HTML, Markdown and JSON, with figures. No torch in here.

Reads what was published and computes nothing from records. What files say twice must agree, else
there is no report. May be imported by recipes, and by `dpft.model_card` for its words.
"""

__all__: list[str] = []
