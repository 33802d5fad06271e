"""The process behind the panel and one handler a request: `python -m velcro_engine.worker`."""

__all__ = [
    "process",
]
