"""Report text: what it says, the triplets and embeddings made of it."""

__all__ = [
    "language",
    "meta_entities",
    "text_embedding",
    "triplets",
]
