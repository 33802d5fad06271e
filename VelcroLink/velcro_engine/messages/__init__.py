"""What is spoken between panel, worker and engine: requests, answers, frames, and the few rules
that both sides must agree on. Imports numpy and nothing else of weight.
"""

__all__ = [
    "addresses",
    "head_cuts",
    "propagation",
    "protocol",
    "request",
    "result",
]
