"""Labelled cases of a few thousand voxels, a knowledge base of ten entries and an untrained model,
made in the test: what training, measuring and calibrating are tried on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from velcro_engine.model.network_parts import NetworkConfig
from velcro_engine.training.data.case_data import load_case
from velcro_engine.training.recipes.recipe import Recipe

SIZE = 64
NETWORK = NetworkConfig(size=SIZE, width=32, embedding=32, heads=4, mlp=64)
LABELS = {
    1: ("Left hippocampus", "hippocampus", "left"),
    2: ("Right hippocampus", "hippocampus", "right"),
    3: ("Left thalamus", "thalamus", "left"),
    4: ("Right thalamus", "thalamus", "right"),
    5: ("Brainstem", "brainstem", None),
    6: ("Scar", None, None),
}
# entity -> definition; the last two are never trained on
ENTRIES = {
    "hippocampus": "Curved grey matter on the floor of the temporal horn.",
    "thalamus": "Paired egg-shaped grey matter beside the third ventricle.",
    "brainstem": "Stalk that joins the brain to the spinal cord.",
    "fetal_head": "Head of an unborn child as ultrasound shows it.",
    "putamen": "Outer part of the lentiform nucleus.",
    "liver": "Large gland under the right dome of the diaphragm.",
}
SPACING = 4.0
SHAPE = (32, 40, 36)  # K, J, I = S, A, R: 128 x 160 x 144 mm


def recipe(**changes) -> Recipe:
    """A recipe that takes a second."""
    values = {
        "network": NETWORK,
        "steps": 3,
        "dense_steps": 0,
        "batch": 2,
        "prompts": 2,
        "warmup": 1,
        "small_size": SIZE,
        "fine_steps": 1,
    }
    return Recipe(**(values | changes))


def brain(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(image uint8, labels) K x J x I in order S, A, R: an ellipsoid with five structures.

    The structures' grey levels differ between left and right, so that sides can be seen.
    """
    rng = np.random.default_rng(seed)
    k, j, i = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE), indexing="ij")
    k, j, i = k * SPACING, j * SPACING, i * SPACING
    inside = (k / 52) ** 2 + (j / 68) ** 2 + (i / 60) ** 2 < 1
    image = np.where(inside, 120 + rng.normal(0, 3, SHAPE), 0)
    labels = np.zeros(SHAPE, np.uint8)
    # R is positive to the patient's right; (R, A, S) of the centres in mm
    for value, centre, grey in (
        (1, (-32, -8, -18), 60),
        (2, (32, -8, -18), 75),
        (3, (-14, 10, 10), 190),
        (4, (14, 10, 10), 210),
        (5, (0, -30, -28), 240),
    ):
        there = (i - centre[0]) ** 2 + (j - centre[1]) ** 2 + (k - centre[2]) ** 2 < 13**2
        labels[there] = value
        image[there] = grey
    return np.clip(image, 0, 255).astype(np.uint8), labels


def write_volume(path: Path, array: np.ndarray, flip_right: bool = False) -> None:
    """NIfTI of an array in order S, A, R. `flip_right`: stored with I running to the left."""
    matrix = np.diag([SPACING, SPACING, SPACING, 1.0])
    matrix[:3, 3] = -(np.array(array.shape[::-1]) - 1) * SPACING / 2
    if flip_right:
        array = array[:, :, ::-1]
        matrix[0, 3] += (array.shape[2] - 1) * SPACING
        matrix[0, 0] = -SPACING
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing([SPACING] * 3)
    image.SetDirection((lps[:3, :3] / SPACING).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path))


def write_cases(data: Path) -> Path:
    """Two stripped brains (one stored from right to left) and a fetal head as a picture."""
    folder = data / "brains"
    for number, name in enumerate(("one", "two")):
        (folder / name).mkdir(parents=True)
        image, labels = brain(number)
        write_volume(folder / name / "image.nii.gz", image, flip_right=bool(number))
        write_volume(folder / name / "labels.nii.gz", labels, flip_right=bool(number))
    table = {v: {"name": n, "entity": e, "side": s} for v, (n, e, s) in LABELS.items()}
    (folder / "labels.json").write_text(json.dumps(table), encoding="utf-8")

    heads = data / "heads"
    (heads / "a").mkdir(parents=True)
    y, x = np.mgrid[:90, :120]
    head = ((x - 55) / 30) ** 2 + ((y - 45) / 24) ** 2
    picture = np.where(np.abs(head - 1) < 0.2, 220, 40).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(picture), str(heads / "a" / "image.png"))
    mask = sitk.GetImageFromArray((head < 1).astype(np.uint8))
    sitk.WriteImage(mask, str(heads / "a" / "labels.png"))
    table = {1: {"name": "Head", "entity": "fetal_head", "side": None}}
    (heads / "labels.json").write_text(json.dumps(table), encoding="utf-8")
    return data


def cases(data: Path) -> list:
    """The cases of `write_cases` as training reads them."""
    return [load_case(data, key) for key in ("brains/one", "brains/two", "heads/a")]


def entities(read: list) -> list[str]:
    """Entities that occur in cases."""
    return sorted({str(c.labels[v].entity) for c in read for _, v in c.voxels})


def write_knowledge_base(path: Path) -> Path:
    """A self-contained file of the entries above and their root."""

    def entry(key: str, definition: str, is_a: list[str]) -> dict:
        paired = key in ("hippocampus", "thalamus", "putamen")
        return {
            "id": key,
            "name": key.replace("_", " ").capitalize(),
            "synonyms": [],
            "latin": [],
            "abbreviations": [],
            "definition": definition,
            "kind": "anatomy",
            "modalities": ["MR"],
            "laterality": "paired" if paired else "midline",
            "region": "body",
            "is_a": is_a,
            "part_of": [],
            "places": [],
            "size_mm": None,
            "codes": [],
            "links": [],
        }

    root = "anatomical_structure"
    made = [entry(root, "Any part of the body.", [])]
    made += [entry(key, text, [root]) for key, text in ENTRIES.items()]
    manifest = {
        "schema_version": 1,
        "name": "tiny",
        "version": "1",
        "licence": "CC0-1.0",
        "language": "en",
        "entries": made,
    }
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return path


def exported_network(entities: int = 0):
    """The untrained network that `write_model` exports."""
    import torch

    from velcro_engine.training.learning.training_state import new_network

    torch.manual_seed(2)
    network = new_network(recipe(), entities=entities).eval()
    if entities:
        vectors = torch.nn.functional.normalize(torch.randn_like(network.prototypes), dim=1)
        network.prototypes.copy_(10.0 * vectors)
    return network


def write_model(
    folder: Path, knowledge_base: Path, trained: list[str], entities: list[str] | None = None
) -> Path:
    """Model folder of an untrained network and text tower of the tiny sizes. `entities`: in the
    order of the prototypes; without, the folder is as older versions wrote it."""
    import torch

    from velcro_engine.knowledge_base import load_knowledge_base
    from velcro_engine.model.export import write_model_folder
    from velcro_engine.model.text_tokenizer import TextTokenizer
    from velcro_engine.model.text_tower import TextConfig, TextTower
    from velcro_engine.training.commands.export import add_entry_embeddings
    from velcro_engine.training.data.vocabulary import learn_merges, write_merges

    base = load_knowledge_base([knowledge_base])
    folder.mkdir(parents=True)
    vocabulary = folder / "vocabulary.txt.gz"
    write_merges(vocabulary, learn_merges([e.definition for e in base.entries], 50))
    tokenizer = TextTokenizer.from_file(vocabulary, 64)
    torch.manual_seed(1)
    tower = TextTower(
        TextConfig(tokenizer.size, tokenizer.context_length, 24, 2, 1, NETWORK.embedding)
    )
    nothing = np.zeros(NETWORK.embedding, np.float32)
    nothing[0] = 1.0
    write_model_folder(
        folder,
        exported_network(len(entities or [])),
        tower,
        vocabulary,
        name="tiny",
        version="1",
        calibration={"temperature": 0.1, "abstain_below": 0.0, "side_margin": 0.5},
        nothing=nothing,
        extra={"trained_entities": trained} | ({"entities": entities} if entities else {}),
    )
    add_entry_embeddings(folder, base)
    return folder


def export_arguments(run: Path, out: Path, knowledge_base: Path, **changes) -> argparse.Namespace:
    """What `velcrolink export RUN --out OUT --kb KB` hands to `export_command`."""
    values = {
        "run_folder": str(run),
        "out": str(out),
        "name": "own",
        "version": "1",
        "text_steps": 1,
        "kb": [str(knowledge_base)],
        "text_from": None,
        "reports": None,
        "report_objectives": "",
    }
    return argparse.Namespace(**(values | changes))


def write_site(root: Path, trained: list[str]) -> Path:
    """Data, knowledge base and a model that was trained on `trained`: root/data, kb.json, model."""
    write_cases(root / "data")
    write_model(root / "model", write_knowledge_base(root / "kb.json"), trained)
    return root
