"""qMRMLWidget and qMRMLNodeComboBox, as far as modules use them."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtWidgets

from .pythonqt import QUiLoader, emit, wrap


class qMRMLWidget(wrap(QtWidgets.QWidget)):  # noqa: N801
    """A widget that hands the scene on to the MRML widgets in it.

    In Slicer the .ui file connects `mrmlSceneChanged(vtkMRMLScene*)` to each child; PySide's loader
    does not know that signal, so the widget finds its children itself.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:  # noqa: N802
        self._scene = scene
        for child in self._real.findChildren(self, QtWidgets.QWidget):
            if hasattr(child, "setMRMLScene"):
                child.setMRMLScene(scene)

    def mrmlScene(self) -> Any:  # noqa: N802
        return self._scene


def _stop(members: dict[str, Any]) -> None:
    for tag in members["_scene_tags"]:
        members["_scene"].RemoveObserver(tag)
    for node, tag in members["_observed"].values():
        node.RemoveObserver(tag)


class qMRMLNodeComboBox(wrap(QtWidgets.QWidget)):  # noqa: N801
    """Lists the scene's nodes of the given types; follows adding, removing and renaming."""

    currentNodeChanged = QtCore.Signal(object)
    nodeActivated = QtCore.Signal(object)
    declared_signals = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
    }

    def __init__(self, *arguments: Any) -> None:
        super().__init__(arguments[-1] if arguments else None)
        self._scene: Any = None
        self._scene_tags: list[int] = []
        self._observed: dict[str, tuple[Any, int]] = {}
        self._types: list[str] = []
        self._hidden_types: list[str] = []
        self._options = {
            "noneEnabled": False,
            "addEnabled": True,
            "removeEnabled": True,
            "editEnabled": False,
            "renameEnabled": False,
            "showHidden": False,
            "showChildNodeTypes": True,
            "selectNodeUponCreation": True,
        }
        self._none_text = "None"
        self._id = ""
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._box = QtWidgets.QComboBox(self)
        self._box.setSizeAdjustPolicy(
            QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._box.setMinimumContentsLength(6)
        row.addWidget(self._box)
        self.setFocusProxy(self._box)
        self._box.currentIndexChanged.connect(self._box_changed)
        self._box.activated.connect(lambda _index: emit(self.nodeActivated, self.currentNode()))
        self._updating = False
        # C++ observers go with the widget; Python ones would call into a deleted one.
        members = self.__dict__
        self.destroyed.connect(lambda *_: _stop(members))

    # --- scene ------------------------------------------------------------------------------
    def setMRMLScene(self, scene: Any) -> None:  # noqa: N802
        if scene is self._scene:
            return
        for tag in self._scene_tags:
            self._scene.RemoveObserver(tag)
        self._scene, self._scene_tags = scene, []
        if scene is not None:
            events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndImportEvent)
            self._scene_tags = [
                scene.AddObserver(event, lambda *_: self._list_nodes())
                for event in (*events, scene.EndCloseEvent)
            ]
        self._list_nodes()

    def mrmlScene(self) -> Any:  # noqa: N802
        return self._scene

    def _matching(self) -> list[Any]:
        if self._scene is None:
            return []
        found = []
        for index in range(self._scene.GetNumberOfNodes()):
            node = self._scene.GetNthNode(index)
            kind = node.GetClassName()
            if self._options["showChildNodeTypes"]:
                right = any(node.IsA(name) for name in self._types)
            else:
                right = kind in self._types
            hidden = node.GetHideFromEditors() and not self._options["showHidden"]
            if right and not hidden and kind not in self._hidden_types:
                found.append(node)
        return found

    def _list_nodes(self) -> None:
        nodes = self._matching()
        self._updating = True
        self._box.clear()
        if self._options["noneEnabled"] or not nodes:
            self._box.addItem(self._none_text, "")
        for node in nodes:
            self._box.addItem(node.GetName() or "", node.GetID())
        self._follow_names(nodes)
        wanted = self._box.findData(self._id)
        self._box.setCurrentIndex(max(wanted, 0))
        self._updating = False
        self._box_changed()

    def _follow_names(self, nodes: list[Any]) -> None:
        present = {node.GetID(): node for node in nodes}
        for node_id in list(self._observed):
            if node_id not in present:
                node, tag = self._observed.pop(node_id)
                node.RemoveObserver(tag)
        for node_id, node in present.items():
            if node_id not in self._observed:
                self._observed[node_id] = (node, node.AddObserver("ModifiedEvent", self._renamed))

    def _renamed(self, node: Any, _event: str) -> None:
        index = self._box.findData(node.GetID())
        if index >= 0 and self._box.itemText(index) != node.GetName():
            self._box.setItemText(index, node.GetName())

    # --- selection --------------------------------------------------------------------------
    def _box_changed(self, *_: Any) -> None:
        if self._updating:
            return
        chosen = self._box.currentData() or ""
        if chosen != self._id:
            self._id = chosen
            emit(self.currentNodeChanged, self.currentNode())

    def currentNode(self) -> Any:  # noqa: N802
        return self._scene.GetNodeByID(self._id) if self._scene and self._id else None

    def setCurrentNode(self, node: Any) -> None:  # noqa: N802
        wanted = node if isinstance(node, str) else (node.GetID() if node else "")
        index = self._box.findData(wanted)
        if index < 0:
            index = 0 if self._options["noneEnabled"] else -1
        self._box.setCurrentIndex(index)
        self._box_changed()

    def setCurrentNodeID(self, node_id: str) -> None:  # noqa: N802
        self.setCurrentNode(node_id or None)

    def nodeCount(self) -> int:  # noqa: N802
        return len(self._matching())

    def addAttribute(self, _node_type: str, _name: str, _value: Any = None) -> None:  # noqa: N802
        raise NotImplementedError("The host's node combo box filters by class only.")

    # --- properties -------------------------------------------------------------------------
    def _option(name: str) -> QtCore.Property:  # noqa: N805
        def write(self: qMRMLNodeComboBox, value: bool) -> None:
            self._options[name] = bool(value)
            self._list_nodes()

        return QtCore.Property(bool, lambda self: self._options[name], write)

    noneEnabled = _option("noneEnabled")  # noqa: N815
    addEnabled = _option("addEnabled")  # noqa: N815
    removeEnabled = _option("removeEnabled")  # noqa: N815
    editEnabled = _option("editEnabled")  # noqa: N815
    renameEnabled = _option("renameEnabled")  # noqa: N815
    showHidden = _option("showHidden")  # noqa: N815
    showChildNodeTypes = _option("showChildNodeTypes")  # noqa: N815
    selectNodeUponCreation = _option("selectNodeUponCreation")  # noqa: N815

    def _set_types(self, value: Any) -> None:
        self._types = list(value)
        self._list_nodes()

    def _set_hidden_types(self, value: Any) -> None:
        self._hidden_types = list(value)
        self._list_nodes()

    def _set_none_text(self, value: str) -> None:
        self._none_text = value
        self._list_nodes()

    nodeTypes = QtCore.Property("QStringList", lambda self: self._types, _set_types)  # noqa: N815
    hideChildNodeTypes = QtCore.Property(  # noqa: N815
        "QStringList", lambda self: self._hidden_types, _set_hidden_types
    )
    noneDisplay = QtCore.Property(str, lambda self: self._none_text, _set_none_text)  # noqa: N815
    currentNodeID = QtCore.Property(str, lambda self: self._id, setCurrentNodeID)  # noqa: N815


for _cls in (qMRMLWidget, qMRMLNodeComboBox):
    QUiLoader.registered[_cls.__name__] = _cls
