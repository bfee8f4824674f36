# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Say what `make setup` needs and this machine lacks: one line each, with what to install.

Written so that an old Python 3 can run it too, and say that it is too old.
"""

import os
import platform
import shutil
import sys
import sysconfig

OLDEST = (3, 10)
NEWEST = (3, 14)
OLDEST_GLIBC = (2, 28)


def missing():
    """Return one line for each thing that is missing; an empty list if the machine has everything."""
    lines = []
    here = 'Python %d.%d' % sys.version_info[:2]
    if sys.version_info[:2] < OLDEST:
        lines.append(
            '%s is too old, 3.10 or newer is needed: apt-get install python3, '
            'or name another one: make setup PYTHON=python3.12' % here
        )
    elif sys.version_info[:2] > NEWEST:
        lines.append(
            '%s is newer than the ROS wheels, which stop at 3.14; name another one: make setup PYTHON=python3.12' % here
        )
    if platform.system() != 'Linux' or platform.machine() not in ('x86_64', 'AMD64'):
        lines.append(
            'the ROS wheels are for Linux on x86-64, this is %s on %s: '
            'install ROS 2 and build with colcon instead' % (platform.system(), platform.machine())
        )
    elif not new_enough_glibc():
        lines.append(
            'the ROS wheels need glibc 2.28 or newer, this is %s: '
            'use Debian 12, Ubuntu 22.04 or newer' % ' '.join(platform.libc_ver()).strip()
        )
    for module in ('venv', 'ensurepip'):
        try:
            __import__(module)
        except ImportError:
            lines.append('%s has no module %s: apt-get install python3-venv' % (here, module))
            break
    if not os.path.isfile(os.path.join(sysconfig.get_paths()['include'], 'Python.h')):
        lines.append('no Python.h of %s (to compile the messages): apt-get install python3-dev' % here)
    if not shutil.which(os.environ.get('CXX', 'g++')):
        lines.append('no C++ compiler g++ (to compile the messages): apt-get install g++')
    if not shutil.which('git'):
        lines.append('no git: apt-get install git')
    return lines


def new_enough_glibc():
    """Tell whether the C library can load manylinux 2.28 wheels."""
    name, version = platform.libc_ver()
    return name == 'glibc' and tuple(int(part) for part in version.split('.')[:2]) >= OLDEST_GLIBC


if __name__ == '__main__':
    problems = missing()
    for problem in problems:
        print('evict3r setup: ' + problem, file=sys.stderr)
    sys.exit(1 if problems else 0)
