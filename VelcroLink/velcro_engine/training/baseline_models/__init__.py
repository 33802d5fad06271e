"""What VELCRO is compared with: the networks of the benchmark's baselines and their objectives."""

__all__ = [
    "networks",
    "objective",
    "token_bank",
]
