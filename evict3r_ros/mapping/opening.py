# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A mapper with all that it needs: the one place that asks for the optimiser, which not every robot has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evict3r_ros.cache import CacheConfig
from evict3r_ros.errors import UserError
from evict3r_ros.mapping.descriptor import Describer
from evict3r_ros.mapping.loop_closure import LoopVerifier
from evict3r_ros.mapping.map_file import MapFile
from evict3r_ros.mapping.settings import MappingSettings
from evict3r_ros.network import StreamVGGT
from evict3r_ros.stream import Stream

if TYPE_CHECKING:
    from evict3r_ros.mapping.mapper import Mapper


@contextmanager
def open_mapper(
    target: MapFile,
    network: StreamVGGT,
    config: CacheConfig,
    settings: MappingSettings,
    camera_size: tuple[int, int] | None = None,
    image_width: int | None = None,
    background: bool = True,
) -> Iterator[Mapper]:
    """Make a mapper for a map file, with a stream of its own to verify loops; its memory is allocated here.

    Arguments as those of ``Stream`` and ``Mapper``. Raises UserError where gtsam is missing.
    """
    try:
        from evict3r_ros.mapping.mapper import Mapper
    except ModuleNotFoundError as error:
        raise UserError(f'closing loops needs {error.name}: pip install {error.name}') from error
    with (
        # Not recorded: it runs rarely, and beside the stream that answers.
        Stream(network, config, camera_size, image_width, graph=False) as again,
        Mapper(target, Describer(network), LoopVerifier(again, settings.verification), settings, background) as mapper,
    ):
        yield mapper
