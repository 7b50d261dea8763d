"""Puts `manifests/` (splits, protocols, asset table) into the wheel, as `iper_toolkit/manifests`.

Everything else is in pyproject.toml. Mapping the folder as a package there would break editable installs;
`iper_toolkit.assets.manifests_folder` finds it in either place.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithManifests(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "iper_toolkit" / "manifests"
            shutil.copytree(Path(__file__).parent / "manifests", target, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithManifests})
