"""The ablation table, and objectives on report sentences, on cases and reports made in the test."""

import argparse
import csv
import json
import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("timm", reason="training needs the training extras")

import tiny_cases
from velcro_engine.errors import InputError
from velcro_engine.knowledge_base import load_knowledge_base
from velcro_engine.model.text_tokenizer import TextTokenizer
from velcro_engine.model.text_tower import TextConfig, TextGraph, TextTower
from velcro_engine.training.commands.cli import add_arguments
from velcro_engine.training.commands.export import save_tower
from velcro_engine.training.data.batches import collate
from velcro_engine.training.data.slice_sampler import SliceSampler
from velcro_engine.training.data.vocabulary import learn_merges, write_merges
from velcro_engine.training.learning.checkpoints import save_checkpoint
from velcro_engine.training.learning.report_alignment import (
    ReportAlignment,
    ReportWeights,
    region_word_loss,
    relevance_loss,
    spoken_sentences,
)
from velcro_engine.training.learning.training_state import new_state
from velcro_engine.training.measuring.region_features import RecordingNetwork, RegionFeatures

FINDINGS = {
    "pleural effusion": "Pleural Effusion/{side}/{size}",
    "atelectasis": "Pulmonary Atelectasis/base/{side}/{size}",
    "opacity": "Opacity/lung/base/{side}",
}


@pytest.fixture(scope="module")
def base():
    return load_knowledge_base(None)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """36 reports that name one of three findings, with size and side, and their codes."""
    path = tmp_path_factory.mktemp("reports") / "reports.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["uid", "MeSH", "findings", "impression"])
        number = 0
        for finding, code in FINDINGS.items():
            for side in ("left", "right"):
                for size in ("small", "large", "mild", "dense", "patchy", "streaky"):
                    number += 1
                    place = "" if finding == "pleural effusion" else f" in the {side} lung base"
                    text = f"There is a {size} {side} {finding}{place}. No pneumothorax."
                    writer.writerow([number, code.format(side=side, size=size), text, ""])
    return path


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory, base):
    path = tmp_path_factory.mktemp("text") / "vocabulary.txt.gz"
    write_merges(path, learn_merges([e.name for e in base.entries], 300))
    return path


@pytest.fixture(scope="module")
def tokenizer(vocabulary):
    return TextTokenizer.from_file(vocabulary, 64)


@pytest.fixture(scope="module")
def small_tower(tokenizer, vocabulary, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tower")
    save_tower(folder, tower_of(tokenizer), vocabulary)
    return folder


def tower_of(tokenizer, embedding=32):
    torch.manual_seed(0)
    return TextTower(TextConfig(tokenizer.size, tokenizer.context_length, 24, 2, 1, embedding))


def test_sentences_know_entries_words_and_places(reports, base):
    spoken = spoken_sentences([reports], base)
    assert len(spoken) == 36  # what is only denied says nothing
    one = next(s for s in spoken if "small left atelectasis" in s.text)
    assert set(one.spans) == {"atelectasis", "lung_base"}
    assert [one.words[n] for n in one.spans["atelectasis"]] == ["atelectasis"]
    assert one.findings[("lung_base", "left")] == {"atelectasis"}
    assert one.phrase == "small atelectasis in left lung base"


def test_too_few_findings_are_told(tmp_path, base):
    path = tmp_path / "few.csv"
    path.write_text("findings,impression\nLungs are clear.,\n", encoding="utf-8")
    with pytest.raises(InputError, match="too few findings"):
        spoken_sentences([path], base)


def test_relevant_pairs_are_no_negatives():
    texts = F.normalize(torch.tensor([[1.0, 0], [1, 0.01], [0, 1]]), dim=1)
    relevance = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    right = relevance_loss(texts, torch.eye(2), relevance)
    assert right < 0.75 < relevance_loss(texts, torch.eye(2).flip(0), relevance)
    assert float(relevance_loss(texts, torch.eye(2), torch.zeros(3, 2))) == 0.0


def test_words_and_regions_find_each_other():
    words = torch.eye(3)[None].requires_grad_()
    valid = torch.tensor([[True, True, False]])
    spans = torch.zeros(1, 2, 3, dtype=torch.bool)
    spans[0, 0, 0] = spans[0, 1, 1] = True
    right = region_word_loss(words, torch.eye(3)[:2], spans, valid)
    wrong = region_word_loss(words, torch.eye(3)[:2].flip(0), spans, valid)
    assert right < 0.01 < 5 < wrong
    spans[0, 1] = False  # a region without a word in the sentence
    region_word_loss(words, torch.eye(3)[:2], spans, valid).backward()
    assert torch.isfinite(words.grad).all()
    assert region_word_loss(words, torch.eye(3)[:2], spans & False, valid) == 0.0


@pytest.mark.parametrize("only", ["sentences", "words", "medtrim", "location"])
def test_each_report_objective_can_be_learnt_and_is_repeatable(reports, base, tokenizer, only):
    weights = ReportWeights(**{k: float(k == only) for k in
                               ("sentences", "words", "medtrim", "location")})  # fmt: skip
    targets = {"lung_base": np.eye(32, dtype=np.float32)[0]}
    spoken = spoken_sentences([reports], base)

    def run():
        objective = ReportAlignment(spoken, base, targets, tokenizer, weights, seed=1)
        graph = TextGraph(tower_of(tokenizer))
        optimizer = torch.optim.AdamW(graph.parameters(), lr=3e-3)
        losses = []
        for _ in range(30):
            loss = objective(graph)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    losses = run()
    assert np.isfinite(losses).all()
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
    assert losses[:3] == run()[:3]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """(data, splits, run folder of an untrained network)."""
    root = tmp_path_factory.mktemp("run")
    data = tiny_cases.write_cases(root / "data")
    splits = root / "splits.json"
    cases = {"train": ["brains/one", "heads/a"], "dev": ["brains/two", "heads/a"]}
    splits.write_text(json.dumps(cases), encoding="utf-8")
    recipe = tiny_cases.recipe(batch=2, prompts=3)
    entities = tiny_cases.entities(tiny_cases.cases(data))
    state = new_state(recipe, entities)
    state.step = 5000  # so that every entity counts as seen
    state.frequency.fill_(0.2)
    save_checkpoint(state, recipe, root / "run")
    return data, splits, root / "run"


def test_kept_features_are_what_the_region_head_reads(run_folder):
    data, _, _ = run_folder
    read = tiny_cases.cases(data)
    recipe = tiny_cases.recipe(prompts=3)
    state = new_state(recipe, tiny_cases.entities(read))
    network = RecordingNetwork.of(state)
    sampler = SliceSampler(read, state.entities, recipe.network.size, 3)
    batch = collate([sampler.draw(np.random.default_rng(n)) for n in range(2)])
    prompts = batch["row"], batch["points"], batch["labels"]
    token, pooled, pixels = map(
        torch.from_numpy, network.features(batch["image"], batch["position"], *prompts)
    )
    with torch.no_grad():
        own, side = state.average.region_head(token, pooled)
        encoded = state.average.encode(batch["image"], batch["position"])
        decoded = state.average.decode(encoded.rows(batch["row"]), *prompts[1:])
    expected = F.normalize(own + state.average.region_gain * pixels, dim=1)
    torch.testing.assert_close(decoded.embedding, expected)
    torch.testing.assert_close(decoded.side, side)


def parsed(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser.add_subparsers())
    return parser.parse_args([str(w) for w in words])


def test_ablate_writes_a_table_with_and_without_each_objective(
    run_folder, reports, small_tower, tmp_path, capsys
):
    data, splits, run = run_folder
    out = tmp_path / "out"
    words = ["ablate", run, "--data", data, "--splits", splits, "--out", out, "--slices", "8",
             "--head-steps", "20", "--seeds", "2", "--reports", reports, "--dev-reports", reports,
             "--text-steps", "1", "--text-from", small_tower]  # fmt: skip
    args = parsed(*words)
    assert args.run(args) == 0
    result = json.loads((out / "ablation.json").read_text(encoding="utf-8"))
    assert "Head only" in result["what"] and result["regions"]["queries"] > 10
    assert list(result["heads"])[0] == "without" and len(result["heads"]) == 6
    assert len(result["text"]) == 6
    for row in [*result["heads"].values(), *result["text"].values()]:
        for figure in row.values():
            assert 0 <= figure["ci"][0] <= figure["value"] <= figure["ci"][1] <= 1
            assert figure["gain_ci"][0] <= figure["gain"] <= figure["gain_ci"][1]
    assert {"linking", "side", "attributes", "roi-roi"} <= set(result["heads"]["medtrim"])
    assert result["heads"]["without"]["linking"]["gain"] == 0
    text = (out / "index.html").read_text(encoding="utf-8")
    assert "Head only" in text and "location contrast" in text

    kept = RegionFeatures.read(out / "queries.npz")
    assert set(kept.case) == {"brains/two", "heads/a"}
    assert {w.side for w in kept.words} >= {"left", "right", None}
    args = parsed(*words[:-8])  # without the reports
    assert args.run(args) == 0
    assert "those kept" in capsys.readouterr().out

    (out / "queries.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="damaged"):
        args.run(args)


def test_reports_to_learn_from_need_reports_to_measure(run_folder, reports, tmp_path):
    data, splits, run = run_folder
    args = parsed("ablate", run, "--data", data, "--splits", splits, "--out", tmp_path / "o",
                  "--reports", reports)  # fmt: skip
    with pytest.raises(InputError, match="together"):
        args.run(args)


def test_export_learns_from_reports(run_folder, reports, small_tower, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(run_folder[2], run)
    words = ["export", run, "--text-steps", "1", "--text-from", small_tower]
    args = parsed(*words, "--out", tmp_path / "taught", "--reports", reports)
    assert args.run(args) == 0
    assert "36 different sentences" in capsys.readouterr().out
    args = parsed(*words, "--out", tmp_path / "plain")
    assert args.run(args) == 0 and "sentences" not in capsys.readouterr().out
    taught, plain = (
        np.load(tmp_path / name / "entry_embeddings.npz")["vectors"] for name in ("taught", "plain")
    )
    assert taught.shape == plain.shape and not np.array_equal(taught, plain)
    args = parsed(*words, "--out", tmp_path / "o", "--reports", reports, "--report-objectives", "x")
    with pytest.raises(InputError, match="sentences, words, medtrim, location"):
        args.run(args)
