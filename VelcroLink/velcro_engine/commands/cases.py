"""`velcrolink cases add | import | search | list | show | remove | check | rescue`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..cases.record import CaseStore, LocationCondition, Query
from ..console.command_options import (
    add_kb_argument,
    add_model_argument,
    add_step_argument,
    whole_number,
)
from ..console.slice_options import add_region_arguments, add_slice_arguments, region_request
from ..errors import InputError, VelcroError
from ..head.frame import heed_head
from ..knowledge_base import KnowledgeBase, active_paths, load_knowledge_base

QDRANT = ("http://", "https://")


def add_arguments(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the command `cases` with its own commands."""
    parser = subparsers.add_parser(
        "cases",
        help="keep regions and reports, find similar ones",
        description="Your own library of regions and report sentences. It stays on this machine "
        "unless you name a server, and holds no names, dates or ids.",
    )
    commands = parser.add_subparsers(dest="cases_command", required=True, metavar="COMMAND")
    made = {
        "add": ("link a region and keep it", _add),
        "import": ("keep a labelled folder or a CSV of reports", _import),
        "search": ("find similar regions and sentences", _search),
        "list": ("cases and how many items they hold", _list),
        "show": ("one item", _show),
        "remove": ("remove a case or an item", _remove),
        "check": ("read the library through", _check),
        "rescue": ("save what is readable of a damaged library", _rescue),
    }
    parsers = {}
    for name, (text, run) in made.items():
        parsers[name] = commands.add_parser(name, help=text, description=f"{text.capitalize()}.")
        parsers[name].set_defaults(run=run, quiet_libraries=True)
        add_library_argument(parsers[name])
        add_kb_argument(parsers[name])
    for name in ("add", "import", "search"):
        add_model_argument(parsers[name])
    add = parsers["add"]
    add_slice_arguments(add)
    add_region_arguments(add, required=True)
    add.add_argument("--case", required=True, metavar="PSEUDONYM", help="how the case is called")
    add.add_argument("--entry", metavar="ID", help="what it is, if not what the model links")
    add.add_argument(
        "--side", choices=("left", "right"), help="with --entry: on which side it lies"
    )
    add.add_argument("--text", default="", help="a sentence about it; identities are removed")
    add.add_argument("--no-picture", action="store_true", help="keep no thumbnail")
    importer = parsers["import"]
    importer.add_argument(
        "source",
        type=Path,
        metavar="DIR|FILE.csv",
        help="folder laid out as DATASET/CASE/image.* + labels.*, or table of reports",
    )
    importer.add_argument(
        "--prefix",
        metavar="NAME",
        help="cases are called NAME-1, NAME-2, ... (case, for reports report)",
    )
    add_step_argument(importer, 12.0)
    search = parsers["search"]
    add_slice_arguments(search, optional=True)
    add_region_arguments(search, required=False)
    search.add_argument("--text", help="a phrase to look for, alone or with a region")
    search.add_argument("--where", metavar="ENTRY", help="only in this entry (id or name)")
    search.add_argument("--side", choices=("left", "right"), help="only on this side")
    search.add_argument("--here", action="store_true", help="only where the linked region lies")
    search.add_argument("--no-parts", action="store_true", help="without the parts of --where")
    search.add_argument(
        "--widen",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="also what lies N steps up (0)",
    )
    search.add_argument(
        "--finding",
        action="append",
        default=[],
        metavar="ENTRY",
        help="only with this finding (id or name); may be repeated",
    )
    search.add_argument("--kind", choices=("roi", "text"), help="only regions or only sentences")
    search.add_argument(
        "--limit", type=whole_number(1), default=10, metavar="N", help="hits to list (10)"
    )
    search.add_argument("--json", action="store_true", help="print them as JSON")
    parsers["show"].add_argument("item", type=int, metavar="ID", help="number of the item")
    chosen = parsers["remove"].add_mutually_exclusive_group(required=True)
    chosen.add_argument("--case", metavar="PSEUDONYM", help="all items of this case")
    chosen.add_argument("--item", type=int, metavar="ID", help="the item of this number")
    parsers["rescue"].add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="library file to write"
    )
    return parser


def add_library_argument(parser: argparse.ArgumentParser) -> None:
    """--library, see `open_store`."""
    parser.add_argument(
        "--library",
        metavar="FILE|http://HOST:6333",
        help="another library file, or a Qdrant server (else your own file)",
    )


def open_store(library: str | None, make: bool = False) -> CaseStore:
    """The user's library (None), a library file, or a Qdrant server by its address.

    make: a library file that does not exist is made; else InputError says so, since a mistyped name
    would look like an empty library.
    """
    if library is not None and library.startswith(QDRANT):
        from ..cases.qdrant_library import QdrantCaseLibrary

        return QdrantCaseLibrary(library)
    from ..cases.library import CaseLibrary

    if library is not None and not make:
        _check_there(library)
    return CaseLibrary(library)


def _unmake(library: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        library.with_name(library.name + suffix).unlink(missing_ok=True)


def _check_file(library: str) -> None:
    if library.startswith(QDRANT):
        raise InputError("'check' and 'rescue' are for library files; a server keeps its own.")


def _check_there(library: str) -> None:
    if not Path(library).exists():
        raise InputError(f"The case library '{library}' does not exist; check the path.")


def find_entry(text: str, base: KnowledgeBase) -> str:
    """Id of an entry by its id or any of its names. Raises InputError when none fits."""
    if text in base.by_id:
        return text
    from ..knowledge_base.search import SearchIndex

    hits = SearchIndex(base).search(text, 1)
    if not hits or hits[0].score < 0.8:
        near = f"; did you mean '{hits[0].entry.name}'" if hits else ""
        raise InputError(f"No entry is called '{text[:80]}'{near}? Look it up with 'kb search'.")
    return hits[0].entry.id


def _base(args: argparse.Namespace) -> KnowledgeBase:
    return load_knowledge_base(active_paths() if args.kb is None else args.kb)


def _add(args: argparse.Namespace) -> int:
    from ..cases.adding import item_of_link
    from ..cases.deidentify import check_pseudonym
    from ..cases.summary import name_of
    from ..linking.linker import open_linker

    check_pseudonym(args.case)
    if args.side and not args.entry:
        raise InputError("--side goes with --entry.")
    volume, _, request = region_request(args)
    linker = open_linker(args.model, args.kb)
    request = heed_head(request, volume, linker.runtime)
    base = linker.knowledge_base
    entry = find_entry(args.entry, base) if args.entry else None
    result = linker.link(request)
    item = item_of_link(
        args.case,
        request,
        result,
        linker.runtime,
        base,
        entry,
        args.side,
        args.text,
        not args.no_picture,
    )
    store = open_store(args.library, make=True)
    try:
        identifier = store.add(item, base)
    finally:
        store.close()
    side = f", {item.side}" if item.side else ""
    print(f"Kept as item {identifier} of '{args.case}': {name_of(item.entry, base)}{side}")
    return 0


def _import(args: argparse.Namespace) -> int:
    from ..console.progress import Progress

    if not args.source.exists():
        raise InputError(f"'{args.source}' does not exist; check the path.")
    new = args.library is not None and not Path(args.library).exists()
    store = open_store(args.library, make=True)
    try:
        if args.source.is_dir():
            from ..linking.linker import open_linker
            from ..training.data.labelled_folder import add_folder

            linker = open_linker(args.model, args.kb)
            added = add_folder(
                store,
                args.source,
                linker,
                args.prefix or "case",
                args.step_mm,
                progress=Progress(),
            )
        else:
            from ..cases.adding import add_reports
            from ..model.opening import open_runtime

            added = add_reports(
                store,
                args.source,
                open_runtime(args.model),
                _base(args),
                args.prefix or "report",
                Progress(),
            )
    except (VelcroError, KeyboardInterrupt):
        if new and not args.library.startswith(QDRANT) and not store.cases():
            store.close()
            _unmake(Path(args.library))
        raise
    finally:
        store.close()
    for line in added.left_out:
        print(f"left out: {line}", file=sys.stderr)
    print(f"Kept {added.items} items of {added.cases} cases.")
    return 2 if added.left_out else 0


def _search(args: argparse.Namespace) -> int:
    from ..cases.places import condition_of_link
    from ..cases.summary import hit_line, hit_summary
    from ..linking.linker import open_linker

    has_region = any(v is not None for v in (args.roi, args.box, args.point))
    if has_region != (args.volume is not None):
        raise InputError("A region needs an image and an image a region; give both or --text.")
    if not has_region and not args.text and not args.where and not args.finding:
        raise InputError("Say what to look for: an image with a region, --text or --where.")
    linker = open_linker(args.model, args.kb)
    base = linker.knowledge_base
    query: dict = {"model": linker.runtime.fingerprint, "kind": args.kind, "limit": args.limit}
    location = None
    if args.where:
        location = LocationCondition(
            (find_entry(args.where, base),), args.side, depth=0 if args.no_parts else None
        )
    if has_region:
        volume, _, request = region_request(args)
        request = heed_head(request, volume, linker.runtime)
        result = linker.link(request)
        query["embedding"] = result.embedding
        if args.here:
            location = condition_of_link(result, base, request)
    if args.text:
        query["text_embedding"] = linker.runtime.embed_text([args.text])[0]
    if location is not None and args.widen:
        location = location.widened(base, args.widen)
    findings = tuple(find_entry(text, base) for text in args.finding)
    store = open_store(args.library)
    try:
        hits = store.search(Query(location=location, findings=findings, **query))
    finally:
        store.close()
    if args.json:
        print(json.dumps([hit_summary(hit, base, False) for hit in hits], indent=1))
        return 0
    for hit in hits:
        print(hit_line(hit, base))
    if not hits:
        print("Nothing in the library fits; take a condition away or use --widen 1.")
    return 0


def _list(args: argparse.Namespace) -> int:
    store = open_store(args.library)
    try:
        cases = store.cases()
    finally:
        store.close()
    for case, count in cases.items():
        print(f"{count:6d}  {case}")
    print(f"{sum(cases.values())} items of {len(cases)} cases")
    return 0


def _show(args: argparse.Namespace) -> int:
    from ..cases.summary import item_summary

    store = open_store(args.library)
    try:
        item = store.item(args.item)
    finally:
        store.close()
    summary = item_summary(item, _base(args), picture=False)
    print(json.dumps(summary | {"text": item.text}, indent=1, ensure_ascii=False))
    return 0


def _remove(args: argparse.Namespace) -> int:
    store = open_store(args.library)
    try:
        if args.case is not None:
            print(f"Removed {store.remove_case(args.case)} items of '{args.case}'.")
        else:
            store.remove(args.item)
            print(f"Removed item {args.item}.")
    finally:
        store.close()
    return 0


def _check(args: argparse.Namespace) -> int:
    from ..cases.library import CaseLibrary

    if args.library is not None:
        _check_file(args.library)
        _check_there(args.library)
    with CaseLibrary(args.library) as library:
        library.check()
        print(f"{library.path}: sound, {len(library)} items of {len(library.cases())} cases")
    return 0


def _rescue(args: argparse.Namespace) -> int:
    from ..cases.library import library_path
    from ..cases.rescue import rescue

    if args.library is not None:
        _check_file(args.library)
    damaged = Path(args.library) if args.library else library_path()
    saved, lost = rescue(damaged, args.out, _base(args))
    print(f"Saved {saved} items into {args.out}; {lost} could not be read.")
    return 0
