"""What a training run does, as data: the recipe's keys and the JSON files that fill them."""

__all__ = [
    "recipe",
]
