"""A knowledge base as the text of one file."""

from __future__ import annotations

import json
from typing import Any

from .entry import entry_to_dict
from .reading import SCHEMA_VERSION
from .store import KnowledgeBase


def document(kb: KnowledgeBase, **manifest: Any) -> str:
    """The text of a self-contained file; `manifest` replaces fields of the manifest."""
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": " + ".join(source.name for source in kb.sources) or "knowledge base",
        "version": " + ".join(source.version for source in kb.sources) or "1",
        "licence": "; ".join(dict.fromkeys(s.licence for s in kb.sources)) or "not stated",
        "language": kb.sources[0].language if kb.sources else "en",
        "ambiguous": sorted(kb.ambiguous),
        "entries": [entry_to_dict(entry) for entry in kb.entries],
    }
    return json.dumps(content | manifest, indent=1, ensure_ascii=False) + "\n"
