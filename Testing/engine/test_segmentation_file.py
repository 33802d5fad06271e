import numpy as np
import pytest
import SimpleITK as sitk

from affines import AFFINES
from velcro_engine.errors import InputError
from velcro_engine.imaging.segmentation_file import (
    Segment,
    colour_of,
    terminology_tag,
    write_segmentation,
)
from velcro_engine.imaging.volume import make_volume
from velcro_engine.knowledge_base.entry import Code, Entry

HIPPOCAMPUS = Entry(
    "hippocampus", "Hippocampus", "", "anatomy", codes=(Code("SCT", "5366008", "Hippocampus"),)
)
EDEMA = Entry("peritumoral_edema", "Peritumoral edema", "", "pathology")


def volume(name="oblique, flipped, left-handed"):
    return make_volume(np.zeros((6, 7, 8), np.int16), AFFINES[name])


def block(k, j, i):
    mask = np.zeros((6, 7, 8), bool)
    mask[k, j, i] = True
    return mask


def test_a_tag_has_seven_parts_and_the_side_is_a_modifier():
    parts = terminology_tag(HIPPOCAMPUS, "left").split("~")
    assert len(parts) == 7
    assert parts[1] == "SCT^123037004^Anatomical Structure"
    assert parts[2] == "SCT^5366008^Hippocampus" and parts[3] == "SCT^7771000^Left"
    assert terminology_tag(HIPPOCAMPUS, "right").split("~")[3] == "SCT^24028007^Right"
    assert terminology_tag(HIPPOCAMPUS, None).split("~")[3] == "^^"


def test_an_entry_without_snomed_code_gets_a_private_scheme():
    parts = terminology_tag(EDEMA, None).split("~")
    assert parts[2] == "99VELCROLINK^peritumoral_edema^Peritumoral edema"


def test_characters_that_separate_never_come_from_a_name():
    odd = Entry("odd", "A^b~c|d:e\nf", "", "anatomy")
    tag = terminology_tag(odd, None)
    assert tag.count("~") == 6 and "|" not in tag and "\n" not in tag and ":" not in tag


def test_colours_are_stable_and_differ():
    assert colour_of("hippocampus") == colour_of("hippocampus") != colour_of("thalamus")


# ITK writes no sheared images; volumes read from files have none either
@pytest.mark.parametrize("name", [n for n in AFFINES if "sheared" not in n])
def test_voxels_and_geometry_come_back_from_the_file(tmp_path, name):
    mask = block(slice(1, 3), slice(2, 5), slice(3, 8))
    path = tmp_path / "mask.seg.nrrd"
    write_segmentation(path, [Segment(mask, HIPPOCAMPUS, "left")], volume(name))
    image = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(image) > 0, mask)
    lps = AFFINES[name].copy()
    lps[:2] *= -1
    for ijk in ((0, 0, 0), (5, 4, 3)):
        assert np.allclose(
            image.TransformIndexToPhysicalPoint(ijk), (lps @ [*ijk, 1])[:3], atol=1e-4
        )
    assert image.GetMetaData("Segment0_Extent") == "3 7 2 4 1 2"
    assert image.GetMetaData("Segment0_Name") == "Hippocampus, left"


def test_overlapping_segments_keep_all_their_voxels(tmp_path):
    first, second = block(slice(0, 4), slice(0, 4), 2), block(slice(2, 6), slice(2, 6), 2)
    third = block(slice(0, 2), slice(5, 7), 5)
    path = tmp_path / "masks.seg.nrrd"
    segments = [Segment(m, e) for m, e in ((first, HIPPOCAMPUS), (second, EDEMA), (third, EDEMA))]
    write_segmentation(path, segments, volume())
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    for number, segment in enumerate(segments):
        layer = int(image.GetMetaData(f"Segment{number}_Layer"))
        value = int(image.GetMetaData(f"Segment{number}_LabelValue"))
        assert np.array_equal(array[..., layer] == value, segment.mask)


def test_slicer_opens_it_with_name_colour_and_terminology(tmp_path):
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    path = tmp_path / "mask.seg.nrrd"
    masks = (block(1, slice(2, 5), slice(3, 8)), block(1, slice(3, 7), slice(3, 8)))
    write_segmentation(
        path, [Segment(masks[0], HIPPOCAMPUS, "left"), Segment(masks[1], EDEMA)], volume()
    )
    scene = slicer.vtkMRMLScene()
    node, storage = slicer.vtkMRMLSegmentationNode(), slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(node)
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    segmentation = node.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == 2
    for number, (entry, side) in enumerate(((HIPPOCAMPUS, "left"), (EDEMA, None))):
        segment = segmentation.GetNthSegment(number)
        assert segment.GetName().startswith(entry.name)
        assert np.allclose(segment.GetColor(), colour_of(entry.id), atol=1e-3)
        assert segment.GetTerminology() == terminology_tag(entry, side)
    labelmap = segmentation.GetNthSegment(0).GetRepresentation("Binary labelmap")
    assert labelmap is not None


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_segmentation(
            tmp_path / "no" / "mask.seg.nrrd", [Segment(block(0, 0, 0), EDEMA)], volume()
        )
