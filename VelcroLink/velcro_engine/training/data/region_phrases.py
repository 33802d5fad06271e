"""What a text says of a labelled region, where no report comes with the images: a phrase with its entry
and place. Wording varies from case to case, so that a text that asks seldom repeats one it finds."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ...cases import Item, LocationCondition
from ...linking.linker import Linker

Truth = tuple[str, str | None, str]  # entity, side, zone


class RegionPhrases:
    """Phrases of items and their embeddings; each phrase is embedded once."""

    def __init__(self, linker: Linker) -> None:
        self.linker = linker
        self._vectors: dict[str, np.ndarray] = {}

    def phrase(self, case: str, item: Item) -> str:
        """For instance "left hippocampus", or "Multiple sclerosis plaque in the left brain, upper
        posterior"; which of the entry's names is drawn from the case."""
        base = self.linker.knowledge_base
        entry = base.entry(str(item.entry))
        names = [entry.name, *entry.synonyms]
        name = names[zlib.crc32(f"{case}|{entry.id}".encode()) % len(names)]
        if entry.kind == "anatomy":
            return f"{item.side or ''} {name}".strip()
        place = item.places[0]
        where = base.entry(place.entry).name if place.entry in base.by_id else place.entry
        spot = f"{name} in the {place.side or ''} {where}" + (f", {place.zone}" * bool(place.zone))
        return " ".join(spot.split())

    def vector(self, case: str, item: Item) -> np.ndarray:
        """Embedding of the item's phrase, D, unit length."""
        phrase = self.phrase(case, item)
        if phrase not in self._vectors:
            self._vectors[phrase] = np.asarray(self.linker.runtime.embed_text([phrase]))[0]
        return self._vectors[phrase]

    def items(self, case: str, said: Mapping[Truth, Item]) -> list[Item]:
        """One text for each thing and place that a case shows, with the region's places."""
        return [
            replace(
                item,
                kind="text",
                text=self.phrase(case, item),
                embedding=self.vector(case, item),
                attributes={"truth": list(wanted)},
                plane=None,
            )
            for wanted, item in said.items()
        ]

    def condition(self, item: Item) -> LocationCondition:
        """The place that the phrase names, as `condition_of_link` binds a region's."""
        is_finding = self.linker.knowledge_base.entry(str(item.entry)).kind != "anatomy"
        first = item.places[0]
        return LocationCondition(
            tuple(dict.fromkeys(place.entry for place in item.places)),
            first.side,
            first.zone if is_finding else "",
            unknown_side=not is_finding,
        )
