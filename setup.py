"""Which folders become the package; everything else is in pyproject.toml.

The bundled files lie in Resources, where a 3D Slicer extension needs them, and become a part of the
package in a wheel (velcro_engine/resources.py finds both).
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages("VelcroLink", include=["velcro_engine*"]), "velcro_engine.Resources"],
    package_dir={"": "VelcroLink", "velcro_engine.Resources": "Resources"},
)
