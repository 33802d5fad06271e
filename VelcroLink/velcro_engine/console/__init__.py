"""What all commands share: options, the folder results go to, progress."""

__all__ = [
    "command_options",
    "output_folder",
    "progress",
    "slice_options",
]
