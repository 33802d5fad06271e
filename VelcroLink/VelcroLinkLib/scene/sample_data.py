"""Images to try VelcroLink on: three of Slicer's own samples, offered under VelcroLink as well.

Nothing is copied: the sources that Slicer's Sample Data module registers itself (addresses and
checksums included) are listed once more under another category.
"""

from __future__ import annotations

import logging
from typing import Any

from slicer.i18n import tr as _

from velcro_engine.errors import InputError

CATEGORY = "VelcroLink"
_FAILED = (
    "The sample {name} could not be downloaded; check the internet connection, or drag an image of "
    "your own onto Slicer's window."
)
SAMPLES = ("MRHead", "MRBrainTumor1", "CTChest")


def registerSampleData() -> list[str]:
    """List the samples under VelcroLink in the Sample Data module; returns their names.

    A Slicer without one of the samples simply offers the others.
    """
    import SampleData

    logic = SampleData.SampleDataLogic()  # registers Slicer's own samples first
    if hasattr(logic, "registerCustomSampleDataCategory"):
        logic.registerCustomSampleDataCategory(CATEGORY, title=_("VelcroLink"))
    registered = []
    for name in SAMPLES:
        source = _builtInSource(logic, name)
        if source is None:
            continue
        logic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=source.sampleName,
            uris=source.uris,
            fileNames=source.fileNames,
            nodeNames=source.nodeNames,
            checksums=source.checksums,
            loadFiles=source.loadFiles,
            loadFileTypes=source.loadFileTypes,
            loadFileProperties=source.loadFileProperties,
            thumbnailFileName=source.thumbnailFileName,
        )
        registered.append(name)
    return registered


def loadSample(name: str) -> Any:
    """Download (or take from Slicer's cache) and show a sample; returns its volume node.

    Called when the user presses the sample's button and at no other time. Raises InputError with
    what to do when it cannot be had.
    """
    import qt
    import slicer

    slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
    try:
        import SampleData

        nodes = SampleData.SampleDataLogic().downloadSamples(name)  # empty when downloading failed
    except Exception as error:  # what the Sample Data module raises is not documented
        logging.info("VelcroLink: sample %s: %r", name, error)
        raise InputError(_FAILED.format(name=name), repr(error)) from error
    finally:
        slicer.app.restoreOverrideCursor()
    if not nodes:
        raise InputError(_FAILED.format(name=name))
    return nodes[0]


def _builtInSource(logic: Any, name: str) -> Any | None:
    for category, sources in logic.sampleDataSourcesByCategory().items():
        if category == CATEGORY:
            continue
        for source in sources:
            if source.sampleName == name:
                return source
    return None
