"""The training loop: resuming, SAM backbones, export parity."""

import argparse
import json
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest
import torch
from segment_anything import sam_model_registry
from segment_anything.build_sam import _build_sam

import tiny_cases
from velcro_engine.errors import InputError, ModelError
from velcro_engine.model.network import VelcroNetwork
from velcro_engine.model.opening import open_runtime
from velcro_engine.model.preprocess import MAXIMUM_POINTS, ModelInput
from velcro_engine.training.commands.train import train_command
from velcro_engine.training.data.slice_sampler import SliceSampler
from velcro_engine.training.learning.checkpoints import load_checkpoint, save_checkpoint
from velcro_engine.training.learning.sam_checkpoint import open_sam, sam_recipe
from velcro_engine.training.learning.trainer import StepBatches, train, train_step
from velcro_engine.training.learning.training_state import new_state

# int8 weights, one scale a channel, against float32: cosines of region embeddings, mask logits
COSINE_TOLERANCE = 0.02
MASK_AGREEMENT = 0.97


def sampler_of(read, recipe):
    return SliceSampler(read, tiny_cases.entities(read), recipe.network.size, recipe.prompts)


def run(read, recipe, folder, state=None):
    state = state or new_state(recipe, tiny_cases.entities(read))
    return train(state, recipe, sampler_of(read, recipe), folder, workers=0, log=lambda _: None)


def all_tensors(state):
    parts = {}
    for name in ("network", "table", "average", "average_table"):
        parts |= {f"{name}.{k}": v for k, v in getattr(state, name).state_dict().items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        parts |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in values.items()}
    return parts | {"frequency": state.frequency}


@pytest.mark.parametrize("baseline", ["", "clip-mask-pool"])
def test_resumed_run_ends_with_the_same_bits_as_an_uninterrupted_one(tmp_path, read, baseline):
    recipe = tiny_cases.recipe(steps=4, dense_steps=0 if baseline else 2, baseline=baseline)
    whole = run(read, recipe, tmp_path / "whole")

    asked = iter([False, True])  # before the second step's end: save and leave
    state = new_state(recipe, whole.entities)
    quiet = {"workers": 0, "log": lambda _: None}
    folder = tmp_path / "cut"
    train(state, recipe, sampler_of(read, recipe), folder, stop=lambda: next(asked, True), **quiet)
    resumed, told = load_checkpoint(folder)
    assert resumed.step < 4 and told == recipe and resumed.entities == whole.entities
    resumed = run(read, told, folder, resumed)
    assert resumed.step == 4
    mine, theirs = all_tensors(resumed), all_tensors(whole)
    assert mine.keys() == theirs.keys()
    assert [k for k in mine if not torch.equal(mine[k], theirs[k])] == []


def test_every_step_has_its_own_samples_whichever_worker_draws_them(read):
    recipe = tiny_cases.recipe(steps=3)
    batches = list(StepBatches(sampler_of(read, recipe), recipe, 0))
    again = list(StepBatches(sampler_of(read, recipe), recipe, 2))
    assert torch.equal(batches[2]["image"], again[0]["image"])
    assert not torch.equal(batches[0]["image"], batches[1]["image"])


def test_damaged_checkpoint_is_told(tmp_path, read):
    run(read, tiny_cases.recipe(steps=1), tmp_path)
    path = tmp_path / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="no readable run"):
        load_checkpoint(tmp_path)


def test_exported_model_answers_as_the_network(tmp_path, read):
    """Tolerance of the int8 graphs: COSINE_TOLERANCE of every region's cosine to torch's, and
    MASK_AGREEMENT of the mask's pixels."""
    base = tiny_cases.write_knowledge_base(tmp_path / "kb.json")
    folder = tiny_cases.write_model(tmp_path / "model", base, tiny_cases.entities(read))
    runtime = open_runtime(folder)
    recipe = tiny_cases.recipe(steps=1, batch=1, prompts=4)
    batch = next(iter(StepBatches(sampler_of(read, recipe), recipe, 0)))
    image, position = batch["image"], batch["position"]
    encoded = runtime.encode(ModelInput(image.numpy(), position.numpy(), None, ""))
    points, labels = batch["points"], batch["labels"]
    masks, iou, regions, sides = runtime.decode_many(encoded, points.numpy(), labels.numpy())
    assert points.shape[1:] == (MAXIMUM_POINTS, 2)
    network = tiny_cases.exported_network()
    with torch.no_grad():
        own = network.encode(image, position)
        dense, _ = network.dense(own)
        decoded = network.decode(own.rows(batch["row"]), points, labels)
    cosine = (torch.from_numpy(regions) * decoded.embedding).sum(1)
    assert cosine.min() > 1 - COSINE_TOLERANCE
    assert (torch.from_numpy(encoded.dense) * dense).sum(1).min() > 1 - COSINE_TOLERANCE
    assert ((masks > 0) == (decoded.masks.numpy() > 0)).mean() > MASK_AGREEMENT
    assert np.abs(iou - decoded.iou.numpy()).max() < 0.05
    assert np.abs(sides - decoded.side.numpy()).max() < 0.1


@pytest.fixture
def small_sam(monkeypatch):
    """A SAM of small sizes under the name "vit_tiny"; its file has the layout of SAM's own."""
    build = partial(
        _build_sam,
        encoder_embed_dim=16,
        encoder_depth=1,
        encoder_num_heads=2,
        encoder_global_attn_indexes=[],
    )
    monkeypatch.setitem(sam_model_registry, "vit_tiny", build)
    return build


def test_sam_checkpoint_is_read_without_running_code_and_becomes_the_backbone(tmp_path, small_sam):
    torch.manual_seed(3)
    made = small_sam(checkpoint=None)
    torch.save(made.state_dict(), tmp_path / "sam.pth")
    kind, sam = open_sam(f"vit_tiny:{tmp_path / 'sam.pth'}")
    recipe = sam_recipe(tiny_cases.recipe(dense_steps=5), kind, sam)
    assert recipe.network.size == 1024 and recipe.network.width == 256 and recipe.dense_steps == 0
    state = new_state(recipe, ["hippocampus"], sam=sam)
    theirs, mine = made.state_dict(), state.network.state_dict()
    for own, given in (
        ("encoder.image_encoder.patch_embed.proj.weight", "image_encoder.patch_embed.proj.weight"),
        ("decoder.mask_tokens.weight", "mask_decoder.mask_tokens.weight"),
        ("prompt_encoder.not_a_point_embed.weight", "prompt_encoder.not_a_point_embed.weight"),
    ):
        assert torch.equal(mine[own], theirs[given])
    assert isinstance(state.network, VelcroNetwork)


def test_sam_backbone_trains_and_resumes(tmp_path, read, small_sam):
    torch.save(small_sam(checkpoint=None).state_dict(), tmp_path / "sam.pth")
    kind, sam = open_sam(f"vit_tiny:{tmp_path / 'sam.pth'}")
    recipe = sam_recipe(tiny_cases.recipe(steps=1, batch=1, prompts=2), kind, sam)
    state = new_state(recipe, tiny_cases.entities(read), sam=sam)
    before = state.network.encoder.image_encoder.patch_embed.proj.weight.detach().clone()
    batch = next(iter(StepBatches(sampler_of(read, recipe), recipe, 0)))
    figures = train_step(state, recipe, batch, "cpu")
    assert np.isfinite(list(figures.values())).all() and {"roi", "mask"} <= figures.keys()
    assert not torch.equal(before, state.network.encoder.image_encoder.patch_embed.proj.weight)
    save_checkpoint(state, recipe, tmp_path / "run")
    resumed, told = load_checkpoint(tmp_path / "run")
    assert told.sam == "vit_tiny" and resumed.step == 1


def test_bad_sam_arguments_are_told(tmp_path, small_sam):
    with pytest.raises(InputError, match="TYPE:FILE"):
        open_sam("vit_b")
    with pytest.raises(InputError, match="Unknown SAM type"):
        open_sam("vit_q:file.pth")
    with pytest.raises(InputError, match="does not exist"):
        open_sam(f"vit_tiny:{tmp_path / 'none.pth'}")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="not a SAM checkpoint"):
        open_sam(f"vit_tiny:{tmp_path / 'other.pth'}")


def test_checkpoint_that_would_run_code_is_refused(tmp_path, small_sam):
    class Code:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"weight": Code()}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match="not a SAM checkpoint"):
        open_sam(f"vit_tiny:{tmp_path / 'evil.pth'}")


def train_arguments(tmp_path, tiny_data, **changes):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(asdict(replace(tiny_cases.recipe(), steps=2))), encoding="utf-8")
    values = {
        "data": str(tiny_data),
        "splits": None,
        "split": "train",
        "recipe": str(path),
        "init": None,
        "sam": None,
        "baseline": None,
        "text_model": None,
        "kb": None,
        "leave_out": None,
        "out": str(tmp_path / "run"),
        "steps": None,
        "device": "cpu",
        "threads": 1,
        "workers": 0,
    }
    return argparse.Namespace(**(values | changes))


def test_entities_left_out_are_not_learnt_also_when_the_run_goes_on(tmp_path, tiny_data):
    args = train_arguments(tmp_path, tiny_data, leave_out="thalamus, fetal_head", steps=1)
    assert train_command(args) == 0
    state, recipe = load_checkpoint(tmp_path / "run")
    assert "hippocampus" in state.entities
    assert not {"thalamus", "fetal_head"} & set(state.entities)
    assert recipe.left_out == ["thalamus", "fetal_head"]
    args.steps = args.leave_out = None
    save_checkpoint(state, replace(recipe, steps=2), tmp_path / "run")
    assert train_command(args) == 0
    assert load_checkpoint(tmp_path / "run")[0].step == 2


def test_the_benchmarks_zero_shot_entities_are_left_out_by_their_name(tmp_path, tiny_data):
    assert train_command(train_arguments(tmp_path, tiny_data, leave_out="zero-shot")) == 0
    left_out = load_checkpoint(tmp_path / "run")[1].left_out
    assert len(left_out) == 9 and "caudate_nucleus" in left_out


def test_train_command_writes_a_run_and_goes_on_with_it(tmp_path, tiny_data, capsys):
    args = train_arguments(tmp_path, tiny_data)
    assert train_command(args) == 0
    assert load_checkpoint(tmp_path / "run")[0].step == 2
    assert train_command(args) == 0
    assert "resumed at step 2 of 2" in capsys.readouterr().out


def test_the_encoder_rests_in_the_finishing_phase(read, tmp_path):
    recipe = tiny_cases.recipe(steps=4, dense_steps=1, finish_steps=2)
    before = run(read, replace(recipe, steps=2, finish_steps=0), tmp_path / "before")
    after = run(read, recipe, tmp_path / "after")
    old, new = before.network.state_dict(), after.network.state_dict()
    resting = [n for n in old if n.startswith("encoder.backbone")]
    assert all(torch.equal(old[n], new[n]) for n in resting)
    assert not torch.equal(old["region_head.hidden.weight"], new["region_head.hidden.weight"])
