"""Slice + prompt -> mask, ranked entries, side, attributes; abstains when nothing is similar enough.

The method is VELCRO's (Carbone et al., ML4H 2025): the decoder's region embedding is compared with
the text embedding of every entry of the knowledge base. A slice is encoded once: moving the region
on it runs only the decoder.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError
from ..knowledge_base import KnowledgeBase, active_paths, load_knowledge_base
from ..knowledge_base.entry import Entry
from ..messages.request import SliceRequest
from ..messages.result import LinkedEntry, LinkResult
from ..model.opening import open_runtime
from ..model.preprocess import (
    Letterbox,
    input_key,
    letterbox_of,
    mask_to_slice,
    model_input,
    prompt_arrays,
)
from ..model.runtime import Decoded, Runtime
from .attributes import measure
from .clicked_pixels import ClickedPixels
from .entry_embeddings import entry_embeddings
from .ranking import entry_probabilities, right_of_middle, side_of
from .region_examples import (
    Example,
    Examples,
    add_example,
    blended,
    read_examples,
    remove_examples,
)
from .region_mask import region_mask

CACHED_SLICES = 16
Progress = Callable[[float, str], None]


class Linker:
    """One model and one knowledge base, ready to link. Not for several threads at once."""

    def __init__(
        self,
        runtime: Runtime,
        knowledge_base: KnowledgeBase,
        embeddings: np.ndarray | None = None,
        progress: Progress | None = None,
    ) -> None:
        """embeddings: N x D, unit length, of the entries in order; otherwise from the user's
        cache, where texts that are new to this model are added."""
        self.runtime = runtime
        self.knowledge_base = knowledge_base
        if embeddings is None:
            embeddings = entry_embeddings(runtime, knowledge_base, progress)
        if len(embeddings) != len(knowledge_base):
            raise ModelError("The text embeddings do not fit the knowledge base; install it again.")
        self.clicks = ClickedPixels(getattr(runtime, "entities", ()), knowledge_base)
        self._texts = embeddings
        self.embeddings = embeddings * _trust(runtime, knowledge_base)[:, None]
        self._slices: OrderedDict[str, Any] = OrderedDict()

    def link(
        self, request: SliceRequest, check_cancelled: Callable[[], None] | None = None
    ) -> LinkResult:
        """Link a region. check_cancelled is called between the steps and may raise Cancelled."""
        start = time.perf_counter()
        check = check_cancelled or (lambda: None)
        check()
        box = letterbox_of(request, self.runtime.size)
        encoded, cached = self._encode(request, box)
        encode_seconds = 0.0 if cached else time.perf_counter() - start
        check()
        before = time.perf_counter()
        decoded = self.runtime.decode(encoded, *prompt_arrays(request, box))
        probability, nothing = self.probabilities(decoded)
        probability, logits = self.clicks.heed(encoded, request, box, probability, decoded.mask)
        mask = region_mask(mask_to_slice(logits, box, request.pixels.shape), request)
        decode_seconds = time.perf_counter() - before
        order = np.argsort(-probability, kind="stable")[: max(1, request.top_k)]
        ranked = [(int(n), float(probability[n])) for n in order]
        best = self.knowledge_base.entries[ranked[0][0]]
        right_mm = right_of_middle(mask, request)
        entries = tuple(
            self._linked(self.knowledge_base.entries[n], confidence, decoded, request, right_mm)
            for n, confidence in ranked
        )
        return LinkResult(
            mask=mask,
            entries=entries,
            abstained=bool(
                entries[0].confidence < max(self.runtime.calibration.abstain_below, nothing)
            ),
            attributes=measure(mask, request, best.size_mm),
            embedding=np.asarray(decoded.embedding, dtype=np.float32),
            mask_confidence=float(np.clip(decoded.mask_confidence, 0.0, 1.0)),
            seconds={
                "encode": encode_seconds,
                "decode": decode_seconds,
                "total": time.perf_counter() - start,
            },
            model=self.runtime.name,
            knowledge_base=self.knowledge_base.version,
            slice_id=request.slice_id,
        )

    def warm_up(self) -> None:
        """Open the model's graphs and let them set up their memory, so that the first region of
        the user is answered as fast as the next ones."""
        pixels = np.full((64, 64), 128, dtype=np.uint8)
        self.link(SliceRequest(pixels, box=(16.0, 16.0, 48.0, 48.0)))
        self._slices.clear()

    def use_examples(self, examples: Examples) -> None:
        """Blend the user's example regions into their entries; those of entries that are not in the
        knowledge base wait. Raises InputError when they are of another model."""
        trust = _trust(self.runtime, self.knowledge_base)
        seen: frozenset[str] = getattr(self.runtime, "trained_entities", frozenset())
        matrix = self._texts * trust[:, None]
        for number, entry in enumerate(self.knowledge_base.entries):
            if found := examples.get(entry.id):
                vector = blended(self._texts[number], found, entry.id in seen)
                matrix[number] = vector * trust[number]  # examples do not raise it: decision 9
        self.embeddings = matrix

    def remember(self, entry_id: str, example: Example) -> int:
        """Keep a region as an example of an entry, from now on; how many the entry has.

        Raises KnowledgeBaseError for an unknown id, InputError when it cannot be kept."""
        entry = self.knowledge_base.entry(entry_id)
        count = add_example(self.runtime.fingerprint, entry.id, example)
        self.use_examples(read_examples(self.runtime.fingerprint))
        return count

    def forget(self, entry_id: str) -> int:
        """Drop the examples of an entry; how many there were."""
        count = remove_examples(self.runtime.fingerprint, entry_id)
        self.use_examples(read_examples(self.runtime.fingerprint))
        return count

    def _encode(self, request: SliceRequest, box: Letterbox) -> tuple[Any, bool]:
        key = input_key(request, box)
        if key in self._slices:
            self._slices.move_to_end(key)
            return self._slices[key], True
        encoded = self.runtime.encode(model_input(request, self.runtime.size, box))
        self._slices[key] = encoded
        while len(self._slices) > CACHED_SLICES:
            self._slices.popitem(last=False)
        return encoded, False

    def probabilities(self, decoded: Decoded) -> tuple[np.ndarray, float]:
        """(probability K over the knowledge base, probability of "nothing in it")."""
        probabilities, nothing = entry_probabilities(
            decoded.embedding[None],
            self.embeddings,
            self.runtime.nothing,
            self.runtime.calibration.temperature,
        )
        if not np.isfinite(probabilities).all():
            raise ModelError("The model gave no finite answer; install it again.")
        return probabilities[0], float(nothing[0])

    def _linked(
        self,
        entry: Entry,
        confidence: float,
        decoded: Decoded,
        request: SliceRequest,
        right_mm: float | None,
    ) -> LinkedEntry:
        side = side_of(
            entry.laterality,
            decoded.side,
            request.pixel_to_ras is not None,
            self.runtime.calibration.side_margin,
            right_mm,
        )
        return LinkedEntry(entry.id, entry.name, side, confidence)


def _trust(runtime: Runtime, knowledge_base: KnowledgeBase) -> np.ndarray:
    """Factor of each entry's cosine: a little below 1 for entries that no training image showed,
    so that a text alone does not outrank a structure the model has seen (decision 9)."""
    seen: frozenset[str] = getattr(runtime, "trained_entities", frozenset())
    factor = getattr(runtime, "text_only_factor", 1.0) if seen else 1.0
    return np.array(
        [1.0 if e.id in seen else factor for e in knowledge_base.entries], dtype=np.float32
    )


def open_linker(
    model: str | os.PathLike[str] | None = None,
    knowledge_bases: Sequence[str | Path] | None = None,
    progress: Progress | None = None,
    examples: bool = True,
    device: str | None = None,
) -> Linker:
    """A linker for a model folder (None: the bundled one) and knowledge-base files (None: the
    bundled one and the user's own). examples: whether the user's example regions count. device:
    "cpu" (as with None) or "gpu". Raises ModelError, KnowledgeBaseError or InputError."""
    base = load_knowledge_base(active_paths() if knowledge_bases is None else knowledge_bases)
    runtime = open_runtime(model) if device is None else open_runtime(model, device)
    linker = Linker(runtime, base, progress=progress)
    known = read_examples(linker.runtime.fingerprint) if examples else {}
    if known:
        linker.use_examples(known)
    return linker
