import json

import numpy as np
import pytest

from standin_runtime import StandInRuntime, text_vector
from velcro_engine.errors import Cancelled
from velcro_engine.imaging.volume import make_volume
from velcro_engine.knowledge_base import load_knowledge_base, text
from velcro_engine.linking.linker import Linker
from velcro_engine.pages.review import review_page
from velcro_engine.review import review_segmentation
from velcro_engine.review.flags import Evidence, judge
from velcro_engine.review.sides import contradiction, find_middle
from velcro_engine.review.table import review_csv, review_document
from velcro_engine.segmentations.placing import place_on_volume
from velcro_engine.segmentations.shapes import cut_out, measure_shape
from velcro_engine.segmentations.stored import NamedSegment, StoredSegmentation

SHAPE = (60, 70, 80)
MATRIX = np.diag([-1.0, 1.0, 1.0, 1.0])  # I runs to the patient's left
MATRIX[0, 3] = 40.0


@pytest.fixture(scope="module")
def base():
    return load_knowledge_base(None)


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(0)
    return make_volume(rng.integers(50, 250, SHAPE).astype(np.uint8), MATRIX, "MR")


def segmentation(image, *segments):
    """Each (name, side, mask): in layers of their own where they overlap."""
    layers, named = [], []
    for number, (name, side, mask) in enumerate(segments, 1):
        layer = next((n for n, a in enumerate(layers) if not a[mask].any()), len(layers))
        if layer == len(layers):
            layers.append(np.zeros(SHAPE, np.int32))
        layers[layer][mask] = number
        named.append(NamedSegment(f"s{number}", name, layer, number, side=side))
    layers = layers or [np.zeros(SHAPE, np.int32)]
    return place_on_volume(StoredSegmentation(tuple(named), tuple(layers), MATRIX, "test"), image)


def ball(k, j, i, radius=8):
    grid = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return sum((g - c) ** 2 for g, c in zip(grid, (k, j, i), strict=True)) <= radius**2


def kinds(review, name):
    row = next(r for r in review.rows if r.segment.name == name)
    return {finding.kind for finding in row.judgement.findings}


def test_diameters_pieces_holes_and_volume_are_measured(image):
    mask = ball(30, 35, 40, 10)
    mask[30, 35, 40] = False
    mask[5, 5, 5] = True
    shape = cut_out(segmentation(image, ("Liver", None, mask)))[0]
    measure_shape(shape, image)
    assert shape.longest_mm == pytest.approx(21, abs=1) and len(shape.pieces) == 2
    assert shape.perpendicular_mm == pytest.approx(21, abs=1)
    assert shape.holes == 1 and shape.voxels == mask.sum()


def test_an_emptied_slice_is_found_in_each_direction_and_a_whole_ball_has_none(image):
    for axis, plane in enumerate(("axial", "coronal", "sagittal")):
        mask = ball(30, 35, 40)
        np.moveaxis(mask, axis, 0)[(30, 35, 40)[axis]] = False
        shape = cut_out(segmentation(image, ("Liver", None, mask)))[0]
        measure_shape(shape, image)
        assert [gap.plane for gap in shape.gaps] == [plane]
    shape = cut_out(segmentation(image, ("Liver", None, ball(30, 35, 40))))[0]
    measure_shape(shape, image)
    assert shape.gaps == []


def test_exchanged_sides_are_found_although_the_middle_comes_from_the_names(base, image):
    pairs = []
    for row, name in enumerate(("Hippocampus", "Putamen", "Thalamus", "Amygdala")):
        left, right = ball(30, 10 + 15 * row, 60, 6), ball(30, 10 + 15 * row, 20, 6)
        if name == "Putamen":
            left, right = right, left
        pairs += [(f"Left {name}", "left", left), (f"Right {name}", "right", right)]
    review = review_segmentation(image, segmentation(image, *pairs), base, pictures=False)
    assert kinds(review, "Left Putamen") == kinds(review, "Right Putamen") == {"side"}
    assert {r.segment.name for r in review.rows[:2]} == {"Left Putamen", "Right Putamen"}
    assert not any(row.flagged for row in review.rows[2:])


def test_the_middle_needs_pairs_or_a_body():
    assert find_middle([], None) is None
    pairs = [(np.array([-20.0, y, 0]), np.array([24.0, y, 0])) for y in (0, 10, 20)]
    middle = find_middle(pairs, None)
    assert middle.right_of(np.array([2.0, 5, 0])) == pytest.approx(0, abs=1e-6)
    assert contradiction(middle, "left", np.array([22.0, 0, 0]), None) == pytest.approx(20)
    assert contradiction(middle, "right", np.array([22.0, 0, 0]), None) is None


def test_empty_duplicate_overlapping_and_misordered_segments_are_flagged(base, image):
    review = review_segmentation(
        image,
        segmentation(
            image,
            ("Spleen", None, ball(30, 35, 40)),
            ("Liver", None, ball(34, 35, 40)),
            ("Pancreas", None, np.zeros(SHAPE, bool)),
            ("anterior hippocampus", None, ball(12, 15, 12, 4)),
            ("posterior hippocampus", None, ball(12, 30, 12, 4)),
            ("Left Kidney", "left", ball(50, 12, 60, 5)),
            ("Left kidney", "left", ball(50, 60, 60, 5)),
        ),
        base,
        pictures=False,
    )
    assert "overlap" in kinds(review, "Spleen") and "empty" in kinds(review, "Pancreas")
    assert "order" in kinds(review, "anterior hippocampus")
    assert "duplicate" in kinds(review, "Left Kidney")
    assert len(review.rows) == 7


def test_several_weak_signs_add_up_and_the_models_agreement_takes_away():
    usual = {"cases": 20, "moved_mm": np.ones(3), "ml": 5.0, "extent_ratio": 1.5}
    weak = Evidence(distance=3.2, extent=4.2, grey=3.4, **usual)
    assert judge(weak).flagged and judge(weak).findings
    assert not judge(Evidence(distance=3.2, **usual)).flagged
    assert judge(weak).score > judge(Evidence(**{**vars(weak), "confirmed": True})).score


def test_linking_encodes_each_slice_once_and_fills_the_table(base, image, tmp_path):
    runtime = StandInRuntime(base.entries)
    vectors = np.stack([text_vector(text(entry)) for entry in base.entries])
    linker = Linker(runtime, base, vectors)
    own = segmentation(
        image, ("Liver", None, ball(30, 35, 30)), ("<b>Odd</b>", None, ball(30, 35, 60))
    )
    told = []
    review = review_segmentation(
        image, own, base, linker, lambda fraction, message: told.append(fraction)
    )
    slices = {(link.plane, link.index) for row in review.rows for link in row.slices}
    assert runtime.encoded == len(slices) and told == sorted(told) and told[-1] == 1.0
    assert all(
        {s.plane for s in row.slices} == {"axial", "coronal", "sagittal"} for row in review.rows
    )
    document = json.loads(json.dumps(review_document(review), allow_nan=False))
    assert document["rows"][0]["linked"] and document["rows"][0]["dice"] is not None
    assert review_csv(review).count("\n") == 3
    page = review_page(review)
    assert "&lt;b&gt;Odd" in page and "<b>Odd" not in page and "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_review_can_be_cancelled_and_holds_500_segments(base, image):
    many = [
        (f"Part {n}", None, ball(4 + 6 * (n % 9), 4 + 7 * (n // 9 % 9), 3 + 10 * (n // 81), 2))
        for n in range(500)
    ]
    own = segmentation(image, *many)

    def stop(fraction, message):
        if fraction > 0.05:
            raise Cancelled("Cancelled.")

    with pytest.raises(Cancelled):
        review_segmentation(image, own, base, None, stop)
    assert len(review_segmentation(image, own, base, pictures=False).rows) == 500
