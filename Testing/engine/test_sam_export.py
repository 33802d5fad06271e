"""A SAM backbone in ONNX Runtime; shortened runs; several processes."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_cases
from test_training_run import small_sam  # noqa: F401
from velcro_engine.linking.linker import open_linker
from velcro_engine.messages.request import SliceRequest
from velcro_engine.training.commands.export import export_command
from velcro_engine.training.commands.train import shortened
from velcro_engine.training.learning.checkpoints import load_checkpoint, save_checkpoint
from velcro_engine.training.learning.sam_checkpoint import sam_recipe
from velcro_engine.training.learning.trainer import learning_rate
from velcro_engine.training.learning.training_state import new_state
from velcro_engine.training.recipes.recipe import Recipe


def test_run_with_a_sam_backbone_is_exported_and_links(tmp_path, small_sam):  # noqa: F811
    base = tiny_cases.write_knowledge_base(tmp_path / "kb.json")
    sam = small_sam(checkpoint=None)
    recipe = sam_recipe(tiny_cases.recipe(), "vit_tiny", sam)
    state = new_state(recipe, ["hippocampus", "thalamus"], sam=sam)
    state.frequency.fill_(1.0)  # as if both had been shown
    save_checkpoint(state, recipe, tmp_path / "run")
    args = tiny_cases.export_arguments(tmp_path / "run", tmp_path / "model", base, text_steps=1)
    assert export_command(args) == 0
    linker = open_linker(tmp_path / "model", [base])
    assert linker.runtime.size == 1024
    pixels = np.full((80, 100), 90, np.uint8)
    request = SliceRequest(pixels, box=(20.0, 20.0, 60.0, 50.0))
    result = linker.link(request)
    assert result.mask.shape == (80, 100) and np.isfinite(result.embedding).all()


def test_shortened_run_ends_its_schedule_at_its_last_step():
    recipe = Recipe(steps=1000, dense_steps=400, fine_steps=100, warmup=50)
    short = shortened(recipe, 100)
    assert (short.steps, short.dense_steps, short.fine_steps, short.warmup) == (100, 40, 10, 5)
    assert learning_rate(short, 99) < 0.03 * short.joint_learning_rate
    assert shortened(recipe, 2000) == recipe
    assert shortened(recipe, 800, begun=500).dense_steps == 400


RUN = """
import sys, argparse, json
from velcro_engine.training.commands.train import train_command
sys.exit(train_command(argparse.Namespace(**json.loads(sys.argv[1]))))
"""


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this torch has no gloo",
)
def test_two_processes_train_one_network(tmp_path):
    data = tiny_cases.write_cases(tmp_path / "data")
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(asdict(tiny_cases.recipe(steps=2, batch=1))), encoding="utf-8")
    named = ("splits", "init", "sam", "baseline", "text_model", "kb", "leave_out", "steps")
    told = dict.fromkeys(named) | {
        "data": str(data),
        "split": "train",
        "recipe": str(recipe),
        "out": str(tmp_path / "run"),
        "device": "cpu",
        "threads": 1,
        "workers": 0,
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    engine = Path(tiny_cases.__file__).parents[2] / "VelcroLink"
    shared = os.environ | {
        "PYTHONPATH": str(engine),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, json.dumps(told)],
            env=shared | {"RANK": str(n), "LOCAL_RANK": str(n)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    said = [p.communicate(timeout=240) for p in processes]
    assert [p.returncode for p in processes] == [0, 0], said
    assert "finished" in said[0][0] and said[1][0] == ""
    assert load_checkpoint(tmp_path / "run")[0].step == 2
