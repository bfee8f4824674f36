# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One image message in, the answers to it out: what the worker thread does with a frame, without any topic.

Here is also decided when the stream has to begin anew: another image size, camera frame or calibration, a clock
that jumped back, a frame that failed inside the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import threading
import time

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
import torch

from evict3r_ros import geometry
from evict3r_ros.errors import MessageError
from evict3r_ros.preparation import ImageView
from evict3r_ros.rectify import Calibration, Rectifier
from evict3r_ros.ros import conversions
from evict3r_ros.ros.parameters import Settings
from evict3r_ros.ros.transforms import Mount, StaticTransforms, find_mount
from evict3r_ros.scale import ScaleState
from evict3r_ros.stream import Prediction, Stream, StreamStats
from evict3r_ros.trajectory import Trajectory

CLOCK_JUMP_NS = 1_000_000_000  # a stamp older than the last by more is a clock set back; by less, a frame out of order
STATS_PERIOD_S = 0.5  # StreamStats reads from the device, which stalls it: not for every frame


@dataclass(frozen=True)
class Answer:
    """The messages that answer one image, all of its stamp. points is None if nobody asked for them."""

    depth: Image
    confidence: Image
    info: CameraInfo
    odometry: Odometry
    transform: TransformStamped
    points: PointCloud2 | None


@dataclass(frozen=True)
class _View:
    """What has to stay the same within a stream."""

    size: tuple[int, int]
    frame: str
    calibration: Calibration | None


class Perception:
    """Turns images into answers with a stream. `process` belongs to one thread; the rest may be called from any.

    tell(text): where to say what a user should know once. wants_points(): whether a cloud is worth its time.
    expects_info(): whether somebody publishes camera_info, so that the first image waits for it.
    """

    def __init__(self, stream: Stream, settings: Settings, transforms: StaticTransforms, tell: Callable[[str], None],
                 wants_points: Callable[[], bool], expects_info: Callable[[], bool]) -> None:
        self.settings = settings
        self.resets = 0
        self.camera_frame = ''
        self.stats: StreamStats = stream.stats()
        self._stream, self._transforms, self._tell = stream, transforms, tell
        self._wants_points, self._expects_info = wants_points, expects_info
        self._calibration: Calibration | None = None
        self._calibrated = threading.Event()
        self._refused_info = ''  # why the last camera_info was not used
        self._rectifier: Rectifier | None = None
        self._mask: np.ndarray | None = None  # the rectifier's valid pixels, at the published size
        self._view: _View | None = None
        self._mounted: Mount | None = None
        self._trajectory: Trajectory | None = None
        self._last_stamp_ns: int | None = None
        self._stats_at = 0.0
        self._failed = False

    def warm_up(self) -> None:
        """Run one frame that means nothing, so that the first real one does not pay for allocations."""
        width = self._stream.image_width
        self._stream.reset()
        self._stream.step(np.full((width * 3 // 4, width, 3), 127, np.uint8))
        self._stream.reset()

    def begin(self) -> None:
        """Forget the images seen so far: the next one is the first of a stream, at odom's origin."""
        self._stream.reset()
        self._view = self._mounted = self._trajectory = self._last_stamp_ns = None
        self._failed = False

    def hear_info(self, message: CameraInfo) -> None:
        """Take in a camera_info, from any thread; it holds from the next image on."""
        try:
            self._calibration, refused = conversions.calibration_from_info(message), ''
        except MessageError as error:
            self._calibration, refused = None, str(error)
        if refused and refused != self._refused_info:
            self._tell(f'camera_info is not used: {refused}')
        self._refused_info = refused
        self._calibrated.set()

    def process(self, message: Image | CompressedImage, cancelled: threading.Event) -> Answer:
        """Return the answer to an image. Raises ValueError, with the reason, for one that cannot be used.

        cancelled: set to end the waiting for transform and calibration that only a camera's first image does.
        """
        stamp_ns = _nanoseconds(message.header.stamp)
        set_back = self._check_clock(stamp_ns)
        decode = conversions.rgb_from_image if isinstance(message, Image) else conversions.rgb_from_compressed
        image = decode(message)
        self._follow_view(image.shape[:2], message.header.frame_id, set_back, cancelled)
        if self._rectifier is not None:
            image = self._rectifier(image)
        self._failed = True
        prediction = self._stream.step(image)
        if not np.isfinite(prediction.world_from_camera).all():
            raise ValueError('the network answered with a pose that is not finite')
        self._failed = False
        self._last_stamp_ns = stamp_ns
        self.camera_frame = message.header.frame_id
        if time.monotonic() - self._stats_at > STATS_PERIOD_S:
            self.stats, self._stats_at = self._stream.stats(), time.monotonic()
        return self._answer(prediction, image, message.header)

    def _check_clock(self, stamp_ns: int) -> bool:
        """Return whether the clock was set back; raises ValueError for a stamp that is merely out of order."""
        if self._last_stamp_ns is None or stamp_ns > self._last_stamp_ns:
            return False
        behind = self._last_stamp_ns - stamp_ns
        if behind > CLOCK_JUMP_NS:
            return True
        raise ValueError(f'stamp {stamp_ns} ns is {behind / 1e6:g} ms before the last one and not after it')

    def _follow_view(self, size: tuple[int, int], frame: str, set_back: bool, cancelled: threading.Event) -> None:
        """Make stream, rectification and odometry fit the image that is about to be processed."""
        if self._view is None:
            self._await_info(cancelled)
        view = _View(size, frame, self._calibration)
        known, self._view = self._view, view
        if known is None or known.frame != frame:
            self._mount(frame, cancelled)
        if known is None or known != view:
            self._rectifier, self._mask = self._make_rectifier(view), None
        if known is not None and (known != view or set_back or self._failed):
            reason = ('the clock was set back' if set_back else 'the last frame failed' if known == view else
                      f'images are now {size[1]} x {size[0]} in frame {frame!r}, or the calibration changed')
            self._tell(f'stream reset: {reason}')
            self.resets += 1
            self._stream.reset()
            self._trajectory.restart(keep=not set_back)
            self._failed = False

    def _await_info(self, cancelled: threading.Event) -> None:
        deadline = time.monotonic() + self.settings.startup_timeout
        while self._expects_info() and time.monotonic() < deadline and not cancelled.is_set():
            if self._calibrated.wait(0.05):
                return

    def _mount(self, frame: str, cancelled: threading.Event) -> None:
        settings = self.settings
        mount = find_mount(self._transforms, settings.frames_base, frame, settings.startup_timeout, cancelled)
        if cancelled.is_set():
            raise InterruptedError('stopped while waiting for the static transform')
        if not mount.from_tf:
            self._tell(f'no static transform from {frame!r} to {settings.frames_base!r} within '
                       f'{settings.startup_timeout:g} s: {settings.frames_odom} -> {mount.child} is published instead, '
                       'with the camera taken to be level at the first image')
        if self._trajectory is None:
            self._trajectory = Trajectory(mount.child_from_camera, mount.odom_from_child)
        else:
            self._trajectory.remount(mount.child_from_camera, mount.odom_from_child, self._mounted.child == mount.child)
        self._mounted = mount

    def _make_rectifier(self, view: _View) -> Rectifier | None:
        """Return what undistorts these images, or None, with the reason told, if their calibration is of no use."""
        if view.calibration is None:
            return None
        if view.calibration.size != view.size:
            height, width = view.calibration.size
            self._tell(f'camera_info is not used: it is for {width} x {height} pixels, and the image has '
                       f'{view.size[1]} x {view.size[0]}')
            return None
        try:
            return Rectifier(view.calibration)
        except ValueError as error:
            self._tell(f'camera_info is not used: {error}')
            return None

    def _answer(self, prediction: Prediction, image: np.ndarray, header: Header) -> Answer:
        settings, view = self.settings, prediction.view
        at_camera = settings.depth_size == 'camera'
        depth, confidence = prediction.depth, prediction.confidence
        colours = image
        if at_camera:
            depth, confidence = view.to_camera(depth), view.to_camera(confidence)
        # One copy from the device each; from here on the arrays belong to this frame alone.
        depth, confidence = (values.cpu().numpy() for values in (depth, confidence))
        depth = np.where(np.isfinite(depth) & (depth > 0.0) & self._seen(view, at_camera), depth, np.float32(np.nan))
        if self._rectifier is not None:
            K = self._rectifier.K if at_camera else view.to_network_K(self._rectifier.K)
        else:
            K = view.to_camera_K(prediction.intrinsics) if at_camera else prediction.intrinsics
        points = None
        if self._wants_points():
            if not at_camera:
                colours = prediction.image.cpu().numpy()
            points = self._cloud(depth, confidence, colours, K, header)
        state = self._trajectory.advance(_nanoseconds(header.stamp), prediction.world_from_camera, ScaleState(),
                                         float(np.median(confidence[::8, ::8])))
        odom = Header(stamp=header.stamp, frame_id=settings.frames_odom)
        child = self._mounted.child
        return Answer(depth=conversions.image_from_map(depth, header),
                      confidence=conversions.image_from_map(confidence, header),
                      info=conversions.info_from_K(K, depth.shape, header),
                      odometry=conversions.odometry_from_state(state, odom, child),
                      transform=conversions.transform_from_pose(state.odom_from_child, odom, child), points=points)

    def _seen(self, view: ImageView, at_camera: bool) -> np.ndarray | bool:
        """Return where the image shows what the camera saw: not in the corners that rectification left black."""
        if self._rectifier is None or self._rectifier.valid is None:
            return True
        if self._mask is None and at_camera:
            self._mask = self._rectifier.valid
        elif self._mask is None:
            white = torch.from_numpy(self._rectifier.valid.astype(np.uint8) * 255)
            self._mask = view.prepare(white[..., None].expand(-1, -1, 3))[0].numpy() > 0.99
        return self._mask

    def _cloud(self, depth: np.ndarray, confidence: np.ndarray, colours: np.ndarray, K: np.ndarray,
               header: Header) -> PointCloud2:
        stride = self.settings.points_stride
        taken = (slice(None, None, stride),) * 2
        sure = np.where(confidence[taken] >= self.settings.points_min_confidence, depth[taken], np.float32(np.nan))
        # Every n-th pixel of an image is an image with K / n.
        x, y = geometry.lateral_planes(sure, np.diag([1.0 / stride, 1.0 / stride, 1.0]) @ K)
        return conversions.cloud_from_planes(x, y, sure, colours[taken], header)


def _nanoseconds(stamp: Time) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec
