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
from torch.utils.data import DataLoader, IterableDataset

from ..baseline_models.objective import baseline_loss
from ..data.batches import Batch, collate
from ..data.slice_sampler import SliceSampler
from ..recipes.recipe import Recipe
from .checkpoints import save_checkpoint
from .distributed import mean_gradients, mean_statistics, rank
from .finishing import OWN_LOOK, finishing_rate, is_finishing, rest_encoder
from .training_state import TrainingState
from .velcro_loss import velcro_loss


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
    if recipe.baseline and recipe.baseline != "velcro":
        loss, figures = baseline_loss(state.network, state.table, recipe, batch, device)
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
