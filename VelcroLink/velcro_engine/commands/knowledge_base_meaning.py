"""`velcrolink kb similar` and `kb share`: entries by the meaning of a text, here or on a server.

Both use the text tower of a model; the server is a Qdrant address that the user names, the only
place entries are sent to. A server's key comes from VELCROLINK_QDRANT_KEY, never from the command
line, where other users of the machine could read it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..errors import InputError
from ..knowledge_base.store import KnowledgeBase, active_paths, load_knowledge_base

KEY_VARIABLE = "VELCROLINK_QDRANT_KEY"


def add_arguments(commands: argparse._SubParsersAction) -> None:
    """Add `similar` and `share` to the commands of `kb`."""
    similar = commands.add_parser("similar", help="find entries by what a text means")
    similar.add_argument("text", nargs="+", help="what to look for")
    similar.add_argument("--limit", type=int, default=10, help="entries to list (10)")
    similar.add_argument("--server", metavar="ADDRESS", help="ask a shared knowledge base there")
    share = commands.add_parser("share", help="send the knowledge base to a Qdrant server")
    share.add_argument("--server", metavar="ADDRESS", required=True, help="http://host:6333")
    for command in (similar, share):
        command.add_argument("--model", default="bundled", help="model folder (bundled)")
        command.add_argument(
            "--collection", default="velcrolink", help="its name on the server (velcrolink)"
        )
        command.add_argument(
            "--kb", type=Path, action="append", help="instead of the bundled one and your own"
        )
    similar.set_defaults(kb_run=run_similar)
    share.set_defaults(kb_run=run_share)


def run_similar(args: argparse.Namespace) -> int:
    """Print the entries whose texts the model finds nearest to the given one."""
    from ..knowledge_base.embeddings import EmbeddingIndex, VectorIndex
    from ..knowledge_base.qdrant import QdrantIndex
    from ..model.opening import open_runtime

    words = asked_words(args)
    runtime = open_runtime(args.model)
    asked = runtime.embed_text([f"[TITLE]{words}[BODY]"])
    index: VectorIndex
    names: dict[str, str] = {}
    if args.server:
        index = _server(args, runtime.fingerprint)
    else:
        kb = _load(args)
        names = {entry.id: entry.name for entry in kb.entries}
        index = EmbeddingIndex.build(
            kb.entries, runtime.embed_text, runtime.fingerprint, progress=_progress
        )
    ranking = index.search(asked, args.limit)[0]
    if isinstance(index, QdrantIndex):
        index.close()
    for identifier, cosine in ranking:
        print(f"{cosine:5.2f}  {identifier:40s} {names.get(identifier, '')}".rstrip())
    return 0


def asked_words(args: argparse.Namespace) -> str:
    """The text of a search. Raises InputError when it is empty or no result is wanted."""
    words = " ".join(" ".join(args.text).split())
    if not words:
        raise InputError("Say what to look for, for instance: hippocampus.")
    if args.limit < 1:
        raise InputError("--limit must be at least 1.")
    return words


def run_share(args: argparse.Namespace) -> int:
    """Send entries whose text the server does not have yet."""
    from ..model.opening import open_runtime

    runtime = open_runtime(args.model)
    index = _server(args, runtime.fingerprint)
    sent = index.upload(_load(args).entries, runtime.embed_text, progress=_progress)
    print(f"{sent} entries sent, {len(index)} there now: {index.collection}")
    index.close()
    return 0


def _server(args: argparse.Namespace, model_id: str):
    from ..knowledge_base.qdrant import QdrantIndex, is_address

    # a folder is qdrant-client's local mode; a mistyped address must not make one
    if not is_address(args.server) and not Path(args.server).is_dir():
        raise InputError(f"'{args.server}' is not a server's address; write http://host:6333.")
    key = os.environ.get(KEY_VARIABLE) or None
    return QdrantIndex(args.server, model_id, args.collection, api_key=key)


def _load(args: argparse.Namespace) -> KnowledgeBase:
    return load_knowledge_base(args.kb or active_paths())


def _progress(fraction: float, message: str) -> None:
    if sys.stderr.isatty():
        end = "\n" if fraction >= 1 else ""
        print(f"\r{message} ({100 * fraction:.0f} %)", end=end, file=sys.stderr, flush=True)
