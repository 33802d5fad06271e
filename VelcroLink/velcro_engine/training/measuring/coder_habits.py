"""Count coders' habits on coded reports and write them as scorecards (see reports.language.coder).

    python -m velcro_engine.training.measuring.coder_habits train.csv [--out coder_habits.json]

Two logistic regressions with an L1 penalty, which leaves a few hundred readable weights: whether a
finding that is mentioned gets a code, and which attributes its code carries. Evidence seen in fewer
than three places is left out. With `--folds 5` the figures of a cross-validation over reports are
printed instead, the way in which the settings below were chosen; no report of another file is used.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...reports.language.coder import HABITS, attribute_evidence, coded_findings, evidence
from ...reports.language.findings import ReportFindings
from ...reports.language.mesh_codes import Code, read_codes
from ...reports.language.report_file import read_report_file
from ...reports.meta_entities import read_report

FINDING_C, ATTRIBUTE_C = 2.0, 1.0
THRESHOLD = 0.42  # below one half: F1 rewards recall a little more than accuracy does
SEEN = 3
USUAL_SHARE = 0.05  # an attribute that this share of a finding's codes carry is always considered

Coded = tuple[ReportFindings, list[Code]]


def learn(reports: Sequence[Coded]) -> dict[str, Any]:
    """Scorecards of read reports and their codes."""
    usual = usual_attributes(reports)
    values = sorted(
        {v for _, codes in reports for c in codes for v in c.sides | c.places | c.qualifiers}
    )
    finding_rows: list[tuple[set[str], bool]] = []
    attribute_rows: list[tuple[set[str], bool]] = []
    for report, codes in reports:
        given: dict[str, set[str]] = {}
        for code in codes:
            given.setdefault(code.finding, set()).update(code.sides, code.places, code.qualifiers)
        own: dict[str, list] = {}
        for sentence in report.sentences:
            for mention in sentence.mentions:
                if mention.certainty != "absent":
                    own.setdefault(mention.finding, []).append((sentence, mention))
        for finding, features in evidence(report).items():
            finding_rows.append((features, finding in given))
            if finding not in given:
                continue
            rows = attribute_evidence(own[finding], finding, usual.get(finding, ()))
            attribute_rows += [
                (features, value in given[finding])
                for value, features in rows.items()
                if value in values
            ]
    return {
        "about": "weights of evidence, counted on coded reports; see reports/language/coder.py",
        "values": values,
        "findings": fit(finding_rows, FINDING_C),
        "attributes": {"usual": usual, **fit(attribute_rows, ATTRIBUTE_C)},
    }


def usual_attributes(reports: Sequence[Coded]) -> dict[str, list[str]]:
    """{finding: attributes that its codes carry often enough to be considered unsaid}."""
    count: Counter[str] = Counter()
    seen: dict[str, Counter[str]] = {}
    for _, codes in reports:
        given: dict[str, set[str]] = {}
        for code in codes:
            given.setdefault(code.finding, set()).update(code.sides, code.places, code.qualifiers)
        for finding, values in given.items():
            count[finding] += 1
            seen.setdefault(finding, Counter()).update(values)
    return {
        finding: sorted(
            value
            for value, number in values.items()
            if number >= SEEN and number >= USUAL_SHARE * count[finding]
        )
        for finding, values in sorted(seen.items())
    }


def fit(rows: Sequence[tuple[set[str], bool]], strength: float) -> dict[str, Any]:
    """A scorecard {"bias", "threshold", "weights"}; needs scikit-learn."""
    import numpy as np
    from scipy.sparse import csr_matrix

    count: Counter[str] = Counter()
    for features, _ in rows:
        count.update(features)
    names = sorted(name for name, number in count.items() if number >= SEEN)
    column = {name: index for index, name in enumerate(names)}
    indices, pointer = [], [0]
    for features, _ in rows:
        indices += sorted(column[name] for name in features if name in column)
        pointer.append(len(indices))
    matrix = csr_matrix((np.ones(len(indices)), indices, pointer), (len(rows), len(names)))
    model = _logistic(strength)
    model.fit(matrix, [coded for _, coded in rows])
    weights = {
        name: round(float(weight), 2)
        for name, weight in zip(names, model.coef_[0], strict=True)
        if abs(weight) >= 0.005
    }
    return {
        "bias": round(float(model.intercept_[0]), 3),
        "threshold": THRESHOLD,
        "weights": weights,
    }


def _logistic(strength: float):
    import warnings

    from sklearn.linear_model import LogisticRegression

    # scikit-learn renames this argument; both spellings are the same penalty
    warnings.filterwarnings("ignore", module="sklearn")
    return LogisticRegression(C=strength, penalty="l1", solver="liblinear", random_state=0)


def read_coded(path: Path) -> list[Coded]:
    """Reports of a CSV file that carry human codes, read."""
    rows = read_report_file(path, ("MeSH",))
    coded = []
    for row in rows:
        codes = read_codes(row["MeSH"])
        if codes is not None:
            coded.append((read_report(row["findings"], row["impression"]), codes[0]))
    return coded


def cross_validate(reports: Sequence[Coded], folds: int) -> dict[str, float]:
    """F1 of each kind of tuple with habits learnt on the other folds."""
    import random

    from .report_evaluation import Tally, tuples_of

    shuffled = list(reports)
    random.Random(0).shuffle(shuffled)
    tallies: dict[str, Tally] = {}
    for fold in range(folds):
        habits = learn([r for i, r in enumerate(shuffled) if i % folds != fold])
        habits["values"] = frozenset(habits["values"])
        for report, codes in shuffled[fold::folds]:
            predicted = tuples_of(coded_findings(report, habits))
            for kind, reference in tuples_of(codes).items():
                tallies.setdefault(kind, Tally()).add(reference, predicted[kind])
    return {kind: round(tally.f1, 4) for kind, tally in tallies.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Learn and write, or cross-validate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, default=HABITS)
    parser.add_argument("--folds", type=int)
    args = parser.parse_args(arguments)
    reports = read_coded(args.file)
    if args.folds:
        print(json.dumps(cross_validate(reports, args.folds)))
        return
    args.out.write_text(json.dumps(learn(reports), indent=1) + "\n", encoding="utf-8")
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()

__all__ = ["cross_validate", "fit", "learn", "read_coded", "usual_attributes"]
