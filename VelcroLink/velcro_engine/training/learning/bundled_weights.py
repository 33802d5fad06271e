"""A model folder -> network, entity table and text tower in torch, to go on training with.

A model folder holds its weights once, as int8 with a scale a channel in the ONNX graphs; they are
widened here. `model/export.py` keeps the names that the weights have in torch. Rounding to int8 is
lost: what training goes on with answers as the folder does, not as the run it was exported from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor, nn

from ...errors import ModelError
from ...model.folder import ModelFolder, model_folder
from ...model.network import VelcroNetwork
from ...model.network_parts import NetworkConfig
from ...model.text_tokenizer import TextTokenizer
from ...model.text_tower import TextConfig, TextTower
from ..losses.objectives import EntityTable


@dataclass
class BundledModel:
    """entities: in the order of the table's rows, which end with "nothing". trained: those that
    images showed. vocabulary: file of the tower's tokenizer."""

    folder: ModelFolder
    network: VelcroNetwork
    table: EntityTable
    entities: list[str]
    trained: frozenset[str]
    tower: TextTower
    tokenizer: TextTokenizer
    vocabulary: Path


def read_bundled_model(model: str | None = None) -> BundledModel:
    """Read a model folder (None or "bundled": the one that ships).

    Raises ModelError when it is damaged, or of an older export that lacks the weights' names.
    """
    folder = model_folder(model)
    entities = folder.config.get("entities")
    if not isinstance(entities, list) or folder.config.get("sam"):
        raise _not_a_start(folder, "it names no entities or has a SAM backbone")
    try:
        config = NetworkConfig(**folder.config["network"])
        text = TextConfig(**folder.config["text"])
        weights = _weights(folder.files["encoder"]) | _weights(folder.files["decoder"])
        network = VelcroNetwork(config, None, len(entities))
        _fill(network, weights, "network.", folder)
        tower = TextTower(text)
        _fill(tower, _weights(folder.files["text"]), "tower.", folder)
        tokenizer = TextTokenizer.from_file(folder.files["vocabulary"], text.context_length)
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, DecodeError) as error:
        raise _not_a_start(folder, repr(error)) from error
    table = _table(network.prototypes, config.embedding, folder)
    trained = frozenset(map(str, folder.config.get("trained_entities", entities)))
    names = [str(e) for e in entities]
    vocabulary = folder.files["vocabulary"]
    return BundledModel(folder, network, table, names, trained, tower.eval(), tokenizer, vocabulary)


def _not_a_start(folder: ModelFolder, detail: str) -> ModelError:
    return ModelError(
        f"'{folder.path}' cannot be trained further (an older or another export); export its run "
        "again with this version, or start from the run folder.",
        detail,
    )


def _weights(path: Path) -> dict[str, np.ndarray]:
    """Initializers of a graph by name, those stored as int8 widened to float32."""
    stored = {t.name: t for t in onnx.load(str(path)).graph.initializer}
    found: dict[str, np.ndarray] = {}
    for name, tensor in stored.items():
        if name.endswith(".int8"):
            bare = name.removesuffix(".int8")
            scale = numpy_helper.to_array(stored[bare + ".scale"])
            found[bare] = numpy_helper.to_array(tensor).astype(np.float32) * scale
        elif not name.endswith(".scale") or name.removesuffix(".scale") + ".int8" not in stored:
            found[name] = numpy_helper.to_array(tensor)
    return found


def _fill(module: nn.Module, weights: dict[str, Any], prefix: str, folder: ModelFolder) -> None:
    """Load the weights that inference uses. What no graph holds is a counter of batches, or not
    part of the network's answers."""
    own = module.state_dict()
    given: dict[str, Tensor] = {}
    missing = []
    for name, value in own.items():
        array = weights.get(prefix + name)
        if array is not None and tuple(array.shape) == tuple(value.shape):
            given[name] = torch.from_numpy(np.array(array)).to(value.dtype)
        elif not name.endswith("num_batches_tracked"):
            missing.append(name)
    if missing:
        raise _not_a_start(folder, f"lacks {', '.join(missing[:5])} ({len(missing)} in all)")
    module.load_state_dict(given, strict=False)


def _table(prototypes: Tensor, embedding: int, folder: ModelFolder) -> EntityTable:
    """The table whose scaled vectors are the prototypes: (entities + 1) x D of one length."""
    length = prototypes.norm(dim=1)
    scale = float(length.median())
    if not (math.isfinite(scale) and scale > 0) or not torch.isfinite(prototypes).all():
        raise _not_a_start(folder, "its prototypes are empty")
    table = EntityTable(len(prototypes) - 1, embedding)
    with torch.no_grad():
        table.vectors.copy_(prototypes / length.clamp(min=1e-6)[:, None])
        table.log_scale.fill_(math.log(scale))
    return table
