"""The house: every file in a room, every arrow downwards, no circle, every room entered by its door."""

import pytest

from house import (
    FLOORS,
    PACKAGES,
    House,
    circles,
    described,
    forbidden,
    libraries,
    past_the_door,
    rank,
)

ROOM = {"velcro_engine": [["low"], ["high"]], "VelcroLinkLib": [["scene"]]}


@pytest.fixture(scope="module")
def house():
    return House()


def made(tmp_path, files):
    """A house of a few files; `files`: path -> text."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return House(tmp_path)


def test_every_file_lies_in_a_room_that_has_a_floor(house):
    for package in PACKAGES:
        beside = sorted(path.name for path in (house.source / package).glob("*.py"))
        assert beside == FLOORS["files outside a room"][package]
        rooms = {house.room(name) for name in house.files if name.startswith(package + ".")}
        assert rooms - {"training"} == set(rank(FLOORS[package]))


def test_folders_import_only_folders_below_them(house):
    print(described(house))
    assert house.unknown == []
    assert forbidden(house, FLOORS) == []


def test_no_modules_import_each_other(house):
    assert circles(house) == []


def test_rooms_are_entered_by_their_doors(house):
    assert past_the_door(house) == []


def test_doors_offer_what_is_there(house):
    for name in house.files:
        if house.is_package(name):
            assert [offered for offered in house.door(name) if not house.has(name, offered)] == []


def test_every_room_says_what_it_is(house):
    for package in PACKAGES:
        for room in rank(FLOORS[package]):
            assert house.about(package, room), room


def test_the_picture_of_the_house_names_every_room(house):
    text = (house.source.parent / "Resources" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for package in PACKAGES:
        for room in rank(FLOORS[package]):
            shown = (
                f"{room.replace('.', '/')}{'/' if house.is_package(f'{package}.{room}') else '.py'}"
            )
            assert f"`{shown}`" in text, shown


def test_no_library_is_imported_where_it_may_be_missing(house):
    """The Slicer side and the installed engine have few packages; torch is for making models."""
    assert libraries(house) == []


def test_what_a_text_names_is_imported_in_few_places(house):
    """Elsewhere such an import would be an arrow that nobody sees."""
    assert house.by_name == set(FLOORS["import by name"])


def test_nothing_lies_beside_the_module_and_its_packages(house):
    built = ("__pycache__", "velcrolink.egg-info")
    names = {path.name for path in house.source.iterdir() if path.name not in built}
    assert names == {"CMakeLists.txt", "Resources", "VelcroLink.py", *PACKAGES}


def test_an_arrow_upwards_is_found_wherever_it_stands(tmp_path):
    house = made(
        tmp_path,
        {
            "velcro_engine/low/__init__.py": "",
            "velcro_engine/low/a.py": "def f():\n    from ..high.b import g\n",
            "velcro_engine/low/c.py": "if TYPE_CHECKING:\n    from ..high import b\n",
            "velcro_engine/low/d.py": "LATER = 'velcro_engine.high.b:g'\n",
            "velcro_engine/high/__init__.py": "__all__ = ['b']\n",
            "velcro_engine/high/b.py": "import velcro_engine.low.a\ng = 1\n",
            "VelcroLinkLib/scene/x.py": "from velcro_engine.low import a\n",
        },
    )
    found = forbidden(house, ROOM)
    assert len(found) == 4, found
    assert found[0].startswith("velcro_engine.low.a:2 imports velcro_engine.high.b g")
    assert "between the two sides" in found[3]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("VelcroLinkLib/scene/x.py", "import velcro_engine\nvelcro_engine.low.a.f()\n"),
        ("VelcroLinkLib/scene/x.py", "from velcro_engine import low\n"),
        ("VelcroLinkLib/scene/x.py", "from velcro_engine import worker\n"),
        ("VelcroLinkLib/scene/x.py", "import velcro_engine.worker.process\n"),
        ("VelcroLink.py", "def f():\n    import velcro_engine.low.a\n"),
        ("VelcroLink.py", "import VelcroLinkLib\n"),
        ("velcro_engine/low/b.py", "import velcro_engine\n"),
        ("velcro_engine/low/b.py", "import VelcroLinkLib.scene\n"),
        ("velcro_engine/low/b.py", "LATER = 'velcro_engine.high.c:Door.open'\n"),
    ],
)
def test_ways_around_are_found(tmp_path, file, text):
    names = ("__init__", "low/__init__", "low/a", "high/__init__", "high/c", "worker/__init__")
    files = {f"velcro_engine/{name}.py": "" for name in (*names, "worker/process")}
    files |= {"VelcroLinkLib/__init__.py": "", "VelcroLinkLib/scene/__init__.py": "", file: text}
    floors = {**ROOM, "velcro_engine": [*ROOM["velcro_engine"], ["worker"]]}
    assert len(forbidden(made(tmp_path, files), floors)) == 1


def test_the_worker_may_be_named(tmp_path):
    files = {
        "velcro_engine/worker/__init__.py": "",
        "VelcroLinkLib/scene/x.py": "NAME = 'velcro_engine.worker'\n",
    }
    assert forbidden(made(tmp_path, files), ROOM) == []


def test_libraries_and_imports_by_name_are_found(tmp_path):
    files = {
        "velcro_engine/errors.py": "import numpy\n",
        "velcro_engine/linking/a.py": "import numpy\nfrom safetensors import b\n",
        "velcro_engine/model/a.py": "import torch\n__import__(name)\n",
        "VelcroLink.py": "import SimpleITK, os\nfrom importlib import import_module\nimport_module(x)\n",
    }
    house = made(tmp_path, files)
    assert sorted(libraries(house)) == [
        "VelcroLink imports SimpleITK",
        "velcro_engine.errors imports numpy",
        "velcro_engine.linking.a imports safetensors",
    ]
    assert house.by_name == {"VelcroLink", "velcro_engine.model.a"}


def test_rooms_of_one_floor_do_not_know_each_other(tmp_path):
    files = {
        "velcro_engine/low/a.py": "from ..high import b\n",
        "velcro_engine/high/b.py": "",
    }
    floors = {"velcro_engine": [["low", "high"]], "VelcroLinkLib": []}
    assert len(forbidden(made(tmp_path, files), floors)) == 1


def test_a_circle_is_found_through_a_third_module(tmp_path):
    files = {
        "velcro_engine/low/a.py": "from .b import f\n",
        "velcro_engine/low/b.py": "LATER = 'velcro_engine.low.c'\n",
        "velcro_engine/low/c.py": "def g():\n    from . import a\n",
    }
    names = [f"velcro_engine.low.{n}" for n in "abc"]
    assert circles(made(tmp_path, files)) == [names]


def test_what_a_room_does_not_offer_is_told(tmp_path):
    files = {
        "velcro_engine/low/__init__.py": "__all__ = ['a']\n",
        "velcro_engine/low/a.py": "",
        "velcro_engine/low/b.py": "from .a import f\n",
        "velcro_engine/high/c.py": "from ..low.b import g\nfrom ..low import a\n",
    }
    found = past_the_door(made(tmp_path, files))
    assert len(found) == 1 and "does not offer 'b'" in found[0]


def test_an_import_of_what_is_not_there_is_told(tmp_path):
    house = made(tmp_path, {"velcro_engine/low/a.py": "from .gone import f\n"})
    assert house.unknown == [
        "velcro_engine.low.a:1 imports velcro_engine.low.gone, which is not there"
    ]
