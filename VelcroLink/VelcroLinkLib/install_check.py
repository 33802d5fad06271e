"""Is what linking needs installed, what would be installed, and how by hand. Asks nothing itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InstallState:
    """missing: requirement lines not satisfied; sizeMb: about how much would be downloaded."""

    installed: bool
    missing: tuple[str, ...]
    versions: dict[str, str]
    downloadMb: int
    requirementsPath: str

    @property
    def buttonText(self) -> str:
        raise NotImplementedError

    @property
    def offlineInstructions(self) -> str:
        raise NotImplementedError


def checkInstall(requirementsPath: str | None = None) -> InstallState:
    """Reads package metadata only (no import: a loaded DLL could not be replaced on Windows)."""
    raise NotImplementedError


def install(state: InstallState, wheelFolder: str | None = None) -> InstallState:
    """Install what is missing (through slicer.packaging where it is there), on the main thread,
    after the user pressed the button. wheelFolder: offline, from a folder of wheels.
    Raises VelcroError with one line that says what to do; returns the new state."""
    raise NotImplementedError
