"""Making models: data, augmentation, losses, trainer, baselines, evaluation, export. Needs torch."""
