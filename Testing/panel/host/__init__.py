"""A stand-in for the 3D Slicer application, good enough to run a scripted module in a test.

3D Slicer's window cannot be installed on the build machines; its MRML core can (PyPI `slicer-core`).
This package adds what is missing around that core:

pythonqt          `qt` as PythonQt offers it, on PySide6
ctk_widgets       the CTK widgets that the panel uses
mrml_widgets      qMRMLWidget, qMRMLNodeComboBox
scripted_module   ScriptedLoadableModule and its relatives
parameter_node    parameterNodeWrapper
packaging         slicer.packaging
slice_view        slice views rendered off screen, with the mouse
application       slicer.app, slicer.modules, the main window; `Application` starts everything

Everything follows Slicer's documented behaviour and is stricter where Slicer lets a mistake pass
in silence (an unknown signal, a new attribute on a Qt object). Set VELCROLINK_SLICER_PYTHON to the
folder Base/Python/slicer of a Slicer checkout to run the same tests on Slicer's own
ScriptedLoadableModule.py and parameterNodeWrapper instead of the stand-ins.
"""
