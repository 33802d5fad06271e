"""What a trained network's region head reads, kept for many regions: mask token, mean image token and
mean pixel embedding. A head can then be trained on them in seconds (`head_ablation.py`)."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError, VelcroError
from ...knowledge_base import KnowledgeBase
from ...linking.attributes import measure
from ...model.network import VelcroNetwork
from ...model.preprocess import Letterbox, letterbox_of, model_input, prompt_arrays
from ..data.batches import collate
from ..data.case_data import SIDES
from ..data.slice_sampler import SliceSampler
from ..learning.training_state import TrainingState
from ..losses.alignment_objectives import Kinship, RegionWords, batch_words
from .region_samples import SliceSamples, chosen_samples

SLICES_AT_ONCE = 4
TEXTS = ("case", "words_side", "words_zone", "words_size", "words_plane")


class RecordingNetwork(VelcroNetwork):
    """A network that remembers what its region head was given at the last `decode`."""

    @classmethod
    def of(cls, state: TrainingState) -> RecordingNetwork:
        """The averaged weights of a run, for use without gradients."""
        average = state.average
        if not isinstance(average, VelcroNetwork) or average.pixel_head is None:
            raise InputError("This run is no compact VELCRO network; give another run folder.")
        made = cls(average.config, None, len(state.entities))
        made.load_state_dict(average.state_dict())
        made.region_head.register_forward_pre_hook(made._remember)
        return made.eval()

    def _remember(self, _: object, inputs: tuple[Tensor, ...]) -> None:
        self.token, self.pooled = inputs

    def _pixels_under(self, measured: Tensor, masks: Tensor) -> Tensor:
        self.under = super()._pixels_under(measured, masks)
        return self.under

    @torch.no_grad()
    def features(
        self, image: Tensor, position: Tensor, rows: Tensor, points: Tensor, labels: Tensor
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(token N x C, pooled N x C, pixels N x D) of N prompts, the same number on each slice."""
        encoded = self.encode(image, position)
        self.decode(encoded.rows(rows), points, labels)
        return self.token.numpy(), self.pooled.numpy(), self.under.numpy()


@dataclass
class RegionFeatures:
    """Features of N regions and what is known of them. entity: number among the run's entities, one
    more than the last for "nothing". side: 0 left, 1 right, 2 none. case: "" for training slices."""

    token: np.ndarray
    pooled: np.ndarray
    pixels: np.ndarray
    entity: np.ndarray
    side: np.ndarray
    picture: np.ndarray
    words: list[RegionWords]
    case: list[str]

    def __len__(self) -> int:
        return len(self.entity)

    def write(self, path: Path) -> None:
        """Keep as .npz without pickled objects."""
        texts = [self.case]
        texts += [
            [getattr(w, k) or "" for w in self.words] for k in ("side", "zone", "size", "plane")
        ]
        columns = {name: np.array(values) for name, values in zip(TEXTS, texts, strict=True)}
        numbers = {k: getattr(self, k) for k in NUMBERS}
        with path.open("wb") as stream:
            np.savez(stream, **numbers, **columns)

    @classmethod
    def read(cls, path: Path) -> RegionFeatures:
        """What `write` kept. Raises InputError when it is damaged."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                numbers = [stored[k] for k in NUMBERS]
                case, side, *others = ([str(v) for v in stored[k]] for k in TEXTS)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"'{path}' is damaged; remove it and repeat.", repr(error)) from error
        words = [RegionWords(s or None, *rest) for s, *rest in zip(side, *others, strict=True)]
        token, pooled, pixels, entity, side_number, picture = numbers
        return cls(token, pooled, pixels, entity, side_number, picture, words, case)


NUMBERS = ("token", "pooled", "pixels", "entity", "side", "picture")


def _joined(parts: Sequence[tuple], words: list[RegionWords], case: list[str]) -> RegionFeatures:
    if not parts:
        raise InputError("These cases show no region that the run knows.")
    token, pooled, pixels, entity, side, picture = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    return RegionFeatures(token, pooled, pixels, entity, side, picture, words, case)


def training_features(
    network: RecordingNetwork,
    sampler: SliceSampler,
    kinship: Kinship,
    slices: int,
    seed: int,
    progress: Callable[[int, int, str], None],
) -> RegionFeatures:
    """Regions of augmented training slices, drawn as the trainer draws them."""
    parts, words = [], []
    for start in range(0, slices, SLICES_AT_ONCE):
        progress(start, slices, "training slices")
        drawn = [
            sampler.draw(np.random.default_rng([seed, n]))
            for n in range(start, min(slices, start + SLICES_AT_ONCE))
        ]
        batch = collate(drawn)
        found = network.features(
            batch["image"], batch["position"], batch["row"], batch["points"], batch["labels"]
        )
        picture = (batch["modality"] == 0)[batch["row"]]
        parts.append((*found, batch["entity"].numpy(), batch["side"].numpy(), picture.numpy()))
        words += batch_words(batch, kinship)
    return _joined(parts, words, [""] * len(words))


def case_features(
    network: RecordingNetwork,
    data: Path,
    keys: Sequence[str],
    entities: Sequence[str],
    base: KnowledgeBase,
    step_mm: float,
    most: int,
    progress: Callable[[int, int, str], None],
) -> tuple[RegionFeatures, list[str]]:
    """(regions under loose boxes of labelled cases, what could not be read)."""
    number = {e: n for n, e in enumerate(entities)}
    parts, words, cases, problems = [], [], [], []
    for done, key in enumerate(keys):
        progress(done, len(keys), key)
        try:
            chosen = chosen_samples(data, key, step_mm, most, base)
        except VelcroError as error:
            problems.append(f"{key}: {error.message}")
            continue
        for found in chosen:
            samples = [s for s in found.samples if s.label.entity in number]
            if not samples:
                continue
            order, features = _slice_features(network, SliceSamples(found.cut, samples))
            samples = [samples[n] for n in order]
            entity = np.array([number[str(s.label.entity)] for s in samples])
            side = np.array([SIDES[s.label.side] for s in samples])
            parts.append((*features, entity, side, np.array([s.is_picture for s in samples])))
            for sample in samples:
                request = found.cut.request(box=sample.gold)
                told = measure(sample.mask, request, base.entry(str(sample.label.entity)).size_mm)
                zone, size = str(told.get("zone", "")), str(told.get("size", ""))
                words.append(RegionWords(sample.label.side, zone, size, sample.plane or ""))
            cases += [key] * len(samples)
    return _joined(parts, words, cases), problems


def _slice_features(
    network: RecordingNetwork, slice_samples: SliceSamples
) -> tuple[list[int], tuple[np.ndarray, ...]]:
    """(order of the samples, their features); prompts that share a window share its encoding."""
    size = network.config.size
    requests = [slice_samples.cut.request(box=s.loose) for s in slice_samples.samples]
    windows: dict[Letterbox, list[int]] = {}
    for n, request in enumerate(requests):
        windows.setdefault(letterbox_of(request, size), []).append(n)
    order, parts = [], []
    for box, members in windows.items():
        read = model_input(requests[members[0]], size, box)
        prompts = [prompt_arrays(requests[n], box) for n in members]
        parts.append(
            network.features(
                torch.from_numpy(read.image),
                torch.from_numpy(read.position),
                torch.zeros(len(members), dtype=torch.long),
                torch.from_numpy(np.concatenate([p for p, _ in prompts])),
                torch.from_numpy(np.concatenate([kind for _, kind in prompts])),
            )
        )
        order += members
    return order, tuple(np.concatenate(column) for column in zip(*parts, strict=True))
