# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which topics of a foreign bag are the camera: told by the user, or plain from the bag."""

from __future__ import annotations

from dataclasses import dataclass

from evict3r_ros.errors import UserError
from evict3r_ros.io.bag import BagReader, BagWriter
from evict3r_ros.io.image_bag import CAMERA_INFO, IMAGE

COMPRESSED_IMAGE, ODOMETRY = 'sensor_msgs/msg/CompressedImage', 'nav_msgs/msg/Odometry'
TF_STATIC = '/tf_static'


@dataclass(frozen=True)
class InputTopics:
    """Names of what is replayed; None for what the bag hasn't, or what isn't wished for."""

    image: str
    compressed: bool
    camera_info: str | None
    odometry: str | None = None
    depth: str | None = None

    def names(self) -> list[str]:
        """All that there are."""
        return [name for name in (self.image, self.camera_info, self.odometry, self.depth) if name is not None]


def choose_topics(
    bag: BagReader,
    image: str | None = None,
    camera_info: str | None = None,
    odometry: str | None = None,
    depth: str | None = None,
) -> InputTopics:
    """Return the topics told, or else the only image of the bag and the camera_info beside it.

    Raises UserError for a topic that isn't there or has another type, and where there are several images.
    """
    if not bag.is_ros2:
        raise UserError(f'{bag.path} is a bag of ROS 1: rosbags-convert makes one of ROS 2 of it')
    kinds = {name: topic.message_type for name, topic in bag.topics.items() if topic.count}
    if image is None:
        images = sorted(name for name, kind in kinds.items() if kind in (IMAGE, COMPRESSED_IMAGE) and name != depth)
        if len(images) != 1:
            raise UserError(
                f'{bag.path} has {len(images) or "no"} image topics'
                + (f': say with --image which it is: {", ".join(images)}' if images else f'; it has {_listed(kinds)}')
            )
        image = images[0]
    _check(bag, kinds, image, IMAGE, COMPRESSED_IMAGE)
    if camera_info is None:
        # Where drivers put it: beside the image, or beside the topic whose transport the image is (as
        # image_transport names it): /camera/image_raw/compressed and /camera/camera_info.
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
    """Write all of a bag's static transforms to the start of another, so that it stands alone; returns them, as CDR."""
    if TF_STATIC not in bag.topics:
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
