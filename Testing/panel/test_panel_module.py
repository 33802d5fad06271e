"""The module as Slicer sees it: packaging, imports, icons, sample data, self-test, reload."""

from __future__ import annotations

import ast
import subprocess
import sys
import types
from pathlib import Path

import pytest
import slicer

import cmake_lists
from house import FLOORS

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "VelcroLink"
FORBIDDEN = {"torch", "onnxruntime", "SimpleITK", "scipy", "PySide6", "pandas", "requests"}
AT_FILE_SCOPE = {"slicer", "vtk", "qt", "ctk", "numpy", "velcro_engine", "VelcroLinkLib"}


def sources():
    return [MODULE / "VelcroLink.py", *sorted((MODULE / "VelcroLinkLib").rglob("*.py"))]


def within(path):
    return path.relative_to(MODULE).as_posix()


def imports(tree, whole=True):
    """Names of imported modules; with whole=False only those that run when the file is read."""
    nodes = ast.walk(tree) if whole else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


def test_the_cmake_lists_name_every_file_on_disk():
    assert cmake_lists.differences() == [], "run python Testing/panel/cmake_lists.py --write"


@pytest.mark.parametrize("path", sources(), ids=within)
def test_nothing_heavy_is_imported(path):
    names = list(imports(ast.parse(path.read_text("utf-8"))))
    assert {name.split(".")[0] for name in names} & FORBIDDEN == set()


@pytest.mark.parametrize("path", sources(), ids=within)
def test_at_file_scope_only_slicers_own_and_the_border_of_the_engine(path):
    for name in imports(ast.parse(path.read_text("utf-8")), whole=False):
        top = name.split(".")[0]
        assert top in AT_FILE_SCOPE or top in sys.stdlib_module_names, name
        if top == "velcro_engine":
            known = FLOORS["what the Slicer side may know of the engine"]
            assert name.split(".")[1] in known, f"{name} is behind the border"


@pytest.mark.parametrize("path", sources(), ids=within)
def test_no_work_at_file_scope(path):
    """Only imports, definitions, constants and the module's docstring."""
    allowed = (
        ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign,
    )  # fmt: skip
    for node in ast.parse(path.read_text("utf-8")).body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert is_text or isinstance(node, allowed), f"line {node.lineno}"


def test_the_entry_file_is_wiring_under_300_lines():
    assert len((MODULE / "VelcroLink.py").read_text("utf-8").splitlines()) < 300


def test_the_library_imports_without_torch_onnxruntime_and_simpleitk():
    """In a fresh Python in which these packages cannot be imported at all."""
    modules = [within(path).removesuffix(".py").replace("/", ".") for path in sources()[1:]]
    assert len(modules) > 60
    code = f"""
import sys
sys.path[:0] = [{str(ROOT / "Testing/panel")!r}, {str(MODULE)!r}]
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {{'torch', 'onnxruntime', 'SimpleITK', 'scipy', 'pandas'}}:
            raise ImportError(name + ' must not be imported')
sys.meta_path.insert(0, Refuse())
import tempfile, pathlib
from host.application import Application
app = Application(pathlib.Path(tempfile.mkdtemp()), views=())
import importlib
for name in {modules!r}:
    importlib.import_module(name)
import VelcroLink
print('imported')
import os; sys.stdout.flush(); os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "imported" in done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize("views", ["('Red', 'Yellow', 'Green')", "()"], ids=["window", "no window"])
def test_the_self_test_passes(views, tmp_path):
    """As in Slicer with --testing; without views also --no-main-window."""
    code = f"""
import sys
sys.path[:0] = [{str(ROOT / "Testing/panel")!r}, {str(MODULE)!r}]
import pathlib
from host.application import Application
app = Application(pathlib.Path({str(tmp_path)!r}), views={views})
import slicer
assert (slicer.util.mainWindow() is None) == (not {views})
panel = app.load_module(pathlib.Path({str(MODULE / "VelcroLink.py")!r}))
app.module.runTest(msec=10)
app.unload_module('VelcroLink')
print('self-test passed')
import os; sys.stdout.flush(); os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "self-test passed" in done.stdout, done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]


def test_icons_are_there_and_readable():
    from PySide6 import QtGui

    for path, size in (
        (MODULE / "Resources/Icons/VelcroLink.png", 128),
        (ROOT / "Resources/Icons/VelcroLink.png", 256),
    ):
        image = QtGui.QImage(str(path))
        assert (image.width(), image.height()) == (size, size) and image.hasAlphaChannel()
    for path in (MODULE / "Resources/Icons", ROOT / "Resources/Icons"):
        assert (path / "VelcroLink.svg").read_text("utf-8").startswith("<?xml")


def test_slicers_samples_are_offered_under_velcrolink(driver, monkeypatch):
    registered = {}

    class Source(types.SimpleNamespace):
        pass

    offline = []

    class SampleDataLogic:
        downloaded = []

        @staticmethod
        def registerCustomSampleDataCategory(category, title):
            registered.setdefault(category, [])

        @staticmethod
        def registerCustomSampleDataSource(category, sampleName, **fields):
            registered[category].append((sampleName, fields["checksums"]))

        @staticmethod
        def sampleDataSourcesByCategory(category=None):
            sources = [
                Source(
                    sampleName=name, uris=["u"], fileNames=["f"], nodeNames=["n"],
                    checksums=[f"SHA256:{name}"], loadFiles=[None], loadFileTypes=[None],
                    loadFileProperties=[{}], thumbnailFileName=None,
                )
                for name in ("MRHead", "CTChest", "MRBrainTumor1", "DTIBrain")
            ]  # fmt: skip
            return {"BuiltIn": sources}

        def downloadSamples(self, name):
            self.downloaded.append(name)
            return [] if offline else [driver.add_volume(name)]

    monkeypatch.setitem(
        sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=SampleDataLogic)
    )
    import VelcroLink

    VelcroLink.registerSampleData()
    assert [name for name, _sums in registered["VelcroLink"]] == [
        "MRHead",
        "MRBrainTumor1",
        "CTChest",
    ]
    assert registered["VelcroLink"][0][1] == ["SHA256:MRHead"]
    assert SampleDataLogic.downloaded == []
    driver.press(driver.module.ui.sampleMRHeadButton)
    assert SampleDataLogic.downloaded == ["MRHead"]
    assert driver.session.volumeNode.GetName() == "MRHead"

    driver.module.ui.showPanelButton.checked = False
    offline.append(True)
    driver.press(driver.module.ui.sampleCTChestButton)
    assert "CTChest could not be downloaded" in driver.notice and "internet" in driver.notice
    assert driver.ui.noticeFrame.isVisible()
    assert driver.session.volumeNode.GetName() == "MRHead"


def test_reload_brings_new_code_of_the_library(driver):
    import VelcroLinkLib.link.cards as before

    driver.module.onReload()
    driver.wait(0.1)
    import VelcroLinkLib.link.cards as after

    assert after is not before
    assert driver.ui.placeRoiButton.text == "Place RoI (R)"


def test_leaving_the_module_keeps_the_panel_working(driver):
    driver.add_volume()
    driver.app.leave("VelcroLink")
    driver.place_roi([20, 20, 0], [52, -10, 0])
    driver.wait_linked()
    assert driver.candidates
    driver.app.enter("VelcroLink")
    assert driver.candidates


def test_settings_of_this_computer_stay_out_of_the_scene(driver):
    driver.ui.modelPath.currentPath = "/some/model"
    driver.wait(1.0)
    node = driver.module._parameterNode.parameterNode
    values = [node.GetParameter(name) for name in node.GetParameterNames()]
    assert "/some/model" not in " ".join(values)
    assert slicer.util.settingsValue("VelcroLink/Model", "", converter=str) == "/some/model"


def test_the_device_is_a_setting_of_this_computer_and_is_told_to_the_engine(driver):
    from VelcroLinkLib.engine.setup import EngineSettings

    driver.client.start()
    driver.wait_until(lambda: driver.state == "ready", "the engine")
    assert "Runs on: processor" in driver.ui.engineLabel.text
    driver.ui.deviceBox.currentIndex = 1
    driver.wait_until(lambda: "graphics" in driver.ui.engineLabel.text, "the other device")
    assert EngineSettings.load().device == "gpu"
    driver.ui.deviceBox.currentIndex = 0
    driver.wait_until(lambda: "graphics" not in driver.ui.engineLabel.text, "the first device")
    assert EngineSettings.load().loadOptions()["device"] == "cpu"
