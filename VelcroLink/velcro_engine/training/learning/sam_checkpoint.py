"""SAM and MedSAM checkpoint files as backbone: `velcrolink train --sam vit_b:FILE`.

The files hold nothing but tensors and are read as such (`weights_only`): a checkpoint from elsewhere
can run no code here.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import torch
from segment_anything import sam_model_registry
from torch import nn

from ...errors import InputError, ModelError
from ...model.network_parts import NetworkConfig
from ..recipes.recipe import Recipe


def untrained_sam(kind: str) -> nn.Module:
    """A SAM of a type of `segment_anything.sam_model_registry`, random weights."""
    if kind not in sam_model_registry:
        known = ", ".join(k for k in sam_model_registry if k != "default")
        raise InputError(f"Unknown SAM type '{kind}'; use one of {known}.")
    return sam_model_registry[kind](checkpoint=None)


def open_sam(told: str) -> tuple[str, nn.Module]:
    """(type, model) of "TYPE:FILE".

    Raises InputError for a bad argument, ModelError when the file is no checkpoint of this type.
    """
    kind, colon, file = told.partition(":")
    if not colon or not file:
        raise InputError("Give --sam as TYPE:FILE, e.g. vit_b:sam_vit_b_01ec64.pth.")
    sam = untrained_sam(kind)
    if not Path(file).is_file():
        raise InputError(f"'{file}' does not exist; check --sam.")
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
        sam.load_state_dict(weights)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, TypeError) as error:
        raise ModelError(
            f"'{file}' is not a SAM checkpoint of type {kind}; choose its type and file.",
            repr(error),
        ) from error
    return kind, sam


def sam_recipe(recipe: Recipe, kind: str, sam: nn.Module) -> Recipe:
    """`recipe` with SAM's sizes: its input of 1024 pixels, its decoder; without a dense phase,
    since its encoder comes trained."""
    encoder, decoder = sam.image_encoder, sam.mask_decoder
    layer = decoder.transformer.layers[0]
    network = NetworkConfig(
        backbone=f"sam-{kind}",
        size=int(encoder.img_size),
        width=int(decoder.transformer_dim),
        embedding=recipe.network.embedding,
        heads=int(layer.self_attn.num_heads),
        mlp=int(layer.mlp.lin1.out_features),
        depth=len(decoder.transformer.layers),
    )
    return replace(recipe, network=network, sam=kind, small_size=network.size, dense_steps=0)
