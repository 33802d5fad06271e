"""`velcrolink kb example`: show the model a region of an entry; it counts beside the entry's text."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..console.command_options import add_kb_argument, add_model_argument
from ..console.slice_options import add_region_arguments, add_slice_arguments, region_request
from ..errors import InputError
from ..head.frame import heed_head
from ..knowledge_base import active_paths, load_knowledge_base
from ..linking.linker import open_linker
from ..linking.region_examples import Example, read_examples, remove_examples
from ..model.folder import model_folder


def add_arguments(commands: argparse._SubParsersAction) -> None:
    """Add `example` to the commands of `kb`."""
    parser = commands.add_parser(
        "example",
        help="show one region of an entry, e.g. of your own; no training",
        description="Keep the model's reading of a region as an example of an entry. Regions are "
        "given as for `velcrolink link`. Examples belong to one model.",
    )
    parser.add_argument("entry", metavar="ENTRY", nargs="?", help="id or name of the entry")
    add_slice_arguments(parser, optional=True)
    add_region_arguments(parser, required=False)
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--list", action="store_true", help="list the entries that have examples")
    other.add_argument("--remove", action="store_true", help="forget the examples of ENTRY")
    add_model_argument(parser)
    add_kb_argument(parser)
    parser.set_defaults(kb_run=run, quiet_libraries=True)


def run(args: argparse.Namespace) -> int:
    """Add, list or remove. Raises VelcroError."""
    if args.list:
        return _list(args)
    if not args.entry:
        raise InputError("Name the entry: velcrolink kb example ENTRY VOLUME --box ...")
    if args.remove:
        gone = remove_examples(model_folder(args.model).fingerprint, _entry_id(args, True))
        print(f"{gone} examples of {args.entry} removed.")
        return 0
    if args.volume is None or not (args.roi or args.box or args.point):
        raise InputError("Give an image and a region on it: --box, --point or --roi.")
    entry_id = _entry_id(args)
    volume, cut, request = region_request(args)
    linker = open_linker(args.model, args.kb)
    request = heed_head(request, volume, linker.runtime)
    source = f"{Path(args.volume).name} {cut.plane or ''}".strip()
    result = linker.link(request)
    assert result.embedding is not None  # of a link that was just made
    count = linker.remember(entry_id, Example(result.embedding, source))
    print(f"{linker.knowledge_base.entry(entry_id).name}: {count} examples for {result.model}.")
    return 0


def _list(args: argparse.Namespace) -> int:
    folder = model_folder(args.model)
    known = read_examples(folder.fingerprint)
    for entry, found in known.items():
        sources = ", ".join(e.source for e in found if e.source)
        print(f"{entry}: {len(found)} examples{f' ({sources})' if sources else ''}")
    if not known:
        print(f"There are no examples for {folder.name}.")
    return 0


def _entry_id(args: argparse.Namespace, removing: bool = False) -> str:
    """Id of the named entry; one that has since left the knowledge base can still be removed."""
    from ..knowledge_base.search import SearchIndex

    base = load_knowledge_base(args.kb or active_paths())
    if args.entry in base.by_id or removing:
        return str(args.entry)
    hits = SearchIndex(base).search(args.entry, limit=3)
    if hits and hits[0].score >= 0.95:
        return hits[0].entry.id
    nearest = ", ".join(hit.entry.id for hit in hits) or "none"
    raise InputError(f"There is no entry '{args.entry}'; the nearest are: {nearest}.")
