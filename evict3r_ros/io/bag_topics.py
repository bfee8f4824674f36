# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Choose the input topics of a bag: as the user says, or the only possible ones."""

from __future__ import annotations

from dataclasses import dataclass

from evict3r_ros.errors import UserError
from evict3r_ros.io.bag import BagReader, BagWriter
from evict3r_ros.io.image_bag import CAMERA_INFO, IMAGE

COMPRESSED_IMAGE, ODOMETRY = 'sensor_msgs/msg/CompressedImage', 'nav_msgs/msg/Odometry'
TF, TF_STATIC = '/tf', '/tf_static'
CDR = 'cdr'
"""How messages of ROS 2 are written."""


@dataclass(frozen=True)
class InputTopics:
    """Names of the topics to replay; None for those that are missing or not wanted."""

    image: str
    compressed: bool
    """Whether the images are CompressedImage."""
    camera_info: str | None
    odometry: str | None = None
    depth: str | None = None

    def names(self) -> list[str]:
        """Return the names of all chosen topics."""
        return [name for name in (self.image, self.camera_info, self.odometry, self.depth) if name is not None]


def choose_topics(
    bag: BagReader,
    image: str | None = None,
    camera_info: str | None = None,
    odometry: str | None = None,
    depth: str | None = None,
) -> InputTopics:
    """Return the given topics, or the only image topic of the bag and its camera_info.

    Raises UserError for a topic that is missing or has another type, and for several image topics.
    """
    filled = {name: topic for name, topic in bag.topics.items() if topic.count}
    kinds = {name: topic.message_type for name, topic in filled.items() if topic.serialization == CDR}
    foreign = sorted({topic.serialization for topic in filled.values()} - {CDR})
    if foreign and not kinds:
        raise UserError(
            f'{bag.path}: its messages are written as {", ".join(map(repr, foreign))}, and those of ROS 2 are CDR: '
            'a converter has to make a bag of ROS 2 of it'
        )
    if image is None:
        images = sorted(name for name, kind in kinds.items() if kind in (IMAGE, COMPRESSED_IMAGE) and name != depth)
        if len(images) != 1:
            raise UserError(
                f'{bag.path} has {len(images) or "no"} image topics'
                + (f': choose one with --image: {", ".join(images)}' if images else f'; it has {_listed(kinds)}')
            )
        image = images[0]
    _check(bag, kinds, image, IMAGE, COMPRESSED_IMAGE)
    if camera_info is None:
        # Drivers publish it beside the image topic, also for a transport of it (image_transport):
        # /camera/image_raw/compressed and /camera/camera_info.
        beside = [f'{image.rsplit("/", levels)[0]}/camera_info' for levels in (1, 2)]
        camera_info = next((name for name in beside if kinds.get(name) == CAMERA_INFO), None)
    else:
        _check(bag, kinds, camera_info, CAMERA_INFO)
    if odometry is not None:
        _check(bag, kinds, odometry, ODOMETRY)
    if depth is not None:
        _check(bag, kinds, depth, IMAGE)
    return InputTopics(image, kinds[image] == COMPRESSED_IMAGE, camera_info, odometry, depth)


def copy_static_transforms(bag: BagReader, output: BagWriter) -> list[bytes]:
    """Write all static transforms of a bag at the start of another, and return them as CDR."""
    if TF_STATIC not in bag.topics or not bag.topics[TF_STATIC].is_static:
        return []
    output.add_topic(TF_STATIC, bag.topics[TF_STATIC].message_type, latched=True)
    raws = [raw for _, _, raw in bag.raw([TF_STATIC])]
    for raw in raws:
        output.write_raw(TF_STATIC, bag.start_ns, raw)
    return raws


def _check(bag: BagReader, kinds: dict[str, str], name: str, *wanted: str) -> None:
    if name not in kinds:
        raise UserError(f'{bag.path}: no messages on {name}; it has {_listed(kinds)}')
    if kinds[name] not in wanted:
        raise UserError(f'{bag.path}: {name} is {kinds[name]}, not {" or ".join(wanted)}')


def _listed(kinds: dict[str, str]) -> str:
    return ', '.join(f'{name} ({kind})' for name, kind in sorted(kinds.items())) or 'nothing'
