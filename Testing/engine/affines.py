"""Volumes in every orientation that files come in: the geometry tests run over all of them."""

import numpy as np

from velcro_engine.imaging.volume import Volume, make_volume


def rotation(degrees, axis) -> np.ndarray:
    """3 x 3 rotation by an angle about an axis (Rodrigues' formula)."""
    x, y, z = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def matrix(directions, spacing=(1, 1, 1), origin=(0, 0, 0)) -> np.ndarray:
    """4 x 4 IJK-to-RAS from directions (columns), spacing and the first voxel's place."""
    out = np.eye(4)
    out[:3, :3] = np.asarray(directions, dtype=float) * np.asarray(spacing, dtype=float)
    out[:3, 3] = origin
    return out


PERMUTED = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=float)
SHEAR = np.array([[1, 0.1, 0], [0, 1, 0.05], [0, 0, 1]])

AFFINES = {
    "RAS": matrix(np.eye(3)),
    "LPS": matrix(np.diag([-1, -1, 1]), origin=(80, 90, -40)),
    "LAS, left-handed": matrix(np.diag([-1, 1, 1]), origin=(70, -100, -60)),
    "anisotropic axial": matrix(np.diag([-1, -1, 1]), (0.8, 0.8, 5), (90, 100, -30)),
    "anisotropic in every direction": matrix(np.eye(3), (0.7, 1.3, 3.1), (-20, -30, 10)),
    "flipped feet first": matrix(np.diag([-1, -1, -1]), (1.5, 1.5, 2), (40, 40, 40)),
    "permuted": matrix(PERMUTED, (1, 2, 0.5), (5, 6, 7)),
    "permuted and flipped": matrix(PERMUTED * [1, -1, -1], (3, 1.2, 1.2), (-9, 9, 0)),
    "sagittal acquisition": matrix([[0, 0, -1], [-1, 0, 0], [0, -1, 0]], (0.9, 0.9, 1.4)),
    "coronal acquisition": matrix([[-1, 0, 0], [0, 0, 1], [0, -1, 0]], (1.1, 1.1, 4)),
    "oblique 10": matrix(rotation(10, [1, 0, 0]), (1, 1, 3), (1, 2, 3)),
    "oblique 35 about a diagonal": matrix(rotation(35, [1, 2, 3]), (0.6, 0.6, 2.5), (-50, 0, 9)),
    "oblique, flipped, left-handed": matrix(
        rotation(20, [3, -1, 2]) @ np.diag([-1, 1, 1]), (2.3, 0.9, 1.1), (12, -7, 30)
    ),
    "oblique, permuted": matrix(rotation(25, [0, 1, 1]) @ PERMUTED, (1, 1.7, 0.8)),
    "rotated by 45": matrix(rotation(45, [0, 0, 1]), (1, 1, 2)),
    "sheared (tilted gantry)": matrix(SHEAR, (1, 1, 4), (3, 3, 3)),
    "far from the origin": matrix(np.diag([-1, -1, 1]), (0.5, 0.5, 1), (4000, -3000, 2000)),
}


def volume_of(name: str, shape=(11, 13, 17), seed=0) -> Volume:
    """Volume (K x J x I = shape) with noise in a named orientation."""
    array = np.random.default_rng(seed).integers(0, 1000, shape).astype(np.int16)
    return make_volume(array, AFFINES[name], "MR")
