"""The structure of the code as it is: modules, imports, rooms and floors.

    python Testing/engine/house.py      prints the floors, each room with what it is and stands on

An arrow is any import, also one inside a function or for types only, and any text that names a module
to be imported later ("velcro_engine.worker.handlers:link").
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "VelcroLink"
FLOORS = json.loads(Path(__file__).with_name("floors.json").read_text(encoding="utf-8"))
PACKAGES = ("velcro_engine", "VelcroLinkLib")
_NAMES_A_MODULE = re.compile(r"((?:velcro_engine|VelcroLinkLib)(?:\.\w+)+)(?::[\w.]+)?\Z")


@dataclass(frozen=True)
class Arrow:
    """One import. start, end: modules; name: what is taken from `end`, "" for the module itself;
    line: in the file of `start`; later: a text that names the module, not an import."""

    start: str
    end: str
    name: str
    line: int
    later: bool = False

    def __str__(self) -> str:
        return f"{self.start}:{self.line} imports {self.end} {self.name}".rstrip()


class House:
    """All modules under a folder and the arrows between them."""

    def __init__(self, source: Path = SOURCE) -> None:
        self.source = source
        self.files: dict[str, Path] = {}
        for package in PACKAGES:
            for path in sorted((source / package).rglob("*.py")):
                parts = path.relative_to(source).with_suffix("").parts
                self.files[".".join(p for p in parts if p != "__init__")] = path
        module = source / "VelcroLink.py"  # what 3D Slicer loads stands on the Slicer side's roof
        if module.is_file():
            self.files["VelcroLink"] = module
        self.trees = {
            name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.files.items()
        }
        self.outside: dict[str, set[str]] = defaultdict(set)  # module -> packages of others
        self.by_name: set[str] = set()  # modules that import what a text names
        self.unknown: list[str] = []
        self.arrows = [arrow for name in self.files for arrow in self._arrows(name)]

    def is_package(self, module: str) -> bool:
        """Whether a module is a folder's `__init__`."""
        return self.files[module].name == "__init__.py"

    def room(self, module: str) -> str:
        """Folder of a module within its package, dotted; for a file outside a room its own name."""
        parts = module.split(".")
        inner = parts[1:] if self.is_package(module) else parts[1:-1]
        return ".".join(inner) or (parts[1] if len(parts) > 1 else "")

    def has(self, package: str, name: str) -> bool:
        """Whether a package holds a module of this name, or its `__init__` makes or imports it."""
        if f"{package}.{name}" in self.files:
            return True
        made: set[str] = set()
        for node in self.trees[package].body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                made.add(node.name)
            elif isinstance(node, ast.ImportFrom):
                made.update(alias.asname or alias.name for alias in node.names)
            elif isinstance(node, ast.Assign):
                made.update(getattr(target, "id", "") for target in node.targets)
        return name in made

    def door(self, package: str) -> list[str]:
        """The names in a package's `__all__`."""
        for node in self.trees[package].body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                return list(ast.literal_eval(node.value))
        return []

    def about(self, package: str, room: str) -> str:
        """First sentence of what a room or file says of itself."""
        return (ast.get_docstring(self.trees[f"{package}.{room}"]) or "").split("\n\n")[0]

    def _arrows(self, module: str) -> Iterable[Arrow]:
        own = module if self.is_package(module) else module.rpartition(".")[0]
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield from self._arrow(module, alias.name, "", node.lineno)
            elif isinstance(node, ast.ImportFrom):
                parts = own.split(".")
                above = parts[: len(parts) - node.level + 1] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    if inner in self.files:
                        yield from self._arrow(module, inner, "", node.lineno)
                    else:
                        yield from self._arrow(module, base, alias.name, node.lineno)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                match = _NAMES_A_MODULE.match(node.value)
                if match and match[1] != module:
                    yield from self._arrow(module, match[1], "", node.lineno, later=True)
            if {getattr(node, "attr", ""), getattr(node, "id", "")} & {
                "import_module",
                "__import__",
            }:
                self.by_name.add(module)

    def _arrow(
        self, start: str, end: str, name: str, line: int, later: bool = False
    ) -> Iterable[Arrow]:
        if end.split(".")[0] not in PACKAGES:
            self.outside[start].add(end.split(".")[0])
        elif end in self.files:
            yield Arrow(start, end, name, line, later)
        else:
            self.unknown.append(f"{start}:{line} imports {end}, which is not there")


def rank(floors: Iterable[Iterable[str]]) -> dict[str, int]:
    """Room -> number of its floor, 0 at the ground."""
    return {room: number for number, rooms in enumerate(floors) for room in rooms}


def forbidden(house: House, floors: Mapping[str, Iterable[Iterable[str]]]) -> list[str]:
    """One line for each arrow that does not lead to a lower floor, or across the two packages other
    than from the Slicer side to what both share."""
    ranks = {package: rank(floors[package]) for package in PACKAGES}
    shared = FLOORS["what the Slicer side may know of the engine"]
    found = []
    for arrow in house.arrows:
        here, there = arrow.start.split(".")[0], arrow.end.split(".")[0]
        start, end = house.room(arrow.start), house.room(arrow.end)
        if here != there:
            # the worker is started by its name, never imported
            by_name = arrow.later and arrow.end == "velcro_engine.worker"
            known = there == "velcro_engine" and end.split(".")[0] in shared
            on_the_roof = here == "VelcroLink" and there == "VelcroLinkLib" and end
            if here == "velcro_engine" or not (by_name or known or on_the_roof):
                found.append(f"{arrow} (between the two sides)")
        elif not end:
            if arrow.name != "__version__":
                found.append(f"{arrow} (a whole package)")
        elif start == end or arrow.end in _parents(arrow.start):
            continue
        elif start not in ranks[here] or end not in ranks[here]:
            found.append(f"{arrow} (a room without a floor)")
        elif ranks[here][end] >= ranks[here][start]:
            found.append(f"{arrow} (not downwards)")
    return found


def _parents(module: str) -> set[str]:
    parts = module.split(".")
    return {".".join(parts[:n]) for n in range(1, len(parts))}


def circles(house: House) -> list[list[str]]:
    """Modules that import each other, directly or through others (Tarjan 1972)."""
    graph: dict[str, set[str]] = {name: set() for name in house.files}
    for arrow in house.arrows:
        if arrow.start != arrow.end:
            graph[arrow.start].add(arrow.end)
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in graph[name]:
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            members = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(members) > 1:
                found.append(sorted(members))

    for name in graph:
        if name not in order:
            visit(name)
    return found


def past_the_door(house: House) -> list[str]:
    """One line for each arrow into a room to something that its `__init__` does not name."""
    found = []
    for arrow in house.arrows:
        parts = arrow.end.split(".")
        for n in range(2, len(parts) + 1):
            package = ".".join(parts[:n])
            if package not in house.files or not house.is_package(package):
                continue
            if arrow.start == package or arrow.start.startswith(package + "."):
                continue
            asked = parts[n] if n < len(parts) else arrow.name
            if asked and asked not in house.door(package):
                found.append(f"{arrow}: {package} does not offer '{asked}'")
    return found


def libraries(house: House) -> list[str]:
    """One line for each module that imports what its room may not, beyond Python's own."""
    allowed = FLOORS["libraries"]
    found = []
    for module in house.files:
        told = [p for p in allowed if module == p or module.startswith(p + ".")]
        others = house.outside[module] - set(sys.stdlib_module_names)
        extra = sorted(others - set(allowed[max(told, key=len)]))
        if extra:
            found.append(f"{module} imports {', '.join(extra)}")
    return found


def described(house: House) -> str:
    """The floors from the top down, each room with its line and the rooms it imports."""
    lines = []
    for package in PACKAGES:
        lines.append(package)
        uses: dict[str, set[str]] = defaultdict(set)
        for arrow in house.arrows:
            if arrow.start.startswith(package) and arrow.end.startswith(package):
                uses[house.room(arrow.start)].add(house.room(arrow.end))
        for number, rooms in reversed(list(enumerate(FLOORS[package]))):
            for room in rooms:
                below = ", ".join(sorted(uses[room] - {room, ""})) or "nothing"
                about = " ".join(house.about(package, room).split())
                lines.append(f"  {number:2} {room}: {about}\n     on {below}")
    return "\n".join(lines)


if __name__ == "__main__":
    whole = House()
    print(described(whole))
    wrong = [*whole.unknown, *forbidden(whole, FLOORS), *map(str, circles(whole))]
    wrong += [*past_the_door(whole), *libraries(whole)]
    print("\n".join(wrong) or "All arrows lead downwards.")
    sys.exit(bool(wrong))
