"""Figures of the linking benchmark on hand-made rows, and brains measured with a skull."""

import numpy as np
import pytest

import tiny_cases
from velcro_engine.imaging.reading import read_volume
from velcro_engine.imaging.slice_voxels import labels_to_slice
from velcro_engine.imaging.slices import anatomical_slices
from velcro_engine.training.data.benchmark_samples import (
    case_slices,
    loosened,
    read_label_array,
)
from velcro_engine.training.data.skull_volume import looks_stripped, with_skull
from velcro_engine.training.measuring.link_evaluation import Row
from velcro_engine.training.measuring.link_figures import (
    Benchmark,
    accuracy_at_coverage,
    bootstrap,
    calibration_error,
    entity_figures,
    figures,
)

ANCESTORS = {"hippocampus": {"brain"}, "anterior_hippocampus": {"brain"}, "thalamus": {"brain"}}


def row(entity, ranked, case="a", **changes):
    values = {
        "case": case,
        "channel": "image",
        "plane": "axial",
        "position_mm": 0.0,
        "entity": entity,
        "side": None,
        "is_picture": False,
        "prompt": "gold",
        "ranked": tuple(ranked),
        "answered_side": None,
        "confidence": 0.9,
        "nothing": 0.0,
        "dice": 0.8,
        "seconds": 0.1,
    }
    return Row(**(values | changes))


@pytest.fixture
def bench():
    return Benchmark(ANCESTORS)


def test_top_1_top_3_and_macro_accuracy(bench):
    rows = [
        row("hippocampus", ["hippocampus", "thalamus"]),
        row("hippocampus", ["thalamus", "amygdala", "hippocampus"]),
        row("hippocampus", ["thalamus", "amygdala", "putamen", "hippocampus"]),
        row("thalamus", ["thalamus"]),
    ]
    fine = figures(rows, bench)["fine"]["gold"]
    assert fine["top1"] == 0.5 and fine["top3"] == 0.75 and fine["n"] == 4
    assert fine["macro"] == pytest.approx((1 / 3 + 1) / 2, abs=1e-4)
    assert fine["dice"] == 0.8 and fine["cases"] == 1


def test_headline_counts_concepts_and_fine_counts_entries(bench):
    rows = [row("anterior_hippocampus", ["hippocampus", "thalamus"])]
    made = figures(rows, bench)
    assert made["headline"]["gold"]["top1"] == 1.0 and made["fine"]["gold"]["top1"] == 0.0


def test_groups_of_a_row(bench):
    def groups(entity, **changes):
        return set(bench.groups(row(entity, [entity], **changes)))

    assert groups("hippocampus") == {"fine", "headline", "brain"}
    assert groups("multiple_sclerosis_lesion") == {"fine", "headline", "lesion"}
    assert groups("fetal_head", is_picture=True) == {"fine", "headline", "us"}
    assert groups("lung", is_picture=True) == {"fine", "headline", "cxr"}
    assert groups("lung") == {"fine", "headline", "ct"}
    assert groups("urinary_bladder") == {"fine", "ct"}


def test_what_the_model_was_not_trained_on_is_a_group_of_its_own():
    bench = Benchmark(ANCESTORS, trained=frozenset({"thalamus"}))
    rows = [
        row("thalamus", ["thalamus"]),
        row("hippocampus", ["amygdala", "thalamus", "putamen", "hippocampus"]),
    ]
    unseen = figures(rows, bench)["zero_shot"]["gold"]
    assert (unseen["n"], unseen["top1"], unseen["top3"], unseen["top5"]) == (1, 0.0, 0.0, 1.0)


def test_side_accuracy_counts_only_volumes_with_a_side_and_silence_is_wrong(bench):
    rows = [
        row("thalamus", ["thalamus"], side="left", answered_side="left"),
        row("thalamus", ["thalamus"], side="right", answered_side="left"),
        row("thalamus", ["thalamus"], side="right", answered_side=None),
        row("thalamus", ["thalamus"], side="left", answered_side=None, is_picture=True),
        row("thalamus", ["thalamus"], side=None, answered_side="left"),
    ]
    fine = figures(rows, bench)["fine"]["gold"]
    assert fine["side"] == pytest.approx(1 / 3, abs=1e-4) and fine["side_n"] == 3


def test_prompts_are_kept_apart(bench):
    rows = [row("thalamus", ["thalamus"]), row("thalamus", ["putamen"], prompt="point")]
    made = figures(rows, bench)["fine"]
    assert made["gold"]["top1"] == 1.0 and made["point"]["top1"] == 0.0
    assert entity_figures(rows)["thalamus"] == {"n": 1, "top1": 1.0, "dice": 0.8}


def test_dice_is_none_where_no_mask_is_drawn_and_the_mean_of_the_others(bench):
    nan = float("nan")
    rows = [row("thalamus", ["thalamus"], dice=nan), row("thalamus", ["thalamus"], dice=0.5)]
    assert figures(rows, bench)["fine"]["gold"]["dice"] == 0.5
    assert figures(rows[:1], bench)["fine"]["gold"]["dice"] is None
    assert entity_figures(rows[:1])["thalamus"]["dice"] is None


def test_bootstrap_draws_cases_not_samples():
    right = np.array([1.0] * 50 + [0.0] * 50)
    two = ["a"] * 50 + ["b"] * 50
    assert bootstrap(right, two, 0) == (0.0, 1.0)
    many = [str(n) for n in range(100)]
    low, high = bootstrap(right, many, 0)
    assert 0.38 < low < 0.45 and 0.55 < high < 0.62
    assert bootstrap(right, many, 0) == (low, high)


def test_calibration_error_is_the_weighted_gap_of_bins():
    confidence = np.array([0.95] * 10 + [0.05] * 10)
    right = np.array([1.0] * 5 + [0.0] * 5 + [0.0] * 10)
    assert calibration_error(confidence, right) == pytest.approx(0.5 * 0.45 + 0.5 * 0.05)
    assert calibration_error(np.array([1.0]), np.array([1.0])) == 0.0


def test_accuracy_at_coverage_drops_the_least_confident():
    confidence, right = np.array([0.9, 0.1, 0.8, 0.7]), np.array([1.0, 0.0, 1.0, 1.0])
    assert accuracy_at_coverage(confidence, right, 0.75) == 1.0
    assert accuracy_at_coverage(confidence, right, 1.0) == 0.75


def test_loose_boxes_reach_outwards_by_a_fifth_at_most():
    for seed in range(20):
        x0, y0, x1, y1 = loosened((10, 20, 30, 60), np.random.default_rng(seed))
        assert 6 <= x0 <= 10 and 12 <= y0 <= 20 and 30 <= x1 <= 34 and 60 <= y1 <= 68


# ---- skull ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_cases.write_cases(tmp_path_factory.mktemp("data"))


def test_skull_is_drawn_around_the_brain_and_leaves_it_as_it_was(data):
    volume = read_volume(data / "brains" / "one" / "image.nii.gz")
    assert looks_stripped(volume)
    head, pad = with_skull(volume, 7)
    inner = tuple(
        slice(before, before + n) for (before, _), n in zip(pad, volume.array.shape, strict=True)
    )
    brain = volume.array > 0
    shown = volume.window.apply(volume.array)
    inside = head.array[inner][brain]
    assert (inside == shown[brain]).mean() > 0.95  # fluid may fill pixels that are nearly black
    added = (head.array > 12).mean() * head.array.size - (shown > 12).sum()
    assert added > 0.3 * brain.sum()
    assert (with_skull(volume, 7)[0].array == head.array).all()
    assert (with_skull(volume, 8)[0].array != head.array).any()


@pytest.mark.parametrize("case", ["one", "two"])
def test_voxels_and_labels_stay_where_they_were_under_the_skull(data, case):
    volume = read_volume(data / "brains" / case / "image.nii.gz")
    labels = read_label_array(data / "brains" / case / "labels.nii.gz")
    head, pad = with_skull(volume, 1)
    for value in (1, 2):
        for array, space in ((labels, volume), (np.pad(labels, pad), head)):
            kji = np.argwhere(array == value).mean(0)
            ras = space.ijk_to_ras[:3, :3] @ kji[::-1] + space.ijk_to_ras[:3, 3]
            assert ras == pytest.approx([-32 if value == 1 else 32, -8, -18], abs=2.5)


def test_skull_is_one_head_in_all_directions(data):
    """A slice across another shows the same voxels along the line where they meet."""
    head, _ = with_skull(read_volume(data / "brains" / "one" / "image.nii.gz"), 3)
    cuts = dict(anatomical_slices(head, 500.0))
    assert set(cuts) == {"axial", "coronal", "sagittal"}
    axial, coronal = cuts["axial"], cuts["coronal"]
    at_s, at_a = axial.pixel_to_ras[2, 3], coronal.pixel_to_ras[1, 3]
    middle = [[0.0, at_a, at_s]]
    row = axial.pixels[round(float(axial.to_pixels(middle)[0, 1]))]
    other = coronal.pixels[round(float(coronal.to_pixels(middle)[0, 1]))]
    assert (row == other).mean() > 0.98 and row.max() > 50


def test_samples_with_skull_are_those_without(data):
    def names(skull):
        found = {}
        for _, cut, samples in case_slices(data, "brains/one", 12.0, skull):
            for s in samples:
                centre = cut.to_ras([np.argwhere(s.mask).mean(0)[::-1]])[0]
                key = (s.label.name, s.plane, *np.rint(centre / 4).astype(int))
                found[key] = int(s.mask.sum()), (cut.pixels > 12).mean()
        return found

    plain, skulled = names(False), names(True)
    # padding shifts which layers are taken, but the structures are all there
    assert {k[:2] for k in plain} == {k[:2] for k in skulled}
    assert max(b for _, b in skulled.values()) > 0


def test_pictures_and_whole_heads_get_no_skull(data):
    assert not looks_stripped(read_volume(data / "heads" / "a" / "image.png"))
    head, pad = with_skull(read_volume(data / "brains" / "one" / "image.nii.gz"), 3)
    noisy = np.maximum(head.array, 1)
    from velcro_engine.imaging.volume import make_volume

    assert not looks_stripped(make_volume(noisy, head.ijk_to_ras))
    labels = read_label_array(data / "brains" / "one" / "labels.nii.gz")
    cut = next(c for p, c in anatomical_slices(head, 500.0) if p == "axial")
    assert labels_to_slice(np.pad(labels, pad), cut, head).shape == cut.pixels.shape
