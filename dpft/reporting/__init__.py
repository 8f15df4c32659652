"""The report of a finished run as HTML, Markdown and JSON, with figures. No torch in here.

Reads what the run published and computes nothing from records. What the files of a run say twice
must agree, else there is no report. May be imported by recipes.
"""

__all__: list[str] = []
