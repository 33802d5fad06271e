from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standin_runtime import StandInRuntime, standin_linker, text_vector
from velcro_engine.errors import Cancelled, ModelError
from velcro_engine.imaging.mask_pieces import clean_mask
from velcro_engine.knowledge_base import text
from velcro_engine.linking.entry_embeddings import (
    entry_embeddings,
    read_entry_embeddings,
    write_entry_embeddings,
)
from velcro_engine.linking.linker import CACHED_SLICES, Linker
from velcro_engine.messages.request import Foreground, SliceRequest
from velcro_engine.messages.result import LinkResult

pytestmark = pytest.mark.usefixtures("own_home")
FORE = Foreground((0.0, 0.0, 0.0), (70.0, 80.0, 60.0))


@pytest.fixture
def make(bundled):
    """make(ids of entries, **options of the stand-in) -> Linker."""
    return partial(standin_linker, bundled)


def disc_request(grey=200, **changes):
    y, x = np.mgrid[:120, :140]
    pixels = np.full((120, 140), 60, np.uint8)
    pixels[(x - 70) ** 2 + (y - 50) ** 2 < 20**2] = grey
    matrix = np.diag([-0.5, -0.5, 1.0, 1.0])
    matrix[:3, 3] = (40, 10, 0)
    values = {
        "pixels": pixels,
        "pixel_to_ras": matrix,
        "foreground": FORE,
        "box": (49, 29, 91, 71),
        "plane": "axial",
    } | changes
    return SliceRequest(**values)


def test_region_is_linked_with_mask_name_side_and_size(make):
    result = make(["putamen", "hippocampus"]).link(disc_request())
    assert result.entries[0].id == "hippocampus" and result.entries[0].side == "left"
    assert not result.abstained and result.entries[0].confidence > 0.9
    assert result.attributes["longest_diameter_mm"] == pytest.approx(20, abs=1.5)
    assert result.attributes["area_mm2"] == pytest.approx(np.pi * 100, rel=0.1)
    confidences = [e.confidence for e in result.entries]
    assert confidences == sorted(confidences, reverse=True) and len(confidences) == 10
    assert np.linalg.norm(result.embedding) == pytest.approx(1, abs=1e-5)
    assert result.model == "stand-in 1" and "velcrolink" in result.knowledge_base


def test_a_slice_is_encoded_once_whatever_is_asked_of_it(make):
    linker = make(["putamen", "hippocampus"])
    request = disc_request()
    first = linker.link(request)
    for box in ((55, 35, 85, 65), (52, 32, 80, 70)):
        assert linker.link(request.with_prompt(box=box)).seconds["encode"] == 0
    linker.link(request.with_prompt(points=((70, 50, 1),)))
    assert linker.runtime.encoded == 1 and first.seconds["encode"] > 0
    linker.link(disc_request(grey=201))
    assert linker.runtime.encoded == 2


def test_the_embedding_cache_has_an_end(make):
    linker = make(["putamen"])
    for grey in range(100, 100 + CACHED_SLICES + 5):
        linker.link(disc_request(grey=grey))
    assert len(linker._slices) == CACHED_SLICES
    linker.link(disc_request(grey=100))
    assert linker.runtime.encoded == CACHED_SLICES + 6


def test_single_structures_and_pictures_without_position_get_no_side(make):
    assert make(["brainstem"]).link(disc_request()).entries[0].side is None
    assert make(["hippocampus"]).link(disc_request(pixel_to_ras=None)).entries[0].side is None


def test_a_finding_gets_a_side_only_when_the_model_sees_one(make, bundled):
    finding = next(e.id for e in bundled.entries if e.laterality == "any" and e.kind == "pathology")
    linker = make([finding])
    assert linker.link(disc_request()).entries[0].side == "left"
    linker.runtime.side = np.array([0.0, 2.0, 5.0], np.float32)
    assert linker.link(disc_request()).entries[0].side is None


def test_it_abstains_below_the_calibrated_threshold_and_names_the_nearest(make):
    linker = make(["hippocampus"], abstain_below=0.9999999)
    result = linker.link(disc_request())
    assert result.abstained and result.entries[0].id == "hippocampus"


def test_it_abstains_when_nothing_fits_better_than_any_entry(make, bundled):
    linker = make(["hippocampus"])
    linker.runtime.nothing = text_vector(text(bundled.entry("hippocampus")))
    result = linker.link(disc_request())
    assert not result.abstained  # a tie goes to the entry
    linker.embeddings = linker.embeddings.copy()
    linker.embeddings[:] = text_vector("something else")
    assert linker.link(disc_request()).abstained


def test_cancelling_between_the_steps_ends_the_link(make):
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 2:
            raise Cancelled("Cancelled.")

    with pytest.raises(Cancelled):
        make(["hippocampus"]).link(disc_request(), check)


def test_a_model_without_finite_answer_is_an_error(make):
    linker = make(["hippocampus"])
    linker.embeddings = np.full_like(linker.embeddings, np.nan)
    with pytest.raises(ModelError, match="no finite answer"):
        linker.link(disc_request())


def test_embeddings_of_another_knowledge_base_are_refused(bundled):
    with pytest.raises(ModelError):
        Linker(StandInRuntime(bundled.entries[:2]), bundled, np.zeros((3, 64), np.float32))


def test_the_answer_survives_the_process_boundary(make):
    result = make(["hippocampus"]).link(disc_request())
    again = LinkResult.from_message(*result.to_message())
    assert np.array_equal(again.mask, result.mask) and again.entries == result.entries
    assert again.attributes == result.attributes
    assert np.array_equal(again.embedding, result.embedding)


def test_embeddings_come_with_the_model_from_the_cache_or_from_the_text_tower(bundled, tmp_path):
    runtime = StandInRuntime(bundled.entries[:2])
    expected = np.stack([text_vector(text(e)) for e in bundled.entries])
    assert np.allclose(entry_embeddings(runtime, bundled), expected, atol=1e-6)
    assert runtime.embedded >= len(bundled)
    again = StandInRuntime(bundled.entries[:2])
    assert np.allclose(entry_embeddings(again, bundled), expected, atol=1e-6)
    assert again.embedded == 0
    path = tmp_path / "entry_embeddings.npz"
    write_entry_embeddings(path, runtime, bundled)
    brought = StandInRuntime(bundled.entries[:2])
    brought.fingerprint = "another model"
    brought.entry_embeddings_path = path
    assert np.allclose(entry_embeddings(brought, bundled), expected, atol=2e-3)
    assert brought.embedded == 0


def test_a_damaged_file_of_embeddings_is_refused(tmp_path):
    path = tmp_path / "entry_embeddings.npz"
    path.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(ModelError, match="damaged"):
        read_entry_embeddings(path)


def pieces(*boxes, shape=(60, 60)):
    mask = np.zeros(shape, bool)
    for y0, y1, x0, x1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def prompt(box=None, points=()):
    return SliceRequest(pixels=np.zeros((60, 60), np.uint8), box=box, points=points)


def test_pieces_outside_the_box_and_specks_are_dropped():
    main, second, speck, far = (
        (10, 30, 10, 30),
        (32, 38, 12, 24),
        (31, 32, 33, 34),
        (50, 58, 50, 58),
    )
    found = clean_mask(pieces(main, second, speck, far), prompt(box=(8, 8, 40, 40)))
    assert np.array_equal(found, pieces(main, second))


def test_a_point_keeps_the_piece_it_lies_in_or_next_to():
    mask = pieces((10, 20, 10, 20), (30, 50, 30, 50))
    small = pieces((10, 20, 10, 20))
    assert np.array_equal(clean_mask(mask, prompt(points=((12, 15, 1),))), small)
    assert np.array_equal(clean_mask(mask, prompt(points=((8, 15, 1),))), small)


def test_an_empty_mask_stays_empty():
    assert not clean_mask(pieces(), prompt(box=(3, 3, 9, 9))).any()


def test_pieces_of_a_large_slice_are_told_apart_in_the_same_way():
    def large(mask):
        return np.repeat(np.repeat(mask, 40, axis=0), 40, axis=1)

    main, second, far = (10, 30, 10, 30), (32, 38, 12, 24), (50, 58, 50, 58)
    mask = large(pieces(main, second, far))
    box = tuple((v + 0.5) * 40 - 0.5 for v in (8, 8, 40, 40))
    request = SliceRequest(pixels=np.zeros(mask.shape, np.uint8), box=box)
    assert np.array_equal(clean_mask(mask, request), large(pieces(main, second)))
    point = SliceRequest(pixels=np.zeros(mask.shape, np.uint8), points=((2180, 2200, 1),))
    assert np.array_equal(clean_mask(mask, point), large(pieces(far)))


@given(seed=st.integers(0, 10**6), density=st.floats(0.05, 0.95))
@settings(max_examples=40, deadline=None)
def test_cleaning_only_removes_and_keeps_something(seed, density):
    random = np.random.default_rng(seed)
    mask = random.random((40, 50)) < density
    x0, y0 = random.uniform(0, 20, 2)
    request = SliceRequest(pixels=np.zeros((40, 50), np.uint8), box=(x0, y0, x0 + 20, y0 + 15))
    found = clean_mask(mask, request)
    assert not (found & ~mask).any() and found.any() == mask.any()
    assert np.array_equal(clean_mask(found, request), found)
