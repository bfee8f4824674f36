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
from evict3r_ros.io.frame_tree import bare
from evict3r_ros.io.scene_record import SceneRecord, points_stride
from evict3r_ros.io.stamps import NANOSECONDS, nanoseconds
from evict3r_ros.kernels.device_errors import is_out_of_memory
from evict3r_ros.msg import StreamStatus
from evict3r_ros.odometry.drift import drift_of
from evict3r_ros.odometry.integrator import OdometryIntegrator, OdometryState
from evict3r_ros.odometry.scale import MetricScale, ScaleFrame, ScaleSettings
from evict3r_ros.ros.messages import conversions
from evict3r_ros.ros.perception.camera_model import CameraModel, names_rectified_images
from evict3r_ros.ros.perception.faults import Faults, FrameRefused
from evict3r_ros.ros.perception.image_check import ImageCheck
from evict3r_ros.ros.perception.image_reader import ImageReader
from evict3r_ros.ros.perception.optical_frame import doubt_about_axes
from evict3r_ros.ros.perception.stamps import Moment, StampOrder
from evict3r_ros.ros.perception.transforms import Mount, StaticTransforms, find_mount
from evict3r_ros.ros.settings.parameters import Settings
from evict3r_ros.stream import Prediction, Stream, StreamStats

STATS_PERIOD_S = 0.5  # StreamStats reads from the device, which stalls it: not for every frame
MOST_FRAMES = 64  # names of camera frames that are remembered


@dataclass(frozen=True)
class Answer:
    """The messages that answer one image, all of its stamp; frames have no leading slash, which tf2 refuses."""

    depth: Image
    confidence: Image
    info: CameraInfo
    odometry: Odometry
    transform: TransformStamped | None
    """None if the frame that it would move has another parent."""
    rgb: Image | None
    """None if nobody asked for it, like its camera_info and points."""
    rgb_info: CameraInfo | None
    points: PointCloud2 | None
    moment: Moment
    """When the image was taken."""
    state: OdometryState
    """What odometry and transform say, as arrays."""
    keep: Callable[[], None]
    """Adds the frame to what ~/save writes: to be called once the answer is published, because it takes its time."""


@dataclass(frozen=True)
class _View:
    """What has to stay the same within a stream."""

    size: tuple[int, int]
    frame: str


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

    `stamps` judges images as they arrive.

    faults: takes what goes wrong. wants(output): whether 'points' or 'rgb' are worth their time. expects_info():
    whether somebody publishes camera_info, so that the first image waits for it. record: what ~/save writes, or None.
    image_topic: its resolved name, which may say that images come rectified.
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
        image_topic: str = '',
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
        rectified = settings.image_rectified
        self.camera = CameraModel(
            lambda text: faults.count('calibration', text),
            names_rectified_images(image_topic) if rectified == 'auto' else rectified == 'true',
        )
        self._mounted: _Mounted | None = None
        self.axes_doubt = ''
        """Why the camera's frame does not look like an optical one, '' if it does."""
        self._last_cloud: PointCloud2 | None = None
        self._stream, self._transforms, self._faults = stream, transforms, faults
        self._drift = drift_of(stream.network.weights_file)
        self._wants, self._expects_info, self._record = wants, expects_info, record
        self._reset_wanted = threading.Event()
        self.begin()

    @property
    def mount(self) -> Mount | None:
        """How the camera of the last image is mounted, None before the first."""
        mounted = self._mounted
        return None if mounted is None else mounted.mount

    @property
    def mount_may_change(self) -> bool:
        """Whether the camera's own frame is moved for want of a mount, and static transforms have come since."""
        mount = self.mount
        return mount is not None and not mount.from_tf and self._transforms.version != self._mounted_by

    @property
    def odometry(self) -> OdometryIntegrator | None:
        """Where the robot is and was, None before the first image."""
        mounted = self._mounted
        return None if mounted is None else mounted.odometry

    @property
    def frozen(self) -> bool:
        """Whether the camera shows the same bytes again and again."""
        return self._check.frozen

    @property
    def tracking_state(self) -> int:
        """Whether the odometry follows the camera: a constant of StreamStatus."""
        if self._moment is None:
            return int(StreamStatus.INITIALISING)
        return int(StreamStatus.COASTING if self._coasting else StreamStatus.TRACKING)

    def pause(self) -> None:
        """Know that for a while no image will be processed, whatever the camera sees."""
        self._coasting = True
        self.stamps.pause()
        if self.odometry is not None:
            self.odometry.interrupt()

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
        self.axes_doubt = ''
        self._reader = ImageReader(lambda text: self._faults.count('encoding_assumed', text))
        self._check = ImageCheck(self._faults)
        self._view: _View | None = None
        self.stamps = StampOrder(self._faults)
        self._moment: Moment | None = None  # of the last image that was answered
        self._shift_ns = 0  # by how much the odometry knows that the clock was set forward
        self._coasting = False
        self._waited_for: set[str] = set()
        self._mounted_by = -1  # version of the static transforms that the mount is from
        self._failed = False
        self._stats_at = 0.0
        self._reset_wanted.clear()
        self._restart_record()

    def ask_for_reset(self) -> None:
        """Let the next image begin a stream; the odometry goes on from its last pose."""
        self._reset_wanted.set()

    def coast(self, moment: Moment) -> Odometry | None:
        """Return the last pose once more, less sure than it was, for an image of no use or in place of one.

        None before the first answer, and where the clock has been set since the last one.
        """
        mounted, last = self._mounted, self._moment
        if mounted is None or last is None or moment.shift_ns != self._shift_ns:
            return None
        of_now = moment.era == last.era == self.stamps.era
        state = mounted.odometry.coast(moment.stamp_ns) if of_now else None
        if state is None:
            return None
        self._coasting = True
        header = Header(frame_id=self.settings.frames_odom)
        header.stamp.sec, header.stamp.nanosec = divmod(moment.stamp_ns, NANOSECONDS)
        return conversions.odometry_from_state(state, header, mounted.mount.child)

    def process(
        self, message: Image | CompressedImage, cancelled: threading.Event, moment: Moment | None = None
    ) -> Answer:
        """Return the answer to an image. Raises FrameRefused or ValueError, with the reason, for one of no use.

        cancelled: set to end the waiting for transform and calibration that only a camera's first image does. moment:
        what `stamps` said of it as it arrived; None if it arrives only now.
        """
        header = Header(stamp=message.header.stamp, frame_id=bare(message.header.frame_id))
        if moment is None:
            moment = self.stamps.admit(nanoseconds(header.stamp), time.monotonic_ns())
        set_back = self._moment is not None and moment.era != self._moment.era
        image = self._reader.read(message)
        self._check.look_at(image)
        mounted = self._follow_view(image.shape[:2], header.frame_id, set_back, cancelled)
        self._follow_clock(mounted, moment)
        image = self.camera.rectify(image)
        prediction = self._predict(image)
        self.camera_frame = header.frame_id
        if time.monotonic() - self._stats_at > STATS_PERIOD_S:
            self.stats, self._stats_at = self._stream.stats(), time.monotonic()
        answer = self._answer(mounted, prediction, image, header, moment)
        self._moment, self._coasting = moment, self._check.frozen
        return answer

    def _predict(self, image: np.ndarray) -> Prediction:
        self._failed = True  # until it is known not to have
        try:
            prediction = self._stream.step(image)
        except RuntimeError as error:
            if is_out_of_memory(error):
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
        view, known, mounted = _View(size, frame), self._view, self._mounted
        if mounted is None or known is None or known.frame != frame or self._transforms.version != self._mounted_by:
            mounted = self._follow_mount(frame, cancelled)
        self._view = view  # only now: a pause while the mount is waited for leaves the old one
        other_lens = self.camera.follow(size, known != view)
        wanted = self._reset_wanted.is_set()
        self._reset_wanted.clear()
        if known is None or not (known != view or other_lens or set_back or self._failed or wanted):
            return mounted
        if set_back:
            self._faults.count('clock_set_back', 'stream reset: the clock was set back')
        elif known != view:
            self._faults.count(
                'image_changed', f'stream reset: images are now {size[1]} x {size[0]} in frame {frame!r}'
            )
        elif other_lens:
            self._faults.count('calibration', 'stream reset: the calibration in camera_info changed')
        self.resets += 1
        self._stream.reset()
        self.scale.restart()
        mounted.odometry.restart(keep=not set_back)
        if set_back:
            self._moment = None
            self._restart_record()
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
        doubt = doubt_about_axes(frame, mount.base_from_camera if mount.from_tf else None)
        if doubt and doubt != self.axes_doubt:
            self._faults.count('not_optical', doubt)
        self.axes_doubt = doubt
        if before is not None and not mount.differs(before.mount):
            return before
        if mount.problem:
            self._faults.count('second_parent' if mount.taken else 'no_transform', mount.problem)
        if before is None:
            odometry = OdometryIntegrator(mount.child_from_camera, mount.odom_from_child, self._drift)
        else:
            odometry, keep = before.odometry, mount.child == before.mount.child
            odometry.remount(mount.child_from_camera, mount.odom_from_child, keep=keep)
            if not keep:
                self._restart_record()
        self._mounted = mounted = _Mounted(mount, odometry)
        return mounted

    def _restart_record(self) -> None:
        """Let the record begin anew with the odometry: what it holds is of one frame."""
        if self._record is not None:
            self._record.restart()

    def _follow_clock(self, mounted: _Mounted, moment: Moment) -> None:
        """Tell the odometry what happened to time since the last answer."""
        mounted.odometry.shift_clock(moment.shift_ns - self._shift_ns)
        self._shift_ns = moment.shift_ns
        if moment.after_gap:
            mounted.odometry.interrupt()

    def _answer(
        self, mounted: _Mounted, prediction: Prediction, image: np.ndarray, header: Header, moment: Moment
    ) -> Answer:
        settings, mount, stamp_ns = self.settings, mounted.mount, moment.stamp_ns
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
        info = conversions.info_from_K(maps.K, maps.depth.shape, header)
        transform = conversions.transform_from_pose(odometry.odom_from_child, odom, mount.child)
        return Answer(
            depth=conversions.image_from_map(maps.depth, header),
            confidence=conversions.image_from_map(maps.confidence, header),
            info=info,
            odometry=conversions.odometry_from_state(odometry, odom, mount.child),
            transform=None if mount.taken else transform,
            rgb=conversions.image_from_rgb(colours, header) if wants_rgb and colours is not None else None,
            rgb_info=info if self._wants('rgb_info') else None,  # depth and colours are of one size
            points=self._cloud(maps, colours, header) if wants_points and colours is not None else None,
            moment=moment,
            state=odometry,
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
        # Whether a camera that shows the same bytes again and again stands still, or is stuck, nobody can tell.
        held = mounted.odometry.coast(stamp_ns, prediction.world_from_camera) if self._check.frozen else None
        odometry = held or mounted.odometry.advance(stamp_ns, prediction.world_from_camera, scale)
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
            stride = points_stride(maps.depth.shape)
            depth, K = self._sure(maps, stride)
            thinned = colours[::stride, ::stride]
            self._record.add_points(stamp_ns, geometry.unproject(depth, K), thinned, odom_from_camera, K)
