"""Volumes, slices and the files they come from; the only room with image geometry."""

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
