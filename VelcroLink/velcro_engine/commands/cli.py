"""`velcrolink`: the engine's command line.

Each command lives in a module of its own that offers `add_arguments(subparsers)` and sets `run` as
the function to call; only the module of the command that is called is imported, so that help and
the worker start at once and need nothing of the others.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from typing import TextIO

from .. import __version__
from ..errors import VelcroError

# module -> its commands and their one-line help
COMMANDS: dict[str, dict[str, str]] = {
    "velcro_engine.commands.link": {"link": "link a region on a slice to knowledge-base entries"},
    "velcro_engine.commands.review": {"review": "check a segmentation segment by segment"},
    "velcro_engine.commands.propagate": {"propagate": "carry a region through the volume"},
    "velcro_engine.commands.demo": {
        "demo": "link five structures of a real brain and write a page"
    },
    "velcro_engine.worker": {"worker": "serve requests over stdin and stdout"},
    "velcro_engine.commands.ground": {"ground": "find a phrase on a slice"},
    "velcro_engine.commands.cases": {"cases": "keep regions and reports, find similar ones"},
    "velcro_engine.commands.knowledge_base": {"kb": "check, search, import and export entries"},
    "velcro_engine.commands.report": {"report": "read findings from radiology reports"},
    "velcro_engine.training.commands.cli": {
        "train": "train a model on your own segmentations",
        "evaluate": "measure a model on labelled cases",
        "export": "turn a trained model into a model folder",
        "calibrate": "fit a model's confidence on labelled cases",
        "compare": "put several evaluations into one table",
        "ablate": "measure the alignment objectives, one by one",
    },
}
# options whose value may begin with a minus, which argparse would take for another option
NUMERIC_OPTIONS = ("--box", "--point", "--at", "--slice-matrix")


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        print(f"{self.prog}: error: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. 0: done; 2: the user can mend it, one line on stderr says how; 130:
    interrupted; 1: a mistake of ours."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["worker"]:  # its stdout belongs to the frames from the first moment on
        from ..worker.process import main as serve

        return serve()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(
            stream, "reconfigure"
        ):  # names with accents must not end an ASCII terminal's run
            stream.reconfigure(errors="replace")
    messages = NativeMessages()
    verbose = "--verbose" in given
    try:
        args = build_parser(given[0] if given else None).parse_args(join_numeric(given))
        quiet = messages if getattr(args, "quiet_libraries", False) else contextlib.nullcontext()
        with quiet, warnings.catch_warnings():
            if not verbose:  # numpy's words about odd numbers; what matters is said by an error
                warnings.simplefilter("ignore", RuntimeWarning)
            return int(args.run(args))
    except VelcroError as error:
        return _fail(error.message, 2, f"{error.detail}\n{messages.text}" if verbose else "")
    except ModuleNotFoundError as error:
        extra = {"nilearn": "demo", "pydicom": "test", "qdrant_client": "test"}.get(
            (error.name or "").partition(".")[0], "train"
        )
        return _fail(
            f"'{error.name}' is not installed; install it with: pip install 'velcrolink[{extra}]'",
            2,
            traceback.format_exc() if verbose else "",
        )
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except MemoryError:
        return _fail("there is not enough memory; close other programs or use a smaller image.", 2)
    except BrokenPipeError:  # `velcrolink ... | head`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a name that is too long, a drive that went away
        file = "" if error.filename is None else f"'{str(error.filename)[:200]}': "
        return _fail(
            f"{file}{error.strerror or error}; check the path, the disk and the permissions.",
            2,
            traceback.format_exc() if verbose else "",
        )
    except Exception as error:
        return _fail(
            f"internal, {type(error).__name__}: {' '.join(str(error).split())}; "
            "run again with --verbose and report it.",
            1,
            traceback.format_exc() if verbose else "",
        )


def _fail(message: str, code: int, detail: str = "") -> int:
    # on a terminal, what was said of the progress gives way
    start = "\r\x1b[K" if sys.stderr.isatty() else ""
    print(f"{start}velcrolink: error: {message}", file=sys.stderr)
    if detail.strip():
        print(detail.strip(), file=sys.stderr)
    return code


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """Parser with the arguments of `command`; the others are there by name for the help."""
    parser = Parser(
        prog="velcrolink",
        description="Links a region of a medical image to a knowledge base, offline. "
        "For research and teaching, not for clinical use.",
    )
    parser.add_argument("--version", action="version", version=f"velcrolink {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for module, commands in COMMANDS.items():
        if command in commands and module != "velcro_engine.worker":
            importlib.import_module(module).add_arguments(subparsers)
        else:
            for name, text in commands.items():
                subparsers.add_parser(name, help=text)
    for sub in subparsers.choices.values():
        sub.add_argument("--verbose", action="store_true", help="say more when something fails")
    return parser


def join_numeric(arguments: Sequence[str]) -> list[str]:
    """`--box -3,4` -> `--box=-3,4`."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in NUMERIC_OPTIONS:
            joined[-1] = f"{joined[-1]}={argument}"
        else:
            joined.append(argument)
    return joined


class NativeMessages:
    """While it lasts, what C libraries print to stderr goes to a file; Python's stderr stays.

    libpng, MetaIO and others print on their own; on stderr belongs our one line. `text` holds what
    they said once it is over.
    """

    def __init__(self) -> None:
        self.text = ""
        self._stderr: TextIO = sys.stderr
        self._kept: int | None = None

    def __enter__(self) -> NativeMessages:
        try:
            descriptor = self._stderr.fileno()
        except (OSError, ValueError, AttributeError):
            return self  # no real stderr: a GUI, or a test that captures it
        self._aside = tempfile.TemporaryFile()
        self._stderr.flush()
        self._kept = os.dup(descriptor)
        os.dup2(self._aside.fileno(), descriptor)
        sys.stderr = os.fdopen(os.dup(self._kept), "w", encoding="utf-8", errors="replace")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._kept is None:
            return
        sys.stderr.close()
        sys.stderr = self._stderr
        os.dup2(self._kept, self._stderr.fileno())
        os.close(self._kept)
        with self._aside as aside:
            aside.seek(0)
            self.text = aside.read().decode("utf-8", "replace")


if __name__ == "__main__":
    sys.exit(main())
