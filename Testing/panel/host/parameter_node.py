"""`slicer.parameterNodeWrapper`: a typed view of a vtkMRMLScriptedModuleNode, bound to widgets.

Documented behaviour that modules rely on, for the types str, int, float, bool and MRML nodes:
class attributes or `Default(...)` give defaults, which are written to the node when the wrapper is
made; reading and writing goes through the node, so everything is saved with the scene; `connectGui`
binds widgets by their dynamic property "SlicerParameterName" in both directions; `WithinRange`
refuses values outside and sets the range of a slider.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import Any

import slicer

from .ctk_widgets import ctk
from .mrml_widgets import qMRMLNodeComboBox
from .pythonqt import qt


@dataclass(frozen=True)
class Default:
    value: Any


@dataclass(frozen=True)
class WithinRange:
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Choice:
    choices: tuple


class _Parameter:
    """One typed entry of the node."""

    def __init__(self, name: str, annotation: Any, default: Any) -> None:
        arguments = typing.get_args(annotation) if hasattr(annotation, "__metadata__") else ()
        self.name = name
        self.annotation = annotation
        self.type = arguments[0] if arguments else annotation
        self.range = next((a for a in arguments[1:] if isinstance(a, WithinRange)), None)
        self.choice = next((a for a in arguments[1:] if isinstance(a, Choice)), None)
        given = next((a.value for a in arguments[1:] if isinstance(a, Default)), None)
        self.isNode = isinstance(self.type, type) and issubclass(self.type, slicer.vtkMRMLNode)
        if not self.isNode and self.type not in (str, int, float, bool):
            raise TypeError(f"The host's parameterNodeWrapper does not know {annotation}.")
        empty = {str: "", int: 0, float: 0.0, bool: False}
        self.default = (
            default if default is not None else given if given is not None else empty.get(self.type)
        )

    def check(self, value: Any) -> None:
        accepted = (int, float) if self.type is float else self.type
        if value is None and self.isNode:
            return
        if not isinstance(value, accepted):
            raise TypeError(f"{self.name} takes {self.type.__name__}, not {value!r}")
        if self.range and not self.range.minimum <= value <= self.range.maximum:
            raise ValueError(f"{self.name}: {value} is not within {self.range}")
        if self.choice and value not in self.choice.choices:
            raise ValueError(f"{self.name}: {value!r} is not one of {self.choice.choices}")

    def write(self, node: Any, value: Any) -> None:
        self.check(value)
        if self.isNode:
            node.SetParameter(self.name, "")
            node.SetNodeReferenceID(self.name, value.GetID() if value else None)
        else:
            node.SetParameter(self.name, str(value))

    def read(self, node: Any) -> Any:
        if self.isNode:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        return text == "True" if self.type is bool else self.type(text)


def _connection(widget: Any, parameter: _Parameter) -> tuple[Any, Any, Any]:
    """(signal, read function, write function) of a widget for a parameter."""
    kind = type(widget)
    if parameter.isNode and kind is qMRMLNodeComboBox:
        widget.nodeTypes = [parameter.type.__name__]
        return widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode
    if parameter.type is bool and kind is qt.QCheckBox:
        return widget.stateChanged, lambda: widget.checked, widget.setChecked
    if parameter.type is bool and kind is qt.QPushButton and widget.checkable:
        return widget.toggled, lambda: widget.checked, widget.setChecked
    if parameter.type is float and kind in (ctk.ctkSliderWidget, qt.QDoubleSpinBox):
        if parameter.range:
            widget.setRange(parameter.range.minimum, parameter.range.maximum)
        elif kind is ctk.ctkSliderWidget:
            raise RuntimeError("Cannot connect an unbounded float to a ctkSliderWidget.")
        return widget.valueChanged, lambda: widget.value, lambda v: setattr(widget, "value", v)
    if parameter.type is int and kind is qt.QSpinBox:
        return widget.valueChanged, lambda: widget.value, widget.setValue
    if parameter.type is str and kind is qt.QLineEdit:
        return widget.textChanged, lambda: widget.text, widget.setText
    if parameter.type is str and kind is qt.QComboBox:
        return widget.currentTextChanged, lambda: widget.currentText, widget.setCurrentText
    raise RuntimeError(
        f"Unable to create GUI connector from datatype '{parameter.annotation}' to widget type "
        f"'{kind}'."
    )


class _Wrapper:
    """Members added to a decorated class."""

    allParameters: dict[str, _Parameter]

    def __init__(self, parameterNode: Any) -> None:  # noqa: N803
        self.parameterNode = parameterNode
        self._guis: dict[int, tuple[int, list]] = {}
        self._next_tag = 0
        self._from_node = False
        for parameter in self.allParameters.values():
            if not parameterNode.HasParameter(parameter.name):
                parameter.write(parameterNode, parameter.default)

    def connectGui(self, gui: Any) -> int:  # noqa: N802
        widgets = (
            gui.findChildren(qt.QWidget)
            if isinstance(gui, qt.QWidget)
            else list(gui.__dict__.values())
        )
        links = []
        for widget in widgets:
            name = widget.property("SlicerParameterName")
            if not name:
                continue
            parameter = self.allParameters[name]
            signal, read, write = _connection(widget, parameter)
            write(parameter.read(self.parameterNode))

            def changed(*_: Any, name: str = name, read: Any = read) -> None:
                if not self._from_node:
                    setattr(self, name, read())

            signal.connect(changed)
            links.append((name, signal, changed, write))
        tag = self._next_tag
        self._next_tag += 1
        observer = self.parameterNode.AddObserver("ModifiedEvent", self._update_gui)
        self._guis[tag] = (observer, links)
        return tag

    def disconnectGui(self, tag: int) -> None:  # noqa: N802
        if tag not in self._guis:
            return
        observer, links = self._guis.pop(tag)
        self.parameterNode.RemoveObserver(observer)
        for _name, signal, changed, _write in links:
            signal.disconnect(changed)

    def _update_gui(self, *_: Any) -> None:
        if self._from_node:
            return
        self._from_node = True
        try:
            for _observer, links in list(self._guis.values()):
                for name, _signal, _changed, write in links:
                    write(getattr(self, name))
        finally:
            self._from_node = False

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:  # noqa: N802
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:  # noqa: N802
        self.parameterNode.RemoveObserver(tag)

    def StartModify(self) -> int:  # noqa: N802
        return self.parameterNode.StartModify()

    def EndModify(self, was: int) -> None:  # noqa: N802
        self.parameterNode.EndModify(was)

    def Modified(self) -> None:  # noqa: N802
        self.parameterNode.Modified()

    def getValue(self, name: str) -> Any:  # noqa: N802
        return getattr(self, name)

    def setValue(self, name: str, value: Any) -> None:  # noqa: N802
        setattr(self, name, value)


def parameterNodeWrapper(cls: type | None = None) -> Any:  # noqa: N802
    """Class decorator."""
    if cls is None:
        return parameterNodeWrapper
    parameters: dict[str, _Parameter] = {}
    for name, annotation in typing.get_type_hints(cls, include_extras=True).items():
        parameter = _Parameter(name, annotation, getattr(cls, name, None))
        parameters[name] = parameter
        setattr(
            cls,
            name,
            property(
                lambda self, p=parameter: p.read(self.parameterNode),
                lambda self, value, p=parameter: p.write(self.parameterNode, value),
            ),
        )
    for name in (*(n for n in vars(_Wrapper) if not n.startswith("__")), "__init__"):
        setattr(cls, name, getattr(_Wrapper, name, None))
    cls.allParameters = parameters
    cls._is_parameter_node_wrapper = True
    return cls


def as_module() -> types.ModuleType:
    """What `from slicer.parameterNodeWrapper import ...` finds."""
    module = types.ModuleType("slicer.parameterNodeWrapper")
    for value in (parameterNodeWrapper, Default, WithinRange, Choice):
        setattr(module, value.__name__, value)
    return module
