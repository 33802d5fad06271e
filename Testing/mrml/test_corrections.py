"""Corrections are never lost, whatever happens while they are written."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from velcro_engine.errors import InputError
from velcro_engine.messages.request import SliceRequest
from velcro_engine.messages.result import LinkedEntry, LinkResult
from VelcroLinkLib.link.corrections import Correction, CorrectionFile, correctionOf
from VelcroLinkLib.scene.slice_grid import SliceGrid
from VelcroLinkLib.scene.slice_request import PlacedRequest

ONE = Correction("s1", "amygdala", 0.6, "hippocampus", "left", "axial", "MR", "m", "kb", (0.5, 1.0))


def test_what_is_appended_is_read_back(tmp_path):
    file = CorrectionFile(tmp_path / "a folder")
    assert file.read() == []
    made = [replace(ONE, note=f'Anmerkung {n} ä\n"') for n in range(3)]
    for correction in made:
        file.append(correction)
    assert CorrectionFile(tmp_path / "a folder").read() == made


def test_line_cut_off_by_a_killed_process_spoils_only_itself(tmp_path):
    file = CorrectionFile(tmp_path)
    file.append(ONE)
    whole = file.path.read_bytes()
    file.path.write_bytes(whole + whole[: len(whole) // 2])
    file.append(replace(ONE, sliceId="s2"))
    assert [c.sliceId for c in file.read()] == ["s1", "s2"]


def test_damaged_and_newer_lines_are_survived(tmp_path):
    file = CorrectionFile(tmp_path)
    file.append(ONE)
    with open(file.path, "ab") as stream:
        stream.write(b'\xff\xfe\n[1, 2]\n{"sliceId": "x"}\n\n')
    newer = file.path.read_text(encoding="utf-8", errors="replace").splitlines()[0]
    with open(file.path, "ab") as stream:
        stream.write(newer.replace("{", '{"fromTheFuture": 1, ', 1).encode() + b"\n")
    assert file.read() == [ONE, ONE]


def test_two_processes_do_not_mix_their_lines(tmp_path):
    lib = str(Path(__file__).resolve().parents[2] / "VelcroLink")
    code = (
        f"import sys; sys.path.insert(0, {lib!r})\n"
        "from VelcroLinkLib.link.corrections import *\n"
        f"f = CorrectionFile({str(tmp_path)!r})\n"
        "for n in range(40):\n"
        "    f.append(Correction(sys.argv[1], 'a', .5, 'b', None, None, None, 'm', 'k', (.1,) * 64))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, name]) for name in ("one", "two")]
    assert [process.wait() for process in running] == [0, 0]
    names = [c.sliceId for c in CorrectionFile(tmp_path).read()]
    assert names.count("one") == names.count("two") == 40


def test_folder_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="check that the folder"):
        CorrectionFile(tmp_path / "file").append(ONE)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_file_that_cannot_be_read_says_so(tmp_path):
    file = CorrectionFile(tmp_path)
    file.append(ONE)
    file.path.chmod(0)
    with pytest.raises(InputError, match="permissions"):
        file.read()


def test_correction_of_a_shown_result_keeps_no_image():
    request = SliceRequest(
        np.zeros((9, 9), np.uint8), np.eye(4), points=((1, 1, 1),), plane="axial", modality="MR"
    )
    placed = PlacedRequest(request, SliceGrid(np.eye(4), 9, 9, "axial", 1.0), "v", "f")
    entries = (LinkedEntry("amygdala", "Amygdala", "left", 0.6),)
    result = LinkResult(
        np.zeros((9, 9), bool), entries, False, embedding=np.array([0.6, 0.8], np.float32)
    )
    correction = correctionOf(placed, result, "hippocampus", "left")
    assert (correction.linkedEntryId, correction.rightEntryId) == ("amygdala", "hippocampus")
    assert correction.embedding == pytest.approx((0.6, 0.8))
    nothing = correctionOf(placed, replace(result, entries=(), embedding=None), "x", None)
    assert (nothing.linkedEntryId, nothing.linkedConfidence, nothing.embedding) == ("", 0.0, ())
