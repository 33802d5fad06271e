"""MRML: geometry, voxels, slices, RoIs, segments, terminology. Knows no tab and no worker."""

__all__ = [
    "mask_voxels",
    "named_segment",
    "placement",
    "results_table",
    "roi_geometry",
    "sample_data",
    "scene_watch",
    "segmentation_result",
    "segmentation_voxels",
    "slice_grid",
    "slice_request",
    "slice_views",
    "terminology",
    "volume_geometry",
    "volume_message",
]
