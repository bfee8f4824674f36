# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny data sets in each published layout, made of synthetic worlds: writers for the tests of the loaders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml
from scipy.spatial.transform import Rotation

from evict3r_ros.geometry import invert, quaternion_from_matrix, transform
from evict3r_ros.io.image_folder import CameraModel, write_camera_file
from evict3r_ros.synthetic.clips import render_clips

SIZE = (42, 56)


@dataclass(frozen=True)
class World:
    """A clip's truth as arrays: images (n, h, w, 3), depth (n, h, w), poses (n, 4, 4), K (3, 3)."""

    images: np.ndarray
    depth: np.ndarray
    poses: np.ndarray
    K: np.ndarray


def make_world(frames: int = 12, seed: int = 1_500_000_000) -> World:
    clips = render_clips([seed], frames, 3, SIZE, effects=False)
    # A frame of reference that nobody's first camera is.
    turned = transform(Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix(), np.array([1.0, 2.0, -0.5]))
    return World(
        clips.images[0].numpy(),
        clips.depth[0].numpy(),
        turned @ clips.world_from_camera[0].numpy(),
        clips.intrinsics[0].numpy(),
    )


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def write_depth(path: Path, depth: np.ndarray, per_metre: float, invalid: int = 0) -> None:
    """16 bits; the first pixel is not known."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = np.round(depth * per_metre).astype(np.uint16)
    stored[0, 0] = invalid
    assert cv2.imwrite(str(path), stored)


def tum_row(stamp: float, pose: np.ndarray) -> str:
    return ' '.join(f'{number:.9f}' for number in (stamp, *pose[:3, 3], *quaternion_from_matrix(pose))) + '\n'


def sintel(root: Path, world: World, scene: str = 'alley_2') -> None:
    for index, (image, depth, pose) in enumerate(zip(world.images, world.depth, world.poses, strict=True), start=1):
        write_image(root / 'training' / 'final' / scene / f'frame_{index:04d}.png', image)
        path = root / 'training' / 'depth' / scene / f'frame_{index:04d}.dpt'
        path.parent.mkdir(parents=True, exist_ok=True)
        tag = np.float32(202021.25).tobytes()
        path.write_bytes(tag + np.array(depth.shape[::-1], '<i4').tobytes() + depth.astype('<f4').tobytes())
        path = root / 'training' / 'camdata_left' / scene / f'frame_{index:04d}.cam'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tag + world.K.astype('<f8').tobytes() + invert(pose)[:3].astype('<f8').tobytes())


def bonn(root: Path, world: World) -> None:
    folder = root / 'rgbd_bonn_dataset' / 'rgbd_bonn_balloon2'
    for index, (image, depth) in enumerate(zip(world.images, world.depth, strict=True)):
        # Cameras of one device, not in step: the depth comes 9 ms later, and one more of them at the front.
        write_image(folder / 'rgb_110' / f'{1548266524 + index / 30:.5f}.png', image)
        write_depth(folder / 'depth_110' / f'{1548266524 + index / 30 + 0.009:.5f}.png', depth, 5000.0)
    write_depth(folder / 'depth_110' / '1548266523.99000.png', world.depth[0] + 1.0, 5000.0)


def kitti(root: Path, world: World) -> None:
    folder, drive = root / 'depth_selection' / 'val_selection_cropped', '2011_09_26_drive_0002_sync_02'
    for index, (image, depth) in enumerate(zip(world.images, world.depth, strict=True), start=5):
        write_image(folder / 'image_gathered' / drive / f'{index:010d}.png', image)
        write_depth(folder / 'groundtruth_depth_gathered' / drive / f'{index:010d}.png', depth, 256.0)


def nyu(root: Path, world: World) -> None:
    for index, (image, depth) in enumerate(zip(world.images, world.depth, strict=True)):
        write_image(root / 'val' / 'nyu_images' / f'{index}.png', image)
        path = root / 'val' / 'nyu_depths' / f'{index}.npy'
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, depth)


def tum(root: Path, world: World, prepared: bool = True) -> None:
    folder = root / 'rgbd_dataset_freiburg3_walking_xyz'
    start, step = 1341846313.592026, 1 / 30
    lines = ['# timestamp tx ty tz qx qy qz qw\n']
    frames = len(world.images)
    for index in range(frames if prepared else 3 * frames):
        number = index if prepared else index // 3
        name = f'{start + index * step:.6f}.png'
        write_image(folder / ('rgb_90' if prepared else 'rgb') / name, world.images[number])
        lines.append(tum_row(start + index * step + 0.004, world.poses[number]))
        # A motion capture system is faster than the camera.
        lines.append(tum_row(start + (index + 0.5) * step, np.eye(4)))
    (folder / ('groundtruth_90.txt' if prepared else 'groundtruth.txt')).write_text(''.join(lines))


def scannet(root: Path, world: World, prepared: bool = True) -> None:
    """Tracking is lost in frame 1."""
    folder = root / 'scene0707_00'
    poses = np.array(world.poses)
    poses[1] = -np.inf
    if prepared:
        for index, image in enumerate(world.images):
            write_image(folder / 'color_90' / f'frame_{index:04d}.jpg', image)
        np.savetxt(folder / 'pose_90.txt', poses.reshape(len(poses), 16))
        return
    for index in range(3 * len(poses)):
        write_image(folder / 'color' / f'{index}.jpg', world.images[index // 3])
        (folder / 'pose').mkdir(exist_ok=True)
        np.savetxt(folder / 'pose' / f'{index}.txt', poses[index // 3])


def kitti_odometry(root: Path, world: World) -> None:
    for index, image in enumerate(world.images):
        write_image(root / 'sequences' / '00' / 'image_2' / f'{index:06d}.png', image)
    projection = np.hstack([world.K, (world.K @ [0.06, 0.001, 0.002])[:, None]])
    lines = ''.join(
        f'P{camera}: ' + ' '.join(f'{number:.12e}' for number in projection.ravel()) + '\n' for camera in range(4)
    )
    (root / 'sequences' / '00' / 'calib.txt').write_text(lines)
    # Camera 2 is at minus the projection's offset in the frame of camera 0.
    second_in_first = transform(np.eye(3), -np.array([0.06, 0.001, 0.002]))
    (root / 'poses').mkdir()
    first = [(pose @ invert(second_in_first))[:3].ravel() for pose in world.poses]
    np.savetxt(root / 'poses' / '00.txt', np.stack(first))


def euroc(
    root: Path, world: World, distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0), lens: str = 'radial-tangential'
) -> None:
    folder = root / 'MH_01_easy' / 'mav0'
    body_from_camera = transform(Rotation.from_rotvec([0.1, 1.2, -0.4]).as_matrix(), np.array([0.02, -0.06, 0.01]))
    start, step = 1403636579763555584, 50_000_000
    rows, states = ['#timestamp [ns],filename\n'], ['#timestamp, p, q\n']
    for index, (image, pose) in enumerate(zip(world.images, world.poses, strict=True)):
        stamp = start + index * step
        write_image(folder / 'cam0' / 'data' / f'{stamp}.png', image)
        rows.append(f'{stamp},{stamp}.png\n')
        body = pose @ invert(body_from_camera)
        x, y, z, w = quaternion_from_matrix(body)
        for offset in (-2_000_000, 1_000_000, 20_000_000):
            # The middle one is the truth of this image; velocity and biases follow.
            position = body[:3, 3] if offset == 1_000_000 else body[:3, 3] + 10.0
            numbers = ','.join(f'{number:.9f}' for number in (*position, w, x, y, z, *[0.0] * 9))
            states.append(f'{stamp + offset},{numbers}\n')
    # An image from before the truth begins.
    write_image(folder / 'cam0' / 'data' / f'{start - 10 * step}.png', world.images[0])
    rows.insert(1, f'{start - 10 * step},{start - 10 * step}.png\n')
    (folder / 'cam0' / 'data.csv').write_text(''.join(rows))
    (folder / 'state_groundtruth_estimate0').mkdir()
    (folder / 'state_groundtruth_estimate0' / 'data.csv').write_text(''.join(states))
    (folder / 'cam0' / 'sensor.yaml').write_text(
        yaml.safe_dump(
            {
                'sensor_type': 'camera',
                'T_BS': {'cols': 4, 'rows': 4, 'data': body_from_camera.ravel().tolist()},
                'resolution': [SIZE[1], SIZE[0]],
                'camera_model': 'pinhole',
                'distortion_model': lens,
                'distortion_coefficients': list(distortion),
                'intrinsics': [float(world.K[0, 0]), float(world.K[1, 1]), float(world.K[0, 2]), float(world.K[1, 2])],
            }
        )
    )


def folder(root: Path, world: World) -> None:
    """As ``evict3r world --out`` writes, with the stamps of a slow camera."""
    rows, poses = ['stamp_ns,file\n'], ''
    for number, (image, depth, pose) in enumerate(zip(world.images, world.depth, world.poses, strict=True)):
        write_image(root / 'rgb' / f'{number:06d}.png', image)
        write_depth(root / 'depth' / f'{number:06d}.png', depth, 1000.0)
        rows.append(f'{number * 10**8},rgb/{number:06d}.png\n')
        poses += tum_row(number / 10, pose)
    (root / 'frames.csv').write_text(''.join(rows))
    (root / 'groundtruth_cam0.tum').write_text(poses)
    write_camera_file(root / 'camera.yaml', CameraModel.pinhole('camera', SIZE[1], SIZE[0], world.K))


def seven_scenes(root: Path, world: World, projected: bool = True) -> None:
    """640 x 480, as its camera is; a second sequence is for training."""
    scene = root / 'chess'
    for sequence in ('seq-01', 'seq-03'):
        for index, (image, depth, pose) in enumerate(zip(world.images, world.depth, world.poses, strict=True)):
            stem = scene / sequence / f'frame-{index:06d}'
            write_image(stem.with_name(f'{stem.name}.color.png'), cv2.resize(image, (640, 480)))
            depth = cv2.resize(depth, (640, 480), interpolation=cv2.INTER_NEAREST)
            if projected:
                write_depth(stem.with_name(f'{stem.name}.depth.proj.png'), depth, 1000.0, invalid=65535)
            write_depth(stem.with_name(f'{stem.name}.depth.png'), depth + (0.3 if projected else 0.0), 1000.0)
            np.savetxt(stem.with_name(f'{stem.name}.pose.txt'), pose)
    (scene / 'TestSplit.txt').write_text('sequence3\r\n')
    (scene / 'TrainSplit.txt').write_text('sequence1\r\n')


def neural_rgbd(root: Path, world: World) -> None:
    """Tracking is lost in frame 1."""
    scene, blocks = root / 'breakfast_room', []
    for index, (image, depth, pose) in enumerate(zip(world.images, world.depth, world.poses, strict=True)):
        write_image(scene / 'images' / f'img{index}.png', image)
        write_depth(scene / 'depth' / f'depth{index}.png', depth, 1000.0)
        blocks.append(np.full((4, 4), np.nan) if index == 1 else pose @ np.diag([1.0, -1.0, -1.0, 1.0]))
    np.savetxt(scene / 'poses.txt', np.concatenate(blocks))
    (scene / 'focal.txt').write_text(f'{world.K[0, 0]}\n')


WRITERS = {
    'folder': folder,
    'sintel': sintel,
    'bonn': bonn,
    'kitti': kitti,
    'nyu': nyu,
    'tum': tum,
    'scannet': scannet,
    'euroc': euroc,
    'kitti-odometry': kitti_odometry,
    '7-scenes': seven_scenes,
    'nrgbd': neural_rgbd,
}
