# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the node has in its lifecycle states: Configured from configure to cleanup, Active from activate to deactivate.

Threads of the executor and the worker's thread look at both while transitions make and end them: whoever needs one
takes a reference once and goes on with it. What was ended answers on, but publishes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from evict3r_ros.io.scene_record import SceneRecord
from evict3r_ros.ros.node.between_answers import BetweenAnswers
from evict3r_ros.ros.node.inputs import Inputs
from evict3r_ros.ros.node.outputs import Outputs
from evict3r_ros.ros.perception.faults import Faults, FrameRefused
from evict3r_ros.ros.perception.other_movers import OtherMovers
from evict3r_ros.ros.perception.perception import Answer, Perception
from evict3r_ros.ros.perception.stamps import Moment
from evict3r_ros.ros.perception.transform_gate import TransformGate
from evict3r_ros.ros.perception.transforms import StaticTransforms
from evict3r_ros.ros.perception.worker import Counts, Worker
from evict3r_ros.ros.settings import parameters
from evict3r_ros.ros.settings.assembly import open_stream
from evict3r_ros.ros.settings.parameters import Settings

_Item = tuple[Image | CompressedImage, Moment]


class Configured:
    """Weights loaded, all memory allocated, topics advertised.

    log(is_error, text): where to tell what a user should know. Raises UserError for settings that cannot work; nothing
    is left behind then.
    """

    def __init__(
        self,
        node: Node,
        transforms: StaticTransforms,
        movers: OtherMovers,
        faults: Faults,
        log: Callable[[bool, str], None],
    ) -> None:
        settings = parameters.read(node)
        self._movers = movers
        with contextlib.ExitStack() as undo:
            movers.start()
            undo.callback(movers.stop)
            self.network, self.stream = open_stream(settings, log)
            undo.callback(self.stream.close)
            self.outputs = Outputs(node)
            undo.callback(self.outputs.close)
            self.record = _open_record(settings, faults)
            if self.record is not None:
                undo.callback(self.record.close)
            self.perception = Perception(
                self.stream,
                settings,
                transforms,
                faults,
                self.outputs.wanted,
                lambda: node.count_publishers(node.resolve_topic_name('camera_info')) > 0,
                self.record,
                node.resolve_topic_name('image'),
            )
            self.gate = TransformGate(self.perception, self.network, movers, faults, log)
            undo.pop_all()
        self._warm = False

    @property
    def settings(self) -> Settings:
        """The settings that hold now, with what was changed live."""
        return self.perception.settings

    def get_ready(self) -> None:
        """Warm up, the first time; a node that was deactivated goes on where it was."""
        if not self._warm:
            self.perception.warm_up()
            self.perception.begin()
        self._warm = True

    def publish_transform(self, transform: TransformStamped) -> None:
        """Publish a transform between two answers, if this node moves the robot."""
        if self.gate.admits(transform):
            self.outputs.publish_transform(transform)

    def publish(self, answer: Answer) -> None:
        """Publish an answer; its transform only if this node moves the robot."""
        self.outputs.publish(answer, with_tf=self.gate.admits(answer.transform))
        answer.keep()

    def forget_movers(self) -> None:
        """Let the transform go out again if those who moved its frame have been silent for a while."""
        self._movers.forget(self.settings.startup_timeout)

    def close(self) -> None:
        """Give back everything that configure took."""
        self._movers.stop()
        self.outputs.close()
        if self.record is not None:
            self.record.close()
        self.stream.close()


class Active:
    """Subscribed to a camera, with a worker that answers its images.

    failed(error): is told of each image that was not answered. before: the counts to go on from. Raises UserError for
    overrides of quality that cannot be; nothing is left behind then.
    """

    def __init__(
        self,
        node: Node,
        configured: Configured,
        transforms: StaticTransforms,
        faults: Faults,
        failed: Callable[[Exception], None],
        before: Counts,
    ) -> None:
        self._configured = configured
        perception = configured.perception
        perception.settings = parameters.read(node)  # what was changed while the weights were loading
        configured.get_ready()
        configured.forget_movers()
        self.worker: Worker[_Item, Answer] = Worker(self._answer, self._publish, failed, before)
        self.inputs = Inputs(node, configured.settings, perception, transforms, faults, self._offer, self.worker.refuse)
        self._between = BetweenAnswers(
            node, perception, configured.outputs, configured.publish_transform, self.worker.is_idle
        )
        self.worker.start()

    def close(self) -> Counts:
        """Unsubscribe and wait for the frame in work; return what became of all images."""
        self.inputs.close()
        self._between.close()
        self.worker.stop()
        self._configured.perception.pause()
        return self.worker.counts()

    def _offer(self, message: Image | CompressedImage, moment: Moment) -> None:
        self.worker.offer((message, moment))

    def _answer(self, item: _Item) -> Answer:
        perception = self._configured.perception
        message, moment = item
        self._configured.gate.wait(self.worker.stopping)
        try:
            return perception.process(message, self.worker.stopping, moment)
        except Exception:
            odometry = None if self.worker.stopping.is_set() else perception.coast(moment)
            if odometry is not None:
                self._configured.outputs.publish_odometry(odometry)
            raise

    def _publish(self, answer: Answer) -> None:
        if answer.moment.era != self._configured.perception.stamps.era:
            raise FrameRefused('bad_stamp', 'an answer was withheld: the clock was set back while it was worked on')
        self._configured.publish(answer)
        self._between.answered(answer)


def _open_record(settings: Settings, faults: Faults) -> SceneRecord | None:
    """Return what ~/save writes, or None: a disk that cannot be written must not keep a robot from seeing."""
    if not settings.save_folder:
        return None
    folder = Path(settings.save_folder).expanduser()
    try:
        return SceneRecord(folder, settings.save_max_points)
    except OSError as error:
        faults.count('not_saved', f'nothing is kept for ~/save: save.folder {folder}: {error.strerror}')
        return None
