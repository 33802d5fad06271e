"""Phrases find their regions; phrases of what is not there find nothing."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from grounding_runtime import GroundingRuntime, grey_of
from test_volume import sitk_image
from velcro_engine.commands import ground as ground_command
from velcro_engine.commands.cli import main
from velcro_engine.errors import InputError
from velcro_engine.finding.grounding import ground, merged, view_slice
from velcro_engine.finding.phrases import read_phrase
from velcro_engine.finding.proposals import connected
from velcro_engine.knowledge_base import active_paths, load_knowledge_base
from velcro_engine.knowledge_base.search import SearchIndex
from velcro_engine.knowledge_base.store import KnowledgeBase
from velcro_engine.linking.linker import Linker
from velcro_engine.messages.request import SliceRequest
from velcro_engine.worker.ground_handler import ground as ground_message

NAMES = ("spleen", "hippocampus", "thalamus", "putamen", "liver", "kidney", "pleural_effusion")


@pytest.fixture(scope="module")
def linker():
    whole = load_knowledge_base(active_paths())
    base = KnowledgeBase(tuple(whole.by_id[name] for name in NAMES), whole.sources)
    runtime = GroundingRuntime(base.entries)
    return Linker(runtime, base, runtime.embed_text([_text(e) for e in base.entries]))


def _text(entry):
    from velcro_engine.knowledge_base import text

    return text(entry)


@pytest.fixture(scope="module")
def index(linker):
    return SearchIndex(linker.knowledge_base)


def request_with(linker, squares, position=True):
    """A slice with a square of each (entry, x): 40 x 40 pixels at height 80."""
    pixels = np.zeros((224, 224), np.uint8)
    pixels[0, 0] = pixels[-1, -1] = 255
    for entry, x in squares:
        pixels[80:120, x : x + 40] = grey_of(linker.runtime, entry)
    return SliceRequest(
        pixels=pixels,
        pixel_to_ras=np.diag([-1.0, -1, 1, 1]) if position else None,
        points=((0, 0, 1),),
        plane="axial" if position else None,
    )


def found(linker, index, request, text, **options):
    phrase = read_phrase(text, linker.knowledge_base, index)
    return ground(linker, view_slice(linker, request), phrase, **options)


def test_a_phrase_finds_its_region(linker, index):
    request = request_with(linker, [("hippocampus", 20), ("liver", 150)])
    answer = found(linker, index, request, "hippocampus")
    assert answer.present and len(answer.regions) == 1
    region = answer.regions[0].mask
    truth = np.zeros(region.shape, bool)
    truth[80:120, 20:60] = True
    assert (region & truth).sum() / (region | truth).sum() > 0.85
    assert answer.heat[100, 40] > 0.5 > answer.heat[100, 170]


def test_a_synonym_finds_it_as_well(linker, index):
    request = request_with(linker, [("hippocampus", 20), ("liver", 150)])
    assert found(linker, index, request, "hippocampal formation").present


def test_what_is_not_there_is_said_to_be_absent(linker, index):
    request = request_with(linker, [("hippocampus", 20), ("liver", 150)])
    for text in ("kidney", "pleural effusion", "a phrase nobody knows"):
        answer = found(linker, index, request, text)
        assert not answer.present and answer.score < 0.1


def test_the_side_of_a_phrase_picks_one_of_two(linker, index):
    request = request_with(linker, [("kidney", 20), ("kidney", 160)])
    both = found(linker, index, request, "kidney")
    assert len(both.regions) == 2
    left = found(linker, index, request, "left kidney")
    assert len(left.regions) == 1 and left.regions[0].box[0] > 112  # radiological display


def test_no_side_is_told_on_a_picture(linker, index):
    request = request_with(linker, [("kidney", 20), ("kidney", 160)], position=False)
    answer = found(linker, index, request, "left kidney")
    assert len(answer.regions) == 2 and all(r.side is None for r in answer.regions)


def test_the_threshold_decides(linker, index):
    request = request_with(linker, [("hippocampus", 20)])
    assert not found(linker, index, request, "hippocampus", present_above=0.999).present
    assert found(linker, index, request, "hippocampus", present_above=0.0).present


@pytest.mark.parametrize("value", [0, 255])
def test_an_empty_slice_answers_not_in_this_slice(linker, index, value):
    pixels = np.full((64, 80), value, np.uint8)
    request = SliceRequest(pixels=pixels, points=((0, 0, 1),))
    answer = found(linker, index, request, "hippocampus")
    assert not answer.present and answer.heat.shape == (64, 80)


def test_a_tiny_slice_is_no_failure(linker, index):
    request = SliceRequest(pixels=np.full((1, 3), 9, np.uint8), points=((0, 0, 1),))
    found(linker, index, request, "liver")


@pytest.mark.parametrize("text", ["", "   ", "x" * 400])
def test_a_phrase_must_say_something(linker, index, text):
    with pytest.raises(InputError):
        read_phrase(text, linker.knowledge_base, index)


def test_phrases_are_read_with_side_and_parts():
    base = load_knowledge_base(active_paths())
    index = SearchIndex(base)
    left = read_phrase("Left  hippocampus", base, index)
    assert left.side == "left" and left.entries[0] == "hippocampus"
    assert "anterior_hippocampus" in left.entries
    assert read_phrase("both kidneys", base, index).side is None
    assert read_phrase("lungs", base, index).entries[0] == "lung"
    assert read_phrase("qqzzxy wvut", base, index).entries == ()


def test_merging_keeps_the_better_of_two_that_overlap(linker, index):
    request = request_with(linker, [("kidney", 20), ("kidney", 160)])
    regions = list(found(linker, index, request, "kidney").regions)
    assert len(merged(regions + regions)) == 2


def test_pieces_are_numbered():
    mask = np.zeros((5, 9), bool)
    mask[1, 1] = mask[3, 7] = True
    assert connected(mask).max() == 2


class Context:
    """What a handler asks of the worker."""

    def __init__(self, linker):
        self.session = {"linker": linker}

    def check_cancelled(self):
        pass


def test_the_worker_answers_with_masks_and_heat(linker):
    request = request_with(linker, [("hippocampus", 20), ("hippocampus", 150)])
    header, payload = request.to_message()
    context = Context(linker)
    message = {"type": "ground", "request": header, "phrase": "hippocampus"}
    encoded = linker.runtime.encoded
    answer, data = ground_message(message, payload, context)
    ground_message({**message, "phrase": "liver"}, payload, context)
    assert linker.runtime.encoded == encoded + 1, "two phrases, one encoding"
    result = answer["result"]
    assert answer["type"] == "ground" and result["present"] and len(result["regions"]) == 2
    size = -(-224 * 224 // 8)
    assert len(data) == 2 * size + 224 * 224
    mask = np.unpackbits(np.frombuffer(data[:size], np.uint8)).reshape(224, 224)
    assert mask.sum() == result["regions"][0]["pixels"]
    json.dumps(answer, allow_nan=False)
    for bad in ({"phrase": "x"}, {"request": header}, {**message, "threshold": "much"}):
        with pytest.raises(InputError):
            ground_message(bad, payload, context)


def test_the_command_writes_what_it_found(linker, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ground_command, "open_linker", lambda *_: linker)
    request = request_with(linker, [("hippocampus", 60)])
    pixels = request.pixels.copy()
    pixels[200:] = 255  # so that the file's window is that of the grey levels
    image = sitk.GetImageFromArray(np.repeat(pixels[None], 5, axis=0))
    path = tmp_path / "image.nii.gz"
    sitk.WriteImage(image, str(path))
    out = tmp_path / "out"
    arguments = ["ground", str(path), "--plane", "axial", "--out", str(out)]
    assert main([*arguments, "--phrase", "hippocampus"]) == 0
    document = json.loads((out / "regions.json").read_text())
    assert document["present"] and (out / "mask.seg.nrrd").exists()
    assert {p.name for p in out.iterdir()} >= {"regions.json", "regions.png", "heat.png"}
    assert "R,A,S" in capsys.readouterr().out
    assert main([*arguments, "--phrase", "kidney"]) == 0
    assert "is not in this slice" in capsys.readouterr().out
    assert not (out / "mask.seg.nrrd").exists(), "the mask of the phrase before"
    assert main([*arguments, "--phrase", ""]) == 2
    with pytest.raises(SystemExit) as left:
        main([*arguments, "--phrase", "kidney", "--threshold", "7"])
    assert left.value.code == 2


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_command_tells_where_it_lies_in_mm(linker, tmp_path, monkeypatch, capsys, plane):
    """A box of 40 x 40 x 40 mm, R 10 to 50, A -30 to 10, S 60 to 100, in voxels of 1 x 2 x 2 mm."""
    monkeypatch.setattr(ground_command, "open_linker", lambda *_: linker)
    array = np.zeros((112, 112, 224), np.uint8)
    array[0, 0, 0], array[:, -4:] = 255, 255
    array[:, :, -8:], array[-4:] = 255, 255
    affine = np.array([[-1.0, 0, 0, 112], [0, -2, 0, 112], [0, 0, 2, -40], [0, 0, 0, 1]])
    k, j, i = np.indices(array.shape)
    r, a, s = 112 - i, 112 - 2 * j, 2 * k - 40
    inside = (abs(r - 30) < 20) & (abs(a + 10) < 20) & (abs(s - 80) < 20)
    array[inside] = grey_of(linker.runtime, "liver")
    sitk.WriteImage(sitk_image(array, affine), str(tmp_path / "image.nii.gz"))
    at = {"axial": 80, "coronal": -10, "sagittal": 30}[plane]
    arguments = ["--plane", plane, "--at", str(at), "--phrase", "liver", "--out"]
    assert main(["ground", str(tmp_path / "image.nii.gz"), *arguments, str(tmp_path / "o")]) == 0
    output = capsys.readouterr().out
    assert "in mm" in output and "pixels" not in output
    region = json.loads((tmp_path / "o" / "regions.json").read_text())["regions"][0]
    normal = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    assert np.allclose(region["centre_ras_mm"], [30, -10, 80], atol=4)
    low, high = region["box_ras_mm"][:3], region["box_ras_mm"][3:]
    for axis, (least, most) in enumerate(([10, 50], [-30, 10], [60, 100])):
        if axis == normal:
            assert low[axis] == high[axis] == at
        else:
            assert abs(low[axis] - least) < 6 and abs(high[axis] - most) < 6
    assert ",".join(f"{v:.1f}" for v in region["box_ras_mm"]) in output


def test_a_plain_picture_is_told_in_pixels(linker, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ground_command, "open_linker", lambda *_: linker)
    pixels = request_with(linker, [("liver", 60)]).pixels.copy()
    pixels[200:] = 255
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / "image.png"))
    arguments = ["--phrase", "liver", "--out", str(tmp_path / "o")]
    assert main(["ground", str(tmp_path / "image.png"), *arguments]) == 0
    output = capsys.readouterr().out
    assert " pixels" in output and "mm" not in output
    region = json.loads((tmp_path / "o" / "regions.json").read_text())["regions"][0]
    assert "box_ras_mm" not in region and len(region["box"]) == 4
