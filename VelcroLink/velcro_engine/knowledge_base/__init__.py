"""The knowledge base: entries that a region of interest can be linked to.

`load_knowledge_base` is the door; importing this package needs the standard library only.
"""

from .entry import Code, Entry, entry_to_dict, text
from .store import KnowledgeBase, active_paths, load_knowledge_base

__all__ = [
    "Code",
    "Entry",
    "KnowledgeBase",
    "active_paths",
    "entry_to_dict",
    "load_knowledge_base",
    "text",
]
