"""Making models: data, losses, trainer, baselines, evaluation, export. Needs torch."""

__all__ = [
    "commands",
    "data",
]
