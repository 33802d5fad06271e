"""Training slices: sides, positions and prompts stay true whatever is done to the picture."""

import numpy as np
import pytest

import tiny_cases
from tiny_cases import SIZE
from velcro_engine.imaging.reading import read_volume
from velcro_engine.imaging.slices import cut_matrix
from velcro_engine.model.preprocess import (
    GREY_MEAN,
    GREY_STD,
    Letterbox,
    model_image,
    position_map,
)
from velcro_engine.training.data import slice_sampler
from velcro_engine.training.data.slice_sampler import SliceSampler

LEFT, RIGHT, NEITHER = 0, 1, 2


@pytest.fixture
def sampler(read):
    return SliceSampler(read, tiny_cases.entities(read), SIZE, 4)


def drawn(sampler, count, seed=0):
    return [sampler.draw(np.random.default_rng([seed, n])) for n in range(count)]


def side_of_mask(made, row):
    """Side of a region from the position map under its mask: R is positive on the right."""
    right = made.position[0]
    mask = made.prompts.masks[row]
    cells = mask.reshape(SIZE // 8, 4, SIZE // 8, 4).mean((1, 3))
    at = float((right * cells).sum() / cells.sum())
    return LEFT if at < 0 else RIGHT


def test_cases_stored_from_left_and_from_right_read_the_same(read):
    one, two = read[:2]
    assert (one.layers[0] == two.layers[0]).all()
    assert np.allclose(one.origin, two.origin) and np.allclose(one.spacing, two.spacing)
    assert one.stripped and one.modality == "MR" and read[2].modality == "picture"


def test_sides_agree_with_positions_in_mirrored_and_unmirrored_slices(sampler):
    checked = {LEFT: 0, RIGHT: 0}
    for made in drawn(sampler, 60):
        placed = np.abs(made.position[3:6]).max() > 0
        for row, side in enumerate(made.prompts.side):
            if not placed:
                assert side == NEITHER or made.position[13].max() > 0
                continue
            if side in checked and made.prompts.has_mask[row]:
                assert side_of_mask(made, row) == side
                checked[int(side)] += 1
    assert min(checked.values()) > 10  # both sides, mirrored persons among them


def test_patients_right_is_at_the_left_of_axial_and_coronal_slices_also_when_mirrored(sampler):
    for made in drawn(sampler, 60, seed=1):
        sagittal = made.position[9].mean() > 0.9
        if np.abs(made.position[3]).max() == 0 or sagittal:
            continue
        right = made.position[0]
        assert right[:, 0].mean() > right[:, -1].mean()


def test_prompts_touch_their_masks(sampler):
    for made in drawn(sampler, 40, seed=2):
        prompts = made.prompts
        for row in range(len(prompts.entity)):
            if not prompts.has_mask[row]:
                assert prompts.entity[row] == sampler.nothing
                continue
            ys, xs = np.nonzero(prompts.masks[row])
            middle = np.array([xs.mean(), ys.mean()]) * 2 + 0.5
            if prompts.labels[row, 0] == 1:
                x, y = np.rint((prompts.points[row, 0] - 0.5) / 2).astype(int)
                assert prompts.masks[row][y, x]
            else:
                (x0, y0), (x1, y1) = prompts.points[row]
                assert x0 <= middle[0] <= x1 and y0 <= middle[1] <= y1


def test_an_entity_that_is_not_linked_gives_no_prompt(read):
    sampler = SliceSampler(read[:2], ["brainstem"], SIZE, 2)
    made = drawn(sampler, 10)
    linked = {int(e) for m in made for e in m.prompts.entity}
    assert linked <= {0, sampler.nothing}
    assert {int(e) for m in made for e in np.unique(m.dense_entity)} <= {-1, 0, sampler.nothing}


def test_same_seed_same_slice(sampler):
    first, again = drawn(sampler, 3), drawn(sampler, 3)
    for a, b in zip(first, again, strict=True):
        assert (a.image == b.image).all() and (a.prompts.points == b.prompts.points).all()


class Still:
    """A generator that leaves everything as it is: no turn, no warp, no crop, no mirror."""

    def __init__(self, axis):
        self.rng = np.random.default_rng(0)
        self.axis = axis
        self.choices = 0

    def choice(self, *args, **kwargs):
        self.choices += 1
        if self.choices == 2:  # aiming is the first, the slice's direction the second
            return self.axis
        return self.rng.choice(*args, **kwargs)

    def random(self, *args):
        return 0.6 if not args else self.rng.random(*args)

    def normal(self, mean=0.0, sd=1.0, size=None):
        return mean if size is None else np.full(size, mean)

    def uniform(self, low=0.0, high=1.0, size=None):
        return low if size is None else np.full(size, (low + high) / 2)

    def integers(self, *args, **kwargs):
        return self.rng.integers(*args, **kwargs)

    def standard_normal(self, size=None):
        return np.zeros(size)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_unaugmented_slice_is_what_linking_would_show(tiny_data, read, monkeypatch, axis):
    """Picture and position map of a training slice equal those of `slices.py` + `preprocess.py`
    for the same plane and window."""
    kept = {}

    def remember(matrix, fore, box):
        kept["matrix"], kept["fore"] = matrix, fore
        return position_map(matrix, fore, box)

    monkeypatch.setattr(slice_sampler, "position_map", remember)
    monkeypatch.setattr(slice_sampler, "degrade", lambda rng, image, keep_zero: image)
    monkeypatch.setattr(slice_sampler, "perturbed", lambda rng, case, *rest: case.fore)
    monkeypatch.setattr(slice_sampler, "random_rotation", lambda rng, tilt, spin, along: np.eye(3))
    sampler = SliceSampler(read, tiny_cases.entities(read), SIZE, 2)
    case = read[0]
    made = sampler._from_volume(Still(axis), 0, case)

    volume = read_volume(tiny_data / case.key / "image.nii.gz")
    assert np.allclose(kept["fore"].centre, volume.foreground.centre, atol=1e-3)
    assert np.allclose(kept["fore"].half_extent, volume.foreground.half_extent, atol=1e-3)
    matrix = kept["matrix"]
    plane = matrix.copy()
    plane[:3, 1] *= -1  # slice matrices point up
    cut = cut_matrix(volume, plane)
    scale = cut.spacing / np.linalg.norm(matrix[:3, 0])
    corner = cut.to_pixels(matrix[:3, 3])[0]  # pixel of the input's first pixel
    start = corner + 0.5 - 0.5 / scale
    box = Letterbox(float(start[0]), float(start[1]), float(scale), SIZE)
    expected = position_map(cut.pixel_to_ras, volume.foreground, box)[0]
    assert np.allclose(made.position, expected, atol=2e-3)
    shown = model_image(cut.pixels, box)[0, 0] * GREY_STD + GREY_MEAN
    mine = made.image[0] * GREY_STD + GREY_MEAN
    assert np.abs(shown - mine)[4:-4, 4:-4].mean() < 0.02
