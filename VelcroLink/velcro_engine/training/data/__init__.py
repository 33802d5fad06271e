"""Labelled cases, the slices drawn from them, batches."""

__all__ = [
    "batches",
    "benchmark_samples",
    "case_data",
    "head_places",
    "labelled_folder",
    "region_phrases",
    "slice_sampler",
    "slicer_cases",
    "vocabulary",
    "volume_cases",
]
