"""VelcroLink's engine: a region of interest on a slice in, mask and knowledge-base entries out.

Importing this package imports nothing heavy; torch, ONNX Runtime and SimpleITK are imported where
they are used, so that the worker answers at once and 3D Slicer's side can read the shared types.
"""

__version__ = "0.1.0"
