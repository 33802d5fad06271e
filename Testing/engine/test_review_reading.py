import json

import numpy as np
import pytest
import SimpleITK as sitk

from velcro_engine.errors import GeometryError, InputError
from velcro_engine.imaging.segmentation_file import Segment, write_segmentation
from velcro_engine.imaging.volume import make_volume
from velcro_engine.knowledge_base import load_knowledge_base
from velcro_engine.knowledge_base.entry import Code
from velcro_engine.segmentations.names import (
    DIFFERENT,
    RELATED,
    SAME,
    UNKNOWN,
    NameReader,
    agreement,
)
from velcro_engine.segmentations.placing import image_of
from velcro_engine.segmentations.reading import read_segmentation
from velcro_engine.segmentations.stored import NamedSegment

SHAPE = (20, 24, 28)


@pytest.fixture(scope="module")
def base():
    return load_knowledge_base(None)


def volume(spacing=1.0, origin=(0.0, 0.0, 0.0), shape=SHAPE):
    matrix = np.diag([spacing, spacing, spacing, 1.0])
    matrix[:3, 3] = origin
    return make_volume(np.random.default_rng(0).integers(0, 255, shape, np.uint8), matrix)


def write_labels(path, array, spacing=1.0, origin=(0.0, 0.0, 0.0)):
    matrix = np.diag([spacing, spacing, spacing, 1.0])
    matrix[:3, 3] = origin
    sitk.WriteImage(image_of(array, matrix), str(path))
    return path


def test_an_image_in_place_of_its_label_map_is_refused(tmp_path):
    path = write_labels(tmp_path / "image.nrrd", np.asarray(volume().array))
    with pytest.raises(InputError, match="looks like an image"):
        read_segmentation(path, volume())


def two_blocks():
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:9, 4:9, 4:9] = 3
    labels[10:15, 10:15, 10:15] = 7
    return labels


def test_seg_nrrd_written_here_comes_back_with_names_sides_and_overlap(tmp_path, base):
    first, second = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    first[2:9, 2:9, 2:9] = True
    second[7:12, 2:9, 2:9] = True
    entry = base.entry("hippocampus")
    path = tmp_path / "two.seg.nrrd"
    write_segmentation(
        path, [Segment(first, entry, "left"), Segment(second, entry, "right")], volume()
    )
    found = read_segmentation(path, volume())
    assert [s.side for s in found.segments] == ["left", "right"]
    assert len(found.layers) == 2 and found.segments[0].voxels == first.sum()
    for segment, mask in zip(found.segments, (first, second), strict=True):
        assert np.array_equal(found.layers[segment.layer] == segment.value, mask)
        assert NameReader(base).read(segment).entry_id == "hippocampus"


def test_label_map_takes_names_from_a_colour_table_or_labels_json(tmp_path):
    path = write_labels(tmp_path / "seg.nii.gz", two_blocks())
    (tmp_path / "seg.ctbl").write_text(
        "# Color table\n3 Left_Putamen 255 0 0 255\n7 Liver 0 9 0 255\n"
    )
    assert [s.name for s in read_segmentation(path, volume()).segments] == ["Left Putamen", "Liver"]
    table = tmp_path / "own.json"
    table.write_text(
        json.dumps({"3": {"name": "x", "entity": "putamen", "side": "left"}, "7": "y"})
    )
    found = read_segmentation(path, volume(), table)
    assert [(s.name, s.entry_id, s.side) for s in found.segments] == [
        ("x", "putamen", "left"),
        ("y", None, None),
    ]


def test_labels_without_a_table_are_kept_by_number_with_a_notice(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    path = write_labels(tmp_path / "deep" / "er" / "seg.nrrd", two_blocks())
    found = read_segmentation(path, volume())
    assert [s.name for s in found.segments] == ["Label 3", "Label 7"]
    assert any("--labels" in notice for notice in found.notices)


def test_another_grid_is_resampled_with_a_notice_and_keeps_its_own_volume(tmp_path):
    path = write_labels(tmp_path / "seg.nrrd", two_blocks())
    coarse = volume(2.0, shape=(10, 12, 14))
    found = read_segmentation(path, coarse)
    assert any("resampled" in notice for notice in found.notices)
    assert found.layers[0].shape == coarse.array.shape
    assert found.segments[0].volume_ml == pytest.approx(0.125)


def test_a_segment_outside_the_image_is_kept_and_named_in_a_notice(tmp_path):
    labels = two_blocks()
    path = write_labels(tmp_path / "seg.nrrd", labels)
    found = read_segmentation(path, volume(shape=(9, 9, 9)))
    assert len(found.segments) == 2
    assert any("Label 7" in notice and "nothing" in notice for notice in found.notices)


def test_segmentations_that_cannot_be_used_say_why(tmp_path):
    far = write_labels(tmp_path / "far.nrrd", two_blocks(), origin=(500, 0, 0))
    with pytest.raises(GeometryError, match="do not overlap"):
        read_segmentation(far, volume())
    empty = write_labels(tmp_path / "empty.nrrd", np.zeros(SHAPE, np.uint8))
    with pytest.raises(InputError, match="holds no segment"):
        read_segmentation(empty, volume())
    grey = tmp_path / "grey.nrrd"
    sitk.WriteImage(image_of(np.full(SHAPE, 0.5, np.float32), np.eye(4)), str(grey))
    with pytest.raises(InputError, match="fractions"):
        read_segmentation(grey, volume())
    with pytest.raises(InputError, match="does not exist"):
        read_segmentation(tmp_path / "none.nrrd", volume())
    broken = tmp_path / "labels.json"
    broken.write_text("{")
    with pytest.raises(InputError, match="table of names"):
        read_segmentation(far, volume(), broken)


def test_dicom_seg_comes_back_with_codes_side_and_voxels(tmp_path, base):
    pydicom = pytest.importorskip("pydicom")
    highdicom = pytest.importorskip("highdicom")
    from pydicom.sr.codedict import codes

    truth = np.zeros(SHAPE, bool)
    truth[5:9, 6:11, 7:13] = True
    sources = [_ct_slice(pydicom, k) for k in range(SHAPE[0])]
    description = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="Own name",
        segmented_property_category=codes.SCT.Organ,
        segmented_property_type=pydicom.sr.coding.Code("10200004", "SCT", "Liver"),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
    )
    seg = highdicom.seg.Segmentation(
        sources, truth.astype(np.uint8), highdicom.seg.SegmentationTypeValues.BINARY,
        [description], highdicom.UID(), 1, highdicom.UID(), 1, "maker", "model", "1", "serial",
    )  # fmt: skip
    path = tmp_path / "seg.dcm"
    seg.save_as(path)
    image = make_volume(np.zeros(SHAPE, np.int16), np.diag([-1.0, -1.0, 2.0, 1.0]))
    found = read_segmentation(path, image)
    assert found.segments[0].name == "Own name"
    assert NameReader(base).read(found.segments[0]).entry_id == "liver"
    assert np.array_equal(found.layers[0] > 0, truth)


def _ct_slice(pydicom, k):
    from pydicom.dataset import Dataset, FileMetaDataset

    item = Dataset()
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    item.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    item.SOPInstanceUID = f"1.2.3.4.{k + 1}"
    item.StudyInstanceUID, item.SeriesInstanceUID = "1.2.3.1", "1.2.3.2"
    item.FrameOfReferenceUID = "1.2.3.3"
    item.Modality, item.PatientID, item.PatientName = "CT", "p", "p"
    for name in ("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "PatientBirthDate",
                 "PatientSex", "ReferringPhysicianName", "PositionReferenceIndicator"):  # fmt: skip
        setattr(item, name, "")
    item.ImagePositionPatient = [0, 0, 2.0 * k]
    item.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    item.PixelSpacing, item.SliceThickness = [1, 1], 2
    item.Rows, item.Columns, item.InstanceNumber = SHAPE[1], SHAPE[2], k + 1
    item.SamplesPerPixel, item.BitsAllocated, item.BitsStored, item.HighBit = 1, 16, 16, 15
    item.PixelRepresentation, item.PhotometricInterpretation = 1, "MONOCHROME2"
    item.PixelData = np.zeros(SHAPE[1:], np.int16).tobytes()
    return item


@pytest.mark.parametrize(
    ("name", "entry", "side"),
    [
        ("Left Hippocampus", "hippocampus", "left"),
        ("hippocampus_R", "hippocampus", "right"),
        ("Right ACgG  anterior cingulate gyrus", "anterior_cingulate_gyrus", "right"),
        ("rib left 10", "rib", "left"),
        ("left atrium", "left_atrium", None),
        ("peritumoural oedema", "peritumoral_edema", None),
        ("xyzzy 12", None, None),
    ],
)
def test_names_are_understood_without_codes(base, name, entry, side):
    found = NameReader(base).read(NamedSegment("a", name, 0, 1))
    assert (found.entry_id, found.side) == (entry, side)


def test_codes_go_before_names_and_unknown_schemes_are_reported(base):
    reader = NameReader(base)
    coded = NamedSegment("a", "Liver", 0, 1, (Code("SCT", "64033007", "Kidney"),), "left")
    assert reader.read(coded).entry_id == "kidney"
    odd = NamedSegment("b", "Spleen", 0, 1, (Code("ODD", "1", ""),))
    assert reader.read(odd).entry_id == "spleen" and reader.unknown_schemes == {"ODD"}


def test_agreement_knows_kinds_and_parts(base):
    assert agreement(base, "hippocampus", "hippocampus") == SAME
    assert agreement(base, "hippocampus", "liver") == DIFFERENT
    assert agreement(base, "lung", "lung_lower_lobe") == RELATED
    assert agreement(base, None, "liver") == UNKNOWN
