# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether odom -> base goes to /tf: the one decision, for the live node and for a bag offline.

Somebody has to vouch for the lengths, nobody else may move the frame, and the node has to have listened for others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from geometry_msgs.msg import TransformStamped

from evict3r_ros.network import StreamVGGT
from evict3r_ros.ros.perception.faults import Faults
from evict3r_ros.ros.perception.other_movers import OtherMovers
from evict3r_ros.ros.perception.perception import Perception


class TransformGate:
    """Let transforms pass, or say why not; safe to use from several threads.

    log(is_error, text): told when the lengths begin or cease to be vouched for.
    """

    def __init__(
        self,
        perception: Perception,
        network: StreamVGGT,
        movers: OtherMovers,
        faults: Faults,
        log: Callable[[bool, str], None],
    ) -> None:
        self._perception, self._network, self._movers = perception, network, movers
        self._faults, self._log = faults, log
        self._telling = threading.Lock()
        self._unvouched = ''
        self._found = ''
        self.tell()

    def wait(self, cancelled: threading.Event) -> None:
        """Wait before the first image until others could be heard, so that all answers have a transform.

        cancelled: set to end the waiting. Where nothing would be sent anyway, nobody waits.
        """
        if self._perception.mount is None and not self.withheld():
            cancelled.wait(max(0.0, self._perception.settings.startup_timeout - self._movers.listened_s()))

    def admits(self, transform: TransformStamped | None) -> bool:
        """Return whether to publish a transform now, and remember it as ours if so.

        transform: None if its frame has another parent in /tf_static. One of a frame that was moved before, until
        the camera's mount was known, is not sent any more.
        """
        settings, mount = self._perception.settings, self._perception.mount
        if mount is not None:
            self._movers.follow(settings.frames_odom, mount.child, settings.frames_base)
        self.tell()
        if transform is None or self.withheld() or (mount is not None and transform.child_frame_id != mount.child):
            return False
        # Who has heard the camera's mount, latched, would lose it to a transform of the same frame that comes after.
        if self._perception.mount_may_change:
            return False
        self._movers.sending(transform)
        return True

    def withheld(self) -> str:
        """Return why nothing is sent at the moment, '' if it is; before the first image, only what is known by then."""
        settings, mount = self._perception.settings, self._perception.mount
        if settings.publish_tf == 'false':
            return 'publish_tf is false'
        if reason := self._nobody_vouches():
            return reason
        if mount is None:
            return ''
        if mount.taken:
            return mount.problem
        if reason := self._moved_by_others():
            return reason
        if self._movers.listened_s() < settings.startup_timeout:
            return f'/tf is listened to for {settings.startup_timeout:g} s before anything is sent there'
        return ''

    def conditions(self) -> list[str]:
        """Return what a user has to decide before anything is sent, in words; what the mount lacks is not among it."""
        if self._perception.settings.publish_tf == 'false':
            return []
        reason = self._nobody_vouches() or self._moved_by_others()
        return [reason] if reason else []

    def _nobody_vouches(self) -> str:
        settings = self._perception.settings
        if settings.publish_tf != 'auto' or self._perception.scale.state.is_metric:
            return ''
        if not self._network.demonstration:
            return ''
        weights = 'untrained' if self._network.untrained else 'for demonstration'
        source = settings.scale_source
        way_out = 'name a scale.source' if source == 'none' else f'scale.source {source} has yet to find it'
        return (
            f'nothing is sent to /tf: publish_tf is auto, the weights are {weights} and the scale is not metric '
            f'({way_out}, or say publish_tf: true)'
        )

    def _moved_by_others(self) -> str:
        found = self._movers.found() if self._perception.mount is not None else ''
        return found and f'somebody else publishes {found}: nothing is sent to /tf until ~/reset or a new activation'

    def tell(self) -> None:
        """Log what vouches for the lengths when that changes, and count others who move the frame, each once.

        To be called now and then without images, too.
        """
        unvouched, found = self._nobody_vouches(), self._moved_by_others()
        if self._perception.settings.publish_tf == 'false':
            return
        with self._telling:
            if unvouched != self._unvouched:
                self._log(False, unvouched or 'the odometry is sent to /tf from now on')
            self._unvouched = unvouched
            if unvouched:
                return
            if found and found != self._found:
                self._faults.count('second_parent', f'{found} (publish_tf: false if that is meant)')
            self._found = found
