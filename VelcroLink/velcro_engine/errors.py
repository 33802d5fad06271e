"""The exceptions of the engine. Every message is one line that says what to do about it."""


class VelcroError(Exception):
    """Base of all expected failures; `kind` names it across the process boundary."""

    kind = "error"

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class InputError(VelcroError):
    """A file or argument given by the user cannot be used."""

    kind = "input"


class GeometryError(VelcroError):
    """A plane or region of interest does not meet the image."""

    kind = "geometry"


class ModelError(VelcroError):
    """Model files are missing, damaged or of another version."""

    kind = "model"


class KnowledgeBaseError(VelcroError):
    """Knowledge-base files are missing, damaged or contradict themselves."""

    kind = "knowledge_base"


class ProtocolError(VelcroError):
    """A frame between panel and worker is damaged or not understood."""

    kind = "protocol"


class Cancelled(VelcroError):
    """The user, or a newer request, cancelled the work. Not a failure."""

    kind = "cancelled"


KINDS: dict[str, type[VelcroError]] = {
    cls.kind: cls
    for cls in (
        VelcroError,
        InputError,
        GeometryError,
        ModelError,
        KnowledgeBaseError,
        ProtocolError,
        Cancelled,
    )
}
