"""`velcrolink kb check | stats | show | search | import | export | ...`: the knowledge base."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path

from ..errors import InputError, KnowledgeBaseError
from ..knowledge_base.entry import Entry, entry_to_dict
from ..knowledge_base.store import BUNDLED, KnowledgeBase, active_paths, load_knowledge_base
from ..resources import resource_path
from . import knowledge_base_meaning as cli_meaning

IMPORT_FORMATS = ("csv", "json", "obo", "umls", "term", "openanatomy")
EXPORT_FORMATS = ("csv", "json", "term", "openanatomy")


def add_arguments(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the command `kb` with its own commands; `run` is set as the default to call."""
    parser = subparsers.add_parser(
        "kb", help="check, search, import, export and read the knowledge base"
    )
    commands = parser.add_subparsers(dest="kb_command", required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="list everything that is wrong")
    check.add_argument("files", nargs="*", type=Path, help="your own, else the bundled one")
    check.add_argument(
        "--alone", action="store_true", help="the files are not used beside the bundled one"
    )
    check.add_argument(
        "--terminology",
        type=Path,
        metavar="DIR",
        help="DICOM code lists to look codes up in (else VELCROLINK_DATA/terminology, if there)",
    )
    check.add_argument("--strict", action="store_true", help="warnings count as errors")

    stats = commands.add_parser("stats", help="how much is in it")
    show = commands.add_parser("show", help="one entry, by its name or id")
    show.add_argument("name", nargs="+", help="name or id of the entry")
    show.add_argument("--json", action="store_true", help="as JSON")
    search = commands.add_parser("search", help="find entries by any of their names")
    search.add_argument("text", nargs="+", help="what to look for")
    search.add_argument("--limit", type=int, default=10, help="entries to list (10)")

    importer = commands.add_parser(
        "import", help="take entries into your own knowledge base, all or none"
    )
    importer.add_argument("file", type=Path, help="for umls: MRCONSO.RRF or its folder")
    importer.add_argument("--format", choices=IMPORT_FORMATS, help="else told from the name")
    importer.add_argument(
        "--on-conflict",
        choices=("error", "skip", "replace"),
        default="error",
        help="what to do with an id that is already there (error)",
    )
    importer.add_argument(
        "--kind",
        choices=("anatomy", "pathology", "device"),
        default="anatomy",
        help="kind of entries whose file does not tell (anatomy)",
    )
    importer.add_argument("--cuis", type=Path, help="umls: file of concept ids, one a line")
    importer.add_argument("--dry-run", action="store_true", help="read and check, keep nothing")

    export = commands.add_parser("export", help="write the knowledge base to a file")
    export.add_argument("file", type=Path, help="*.csv, *.json or *.term.json")
    export.add_argument("--format", choices=EXPORT_FORMATS, help="else told from the name")
    export.add_argument(
        "--atlas", type=Path, help="openanatomy: the atlas to write a copy of, with codes added"
    )

    commands.add_parser("versions", help="list the kept versions of your own knowledge base")
    restore = commands.add_parser("restore", help="bring back a version of your own")
    restore.add_argument("version", type=int, help="its number, see versions")

    site = commands.add_parser("site", help="write it as web pages to read offline")
    site.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the pages")

    for command in (stats, show, search, export, site):
        command.add_argument(
            "--kb", type=Path, action="append", help="instead of the bundled one and your own"
        )
    cli_meaning.add_arguments(commands)
    from . import example as example_command  # it reads this package

    example_command.add_arguments(commands)
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Run one `kb` command; 0: done, 1: `check` found faults. Raises VelcroError otherwise."""
    if "kb_run" in args:
        return int(args.kb_run(args))
    return {
        "check": _check,
        "stats": _stats,
        "show": _show,
        "search": _search,
        "import": _import,
        "export": _export,
        "site": _site,
        "versions": _versions,
        "restore": _restore,
    }[args.kb_command](args)


def _load(args: argparse.Namespace) -> KnowledgeBase:
    return load_knowledge_base(args.kb or active_paths())


def _check(args: argparse.Namespace) -> int:
    from ..knowledge_base.check import check, files_of

    if args.alone and not args.files:
        raise InputError("Name the files to check alone.")
    terminology = args.terminology
    if terminology is None and os.environ.get("VELCROLINK_DATA"):
        folder = Path(os.environ["VELCROLINK_DATA"]) / "terminology"
        terminology = folder if folder.is_dir() else None
    bundled = resource_path(BUNDLED)
    problems = check(args.files if args.alone else [bundled, *args.files], terminology)
    if args.files and not args.alone:
        own = {file for path in args.files for file in files_of(path)}
        problems = [problem for problem in problems if problem.file in own]
    for problem in problems:
        print(problem)
    counts = Counter(problem.severity for problem in problems)
    looked_up = "looked up in the DICOM lists" if terminology else "not looked up (no lists given)"
    print(
        f"{counts['error']} errors, {counts['warning']} warnings; SNOMED CT and UMLS codes "
        f"{looked_up}."
    )
    return 1 if counts["error"] or (args.strict and problems) else 0


def _stats(args: argparse.Namespace) -> int:
    kb = _load(args)
    print(f"{kb.version}: {len(kb)} entries, content {kb.content_hash}")
    for source in kb.sources:
        print(f"  {source.name} {source.version}, licence {source.licence}, {source.path}")
    tables = {
        "kind": Counter(entry.kind for entry in kb.entries),
        "region": Counter(entry.region for entry in kb.entries),
        "modality": Counter(m for entry in kb.entries for m in entry.modalities),
        "codes": Counter(code.key[0] for entry in kb.entries for code in entry.codes),
    }
    for title, table in tables.items():
        print(f"{title}: " + ", ".join(f"{key} {n}" for key, n in table.most_common()))
    names = sum(len(entry.terms) for entry in kb.entries)
    words = sum(len(entry.definition.split()) for entry in kb.entries)
    print(f"names: {names}; words in definitions: {words} ({words / max(len(kb), 1):.0f} each)")
    return 0


def _show(args: argparse.Namespace) -> int:
    kb = _load(args)
    entry = _named(kb, " ".join(args.name))
    if args.json:
        print(json.dumps(entry_to_dict(entry), indent=1, ensure_ascii=False))
        return 0
    print(f"{entry.name}  [{entry.id}]")
    for label, values in (
        ("synonyms", entry.synonyms),
        ("Latin", entry.latin),
        ("abbreviations", entry.abbreviations),
    ):
        if values:
            print(f"  {label}: {', '.join(values)}")
    print(f"\n{entry.definition}\n")
    print(f"  {entry.kind}, {entry.laterality}, {entry.region}; seen on {_list(entry.modalities)}")
    if entry.size_mm:
        print(f"  usual size: {entry.size_mm[0]:g} to {entry.size_mm[1]:g} mm")
    for label, ids in (
        ("is a", entry.is_a),
        ("part of", entry.part_of),
        ("usual places", entry.places),
        ("kinds and parts", kb.children(entry.id)),
    ):
        if ids:
            print(f"  {label}: {', '.join(kb.by_id[other].name for other in ids)}")
    for code in entry.codes:
        print(f"  {code.scheme} {code.value}{f' ({code.meaning})' if code.meaning else ''}")
    for link in entry.links:
        print(f"  {link}")
    source = kb.source_of[entry.id]
    print(f"  from {source.name} {source.version}, {source.licence}")
    return 0


def _named(kb: KnowledgeBase, name: str) -> Entry:
    if name in kb.by_id:
        return kb.by_id[name]
    from ..knowledge_base.search import SearchIndex

    hits = SearchIndex(kb).search(name, limit=5)
    if not hits:
        raise KnowledgeBaseError(f"Nothing in the knowledge base resembles '{name}'.")
    if hits[0].score < 0.95:
        nearest = ", ".join(hit.entry.name for hit in hits)
        raise KnowledgeBaseError(f"There is no entry '{name}'; the nearest are: {nearest}.")
    also = [hit.entry.name for hit in hits[1:] if hit.score == hits[0].score]
    if also:
        print(f"'{name}' is also a name of: {', '.join(also)}", file=sys.stderr)
    return hits[0].entry


def _search(args: argparse.Namespace) -> int:
    from ..knowledge_base.search import SearchIndex

    words = cli_meaning.asked_words(args)
    hits = SearchIndex(_load(args)).search(words, args.limit)
    if not hits:
        print("Nothing resembles that.")
    for hit in hits:
        by = f"  (as '{hit.matched}')" if hit.matched not in ("", hit.entry.name) else ""
        print(f"{hit.score:5.2f}  {hit.entry.id:40s} {hit.entry.name}{by}")
    return 0


def _import(args: argparse.Namespace) -> int:
    from ..knowledge_base.importers import BadRows, import_file
    from ..knowledge_base.user import add_to_user_knowledge_base

    kb = load_knowledge_base(active_paths())
    try:
        read = import_file(args.file, args.format, kb, kind=args.kind, cuis=args.cuis)
        change = add_to_user_knowledge_base(
            read, kb, on_conflict=args.on_conflict, dry_run=args.dry_run
        )
    except BadRows as error:
        for row in error.rows:
            print(row, file=sys.stderr)
        raise
    for note in read.notes:
        print(f"note: {note}")
    kept = "would be" if args.dry_run else "are"
    print(
        f"{change.added} entries {kept} added, {change.replaced} replaced, "
        f"{change.skipped} skipped as already there."
    )
    if not args.dry_run:
        print(f"Your knowledge base: {change.path}, version {change.version}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from ..knowledge_base.importers import export_file

    kb = _load(args)
    if args.format == "openanatomy":
        from ..knowledge_base.importers.open_anatomy import annotate_atlas

        if args.atlas is None:
            raise InputError("Name the atlas to add codes to with --atlas FILE.")
        coded, total = annotate_atlas(args.atlas, kb, args.file)
        print(f"{coded} of {total} structures have codes now: {args.file}")
        return 0
    export_file(kb, args.file, args.format)
    print(f"{len(kb)} entries written to {args.file}")
    return 0


def _site(args: argparse.Namespace) -> int:
    from ..knowledge_base.site import write_site

    if args.out.exists() and not args.out.is_dir():
        raise InputError(f"'{args.out}' is a file; name a folder for the pages.")
    index = write_site(_load(args), args.out)
    print(f"Open {index}")
    return 0


def _versions(args: argparse.Namespace) -> int:
    from ..knowledge_base.user import user_entries, user_path, user_versions

    version, entries = user_entries()
    if not version:
        print("You have no knowledge base of your own yet; 'kb import' makes one.")
        return 0
    print(f"{user_path()}: version {version}, {len(entries)} entries")
    print("kept: " + (", ".join(map(str, user_versions())) or "none"))
    return 0


def _restore(args: argparse.Namespace) -> int:
    from ..knowledge_base.user import restore_user_version

    version = restore_user_version(args.version, load_knowledge_base())
    print(f"Version {args.version} is back, as version {version}.")
    return 0


def _list(values: tuple[str, ...]) -> str:
    return ", ".join(values) or "nothing stated"
