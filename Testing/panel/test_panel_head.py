"""The engine is asked, in idle moments, how the head of a volume lies; later questions say it."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

CORNERS = ([20, 20, 0], [52, -10, 0])  # RAS, mm
TURN = np.deg2rad(12)
HEAD = {
    "centre": [1.0, -3.0, 2.0],
    "half_extent": [60.0, 76.0, 55.0],
    "axes": [
        [float(np.cos(TURN)), float(np.sin(TURN)), 0.0],
        [-float(np.sin(TURN)), float(np.cos(TURN)), 0.0],
        [0.0, 0.0, 1.0],
    ],
}


@pytest.fixture
def asked(driver, monkeypatch):
    """Fields of every `head` message, in order."""
    found, ask = [], driver.client.ask

    def recorded(messageType, fields=None, payload=b"", **callbacks):
        if messageType == "head":
            found.append(fields)
        return ask(messageType, fields, payload, **callbacks)

    monkeypatch.setattr(driver.client, "ask", recorded)
    return found


def frame_of(driver):
    from VelcroLinkLib.scene.volume_geometry import volumeFingerprint

    return driver.session.heads.of(volumeFingerprint(driver.session.volumeNode))


def wait_searched(driver, asked, searches=1):
    driver.wait_until(lambda: sum(bool(f["last"]) for f in asked) >= searches, "the last slice")
    driver.wait(0.1)


def test_what_is_linked_after_the_head_was_found_heeds_it(driver, asked):
    driver.script(head=HEAD)
    driver.add_volume()
    frames = []
    driver.client.linked.connect(lambda _r, placed: frames.append(placed.request.foreground))
    driver.place_roi(*CORNERS)
    driver.wait_until(lambda: frame_of(driver) is not None, "the head")
    driver.wait_linked()
    driver.wait(0.2)
    assert len(frames) == 1  # an answer does not change under the user's hand
    driver.press(driver.ui.linkAgainButton)
    driver.wait_linked()
    assert len(frames) == 2 and frames[-1] == frame_of(driver)
    assert frames[-1].is_head and frames[-1].half_extent == (60.0, 76.0, 55.0)
    assert [fields["first"] for fields in asked] == [True] + [False] * 14
    # every slice lies where it was asked for, in the volume's own foreground
    matrices = [np.array(fields["request"]["pixel_to_ras"]) for fields in asked]
    planes = [fields["request"]["plane"] for fields in asked]
    assert planes == ["sagittal"] * 5 + ["coronal"] * 5 + ["axial"] * 5
    assert np.all(np.diff([m[2, 3] for m in matrices[10:]]) > 10)
    driver.wait_linked()
    driver.drag([36, 5, 0], [30, 5, 0], steps=3)
    driver.wait_linked()
    assert frames[-1].is_head and len(asked) == 15  # known now


def test_without_a_head_nothing_is_asked_twice(driver, asked):
    driver.add_volume()
    driver.place_roi(*CORNERS)
    driver.wait_linked()
    wait_searched(driver, asked)
    links = []
    driver.client.linked.connect(lambda *_: links.append(1))
    driver.wait(0.2)
    assert not links and frame_of(driver) is None
    driver.session.link()
    driver.wait_linked()
    driver.wait(0.1)
    assert len(asked) == 15 and len(links) == 1


def test_a_link_waits_for_one_slice_at_most(driver, asked):
    driver.add_volume()
    driver.place_roi(*CORNERS)
    driver.wait_linked()
    wait_searched(driver, asked)
    driver.script(head=HEAD, head_seconds=0.15)
    driver.session.heads.forget()
    driver.session.link()
    driver.wait_linked()
    before = len(asked)
    driver.wait_until(lambda: len(asked) > before + 2, "a search")
    driver.drag([36, 5, 0], [20, 5, 0], steps=2)
    driver.wait_linked()
    assert len(asked) < before + 14  # answered in the middle of the search
    driver.wait_until(lambda: frame_of(driver) is not None, "the head")


def test_a_far_frame_is_looked_at_again_and_then_kept(driver, asked):
    driver.script(head=HEAD, head_far=True)
    driver.add_volume()
    driver.place_roi(*CORNERS)
    wait_searched(driver, asked, 2)
    assert len(asked) == 30 and frame_of(driver).is_head
    assert asked[15]["first"] and asked[15]["request"]["foreground"]["axes"] == HEAD["axes"]


def test_a_head_that_reaches_beyond_the_scan_is_looked_at_where_the_scan_is(driver, asked):
    beyond = {**HEAD, "centre": [150.0, -3.0, 2.0]}  # its middle was not scanned
    driver.script(head=beyond, head_far=True)
    driver.add_volume()
    driver.place_roi(*CORNERS)
    wait_searched(driver, asked, 2)
    cuts = [np.array(fields["request"]["pixel_to_ras"]) for fields in asked]
    assert np.allclose(cuts[:15], cuts[15:])
    driver.wait_until(lambda: frame_of(driver) is not None, "the head")
    assert frame_of(driver).centre == (150.0, -3.0, 2.0)


def test_another_model_looks_for_itself(driver, asked):
    driver.add_volume()
    driver.place_roi(*CORNERS)
    driver.wait_linked()
    wait_searched(driver, asked)
    assert frame_of(driver) is None  # this one saw no head
    driver.script(head=HEAD)
    driver.client.restart()
    driver.wait_until(lambda: frame_of(driver) is not None, "the head")


def test_a_cancel_ends_the_search_and_the_next_link_begins_it_again(driver, asked):
    driver.script(head=HEAD, head_seconds=0.1)
    driver.add_volume()
    driver.place_roi(*CORNERS)
    driver.wait_until(lambda: len(asked) > 3, "a search")
    driver.client.cancel()
    driver.wait_until(lambda: driver.state == "ready", "the end of the cancel")
    driver.session.link()
    driver.wait_until(lambda: frame_of(driver) is not None, "the head")
    assert sum(bool(fields["first"]) for fields in asked) >= 2


def test_a_volume_that_changes_or_goes_ends_the_search(driver, asked):
    driver.script(head=HEAD, head_seconds=0.1)
    volume = driver.add_volume()
    driver.place_roi(*CORNERS)
    driver.wait_until(lambda: len(asked) > 3, "a search")
    slicer.util.arrayFromVolume(volume)[5:9] += 3
    slicer.util.arrayFromVolumeModified(volume)
    driver.wait(0.4)
    count = len(asked)
    driver.wait(0.3)
    assert len(asked) == count and frame_of(driver) is None
    driver.session.link()
    driver.wait_until(lambda: len(asked) > count + 2, "a search of the changed volume")
    slicer.mrmlScene.RemoveNode(volume)
    driver.wait(0.5)
    count = len(asked)
    driver.wait(0.3)
    assert len(asked) == count


def test_a_damaged_answer_is_no_head(driver, asked):
    driver.script(head={"centre": [1.0], "half_extent": "wide"})
    driver.add_volume()
    driver.place_roi(*CORNERS)
    wait_searched(driver, asked)
    assert frame_of(driver) is None and driver.notice == ""
