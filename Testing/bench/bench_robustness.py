"""The dev brains as other scanners and other people would have brought them, linked again.

python Testing/bench/bench_robustness.py --data ../shared/data --out DIR [--model DIR] [--step-mm 48]
Each variation is written as a case of its own to a temporary folder and linked with gold boxes.
Writes robustness.json and robustness.png, and prints a row a variation. About ten minutes for three
brains on one core.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from velcro_engine.console.output_folder import output_folder
from velcro_engine.linking.linker import open_linker
from velcro_engine.training.data.case_data import case_keys, image_files, label_files
from velcro_engine.training.measuring.link_evaluation import LinkerAnswers, Row, evaluate_case

BRAINS = "brain_neuromorphometrics35/"
Change = Callable[[sitk.Image, bool], sitk.Image]  # (image, whether it is the labels)


def as_it_is(image: sitk.Image, labels: bool) -> sitk.Image:
    return image


def tilted(*degrees: float) -> Change:
    """The head turned about x, y and z (LPS) in its field of view."""

    def change(image: sitk.Image, labels: bool) -> sitk.Image:
        middle = [(n - 1) / 2 for n in image.GetSize()]
        centre = image.TransformContinuousIndexToPhysicalPoint(middle)
        turn = sitk.Euler3DTransform(centre, *np.deg2rad(degrees).tolist())
        how = sitk.sitkNearestNeighbor if labels else sitk.sitkLinear
        return sitk.Resample(image, image, turn, how, 0)

    return change


def cropped(**shares: tuple[float, float]) -> Change:
    """A field of view from one share of the image to another, along right-left (x), front-back (y)
    and bottom-top (z)."""

    def change(image: sitk.Image, labels: bool) -> sitk.Image:
        image = sitk.DICOMOrient(image, "LPS")
        parts = []
        for name, count in zip("xyz", image.GetSize(), strict=True):
            low, high = shares.get(name, (0.0, 1.0))
            parts.append(slice(int(low * count), int(high * count)))
        return image[tuple(parts)]

    return change


def thick(mm: float) -> Change:
    """Axial slices of `mm`, averaged over their thickness."""

    def change(image: sitk.Image, labels: bool) -> sitk.Image:
        image = sitk.DICOMOrient(image, "LPS")
        spacing, size = np.array(image.GetSpacing()), np.array(image.GetSize())
        new = np.array([spacing[0], spacing[1], mm])
        if not labels:
            image = sitk.Cast(image, sitk.sitkFloat32)
            image = sitk.RecursiveGaussian(image, 0.4 * mm, direction=2)
        how = sitk.sitkNearestNeighbor if labels else sitk.sitkLinear
        count = [int(n) for n in size * spacing / new]
        return sitk.Resample(
            image, count, sitk.Transform(), how, image.GetOrigin(), new.tolist(),
            image.GetDirection(), 0,
        )  # fmt: skip

    return change


def inverted(image: sitk.Image, labels: bool) -> sitk.Image:
    """Dark where it was bright, as fluid is on T2; the background stays black."""
    if labels:
        return image
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    inside = array > 0
    high = float(np.percentile(array[inside], 99.5))
    array[inside] = np.clip(1.05 * high - array[inside], 1, None)
    return like(image, array)


def noisy(image: sitk.Image, labels: bool) -> sitk.Image:
    """Rician noise of 6 % of the brightest tissue."""
    if labels:
        return image
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    sigma = 0.06 * float(np.percentile(array[array > 0], 99))
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, sigma, (2, *array.shape))
    return like(image, np.hypot(array + first, second))


def like(image: sitk.Image, array: np.ndarray) -> sitk.Image:
    made = sitk.GetImageFromArray(array.astype(np.float32))
    made.CopyInformation(image)
    return made


VARIATIONS: dict[str, Change] = {
    "as it is": as_it_is,
    "noise 6 %": noisy,
    "slices of 6 mm": thick(6.0),
    "contrast inverted": inverted,
    "tilted 15, 10, 10 degrees": tilted(15, 10, 10),
    "turned 30 degrees": tilted(0, 0, 30),
    "slab of 40 %": cropped(z=(0.3, 0.7)),
    "right 55 % only": cropped(x=(0.0, 0.55)),
    "small box": cropped(x=(0.15, 0.85), y=(0.2, 0.7), z=(0.2, 0.7)),
}


def varied_case(data: Path, key: str, change: Change, folder: Path) -> None:
    """The case with its images and labels changed, in the same layout under `folder`."""
    target = folder / key
    target.mkdir(parents=True)
    for table in (data / key).parent.glob("*.json"):
        shutil.copy(table, target.parent)
    images, labels = image_files(data / key), label_files(data / key)
    for path in (*images, *labels):
        made = change(sitk.ReadImage(str(path)), path in labels)
        sitk.WriteImage(made, str(target / path.name))


def figures(rows: list[Row]) -> dict[str, float]:
    sided = [row for row in rows if row.side in ("left", "right")]
    return {
        "n": len(rows),
        "top1": round(float(np.mean([row.ranked[0] == row.entity for row in rows])), 4),
        "top3": round(float(np.mean([row.entity in row.ranked[:3] for row in rows])), 4),
        "side": round(float(np.mean([row.answered_side == row.side for row in sided])), 4),
        "dice": round(float(np.nanmean([row.dice for row in rows])), 4),
    }


def draw(found: dict[str, dict[str, float]], path: Path) -> None:
    """Bars of top-1 and side, a pair a variation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.45 * len(found) + 1))
    for at, values in enumerate(found.values()):
        axes.barh(at - 0.2, values["top1"], 0.38, color="C0", label="top-1" if not at else None)
        axes.barh(at + 0.2, values["side"], 0.38, color="C1", label="side" if not at else None)
    axes.set_yticks(range(len(found)), list(found))
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share right, gold boxes, whole knowledge base")
    axes.legend(loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True)
    parser.add_argument("--model")
    parser.add_argument("--step-mm", type=float, default=48.0)
    parser.add_argument("--limit", type=int, default=0, help="first N brains only")
    args = parser.parse_args()
    answerer = LinkerAnswers(open_linker(args.model, examples=False))
    keys = case_keys(args.data, args.data / "splits.json", "dev")
    keys = [key for key in keys if key.startswith(BRAINS)][: args.limit or None]
    found = {}
    for name, change in VARIATIONS.items():
        rows: list[Row] = []
        for key in keys:
            with tempfile.TemporaryDirectory() as folder:
                varied_case(args.data, key, change, Path(folder))
                rows += evaluate_case(answerer, Path(folder), key, args.step_mm, ("gold",))
        found[name] = figures(rows)
        print(f"{name:26} " + " ".join(f"{k} {v}" for k, v in found[name].items()), flush=True)
    with output_folder(args.out) as out:
        (out / "robustness.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        draw(found, out / "robustness.png")


if __name__ == "__main__":
    main()
