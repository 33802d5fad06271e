"""Segmentations: read from files, brought onto the image's grid, named, measured."""

__all__ = [
    "dicom_seg",
    "labelmaps",
    "names",
    "placing",
    "reading",
    "shapes",
    "stored",
]
