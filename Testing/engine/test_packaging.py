"""What `pip install .` from a clean clone brings along."""

import importlib.util
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_using_the_engine_does_not_ask_for_torch():
    needed = " ".join(
        [
            *PROJECT["project"]["dependencies"],
            *PROJECT["project"]["optional-dependencies"]["demo"],
        ]
    )
    for name in ("torch", "timm", "open_clip", "segment", "onnx>"):
        assert name not in needed


def test_the_version_is_the_engines():
    from velcro_engine import __version__

    assert PROJECT["project"]["version"] == __version__


@pytest.mark.skipif(
    importlib.util.find_spec("setuptools") is None, reason="setuptools is not installed here"
)
def test_the_wheel_holds_code_knowledge_base_and_model(tmp_path):
    source = str(_clean_copy(tmp_path))
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*build, "-w", str(tmp_path), source], check=True)
    (wheel,) = tmp_path.glob("velcrolink-*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        [
            "git",
            "ls-files",
            "Resources/KnowledgeBase",
            "Resources/Models",
            "VelcroLink/velcro_engine",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            assert (
                name.replace("Resources/", "velcro_engine/Resources/").replace("VelcroLink/", "")
                in inside
            ), name
    assert not [name for name in inside if "Testing" in name or "VelcroLinkLib" in name]


def _clean_copy(tmp_path: Path) -> Path:
    """Building in the checkout would leave a build folder there."""
    import shutil

    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("VelcroLink", "Resources"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    return copy
