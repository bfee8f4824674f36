# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Show a node's outputs in 3-D with rerun (https://rerun.io).

No ROS: messages may come from a bag or from rclpy. Everything is in the odom frame, z up (REP-103): clouds are
transformed by the odometry of the same stamp, so that older ones stay in place. The time line `stamp` is that of the
messages.
"""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.geometry import BODY_FROM_OPTICAL, transform_points
from evict3r_ros.io.answer import AnswerTopics, cloud_arrays, image_array, pose_matrix
from evict3r_ros.io.stamps import NANOSECONDS, nanoseconds

try:
    import rerun as rr
    import rerun.blueprint as rrb
except ImportError as error:
    raise UserError(
        'evict3r view needs rerun, which cannot be imported '
        f"({error}): pip install 'evict3r_ros[view]', or pip install rerun-sdk"
    ) from error

_MOST_WAITING = 32
"""Clouds and poses without their counterpart."""
_WIDEST = 640
"""Most pixels in a row of shown images and maps."""
ODOM, CAMERA, CLOUD, PATH = 'odom', 'odom/camera', 'odom/points', 'odom/path'
_KEPT = 30
"""Past clouds that are shown beside the last one."""
_LIVE: dict[str, Any] = {'timeline': 'stamp', 'play_state': 'following'}
"""Of the time panel, where rerun is new enough to be told (the one for numpy 1 is not)."""
_LEAST_FREE = 2**20
"""Free bytes on a disk to begin a file."""


class SceneView:
    """Shows messages by topic.

    find_transform(base, camera): (4, 4) base_from_camera, or None if unknown; a camera is then assumed to be level at
    the base. most_points: larger clouds are thinned by a stride. history_s: how long clouds stay.
    """

    def __init__(
        self,
        topics: AnswerTopics,
        find_transform: Callable[[str, str], np.ndarray | None],
        most_points: int,
        history_s: float,
    ) -> None:
        self.clouds = 0
        """Number of clouds shown."""
        self._find_transform, self._most_points = find_transform, most_points
        self._stream = rr.RecordingStream('evict3r')
        self._stream.log(ODOM, rr.ViewCoordinates.FLU, static=True)
        self._blueprint = _blueprint()
        self._every_ns = round(history_s * NANOSECONDS / _KEPT)
        self._kept_ns: int | None = None
        self._slot = 0
        self._poses: OrderedDict[int, Any] = OrderedDict()
        self._waiting: OrderedDict[int, Any] = OrderedDict()
        self._take = {
            topics.odometry: self._odometry,
            topics.points: self._cloud,
            topics.path: self._path,
            topics.depth: self._depth,
            topics.rgb: self._rgb,
            topics.depth_info: self._info,
            topics.status: self._status,
        }

    @property
    def wanted(self) -> list[str]:
        """Names of the topics to show."""
        return list(self._take)

    def save(self, path: Path) -> None:
        """Write to a file from now on. Raises UserError if it exists or cannot be made."""
        if path.exists() or not path.parent.is_dir():
            raise UserError(f'{path}: ' + ('is there already' if path.exists() else 'its folder does not exist'))
        # rerun's writer waits forever if it cannot write its first bytes.
        if shutil.disk_usage(path.parent).free < _LEAST_FREE:
            raise UserError(f'{path}: the disk is full')
        self._stream.save(path, default_blueprint=self._blueprint)

    def connect(self, url: str) -> None:
        """Send to a running viewer such as rerun+http://127.0.0.1:9876/proxy. Raises UserError for another address."""
        try:
            self._stream.connect_grpc(url, default_blueprint=self._blueprint)
        except (ValueError, RuntimeError) as error:
            raise UserError(f'{url} is no address of a rerun viewer: {error}') from error

    def open_window(self) -> None:
        """Start a viewer on this screen. Raises UserError if that fails."""
        try:
            self._stream.spawn(default_blueprint=self._blueprint, hide_welcome_screen=True)
        except RuntimeError as error:
            raise UserError(f'the viewer cannot be started: {error}') from error

    def show(self, topic: str, message: Any) -> None:
        """Show a message of one of the topics in `wanted`."""
        header = message.header
        self._stream.set_time('stamp', timestamp=np.datetime64(nanoseconds(header.stamp), 'ns'))
        self._take[topic](message)

    def close(self) -> None:
        """Flush and disconnect. Raises UserError if not everything was written."""
        try:
            self._stream.flush()
        except RuntimeError as error:
            raise UserError(f'not everything was written: {error}') from error
        finally:
            self._stream.disconnect()

    def _odometry(self, message: Any) -> None:
        stamp = nanoseconds(message.header.stamp)
        _keep(self._poses, stamp, message)
        if stamp in self._waiting:
            self._cloud(self._waiting.pop(stamp))

    def _cloud(self, message: Any) -> None:
        stamp = nanoseconds(message.header.stamp)
        odometry = self._poses.get(stamp)
        if odometry is None:
            _keep(self._waiting, stamp, message)
            return
        odom_from_camera = self._odom_from_camera(odometry, message.header.frame_id)
        points, colours = cloud_arrays(message)
        step = max(1, -(-len(points) // self._most_points))
        moved = transform_points(odom_from_camera, points[::step])
        cloud = rr.Points3D(moved, colors=colours[::step], radii=rr.Radius.ui_points(1.5))
        self._stream.log(f'{CLOUD}/now', cloud)
        # A ring of entities, each of which shows its cloud until it is reused.
        if self._kept_ns is None or abs(stamp - self._kept_ns) >= self._every_ns:
            self._stream.log(f'{CLOUD}/before/{self._slot}', cloud)
            self._kept_ns, self._slot = stamp, (self._slot + 1) % _KEPT
        self._stream.log(CAMERA, rr.Transform3D(translation=odom_from_camera[:3, 3], mat3x3=odom_from_camera[:3, :3]))
        self.clouds += 1

    def _odom_from_camera(self, odometry: Any, camera: str) -> np.ndarray:
        pose = pose_matrix(odometry)
        mount = self._find_transform(odometry.child_frame_id, camera)
        odom_from_camera: np.ndarray = pose @ (BODY_FROM_OPTICAL if mount is None else mount)
        return odom_from_camera

    def _path(self, message: Any) -> None:
        places = [[entry.pose.position.x, entry.pose.position.y, entry.pose.position.z] for entry in message.poses]
        if len(places) > 1:
            self._stream.log(PATH, rr.LineStrips3D([places], colors=[[255, 160, 0]]))

    def _depth(self, message: Any) -> None:
        self._stream.log('depth', rr.DepthImage(_reduced(image_array(message)), meter=1.0))

    def _rgb(self, message: Any) -> None:
        self._stream.log(f'{CAMERA}/image', rr.Image(_reduced(image_array(message))).compress(jpeg_quality=80))

    def _info(self, message: Any) -> None:
        K = np.asarray(message.k, np.float64).reshape(3, 3)
        # The image may be shown smaller: its frustum stays the same.
        step = _step(message.width)
        self._stream.log(
            f'{CAMERA}/image',
            rr.Pinhole(
                image_from_camera=np.diag([1 / step, 1 / step, 1.0]) @ K,
                camera_xyz=rr.ViewCoordinates.RDF,
                resolution=[-(-message.width // step), -(-message.height // step)],
                image_plane_distance=0.3,
            ),
        )

    def _status(self, message: Any) -> None:
        for name in ('rate_hz', 'latency_p50_ms', 'scale'):
            self._stream.log(f'status/{name}', rr.Scalars(float(getattr(message, name))))
        text = (
            f'{message.weights}, {message.policy} on {message.device}: {message.frames_processed} processed, '
            f'{message.frames_dropped} dropped, {message.frames_failed} failed; '
            f'{"metric" if message.is_metric else "not metric"}. {message.last_error}'
        )
        self._stream.log('status/text', rr.TextLog(text, level='WARN' if message.untrained else 'INFO'))


def _blueprint() -> rrb.Blueprint:
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Spatial3DView(name='odom', origin=ODOM),
            rrb.Vertical(
                rrb.Spatial2DView(name='image', origin=f'{CAMERA}/image'),
                rrb.Spatial2DView(name='depth', origin='depth'),
                rrb.TimeSeriesView(name='status', origin='status'),
            ),
            column_shares=[2, 1],
        ),
        rrb.TimePanel(
            state='collapsed', **{name: _LIVE[name] for name in _LIVE if name in signature(rrb.TimePanel).parameters}
        ),
        collapse_panels=True,
    )


def _keep(waiting: OrderedDict[int, Any], stamp: int, message: Any) -> None:
    waiting[stamp] = message
    if len(waiting) > _MOST_WAITING:
        waiting.popitem(last=False)


def _step(width: int) -> int:
    return max(1, -(-width // _WIDEST))


def _reduced(values: np.ndarray) -> np.ndarray:
    step = _step(values.shape[1])
    return values[::step, ::step]
