"""VELCRO: slice and prompt in, mask and region embedding out; text tower beside it.

ONNX Runtime runs the bundled model; torch is needed only to make one (`network`, `export`).
"""

__all__ = [
    "export",
    "folder",
    "network",
    "network_parts",
    "opening",
    "preprocess",
    "runtime",
    "text_tokenizer",
    "text_tower",
]
