# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One image message in, the answers to it out: what the worker thread does with a frame, without any topic.

Here is also decided when the stream has to begin anew: another image size, camera frame or calibration, a clock
that jumped back, a frame that failed inside the network, somebody's wish.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from evict3r_ros import geometry
from evict3r_ros.camera import health
from evict3r_ros.camera.rectify import Calibration
from evict3r_ros.io.scene_record import SceneRecord
from evict3r_ros.io.stamps import nanoseconds
from evict3r_ros.odometry.integrator import OdometryIntegrator, OdometryState
from evict3r_ros.odometry.scale import MetricScale, ScaleFrame, ScaleSettings
from evict3r_ros.ros.messages import conversions
from evict3r_ros.ros.perception.camera_model import CameraModel
from evict3r_ros.ros.perception.faults import Faults, FrameRefused
from evict3r_ros.ros.perception.stamps import StampOrder
from evict3r_ros.ros.perception.transforms import Mount, StaticTransforms, find_mount
from evict3r_ros.ros.settings.parameters import Settings
from evict3r_ros.stream import Prediction, Stream, StreamStats

STATS_PERIOD_S = 0.5  # StreamStats reads from the device, which stalls it: not for every frame
FROZEN_AFTER = 30  # identical images in a row: a second of a usual camera
MOST_FRAMES = 64  # names of camera frames that are remembered


@dataclass(frozen=True)
class Answer:
    """The messages that answer one image, all of its stamp."""

    depth: Image
    confidence: Image
    info: CameraInfo
    odometry: Odometry
    transform: TransformStamped | None
    """None if the frame that it would move has another parent."""
    rgb: Image | None
    """None if nobody asked for it, like points."""
    points: PointCloud2 | None
    keep: Callable[[], None]
    """Adds the frame to what ~/save writes: to be called once the answer is published, because it takes its time."""


@dataclass(frozen=True)
class _View:
    """What has to stay the same within a stream."""

    size: tuple[int, int]
    frame: str
    calibration: Calibration | None


@dataclass(frozen=True)
class _Mounted:
    """The camera's place on the robot, and the odometry that moves it."""

    mount: Mount
    odometry: OdometryIntegrator


@dataclass(frozen=True)
class _Maps:
    """A frame's answer as arrays of the published size (h, w), in metres as far as the scale is known."""

    depth: np.ndarray
    confidence: np.ndarray
    K: np.ndarray


class Perception:
    """Turn images into answers with a stream. `process` belongs to one thread; the rest may be called from any.

    faults: takes what goes wrong. wants(output): whether 'points' or 'rgb' are worth their time. expects_info():
    whether somebody publishes camera_info, so that the first image waits for it. record: what ~/save writes, or None.
    Raises UserError for settings of the scale that cannot be.
    """

    def __init__(
        self,
        stream: Stream,
        settings: Settings,
        transforms: StaticTransforms,
        faults: Faults,
        wants: Callable[[str], bool],
        expects_info: Callable[[], bool],
        record: SceneRecord | None = None,
    ) -> None:
        self.settings = settings
        self.resets = 0
        self.camera_frame = ''
        self.policy = stream.config.policy
        self.stats: StreamStats = stream.stats()
        self.scale = MetricScale(
            ScaleSettings(
                settings.scale_source,
                settings.scale_fixed,
                settings.scale_camera_height,
                settings.scale_baseline,
                settings.scale_max_slew,
            )
        )
        self.camera = CameraModel(lambda text: faults.count('calibration', text))
        self._mounted: _Mounted | None = None
        self.frozen = False
        self._last_cloud: PointCloud2 | None = None
        self._stream, self._transforms, self._faults = stream, transforms, faults
        self._wants, self._expects_info, self._record = wants, expects_info, record
        self._reset_wanted = threading.Event()
        self.begin()

    @property
    def mount(self) -> Mount | None:
        """How the camera of the last image is mounted, None before the first."""
        mounted = self._mounted
        return None if mounted is None else mounted.mount

    @property
    def odometry(self) -> OdometryIntegrator | None:
        """Where the robot is and was, None before the first image."""
        mounted = self._mounted
        return None if mounted is None else mounted.odometry

    def warm_up(self) -> None:
        """Run one frame that means nothing, so that the first real one does not pay for allocations."""
        width = self._stream.image_width
        self._stream.reset()
        self._stream.step(np.full((width * 3 // 4, width, 3), 127, np.uint8))
        self._stream.reset()

    def begin(self) -> None:
        """Forget the images seen so far: the next one is the first of a stream, at odom's origin."""
        self._stream.reset()
        self.scale.restart()
        self._mounted = None
        self.frozen = False
        self._view: _View | None = None
        self._stamps = StampOrder()
        self._frozen_watch = health.FrozenWatch()
        self._waited_for: set[str] = set()
        self._mounted_by = -1  # version of the static transforms that the mount is from
        self._failed = False
        self._stats_at = 0.0
        self._reset_wanted.clear()
        if self._record is not None:
            self._record.restart()

    def ask_for_reset(self) -> None:
        """Let the next image begin a stream; the odometry goes on from its last pose."""
        self._reset_wanted.set()

    def process(self, message: Image | CompressedImage, cancelled: threading.Event) -> Answer:
        """Return the answer to an image. Raises FrameRefused or ValueError, with the reason, for one of no use.

        cancelled: set to end the waiting for transform and calibration that only a camera's first image does.
        """
        stamp_ns = nanoseconds(message.header.stamp)
        set_back = self._stamps.check(stamp_ns)
        decode = conversions.rgb_from_image if isinstance(message, Image) else conversions.rgb_from_compressed
        image = decode(message)
        self._check_image(image)
        mounted = self._follow_view(image.shape[:2], message.header.frame_id, set_back, cancelled)
        gap_s = self._stamps.accept(stamp_ns)
        if gap_s:
            self._faults.count('image_gap', f'no usable image for {gap_s:.1f} s by their stamps; the stream goes on')
        image = self.camera.rectify(image)
        prediction = self._predict(image)
        self.camera_frame = message.header.frame_id
        if time.monotonic() - self._stats_at > STATS_PERIOD_S:
            self.stats, self._stats_at = self._stream.stats(), time.monotonic()
        return self._answer(mounted, prediction, image, message.header, stamp_ns)

    def _check_image(self, image: np.ndarray) -> None:
        height, width = image.shape[:2]
        if not health.has_usable_shape(height, width):
            raise FrameRefused('broken_image', f'an image of {width} x {height} pixels shows nothing')
        contrast = health.contrast(image)
        if contrast < health.LEAST_CONTRAST:
            raise FrameRefused(
                'blank_image',
                f'an image without contrast (mean {image.mean():.0f}, deviation '
                f'{contrast:.1f} of 255): is the lens covered, or the exposure wrong?',
            )
        repeats = self._frozen_watch.update(image)
        if repeats == FROZEN_AFTER:
            self._faults.count('frozen_image', f'{repeats} images in a row are the same: has the camera stopped?')
        self.frozen = repeats >= FROZEN_AFTER

    def _predict(self, image: np.ndarray) -> Prediction:
        self._failed = True  # until it is known not to have
        try:
            prediction = self._stream.step(image)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            raise
        except ValueError as error:  # the image has been checked: it is the pose that makes no sense
            raise FrameRefused('not_finite', f'the network answered with no pose: {error}') from error
        if not (np.isfinite(prediction.world_from_camera).all() and bool(torch.isfinite(prediction.depth).any())):
            raise FrameRefused('not_finite', 'the network answered with a pose or a depth that is not finite')
        self._failed = False
        return prediction

    def _follow_view(self, size: tuple[int, int], frame: str, set_back: bool, cancelled: threading.Event) -> _Mounted:
        """Make stream, rectification and odometry fit the image that is about to be processed."""
        if self._view is None:
            self.camera.wait(self._expects_info, self.settings.startup_timeout, cancelled)
        view = _View(size, frame, self.camera.calibration)
        known, self._view = self._view, view
        mounted = self._mounted
        if mounted is None or known is None or known.frame != frame or self._transforms.version != self._mounted_by:
            mounted = self._follow_mount(frame, cancelled)
        if known != view:
            self.camera.adopt(view.calibration, size)
        wanted = self._reset_wanted.is_set()
        self._reset_wanted.clear()
        if known is None or not (known != view or set_back or self._failed or wanted):
            return mounted
        if set_back:
            self._faults.count('clock_set_back', 'stream reset: the clock was set back')
        elif known.size != size or known.frame != frame:
            self._faults.count(
                'image_changed', f'stream reset: images are now {size[1]} x {size[0]} in frame {frame!r}'
            )
        elif known != view:
            self._faults.count('calibration', 'stream reset: the calibration in camera_info changed')
        self.resets += 1
        self._stream.reset()
        self.scale.restart()
        mounted.odometry.restart(keep=not set_back)
        if set_back and self._record is not None:
            self._record.restart()
        self._failed = False
        return mounted

    def _follow_mount(self, frame: str, cancelled: threading.Event) -> _Mounted:
        """Find where the camera sits; wait for it once a camera, and see it when it comes later or changes."""
        settings, transforms, before = self.settings, self._transforms, self._mounted
        patience = 0.0 if frame in self._waited_for else settings.startup_timeout
        mount = find_mount(transforms, settings.frames_odom, settings.frames_base, frame, patience, cancelled)
        if cancelled.is_set():
            raise InterruptedError('stopped while waiting for the static transform')
        self._mounted_by = transforms.version
        if len(self._waited_for) < MOST_FRAMES:
            self._waited_for.add(frame)
        if before is not None and not mount.differs(before.mount):
            return before
        if mount.problem:
            self._faults.count('second_parent' if mount.taken else 'no_transform', mount.problem)
        if before is None:
            odometry = OdometryIntegrator(mount.child_from_camera, mount.odom_from_child)
        else:
            odometry, keep = before.odometry, mount.child == before.mount.child
            odometry.remount(mount.child_from_camera, mount.odom_from_child, keep=keep)
        self._mounted = mounted = _Mounted(mount, odometry)
        return mounted

    def _answer(
        self, mounted: _Mounted, prediction: Prediction, image: np.ndarray, header: Header, stamp_ns: int
    ) -> Answer:
        settings, mount = self.settings, mounted.mount
        at_camera = settings.depth_size == 'camera'
        maps, odometry = self._place(mounted, prediction, at_camera, stamp_ns)
        odom_from_camera = odometry.odom_from_child @ mount.child_from_camera
        wants_rgb, wants_points = self._wants('rgb'), self._wants('points')
        wants_points = wants_points and (self.scale.state.is_metric or not settings.points_require_metric)
        recorded = self._record is not None and self._record.wants_points(stamp_ns)
        colours: np.ndarray | None = None
        if wants_rgb or wants_points or recorded:
            colours = image if at_camera else prediction.image.cpu().numpy()
        odom = Header(stamp=header.stamp, frame_id=settings.frames_odom)
        transform = conversions.transform_from_pose(odometry.odom_from_child, odom, mount.child)
        return Answer(
            depth=conversions.image_from_map(maps.depth, header),
            confidence=conversions.image_from_map(maps.confidence, header),
            info=conversions.info_from_K(maps.K, maps.depth.shape, header),
            odometry=conversions.odometry_from_state(odometry, odom, mount.child),
            transform=None if mount.taken else transform,
            rgb=conversions.image_from_rgb(colours, header) if wants_rgb and colours is not None else None,
            points=self._cloud(maps, colours, header) if wants_points and colours is not None else None,
            keep=lambda: self._keep(maps, colours if recorded else None, odom_from_camera, stamp_ns),
        )

    def _place(
        self, mounted: _Mounted, prediction: Prediction, at_camera: bool, stamp_ns: int
    ) -> tuple[_Maps, OdometryState]:
        """Return the frame's maps and where the robot is, both scaled by what is known of the scale."""
        view = prediction.view
        tensors = prediction.depth, prediction.confidence
        if at_camera:
            tensors = view.to_camera(tensors[0]), view.to_camera(tensors[1])
        # One copy from the device each; from here on the arrays belong to this frame alone.
        depth, confidence = tensors[0].cpu().numpy(), tensors[1].cpu().numpy()
        seen = self.camera.seen(view, at_camera)
        depth = np.where(np.isfinite(depth) & (depth > 0.0) & seen, depth, np.float32(np.nan))
        K = self.camera.matrix(prediction, at_camera)
        scale = self.scale.observe(
            ScaleFrame(
                stamp_ns,
                depth,
                confidence,
                K,
                prediction.world_from_camera,
                mounted.mount.base_from_camera,
                (0.0, 1.0) if at_camera else view.seen_rows,
            )
        )
        typical = float(np.nanmedian(confidence[::8, ::8]))
        odometry = mounted.odometry.advance(stamp_ns, prediction.world_from_camera, scale, typical)
        return _Maps(depth * np.float32(scale.scale), confidence, K), odometry

    def _cloud(self, maps: _Maps, colours: np.ndarray, header: Header) -> PointCloud2:
        stride = self.settings.points_stride
        depth, K = self._sure(maps, stride)
        x, y = geometry.lateral_planes(depth, K)
        # The last one was serialized when it was published.
        self._last_cloud = conversions.cloud_from_planes(
            x, y, depth, colours[::stride, ::stride], header, again=self._last_cloud
        )
        return self._last_cloud

    def _sure(self, maps: _Maps, stride: int) -> tuple[np.ndarray, np.ndarray]:
        """Return every stride-th depth (h, w), NaN where the network is not sure enough, and K (3, 3) of that size."""
        taken = (slice(None, None, stride),) * 2
        sure = maps.confidence[taken] >= self.settings.points_min_confidence
        # Every n-th pixel of an image is an image with K / n.
        K = np.diag([1.0 / stride, 1.0 / stride, 1.0]) @ maps.K
        return np.where(sure, maps.depth[taken], np.float32(np.nan)), K

    def _keep(self, maps: _Maps, colours: np.ndarray | None, odom_from_camera: np.ndarray, stamp_ns: int) -> None:
        if self._record is None:
            return
        try:
            self._record.add_pose(stamp_ns, odom_from_camera)
        except OSError as error:
            self._faults.count('not_saved', f'a pose is missing from the recorded trajectory: {error}')
        if colours is not None:
            points = geometry.unproject(*self._sure(maps, 1))
            self._record.add_points(stamp_ns, points, colours, odom_from_camera, maps.K)
