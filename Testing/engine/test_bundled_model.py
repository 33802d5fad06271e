"""The model that ships, on real images: `velcrolink link` gives the right entry and mask.

Needs the data folder (VELCROLINK_DATA); without it only the template brain of nilearn is linked.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from velcro_engine.commands import cli
from velcro_engine.imaging.reading import read_volume
from velcro_engine.imaging.slice_voxels import labels_to_slice
from velcro_engine.imaging.slices import anatomical_axes, cut_plane, cut_slice
from velcro_engine.linking.linker import open_linker

DATA = os.environ.get("VELCROLINK_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="VELCROLINK_DATA does not name the data folder")
WORLD = {"sagittal": 0, "coronal": 1, "axial": 2}


@pytest.fixture(scope="module")
def linker():
    return open_linker()


def labelled(case: str, entity: str, side: str | None):
    """(volume, mask K x J x I) of an entity's labels in a case of the data folder."""
    folder = Path(DATA) / case
    table = json.loads((folder.parent / "labels.json").read_text("utf-8"))
    values = [
        int(value)
        for value, label in table.items()
        if label["entity"] == entity and label["side"] == side
    ]
    (image,) = (p for p in folder.iterdir() if p.name.startswith("image."))
    (labels,) = (p for p in folder.iterdir() if p.name.startswith("labels."))
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(labels)))
    volume = read_volume(image)
    mask = np.isin(array, values).reshape(volume.array.shape)
    assert mask.any()
    return image, volume, mask


def largest_slice(volume, mask, plane):
    """(slice, mask on it) where the mask is largest along a plane's direction."""
    if volume.is_picture:
        cut = cut_slice(volume)
    else:
        axis = 2 - anatomical_axes(volume)[WORLD[plane]][0]
        areas = mask.sum(axis=tuple(a for a in range(3) if a != axis))
        cut = cut_plane(volume, plane, index=int(np.argmax(areas)))
    return cut, labels_to_slice(mask.astype(np.uint8), cut, volume) > 0


def tight_box(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5


def dice(a, b):
    return 2 * (a & b).sum() / max(a.sum() + b.sum(), 1)


@needs_data
@pytest.mark.parametrize(
    ("case", "entity", "side", "plane", "least_dice"),
    [
        ("brain_neuromorphometrics35/1104", "hippocampus", "left", "coronal", 0.7),
        ("brain_neuromorphometrics35/1104", "hippocampus", "right", "sagittal", 0.5),
        ("brain_neuromorphometrics35/1116", "thalamus", "right", "axial", 0.8),
        ("brain_neuromorphometrics35/1116", "putamen", "left", "axial", 0.7),
        ("brain_neuromorphometrics35/1128", "brainstem", None, "sagittal", 0.8),
        ("brain_neuromorphometrics35/1128", "lateral_ventricle", "left", "axial", 0.6),
    ],
)
def test_structures_of_brains_it_never_saw_are_named_with_side_and_outline(
    linker, case, entity, side, plane, least_dice
):
    _, volume, mask = labelled(case, entity, side)
    cut, truth = largest_slice(volume, mask, plane)
    result = linker.link(cut.request(box=tight_box(truth)))
    assert result.entries[0].id == entity
    assert result.entries[0].side == side
    assert dice(result.mask, truth) > least_dice


@needs_data
@pytest.mark.parametrize(
    ("case", "entity", "side", "plane", "least_dice"),
    [
        ("brain_neuromorphometrics35/1128", "caudate_nucleus", "right", "axial", 0.6),
        ("ct_totalsegmentator/example_ct", "urinary_bladder", None, "axial", 0.7),
        ("cxr_lungs_v7/{cxr}", "lung", "right", None, 0.8),
    ],
)
def test_the_command_line_links_a_brain_a_ct_and_a_chest_film(
    tmp_path, monkeypatch, case, entity, side, plane, least_dice
):
    monkeypatch.setenv("VELCROLINK_HOME", str(tmp_path / "home"))
    dev = json.loads((Path(DATA) / "splits.json").read_text("utf-8"))["dev"]
    film = next(key.split("/")[1] for key in dev if key.startswith("cxr_lungs_v7/"))
    image, volume, mask = labelled(case.format(cxr=film), entity, side)
    cut, truth = largest_slice(volume, mask, plane)
    out = tmp_path / "out"
    if volume.is_picture:
        place = ["--box", ",".join(map(str, tight_box(truth)))]
    else:
        x0, y0, x1, y1 = tight_box(truth)
        corners = cut.to_ras([[x0, y0], [x1, y1]])
        place = ["--plane", plane, "--box", ",".join(f"{v:.4f}" for v in corners.ravel())]
    assert cli.main(["link", str(image), *place, "--out", str(out)]) == 0
    result = json.loads((out / "result.json").read_text("utf-8"))
    assert result["entries"][0]["id"] == entity and not result["abstained"]
    assert result["entries"][0]["side"] == (side if cut.has_position else None)
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "mask.seg.nrrd"))) > 0
    layer = found.reshape(mask.shape)
    on_layer = layer.any(axis=(1, 2)) if not volume.is_picture else np.array([True])
    axis = 2 - anatomical_axes(volume)[WORLD[plane]][0] if plane else 0
    index = int(np.argmax(layer.any(axis=tuple(a for a in range(3) if a != axis))))
    assert on_layer.any()
    assert dice(np.take(layer, index, axis), np.take(mask, index, axis)) > least_dice


def test_the_demo_names_the_five_structures(tmp_path, monkeypatch):
    monkeypatch.setenv("VELCROLINK_HOME", str(tmp_path / "home"))
    assert cli.main(["demo", "--out", str(tmp_path / "demo")]) == 0
    results = json.loads((tmp_path / "demo" / "results.json").read_text("utf-8"))
    found = [(r["entries"][0]["id"], r["entries"][0]["side"]) for r in results]
    assert found == [
        ("hippocampus", "left"),
        ("thalamus", "right"),
        ("lateral_ventricle", "right"),
        ("putamen", "left"),
        ("brainstem", None),
    ]


def test_noise_and_an_empty_slice_are_answered_without_failing(linker):
    from velcro_engine.messages.request import SliceRequest

    random = np.random.default_rng(0)
    for pixels in (
        random.integers(0, 256, (100, 120)).astype(np.uint8),
        np.zeros((64, 64), np.uint8),
        np.full((3, 400), 200, np.uint8),
    ):
        height, width = pixels.shape
        result = linker.link(SliceRequest(pixels, box=(0.2, 0.2, width * 0.7, height * 0.7)))
        assert result.mask.shape == pixels.shape and len(result.entries) == 10
        assert sum(e.confidence for e in result.entries) <= 1 + 1e-6
