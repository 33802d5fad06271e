"""How radiology reports are worded: cleaning, sentences, terms, negation, qualifiers.

`meta_entities` is the door to this package; its vocabulary lies in `data/` as JSON and CSV.
"""
