"""What adapting to a department's cases gains and costs, and what is known of entities never shown.

python Testing/bench/bench_adaptation.py --data ../shared/data --out DIR [--steps 3600] [--step-mm 32]
Trains a base on all data sets but the chest X-rays and without the benchmark's zero-shot entities, adapts
its export to the chest X-rays (`velcrolink train --init`), measures both on dev (gold boxes) and prints a
row a group. Then `bench_zero_shot.py --model DIR/base` tells what examples add. About two hours on one
core; interrupt and repeat at will.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from velcro_engine.commands.cli import main as velcrolink
from velcro_engine.training.recipes.recipe import RECIPES

DEPARTMENT = "cxr_"
GROUPS = ("headline", "fine", "brain", "lesion", "ct", "cxr", "us", "zero_shot")


def call(*arguments: object) -> None:
    """One command of `velcrolink`; ends this program when it fails."""
    code = velcrolink([str(argument) for argument in arguments])
    if code:
        sys.exit(code)


def write_splits(data: Path, path: Path) -> None:
    """Train cases without and of the department."""
    splits = json.loads((data / "splits.json").read_text(encoding="utf-8"))
    train = splits["train"]
    table = {
        "base": [key for key in train if not key.startswith(DEPARTMENT)],
        "department": [key for key in train if key.startswith(DEPARTMENT)],
        "dev": splits["dev"],
    }
    path.write_text(json.dumps(table), encoding="utf-8")


def write_recipe(steps: int, path: Path) -> None:
    """The bundled recipe in `steps` steps, its dense phase a little longer."""
    recipe = json.loads((RECIPES / "bundled_cpu.json").read_text(encoding="utf-8"))
    shares = {"dense_steps": 0.4167, "fine_steps": 0.1944, "finish_steps": 0.0694}
    recipe |= {"steps": steps} | {key: round(steps * share) for key, share in shares.items()}
    path.write_text(json.dumps(recipe), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=3600, help="of the base")
    parser.add_argument("--adapt-steps", type=int, default=300)
    parser.add_argument("--text-steps", type=int, default=600, help="of the base; two thirds after")
    parser.add_argument("--step-mm", type=float, default=32.0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    splits, recipe = args.out / "splits.json", args.out / "recipe.json"
    write_splits(args.data, splits)
    write_recipe(args.steps, recipe)
    cases = ("--data", args.data, "--splits", splits)
    run, adapted = args.out / "base-run", args.out / "adapted-run"
    call("train", *cases, "--split", "base", "--recipe", recipe, "--leave-out", "zero-shot",
         "--out", run)  # fmt: skip
    figures = []
    for name, folder in (("base", run), ("adapted", adapted)):
        model, text_steps = args.out / name, args.text_steps
        if name == "adapted":
            text_steps = round(text_steps * 2 / 3)
            call("train", "--init", args.out / "base", *cases, "--split", "department",
                 "--steps", args.adapt_steps, "--out", folder)  # fmt: skip
        if not (model / "config.json").is_file():
            call("export", folder, "--out", model, "--name", name, "--version", "0.0.1",
                 "--text-steps", text_steps)  # fmt: skip
        measured = args.out / f"{name}-evaluation"
        call("evaluate", "--model", model, *cases, "--split", "dev", "--step-mm", args.step_mm,
             "--out", measured)  # fmt: skip
        figures.append(json.loads((measured / "metrics.json").read_text(encoding="utf-8")))
    print(f"{'group':12} {'n':>5}  {'base':>6} {'adapted':>8}   top-1, gold boxes")
    for group in GROUPS:
        before, after = (f["groups"].get(group, {}).get("gold") for f in figures)
        if before and after:
            print(f"{group:12} {before['n']:5}  {before['top1']:6.3f} {after['top1']:8.3f}")


if __name__ == "__main__":
    main()
