# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong around a running stream: the kinds, how often each came, and one throttled line of log a kind.

docs/faults.md has a row for each kind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from evict3r_ros.errors import UserError
from evict3r_ros.kernels.device_errors import is_device_lost, is_out_of_memory

# kind -> (whether it is an error and not a warning, what it is called in a diagnostic)
KINDS = {
    'broken_image': (False, 'image messages that cannot be read'),
    'encoding_assumed': (False, 'encodings that do not say what their pixels are'),
    'bad_stamp': (False, 'images whose stamp is zero, negative, repeated, or not of its time'),
    'blank_image': (False, 'images without any contrast'),
    'frozen_image': (False, 'runs of identical images'),
    'image_gap': (False, 'gaps between images'),
    'clock_set_back': (False, 'clocks set back'),
    'clock_set_forward': (False, 'clocks set forward'),
    'image_changed': (False, 'changes of image size or camera frame'),
    'calibration': (False, 'camera_info that cannot be used, or that changed'),
    'no_transform': (False, 'cameras without a static transform to the base'),
    'not_optical': (False, 'camera frames that do not look like optical ones'),
    'second_parent': (True, 'frames that somebody else moves as well'),
    'two_publishers': (False, 'several publishers on one input topic'),
    'silent_input': (False, 'an odom_in or depth_in that is silent'),
    'broken_input': (False, 'odom_in or depth_in messages that cannot be used'),
    'not_finite': (True, 'answers of the network that are not finite'),
    'out_of_memory': (True, 'frames for which the device had no memory'),
    'network_failed': (True, 'frames that failed inside the network'),
    'device_lost': (True, 'a device that answers nothing any more'),
    'callback_failed': (True, 'callbacks that failed'),
    'not_saved': (True, 'things that could not be written to disk'),
}
THROTTLE_S = 5.0


class FrameRefused(ValueError):
    """An image that is not answered: the kind of fault, and the reason in words."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def explain(error: Exception) -> tuple[str, str]:
    """Return the kind of fault that an exception from a frame is, and one line about it."""
    lines = str(error).strip().splitlines()
    return _kind(error), lines[0] if lines else type(error).__name__


def _kind(error: Exception) -> str:
    if isinstance(error, FrameRefused):
        return error.kind
    if isinstance(error, RuntimeError) and is_out_of_memory(error):
        return 'out_of_memory'
    if is_device_lost(error):
        return 'device_lost'
    # What is wrong with a message, conversions.py tells by ValueError; UserError is one as well, but of settings.
    if isinstance(error, ValueError) and not isinstance(error, UserError):
        return 'broken_image'
    return 'network_failed'


class Faults:
    """Count faults by kind and have them logged; safe to use from several threads.

    log(is_error, text): is called for the first fault of a kind, and for later ones at most once in THROTTLE_S, then
    with the number of those left out.
    """

    def __init__(self, log: Callable[[bool, str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._at: dict[str, float] = {}
        self._logged: dict[str, tuple[float, int]] = {}  # kind -> (when, count then)
        self.last = ''

    def count(self, kind: str, text: str, details: str = '') -> None:
        """Count a fault. text: one line, for the status and the log; details: more for the log alone."""
        is_error, _ = KINDS[kind]
        with self._lock:
            now = self._clock()
            number = self._counts[kind] = self._counts.get(kind, 0) + 1
            self._at[kind] = now
            self.last = text
            when, before = self._logged.get(kind, (-THROTTLE_S, number - 1))
            if now - when < THROTTLE_S:
                return
            self._logged[kind] = now, number
        silent = number - 1 - before
        self._log(is_error, f'{text}{f" ({silent} more of its kind since the last line)" if silent else ""}{details}')

    def counts(self) -> dict[str, int]:
        """Return how often each kind came; kinds that never came are left out."""
        with self._lock:
            return dict(self._counts)

    def recent(self, within_s: float) -> list[str]:
        """Return the kinds that came in the last seconds."""
        with self._lock:
            now = self._clock()
            return [kind for kind, at in self._at.items() if now - at <= within_s]

    def clear(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self._counts, self._at, self._logged, self.last = {}, {}, {}, ''
