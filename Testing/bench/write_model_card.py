"""Put the figures of an evaluation into a model card, between its two `figures` marks.

python Testing/bench/write_model_card.py CARD.md evaluation/metrics.json [--skull evaluation-skull/metrics.json]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

BEGIN, END = "<!-- figures -->\n", "<!-- /figures -->\n"
GROUPS = ("headline", "fine", "brain", "lesion", "ct", "cxr", "us")
PROMPTS = ("gold", "loose", "point")
HEAD = (
    "| group | prompt | n | top-1 (95 %) | top-3 | macro | side | Dice | ECE | AUROC | at 90 % coverage |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def table(metrics: dict, groups: tuple[str, ...] = GROUPS) -> str:
    """One row a group and prompt."""
    rows = []
    for group in groups:
        for prompt in PROMPTS:
            v = metrics["groups"].get(group, {}).get(prompt)
            if not v:
                continue
            low, high = v["top1_ci"]
            cells = [
                group,
                prompt,
                str(v["n"]),
                f"{v['top1']:.3f} ({low:.3f}-{high:.3f})",
                *(number(v[k]) for k in ("top3", "macro", "side", "dice", "ece", "auroc")),
                number(v["top1_at_90_coverage"]),
            ]
            rows.append("| " + " | ".join(cells) + " |\n")
    return HEAD + "".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", type=Path)
    parser.add_argument("metrics", type=Path)
    parser.add_argument("--skull", type=Path)
    args = parser.parse_args()
    metrics = json.loads(args.metrics.read_text(encoding="utf-8"))
    text = (
        f"Answers ranked over all {metrics['kb_entries']} entries of the knowledge base "
        f"{metrics['kb']}, {metrics['cases']} cases; intervals: 95 %, bootstrap over cases.\n\n"
        + table(metrics)
    )
    if args.skull:
        skull = json.loads(args.skull.read_text(encoding="utf-8"))
        text += "\nThe same with an artificial skull around the stripped brains (`--skull`):\n\n"
        text += table(skull, ("brain",))
    card = args.card.read_text(encoding="utf-8")
    before, rest = card.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    args.card.write_text(before + BEGIN + text + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
