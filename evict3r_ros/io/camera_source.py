# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames from a camera of this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2

from evict3r_ros.errors import UserError
from evict3r_ros.io.frames import FramePicker, Selection, VideoFrame, count_of_live


class Camera:
    """A camera by its OpenCV number or its device; frames that arrive while the network is busy are dropped."""

    is_live, damaged = True, 0
    notes: list[str] = []  # noqa: RUF012, nobody adds to it

    def __init__(self, place: int | str, selection: Selection):
        self._place, self._selection = place, selection

    def identity(self) -> dict[str, Any]:
        """See FrameSource."""
        return {'camera': self._place, **self._selection.identity()}

    def expected(self) -> int | None:
        """See FrameSource."""
        return self._selection.count

    def exact_count(self) -> int:
        """See FrameSource."""
        return count_of_live(self._selection)

    def frames(self) -> Iterator[VideoFrame]:
        """See FrameSource; ends with the selection or the camera."""
        camera = cv2.VideoCapture(self._place)
        try:
            if not camera.isOpened():
                raise UserError(f'camera {self._place} cannot be opened{self._reason()}')
            # No queue of old images, if the driver supports this.
            camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            picker, begin, number = FramePicker(self._selection), time.monotonic_ns(), 0
            while camera.grab():
                stamp = time.monotonic_ns() - begin
                if picker.is_over(stamp):
                    return
                if picker.takes(stamp):
                    there, image = camera.retrieve()
                    if there:
                        yield VideoFrame(stamp, f'frame {number}', cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
                number += 1
            if not picker.taken:
                raise UserError(f'camera {self._place} gives no images')
        finally:
            camera.release()

    def _reason(self) -> str:
        """Return what is known of a device that cannot be opened."""
        device = Path(f'/dev/video{self._place}' if isinstance(self._place, int) else self._place)
        if not device.exists():
            return f': there is no {device} (`v4l2-ctl --list-devices` lists what there is)'
        try:
            device.open('rb').close()
        except OSError as error:
            return f': {error.strerror} (is the user in the group video, and does nobody else use it?)'
        return ': it gives no video, or somebody else uses it'
