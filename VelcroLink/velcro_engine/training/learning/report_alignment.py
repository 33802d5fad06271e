"""Sentences of reports brought near the entries and places they speak of: objectives of the text tower.

What a sentence speaks of is read by OBER (`meta_entities.py`). Of RRA-VL (2503.07456) come the global
alignment (a sentence and the entries relevant to it, which are then no negatives of each other), the
alignment of words and regions (a region finds its words in a sentence, a word its region), and the
contrast within a place; of MedTrim (2504.15929) the triplets of sentences and their findings written
as phrases. The region of an entry that images have taught is its region vector, else its text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError
from ...knowledge_base import KnowledgeBase
from ...model.text_tokenizer import TextTokenizer
from ...model.text_tower import TextGraph
from ...reports.language.findings import ReadSentence, ReportFindings
from ...reports.language.mentions import ABSENT, Mention
from ...reports.language.ontology import load_ontology
from ...reports.language.regions import Location, locations
from ...reports.language.report_file import read_report_file
from ...reports.language.sentences import split_sentences
from ...reports.meta_entities import entry_of, read_report
from ...reports.triplets import MetaEntities, meta_of_report, triplet_batches
from ..losses.alignment_objectives import location_contrast_loss
from ..losses.triplets import triplet_loss
from .text_training import entry_tokens, random_text

SCALE = 20.0  # inverse temperature, as in `fit_text_tower`
PLACE_RELEVANCE = 0.5  # of the place beside the finding
ENTRIES = 20  # at most, aligned in one step
AT_A_PLACE = 12  # phrases compared within one place
LONGEST_SENTENCE = 60  # words


@dataclass(frozen=True)
class ReportWeights:
    """Weights of the four objectives; 0 leaves one out."""

    sentences: float = 1.0
    words: float = 0.5
    medtrim: float = 1.0
    location: float = 0.5

    @classmethod
    def only(cls, names: Iterable[str]) -> ReportWeights:
        """The usual weight of those named, 0 for the others. Raises InputError for an unknown one."""
        wanted = set(names)
        known = {field.name: field.default for field in fields(cls)}
        if not wanted or not wanted <= known.keys():
            raise InputError(f"Objectives on reports are {', '.join(known)}; name some of these.")
        return cls(**{name: weight if name in wanted else 0.0 for name, weight in known.items()})


@dataclass(frozen=True)
class Spoken:
    """A sentence that finds something. words: as OBER splits them. spans: entry it speaks of ->
    positions of the words that say so (none for places). phrases: location -> what is found there.
    findings: location -> findings there."""

    words: tuple[str, ...]
    spans: dict[str, tuple[int, ...]]
    meta: MetaEntities
    phrases: dict[Location, str]
    findings: dict[Location, frozenset[str]]

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def phrase(self) -> str:
        return ". ".join(dict.fromkeys(self.phrases.values())) or self.text


def spoken_sentences(paths: Iterable[Path | str], base: KnowledgeBase) -> list[Spoken]:
    """Sentences of reports (CSV with the columns findings and impression) that find something, each
    once. Raises InputError when there are fewer than 32."""
    found: dict[str, Spoken] = {}
    for path in paths:
        for row in read_report_file(path):
            report = read_report(row["findings"], row["impression"])
            for sentence in report.sentences:
                spoken = _spoken(sentence, base)
                if spoken is not None:
                    found.setdefault(spoken.text, spoken)
    if len(found) < 32:
        raise InputError("The reports name too few findings to learn from; add more reports.")
    return list(found.values())


def _spoken(sentence: ReadSentence, base: KnowledgeBase) -> Spoken | None:
    present = [m for m in sentence.mentions if m.certainty != ABSENT]
    split = split_sentences(sentence.text, load_ontology().lemma)
    if not present or len(split) != 1:
        return None
    words = tuple(token.text for token in split[0].tokens)[:LONGEST_SENTENCE]
    present = [m for m in present if m.end <= len(words)]
    spans: dict[str, tuple[int, ...]] = {}
    phrases: dict[Location, list[str]] = {}
    findings: dict[Location, set[str]] = {}
    for mention in present:
        entry = entry_of(mention.finding)
        if entry in base.by_id:
            spans[str(entry)] = (*spans.get(str(entry), ()), *mention.tokens)
        for place in mention.places:
            if (entry := entry_of(place)) in base.by_id:
                spans.setdefault(str(entry), ())
        for spot in locations(mention.finding, mention.places, mention.sides):
            phrases.setdefault(spot, []).append(_phrase(mention, spot))
            findings.setdefault(spot, set()).add(mention.finding)
    if not spans:
        return None
    return Spoken(
        words,
        spans,
        meta_of_report(ReportFindings((sentence,))),
        {spot: ". ".join(dict.fromkeys(said)) for spot, said in phrases.items()},
        {spot: frozenset(names) for spot, names in findings.items()},
    )


def _phrase(mention: Mention, spot: Location) -> str:
    """As `regions.report_regions` writes it."""
    qualifiers = [q.split("/")[-1] for q in sorted(mention.qualifiers)]
    place, side = spot
    return " ".join(
        " ".join([*qualifiers, mention.finding, "in", side, place]).replace("_", " ").split()
    )


class ReportAlignment:
    """A loss of the text tower on a few sentences, drawn anew at each call."""

    def __init__(
        self,
        spoken: Sequence[Spoken],
        base: KnowledgeBase,
        targets: dict[str, np.ndarray],
        tokenizer: TextTokenizer,
        weights: ReportWeights | None = None,
        anchors: int = 8,
        seed: int = 0,
    ) -> None:
        """`targets`: unit region vectors of the entries that images have taught."""
        self.spoken, self.base, self.tokenizer = spoken, base, tokenizer
        self.targets = {k: F.normalize(torch.from_numpy(np.asarray(v)).float(), dim=0)
                        for k, v in targets.items()}  # fmt: skip
        self.weights = weights or ReportWeights()
        self.rng = np.random.default_rng(seed)
        self._triplets = triplet_batches([s.meta for s in spoken], self.rng, batch=anchors)
        self._places = _comparable_places(spoken)

    def __call__(self, graph: TextGraph) -> Tensor:
        """Weighted sum of the objectives, with gradients."""
        weights, drawn = self.weights, next(self._triplets)
        order, where = np.unique(
            np.concatenate([drawn.anchor, drawn.positive, drawn.negative]), return_inverse=True
        )
        sentences = [self.spoken[n] for n in order]
        tokens, words = self._sentence_tokens(sentences)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = graph.states(tokens)
            states = F.normalize((states @ graph.tower.transformer.text_projection).float(), dim=2)
        is_end = tokens == self.tokenizer.end
        whole = states[is_end]
        loss = whole.sum() * 0.0
        if weights.sentences or weights.words:
            names = self._entries(sentences)
            regions = self._regions(graph, names)
            relevance = _relevance(sentences, names)
            if weights.sentences:
                loss = loss + weights.sentences * relevance_loss(whole, regions, relevance)
            if weights.words:
                spans = self._spans(sentences, names, words, tokens.shape)
                valid = (tokens != 0) & ~is_end & (tokens != self.tokenizer.start)
                loss = loss + weights.words * region_word_loss(states, regions, spans, valid)
        if weights.medtrim:
            phrases = self._embedded(graph, [s.phrase for s in sentences])
            parts = np.split(where, 3)
            loss = loss + weights.medtrim * triplet_loss(
                [whole[p] for p in parts], [phrases[p] for p in parts]
            )
        if weights.location and self._places:
            loss = loss + weights.location * self._within_a_place(graph)
        return loss

    def _embedded(self, graph: TextGraph, texts: Sequence[str]) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return graph(entry_tokens(self.tokenizer, texts)).float()

    def _sentence_tokens(self, sentences: Sequence[Spoken]) -> tuple[Tensor, list[list[range]]]:
        """Token ids N x L and, of each word of each sentence, the positions of its tokens."""
        t, rows, words = self.tokenizer, [], []
        for sentence in sentences:
            ids, spans = [t.start], []
            for word in sentence.words:
                new = t.encode(word)
                if len(ids) + len(new) >= t.context_length:
                    break
                spans.append(range(len(ids), len(ids) + len(new)))
                ids += new
            rows.append([*ids, t.end])
            words.append(spans)
        tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for n, ids in enumerate(rows):
            tokens[n, : len(ids)] = torch.tensor(ids)
        return tokens, words

    def _entries(self, sentences: Sequence[Spoken]) -> list[str]:
        names = list(dict.fromkeys(name for s in sentences for name in s.spans))
        kept = self.rng.permutation(len(names))[:ENTRIES]
        return [names[n] for n in sorted(kept)]

    def _regions(self, graph: TextGraph, names: Sequence[str]) -> Tensor:
        free = [n for n in names if n not in self.targets]
        vectors = dict(self.targets)
        if free:
            texts = [random_text(self.base.by_id[n], self.rng) for n in free]
            vectors |= zip(free, self._embedded(graph, texts), strict=True)
        return torch.stack([vectors[n] for n in names])

    @staticmethod
    def _spans(sentences, names, words, shape) -> Tensor:
        """Bool N x M x L: does this token name this entry?"""
        spans = torch.zeros(shape[0], len(names), shape[1], dtype=torch.bool)
        for n, sentence in enumerate(sentences):
            for m, name in enumerate(names):
                for position in sentence.spans.get(name, ()):
                    if position < len(words[n]):
                        at = words[n][position]
                        spans[n, m, at.start : at.stop] = True
        return spans

    def _within_a_place(self, graph: TextGraph) -> Tensor:
        counts = np.sqrt([len(v) for v in self._places.values()])
        spot = list(self._places)[int(self.rng.choice(len(counts), p=counts / counts.sum()))]
        members = self._places[spot]
        chosen = [members[n] for n in self.rng.permutation(len(members))[:AT_A_PLACE]]
        embedded = self._embedded(graph, [phrase for phrase, _ in chosen])
        related = torch.tensor([[bool(a & b) for _, b in chosen] for _, a in chosen])
        return location_contrast_loss(embedded, ["here"] * len(chosen), related)


def _comparable_places(
    spoken: Sequence[Spoken],
) -> dict[Location, list[tuple[str, frozenset[str]]]]:
    """Places of which different phrases say the same finding and others another one."""
    places: dict[Location, dict[str, frozenset[str]]] = {}
    for sentence in spoken:
        for spot, phrase in sentence.phrases.items():
            places.setdefault(spot, {})[phrase] = sentence.findings[spot]
    found = {spot: list(said.items()) for spot, said in places.items()}
    return {
        spot: said
        for spot, said in found.items()
        if len(said) > len({names for _, names in said}) > 1
    }


def _relevance(sentences: Sequence[Spoken], names: Sequence[str]) -> Tensor:
    """N x M: 1 for an entry whose finding the sentence names, less for a place, else 0."""
    return torch.tensor(
        [
            [(1.0 if s.spans[n] else PLACE_RELEVANCE) if n in s.spans else 0.0 for n in names]
            for s in sentences
        ]
    )


def relevance_loss(texts: Tensor, regions: Tensor, relevance: Tensor) -> Tensor:
    """Soft contrastive loss in both directions: N x D and M x D unit vectors, N x M relevance >= 0.
    Pairs with relevance are no negatives of each other; rows without any are left out."""
    scores = SCALE * texts @ regions.T
    loss = texts.sum() * 0.0
    for logits, wanted in ((scores, relevance), (scores.T, relevance.T)):
        use = wanted.sum(1) > 0
        if bool(use.any()):
            share = wanted[use] / wanted[use].sum(1, keepdim=True)
            loss = loss + F.cross_entropy(logits[use], share)
    return loss


def region_word_loss(words: Tensor, regions: Tensor, spans: Tensor, valid: Tensor) -> Tensor:
    """Regions find their words among a sentence's, and words their region among the regions.

    words: N x L x D unit vectors of tokens; regions: M x D; spans: bool N x M x L, the tokens that
    name a region; valid: bool N x L, tokens of words. Zero when no token names a region.
    """
    n, m, at = torch.nonzero(spans, as_tuple=True)
    if not len(n):
        return words.sum() * 0.0
    scores = SCALE * torch.einsum("nld,md->nml", words, regions)
    among_words = scores.masked_fill(~valid[:, None, :], float("-inf")).log_softmax(2)
    named = spans.any(2)
    # rows without a word are left out before they are masked: all -inf has no gradient
    mass = among_words[named].masked_fill(~spans[named], float("-inf")).logsumexp(1)
    among_regions = scores.log_softmax(1)
    return -mass.mean() - among_regions[n, m, at].mean()
