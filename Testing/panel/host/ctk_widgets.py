"""The CTK widgets that the panel uses, with CTK's properties, signals and keyboard behaviour."""

from __future__ import annotations

import sys
import types
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from .pythonqt import QUiLoader, emit, qt, wrap


class ctkCollapsibleButton(wrap(QtWidgets.QAbstractButton)):  # noqa: N801
    """A checkable button that shows and hides the widgets laid out below its title."""

    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        title = arguments[0] if arguments and isinstance(arguments[0], str) else ""
        parent = arguments[-1] if arguments and not isinstance(arguments[-1], str) else None
        super().__init__(parent)
        self._collapsed = False
        self._hidden_by_collapse: list = []
        self.setCheckable(True)
        self.setChecked(True)
        self.setText(title)
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(
            QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Preferred
        )
        self.toggled.connect(lambda checked: self._collapse(not checked))
        self._fit_title()

    def _title_height(self) -> int:
        return self.fontMetrics().height() + 8

    def _fit_title(self) -> None:
        self.setContentsMargins(0, self._title_height(), 0, 0)

    def _collapse(self, collapse: bool) -> None:
        if collapse == self._collapsed:
            return
        self._collapsed = collapse
        if collapse:
            widgets = [c for c in self.children() if isinstance(c, QtWidgets.QWidget)]
            self._hidden_by_collapse = [w for w in widgets if not w.isHidden()]
            for widget in self._hidden_by_collapse:
                widget.setVisible(False)
        else:
            for widget in self._hidden_by_collapse:
                widget.setVisible(True)
        self.setMaximumHeight(self._title_height() if collapse else 16777215)
        self.setChecked(not collapse)
        self.updateGeometry()
        self.update()
        emit(self.contentsCollapsed, collapse)

    def showEvent(self, _event: Any) -> None:  # noqa: N802
        if self._collapsed:  # a .ui file sets the property before it adds the children
            self._collapsed = False
            self._collapse(True)

    collapsed = QtCore.Property(
        bool, lambda self: self._collapsed, lambda self, value: self._collapse(bool(value))
    )

    def sizeHint(self) -> QtCore.QSize:  # noqa: N802
        title = QtCore.QSize(
            self.fontMetrics().horizontalAdvance(self.text) + 30, self._title_height()
        )
        layout = self.layout()
        if layout is None or self._collapsed:
            return title
        return layout.sizeHint().expandedTo(title)

    def minimumSizeHint(self) -> QtCore.QSize:  # noqa: N802
        layout = self.layout()
        if layout is None or self._collapsed:
            return QtCore.QSize(30, self._title_height())
        return layout.minimumSize()

    def hitButton(self, position: QtCore.QPoint) -> bool:  # noqa: N802
        return position.y() < self._title_height()

    def paintEvent(self, _event: Any) -> None:  # noqa: N802
        painter = QtGui.QPainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, QtWidgets.QWidget.width(self), self._title_height())
        option.state |= (
            QtWidgets.QStyle.StateFlag.State_Sunken
            if self.isDown()
            else QtWidgets.QStyle.StateFlag.State_Raised
        )
        self.style().drawControl(
            QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option, painter, self
        )
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(6, (self._title_height() - 10) // 2, 10, 10)
        self.style().drawPrimitive(
            QtWidgets.QStyle.PrimitiveElement.PE_IndicatorArrowRight
            if self._collapsed
            else QtWidgets.QStyle.PrimitiveElement.PE_IndicatorArrowDown,
            arrow,
            painter,
            self,
        )
        painter.drawText(
            option.rect.adjusted(22, 0, 0, 0),
            QtCore.Qt.AlignmentFlag.AlignVCenter | QtCore.Qt.AlignmentFlag.AlignLeft,
            self.text,
        )
        if self.hasFocus():
            focus = QtWidgets.QStyleOptionFocusRect()
            focus.initFrom(self)
            focus.rect = option.rect.adjusted(2, 2, -2, -2)
            self.style().drawPrimitive(
                QtWidgets.QStyle.PrimitiveElement.PE_FrameFocusRect, focus, painter, self
            )
        painter.end()


class ctkPathLineEdit(wrap(QtWidgets.QWidget)):  # noqa: N801
    """A line for a path with a browse button."""

    Files, Dirs = 0x2, 0x1  # QDir filters, as in CTK
    currentPathChanged = QtCore.Signal(str)
    validInputChanged = QtCore.Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(arguments[-1] if arguments else None)
        self._filters = 0
        self._name_filters: list[str] = []
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        self._line = QtWidgets.QLineEdit(self)
        self._browse = QtWidgets.QToolButton(self)
        self._browse.setText("...")
        row.addWidget(self._line, 1)
        row.addWidget(self._browse)
        self.setFocusProxy(self._line)
        self._line.textChanged.connect(lambda path: emit(self.currentPathChanged, path))

    def _set_filters(self, value: Any) -> None:
        self._filters = value

    def _set_name_filters(self, value: Any) -> None:
        self._name_filters = list(value)

    currentPath = QtCore.Property(  # noqa: N815
        str, lambda self: self._line.text(), lambda self, value: self._line.setText(value or "")
    )
    filters = QtCore.Property(int, lambda self: self._filters, _set_filters)
    nameFilters = QtCore.Property(  # noqa: N815
        "QStringList", lambda self: self._name_filters, _set_name_filters
    )


class ctkSliderWidget(wrap(QtWidgets.QWidget)):  # noqa: N801
    """A slider and a spin box with one value."""

    valueChanged = QtCore.Signal(float)
    _STEPS = 1000

    def __init__(self, *arguments: Any) -> None:
        super().__init__(arguments[-1] if arguments else None)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal, self)
        self._slider.setRange(0, self._STEPS)
        self._spin = QtWidgets.QDoubleSpinBox(self)
        row.addWidget(self._slider, 1)
        row.addWidget(self._spin)
        self.setFocusProxy(self._spin)
        self._spin.valueChanged.connect(self._spin_moved)
        self._slider.valueChanged.connect(self._slider_moved)

    def _spin_moved(self, value: float) -> None:
        span = self._spin.maximum() - self._spin.minimum()
        blocked = self._slider.blockSignals(True)
        self._slider.setValue(round((value - self._spin.minimum()) / (span or 1) * self._STEPS))
        self._slider.blockSignals(blocked)
        emit(self.valueChanged, value)

    def _slider_moved(self, position: int) -> None:
        span = self._spin.maximum() - self._spin.minimum()
        self._spin.setValue(self._spin.minimum() + position / self._STEPS * span)

    def setRange(self, low: float, high: float) -> None:  # noqa: N802
        self._spin.setRange(low, high)
        self._spin_moved(self._spin.value())

    value = QtCore.Property(
        float, lambda self: self._spin.value(), lambda self, value: self._spin.setValue(value)
    )
    minimum = QtCore.Property(
        float, lambda self: self._spin.minimum(), lambda self, value: self._spin.setMinimum(value)
    )
    maximum = QtCore.Property(
        float, lambda self: self._spin.maximum(), lambda self, value: self._spin.setMaximum(value)
    )
    singleStep = QtCore.Property(  # noqa: N815
        float,
        lambda self: self._spin.singleStep(),
        lambda self, value: self._spin.setSingleStep(value),
    )
    decimals = QtCore.Property(
        int, lambda self: self._spin.decimals(), lambda self, value: self._spin.setDecimals(value)
    )
    suffix = QtCore.Property(
        str, lambda self: self._spin.suffix(), lambda self, value: self._spin.setSuffix(value)
    )


class _CtkModule(types.ModuleType):
    """`ctk`. Classes that only Slicer's own code names (parameterNodeWrapper compares widget types
    with many of them) are made on demand as empty widgets; the panel's own are above."""

    def __getattr__(self, name: str) -> type:
        if not name.startswith("ctk"):
            raise AttributeError(name)
        cls = type(wrap(QtWidgets.QWidget))(name, (wrap(QtWidgets.QWidget),), {})
        setattr(self, name, cls)
        return cls


ctk = _CtkModule("ctk")
for _cls in (ctkCollapsibleButton, ctkPathLineEdit, ctkSliderWidget):
    setattr(ctk, _cls.__name__, _cls)
    QUiLoader.registered[_cls.__name__] = _cls
sys.modules["ctk"] = ctk

__all__ = ["ctk", "qt"]
