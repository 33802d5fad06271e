import json
from types import SimpleNamespace

import numpy as np
import pytest

from standin_runtime import StandInRuntime, text_vector
from velcro_engine.commands.propagate import ends
from velcro_engine.errors import Cancelled, GeometryError, InputError
from velcro_engine.imaging.volume import make_volume
from velcro_engine.knowledge_base import load_knowledge_base, text
from velcro_engine.linking.linker import Linker
from velcro_engine.propagation.propagate import propagate
from velcro_engine.worker.review_handlers import propagate as handle_propagate
from velcro_engine.worker.review_handlers import review as handle_review

SHAPE = (40, 64, 64)
MATRIX = np.diag([-1.0, -1.0, 1.0, 1.0])


def ball(centre=(20, 32, 32), radius=9):
    grid = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2


@pytest.fixture(scope="module")
def linker():
    base = load_knowledge_base(None)
    vectors = np.stack([text_vector(text(entry)) for entry in base.entries])
    return Linker(StandInRuntime(base.entries), base, vectors)


@pytest.fixture(scope="module")
def image():
    array = np.full(SHAPE, 60, np.uint8)
    array[:, 4:60, 4:60] = 90
    array[ball()] = 200
    return make_volume(array, MATRIX, "MR")


BOX = (22.5, 22.5, 41.5, 41.5)


def overlap(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_a_ball_is_followed_from_its_middle_to_both_ends(linker, image):
    found = propagate(linker, image, "axial", 20, BOX)
    assert overlap(found.voxels, ball()) > 0.9
    assert min(found.steps) >= 10 and max(found.steps) <= 30
    assert found.stopped["-"] and found.stopped["+"]
    assert found.volume_ml == pytest.approx(ball().sum() / 1000, rel=0.15)
    assert found.longest_mm == pytest.approx(19, abs=2)
    json.dumps(found.summary(), allow_nan=False)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_it_ends_at_the_border_of_the_volume(linker, plane):
    array = np.full((12, 40, 40), 60, np.uint8)
    array[:, 12:28, 12:28] = 200
    block = make_volume(array, MATRIX, "MR")
    mask = None
    start = {"axial": 6, "coronal": 20, "sagittal": 20}[plane]
    from velcro_engine.imaging.slice_voxels import labels_to_slice
    from velcro_engine.imaging.slices import cut_plane

    mask = labels_to_slice(
        (array == 200).astype(np.uint8), cut_plane(block, plane, index=start), block
    )
    found = propagate(linker, block, plane, start, mask=mask > 0)
    assert found.voxels.shape == array.shape
    assert overlap(found.voxels, array == 200) > 0.85


def test_an_accepted_mask_is_kept_as_it_is(linker, image):
    mask = ball()[20, ::-1, ::-1].copy()[::-1, ::-1]
    first = propagate(linker, image, "axial", 20, BOX)
    own = np.zeros_like(first.steps[20].mask)
    own[26:38, 26:38] = True
    found = propagate(linker, image, "axial", 20, mask=own)
    assert np.array_equal(found.steps[20].mask, own) and mask.any()


def test_a_correction_is_done_again_from_there_and_keeps_what_lies_before(linker, image):
    first = propagate(linker, image, "axial", 20, BOX)
    second = propagate(
        linker, image, "axial", 20, BOX, corrections={24: [(32.0, 32.0, 1)]}, before=first
    )
    for index in range(min(first.steps), 24):
        assert second.steps[index] is first.steps[index]
    assert second.steps[24].corrected and second.steps[24] is not first.steps[24]


@pytest.mark.parametrize("index", [20, 24])
def test_points_are_kept_to_on_their_slice(linker, image, index):
    """On the start slice too; what is not like a point outside stays."""
    outside, inside = (28.0, 31.0, 0), (36.0, 33.0, 1)
    found = propagate(linker, image, "axial", 20, BOX, corrections={index: [outside, inside]})
    mask = found.steps[index].mask
    assert not mask[31, 28] and mask[33, 36] and found.steps[index].corrected
    assert not found.voxels[index][31, 28] and found.voxels[index][33, 36]  # pixels are voxels here


def test_points_change_an_accepted_mask_only_near_them(linker, image):
    own = np.zeros((64, 64), bool)
    own[24:40, 24:40] = True
    found = propagate(linker, image, "axial", 20, mask=own, corrections={20: [(37.0, 37.0, 0)]})
    mask = found.steps[20].mask
    assert not mask[37, 37] and mask[24:30, 24:30].all() and not (mask & ~own).any()


def test_a_correction_beyond_the_end_is_reached(linker, image):
    found = propagate(linker, image, "axial", 20, BOX, corrections={35: [(32.0, 32.0, 1)]})
    assert found.steps[35].corrected and found.voxels[35].any()


def test_points_outside_beyond_the_end_are_kept_to(linker, image):
    """Where nothing is found the neighbour's mask goes on, but not over them."""
    outside = [(30.0, 30.0, 0), (32.0, 33.0, 0)]
    points = [(36.0, 36.0, 1), *outside]
    found = propagate(linker, image, "axial", 20, BOX, corrections={35: points})
    layer = found.voxels[35]
    assert layer[36, 36] and not any(layer[int(y), int(x)] for x, y, _ in outside)


def test_a_finding_keeps_the_walks_mask(linker, image, monkeypatch):
    from velcro_engine.propagation.identity import Identity

    monkeypatch.setattr(Identity, "kind", "pathology")
    told = []
    found = propagate(linker, image, "axial", 20, BOX, progress=lambda f, m: told.append(m))
    assert told and all(message.startswith("axial") for message in told)
    assert sorted(found.areas) == sorted(found.steps)


def test_one_direction_alone_is_the_walk(linker, image):
    found = propagate(linker, image, "axial", 20, BOX, consensus=False)
    assert overlap(found.voxels, ball()) > 0.9
    assert sorted(found.areas) == sorted(found.steps)


def test_the_slices_told_are_those_of_the_region(linker, image):
    """Not those of the walk, which three directions may leave or go beyond."""
    found = propagate(linker, image, "axial", 20, BOX)
    told = found.summary()
    layers = np.flatnonzero(found.voxels.any(axis=(1, 2)))
    assert [row["index"] for row in told["slices"]] == layers.tolist()
    assert (told["first"], told["last"]) == (layers[0], layers[-1])
    areas = [np.count_nonzero(found.voxels[k]) for k in layers]  # voxels of 1 mm
    assert [row["area_mm2"] for row in told["slices"]] == areas


def test_cancel_stops_at_the_next_slice(linker, image):
    seen = []

    def progress(fraction, message):
        seen.append(fraction)
        if len(seen) == 3:
            raise Cancelled("Cancelled.")

    with pytest.raises(Cancelled):
        propagate(linker, image, "axial", 20, BOX, progress=progress)
    assert len(seen) == 3


def test_what_cannot_be_propagated_says_why(linker, image):
    with pytest.raises(InputError, match="empty"):
        propagate(linker, image, "axial", 20, mask=np.zeros((64, 64), bool))
    with pytest.raises(InputError, match="Unknown plane"):
        propagate(linker, image, "oblique", 20, BOX)
    with pytest.raises(GeometryError, match="no axial slice"):
        propagate(linker, image, "axial", 20, BOX, corrections={99: [(1.0, 1.0, 1)]})
    with pytest.raises(GeometryError):
        propagate(linker, image, "axial", 99, BOX)


class Context:
    """What a handler asks of the worker."""

    def __init__(self, linker):
        self.session = {"linker": linker}

    def check_cancelled(self):
        pass

    def progress(self, fraction, message=""):
        pass


def volume_header(array):
    return {"id": "v1", "shape": list(array.shape), "dtype": "uint8", "ijk_to_ras": MATRIX.tolist()}


def test_the_worker_answers_with_bits_and_keeps_the_volume(linker, image):
    context = Context(linker)
    header = {"volume": volume_header(image.array), "plane": "axial", "index": 20, "box": BOX}
    answer, payload = handle_propagate(header, image.array.tobytes(), context)
    bits = np.unpackbits(np.frombuffer(payload, np.uint8), count=image.array.size)
    assert overlap(bits.reshape(SHAPE).astype(bool), ball()) > 0.9
    assert answer["result"]["volume_ml"] > 1
    again = {
        **header,
        "volume": {"id": "v1"},
        "corrections": [{"index": 24, "points": [[32, 32, 1]]}],
    }
    answer, _ = handle_propagate(again, b"", context)
    assert any(row["corrected"] for row in answer["result"]["slices"])
    with pytest.raises(InputError, match="send it again"):
        handle_propagate({**header, "volume": {"id": "other"}}, b"", context)


def test_the_worker_reviews_layers_sent_with_the_volume(linker, image):
    labels = ball().astype(np.uint8) * 5
    header = {
        "volume": volume_header(image.array),
        "segmentation": {
            "segments": [{"id": "a", "name": "Liver", "terminology": "", "layer": 0, "value": 5}],
            "layers": [{"shape": list(SHAPE), "dtype": "uint8"}],
            "ijk_to_ras": MATRIX.tolist(),
        },
    }
    payload = image.array.tobytes() + labels.tobytes()
    answer, _ = handle_review(header, payload, Context(linker))
    row = answer["result"]["rows"][0]
    assert row["own_entry"] == "liver" and row["volume_ml"] == pytest.approx(ball().sum() / 1000)
    with pytest.raises(InputError):
        handle_review({**header, "segmentation": {}}, payload, Context(linker))
    with pytest.raises(InputError, match="incomplete"):
        handle_review(header, payload[:100], Context(linker))


@pytest.mark.parametrize(
    ("sign", "told"), [(1, "inferior: a; superior: b"), (-1, "inferior: b; superior: a")]
)
def test_the_ends_are_told_by_direction_in_the_patient(linker, sign, told):
    volume = make_volume(np.zeros((8, 8, 8), np.uint8), np.diag([-1.0, -1.0, sign, 1.0]), "MR")
    found = SimpleNamespace(plane="axial", stopped={"-": "a", "+": "b"})
    assert ends(found, volume) == told
