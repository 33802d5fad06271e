"""`velcrolink evaluate --task retrieval | grounding`: the doors; the measuring is beside them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .grounding_evaluation import evaluate_grounding as _grounding
from .retrieval_evaluation import evaluate_retrieval as _retrieval


def evaluate_retrieval(args: argparse.Namespace, folder: Path, progress: Any) -> dict[str, Any]:
    """Regions find regions, with and without the condition on their place."""
    return _retrieval(args, folder, progress)


def evaluate_grounding(args: argparse.Namespace, folder: Path, progress: Any) -> dict[str, Any]:
    """Phrases find regions; phrases of what is not there find nothing."""
    return _grounding(args, folder, progress)
