# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""An input that falls silent is told of while it lasts, and is new once each time."""

from __future__ import annotations

from evict3r_ros.ros.node.silence import SILENCE_S, SilenceWatch


def test_a_silence_begins_lasts_and_begins_again():
    now, count = [100.0], [0]
    watch = SilenceWatch('depth', '/depth_in', lambda: count[0], clock=lambda: now[0])
    assert watch.update() == ('', False)
    now[0] += SILENCE_S + 1.0
    assert watch.update() == ('no depth ever on /depth_in for 4 s', True)
    now[0] += 1.0
    assert watch.update() == ('no depth ever on /depth_in for 5 s', False)
    count[0] += 1
    assert watch.update() == ('', False)
    now[0] += SILENCE_S + 1.0
    assert watch.update() == ('no depth on /depth_in for 4 s', True)
