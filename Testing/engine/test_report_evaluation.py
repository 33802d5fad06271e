"""Human codes, coders' habits, and the figures of OBER and report retrieval."""

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from velcro_engine.commands.cli import main
from velcro_engine.errors import InputError
from velcro_engine.reports.language.coder import coded_findings, load_habits
from velcro_engine.reports.language.mesh_codes import implied_values, read_codes
from velcro_engine.reports.language.ontology import load_ontology
from velcro_engine.reports.language.published import read_report_published
from velcro_engine.reports.language.regions import locations, report_regions
from velcro_engine.reports.meta_entities import read_report
from velcro_engine.reports.text_embedding import DIMENSION, embed_text
from velcro_engine.training.measuring.report_evaluation import (
    Tally,
    evaluate_ober,
    evaluate_report_retrieval,
    tuples_of,
)
from velcro_engine.training.measuring.report_retrieval import ranking_figures

DATA = os.environ.get("VELCROLINK_DATA")
ROWS = [
    ("normal", "The lungs are clear. No effusion."),
    ("Pleural Effusion/left/small", "Small left pleural effusion."),
    ("Pulmonary Atelectasis/base/bilateral/mild", "Mild bibasilar atelectasis."),
    ("Cardiomegaly/mild", "The heart is mildly enlarged. No edema."),
    ("No Indexing", "Cardiomegaly."),
]


@pytest.fixture
def reports(tmp_path):
    path = tmp_path / "reports.csv"
    lines = [f'{i},"{codes}","{text}",' for i, (codes, text) in enumerate(ROWS * 4)]
    path.write_text("uid,MeSH,findings,impression\n" + "\n".join(lines) + "\n", "utf-8")
    return path


def test_codes_become_findings_sides_places_and_qualifiers():
    codes, unknown = read_codes("Opacity/lung/base/left/patchy/mild;Lung/hypoinflation")
    assert unknown == []
    assert [c.finding for c in codes] == ["lung_opacity", "hypoinflation"]
    assert codes[0].sides == {"left"} and codes[0].places == {"lung_base"}
    assert codes[0].qualifiers == {"shape/patchy", "severity/mild"}
    assert codes[1].qualifiers == set()  # "hypoinflation" is the finding, not a qualifier of it


def test_normal_reports_have_no_codes_and_unindexed_ones_do_not_count():
    assert read_codes("normal") == ([], [])
    assert read_codes("No Indexing") is None
    assert read_codes("") is None


def test_a_place_on_one_side_only_tells_the_side():
    (code,), _ = read_codes("Nodule/lung/lingula")
    assert code.sides == {"left"}
    (code,), _ = read_codes("Nodule/lung/middle lobe/right")
    assert code.sides == {"right"}


def test_an_unknown_heading_counts_as_missed():
    codes, unknown = read_codes("Never Heard Of/left")
    assert unknown == ["never heard of"]
    assert codes[0].finding == "mesh never heard of"


def test_the_mapping_leaves_out_what_the_finding_says_already():
    assert "state/elevated" in implied_values("elevated_hemidiaphragm")


def test_bilateral_is_left_and_right_in_the_tuples():
    codes, _ = read_codes("Pleural Effusion/bilateral;Cardiomegaly")
    found = tuples_of(codes)
    assert found["finding_side"] == {
        ("pleural_effusion", "left"),
        ("pleural_effusion", "right"),
        ("cardiomegaly", "none"),
    }
    assert ("cardiomegaly", "none") not in found["finding_side_stated"]


def test_a_coder_takes_the_finding_and_leaves_what_it_might_be():
    report = read_report("Patchy opacity in the left base, may represent pneumonia.")
    assert {m.finding for m in report.mentions()} == {"lung_opacity", "pneumonia"}
    (coded,) = coded_findings(report)
    assert coded.finding == "lung_opacity"
    assert coded.sides == {"left"} and coded.places == {"lung_base"}
    assert 0.5 < coded.score <= 1


def test_a_coder_reads_the_midlung_as_lobe_of_its_side():
    (coded,) = coded_findings(read_report("Calcified granuloma in the right midlung."))
    assert coded.places == {"lung_middle_lobe"}


def test_damaged_habits_are_named(tmp_path):
    path = tmp_path / "habits.json"
    path.write_text('{"values": [], "findings": {"bias": 0}}')
    with pytest.raises(InputError, match="habits"):
        load_habits(path)


def test_published_rules_silence_the_whole_part_that_holds_a_negation():
    ontology = load_ontology()

    def names(text):
        return {m.finding for m in read_report_published(text, "", ontology)}

    assert names("Cardiomegaly, no effusion.") == set()
    assert names("No effusion but cardiomegaly.") == {"cardiomegaly"}
    assert names("Cardiomegaly without effusion.") == {"cardiomegaly"}


def test_tally_counts_precision_recall_and_f1():
    tally = Tally()
    tally.add({1, 2, 3}, {2, 3, 4, 5})
    assert (tally.precision, tally.recall) == (2 / 4, 2 / 3)
    assert tally.f1 == pytest.approx(4 / 7)
    assert Tally().f1 == 0


def test_ober_on_reports_it_reads_rightly_scores_one(reports):
    metrics = evaluate_ober(reports)
    figures = metrics["groups"]["reports"]["text"]
    assert metrics["cases"] == figures["n"] == 16  # the unindexed do not count
    assert figures["finding_f1"] == 1.0
    assert figures["finding_side_f1"] == 1.0
    low, high = figures["finding_f1_ci"]
    assert low <= figures["finding_f1"] <= high
    assert metrics["entities"]["pleural_effusion"]["n"] == 4
    json.dumps(metrics)


def test_the_baseline_runs_on_the_same_reports_and_others_are_refused(reports):
    metrics = evaluate_ober(reports, "published")
    assert metrics["model"] == "published" and metrics["cases"] == 16
    assert metrics["groups"]["reports"]["text"]["finding_f1"] < 1
    with pytest.raises(InputError, match="published"):
        evaluate_ober(reports, "clip-whole")


def test_a_file_without_codes_is_refused(tmp_path):
    path = tmp_path / "reports.csv"
    path.write_text("uid,MeSH,findings\n1,No Indexing,Clear.\n")
    with pytest.raises(InputError, match="no report with MeSH codes"):
        evaluate_ober(path)


def test_evaluate_command_writes_metrics(reports, tmp_path):
    for task in ("ober", "report-retrieval"):
        out = tmp_path / task
        assert main(["evaluate", "--task", task, "--data", str(reports), "--out", str(out)]) == 0
        assert json.loads((out / "metrics.json").read_text("utf-8"))["task"] == task


def test_locations_name_place_and_each_side():
    assert locations("lung_opacity", ["lung_base"], ["bilateral"]) == {
        ("lung_base", "left"),
        ("lung_base", "right"),
    }
    assert locations("cardiomegaly", [], []) == {("heart", "")}
    assert locations("granuloma", ["lung_middle_zone"], ["left"]) == {("lingula", "left")}
    assert locations("foreign_body", [], []) == set()


def test_regions_say_what_is_found_where():
    text = "Small left pleural effusion. Right lower lobe consolidation. No pneumothorax."
    regions = report_regions(read_report(text))
    assert set(regions) == {("pleura", "left"), ("lung_lower_lobe", "right")}
    assert "small pleural effusion in left pleura" in regions["pleura", "left"]


def test_embedding_is_the_same_on_every_run_and_nearer_for_the_same_finding():
    texts = ["Left pleural effusion.", "Effusion on the left, small.", "Thoracic spondylosis.", ""]
    rows = embed_text(texts)
    assert rows.shape == (4, DIMENSION) and rows.dtype == np.float32
    np.testing.assert_array_equal(rows, embed_text(texts))
    np.testing.assert_allclose(np.linalg.norm(rows[:3], axis=1), 1, atol=1e-5)
    assert not rows[3].any()
    similarity = rows @ rows.T
    assert similarity[0, 1] > similarity[0, 2] + 0.3


def test_ranking_figures_of_a_known_order():
    scores, hits = np.array([0.1, 0.9, 0.8, 0.2]), np.array([True, True, False, False])
    at5, at10, average = ranking_figures(scores, hits)
    assert at5 == at10 == 0.5
    assert average == pytest.approx((1 + 2 / 4) / 2)


def test_a_location_condition_finds_the_same_place_through_other_findings(tmp_path):
    draw = random.Random(0)
    places = [("base", "base"), ("upper lobe", "upper lobe")]
    rows = []
    for number in range(40):
        (word, code), side = places[number % 2], ("left", "right")[number // 2 % 2]
        noise = draw.choice(["Cardiomegaly.", "Emphysema.", "Thoracic spondylosis.", "Scoliosis."])
        text = f"{noise} Nodule in the {side} {word}. {noise} Stable since then."
        rows.append(f"{number},Nodule/lung/{code}/{side},{text},")
    path = tmp_path / "reports.csv"
    path.write_text("uid,MeSH,findings,impression\n" + "\n".join(rows) + "\n", "utf-8")
    figures = evaluate_report_retrieval(path)["groups"]["reports"]["text"]
    assert figures["precision_at_5"] == 1.0
    assert figures["precision_at_5_gain"] > 0.15
    assert figures["precision_at_5_gain"] == pytest.approx(
        figures["precision_at_5"] - figures["precision_at_5_unconditioned"], abs=2e-4
    )


def test_retrieval_takes_another_embedding(reports):
    seen = []

    def embed(texts):
        seen.extend(texts)
        return np.ones((len(texts), 2), np.float32) / np.sqrt(2)

    metrics = evaluate_report_retrieval(reports, embed)
    assert metrics["model"] == "text tower" and seen


def test_retrieval_command_takes_the_text_tower_of_a_model(reports, tmp_path, monkeypatch):
    class Runtime:
        def embed_text(self, texts):
            return embed_text(texts)[:, :64]

    monkeypatch.setattr("velcro_engine.model.opening.open_runtime", lambda model: Runtime())
    out = tmp_path / "out"
    options = ["--task", "report-retrieval", "--model", "bundled"]
    assert main(["evaluate", *options, "--data", str(reports), "--out", str(out)]) == 0
    assert json.loads((out / "metrics.json").read_text("utf-8"))["model"] == "text tower"


def test_retrieval_without_a_shared_place_is_refused(tmp_path):
    path = tmp_path / "reports.csv"
    path.write_text("uid,MeSH,findings\n1,normal,Clear.\n2,Cardiomegaly,Cardiomegaly.\n")
    with pytest.raises(InputError, match="share a finding"):
        evaluate_report_retrieval(path)


@pytest.mark.skipif(not DATA, reason="set VELCROLINK_DATA to the folder of shared data")
def test_targets_hold_on_the_dev_reports():
    path = Path(DATA) / "reports_indiana" / "dev.csv"
    ours = evaluate_ober(path)["groups"]["reports"]["text"]
    published = evaluate_ober(path, "published")["groups"]["reports"]["text"]
    targets = {"finding_f1": 0.85, "finding_side_f1": 0.75, "finding_qualifier_f1": 0.60}
    for name, target in targets.items():
        assert ours[name] >= target
        assert ours[name] >= published[name] + 0.05
    retrieval = evaluate_report_retrieval(path)["groups"]["reports"]["text"]
    assert retrieval["precision_at_5_gain"] >= 0.15


def test_british_and_american_spelling_are_one():
    for word in ("hemothorax", "haemothorax"):
        assert list(read_report(f"Left {word}.").summary) == ["haemothorax"]
    for word in ("edema", "oedema"):
        assert list(read_report(f"Pulmonary {word}.").summary) == ["pulmonary_edema"]
