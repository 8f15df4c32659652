"""Classification by filling in a word: templates, words for labels, and how records are worded.

`wording` imports no torch; `encoding` needs a tokenizer. May be imported by anything in
`dpft.recipes`.
"""

__all__: list[str] = []
