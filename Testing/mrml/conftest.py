"""Real MRML through slicer-core (PyPI): scene, logics and the nodes the tests need.

3D Slicer itself is not installable on build machines; nothing of MRML is a double here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "VelcroLink"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
import mrml_scene  # noqa: E402


@pytest.fixture
def scene():
    """A fresh scene with the logics registered; cleared and released afterwards."""
    made = mrml_scene.makeScene()
    slicer.mrmlScene = made.scene
    yield made.scene
    made.close()
    slicer.mrmlScene = None


@pytest.fixture
def sliceNode(scene):
    node = slicer.vtkMRMLSliceNode()
    node.SetName("Red")
    node.SetLayoutName("Red")
    scene.AddNode(node)
    return node


@pytest.fixture
def rng():
    return np.random.default_rng(20260101)


@pytest.fixture(scope="session")
def slicerLists():
    """Slicer's Terminologies logic with the two lists that Slicer loads at start."""
    folder = Path(os.environ.get("VELCROLINK_DATA", "")) / "terminology"
    types = folder / "SegmentationCategoryTypeModifier-DICOM-Master.json"
    if not types.is_file():
        pytest.skip("set VELCROLINK_DATA to the data folder that holds Slicer's terminology lists")
    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    assert logic.LoadTerminologyFromFile(str(types))
    assert logic.LoadRegionContextFromFile(
        str(folder / "AnatomicRegionAndModifier-DICOM-Master.json")
    )
    return logic
