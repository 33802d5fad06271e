"""Every option of every command says what it is, in which unit, and what holds without it."""

import argparse
from collections.abc import Iterator

import pytest

from velcro_engine.commands import cli

COMMANDS = [name for commands in cli.COMMANDS.values() for name in commands]
UNITS = {"at": "mm", "step_mm": "mm", "box": "mm", "point": "mm", "slice_matrix": "mm"}


def parsers(parser: argparse.ArgumentParser, path: str) -> Iterator[tuple[str, argparse.Action]]:
    """(path of names, option) of a parser and of all parsers below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield from parsers(sub, f"{path} {name}")
        elif not isinstance(action, (argparse._HelpAction, argparse._VersionAction)):
            yield path, action


def options(command: str) -> list[tuple[str, argparse.Action]]:
    whole = cli.build_parser(command)
    subparsers = next(a for a in whole._actions if isinstance(a, argparse._SubParsersAction))
    return list(parsers(subparsers.choices[command], command))


def name_of(path: str, action: argparse.Action) -> str:
    return f"{path} {(action.option_strings or [action.dest])[-1]}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_help_text(command):
    found = options(command)
    assert found, command
    silent = [name_of(*one) for one in found if not (one[1].help or "").strip()]
    assert silent == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_default_is_named_in_the_help_text(command):
    untold = []
    for path, action in options(command):
        default = action.default
        if default is None or isinstance(default, bool) or default in ("", [], argparse.SUPPRESS):
            continue
        told = f"{default:g}" if isinstance(default, float) else str(default)
        if f"({told})" not in (action.help or ""):
            untold.append(f"{name_of(path, action)}: {told}")
    assert untold == []


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_a_length_or_a_position_says_mm(command):
    wrong = [
        name_of(path, action)
        for path, action in options(command)
        if UNITS.get(action.dest, "") not in (action.help or "")
    ]
    assert wrong == []


def test_help_of_a_number_out_of_reach_names_the_option_and_the_reach(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["link", "a.nrrd", "--point", "1,2,3", "--out", "o", "--top", "0"])
    error = capsys.readouterr().err
    assert left.value.code == 2 and error.count("\n") == 1
    assert "--top" in error and "0 is less than 1" in error
