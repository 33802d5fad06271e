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
