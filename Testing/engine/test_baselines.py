"""The benchmark's baselines: what they may see, that they learn, train and measure by command."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

import tiny_cases
from velcro_engine.commands import cli
from velcro_engine.errors import InputError, ModelError
from velcro_engine.training.baseline_models.networks import (
    BASELINES,
    WITH_MASKS,
    Slices,
    baseline_network,
)
from velcro_engine.training.baseline_models.regions import (
    GEOMETRY,
    POINT_REACH,
    box_crops,
    geometry_features,
    prompt_boxes,
    tokens_under_boxes,
)
from velcro_engine.training.baseline_models.token_bank import TokenBank, shares_over_entries
from velcro_engine.training.data.slice_sampler import SliceSampler
from velcro_engine.training.learning.checkpoints import load_checkpoint
from velcro_engine.training.learning.trainer import StepBatches, train_step
from velcro_engine.training.learning.training_state import new_state
from velcro_engine.training.measuring.baselines import baseline_run, start_encoder
from velcro_engine.training.measuring.link_evaluation import TOP

SIZE = tiny_cases.SIZE


def prompts(*given):
    """points N x 8 x 2, labels N x 8 of boxes (four numbers) and points (two)."""
    points = torch.zeros(len(given), 8, 2)
    labels = torch.full((len(given), 8), -1.0)
    for n, numbers in enumerate(given):
        points[n, : len(numbers) // 2] = torch.tensor(numbers, dtype=torch.float32).view(-1, 2)
        labels[n, : len(numbers) // 2] = torch.tensor([2.0, 3.0] if len(numbers) == 4 else [1.0])
    return points, labels


def test_box_of_a_prompt_is_the_box_or_reaches_around_its_points():
    boxes = prompt_boxes(*prompts((3, 4, 20, 30), (10, 12)))
    assert boxes[0].tolist() == [3, 4, 20, 30]
    reach = POINT_REACH
    assert boxes[1].tolist() == [10 - reach, 12 - reach, 10 + reach, 12 + reach]


def test_crop_shows_the_box_with_a_little_margin_at_its_aspect_ratio():
    image = torch.zeros(1, 1, 64, 64)
    image[0, 0, 20:40, 10:50] = 1.0  # box 9.5, 19.5, 49.5, 39.5: twice as wide as high
    crop = box_crops(image, torch.tensor([[9.5, 19.5, 49.5, 39.5]]), 48)[0, 0]
    rows, columns = crop.max(1).values > 0.5, crop.max(0).values > 0.5
    assert columns.sum() == pytest.approx(48 / 1.2, abs=1)
    assert rows.sum() == pytest.approx(48 / 2.4, abs=1)
    assert torch.allclose(crop, crop.flip(0), atol=1e-4) and torch.allclose(
        crop, crop.flip(1), atol=1e-4
    )


def test_tokens_weigh_by_the_share_of_the_box_in_their_cell():
    tokens = torch.arange(16.0).view(1, 1, 4, 4)
    inside = tokens_under_boxes(tokens, torch.tensor([[17.0, 1.0, 20.0, 3.0]]), 64)
    assert inside.item() == pytest.approx(1.0)  # a box smaller than a cell reads that cell
    half = tokens_under_boxes(tokens, torch.tensor([[7.5, 0.0, 23.5, 8.0]]), 64)
    assert half.item() == pytest.approx(0.5, abs=1e-5)
    outside = tokens_under_boxes(tokens, torch.tensor([[-30.0, -30.0, -20.0, -20.0]]), 64)
    assert outside.item() == pytest.approx(0.0)


@pytest.mark.parametrize("name", [n for n in BASELINES if n not in WITH_MASKS])
def test_what_a_baseline_reads_of_a_slice(name):
    """clip-whole no prompt, clip-crop nothing outside it, box-prior no picture."""
    torch.manual_seed(0)
    recipe = tiny_cases.recipe(baseline=name, crop=32)
    network = baseline_network(recipe).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # fresh residual branches are silent
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    image = torch.randn(1, 1, SIZE, SIZE)
    position = torch.randn(1, 14, SIZE // 8, SIZE // 8)
    row = torch.zeros(1, dtype=torch.long)

    def answer(picture=image, place=position, modality=2, box=(20, 20, 32, 32)):
        slices = Slices(picture, place, torch.tensor([modality]))
        with torch.no_grad():
            return network.decode(slices, network.encode(slices), *prompts(box), row)[0]

    def same(other):
        return torch.allclose(answer(), other, atol=1e-5)

    far = image.clone()
    far[:, :, 50:, 50:] = 3.0
    assert torch.allclose(answer().norm(dim=1), torch.ones(1), atol=1e-4)
    assert same(answer(box=(40, 8, 52, 20))) == (name == "clip-whole")
    assert same(answer(picture=far)) == (name in ("clip-crop", "box-prior"))
    assert same(answer(place=position + 1)) == (name != "box-prior")
    assert same(answer(modality=1)) == (name != "box-prior")


def test_position_map_is_read_by_clip_only_when_the_recipe_says_so():
    for name in ("clip-whole", "clip-crop", "clip-mask-pool"):
        network = baseline_network(tiny_cases.recipe(baseline=name, position=True)).eval()
        image = torch.randn(1, 1, SIZE, SIZE)
        row = torch.zeros(1, dtype=torch.long)
        made = []
        for shift in (0.0, 1.0):
            place = torch.full((1, 14, SIZE // 8, SIZE // 8), shift)
            slices = Slices(image, place, torch.tensor([2]))
            with torch.no_grad():
                encoded = network.encode(slices)
                made.append(network.decode(slices, encoded, *prompts((9, 9, 30, 30)), row)[0])
        assert not torch.allclose(made[0], made[1], atol=1e-5)


def test_geometry_features_are_finite_for_pictures_and_points():
    position = torch.zeros(2, 14, 8, 8)
    known = geometry_features(position, *prompts((1, 2, 9, 9), (5, 5)), torch.tensor([0, 1]), 64)
    assert known.shape == (2, GEOMETRY) and torch.isfinite(known).all()
    assert not torch.equal(known[0], known[1])


def test_unknown_baseline_is_told():
    with pytest.raises(InputError, match="Unknown baseline 'clip'"):
        baseline_network(tiny_cases.recipe(baseline="clip"))


def test_nearest_tokens_vote_for_entity_and_side():
    tokens = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    mean, deviation = np.zeros(3, np.float32), np.ones(3, np.float32)
    bank = TokenBank(tokens, np.array([0, 0, 1, 2]), np.array([0, 0, 1, 2]), mean, deviation)
    share, sides = bank.votes(np.array([[2.0, 0.1, 0.0], [0.0, 1.0, 0.0]]), 2)
    assert share.sum(1) == pytest.approx([1, 1]) and share.argmax(1).tolist() == [0, 1]
    assert sides.argmax(1).tolist() == [0, 1]
    over, nothing = shares_over_entries(share, ["liver", "gone"], {"spleen": 0, "liver": 1})
    assert over[0, 1] == pytest.approx(share[0, 0]) and over[:, 0].tolist() == [0, 0]
    assert nothing == pytest.approx(share[:, 2])


# ---- training and measuring by command --------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder with data, knowledge base and the model whose text side the baselines are given."""
    trained = ["hippocampus", "thalamus", "brainstem"]
    root = tiny_cases.write_site(tmp_path_factory.mktemp("site"), trained)
    values = asdict(replace(tiny_cases.recipe(steps=2, dense_steps=1), crop=32, bank=20))
    (root / "recipe.json").write_text(json.dumps(values), encoding="utf-8")
    return root


def train_arguments(site, name, out):
    return [
        "train", "--baseline", name, "--data", str(site / "data"), "--kb", str(site / "kb.json"),
        "--text-model", str(site / "model"), "--recipe", str(site / "recipe.json"),
        "--out", str(out), "--workers", "0", "--device", "cpu",
    ]  # fmt: skip


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_is_trained_and_measured_by_command(site, tmp_path, name, capsys):
    assert cli.main(train_arguments(site, name, tmp_path / name)) == 0
    state, recipe = load_checkpoint(tmp_path / name)
    assert recipe.baseline == name and state.step == 2
    code = cli.main(
        ["evaluate", "--baseline", name, "--model", str(tmp_path), "--data", str(site / "data"),
         "--kb", str(site / "kb.json"), "--out", str(tmp_path / "out"), "--step-mm", "20"]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
    gold = metrics["groups"]["fine"]["gold"]
    assert metrics["model"] == name and gold["n"] > 5 and metrics["cases"] == 3
    assert (gold["dice"] is None) == (name not in WITH_MASKS)
    assert 0 <= gold["top1"] <= gold["top3"] <= 1
    row = (tmp_path / "out" / "rows.csv").read_text("utf-8").splitlines()[1].split(",")
    ranked = next(cell for cell in row if cell.count(" ") == TOP - 1)
    assert set(ranked.split()) <= set(tiny_cases.ENTRIES) | {"anatomical_structure"}


def test_text_side_is_given_and_stays_as_it_was(site, tmp_path):
    assert cli.main(train_arguments(site, "clip-mask-pool", tmp_path / "run")) == 0
    state, _ = load_checkpoint(tmp_path / "run")
    vectors = state.table.vectors
    assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)), atol=1e-3)
    assert vectors[-1, 0] == 1.0  # "nothing", as the model folder has it
    assert not vectors.requires_grad
    assert float(state.table.log_scale.detach()) != pytest.approx(np.log(10.0), abs=1e-7)


def test_box_prior_learns_where_structures_lie(site):
    read = tiny_cases.cases(site / "data")
    entities = tiny_cases.entities(read)
    recipe = tiny_cases.recipe(
        baseline="box-prior", steps=60, batch=4, prompts=4, learning_rate=3e-3
    )
    state = new_state(recipe, entities)
    torch.nn.init.orthogonal_(state.table.vectors)
    sampler = SliceSampler(read, entities, SIZE, 4)
    batches = list(StepBatches(sampler, recipe, 0))
    figures = [train_step(state, recipe, batch, "cpu") for batch in batches]
    early = np.mean([f["roi_top1"] for f in figures[:10]])
    late = np.mean([f["roi_top1"] for f in figures[-10:]])
    assert late > early + 0.2 and late > 0.5


def test_measuring_without_a_trained_baseline_says_how_to_train_it(site, tmp_path, capsys):
    with pytest.raises(InputError, match="velcrolink train --baseline clip-crop"):
        baseline_run("clip-crop", str(tmp_path))
    code = cli.main(
        ["evaluate", "--baseline", "clip-crop", "--data", str(site / "data"),
         "--model", str(site / "model"), "--out", str(tmp_path / "out")]
    )  # fmt: skip
    assert code == 2 and "train --baseline clip-crop" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_run_of_another_baseline_and_a_missing_bank_are_told(site, tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(train_arguments(site, "sam-token-knn", out)) == 0
    base = ["--data", str(site / "data"), "--kb", str(site / "kb.json"), "--model", str(out)]
    asked = ["evaluate", *base, "--out", str(tmp_path / "out"), "--baseline"]
    assert cli.main([*asked, "clip-crop"]) == 2
    assert "holds the baseline 'sam-token-knn'" in capsys.readouterr().err
    (out / "bank.safetensors").write_bytes(b"no bank")
    assert cli.main([*asked, "sam-token-knn"]) == 2
    assert "missing or damaged" in capsys.readouterr().err


def test_entities_without_entry_are_told(site, tmp_path):
    from velcro_engine.training.measuring.baselines import new_baseline

    with pytest.raises(InputError, match="no entry for left_antler"):
        new_baseline(
            "clip-whole", tiny_cases.recipe(), ["left_antler"], tmp_path, str(site / "model"),
            [site / "kb.json"], "cpu",
        )  # fmt: skip
    wide = replace(tiny_cases.recipe(), network=replace(tiny_cases.NETWORK, embedding=48))
    with pytest.raises(InputError, match="48"):
        new_baseline(
            "clip-whole", wide, ["liver"], tmp_path, str(site / "model"), [site / "kb.json"], "cpu"
        )
    with pytest.raises(ModelError):
        new_baseline(
            "clip-whole", wide, ["liver"], tmp_path / "b", str(tmp_path / "none"), None, "cpu"
        )


def test_arguments_are_offered_in_help(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    assert "--baseline" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["clip-crop", "clip-mask-pool", "sam-token-knn"])
def test_a_baseline_may_start_from_the_trained_encoder(name):
    torch.manual_seed(1)
    trained = new_state(tiny_cases.recipe(), ["liver"], "cpu").network
    with torch.no_grad():
        for weight in trained.encoder.parameters():
            weight.add_(0.1)
    state = new_state(tiny_cases.recipe(baseline=name, crop=32), ["liver"], "cpu")
    start_encoder(state, trained)
    for network in (state.network, state.average):
        mine, source = network.encoder.backbone.state_dict(), trained.encoder.backbone.state_dict()
        assert all(torch.equal(mine[key], source[key]) for key in source)


def test_a_start_needs_an_encoder_of_the_same_backbone():
    trained = new_state(tiny_cases.recipe(), ["liver"], "cpu").network
    blind = new_state(tiny_cases.recipe(baseline="box-prior"), ["liver"], "cpu")
    with pytest.raises(InputError, match="reads no picture"):
        start_encoder(blind, trained)
    other = tiny_cases.recipe(baseline="clip-whole")
    other = replace(other, network=replace(other.network, backbone="resnet10t"))
    with pytest.raises(InputError, match="same one"):
        start_encoder(new_state(other, ["liver"], "cpu"), trained)
