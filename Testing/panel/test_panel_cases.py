"""The Cases tab over the engine's own case library: similar regions of the same place, adding one."""

from __future__ import annotations

import os
import sqlite3

import pytest
import slicer

from tab_helpers import CORNERS, assert_fits, linked, prepare_worker, reached_by_tab, show_tab

LEFT_CORNERS = ([-20, 20, 0], [-52, -10, 0])
VENTRICLE = ([12, 30, 0], [22, -10, 0])


@pytest.fixture
def worker_script(tmp_path, monkeypatch):
    return prepare_worker(tmp_path, monkeypatch)


@pytest.fixture
def cases(driver):
    return driver.module.panel.cases


def looked_up(driver, cases):
    def done():
        return cases._asked is driver.session.result and not cases._search.isRunning

    driver.wait_until(lambda: driver.session.result is not None and done(), "the search")
    driver.wait(0.02)


def look(driver, cases):
    show_tab(driver, cases)
    looked_up(driver, cases)


def add(driver, cases, pseudonym, note=""):
    cases.pseudonymEdit.text = ""
    driver.type(cases.pseudonymEdit, pseudonym)
    driver.type(cases.noteEdit, note)
    driver.press(cases.addButton)
    driver.wait_until(lambda: not cases._adding.isRunning and not cases._search.isRunning, "adding")
    driver.wait(0.02)


def texts(cases):
    """(finding, about, excerpt) of the shown rows."""
    shown = [row for row in cases.rows._rows if not row.frame.isHidden()]
    return [(row._finding.text, row._about.text, row._excerpt.text) for row in shown]


def link_at(driver, corners):
    driver.ui.tabs.setCurrentIndex(0)
    driver.place_roi(*corners)
    driver.wait_linked()


def test_a_case_is_added_and_found_with_picture_place_and_excerpt(driver, cases, tmp_path):
    linked(driver)
    look(driver, cases)
    assert "No case of this place" in cases.summary.text
    add(driver, cases, "brain-017", "Small <b>bright</b> focus.")
    assert cases.message.label.text == "Added to your library as brain-017."
    ((finding, about, excerpt),) = texts(cases)
    assert finding == "Hippocampus, right"
    assert "similarity 1.00" in about and "case brain-017" in about and "right" in about
    assert excerpt == "“Small <b>bright</b> focus.”"  # as it was written: nothing is HTML
    assert not cases.rows._rows[0]._picture.pixmap.isNull()
    assert cases.addButton.toolTip == "This region has been added."
    assert cases.noteEdit.text == ""
    assert list(tmp_path.rglob("*.sqlite*"))


def test_only_cases_of_the_place_are_shown_until_the_chip_is_removed(driver, cases):
    linked(driver)
    look(driver, cases)
    add(driver, cases, "brain-1")
    link_at(driver, VENTRICLE)
    assert driver.candidates[0].startswith("Lateral ventricle")
    look(driver, cases)
    assert texts(cases) == []
    assert "Lateral ventricle" in cases.placeButton.text and cases.placeButton.checked
    driver.press(cases.placeButton)
    looked_up(driver, cases)
    assert [row[0] for row in texts(cases)] == ["Hippocampus, right"]
    assert "Any place" in cases.placeButton.text and not cases.placeButton.checked
    driver.press(cases.placeButton)
    looked_up(driver, cases)
    assert texts(cases) == []


def test_a_new_link_is_looked_up_only_while_the_tab_is_shown(driver, cases):
    linked(driver)
    driver.wait(0.2)
    assert cases._asked is None
    look(driver, cases)
    driver.session.link()
    looked_up(driver, cases)
    assert cases._asked is driver.session.result


def test_a_pseudonym_that_looks_like_a_person_is_refused_inline(driver, cases, tmp_path):
    linked(driver)
    look(driver, cases)
    assert cases.addButton.toolTip == "Type a pseudonym for the case first."
    add(driver, cases, "12345678")
    assert "choose another pseudonym" in cases.message.label.text
    assert texts(cases) == [] and cases.addButton.enabled
    for path in tmp_path.rglob("*.sqlite"):
        with sqlite3.connect(path) as connection:
            assert connection.execute("select count(*) from items").fetchone() == (0,)


def test_reasons_without_a_link(driver, cases):
    show_tab(driver, cases)
    assert cases.summary.text == "Link a region first (tab Link)."
    for control in (cases.searchButton, cases.addButton, cases.placeButton):
        assert not control.enabled and "Link" in control.toolTip


@pytest.mark.parametrize("end", ["volume", "scene", "worker"])
def test_nothing_of_a_region_that_is_gone_stays(driver, cases, end):
    linked(driver)
    look(driver, cases)
    add(driver, cases, "brain-1")
    assert len(texts(cases)) == 1
    if end == "worker":
        driver.session.volumeNode.GetName()
        os.kill(driver.client.processId, 9)
        driver.wait_until(lambda: driver.state == "ready" and driver.client.isBusy is False, "back")
        driver.press(cases.searchButton)
        looked_up(driver, cases)
        assert [row[0] for row in texts(cases)] == ["Hippocampus, right"]  # kept on disk
        return
    if end == "volume":
        slicer.mrmlScene.RemoveNode(driver.session.volumeNode)
    else:
        driver.app.close_scene()
    driver.wait(0.05)
    assert texts(cases) == [] and not cases.addButton.enabled


def test_an_error_of_the_library_is_one_line(driver, cases):
    driver.script(cases_error={"kind": "input", "message": "The library is damaged; rescue it."})
    linked(driver)
    look(driver, cases)
    assert cases.message.label.text == "The library is damaged; rescue it."
    driver.script()
    driver.press(cases.searchButton)
    looked_up(driver, cases)
    assert cases.message.label.text == ""


def test_cases_fit_and_the_keyboard_reaches_them(driver, cases):
    show_tab(driver, cases)
    assert_fits(driver)
    link_at_first = CORNERS
    driver.add_volume()
    link_at(driver, link_at_first)
    look(driver, cases)
    add(driver, cases, "brain-017", "Well defined bright focus without mass effect.")
    driver.session.link()
    driver.wait_linked()
    looked_up(driver, cases)
    add(driver, cases, "brain-023", "Unchanged since the last examination.")
    assert len(texts(cases)) == 2
    driver.session.link()
    driver.wait_linked()
    looked_up(driver, cases)
    assert_fits(driver)
    wanted = {"casePlaceButton", "caseSearchButton", "pseudonymEdit", "caseNoteEdit"}
    wanted |= {"addCaseButton", "caseRows"}
    assert wanted - reached_by_tab(driver, cases.placeButton) == set()
