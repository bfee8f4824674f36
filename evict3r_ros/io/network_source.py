# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames from a stream in the network (RTSP and others), decoded by FFmpeg on a thread of its own."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

import av

from evict3r_ros.errors import UserError
from evict3r_ros.io.frames import FramePicker, Selection, VideoFrame, count_of_live
from evict3r_ros.io.stamps import NANOSECONDS
from evict3r_ros.io.video_decoding import StampClock, rgb_of, why

SCHEMES = ('rtsp', 'rtsps', 'rtmp', 'rtmps', 'rtp', 'srt', 'tcp', 'udp', 'http', 'https')
_ON_DEMAND = ('http', 'https')
"""Schemes of what waits for its reader: nothing of it is dropped."""
_OPEN_S, _SILENCE_S = 10.0, 10.0
"""How long an address may take to answer, and a stream may be silent."""
_LOOK_S = 0.1
"""How soon Ctrl-C, and the end of the thread, are noticed."""


class NetworkStream:
    """A stream by its address. Of a live one, frames that arrive while the network is busy are dropped."""

    is_live, damaged = True, 0

    def __init__(self, address: str, selection: Selection):
        self._address, self._selection = address, selection
        self.notes: list[str] = []

    def identity(self) -> dict[str, Any]:
        """See FrameSource."""
        return {'stream': self._address, **self._selection.identity()}

    def expected(self) -> int | None:
        """See FrameSource."""
        return self._selection.count

    def exact_count(self) -> int:
        """See FrameSource."""
        return count_of_live(self._selection)

    def frames(self) -> Iterator[VideoFrame]:
        """See FrameSource; ends with the selection or the stream."""
        reader = _Reader(self._address)
        reader.start()
        picker, clock, size = FramePicker(self._selection), StampClock(None), None
        try:
            for number, frame in reader.frames():
                stamp = clock.stamp(frame)
                if picker.is_over(stamp):
                    return
                if not picker.takes(stamp):
                    continue
                image = rgb_of(frame, reader.aspect)
                size = size or image.shape
                if image.shape != size:
                    raise UserError(f'{self._address}: the size of its images changes at {stamp / NANOSECONDS:g} s')
                yield VideoFrame(stamp, f'frame {number}', image)
            if not picker.taken:
                raise UserError(f'{self._address}: gives no images')
        finally:
            reader.stop()
            self.damaged, self.notes = reader.damaged, clock.notes(self._address)


class _Reader(threading.Thread):
    """Decodes a stream into a place for one frame. FFmpeg may wait for seconds, in which no signal would be heard."""

    def __init__(self, address: str) -> None:
        super().__init__(name='network stream', daemon=True)
        self.damaged, self.aspect = 0, 1.0
        self._address = address
        self._newest: queue.Queue[tuple[int, av.VideoFrame]] = queue.Queue(1)
        self._drops = address.partition('://')[0].lower() not in _ON_DEMAND
        self._stopped, self._failure = threading.Event(), ''

    def frames(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield number in the stream and frame until the stream ends. Raises UserError if it fails."""
        while True:
            alive = self.is_alive()
            try:
                yield self._newest.get(timeout=_LOOK_S)
            except queue.Empty:
                if alive:
                    continue
                if self._failure:
                    raise UserError(self._failure) from None
                return

    def stop(self) -> None:
        """Let the thread end when FFmpeg lets it."""
        self._stopped.set()

    def run(self) -> None:
        """Decode until the stream ends or somebody stops it."""
        options = {'rtsp_transport': 'tcp'} if self._address.lower().startswith('rtsp') else {}
        try:
            container = av.open(self._address, options=options, timeout=(_OPEN_S, _SILENCE_S))
        except (av.FFmpegError, OSError, ValueError) as error:
            self._failure = f'{self._address}: cannot be opened: {why(error)}'
            return
        with container:
            if not container.streams.video:
                self._failure = f'{self._address}: has no video'
                return
            stream = container.streams.video[0]
            self.aspect = float(stream.sample_aspect_ratio or 1)
            packets, number = container.demux(stream), 0
            while not self._stopped.is_set():
                try:
                    packet = next(packets, None)
                except (av.FFmpegError, OSError) as error:
                    self._failure = f'{self._address}: the stream ended: {why(error)}'
                    return
                if packet is None:
                    return
                try:
                    decoded = packet.decode()
                except av.FFmpegError:
                    self.damaged += 1
                    continue
                for frame in decoded:
                    self._offer(number, frame)
                    number += 1

    def _offer(self, number: int, frame: av.VideoFrame) -> None:
        while not self._stopped.is_set():
            if self._drops:
                with contextlib.suppress(queue.Empty):
                    self._newest.get_nowait()
            with contextlib.suppress(queue.Full):
                self._newest.put((number, frame), timeout=_LOOK_S)
                return
