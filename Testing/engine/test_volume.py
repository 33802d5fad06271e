import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from affines import AFFINES, matrix
from velcro_engine.errors import GeometryError, InputError
from velcro_engine.imaging.reading import read_volume
from velcro_engine.imaging.slices import cut_slice
from velcro_engine.imaging.volume import make_volume

LPS = np.diag([-1.0, -1.0, 1.0])


def sitk_image(array, ijk_to_ras=None):
    image = sitk.GetImageFromArray(array)
    if ijk_to_ras is not None:
        columns = LPS @ ijk_to_ras[:3, :3]
        spacing = np.linalg.norm(columns, axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((columns / spacing).ravel().tolist())
        image.SetOrigin((LPS @ ijk_to_ras[:3, 3]).tolist())
    return image


def noise(shape=(5, 6, 7), dtype=np.int16, seed=0):
    return np.random.default_rng(seed).integers(0, 900, shape).astype(dtype)


def write_dicom_series(folder: Path, uid: str, count=5, step=2.0, skip=(), modality="CT"):
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    array = noise((count, 8, 9), seed=len(uid))
    for index in range(count):
        if index in skip:
            continue
        image = sitk.GetImageFromArray(array[index])
        image.SetSpacing([1.5, 1.5])
        for key, value in {
            "0008|0060": modality,
            "0008|103e": f"series {uid[-1]}",
            "0020|000e": uid,
            "0020|000d": "1.2.3",
            "0008|0018": f"{uid}.{index}",
            "0020|0013": str(index + 1),
            "0020|0032": f"-10\\-20\\{index * step}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{uid}_{index}.dcm"))
        writer.Execute(image)
    return array


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("name", [n for n in AFFINES if "sheared" not in n])
def test_position_survives_every_format(tmp_path, suffix, name):
    array = noise()
    path = tmp_path / ("volume" + suffix)
    sitk.WriteImage(sitk_image(array, AFFINES[name]), str(path))
    volume = read_volume(path)
    assert np.array_equal(volume.array, array)
    assert np.allclose(volume.ijk_to_ras, AFFINES[name], atol=1e-3)
    assert volume.has_position and not volume.is_picture


def test_a_dicom_series_becomes_one_ct_volume(tmp_path):
    array = write_dicom_series(tmp_path / "series", "1.2.840.1")
    volume = read_volume(tmp_path / "series")
    assert np.array_equal(volume.array, array)
    assert volume.modality == "CT" and volume.window.kind == "ct" and volume.has_position
    assert np.allclose(volume.spacing, [1.5, 1.5, 2.0])
    assert np.allclose(volume.ijk_to_ras[:3, 3], [10, 20, 0])


def test_two_dicom_series_are_listed_and_one_can_be_chosen(tmp_path):
    write_dicom_series(tmp_path / "both", "1.2.840.1", count=4)
    write_dicom_series(tmp_path / "both", "1.2.840.2", count=3)
    with pytest.raises(InputError) as caught:
        read_volume(tmp_path / "both")
    message = str(caught.value)
    assert "2 DICOM series" in message and "--series" in message and "\n" not in message
    assert "1.2.840.1" in message and "series 2, 3 files" in message
    assert read_volume(tmp_path / "both", series="1.2.840.2").array.shape[0] == 3
    with pytest.raises(InputError, match=r"no series 9\.9"):
        read_volume(tmp_path / "both", series="9.9")


def test_a_dicom_series_with_a_missing_slice_is_refused(tmp_path):
    write_dicom_series(tmp_path / "gap", "1.2.840.1", count=7, skip=(3,))
    with pytest.raises(InputError, match=r"misses a slice: 4.00 mm instead of 2.00 mm"):
        read_volume(tmp_path / "gap")


def test_a_damaged_dicom_file_is_refused(tmp_path):
    write_dicom_series(tmp_path / "bad", "1.2.840.1")
    path = tmp_path / "bad" / "1.2.840.1_2.dcm"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError):
        read_volume(tmp_path / "bad")


def test_a_projection_radiograph_has_no_position(tmp_path):
    image = sitk.GetImageFromArray(noise((1, 20, 30), np.uint16))
    image.SetMetaData("0008|0060", "DX")
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "dx.dcm"))
    writer.KeepOriginalImageUIDOn()
    writer.Execute(image)
    volume = read_volume(tmp_path / "dx.dcm")
    assert volume.modality == "XR" and volume.is_picture


def test_an_ultrasound_clip_and_a_tiff_of_pages_are_pictures_to_choose_from(tmp_path):
    frames = noise((4, 20, 30), np.uint8)
    image = sitk.GetImageFromArray(frames)
    image.SetMetaData("0008|0060", "US")
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "clip.dcm"))
    writer.KeepOriginalImageUIDOn()
    writer.Execute(image)
    sitk.WriteImage(sitk.GetImageFromArray(frames), str(tmp_path / "pages.tif"))
    for name, modality in (("clip.dcm", "US"), ("pages.tif", None)):
        with pytest.raises(InputError, match="4 frames"):
            read_volume(tmp_path / name)
        volume = read_volume(tmp_path / name, frame=2)
        assert volume.is_picture and volume.modality == modality
        assert np.array_equal(volume.array[0], frames[2])


@pytest.mark.parametrize("empty", ["folder", "text"])
def test_a_folder_without_dicom_is_refused(tmp_path, empty):
    if empty == "text":
        (tmp_path / "readme.txt").write_text("no image")
    with pytest.raises(InputError, match="holds no"):
        read_volume(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_a_picture_is_one_slice_without_position(tmp_path, suffix):
    array = (np.indices((40, 30)).sum(axis=0) * 3).astype(np.uint8)
    path = tmp_path / ("picture" + suffix)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    volume = read_volume(path)
    assert volume.is_picture and not volume.has_position and volume.foreground is None
    assert volume.array.shape == (1, 40, 30)
    assert np.abs(cut_slice(volume).values - array).max() < 6  # JPEG is lossy
    request = cut_slice(volume).request(box=(2, 2, 20, 20))
    assert request.pixel_to_ras is None


def test_colour_becomes_luminance(tmp_path):
    colour = np.zeros((10, 12, 3), np.uint8)
    colour[..., 0] = 200
    sitk.WriteImage(sitk.GetImageFromArray(colour, isVector=True), str(tmp_path / "red.png"))
    volume = read_volume(tmp_path / "red.png")
    assert volume.array.shape == (1, 10, 12)
    assert np.allclose(volume.array, 200 * 0.299)


def test_a_colour_volume_and_alpha_become_luminance(tmp_path):
    for components in (3, 4):
        array = np.full((3, 4, 5, components), 100, np.uint8)
        path = tmp_path / f"c{components}.nrrd"
        sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(path))
        assert np.allclose(read_volume(path).array, 100)


def test_a_four_dimensional_file_needs_a_chosen_frame(tmp_path):
    array = noise((3, 4, 5, 6))
    for name in ("four.nii.gz", "four.nrrd"):
        sitk.WriteImage(sitk.GetImageFromArray(array, isVector=False), str(tmp_path / name))
        with pytest.raises(InputError, match=r"3 frames; choose one with --frame 0\.\.2"):
            read_volume(tmp_path / name)
        assert np.array_equal(read_volume(tmp_path / name, frame=2).array, array[2])
        for frame in (3, -1):
            with pytest.raises(InputError, match=r"frames 0\.\.2"):
                read_volume(tmp_path / name, frame=frame)


def test_frames_kept_as_components_are_frames(tmp_path):
    array = noise((4, 5, 6, 7))
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(tmp_path / "dwi.nrrd"))
    assert np.array_equal(read_volume(tmp_path / "dwi.nrrd", frame=3).array, array[..., 3])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".jpg", ".tif"])
@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "tail"])
def test_damaged_files_are_refused_in_one_line(tmp_path, suffix, damage):
    path = tmp_path / ("file" + suffix)
    flat = suffix in (".png", ".jpg", ".tif")
    if suffix == ".tif" and damage == "tail":
        damage = "cut"  # a TIFF ends with tags that are no pixels
    array = noise((200, 200), np.uint8) if flat else noise((20, 30, 40))
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut": whole[: len(whole) * 6 // 10],
            "garbage": np.random.default_rng(0).bytes(3000),
            "tail": whole[:-20],
        }[damage]
    )
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_cut_file_of_several_gzip_members_is_found(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(noise((20, 30, 40))), str(tmp_path / "a.nii"))
    raw = (tmp_path / "a.nii").read_bytes()
    whole = gzip.compress(raw[:9000]) + gzip.compress(raw[9000:])
    (tmp_path / "b.nii.gz").write_bytes(whole)
    assert read_volume(tmp_path / "b.nii.gz").array.shape == (20, 30, 40)
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(raw[:9000]) + gzip.compress(raw[9000:-999]))
    with pytest.raises(InputError, match="cut short"):
        read_volume(tmp_path / "c.nii.gz")


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_a_header_of_a_billion_voxels_is_refused_before_memory_is_taken(tmp_path, suffix):
    path = tmp_path / ("huge" + suffix)
    if suffix == ".nii":
        sitk.WriteImage(sitk.GetImageFromArray(noise()), str(path))
        data = bytearray(path.read_bytes())
        data[40:56] = struct.pack("<8h", 3, 1000, 1000, 1000, 1, 1, 1, 1)
        path.write_bytes(data)
    elif suffix == ".nrrd":
        path.write_bytes(
            b"NRRD0004\ntype: short\ndimension: 3\nsizes: 1000 1000 1000\nendian: little\n"
            b"encoding: raw\n\n" + bytes(100)
        )
    else:
        path.write_bytes(
            b"ObjectType = Image\nNDims = 3\nDimSize = 1000 1000 1000\n"
            b"ElementType = MET_SHORT\nElementDataFile = LOCAL\n" + bytes(100)
        )
    with pytest.raises(InputError, match="1,000,000,000 voxels"):
        read_volume(path)


def test_a_segmentation_is_not_taken_for_an_image(tmp_path):
    path = tmp_path / "mask.seg.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(noise()), str(path))
    with pytest.raises(InputError, match="is a segmentation"):
        read_volume(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_volume(tmp_path / "nothing.nii.gz")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file"
)
def test_a_file_without_permission_is_refused(tmp_path):
    path = tmp_path / "locked.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(noise()), str(path))
    path.chmod(0)
    with pytest.raises(InputError, match="permissions"):
        read_volume(path)


def test_files_that_do_not_say_where_they_lie_have_no_position(tmp_path):
    (tmp_path / "plain.nrrd").write_bytes(
        b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n\n" + bytes(64)
    )
    assert not read_volume(tmp_path / "plain.nrrd").has_position
    sitk.WriteImage(sitk.GetImageFromArray(noise()), str(tmp_path / "coded.nii"))
    data = bytearray((tmp_path / "coded.nii").read_bytes())
    data[252:256] = bytes(4)  # qform_code and sform_code 0: an Analyze-like file
    (tmp_path / "uncoded.nii").write_bytes(data)
    assert read_volume(tmp_path / "coded.nii").has_position
    assert not read_volume(tmp_path / "uncoded.nii").has_position


def test_nan_and_infinity_become_the_ends_of_the_window():
    array = np.random.default_rng(0).random((6, 7, 8)).astype(np.float32)
    clean = make_volume(array.copy(), np.eye(4))
    array[0, 0, :3] = [np.nan, np.inf, -np.inf]
    volume = make_volume(array, np.eye(4))
    assert np.isfinite(volume.array).all()
    assert volume.array[0, 0, 1] == pytest.approx(volume.window.high)
    assert volume.window.high == pytest.approx(clean.window.high, rel=0.1)
    assert cut_slice(volume, "axial").pixels.dtype == np.uint8


@pytest.mark.parametrize("value", [0, 7, np.nan, np.inf])
def test_a_constant_volume_gives_a_constant_slice(value):
    volume = make_volume(np.full((4, 5, 6), value, np.float32), np.eye(4))
    assert len(np.unique(cut_slice(volume, "coronal").pixels)) == 1


def test_hounsfield_units_are_recognised():
    array = np.full((20, 20, 20), -1000, np.int16)
    array[5:15, 5:15, 5:15] = 40
    array[8:10, 8:10, 8:10] = 900
    volume = make_volume(array, np.eye(4))
    assert volume.modality == "CT" and volume.window.kind == "ct"
    assert np.allclose(volume.foreground.centre, [9.5, 9.5, 9.5], atol=0.6)


@pytest.mark.parametrize(
    "affine",
    [
        np.zeros((4, 4)),
        np.full((4, 4), np.nan),
        np.eye(3),
        matrix([[1, 1, 0], [1, 1, 0], [0, 0, 1]]),
    ],
)
def test_a_bad_position_matrix_is_refused(affine):
    with pytest.raises(GeometryError):
        make_volume(noise(), affine)


def test_arrays_that_are_no_volume_are_refused():
    with pytest.raises(InputError):
        make_volume(np.zeros((0, 3, 3)), np.eye(4))
    with pytest.raises(InputError):
        make_volume(np.zeros((3, 3)), np.eye(4))
    with pytest.raises(InputError):
        make_volume(np.zeros((3, 3, 3), complex), np.eye(4))
    with pytest.raises(InputError):
        make_volume(noise(), np.eye(4), modality="PET")
