"""A trained network and text tower -> a model folder for ONNX Runtime.

Weights are stored as int8 with one scale a channel and widened to float32 when the graph is loaded:
a quarter of the size, the same speed, and answers that differ by less than the development split
can tell (the parity test measures it).
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from .network import Encoded, VelcroNetwork
from .preprocess import MAXIMUM_POINTS, NO_POINT, POSITION_CHANNELS, STRIDE
from .text_tower import TextGraph, TextTower

OPSET = 17
SMALLEST_QUANTISED = 2048


def map_names(network: VelcroNetwork) -> tuple[str, ...]:
    """What a slice leaves for the decoder: SAM's backbone has no fine maps."""
    if network.pixel_head is None:
        return ("embedding",)
    return "embedding", "fine4", "fine2", "pixels", "posterior"


class EncoderGraph(nn.Module):
    """image, position -> the maps of `map_names`, dense, dense_side."""

    def __init__(self, network: VelcroNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, position: Tensor) -> tuple[Tensor, ...]:
        encoded = self.network.encode(image, position)
        dense, side = self.network.dense(encoded)
        maps = [getattr(encoded, name) for name in map_names(self.network)]
        return *maps, dense, side


class DecoderGraph(nn.Module):
    """One slice, N prompts -> masks, iou, roi embedding, side."""

    def __init__(self, network: VelcroNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        *maps, points, labels = given
        n = points.shape[0]
        embedding, *fine = (x.expand(n, -1, -1, -1) for x in maps[:3])
        rows = Encoded(embedding, *fine, *maps[3:]) if fine else Encoded(embedding, None, None)
        out = self.network.decode(rows, points, labels)
        return out.masks, out.iou, out.embedding, out.side


def _export(
    module: nn.Module,
    inputs: tuple,
    path: Path,
    names: Sequence[str],
    outs: Sequence[str],
    dynamic: dict[str, dict[int, str]] | None = None,
) -> None:
    """Write a graph whose weights keep their names in torch, so that training can start from it
    (`training/learning/bundled_weights.py`). Nothing is fused or folded here; ONNX Runtime does both when it
    loads a graph."""
    module.eval()
    # only the wrapper: otherwise weights of equal values would be merged and lose their names
    module.training = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            inputs,
            str(path),
            input_names=list(names),
            output_names=list(outs),
            dynamic_axes=dynamic,
            opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamo=False,
        )
    module.eval()


def export_network(network: VelcroNetwork, folder: Path) -> None:
    """Write encoder.onnx and decoder.onnx (float32) into `folder`."""
    network = network.eval().float().to("cpu")
    size = network.config.size
    image = torch.zeros(1, 1, size, size)
    position = torch.zeros(1, POSITION_CHANNELS, size // STRIDE, size // STRIDE)
    _export(
        EncoderGraph(network),
        (image, position),
        folder / "encoder.onnx",
        ("image", "position"),
        (*map_names(network), "dense", "dense_side"),
    )
    with torch.no_grad():
        encoded = EncoderGraph(network)(image, position)
    points = torch.rand(2, MAXIMUM_POINTS, 2) * size
    labels = torch.full((2, MAXIMUM_POINTS), float(NO_POINT))
    labels[:, 0], labels[:, 1] = 2, 3
    outs = ("masks", "iou", "roi", "side")
    _export(
        DecoderGraph(network),
        (*encoded[:-2], points, labels),
        folder / "decoder.onnx",
        (*map_names(network), "points", "labels"),
        outs,
        {name: {0: "n"} for name in ("points", "labels", *outs)},
    )


def export_text(tower: TextTower, folder: Path) -> None:
    """Write text.onnx (float32) into `folder`."""
    tower = tower.eval().float().to("cpu")
    tokens = torch.randint(1, tower.config.vocabulary - 2, (2, 12))
    tokens[:, -1] = tower.config.vocabulary - 1
    _export(
        TextGraph(tower),
        (tokens,),
        folder / "text.onnx",
        ("tokens",),
        ("embedding",),
        {"tokens": {0: "n", 1: "length"}, "embedding": {0: "n"}},
    )


def shrink_weights(path: Path) -> None:
    """Rewrite a graph's large float32 weights as int8 x scale a channel, the rest as they are."""
    model = onnx.load(str(path))
    graph = model.graph
    nodes, keep = [], []
    for tensor in list(graph.initializer):
        array = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or array.size < SMALLEST_QUANTISED:
            keep.append(tensor)
            continue
        if array.ndim < 2:
            keep.append(tensor)
            continue
        stored, scale = _quantise(array)
        name = tensor.name
        keep.append(numpy_helper.from_array(stored, name + ".int8"))
        keep.append(numpy_helper.from_array(scale, name + ".scale"))
        nodes.append(
            helper.make_node("Cast", [name + ".int8"], [name + ".wide"], to=TensorProto.FLOAT)
        )
        nodes.append(helper.make_node("Mul", [name + ".wide", name + ".scale"], [name]))
    del graph.initializer[:]
    graph.initializer.extend(keep)
    old = list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes + old)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _quantise(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 along the axis that loses least: (int8, scale broadcastable to it)."""
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for axis in range(min(array.ndim, 2)) if array.ndim != 3 else range(3):
        others = tuple(a for a in range(array.ndim) if a != axis)
        scale = np.maximum(np.abs(array).max(axis=others, keepdims=True), 1e-12) / 127.0
        scale = scale.astype(np.float32)
        stored = np.clip(np.rint(array / scale), -127, 127).astype(np.int8)
        error = float(((stored * scale - array) ** 2).mean())
        if best is None or error < best[0]:
            best = error, stored, scale
    assert best is not None
    return best[1], best[2]


def write_model_folder(
    folder: Path,
    network: VelcroNetwork,
    tower: TextTower,
    vocabulary: Path,
    *,
    name: str,
    version: str,
    calibration: dict[str, float],
    nothing: np.ndarray | None,
    extra: dict[str, Any] | None = None,
) -> None:
    """Export everything and write config.json last, so that a folder with one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    export_network(network, folder)
    export_text(tower, folder)
    for part in ("encoder", "decoder", "text"):
        shrink_weights(folder / f"{part}.onnx")
    target = folder / "vocabulary.txt.gz"
    if vocabulary.resolve() != target.resolve():
        target.write_bytes(vocabulary.read_bytes())
    config = {
        "schema_version": 1,
        "name": name,
        "version": version,
        "runtime": "onnx",
        "size": network.config.size,
        "embedding": network.config.embedding,
        "context_length": tower.config.context_length,
        "network": network.config.as_dict(),
        "text": tower.config.as_dict(),
        "calibration": calibration,
        "nothing": None if nothing is None else [round(float(v), 6) for v in nothing],
        **(extra or {}),
    }
    write_config(folder, config)


ROLES = {
    "encoder": "encoder.onnx",
    "decoder": "decoder.onnx",
    "text": "text.onnx",
    "vocabulary": "vocabulary.txt.gz",
    "entry_embeddings": "entry_embeddings.npz",
}


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write config.json with the checksums of the files that are there, atomically."""
    files = {
        role: {"name": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}
        for role, name in ROLES.items()
        if (folder / name).is_file()
    }
    text = json.dumps({**config, "files": files}, indent=1) + "\n"
    (folder / "config.json.new").write_text(text, encoding="utf-8")
    os.replace(folder / "config.json.new", folder / "config.json")
