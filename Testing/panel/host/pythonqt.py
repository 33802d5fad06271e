"""`qt`, as PythonQt offers it to Slicer's modules, on PySide6.

PythonQt differs from PySide6 in ways that hide mistakes in a naive test:

- A Q_PROPERTY is an attribute. `label.text` is the string, so `label.text()` raises
  "'str' object is not callable"; in PySide6 `label.text = "x"` would silently add an attribute.
- `widget.connect("clicked(bool)", slot)` takes the exact C++ signature. An unknown one is ignored
  by Qt with a line in the log; here it raises, so that a test notices.
- A Qt object that was made directly (not through a Python subclass) takes no new attributes.
- `widget.children()`, `widget.name`, `widget.delete()` exist.
- A Qt object without parent and without Python reference is collected (PySide6 does that too).
"""

from __future__ import annotations

import ctypes
import sys
import types
from typing import Any

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

_QtMeta = type(QtCore.QObject)
_wrapped: dict[type, type] = {}

# Properties that are virtual methods in C++ too: Qt would call the attribute for every layout.
_VIRTUAL = {"sizeHint", "minimumSizeHint"}
# Made by Qt before any module runs, or abstract to Python: passed on as PySide6 has them.
_NOT_WRAPPED = {"QObject", "QCoreApplication", "QGuiApplication", "QApplication"}


class BoundSignals:
    """The `connect` and `disconnect` of one Qt object, with C++ signatures."""

    # C++ signatures of signals that a Python stand-in declares with other types.
    declared_signals: dict[str, str] = {}

    def _signal(self, signature: str) -> Any:
        wanted = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
        for known, attribute in self.declared_signals.items():
            if bytes(QtCore.QMetaObject.normalizedSignature(known).data()).decode() == wanted:
                return getattr(self, attribute)
        meta = self.metaObject()
        if meta.indexOfSignal(wanted) < 0:
            known = [
                bytes(meta.method(i).methodSignature().data()).decode()
                for i in range(meta.methodCount())
                if meta.method(i).methodType() == QtCore.QMetaMethod.MethodType.Signal
            ]
            raise ValueError(f"{type(self).__name__} has no signal '{signature}': {known}")
        name, arguments = wanted[:-1].split("(", 1)
        signal = getattr(self, name)
        overloads = {
            bytes(meta.method(i).methodSignature().data()).decode()
            for i in range(meta.methodCount())
            if bytes(meta.method(i).name().data()).decode() == name
        }
        try:  # clicked(bool) and clicked() are one PySide6 signal; true overloads are indexed
            return signal[arguments] if arguments and len(overloads) > 1 else signal
        except (KeyError, IndexError, TypeError):
            return signal

    def connect(self, signature: str, receiver: Any, slot: str | None = None) -> bool:
        """`connect("clicked(bool)", callable)` or `connect("clicked(bool)", object, "slot()")`."""
        if slot is not None:
            receiver = getattr(receiver, slot.split("(")[0])
        if not callable(receiver):
            raise TypeError(f"connect({signature!r}) needs something callable, not {receiver!r}")
        self._signal(signature).connect(receiver)
        return True

    def disconnect(self, signature: str | None = None, receiver: Any = None) -> bool:
        """Ends one connection, or all of a signal, or (without arguments) all of the object."""
        if signature is None:
            return QtCore.QObject.disconnect(self, None, None, None)
        signal = self._signal(signature)
        if receiver is None:
            signal.disconnect()
        else:
            signal.disconnect(receiver)
        return True


class PythonQtMeta(_QtMeta):
    """`isinstance(widget, qt.QWidget)` must accept every Qt widget, wrapped or not."""

    def __new__(mcs, name: str, bases: tuple, members: dict, **options: Any) -> type:
        # PySide looks `connect` up in a class of its own and its C++ bases, past Python bases.
        for method in ("connect", "disconnect", "_signal"):
            members.setdefault(method, getattr(BoundSignals, method))
        return super().__new__(mcs, name, bases, members, **options)

    def __instancecheck__(cls, instance: Any) -> bool:
        return _QtMeta.__instancecheck__(cls.__dict__.get("_real", cls), instance)

    def __subclasscheck__(cls, other: type) -> bool:
        return _QtMeta.__subclasscheck__(cls.__dict__.get("_real", cls), other)


def _as_attribute(name: str) -> property:
    def read(self: QtCore.QObject) -> Any:
        value = self.property(name)
        return str(value) if isinstance(value, QtCore.QByteArray) else value

    def write(self: QtCore.QObject, value: Any) -> None:
        if not self.setProperty(name, value):
            raise TypeError(f"property '{name}' of {type(self).__name__} does not take {value!r}")

    return property(read, write)


def _find_children(self: QtCore.QObject, cls: Any = QtCore.QObject, name: str | None = None):
    if isinstance(cls, str):
        cls, name = QtCore.QObject, cls
    real = cls.__dict__.get("_real", cls)
    found = self._real.findChildren(self, real)
    return [child for child in found if name is None or child.property("objectName") == name]


def _find_child(self: QtCore.QObject, *arguments: Any) -> Any:
    return next(iter(_find_children(self, *arguments)), None)


def _children(self: QtCore.QObject) -> list:
    return list(self._real.children(self))


def _delete(self: QtCore.QObject) -> None:
    self.deleteLater()


def _class_name(self: QtCore.QObject) -> str:
    return self._real.__name__


def _refuse_new_attributes(self: QtCore.QObject, name: str, value: Any) -> None:
    cls = type(self)
    if "_real" in cls.__dict__ and not hasattr(cls, name):
        raise AttributeError(
            f"Attribute '{name}' does not exist and creating new attributes on a "
            f"{cls.__name__} is not allowed"
        )
    self._real.__setattr__(self, name, value)


def wrap(real: type) -> type:
    """The PythonQt-like subclass of a PySide6 QObject class."""
    if real in _wrapped:
        return _wrapped[real]
    meta = real.staticMetaObject
    members: dict[str, Any] = {}
    for index in range(meta.propertyCount()):
        name = meta.property(index).name()
        if name not in _VIRTUAL:
            members[name] = _as_attribute(name)
    members.update(
        _real=real,
        name=_as_attribute("objectName"),
        findChildren=_find_children,
        findChild=_find_child,
        children=_children,
        delete=_delete,
        className=_class_name,
        declared_signals={},
        __setattr__=_refuse_new_attributes,
    )
    _wrapped[real] = PythonQtMeta(real.__name__, (real,), members)
    return _wrapped[real]


def emit(signal: Any, *arguments: Any) -> None:
    """Emit a signal that was declared in Python.

    PySide6 6.12 takes a reference from True with each such emit. Before Python 3.12 True can run out
    of references, which ends the process with "deallocating True or False" at its exit.
    """
    signal.emit(*arguments)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(True))


class QUiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file with wrapped widgets and the stand-ins for promoted ctk/qMRML classes."""

    registered: dict[str, type] = {}

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._kept: list[QtCore.QObject] = []

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:  # noqa: N802
        cls = self.registered.get(class_name) or getattr(qt, class_name, None)
        if cls is None:
            raise ValueError(f"The host has no stand-in for the widget class {class_name}.")
        widget = cls(parent)
        widget.setObjectName(name)
        self._kept.append(widget)
        return widget

    def createLayout(self, class_name: str, parent: Any = None, name: str = "") -> Any:  # noqa: N802
        # A nested layout is handed its parent layout; adding it is the loader's business.
        cls = getattr(qt, class_name)
        layout = cls(parent) if isinstance(parent, QtWidgets.QWidget) else cls()
        layout.setObjectName(name)
        self._kept.append(layout)
        return layout


def _build() -> types.ModuleType:
    module = types.ModuleType("qt")
    for source in (QtCore, QtGui, QtWidgets):
        for name in dir(source):
            if name.startswith("_"):
                continue
            value = getattr(source, name)
            is_object = isinstance(value, type) and issubclass(value, QtCore.QObject)
            if is_object and name not in _NOT_WRAPPED:
                value = wrap(value)
            setattr(module, name, value)
    for absent in ("Signal", "Slot", "Property"):  # declaring a signal crashes under PythonQt
        delattr(module, absent)
    module.QUiLoader = QUiLoader
    return module


qt = _build()
sys.modules["qt"] = qt
