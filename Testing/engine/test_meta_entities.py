"""OBER: what is read from report text, and what is not."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velcro_engine.reports.language.ontology import FOLDER, load_ontology
from velcro_engine.reports.meta_entities import as_dict, entry_of, read_report

ENTRIES = Path(__file__).parents[2] / "Resources" / "KnowledgeBase" / "entries"


def certainties(text):
    return {m.finding: m.certainty for s in read_report(text).sentences for m in s.mentions}


def only(text, finding):
    (mention,) = [m for m in read_report(text).mentions() if m.finding == finding]
    return mention


@pytest.mark.parametrize(
    ("text", "denied"),
    [
        ("No pleural effusion, pneumothorax or pulmonary edema.", 3),
        ("Neither effusion nor pneumothorax.", 2),
        ("Negative for pneumothorax and effusion.", 2),
        ("The effusion has resolved.", 1),
        ("A pneumothorax is not seen.", 1),
        ("Resolution of the right effusion.", 1),
        ("The heart is not enlarged.", 1),
        ("Free of focal consolidation.", 1),
    ],
)
def test_denied_findings_are_absent_wherever_the_denial_stands(text, denied):
    assert list(certainties(text).values()) == ["absent"] * denied
    assert read_report(text).summary == {}


@pytest.mark.parametrize(
    ("text", "there", "denied"),
    [
        ("Cardiomegaly without overt edema.", "cardiomegaly", "pulmonary_edema"),
        ("No pneumothorax, but there is a small effusion.", "pleural_effusion", "pneumothorax"),
        ("No pneumothorax, stable cardiomegaly.", "cardiomegaly", "pneumothorax"),
        ("Scarring rather than atelectasis.", "scar", "atelectasis"),
        ("Emphysema; no pneumothorax.", "emphysema", "pneumothorax"),
        ("Opacity, which is not an effusion.", "lung_opacity", "pleural_effusion"),
    ],
)
def test_a_denial_ends_where_the_sentence_turns(text, there, denied):
    found = certainties(text)
    assert found[there] == "asserted"
    assert found[denied] == "absent"


@pytest.mark.parametrize(
    "text", ["No change in the small effusion.", "Effusion without significant change."]
)
def test_no_change_denies_nothing(text):
    assert certainties(text) == {"pleural_effusion": "asserted"}


@pytest.mark.parametrize(
    ("text", "certainty"),
    [
        ("Possible pneumonia.", "possible"),
        ("Pneumonia cannot be excluded.", "possible"),
        ("This suggests pneumonia.", "suggested"),
        ("Consistent with pneumonia.", "likely"),
        ("XXXX pneumonia.", "removed"),
        ("Right lower lobe pneumonia.", "asserted"),
    ],
)
def test_doubt_is_told_apart_from_denial(text, certainty):
    assert certainties(text)["pneumonia"] == certainty


def test_words_in_two_places_make_one_finding():
    assert "cardiomegaly" in certainties("The heart is mildly enlarged.")
    assert "aortic_calcification" in certainties("The aorta is tortuous and densely calcified.")
    assert "cardiomegaly" not in certainties("The heart is normal, the aorta is enlarged.")


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("Hypoinflated lungs.", "hypoinflation"),
        ("Low lung volumes.", "hypoinflation"),
        ("Opacities in both bases.", "lung_opacity"),
        ("Effusions.", "pleural_effusion"),
        ("Calcified hilar lymph XXXX.", "calcified_lymph_node"),
        ("Bullae.", "bulla"),
    ],
)
def test_synonyms_plurals_and_removed_words_lead_to_one_finding(text, finding):
    assert finding in certainties(text)


def test_each_finding_keeps_its_own_side_and_size():
    text = "Small left pleural effusion and moderate right basilar atelectasis."
    effusion, atelectasis = only(text, "pleural_effusion"), only(text, "atelectasis")
    assert effusion.sides == {"left"}
    assert "size/small" in effusion.qualifiers
    assert atelectasis.sides == {"right"}
    assert atelectasis.places == {"lung_base"}
    assert "severity/moderate" in atelectasis.qualifiers


def test_joined_findings_share_the_place_after_them():
    text = "Atelectasis and scarring in the left base."
    for finding in ("atelectasis", "scar"):
        assert only(text, finding).sides == {"left"}
        assert only(text, finding).places == {"lung_base"}


def test_what_interprets_a_finding_lies_where_it_lies():
    text = "Opacities in the left lower lobe, may represent pneumonia."
    assert only(text, "pneumonia").places == {"lung_lower_lobe"}
    assert only(text, "lung_opacity").places == {"lung_lower_lobe"}


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("Bibasilar atelectasis.", {"bilateral"}),
        ("Lingular atelectasis.", {"left"}),
        ("Middle lobe atelectasis.", {"right"}),
        ("Atelectasis, left greater than right.", {"bilateral"}),
    ],
)
def test_laterality_hidden_in_words(text, sides):
    assert only(text, "atelectasis").sides == sides


def test_full_stops_in_numbers_and_titles_end_no_sentence():
    report = read_report("1. Nodule of 1.4 cm. Dr. Smith was told. 2. Emphysema.")
    assert [s.text for s in report.sentences] == [
        "Nodule of 1.4 cm.",
        "Dr. Smith was told.",
        "Emphysema.",
    ]


def test_markup_is_dropped_and_never_read():
    report = read_report("<b>Cardiomegaly</b><script>alert('pneumonia')</script>&nbsp;&lt;stable")
    assert list(report.summary) == ["cardiomegaly"]


def test_a_report_of_a_megabyte_is_read_to_its_end():
    text = "The heart is normal " * 50_000 + ". Cardiomegaly."
    assert "cardiomegaly" in read_report(text).summary


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=400))
def test_any_text_is_read_without_failing(text):
    json.dumps(as_dict(read_report(text, text)))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "no",
                "left",
                "effusion",
                ",",
                "and",
                "or",
                ";",
                "mild",
                "xxxx",
                "heart",
                "enlarged",
                ".",
                "<",
                ">",
            ]
        )
    )
)
def test_any_order_of_report_words_is_read_without_failing(words):
    as_dict(read_report(" ".join(words)))


def test_sections_are_kept_and_absent_findings_listed_apart():
    report = read_report("No effusion.", "Emphysema.")
    assert [s.section for s in report.sentences] == ["findings", "impression"]
    assert as_dict(report)["absent"] == ["pleural_effusion"]


def test_every_finding_and_place_links_to_an_entry_that_exists():
    known = {
        entry["id"]
        for path in ENTRIES.glob("*.json")
        for entry in json.loads(path.read_text("utf-8"))["entries"]
    }
    linked = {k for k in load_ontology().knowledge_base_ids.values() if k}
    assert linked <= known
    assert entry_of("cardiomegaly") == "cardiomegaly"
    assert entry_of("granuloma") == "calcified_granuloma"
    assert entry_of("nonsense") is None


def test_a_damaged_vocabulary_is_named(tmp_path):
    from velcro_engine.errors import InputError

    for name in ("findings.json", "attributes.json", "cues.json"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    (tmp_path / "findings.json").write_text('{"groups": {}, "findings": [{"terms": []}]}')
    with pytest.raises(InputError, match="vocabulary"):
        load_ontology(tmp_path)
    (tmp_path / "cues.json").write_text("{")
    with pytest.raises(InputError, match="cues"):
        load_ontology(tmp_path)
