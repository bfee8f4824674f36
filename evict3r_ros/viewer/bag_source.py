# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Show a bag of a node's outputs in a `SceneView`. No ROS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from evict3r_ros.errors import UserError
from evict3r_ros.io.answer import AnswerTopics, StaticFrames
from evict3r_ros.io.bag import BagReader
from evict3r_ros.viewer.scene_view import SceneView

_DEMO_BAG = 'answer'
"""Name of the bag in the folder of a demo."""


class BagSource:
    """A bag of a node's outputs (context manager)."""

    def __init__(self, path: Path, topics: AnswerTopics) -> None:
        """Open the bag, or the one in the folder of a demo. Raises UserError for a bag without points."""
        path = path / _DEMO_BAG if (path / _DEMO_BAG).is_dir() else path
        self._bag = BagReader(path)
        if topics.points not in self._bag.topics:
            known = ', '.join(sorted(self._bag.topics))
            self._bag.close()
            raise UserError(f'{path}: no {topics.points}; is --node right? It has {known}')
        self.clouds = self._bag.topics[topics.points].count
        """Number of clouds in the bag."""
        self.find_transform = StaticFrames(self._bag).find

    @property
    def notes(self) -> list[str]:
        """What a user should know of the bag."""
        return self._bag.notes

    def play(self, view: SceneView) -> Iterator[None]:
        """Show the bag from its beginning to its end, as fast as it can be read; yield after each message."""
        for topic, _, message in self._bag.messages([name for name in view.wanted if name in self._bag.topics]):
            view.show(topic, message)
            yield

    def __enter__(self) -> BagSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bag.close()
