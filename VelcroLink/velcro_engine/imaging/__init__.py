"""Volumes, slices, the geometry between them, and the files they come from."""

__all__ = [
    "diameters",
    "mask_pieces",
    "overlay",
    "reading",
    "roi_file",
    "segmentation_file",
    "slice_sampling",
    "slice_voxels",
    "slices",
    "volume",
]
