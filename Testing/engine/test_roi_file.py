import json

import numpy as np
import pytest

from affines import rotation
from velcro_engine.errors import InputError
from velcro_engine.imaging.roi_file import box_between, read_region


def markups(**changes):
    roi = {
        "type": "ROI",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "roiType": "Box",
        "center": [-10, -20, 30],
        "orientation": [-1, 0, 0, 0, -1, 0, 0, 0, 1],
        "size": [4, 6, 8],
    } | changes
    return {"markups": [{k: v for k, v in roi.items() if v is not None}]}


def write(tmp_path, content):
    path = tmp_path / "roi.mrk.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def sorted_rows(points):
    return np.array(sorted(np.round(points, 6).tolist()))


def test_a_roi_in_lps_and_in_ras_is_the_same_box(tmp_path):
    expected = box_between(np.array([8, 17, 26]), np.array([12, 23, 34])).corners
    lps = read_region(write(tmp_path, markups()))
    ras = read_region(
        write(
            tmp_path,
            markups(
                coordinateSystem="RAS", center=[10, 20, 30], orientation=np.eye(3).ravel().tolist()
            ),
        )
    )
    assert np.allclose(sorted_rows(lps.corners), sorted_rows(expected))
    assert np.allclose(sorted_rows(ras.corners), sorted_rows(expected))
    assert np.allclose(lps.centre, [10, 20, 30])


def test_a_rotated_roi_keeps_its_eight_corners(tmp_path):
    axes = rotation(33, [1, 2, 3])
    region = read_region(
        write(
            tmp_path,
            markups(coordinateSystem="RAS", center=[1, 2, 3], orientation=axes.ravel().tolist()),
        )
    )
    inside = (region.corners - [1, 2, 3]) @ axes
    assert np.allclose(np.abs(inside), [2, 3, 4])


def test_the_corners_are_those_of_a_real_markups_node(tmp_path):
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    vtk = pytest.importorskip("vtk", reason="slicer-core is not installed")
    scene = slicer.vtkMRMLScene()
    node = slicer.vtkMRMLMarkupsROINode()
    scene.AddNode(node)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(28, [3, -1, 2])
    matrix[:3, 3] = (12, -30, 7)
    vtk_matrix = vtk.vtkMatrix4x4()
    vtk_matrix.DeepCopy(matrix.ravel().tolist())
    node.SetAndObserveObjectToNodeMatrix(vtk_matrix)
    node.SetSize(10, 20, 30)
    storage = slicer.vtkMRMLMarkupsROIJsonStorageNode()
    scene.AddNode(storage)
    path = tmp_path / "node.mrk.json"
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    offsets = np.array([[x, y, z] for x in (-5, 5) for y in (-10, 10) for z in (-15, 15)])
    expected = offsets @ matrix[:3, :3].T + matrix[:3, 3]
    assert np.allclose(sorted_rows(read_region(path).corners), sorted_rows(expected), atol=1e-4)


def test_a_point_list_is_a_point_prompt(tmp_path):
    points = [
        {"position": [-1, -2, 3], "positionStatus": "defined"},
        {"position": [0, 0, 0], "positionStatus": "undefined"},
    ]
    content = {
        "markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": points}]
    }
    region = read_region(write(tmp_path, content))
    assert region.corners is None and np.allclose(region.points, [[1, 2, 3]])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"markups": 3}',
        '{"markups": [4]}',
        '{"markups": []}',
        {"markups": [{"type": "Line"}]},
        markups(center=None),
        markups(center=[1, 2]),
        markups(size=[1, "x", 3]),
        markups(size=[1, float("nan"), 3]),
        markups(orientation=[0] * 9),
        markups(orientation=[1, 2]),
        markups(coordinateSystem="XYZ"),
        markups(coordinateUnits="um"),
        {"markups": [{"type": "Fiducial", "controlPoints": []}]},
        "[" * 100_000,
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path, content):
    with pytest.raises(InputError) as caught:
        read_region(write(tmp_path, content))
    assert "\n" not in str(caught.value) and "roi.mrk.json" in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError):
        read_region(tmp_path / "none.mrk.json")
