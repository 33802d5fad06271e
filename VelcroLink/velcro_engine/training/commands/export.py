"""`velcrolink export`: fit the text tower to a run's entities and write a model folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from ...errors import InputError, ModelError
from ...knowledge_base import KnowledgeBase, active_paths, load_knowledge_base
from ...linking.entry_embeddings import write_entry_embeddings
from ...model.export import write_config, write_model_folder
from ...model.text_tokenizer import TextTokenizer
from ...model.text_tower import TextConfig, TextTower
from ..data.vocabulary import learn_merges, write_merges
from ..learning.adaptation import is_adapted, mixed_with_start, trained_before
from ..learning.checkpoints import load_checkpoint
from ..learning.report_alignment import ReportAlignment, ReportWeights, spoken_sentences
from ..learning.text_training import fit_text_tower, new_tower
from ..learning.training_state import TrainingState
from ..learning.velcro_loss import FREQUENCY_DECAY

MERGES = 5500
CONTEXT_LENGTH = 128
TEXT_RATE, ADAPTED_TEXT_RATE = 1e-3, 2e-4  # a tower that fits already need not begin anew
TEXT_ONLY_FACTOR = 0.93  # of the cosine with entries that no image showed, see linker.py


def export_command(args: argparse.Namespace) -> int:
    """Write the model folder; the tower's own weights stay in the run folder for the next time."""
    run, out = Path(args.run_folder), Path(args.out)
    state, recipe = load_checkpoint(run)
    # an adapted run may name entries that its user added; what ships must not hold anybody's own
    base = load_knowledge_base(args.kb or (active_paths() if is_adapted(run) else None))
    targets = entity_targets(state, trained_before(run))
    if not targets:
        raise ModelError(f"The run '{run}' is too young to have seen any entity; train it longer.")
    known = {k: v for k, v in targets.items() if k in base.by_id}
    missing = sorted(set(targets) - set(known))
    if missing:
        raise InputError(
            f"The knowledge base has no entry for {', '.join(missing[:5])}"
            f"{' and others' if len(missing) > 5 else ''}; add them first (velcrolink kb import)."
        )
    text_folder = Path(args.text_from) if args.text_from else run / "text"
    tower, tokenizer = open_or_new_tower(text_folder, base, recipe.network.embedding)
    if args.text_steps:
        more = None
        if args.reports:
            spoken = spoken_sentences(args.reports, base)
            weights = ReportWeights.only(args.report_objectives.split(","))
            more = ReportAlignment(spoken, base, known, tokenizer, weights)
            print(f"Reports: {len(spoken)} different sentences with findings")
        rate = ADAPTED_TEXT_RATE if is_adapted(run) else TEXT_RATE
        fit_text_tower(
            tower,
            tokenizer,
            base.entries,
            known,
            steps=args.text_steps,
            learning_rate=rate,
            more=more,
        )
        save_tower(run / "text", tower, text_folder / "vocabulary.txt.gz")
    nothing = F.normalize(state.average_table.vectors.detach()[-1], dim=0).numpy()
    scale = float(state.average_table.log_scale.detach().exp())
    network = state.average
    if state.start is not None and recipe.mix < 1.0:
        network = mixed_with_start(network, state.start, recipe.mix)
    write_model_folder(
        out,
        network,
        tower,
        run / "text" / "vocabulary.txt.gz"
        if args.text_steps
        else text_folder / "vocabulary.txt.gz",
        name=args.name,
        version=args.version,
        calibration={"temperature": 1.0 / scale, "abstain_below": 0.0, "side_margin": 0.5},
        nothing=nothing,
        extra={
            "trained_entities": sorted(known),
            "entities": list(state.entities),
            "text_only_factor": TEXT_ONLY_FACTOR,
            "sam": recipe.sam,
            "trained_steps": state.step,
            "licence": "CC BY-NC-SA 4.0, research and teaching, not for clinical use",
        },
    )
    add_entry_embeddings(out, base)
    print(f"Written: {out}")
    return 0


def entity_targets(
    state: TrainingState, before: frozenset[str] = frozenset()
) -> dict[str, np.ndarray]:
    """Unit vector of each entity that the run has seen (label tables name more than cases show), or
    that the model it started from had: `before`."""
    unit = F.normalize(state.average_table.vectors.detach(), dim=1).numpy()
    # the running share of an entity that never came only decays from its first value
    untouched = FREQUENCY_DECAY**state.step / len(state.frequency)
    seen = (state.frequency > 1.1 * untouched + 1e-12).tolist()
    return {e: unit[i] for i, e in enumerate(state.entities) if seen[i] or e in before}


def open_or_new_tower(
    folder: Path, base: KnowledgeBase, embedding: int
) -> tuple[TextTower, TextTokenizer]:
    """The tower kept in `folder`, or an untrained one with a vocabulary learnt on the KB."""
    vocabulary = folder / "vocabulary.txt.gz"
    if (folder / "tower.json").is_file():
        try:
            config = TextConfig(**json.loads((folder / "tower.json").read_text(encoding="utf-8")))
            tokenizer = TextTokenizer.from_file(vocabulary, config.context_length)
            tower = TextTower(config)
            tower.load_state_dict(load_file(str(folder / "tower.safetensors")))
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"The text tower in {folder} is damaged.", repr(error)) from error
        return tower, tokenizer
    folder.mkdir(parents=True, exist_ok=True)
    if not vocabulary.is_file():
        texts: list[str] = []
        for entry in base.entries:
            texts += [entry.name] * 3 + list(entry.synonyms) * 2
            texts += [*entry.latin, *entry.abbreviations, entry.definition]
        write_merges(vocabulary, learn_merges(texts, MERGES))
    tokenizer = TextTokenizer.from_file(vocabulary, CONTEXT_LENGTH)
    return new_tower(tokenizer, embedding), tokenizer


def save_tower(folder: Path, tower: TextTower, vocabulary: Path) -> None:
    """Weights, sizes and vocabulary of a tower."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: v.contiguous().clone() for k, v in tower.state_dict().items()},
        str(folder / "tower.safetensors"),
    )
    (folder / "tower.json").write_text(json.dumps(tower.config.as_dict()), encoding="utf-8")
    if vocabulary.resolve() != (folder / "vocabulary.txt.gz").resolve():
        (folder / "vocabulary.txt.gz").write_bytes(vocabulary.read_bytes())


def add_entry_embeddings(folder: Path, base: KnowledgeBase) -> None:
    """Text embeddings of the knowledge base, as the exported (int8) graph gives them."""
    from ...model.opening import open_runtime

    write_entry_embeddings(folder / "entry_embeddings.npz", open_runtime(folder), base)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("files")
    write_config(folder, config)
