"""Prints the figures of the MRML half: time on the main thread, and how well masks return.

    PYTHONPATH=VelcroLink python Testing/mrml/report_figures.py

Times are CPU milliseconds of one thread on a 512 x 512 x 300 volume (no other process can spoil
them); "first" includes reading the window and the foreground of the volume.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "VelcroLink")]

import numpy as np
import slicer

import mrml_scene as ms
import test_geometry_matrix as matrix
from velcro_engine.messages.result import LinkResult
from VelcroLinkLib.scene.mask_voxels import maskToVoxels
from VelcroLinkLib.scene.segmentation_result import acceptPreview, showPreview
from VelcroLinkLib.scene.slice_request import SliceRequestBuilder
from VelcroLinkLib.scene.volume_geometry import volumeGeometry

CENTRE = np.array([3.0, -5.0, 7.0])
ENTRY = {"id": "liver", "name": "Liver", "kind": "anatomy", "region": "abdomen", "codes": []}


def timed(work, *arguments):
    """(what work gives, CPU milliseconds)."""
    started = time.process_time()
    made = work(*arguments)
    return made, (time.process_time() - started) * 1e3


def printTimes() -> None:
    made = ms.makeScene()
    scene = slicer.mrmlScene = made.scene
    shape = (512, 512, 300)
    array = np.random.default_rng(0).integers(0, 500, tuple(reversed(shape))).astype(np.int16)
    volume = ms.addVolume(
        scene, array, ms.ijkToRas(np.diag([-1, -1, 1]), (0.7, 0.7, 1), shape), "CT"
    )
    sliceNode = scene.AddNewNodeByClass("vtkMRMLSliceNode")
    views = {name: ms.viewDirections(name) for name in ms.VIEWS}
    views["oblique"] = matrix.VIEWS["oblique"]
    print("ms on the main thread   first  next slice  same slice   mask shown  accepted")
    for name, directions in views.items():
        builder, times = SliceRequestBuilder(), []
        axes = directions if np.linalg.det(directions) > 0 else directions @ np.diag([-1, 1, 1])
        for offset in (0.0, 4.0, 4.0):
            centre = CENTRE + directions[:, 2] * offset
            roi = ms.addRoi(scene, centre, (70, 60, 5), axes)
            ms.setView(sliceNode, directions, centre)
            placed, took = timed(builder.fromRoi, sliceNode, volume, roi)
            times.append(took)
        mask = matrix.ellipseInBox(placed.request.pixels.shape, placed.request.box)
        result = LinkResult(mask, (), True)
        showPreview(volume, placed, result)
        times.append(timed(showPreview, volume, placed, result)[1])
        times.append(timed(acceptPreview, volume, ENTRY, None, placed, result)[1])
        print(f"{name:20}", *(f"{t:10.1f}" for t in times))
    made.close()


def printDice() -> None:
    worst = {}
    for kind in matrix.VOLUMES:
        for view, directions in matrix.VIEWS.items():
            made = ms.makeScene()
            scene = slicer.mrmlScene = made.scene
            sliceNode = scene.AddNewNodeByClass("vtkMRMLSliceNode")
            volume, ijkToRas, shape = matrix.addTestVolume(scene, kind)
            centre = ijkToRas[:3, :3] @ (np.array(shape) // 2) + ijkToRas[:3, 3]
            placed, _ = matrix.drawAndShow(scene, sliceNode, volume, directions, centre)
            mask = matrix.ellipseOnView(placed, directions, centre)
            found = maskToVoxels(mask, placed.grid, volumeGeometry(volume)).inVolume(shape)
            expected = matrix.voxelsUnderEllipse(shape, ijkToRas, directions, centre)
            worst[kind, view] = ms.dice(found, expected)
            made.close()
    print("\nDice of mask voxels with the analytic ones")
    print(f"{'':14}", *(f"{view:>9}" for view in matrix.VIEWS))
    for kind in matrix.VOLUMES:
        print(f"{kind:14}", *(f"{worst[kind, view]:9.4f}" for view in matrix.VIEWS))
    print(f"lowest {min(worst.values()):.4f}")


if __name__ == "__main__":
    printTimes()
    printDice()
