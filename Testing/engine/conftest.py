"""What several engine tests share."""

from __future__ import annotations

import pytest


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    """A user's data folder of this test's own."""
    home = tmp_path / "home"
    monkeypatch.setenv("VELCROLINK_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def bundled():
    """The knowledge base that ships, without anybody's own entries."""
    from velcro_engine.knowledge_base import load_knowledge_base

    return load_knowledge_base()


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """Folder of the three cases of `tiny_cases.write_cases`; to be read only."""
    import tiny_cases

    return tiny_cases.write_cases(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def read(tiny_data):
    """The cases of `tiny_data` as training reads them."""
    import tiny_cases

    return tiny_cases.cases(tiny_data)


@pytest.fixture
def standin(bundled, monkeypatch):
    """The stand-in in the place of every model that is opened; it knows putamen and hippocampus."""
    from standin_runtime import StandInRuntime
    from velcro_engine.linking import linker

    runtime = StandInRuntime([bundled.entry("putamen"), bundled.entry("hippocampus")])
    monkeypatch.setattr(linker, "open_runtime", lambda model: runtime)
    return runtime


@pytest.fixture
def head(tmp_path):
    """A bright ball (value 900 of 1000) in a grey head; the ball's centre is at RAS 20, -10, 0."""
    import numpy as np
    import SimpleITK as sitk

    from affines import matrix
    from test_volume import sitk_image

    affine = matrix(np.diag([-1, -1, 1]), (1, 1, 2), (60, 50, -40))
    k, j, i = np.mgrid[:40, :110, :120]
    ras = np.stack([60 - i, 50 - j, 2 * k - 40], -1)
    array = np.zeros((40, 110, 120), np.int16)
    array[(ras**2).sum(-1) < 38**2] = 300
    array[((ras - [20, -10, 0]) ** 2).sum(-1) < 9**2] = 900
    path = tmp_path / "head.nii.gz"
    sitk.WriteImage(sitk_image(array, affine), str(path))
    return path
