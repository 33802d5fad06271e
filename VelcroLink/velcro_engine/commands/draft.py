"""`velcrolink report draft`: a region on a slice -> draft.txt and draft.json, with their sources."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..cases.record import Hit
from ..console.command_options import add_kb_argument, add_model_argument
from ..console.output_folder import check_output_folder, output_folder
from ..console.slice_options import add_region_arguments, add_slice_arguments, region_request
from ..drafting.check import checked_wording
from ..drafting.draft import Draft, draft_document, draft_report, draft_text
from ..drafting.similar import similar_sentences
from ..errors import InputError
from ..head.frame import heed_head
from ..knowledge_base import KnowledgeBase
from ..linking.linker import open_linker
from ..messages.result import LinkResult
from .cases import add_library_argument, open_store

TEXT, DOCUMENT = "draft.txt", "draft.json"


def add_draft_arguments(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add `draft` to the command `report`."""
    parser = subparsers.add_parser(
        "draft",
        help="draft a report of a region, with the source of every sentence",
        description="Draft a report of a linked region from its entry, its measurements and "
        "sentences of your case library about the same place. Every sentence names its source.",
    )
    add_slice_arguments(parser)
    add_region_arguments(parser, required=True)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the draft")
    add_model_argument(parser)
    add_kb_argument(parser)
    add_library_argument(parser)
    parser.add_argument("--no-cases", action="store_true", help="use no sentences of the library")
    parser.add_argument(
        "--llm",
        metavar="ADDRESS",
        help="OpenAI-compatible server that words it, e.g. http://localhost:11434/v1",
    )
    parser.add_argument(
        "--llm-model", default="default", metavar="NAME", help="name of its model (default)"
    )
    parser.add_argument(
        "--allow-remote", action="store_true", help="with --llm: the text may go to another machine"
    )
    parser.set_defaults(run=run, quiet_libraries=True)
    return parser


def run(args: argparse.Namespace) -> int:
    """Link, draft, write, print. Raises VelcroError."""
    if args.llm is not None:
        from ..messages.addresses import check_address

        check_address(args.llm, args.allow_remote)
    if args.allow_remote and args.llm is None:
        raise InputError("--allow-remote goes with --llm.")
    check_output_folder(args.out)
    volume, _, request = region_request(args)
    linker = open_linker(args.model, args.kb)
    request = heed_head(request, volume, linker.runtime)
    base = linker.knowledge_base
    result = linker.link(request)
    hits: Sequence[Hit] = ()
    if not args.no_cases:
        store = open_store(args.library)
        try:
            hits = similar_sentences(store, linker, result, request)
        finally:
            store.close()
    draft = draft_report(result, base, hits)
    if args.llm is not None:
        draft = reworded(draft, result, base, args.llm, args.llm_model, args.allow_remote)
    with output_folder(args.out) as folder:
        (folder / TEXT).write_text(draft_text(draft), encoding="utf-8")
        text = json.dumps(draft_document(draft), indent=1, ensure_ascii=False)
        (folder / DOCUMENT).write_text(text + "\n", encoding="utf-8")
    print(draft_text(draft), end="")
    print(f"\nWritten: {Path(args.out) / TEXT}")
    return 0


def reworded(
    draft: Draft,
    result: LinkResult,
    base: KnowledgeBase,
    address: str,
    model: str,
    remote_confirmed: bool,
) -> Draft:
    """The draft with a language model's wording, less what no source says."""
    from ..drafting.language_model import prompt_of, reword

    texts = [sentence.text for sentence in draft.sentences]
    prompt = prompt_of(texts)
    print(f"Sending to {address}:\n{prompt}\n")
    answer = reword(address, model, prompt, remote_confirmed)
    wording, struck = checked_wording(answer, draft, base.entry(result.entries[0].id).terms)
    return replace(draft, wording=wording, struck=struck, prompt=prompt)
