"""The files that the extension's CMake lists must name, and the lists as they are.

    python Testing/panel/cmake_lists.py            says what is missing or too much
    python Testing/panel/cmake_lists.py --write    writes the lists anew from the disk

Only files that git tracks or would track count: caches and build outputs are not packaged.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_PACKAGED = ("CMakeLists.txt", "__pycache__")


def tracked(folder: str) -> list[str]:
    """Files under a folder of the repository, relative to the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", folder]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = sorted(set(output.splitlines()))
    return [
        name
        for name in names
        if not any(part in name for part in NOT_PACKAGED) and (ROOT / name).is_file()
    ]


def wanted() -> dict[tuple[str, str], list[str]]:
    """{(CMake file, variable): files it must list}."""
    module = [name.removeprefix("VelcroLink/") for name in tracked("VelcroLink")]
    bundled = tracked("Resources/Models") + tracked("Resources/KnowledgeBase")
    return {
        ("VelcroLink/CMakeLists.txt", "MODULE_PYTHON_SCRIPTS"): [
            name for name in module if name.endswith(".py")
        ],
        ("VelcroLink/CMakeLists.txt", "MODULE_PYTHON_RESOURCES"): [
            name for name in module if not name.endswith(".py")
        ],
        ("CMakeLists.txt", "BUNDLED_RESOURCES"): bundled,
    }


def _block(variable: str) -> re.Pattern:
    return re.compile(rf"(set\({variable}\n)(.*?)(  \)\n)", re.DOTALL)


def listed(file: str, variable: str) -> list[str]:
    """What a list in a CMake file names, with ${MODULE_NAME} filled in."""
    text = (ROOT / file).read_text("utf-8")
    match = _block(variable).search(text)
    if match is None:
        raise ValueError(f"{file} has no set({variable} ...)")
    return match.group(2).replace("${MODULE_NAME}", "VelcroLink").split()


def write() -> None:
    for (file, variable), names in wanted().items():
        path = ROOT / file
        lines = "".join(f"  {name}\n" for name in names)
        text = _block(variable).sub(
            lambda match, lines=lines: match.group(1) + lines + match.group(3),
            path.read_text("utf-8"),
        )
        path.write_text(text, "utf-8")


def differences() -> list[str]:
    """One line for each file that is listed but not there, or there but not listed."""
    found = []
    for (file, variable), names in wanted().items():
        there = listed(file, variable)
        found += [f"{file}: {variable} lacks {name}" for name in names if name not in there]
        found += [f"{file}: {variable} names {name}" for name in there if name not in names]
    return found


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        write()
    print("\n".join(differences()) or "The lists and the disk agree.")
