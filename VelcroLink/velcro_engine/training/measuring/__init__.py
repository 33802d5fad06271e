"""Every figure of the model card."""

__all__ = [
    "baselines",
    "calibration",
    "case_evaluation",
    "coder_habits",
    "comparison",
    "evaluate_linking",
    "find_thresholds",
    "head_ablation",
    "link_evaluation",
    "propagation_evaluation",
    "region_features",
    "region_samples",
    "report_evaluation",
    "review_evaluation",
    "review_expectations",
    "text_ablation",
]
