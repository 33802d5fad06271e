"""The training loop: resumable to the step, logged, cancellable, on CPU or GPUs.

Every batch is drawn from a seed made of (seed, step), so a resumed run sees what it would have
seen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from ...model.network import Decoded, VelcroNetwork
from ...model.preprocess import MAXIMUM_POINTS, NO_POINT
from ..data.slice_sampler import SliceSampler
from ..losses.alignment_objectives import alignment_losses
from ..losses.objectives import dense_loss, mask_loss
from .distributed import mean_gradients, mean_statistics, rank
from .finishing import (
    DENSE_PHASE,
    FINISHING,
    JOINT_PHASE,
    OWN_LOOK,
    LossWeights,
    finishing_rate,
    is_finishing,
    rest_encoder,
)
from .training_state import (
    Recipe,
    TrainingState,
    load_checkpoint,
    new_network,
    new_state,
    save_checkpoint,
)

__all__ = [
    "Recipe",
    "StepBatches",
    "TrainingState",
    "collate",
    "load_checkpoint",
    "new_network",
    "new_state",
    "save_checkpoint",
    "train",
    "train_step",
]

Batch = dict[str, Tensor]
PIXELS = 16000  # of a batch, drawn for the pixel loss
FREQUENCY_DECAY = 0.995


def collate(samples: list) -> Batch:
    """Slices of one batch as tensors; prompts of all slices in one list with their slice's row."""
    prompts = [s.prompts for s in samples]
    points = np.concatenate([p.points for p in prompts])
    labels = np.concatenate([p.labels for p in prompts])
    padded = np.zeros((len(points), MAXIMUM_POINTS, 2), dtype=np.float32)
    kinds = np.full((len(points), MAXIMUM_POINTS), NO_POINT, dtype=np.float32)
    padded[:, :2], kinds[:, :2] = points, labels
    rows = np.repeat(np.arange(len(samples)), [len(p.entity) for p in prompts])
    arrays = {
        "image": np.stack([s.image for s in samples]),
        "position": np.stack([s.position for s in samples]).astype(np.float32),
        "modality": np.array([s.modality for s in samples], dtype=np.int64),
        "pixel_entity": np.stack([s.pixel_entity for s in samples]),
        "dense_entity": np.stack([s.dense_entity for s in samples]),
        "dense_side": np.stack([s.dense_side for s in samples]),
        "points": padded,
        "labels": kinds,
        "row": rows,
        "entity": np.concatenate([p.entity for p in prompts]),
        "side": np.concatenate([p.side for p in prompts]),
        "masks": np.concatenate([p.masks for p in prompts]),
        "has_mask": np.concatenate([p.has_mask for p in prompts]),
    }
    return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()}


class StepBatches(IterableDataset):
    """Batches of steps first, first + 1, ...; with several workers each takes every n-th step."""

    def __init__(
        self, sampler: SliceSampler, recipe: Recipe, first: int, rank: int = 0, until: int = 0
    ) -> None:
        self.sampler = sampler
        self.recipe = recipe
        self.first = first
        self.rank = rank
        self.until = until or recipe.steps

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        offset, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        torch.set_num_threads(1)
        for step in range(self.first + offset, self.until, stride):
            rng = np.random.default_rng([self.recipe.seed, step, self.rank])
            dense = step < self.recipe.dense_steps
            fine = step >= self.recipe.steps - self.recipe.fine_steps
            self.sampler.size = self.recipe.network.size if fine else self.recipe.small_size
            self.sampler.prompts_per_slice = 1 if dense else self.recipe.prompts
            self.sampler.own_look = OWN_LOOK if is_finishing(self.recipe, step) else 0.0
            yield collate([self.sampler.draw(rng) for _ in range(self.recipe.batch)])


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up and cosine to 2 %; the prompts' phase starts it afresh, since its decoder is
    new while the encoder is not."""
    if is_finishing(recipe, step):
        return finishing_rate(recipe, step)
    start, peak = 0, recipe.learning_rate
    end = recipe.steps - recipe.finish_steps
    if recipe.dense_steps <= step:
        start, peak = recipe.dense_steps, recipe.joint_learning_rate
    if step - start < recipe.warmup:
        return peak * (step - start + 1) / recipe.warmup
    part = (step - start - recipe.warmup) / max(1, end - start - recipe.warmup)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, part))))


def train_step(
    state: TrainingState, recipe: Recipe, batch: Batch, device: str
) -> dict[str, Tensor]:
    """One step on one batch; returns the figures of the log line (still on the device, so that a
    GPU need not be waited for)."""
    batch = {k: v.to(device, non_blocking=True) for k, v in batch.items()}
    state.network.train()
    if is_finishing(recipe, state.step):
        rest_encoder(state)
    if state.start is not None:
        state.start.hold_statistics(state.network)
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(recipe, state.step)
    if recipe.baseline:
        from ..baseline_models.objective import baseline_loss

        loss, figures = baseline_loss(state, recipe, batch, device)
    else:
        loss, figures = velcro_loss(state, recipe, batch, device)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    groups = state.optimizer.param_groups
    trained = [p for group in groups for p in group["params"] if p.requires_grad]
    mean_gradients(trained)
    nn.utils.clip_grad_norm_(trained, 2.0)
    state.optimizer.step()
    mean_statistics(state.network, [state.frequency])
    state.step += 1
    _average(state, recipe)
    return figures


def velcro_loss(
    state: TrainingState, recipe: Recipe, batch: Batch, device: str
) -> tuple[Tensor, dict[str, Tensor]]:
    """Dense loss, and once `dense_steps` are over the losses of prompted regions."""
    joint = state.step >= recipe.dense_steps
    parts = JOINT_PHASE if joint else DENSE_PHASE
    if is_finishing(recipe, state.step):
        parts = FINISHING
    network, table = state.network, state.table
    figures: dict[str, Tensor] = {}
    with torch.no_grad():
        network.prototypes.copy_(table.scaled())
    with torch.autocast(device.split(":")[0], dtype=torch.bfloat16):
        encoded = network.encode(batch["image"], batch["position"])
        embedding, side = network.dense(encoded)
        decoded = None
        if joint:
            decoded = network.decode(encoded.rows(batch["row"]), batch["points"], batch["labels"])
    stride = batch["dense_entity"].shape[-1] // embedding.shape[-1]  # SAM's tokens are 16 pixels
    start = stride // 2
    dense_entity = batch["dense_entity"][:, start::stride, start::stride]
    dense_side = batch["dense_side"][:, start::stride, start::stride]
    seen = dense_entity[dense_entity >= 0]
    if len(seen):
        now = torch.bincount(seen, minlength=len(state.frequency)).float() / len(seen)
        state.frequency.mul_(FREQUENCY_DECAY).add_(now, alpha=1 - FREQUENCY_DECAY)
    weight = (state.frequency + 1e-4).rsqrt()
    weight = weight / (weight * state.frequency).sum()
    if len(seen):
        entity_loss, side_loss, accuracy = dense_loss(
            embedding, side, dense_entity, dense_side, table, weight
        )
        loss = parts.dense * (entity_loss + 0.5 * side_loss)
        figures |= {"dense": entity_loss.detach(), "dense_top1": accuracy}
    else:
        loss = embedding.sum() * 0.0
    if encoded.pixels is not None:
        drawing = torch.Generator().manual_seed(state.step)
        target = batch["pixel_entity"]
        pixel_loss = linked_pixels_loss(network, encoded.pixels, target, weight.sqrt(), drawing)
        loss = loss + parts.pixel * pixel_loss
        figures["pixel"] = pixel_loss.detach()
    if decoded is not None:
        logits = table.logits(decoded.embedding)
        region_loss = F.cross_entropy(logits, batch["entity"], label_smoothing=0.05)
        region_side = F.cross_entropy(decoded.side, batch["side"])
        segmentation, quality, iou = segmentation_loss(decoded, batch, parts)
        loss = loss + parts.region * region_loss + parts.side * region_side
        loss = loss + parts.mask * segmentation + 0.2 * quality
        figures |= {
            "roi": region_loss.detach(),
            "roi_top1": (logits.argmax(1) == batch["entity"]).float().mean(),
            "side": (decoded.side.argmax(1) == batch["side"]).float().mean(),
            "mask": segmentation.detach(),
            "iou": iou,
        }
        if recipe.medtrim or recipe.location_contrast:
            extra, told = alignment_losses(
                recipe, decoded.embedding, batch, table, state.entities, state.step
            )
            loss, figures = loss + extra, figures | told
    if state.start is not None:
        kept = state.start.loss(batch, encoded, embedding, decoded, network, table)
        loss = loss + recipe.keep * kept
        figures["kept"] = kept.detach()
    return loss, figures


def linked_pixels_loss(
    network: VelcroNetwork,
    measured: Tensor,
    target: Tensor,
    weight: Tensor,
    drawing: torch.Generator,
) -> Tensor:
    """Contrastive loss of some of the labelled pixels (`target` B x h x w, -1 = unknown): a pixel's
    own name teaches masks faster than the masks of a few prompts do."""
    flat = target.reshape(-1)
    labelled = torch.nonzero(flat >= 0)[:, 0]
    if len(labelled) == 0:
        return measured.sum() * 0.0
    index = labelled[torch.randint(len(labelled), (PIXELS,), generator=drawing).to(flat.device)]
    return F.cross_entropy(network.link_pixels(measured, index), flat[index], weight=weight)


def segmentation_loss(
    decoded: Decoded, batch: Batch, parts: LossWeights = JOINT_PHASE
) -> tuple[Tensor, Tensor, Tensor]:
    """(mask loss, squared error of the predicted IoU, mean IoU) of the prompts that have a mask."""
    target = batch["masks"]
    if (
        target.shape[-1] != decoded.masks.shape[-1]
    ):  # SAM's masks have a quarter of the input's side
        size = decoded.masks.shape[-2:]
        target = (F.adaptive_avg_pool2d(target.float()[:, None], size)[:, 0] >= 0.5).to(target)
    use = batch["has_mask"].float()
    segmentation, iou = mask_loss(decoded.masks, target, use, parts.cross_entropy, parts.overlap)
    quality = (((decoded.iou.float() - iou) ** 2) * use).sum() / use.sum().clamp(min=1)
    return segmentation, quality, (iou * use).sum() / use.sum().clamp(min=1)


@torch.no_grad()
def _average(state: TrainingState, recipe: Recipe) -> None:
    decay = min(recipe.ema, (1 + state.step) / (10 + state.step))
    moved, targets = [], []
    for mine, theirs in ((state.average, state.network), (state.average_table, state.table)):
        source = theirs.state_dict()
        for name, value in mine.state_dict().items():
            if value.dtype.is_floating_point:
                moved.append(value)
                targets.append(source[name])
            else:
                value.copy_(source[name])
    torch._foreach_lerp_(moved, targets, 1 - decay)


def train(
    state: TrainingState,
    recipe: Recipe,
    sampler: SliceSampler,
    folder: Path,
    *,
    device: str = "cpu",
    workers: int = 1,
    save_seconds: float = 240.0,
    log: Callable[[str], None] = print,
    stop: Callable[[], bool] = lambda: False,
) -> TrainingState:
    """Run to `recipe.steps`, writing checkpoints and one log line every 50 steps."""
    started = last_saved = time.time()
    earlier = state.seconds - time.process_time()
    figures: dict[str, list[Tensor]] = {}
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    # what a slice holds changes between the phases: one loader each
    phases = (
        recipe.dense_steps,
        recipe.steps - recipe.fine_steps,
        recipe.steps - recipe.finish_steps,
        recipe.steps,
    )
    bounds = sorted({b for b in phases if b > state.step})
    for until in bounds:
        batches = StepBatches(sampler, recipe, state.step, rank(), until)
        loader = DataLoader(
            batches,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            pin_memory=on_gpu,
        )
        for batch in loader:
            for name, value in train_step(state, recipe, batch, device).items():
                figures.setdefault(name, []).append(value)
            state.seconds = earlier + time.process_time()
            if state.step % 50 == 0 or state.step == recipe.steps:
                spent = time.time() - started
                done = sum(len(v) for v in figures.values()) / max(1, len(figures))
                means = " ".join(
                    f"{k} {float(torch.stack(v).mean()):.3f}" for k, v in figures.items()
                )
                rate = spent / max(1.0, done)
                left = (recipe.steps - state.step) * rate / 60
                log(
                    f"step {state.step}/{recipe.steps} {rate:.2f} s/step, {left:.0f} min left: {means}"
                )
                figures, started = {}, time.time()
            if time.time() - last_saved > save_seconds or stop():
                if rank() == 0:
                    save_checkpoint(state, recipe, folder)
                last_saved = time.time()
                if stop():
                    return state
    if rank() == 0:
        save_checkpoint(state, recipe, folder)
    return state
