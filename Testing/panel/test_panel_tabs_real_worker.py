"""Find, Cases and Report with the engine's real worker process and the bundled model."""

from __future__ import annotations

import pytest

from tab_helpers import show_tab
from test_panel_real_worker import RIGHT_THALAMUS, brain, real  # noqa: F401 - fixtures


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """A data folder of this test's own, so that no case of another one is in the library."""
    from VelcroLinkLib.engine import setup as engine_setup

    monkeypatch.setattr(engine_setup, "userDataFolder", lambda: str(tmp_path))


def test_find_cases_and_report_speak_with_the_real_engine(
    own_data,
    real,  # noqa: F811
    brain,  # noqa: F811
):
    panel = real.module.panel
    find = show_tab(real, panel.find)
    real.type(find.phraseEdit, "thalamus")
    real.press(find.findButton)
    real.wait_until(lambda: not find._question.isRunning, "the search", 180)
    assert find.message.label.text == ""
    assert "'thalamus' is" in find.summary.text
    assert find._found.heat.any() and find.regionList.count == len(find._found.regions)
    find.heatCheck.click()
    real.press(find.clearButton)

    real.ui.tabs.setCurrentIndex(0)
    real.place_roi(*RIGHT_THALAMUS)
    real.wait_linked(seconds=180)
    cases = show_tab(real, panel.cases)
    real.wait_until(lambda: cases._cases is not None, "the search in the library", 60)
    assert cases.message.label.text == ""
    real.type(cases.pseudonymEdit, "brain-1")
    real.type(cases.noteEdit, "No focal lesion here.")
    real.press(cases.addButton)
    real.wait_until(lambda: bool(cases._cases), "the added case", 60)
    assert cases._cases[0].case == "brain-1" and cases._cases[0].score > 0.99

    report = show_tab(real, panel.report)
    real.press(report.draftButton)
    real.wait_until(lambda: not report._question.isRunning, "the draft", 60)
    assert report.message.label.text == ""
    assert "Sources" in report.draftView.toPlainText()
