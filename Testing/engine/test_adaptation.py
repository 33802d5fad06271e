"""Going on from a model folder: its weights, its entities, Slicer's segmentations, the result."""

import argparse
import copy
import json
from dataclasses import asdict

import numpy as np
import onnx
import pytest
import SimpleITK as sitk
import torch

import tiny_cases
from velcro_engine.errors import InputError, ModelError
from velcro_engine.imaging.reading import read_volume
from velcro_engine.imaging.segmentation_file import Segment, write_segmentation
from velcro_engine.imaging.volume import Volume
from velcro_engine.knowledge_base import load_knowledge_base
from velcro_engine.model.opening import open_runtime
from velcro_engine.training.commands.export import export_command
from velcro_engine.training.commands.train import train_command
from velcro_engine.training.data.slicer_cases import image_of, load_segmented_cases
from velcro_engine.training.learning.adaptation import Start, mixed_with_start
from velcro_engine.training.learning.bundled_weights import read_bundled_model
from velcro_engine.training.learning.checkpoints import load_checkpoint

OLD = ["hippocampus", "thalamus"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_cases.write_knowledge_base(tmp_path_factory.mktemp("kb") / "kb.json")


@pytest.fixture(scope="module")
def model(tmp_path_factory, base):
    return tiny_cases.write_model(
        tmp_path_factory.mktemp("model") / "model", base, OLD, entities=[*OLD, "liver"]
    )


def write_slicer_folder(folder, base):
    """An image with two of its structures as Slicer saves them."""
    folder.mkdir(parents=True)
    image, labels = tiny_cases.brain()
    tiny_cases.write_volume(folder / "patient.nii.gz", image, flip_right=True)
    volume: Volume = read_volume(folder / "patient.nii.gz")
    entries = load_knowledge_base([base]).by_id
    stored = labels[:, :, ::-1]  # voxel order of the file
    segments = [
        Segment(stored == 1, entries["hippocampus"], "left"),
        Segment(stored == 5, entries["brainstem"]),
    ]
    write_segmentation(folder / "patient.seg.nrrd", segments, volume)
    return labels


def test_weights_of_a_model_folder_are_the_networks_up_to_int8(model):
    read = read_bundled_model(str(model))
    own = tiny_cases.exported_network(3).state_dict()
    for name, value in read.network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        reach = own[name].abs().max() / 127 + 1e-6
        assert (value - own[name]).abs().max() <= reach, name
    assert read.entities == [*OLD, "liver"] and read.trained == frozenset(OLD)
    assert torch.allclose(read.table.scaled(), read.network.prototypes, atol=0.05)


def test_an_adapted_network_is_mixed_with_its_start(model):
    read = read_bundled_model(str(model))
    start = Start(copy.deepcopy(read.network), read.table.vectors.detach(), read.entities)
    adapted = copy.deepcopy(read.network)
    with torch.no_grad():
        for value in adapted.state_dict().values():
            value += 1
    before, own = start.network.state_dict(), adapted.state_dict()
    for share in (0.0, 0.25, 1.0):
        mixed = mixed_with_start(adapted, start, share).state_dict()
        for name, value in mixed.items():
            if name == "prototypes" or not value.dtype.is_floating_point:
                assert torch.equal(value, own[name])
            else:
                assert torch.allclose(value, before[name] + share, atol=1e-5), name


def test_text_tower_of_a_model_folder_answers_as_the_folder(model):
    read = read_bundled_model(str(model))
    runtime = open_runtime(model)
    from velcro_engine.training.learning.text_training import embed_texts

    texts = ["hippocampus", "[TITLE]Liver[BODY]Large gland."]
    mine = embed_texts(read.tower, read.tokenizer, texts).numpy()
    assert (mine * runtime.embed_text(texts)).sum(1).min() > 0.999


def test_older_export_without_names_is_refused(tmp_path, base):
    folder = tiny_cases.write_model(tmp_path / "old", base, OLD)
    with pytest.raises(ModelError, match="export its run again"):
        read_bundled_model(str(folder))


def test_export_whose_weights_lost_their_names_is_refused(tmp_path, base):
    from velcro_engine.model.export import write_config

    folder = tiny_cases.write_model(tmp_path / "old", base, OLD, entities=OLD)
    graph = onnx.load(str(folder / "encoder.onnx"))
    for node in graph.graph.node:
        for n, name in enumerate(node.input):
            node.input[n] = name.replace("network.", "")
    for tensor in graph.graph.initializer:
        tensor.name = tensor.name.replace("network.", "")
    onnx.save(graph, str(folder / "encoder.onnx"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("files")
    write_config(folder, config)
    with pytest.raises(ModelError, match="export its run again"):
        read_bundled_model(str(folder))


def test_slicer_segmentation_becomes_a_case_in_the_images_voxels(tmp_path, base):
    labels = write_slicer_folder(tmp_path / "department" / "one", base)
    found = load_segmented_cases(tmp_path, load_knowledge_base([base]), print)
    assert len(found) == 1
    case = found[0]
    told = {(la.entity, la.side) for la in case.labels.values()}
    assert told == {("hippocampus", "left"), ("brainstem", None)}
    assert np.array_equal(case.layers[0] > 0, np.isin(labels, (1, 5)))


def test_segmentation_cropped_to_its_segments_is_placed_where_it_was(tmp_path, base):
    labels = write_slicer_folder(tmp_path / "one", base)
    path = tmp_path / "one" / "patient.seg.nrrd"
    stored = sitk.ReadImage(str(path))
    fields = {key: stored.GetMetaData(key) for key in stored.GetMetaDataKeys()}
    cropped = sitk.RegionOfInterest(stored, [30, 36, 28], [2, 1, 1])
    for key, value in fields.items():
        cropped.SetMetaData(key, value)
    sitk.WriteImage(cropped, str(path))
    case = load_segmented_cases(tmp_path, load_knowledge_base([base]), print)[0]
    assert np.array_equal(case.layers[0] > 0, np.isin(labels, (1, 5)))


def test_image_that_cannot_be_told_is_asked_for(tmp_path):
    for name in ("a.nrrd", "b.nrrd", "c.seg.nrrd"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"save it beside it as 'c\.nrrd'"):
        image_of(tmp_path / "c.seg.nrrd")


def arguments(data, out, init, recipe, base, **changes):
    values = {
        "data": str(data),
        "splits": None,
        "split": "train",
        "recipe": str(recipe),
        "init": str(init),
        "sam": None,
        "baseline": None,
        "text_model": None,
        "leave_out": None,
        "kb": [str(base)],
        "out": str(out),
        "steps": None,
        "device": "cpu",
        "threads": 1,
        "workers": 0,
    }
    return argparse.Namespace(**(values | changes))


def test_model_folder_is_adapted_to_slicer_segmentations_and_exported(tmp_path, base, model):
    write_slicer_folder(tmp_path / "data" / "one", base)
    recipe = tmp_path / "recipe.json"
    told = asdict(tiny_cases.recipe(steps=2, keep=1.0, joint_learning_rate=1e-4))
    recipe.write_text(json.dumps(told), encoding="utf-8")
    args = arguments(tmp_path / "data", tmp_path / "run", model, recipe, base)
    assert train_command(args) == 0
    state, _ = load_checkpoint(tmp_path / "run")
    assert state.entities == [*OLD, "liver", "brainstem"] and state.step == 2
    assert state.start is not None and state.start.entities == [*OLD, "liver"]
    before = read_bundled_model(str(model))
    for name, value in before.network.state_dict().items():  # statistics are held
        if "running" in name:
            assert torch.equal(value, state.network.state_dict()[name])

    export = tiny_cases.export_arguments(tmp_path / "run", tmp_path / "adapted", base, text_steps=2)
    assert export_command(export) == 0
    again = read_bundled_model(str(tmp_path / "adapted"))
    assert again.entities == state.entities
    assert again.trained == {*OLD, "brainstem"}  # the liver was only ever a name
    assert open_runtime(tmp_path / "adapted").size == tiny_cases.SIZE


def test_what_is_no_start_is_told_before_cases_are_read(tmp_path, base):
    args = arguments(tmp_path, tmp_path / "run", tmp_path / "nothing", "adapt", base)
    with pytest.raises(InputError, match="neither a run of velcrolink train nor a model folder"):
        train_command(args)
