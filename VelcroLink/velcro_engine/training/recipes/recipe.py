"""What a training run does, as data; the JSON files beside this one are recipes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import ModelError
from ...model.network_parts import NetworkConfig

RECIPES = Path(__file__).parent


@dataclass(frozen=True)
class Recipe:
    """Every setting of a run, with its default."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    steps: int = 12000
    dense_steps: int = 5000
    batch: int = 8
    prompts: int = 5
    learning_rate: float = 1.5e-3
    joint_learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 200
    ema: float = 0.998
    seed: int = 42
    small_size: int = 192  # pictures are this large until the last `fine_steps`
    fine_steps: int = 500
    finish_steps: int = 0  # the last ones, with the encoder at rest (learning/finishing.py)
    dataset_weights: dict[str, float] = field(default_factory=dict)
    medtrim: float = 0.0  # weight of MedTrim's triplets of regions (losses/alignment_objectives.py)
    location_contrast: float = 0.0  # weight of RRA-VL's contrast within a place
    sam: str = ""  # type of a SAM checkpoint that is the backbone, e.g. "vit_b"
    keep: float = (
        0.0  # weight of staying what the start was, when adapting (learning/adaptation.py)
    )
    mix: float = 1.0  # share of the adapted weights in what is exported, the rest is the start's
    baseline: str = ""  # name of a baseline of the benchmark; "" trains VELCRO
    position: bool = False  # whether the clip-* baselines read the position map
    crop: int = 112  # pixels along the square crop of clip-crop
    bank: int = 12000  # regions that sam-token-knn compares with
    left_out: list[str] = field(default_factory=list)  # entities whose labels count as unlabelled

    @classmethod
    def from_file(cls, path: Path) -> Recipe:
        """Read a recipe. Raises ModelError when a key is unknown or the file is not JSON."""
        try:
            raw = json.loads(Path(path).read_text(encoding="utf-8"))
            network = NetworkConfig(**raw.pop("network", {}))
            return cls(network=network, **raw)
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"Cannot read the training recipe {path}.", repr(error)) from error
