"""Several processes that train one network (torchrun): each draws its own slices, gradients are meant.

Every process starts from the same seed or checkpoint and applies the same mean gradient, so that all
hold the same weights; only the first writes checkpoints and the log.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch import distributed as dist

from ...errors import InputError


def join(device: str) -> str:
    """Join the processes that torchrun started, if it did; returns this process's device.

    Raises InputError when there are fewer GPUs than processes on this machine.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return device
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = device.startswith("cuda")
    if on_gpu and local >= torch.cuda.device_count():
        raise InputError(
            f"torchrun started more processes than the {torch.cuda.device_count()} GPUs here; "
            "lower --nproc-per-node or choose --device cpu."
        )
    if on_gpu:
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    return device


def leave() -> None:
    """Leave the group again, if there is one."""
    if count() > 1:
        dist.destroy_process_group()


def count() -> int:
    """How many processes train together."""
    joined = dist.is_available() and dist.is_initialized()
    return int(dist.get_world_size()) if joined else 1


def rank() -> int:
    """Number of this process; 0 writes."""
    return int(dist.get_rank()) if count() > 1 else 0


def mean_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes; nothing to do for one."""
    if count() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:  # another process may have one: all must take part
            parameter.grad = torch.zeros_like(parameter)
    _mean([p.grad for p in parameters if p.grad is not None])


def mean_statistics(network: nn.Module, more: Iterable[Tensor]) -> None:
    """The same for what is measured, not learnt: batch statistics and the tensors of `more`."""
    if count() > 1:
        _mean([b for b in network.buffers() if b.dtype.is_floating_point] + list(more))


@torch.no_grad()
def _mean(tensors: list[Tensor]) -> None:
    flat = torch.cat([t.reshape(-1).float() for t in tensors])
    dist.all_reduce(flat)
    flat /= count()
    start = 0
    for tensor in tensors:
        tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()
