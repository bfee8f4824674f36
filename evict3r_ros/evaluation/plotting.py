# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""matplotlib, for files."""

from typing import Any

from evict3r_ros.errors import UserError


def pyplot() -> Any:
    """matplotlib.pyplot, which opens no window. Raises UserError where it is not installed."""
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise UserError('plots need matplotlib: pip install matplotlib') from error
    matplotlib.use('Agg')
    from matplotlib import pyplot
    return pyplot
