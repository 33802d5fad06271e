"""The benchmark's baselines: `velcrolink train | evaluate --baseline NAME`.

A run folder holds the trainer's checkpoint and `text_model`, a copy of the model folder whose text
side the baseline was trained against, so that it can be measured on any knowledge base later.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import InputError
from ...imaging.volume import Volume
from ...linking.linker import Linker, open_linker
from ...linking.ranking import entry_probabilities
from ...messages.request import SliceRequest
from ...model.folder import model_folder
from ...model.network import Encoded, VelcroNetwork
from ...model.preprocess import Letterbox, model_input
from ..baseline_models.networks import BASELINES, Slices
from ..baseline_models.token_bank import BANK, mask_tokens, read_bank, shares_over_entries
from ..data.case_data import MODALITY_NUMBERS
from ..learning.checkpoints import load_checkpoint
from ..learning.training_state import TrainingState, new_state
from ..recipes.recipe import Recipe
from .link_evaluation import Answers, Row, measure_cases, stacked_prompts

TEXT_MODEL = "text_model"


def new_baseline(
    name: str,
    recipe: Recipe,
    entities: list[str],
    out: Path,
    text_model: str | None,
    knowledge_bases: Sequence[str | Path] | None,
    device: str,
) -> tuple[TrainingState, Recipe]:
    """Untrained baseline; its text side, the entry embeddings of `text_model`, is put into `out`.

    Raises InputError for an unknown name, entities without entry, or a recipe of another embedding.
    """
    if name not in BASELINES:
        raise InputError(f"Unknown baseline '{name}'; use one of {', '.join(BASELINES)}.")
    source = model_folder(text_model)
    target = out / TEXT_MODEL
    if not (target / "config.json").is_file():
        target.mkdir(parents=True, exist_ok=True)
        for path in (*source.files.values(), source.path / "config.json"):  # config last
            shutil.copyfile(path, target / path.name)
    linker = open_linker(target, knowledge_bases, examples=False)
    number = {entry.id: n for n, entry in enumerate(linker.knowledge_base.entries)}
    missing = [e for e in entities if e not in number]
    if missing:
        raise InputError(f"The knowledge base has no entry for {', '.join(missing[:5])}.")
    if linker.embeddings.shape[1] != recipe.network.embedding:
        raise InputError(
            f"The text side has {linker.embeddings.shape[1]} dimensions, the recipe "
            f"{recipe.network.embedding}; use a recipe of the same size."
        )
    # the dense phase is VELCRO's; the others learn from prompts all the time
    dense_steps = recipe.dense_steps if name == "velcro" else 0
    recipe = replace(recipe, baseline=name, dense_steps=dense_steps)
    state = new_state(recipe, entities, device)
    nothing = linker.runtime.nothing
    vectors = [linker.embeddings[number[e]] for e in entities]
    vectors.append(np.zeros_like(vectors[0]) if nothing is None else nothing)
    with torch.no_grad():
        for table in (state.table, state.average_table):
            table.vectors.copy_(torch.from_numpy(np.stack(vectors)))
    return state, recipe


def start_encoder(state: TrainingState, trained: VelcroNetwork) -> None:
    """Give a baseline VELCRO's trained encoder to go on from: backbone, and for VELCRO's own
    network the neck too. It then had all the time VELCRO had, and its own besides.

    Raises InputError for a baseline that reads no picture, or has another backbone.
    """
    own = getattr(state.network, "encoder", None)
    if own is None:
        raise InputError("This baseline reads no picture; it has no encoder to start from.")
    same = type(own) is type(trained.encoder)
    source = trained.encoder if same else trained.encoder.backbone
    for network in (state.network, state.average):
        target = network.encoder if same else network.encoder.backbone
        try:
            target.load_state_dict(source.state_dict())
        except RuntimeError as error:
            raise InputError(
                "The recipe's backbone is not the model's; use a recipe of the same one.",
                repr(error),
            ) from error


def baseline_run(name: str, model: str | None) -> Path:
    """Run folder of a baseline: `model` itself, or the folder `name` in it.

    Raises InputError when there is none.
    """
    for folder in (Path(model or "."), Path(model or ".") / name):
        if (folder / "state.json").is_file() and (folder / TEXT_MODEL).is_dir():
            return folder
    raise InputError(
        f"No trained baseline in '{model or '.'}'; give its run folder with --model (made by "
        f"velcrolink train --baseline {name} --out RUN)."
    )


class Baseline:
    """A trained baseline that answers as a linker does (`link_evaluation.Answerer`)."""

    side_margin = 0.5

    def __init__(self, linker: Linker, state: TrainingState, recipe: Recipe) -> None:
        self.linker = linker
        self.knowledge_base = linker.knowledge_base
        self.size = recipe.network.size
        self.state = state
        self.network = state.average.eval()
        self.temperature = float(torch.exp(-state.average_table.log_scale.detach()))

    def prepared(self, volume: Volume) -> Volume:
        """As it is."""
        return volume

    def encode(self, request: SliceRequest, box: Letterbox) -> tuple[Slices, Any]:
        """The slice as tensors and what the network makes of it."""
        made = model_input(request, self.size, box)
        if request.pixel_to_ras is None:
            kind = "picture"
        else:
            kind = "CT" if request.modality == "CT" else "MR"
        slices = Slices(
            torch.from_numpy(made.image),
            torch.from_numpy(made.position),
            torch.tensor([MODALITY_NUMBERS[kind]]),
        )
        with torch.no_grad():
            return slices, self.network.encode(slices)

    def answer(
        self, encoded: tuple[Slices, Any], requests: Sequence[SliceRequest], box: Letterbox
    ) -> Answers:
        """Cosines with the knowledge base's texts, as VELCRO's are; no mask."""
        points, labels = (torch.from_numpy(a) for a in stacked_prompts(requests, box))
        row = torch.zeros(len(points), dtype=torch.long)
        with torch.no_grad():
            regions, sides = self.network.decode(*encoded, points, labels, row)
        nothing = self.linker.runtime.nothing
        probability, other = entry_probabilities(
            regions.numpy(), self.linker.embeddings, nothing, self.temperature
        )
        return Answers(probability, other, sides.numpy(), None, regions.numpy())

    def evaluate_cases(
        self,
        linker: Linker,
        data: Path,
        keys: list[str],
        step_mm: float = 4.0,
        progress: Callable[[int, int, str], None] = lambda done, total, key: None,
        **options: Any,
    ) -> tuple[list[Row], list[str]]:
        """As `link_evaluation.evaluate_cases`; answers with the baseline instead of `linker`."""
        return measure_cases(self, data, keys, step_mm, progress=progress, **options)


class SameBudget(Baseline):
    """`velcro`: VELCRO's network against the text side that the baselines are given."""

    def encode(self, request: SliceRequest, box: Letterbox) -> Encoded:
        """The slice's embedding."""
        made = model_input(request, self.size, box)
        with torch.no_grad():
            return self.network.encode(
                torch.from_numpy(made.image), torch.from_numpy(made.position)
            )

    def answer(self, encoded: Encoded, requests: Sequence[SliceRequest], box: Letterbox) -> Answers:
        """Cosines of the region embeddings with the knowledge base's texts, and masks."""
        rows, points, labels = _prompted(encoded, requests, box)
        with torch.no_grad():
            decoded = self.network.decode(rows, points, labels)
        regions = decoded.embedding.numpy()
        probability, nothing = entry_probabilities(
            regions, self.linker.embeddings, self.linker.runtime.nothing, self.temperature
        )
        masks = decoded.masks.numpy()
        return Answers(probability, nothing, decoded.side.numpy(), masks, regions)


class TokenNeighbours(SameBudget):
    """`sam-token-knn`: entities of the nearest mask tokens of training regions."""

    def __init__(self, linker: Linker, state: TrainingState, recipe: Recipe, folder: Path) -> None:
        super().__init__(linker, state, recipe)
        self.bank = read_bank(folder / BANK)
        self.number = {entry.id: n for n, entry in enumerate(self.knowledge_base.entries)}

    def answer(self, encoded: Encoded, requests: Sequence[SliceRequest], box: Letterbox) -> Answers:
        """Votes of the neighbours; masks are the decoder's."""
        rows, points, labels = _prompted(encoded, requests, box)
        with torch.no_grad():
            masks, token = mask_tokens(self.network, rows, points, labels)
        share, sides = self.bank.votes(token.numpy(), len(self.state.entities))
        probability, nothing = shares_over_entries(share, self.state.entities, self.number)
        return Answers(probability, nothing, np.log(sides + 1e-6), masks.numpy())


def _prompted(
    encoded: Encoded, requests: Sequence[SliceRequest], box: Letterbox
) -> tuple[Encoded, torch.Tensor, torch.Tensor]:
    """The slice's embedding once for each prompt, points N x 8 x 2 and labels N x 8."""
    points, labels = (torch.from_numpy(a) for a in stacked_prompts(requests, box))
    return encoded.rows(torch.zeros(len(points), dtype=torch.long)), points, labels


def open_baseline(name: str, linker: Linker, model: str | Path | None) -> Baseline:
    """The trained baseline in a run folder (or in the folder `name` of it), over the knowledge base
    of `linker`, whose model is the run's text side.

    Raises InputError or ModelError when the folder holds no such baseline.
    """
    folder = baseline_run(name, None if model is None else str(model))
    state, recipe = load_checkpoint(folder)
    if recipe.baseline != name:
        raise InputError(
            f"'{folder}' holds the baseline '{recipe.baseline or 'velcro'}', not '{name}'."
        )
    if name == "sam-token-knn":
        return TokenNeighbours(linker, state, recipe, folder)
    if name == "velcro":
        return SameBudget(linker, state, recipe)
    return Baseline(linker, state, recipe)
