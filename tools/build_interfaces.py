# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Generate the ROS messages for pip users: build evict3r_ros.msg and tf2_msgs, pack wheels, install them.

    python tools/build_interfaces.py

works on the environment of the Python that runs it, which needs the extras `ros` and `interfaces` of
setup.py, g++ and Python.h. The messages become wheels (evict3r_ros-interfaces, tf2_msgs-interfaces), because
what is put into an environment behind pip's back is lost or doubled at pip's next run. On a robot neither is
needed: colcon makes the first, and tf2_msgs comes with ROS.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PREFIX = Path(sys.prefix)
# package -> the folder with its msg/
PACKAGES = {'tf2_msgs': ROOT / 'tools' / 'tf2_msgs', 'evict3r_ros': ROOT}

CMAKE_LISTS = """\
cmake_minimum_required(VERSION 3.22)
project({package})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
{find_packages}
rosidl_generate_interfaces(${{PROJECT_NAME}} {messages} DEPENDENCIES {dependencies})
ament_export_dependencies(rosidl_default_runtime)
ament_package()
"""

PACKAGE_XML = """\
<?xml version="1.0"?>
<package format="3">
  <name>{package}</name>
  <version>{version}</version>
  <description>Messages of {package}</description>
  <maintainer email="maintainers@evict3r-ros.dev">the evict3r_ros authors</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <build_depend>rosidl_default_generators</build_depend>
  {depends}
  <exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""


class BuildError(RuntimeError):
    """The messages could not be built; the text says which command failed and what it said."""


def version() -> str:
    """Return the version of evict3r_ros, which the wheels carry too."""
    init = (ROOT / 'evict3r_ros' / '__init__.py').read_text()
    return re.search(r"^__version__ = '(.+)'$", init, re.M).group(1)


def dependencies(definition: str) -> set[str]:
    """Return the packages that a message definition names: of `std_msgs/Header header`, std_msgs."""
    return set(re.findall(r'^\s*(\w+)/\w+', definition, re.M))


def repair_exports() -> int:
    """Point the ROS wheels' CMake exports at this environment's headers; return how many files changed.

    The wheels name the include folders of the machine that built them, and CMake refuses to link against a
    target with an include folder that does not exist.
    """
    import numpy

    changed = 0
    for export in sorted(PREFIX.glob('share/*/cmake/*__rosidl_generator_pyExport.cmake')):
        text = export.read_text()
        right = re.sub(r'[^";]*/numpy/(?:_core|core)/include', lambda _: numpy.get_include(), text)
        right = re.sub(r'[^";]*/include/python3\.\d+', lambda _: sysconfig.get_path('include'), right)
        if right != text:
            fresh = export.with_suffix('.new')
            fresh.write_text(right)
            os.replace(fresh, export)
            changed += 1
    return changed


def call(command: list[str], environment: dict[str, str]) -> None:
    """Run a command quietly; raise BuildError with its last words if it fails."""
    done = subprocess.run(
        command, env=environment, text=True, errors='replace', stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        tail = '\n'.join(done.stdout.splitlines()[-40:])
        raise BuildError(f'{" ".join(command)} failed with exit code {done.returncode}:\n{tail}')


def build(package: str, source: Path, work: Path) -> Path:
    """Generate, compile and install the messages of one package into a staging folder; return that folder."""
    messages = sorted((source / 'msg').glob('*.msg'))
    if not messages:
        raise BuildError(f'{source / "msg"} holds no .msg file')
    needs = sorted(set().union(*(dependencies(message.read_text()) for message in messages)) - {package})
    project, stage = work / package, work / f'{package}-stage'
    (project / 'msg').mkdir(parents=True)
    for message in messages:
        (project / 'msg' / message.name).write_bytes(message.read_bytes())
    (project / 'CMakeLists.txt').write_text(
        CMAKE_LISTS.format(
            package=package,
            find_packages='\n'.join(f'find_package({name} REQUIRED)' for name in needs),
            messages=' '.join(f'"msg/{message.name}"' for message in messages),
            dependencies=' '.join(needs),
        )
    )
    (project / 'package.xml').write_text(
        PACKAGE_XML.format(
            package=package, version=version(), depends='\n  '.join(f'<depend>{name}</depend>' for name in needs)
        )
    )
    environment = dict(os.environ)
    environment['PATH'] = f'{PREFIX / "bin"}{os.pathsep}{environment.get("PATH", os.defpath)}'
    environment['AMENT_PREFIX_PATH'] = environment['CMAKE_PREFIX_PATH'] = str(PREFIX)
    cmake = str(PREFIX / 'bin' / 'cmake')
    call(
        [
            cmake,
            '-G',
            'Ninja',
            '-S',
            str(project),
            '-B',
            str(work / f'{package}-build'),
            f'-DCMAKE_INSTALL_PREFIX={stage}',
            '-DCMAKE_BUILD_TYPE=Release',
            '-DBUILD_TESTING=OFF',
            f'-DPython3_EXECUTABLE={sys.executable}',
        ],
        environment,
    )
    call([cmake, '--build', str(work / f'{package}-build'), '--target', 'install'], environment)
    return stage


def wheel_members(package: str, stage: Path, data: str) -> dict[str, Path]:
    """Map the staged files to their names in the wheel: Python at its root, the rest in its data folder."""
    site = next(stage.rglob(f'*-packages/{package}')).parent
    # Our own __init__.py stands for both; two owners of one file would fight over it at every uninstall.
    not_ours = {site / package / '__init__.py'} if (ROOT / package / '__init__.py').exists() else set()
    members = {}
    for path in sorted(stage.rglob('*')):
        unwanted = '__pycache__' in path.parts or any(part.endswith('.egg-info') for part in path.parts)
        if path.is_dir() or unwanted or path in not_ours:
            continue
        if path.is_relative_to(site):
            members[path.relative_to(site).as_posix()] = path
        else:
            members[Path(data, 'data', path.relative_to(stage)).as_posix()] = path
    return members


def pack(package: str, stage: Path, folder: Path) -> Path:
    """Write the staged files as a wheel into folder, and return its path."""
    name = f'{package}_interfaces-{version()}'
    python = f'cp{sys.version_info.major}{sys.version_info.minor}'
    tag = f'{python}-{python}-linux_{platform.machine()}'
    contents = {
        inside: (path.read_bytes(), path.stat().st_mode & 0o777)
        for inside, path in wheel_members(package, stage, f'{name}.data').items()
    }
    metadata = (
        f'Metadata-Version: 2.1\nName: {package}-interfaces\nVersion: {version()}\n'
        f'Summary: Generated ROS messages of {package}\nLicense: Apache-2.0\n'
    )
    wheel = f'Wheel-Version: 1.0\nGenerator: evict3r_ros\nRoot-Is-Purelib: false\nTag: {tag}\n'
    contents[f'{name}.dist-info/METADATA'] = (metadata.encode(), 0o644)
    contents[f'{name}.dist-info/WHEEL'] = (wheel.encode(), 0o644)
    record = ''
    for inside, (content, _) in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b'=').decode()
        record += f'{inside},sha256={digest},{len(content)}\n'
    record += f'{name}.dist-info/RECORD,,\n'
    contents[f'{name}.dist-info/RECORD'] = (record.encode(), 0o644)
    path = folder / f'{name}-{tag}.whl'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for inside, (content, mode) in contents.items():
            entry = zipfile.ZipInfo(inside)
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return path


def main() -> int:
    """Build and install all packages; return the exit code."""
    try:
        repair_exports()
        with tempfile.TemporaryDirectory(prefix='evict3r-interfaces-') as folder:
            work = Path(folder)
            wheels = []
            for package, source in PACKAGES.items():
                print(f'building the messages of {package}', flush=True)
                wheels.append(str(pack(package, build(package, source, work), work)))
            pip = [sys.executable, '-m', 'pip', 'install', '--no-index', '--no-deps', '--force-reinstall']
            call([*pip, *wheels], dict(os.environ))
    except BuildError as error:
        print(f'evict3r setup: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
