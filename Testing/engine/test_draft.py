"""Drafts: every sentence has a source; a language model can add nothing; nothing leaves unasked."""

import http.server
import json
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from test_cases_store import MODEL, vector
from velcro_engine.cases import Item, Place
from velcro_engine.cases.record import Hit
from velcro_engine.drafting.check import checked_wording, strike_unsupported
from velcro_engine.drafting.draft import NOTICE, draft_document, draft_report, draft_text
from velcro_engine.drafting.language_model import prompt_of, reword
from velcro_engine.errors import InputError
from velcro_engine.knowledge_base import active_paths, load_knowledge_base
from velcro_engine.messages.addresses import is_local
from velcro_engine.messages.result import LinkedEntry, LinkResult


@pytest.fixture(scope="module")
def base():
    return load_knowledge_base(active_paths())


def linked(entry="pleural_effusion", side="left", confidence=0.9, abstained=False, **attributes):
    return LinkResult(
        mask=np.ones((4, 4), bool),
        entries=(
            LinkedEntry(entry, entry, side, confidence),
            LinkedEntry("consolidation", "Consolidation", None, 0.05),
        ),
        abstained=abstained,
        attributes=attributes,
        embedding=vector(0),
        model="velcro 1",
        knowledge_base="velcrolink 1",
    )


def hit(text, number=1, case="chest-4"):
    item = Item(case, "text", embedding=vector(number), model=MODEL, text=text,
                places=(Place("pleura"),), identifier=number)  # fmt: skip
    return Hit(item, 0.8)


def test_every_sentence_names_its_source(base):
    result = linked(longest_diameter_mm=61.2, perpendicular_mm=14.8, area_mm2=812.0, size="large",
                    zone="lower posterior", body_side="left")  # fmt: skip
    draft = draft_report(result, base, [hit("Small left pleural effusion.")])
    assert {s.source for s in draft.sentences} == {"link", "measurement", "case"}
    assert all(s.reference for s in draft.sentences)
    text = draft_text(draft)
    assert text.startswith(NOTICE) and "61 x 15 mm" in text and "case 'chest-4', item 1" in text
    for number in range(1, len(draft.sentences) + 1):
        assert text.count(f"[{number}]") == 2
    json.dumps(draft_document(draft), allow_nan=False)


def test_what_is_not_known_is_not_said(base):
    draft = draft_report(linked(), base)
    assert len(draft.sentences) == 1 and "pleural effusion" in draft.sentences[0].text


def test_doubt_is_said(base):
    weak = draft_report(linked(confidence=0.3), base).sentences[0].text
    assert "may be" in weak and "30 %" in weak and "consolidation" in weak
    none = draft_report(linked(confidence=0.1, abstained=True), base).sentences[0].text
    assert "matches no entry" in none
    with pytest.raises(InputError):
        draft_report(LinkResult(np.ones((2, 2), bool), (), True), base)


def test_hostile_text_of_a_case_stays_text(base):
    draft = draft_report(linked(), base, [hit("<script>alert(1)</script> & more")])
    assert "<script>alert(1)</script>" in draft_document(draft)["sentences"][1]["text"]


SOURCES = [
    "The marked region shows left pleural effusion.",
    "On this slice it measures 61 x 15 mm.",
]


@pytest.mark.parametrize(
    "sentence",
    [
        "There is a left pleural effusion.",
        "Left pleural effusion, measuring 61 x 15 mm on this slice.",
    ],
)
def test_what_the_sources_say_stays(sentence):
    assert strike_unsupported(sentence, SOURCES) == (sentence, ())


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("There is a right pleural effusion.", "right"),
        ("There is a left pneumothorax.", "pneumothorax"),
        ("No pneumothorax is seen.", "pneumothorax"),
        ("There is no pleural effusion.", "pleural effusion"),
        ("The left pleural effusion measures 70 mm.", "70"),
        ("Follow-up is recommended.", "follow-up"),
        ("The left pleural effusion is consistent with malignancy.", ""),
        ("Patient enjoys excellent overall wellbeing despite everything.", "in no source"),
    ],
)
def test_what_no_source_says_is_struck(sentence, reason):
    kept, struck = strike_unsupported(f"{SOURCES[0]} {sentence}", SOURCES)
    assert kept == SOURCES[0]
    assert struck[0][0] == sentence and reason in struck[0][1]


def test_what_another_case_had_is_not_said_of_this_one(base):
    draft = draft_report(linked(), base, [hit("Left lower lobe consolidation.")])
    kept, struck = checked_wording("There is left lower lobe consolidation.", draft, ())
    assert not kept and "another case" in struck[0][1]
    own = "In a similar case, left lower lobe consolidation was reported."
    assert checked_wording(own, draft, ())[0] == own


def test_a_draft_may_not_become_surer_than_its_source():
    source = ["Possible left pleural effusion."]
    assert strike_unsupported("Possible left pleural effusion.", source)[1] == ()
    assert strike_unsupported("There is a left pleural effusion.", source)[1]


def test_a_flood_of_words_is_cut_and_said():
    kept, struck = strike_unsupported(SOURCES[0] + " " + "word " * 10_000, SOURCES)
    assert kept == SOURCES[0] and struck


@contextmanager
def server(answer, status=200, headers=()):
    """A small OpenAI-compatible server; what it was asked is in `asked`."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            asked.append((self.path, json.loads(self.rfile.read(length))))
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/v1", asked
    finally:
        running.shutdown()
        running.server_close()


def said(text):
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


def test_a_local_model_is_asked_what_was_shown():
    prompt = prompt_of(SOURCES)
    with server(said(" Reworded. ")) as (address, asked):
        assert reword(address, "tiny", prompt) == "Reworded."
    path, body = asked[0]
    assert path == "/v1/chat/completions" and body["model"] == "tiny"
    assert body["messages"] == [{"role": "user", "content": prompt}]
    assert all(sentence in prompt for sentence in SOURCES)


@pytest.mark.parametrize(
    ("answer", "status"),
    [(b"not json", 200), ({"choices": []}, 200), (said(""), 200), (said(None), 200), ({}, 500)],
)
def test_a_server_that_answers_something_else_ends_in_one_line(answer, status):
    with server(answer, status) as (address, _), pytest.raises(InputError) as caught:
        reword(address, "tiny", "text")
    assert "\n" not in caught.value.message


def test_redirects_are_not_followed():
    with server(said("elsewhere")) as (other, asked):
        moved = [("Location", other + "/chat/completions")]
        with server({}, 307, moved) as (address, _), pytest.raises(InputError):
            reword(address, "tiny", "text")
    assert asked == []


def test_nobody_listening_ends_in_one_line():
    with pytest.raises(InputError, match="did not answer"):
        reword("http://127.0.0.1:9/v1", "tiny", "text", seconds=2)


def test_other_machines_need_a_confirmation():
    with pytest.raises(InputError, match="not this machine"):
        reword("http://example.org/v1", "tiny", "text")


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("http://localhost:11434/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://192.168.0.5/v1", False),
        ("http://localhost.example.org/v1", False),
        ("http://127.0.0.1.example.org/v1", False),
        ("https://example.org", False),
    ],
)
def test_which_addresses_are_local(address, local):
    assert is_local(address) is local


@pytest.mark.parametrize(
    "address", ["", "localhost", "file:///etc/passwd", "ftp://localhost", "http://", "http://a:b/",
                "http://user:secret@localhost/v1"],
)  # fmt: skip
def test_odd_addresses_are_refused(address):
    with pytest.raises(InputError):
        reword(address, "tiny", "text", remote_confirmed=True)
