"""What the page on metrics takes for granted: texts, and references of each."""

predictions = ["a cheap pub", "a quiet hotel by the river"]
references = [["a cheap pub", "a pub that is cheap"], ["a quiet hotel near the river"]]
