"""The training loop: state, checkpoints, phases, adaptation, the text side."""

__all__ = [
    "adaptation",
    "bundled_weights",
    "checkpoints",
    "distributed",
    "report_alignment",
    "sam_checkpoint",
    "text_training",
    "trainer",
    "training_state",
    "velcro_loss",
]
