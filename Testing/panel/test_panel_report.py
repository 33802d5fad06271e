"""The Report tab over the engine's own drafts: sources, copying, the optional language model."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import slicer
from PySide6 import QtGui

from tab_helpers import assert_fits, linked, prepare_worker, reached_by_tab, show_tab


@pytest.fixture
def worker_script(tmp_path, monkeypatch):
    return prepare_worker(tmp_path, monkeypatch)


@pytest.fixture
def report(driver):
    return show_tab(driver, driver.module.panel.report)


@pytest.fixture
def server():
    """A language model that repeats the first sentence, and invents one."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.prompts.append(body["messages"][0]["content"])
            time.sleep(made.seconds)
            text = "The marked region is the right hippocampus. There is a fracture."
            answer = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_arguments):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads, made.prompts, made.seconds = True, [], 0.0
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def draft(driver, report):
    driver.press(report.draftButton)
    driver.wait_until(lambda: not report._question.isRunning, "the draft")
    driver.wait(0.02)


def shown(report):
    return report.draftView.toPlainText()


def test_a_draft_names_the_source_of_every_sentence_and_is_marked(driver, report):
    linked(driver)
    draft(driver, report)
    text = shown(report)
    assert "The marked region is the right hippocampus. [1]" in text
    assert "[1] link: linked by scripted model" in text
    assert "measurement: longest diameter" in text
    assert report.notice.text.startswith("DRAFT for a human to check")
    body, _sources, listed = text.partition("Sources")
    assert body.count("[") == listed.count("[") >= 3


def test_a_kept_case_is_quoted_with_its_case_and_only_when_wanted(driver, report):
    linked(driver)
    cases = show_tab(driver, driver.module.panel.cases)
    cases.pseudonymEdit.text = "brain-017"
    cases.noteEdit.text = "Known benign focus."
    driver.press(cases.addButton)
    driver.wait_until(lambda: not cases._adding.isRunning, "adding")
    show_tab(driver, report)
    draft(driver, report)
    assert "In a similar case it was reported: “Known benign focus.”" in shown(report)
    assert "similar case: case 'brain-017'" in shown(report)
    report.casesCheck.click()
    draft(driver, report)
    assert "Known benign" not in shown(report)


def test_copy_puts_the_draft_with_its_sources_on_the_clipboard(driver, report):
    assert not report.copyButton.enabled and report.copyButton.toolTip
    linked(driver)
    draft(driver, report)
    driver.press(report.copyButton)
    copied = QtGui.QGuiApplication.clipboard().text()
    assert copied.startswith("DRAFT for a human to check") and copied.endswith(shown(report))
    assert "clipboard" in report.message.label.text


def test_the_language_model_is_off_and_asked_only_on_a_click(driver, report, server):
    assert not report.model.box.checked and not report.model.rewordButton.isVisible()
    linked(driver)
    draft(driver, report)
    assert server.prompts == []
    report.model.box.checked = True
    assert report.model.rewordButton.toolTip.startswith("Type the address")
    report.model.addressEdit.text = f"http://127.0.0.1:{server.server_port}/v1"
    assert not report.model.remoteCheck.isVisible()
    driver.press(report.model.rewordButton)
    driver.wait_until(lambda: not report._question.isRunning, "the rewording")
    assert server.prompts == [report.model.promptView.toPlainText()]  # what was shown, exactly
    text = shown(report)
    assert "Worded by a language model" in text
    worded = text.partition("Worded by")[0]
    assert "right hippocampus" in worded and "fracture" not in worded
    assert "Struck out" in text and "fracture" in text.partition("Struck out")[2]


def test_another_computer_must_be_confirmed_for_every_address(driver, report):
    linked(driver)
    draft(driver, report)
    report.model.box.checked = True
    report.model.addressEdit.text = "not an address"
    assert "address" in report.model.rewordButton.toolTip
    assert not report.model.rewordButton.enabled
    report.model.addressEdit.text = "http://192.0.2.7:8000/v1"
    assert report.model.remoteCheck.isVisible() and not report.model.rewordButton.enabled
    report.model.remoteCheck.checked = True
    assert report.model.rewordButton.enabled and report.model.question["remote_confirmed"]
    report.model.addressEdit.text = "http://192.0.2.8:8000/v1"
    assert not report.model.remoteCheck.checked and not report.model.rewordButton.enabled
    report.model.remoteCheck.checked = True
    report.model.addressEdit.text = "http://localhost:1/v1"
    assert not report.model.question["remote_confirmed"]


def test_a_model_that_does_not_answer_can_be_stopped(driver, report, server):
    server.seconds = 20.0
    linked(driver)
    draft(driver, report)
    before = shown(report)
    report.model.box.checked = True
    report.model.addressEdit.text = f"http://localhost:{server.server_port}/v1"
    driver.press(report.model.rewordButton)
    driver.wait_until(lambda: len(server.prompts) == 1, "the question to arrive")
    assert report.model.rewordButton.text == "Stop"
    driver.press(report.model.rewordButton)
    assert report.model.rewordButton.text == "Reword" and shown(report) == before
    driver.wait_until(lambda: driver.state == "ready", "the engine to be back", 30)
    assert shown(report) == before


def test_a_wrong_address_is_one_line(driver, report):
    linked(driver)
    draft(driver, report)
    report.model.box.checked = True
    report.model.addressEdit.text = "http://localhost:1/v1"
    driver.press(report.model.rewordButton)
    driver.wait_until(lambda: not report._question.isRunning, "the failure")
    assert "did not answer" in report.message.label.text
    assert "right hippocampus" in shown(report)


@pytest.mark.parametrize("end", ["other region", "volume", "scene"])
def test_a_draft_goes_with_its_region(driver, report, end):
    linked(driver)
    draft(driver, report)
    if end == "other region":
        driver.session.link()
        driver.wait_linked()
    elif end == "volume":
        slicer.mrmlScene.RemoveNode(driver.session.volumeNode)
    else:
        driver.app.close_scene()
    driver.wait(0.05)
    assert shown(report) == "" and not report.copyButton.enabled
    assert report.draftButton.enabled == (end == "other region")


def test_report_fits_and_the_keyboard_reaches_it(driver, report):
    assert_fits(driver)
    linked(driver)
    draft(driver, report)
    report.model.box.checked = True
    report.model.addressEdit.text = "http://192.0.2.7:8000/v1"
    report.model.remoteCheck.checked = True
    assert_fits(driver)
    wanted = {"draftButton", "copyDraftButton", "draftCasesCheck", "draftView", "modelBox"}
    wanted |= {"modelAddressEdit", "modelNameEdit", "modelRemoteCheck", "rewordButton"}
    assert wanted - reached_by_tab(driver, report.draftButton) == set()
