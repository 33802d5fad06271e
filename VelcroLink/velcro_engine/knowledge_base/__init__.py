"""The knowledge base: entries that a region of interest can be linked to.

`load_knowledge_base` is the door; importing this package needs the standard library only.
"""

from .entry import Code, Entry, entry_to_dict, text
from .store import KnowledgeBase, active_paths, load_knowledge_base

__all__ = [
    "active_paths",
    "card",
    "check",
    "embeddings",
    "entry",
    "entry_to_dict",
    "importers",
    "load_knowledge_base",
    "qdrant",
    "search",
    "site",
    "spelling",
    "store",
    "text",
    "user",
    "Code",
    "Entry",
    "KnowledgeBase",
]
