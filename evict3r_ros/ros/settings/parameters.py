# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""All parameters of the node, in one table: default, meaning, unit, range, and whether they change live."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from evict3r_ros.cache import POLICIES, CacheConfig
from evict3r_ros.cache.config import BUDGETS
from evict3r_ros.errors import UserError
from evict3r_ros.network import PRESETS
from evict3r_ros.network.checkpoint import AUTO, TINY
from evict3r_ros.network.precision import DTYPES
from evict3r_ros.odometry.scale import SOURCES, ScaleSettings

Value = bool | int | float | str


@dataclass(frozen=True)
class Parameter:
    """One line of the table.

    bounds: smallest and largest number allowed; integers go in steps of `step`. choices: the strings allowed.
    any_type: it may be set to a value of another type than the default's. live: whether a running node takes a
    change; the others are read by configure, and a change after it is rejected, because it would do nothing.
    """

    name: str
    default: Value
    description: str
    unit: str = ''
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    any_type: bool = False
    step: int = 1
    live: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """Return the ROS descriptor that tools show."""
        when = 'Can be changed at any time.' if self.live else 'Read by configure.'
        constraints = f'one of: {", ".join(self.choices)}' if self.choices else ''
        answer = ParameterDescriptor(
            name=self.name,
            description=f'{self.description} {when}',
            additional_constraints=constraints,
            dynamic_typing=self.any_type,
        )
        if self.bounds is not None and isinstance(self.default, int):
            answer.integer_range = [
                IntegerRange(from_value=int(self.bounds[0]), to_value=int(self.bounds[1]), step=self.step)
            ]
        elif self.bounds is not None:
            answer.floating_point_range = [
                FloatingPointRange(from_value=float(self.bounds[0]), to_value=float(self.bounds[1]))
            ]
        return answer


_CACHE = CacheConfig()
_SCALE = ScaleSettings()

PARAMETERS = (
    Parameter(
        'weights',
        TINY,
        "This package's own, 'tiny'; 'official' to download the published ones; the path of a "
        "checkpoint (.safetensors or .pth); or 'random' for untrained ones, which only show that everything is "
        'connected.',
    ),
    Parameter('preset', AUTO, "Size of the network; 'auto' is that of the weights.", choices=(AUTO, *PRESETS)),
    Parameter('device', 'auto', "Where the network runs: 'cpu', 'cuda', 'cuda:1'; 'auto' takes CUDA if it is there."),
    Parameter(
        'dtype',
        'auto',
        "Precision of weights and cache; 'auto' is bfloat16 on CUDA and float32 on a CPU.",
        choices=(AUTO, *DTYPES),
    ),
    Parameter(
        'image_width',
        0,
        "Width that images are brought to, a multiple of 14; less is faster and sees less. 0 is the preset's.",
        'pixels',
        (0, 4088),
        step=14,
    ),
    Parameter('seed', 0, "Seed of 'random' weights.", bounds=(0, 2**31 - 1)),
    Parameter('cache.policy', _CACHE.policy, 'Which tokens leave the cache when it is full.', choices=tuple(POLICIES)),
    Parameter('cache.tokens', _CACHE.tokens, 'Tokens a layer that survive a frame.', 'tokens', (1, 10_000_000)),
    Parameter(
        'cache.memory_mb',
        0.0,
        'Memory for keys and values, instead of cache.tokens: as many tokens as fit; 0 leaves it to cache.tokens.',
        'MiB',
        (0.0, 1e6),
    ),
    Parameter(
        'cache.bits',
        _CACHE.bits,
        'Stored precision of keys and values: 32 or 16 (floating point), 8, 4 or 2 '
        "(packed integers), or three of them as 'FIRST_FRAME/RECENT/REST', such as '16/8/4'.",
        'bits',
        any_type=True,
    ),
    Parameter(
        'cache.scores',
        _CACHE.scores,
        "evict3r: whose attention counts, that of all queries ('exact') or of "
        "pooled ones ('pooled'), at a sixteenth of the cost.",
        choices=('exact', 'pooled'),
    ),
    Parameter(
        'cache.budget', _CACHE.budget, "'adaptive' attends to fewer tokens while the scene is still.", choices=BUDGETS
    ),
    Parameter(
        'cache.camera_frames', _CACHE.camera_frames, 'Frames that the camera head remembers.', 'frames', (3, 100_000)
    ),
    Parameter(
        'image_transport',
        'raw',
        "Whether images come as sensor_msgs/Image on 'image' or as CompressedImage on 'image/compressed'.",
        choices=('raw', 'compressed'),
    ),
    Parameter(
        'depth.size',
        'network',
        "Size of depth and cloud: the 'network' image's, or the 'camera' image's "
        '(nearest neighbour, NaN where the network saw nothing).',
        choices=('network', 'camera'),
    ),
    Parameter(
        'points.min_confidence',
        1.1,
        'Least confidence of a pixel that becomes a point; the network answers 1 and more.',
        bounds=(1.0, 1e6),
        live=True,
    ),
    Parameter(
        'points.stride', 1, 'Every how many rows and columns the cloud has a point.', 'pixels', (1, 64), live=True
    ),
    Parameter(
        'points.require_metric',
        False,
        'Whether the cloud is held back until the scale is metric, so that no '
        'costmap hears of obstacles at distances that mean nothing.',
        live=True,
    ),
    Parameter(
        'publish_tf', True, 'Whether odom -> base is sent to /tf; off if something else localizes the robot.', live=True
    ),
    Parameter('publish_path', True, 'Whether the path is published, with each status.', live=True),
    Parameter(
        'status_period', 1.0, 'Time between two messages on ~/status and /diagnostics.', 's', (0.05, 60.0), live=True
    ),
    Parameter(
        'allow_untrained_tf',
        False,
        'Whether untrained weights may move the robot in /tf; for demonstrations without a robot.',
        live=True,
    ),
    Parameter('frames.odom', 'odom', 'Frame of the odometry: z up, origin at the first pose of the base.'),
    Parameter(
        'frames.base', 'base_link', "Frame that the odometry moves; the camera's place on it is read from /tf_static."
    ),
    Parameter(
        'scale.source',
        _SCALE.source,
        "Where metres come from: 'fixed' (scale.fixed), 'odometry' (odom_in), "
        "'depth' (depth_in), 'camera_height' (the ground, scale.camera_height below the camera); 'none' leaves "
        "lengths in the network's unit.",
        choices=SOURCES,
    ),
    Parameter('scale.fixed', _SCALE.fixed, "Source 'fixed': metres for one unit of the network.", 'm', (1e-6, 1e6)),
    Parameter(
        'scale.camera_height',
        _SCALE.camera_height,
        "Source 'camera_height': height of the camera over flat ground.",
        'm',
        (0.0, 1000.0),
    ),
    Parameter(
        'scale.baseline',
        _SCALE.baseline,
        "Source 'odometry': way between two frames whose motions are compared.",
        'm',
        (0.01, 100.0),
    ),
    Parameter(
        'scale.max_slew', _SCALE.max_slew, 'Largest relative change of a known scale a second.', '1/s', (1e-4, 10.0)
    ),
    Parameter(
        'save.folder',
        '~/.ros/evict3r_ros',
        'Folder in which ~/save makes a folder each time; while the node '
        "runs the trajectory is kept on its disk. '' keeps nothing and saves nothing.",
    ),
    Parameter(
        'save.max_points',
        500_000,
        'Most points of a saved cloud; beyond, its voxels grow.',
        'points',
        (1000, 20_000_000),
    ),
    Parameter(
        'startup_timeout',
        2.0,
        'How long the first image of a camera waits for the static transform from its '
        'frame to the base, and for camera_info if that is published at all.',
        's',
        (0.0, 60.0),
    ),
)
_BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}


@dataclass(frozen=True)
class Settings:
    """The values of all parameters at one time; fields are named as in PARAMETERS, with _ for the dot."""

    weights: str
    preset: str
    device: str
    dtype: str
    image_width: int
    seed: int
    cache_policy: str
    cache_tokens: int
    cache_memory_mb: float
    cache_bits: int | str
    cache_scores: str
    cache_budget: str
    cache_camera_frames: int
    image_transport: str
    depth_size: str
    points_min_confidence: float
    points_stride: int
    points_require_metric: bool
    publish_tf: bool
    publish_path: bool
    status_period: float
    allow_untrained_tf: bool
    frames_odom: str
    frames_base: str
    scale_source: str
    scale_fixed: float
    scale_camera_height: float
    scale_baseline: float
    scale_max_slew: float
    save_folder: str
    save_max_points: int
    startup_timeout: float


def declare(node: Node) -> None:
    """Declare all parameters; raises what rclpy raises for overrides of a wrong type or out of range."""
    for parameter in PARAMETERS:
        node.declare_parameter(parameter.name, parameter.default, parameter.descriptor())


def read(node: Node, changed: Iterable[RosParameter] = ()) -> Settings:
    """Return the settings, with values that are about to be set in place of those of the node."""
    values = {name: node.get_parameter(name).value for name in _BY_NAME}
    values.update((parameter.name, parameter.value) for parameter in changed if parameter.name in _BY_NAME)
    return Settings(**{field_name(name): value for name, value in values.items()})


def from_values(values: Mapping[str, Value]) -> Settings:
    """Return the settings with these values and defaults for the rest, without a node.

    Raises UserError for a name that isn't known, and for a value of the wrong type or out of range.
    """
    settings = {parameter.name: parameter.default for parameter in PARAMETERS}
    for name, value in values.items():
        parameter = _BY_NAME.get(name)
        if parameter is None:
            raise UserError(f'there is no parameter {name!r}; the README lists them all')
        settings[name] = _checked(parameter, value)
    return Settings(**{field_name(name): value for name, value in settings.items()})


def _checked(parameter: Parameter, value: Value) -> Value:
    kind = type(parameter.default)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind and not parameter.any_type:
        raise UserError(f'parameter {parameter.name}: {value!r} is no {kind.__name__}')
    if parameter.choices and value not in parameter.choices:
        raise UserError(f'parameter {parameter.name}: {value!r} is not one of {", ".join(parameter.choices)}')
    if parameter.bounds is not None and not parameter.bounds[0] <= value <= parameter.bounds[1]:
        raise UserError(
            f'parameter {parameter.name}: {value!r} is not within {parameter.bounds[0]:g} to '
            f'{parameter.bounds[1]:g} {parameter.unit}'.rstrip()
        )
    if isinstance(parameter.default, int) and parameter.step > 1 and value % parameter.step:
        raise UserError(f'parameter {parameter.name}: {value!r} is no multiple of {parameter.step}')
    return value


def field_name(name: str) -> str:
    """Return the field of Settings that holds a parameter."""
    return name.replace('.', '_')


def judge(changed: Iterable[RosParameter], configured: bool) -> SetParametersResult:
    """Return whether these values may be set; rclpy itself has seen to types and ranges of numbers.

    configured: whether the node has been configured, so that only live parameters would still have an effect.
    """
    for ros_parameter in changed:
        parameter = _BY_NAME.get(ros_parameter.name)
        if parameter is None:
            continue
        if parameter.choices and ros_parameter.value not in parameter.choices:
            return SetParametersResult(
                successful=False,
                reason=(f'{parameter.name}: {ros_parameter.value!r} is not one of {", ".join(parameter.choices)}'),
            )
        if configured and not parameter.live:
            return SetParametersResult(
                successful=False,
                reason=(
                    f'{parameter.name} is read by configure and cannot change while the node runs: '
                    'deactivate and clean it up first, or start it anew'
                ),
            )
    return SetParametersResult(successful=True)


def markdown_table() -> str:
    """Return the table of all parameters that the README shows."""
    lines = ['| parameter | default | range | live | what it is |', '|---|---|---|---|---|']
    for parameter in PARAMETERS:
        allowed = ', '.join(parameter.choices)
        if parameter.bounds is not None:
            allowed = f'{parameter.bounds[0]:g} to {parameter.bounds[1]:g} {parameter.unit}'.rstrip()
        default = repr(parameter.default).lower() if isinstance(parameter.default, bool) else repr(parameter.default)
        lines.append(
            f'| `{parameter.name}` | {default} | {allowed} | {"yes" if parameter.live else ""} | '
            f'{parameter.description} |'
        )
    return '\n'.join(lines)
