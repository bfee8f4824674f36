# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""All parameters of the node in one table, Settings: default, meaning, unit, range, and whether they change live."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from evict3r_ros.cache import POLICIES, CacheConfig
from evict3r_ros.cache.config import BUDGETS
from evict3r_ros.errors import UserError
from evict3r_ros.io.frame_tree import bare
from evict3r_ros.network import PRESETS
from evict3r_ros.network.checkpoint import AUTO, TINY
from evict3r_ros.network.precision import DTYPES, WEIGHT_BITS
from evict3r_ros.odometry.scale import SOURCES, ScaleSettings

Value = bool | int | float | str
Default = TypeVar('Default', bool, int, float, str, int | str)


@dataclass(frozen=True)
class Parameter:
    """One row of the table of parameters."""

    name: str
    """As ROS knows it, with dots."""
    default: Value
    description: str
    """What it means, in whole sentences."""
    unit: str = ''
    bounds: tuple[float, float] | None = None
    """Smallest and largest number allowed."""
    choices: tuple[str | int, ...] = ()
    """The values allowed; empty for any."""
    any_type: bool = False
    """Whether it may be set to a value of another type than the default's; where there are choices, a boolean."""
    step: int = 1
    """Integers are multiples of it."""
    live: bool = False
    """Whether a running node takes a change. The others are read by configure; a later change is rejected."""
    is_frame: bool = False
    """Whether it is the name of a frame."""

    def offers(self, value: Any) -> bool:
        """Return whether a value is among the choices, where there are any."""
        return not self.choices or self.plain(value) in self.choices

    def plain(self, value: Any) -> Any:
        """Return a value as Settings has it: a boolean as the choice that it is, a frame without leading slashes."""
        if self.choices and isinstance(value, bool):
            return str(value).lower()
        return bare(value) if self.is_frame else value

    def descriptor(self) -> ParameterDescriptor:
        """Return the ROS descriptor that tools show."""
        when = 'Can be changed at any time.' if self.live else 'Read by configure.'
        constraints = f'one of: {", ".join(map(str, self.choices))}' if self.choices else ''
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


def _parameter(
    name: str,
    default: Default,
    description: str,
    unit: str = '',
    bounds: tuple[float, float] | None = None,
    choices: tuple[str | int, ...] = (),
    any_type: bool = False,
    step: int = 1,
    live: bool = False,
    is_frame: bool = False,
) -> Default:
    """Return the field of Settings that holds a parameter; arguments as in Parameter."""
    row = Parameter(name, default, description, unit, bounds, choices, any_type, step, live, is_frame)
    return field(default=default, metadata={'parameter': row})


_CACHE = CacheConfig()
_BITS = _CACHE.bits if isinstance(_CACHE.bits, int) else str(_CACHE.bits)
_SCALE = ScaleSettings()


@dataclass(frozen=True)
class Settings:
    """The values of all parameters at one time; without arguments, the defaults.

    Each field is a row of the table; its name is the parameter's, with _ for the dot.
    """

    weights: str = _parameter(
        'weights',
        TINY,
        "This package's own, 'tiny'; 'official' to download the published ones; the path of a "
        "checkpoint (.safetensors or .pth); or 'random' for untrained ones, which only show that everything is "
        'connected.',
    )
    preset: str = _parameter(
        'preset', AUTO, "Size of the network; 'auto' is that of the weights.", choices=(AUTO, *PRESETS)
    )
    device: str = _parameter(
        'device', 'auto', "Where the network runs: 'cpu', 'cuda', 'cuda:1'; 'auto' takes CUDA if it is there."
    )
    dtype: str = _parameter(
        'dtype',
        'auto',
        "Precision of weights and cache; 'auto' is bfloat16 on CUDA and float32 on a CPU.",
        choices=(AUTO, *DTYPES),
    )
    weights_bits: int = _parameter(
        'weights_bits',
        16,
        "Stored precision of linear layers' weights: 16 (as 'dtype' says), or packed in 8 or 4, for boards with little "
        'memory.',
        'bits',
        choices=WEIGHT_BITS,
    )
    image_width: int = _parameter(
        'image_width',
        0,
        "Width that images are brought to, a multiple of 14; less is faster and sees less. 0 is the preset's.",
        'pixels',
        (0, 4088),
        step=14,
    )
    seed: int = _parameter('seed', 0, "Seed of 'random' weights.", bounds=(0, 2**31 - 1))
    cache_policy: str = _parameter(
        'cache.policy',
        _CACHE.policy,
        "Which tokens leave the cache when it is full; 'auto' is the policy that was measured for the weights, and the "
        'log says which.',
        choices=(AUTO, *POLICIES),
    )
    cache_tokens: int = _parameter(
        'cache.tokens', _CACHE.tokens, 'Tokens a layer that survive a frame.', 'tokens', (1, 10_000_000)
    )
    cache_memory_mb: float = _parameter(
        'cache.memory_mb',
        0.0,
        'Memory for keys and values, instead of cache.tokens: as many tokens as fit; 0 leaves it to cache.tokens.',
        'MiB',
        (0.0, 1e6),
    )
    cache_bits: int | str = _parameter(
        'cache.bits',
        _BITS,
        'Stored precision of keys and values: 32 or 16 (floating point), 8, 4 or 2 '
        "(packed integers), or three of them as 'FIRST_FRAME/RECENT/REST', such as '16/8/4'.",
        'bits',
        any_type=True,
    )
    cache_scores: str = _parameter(
        'cache.scores',
        _CACHE.scores,
        "evict3r: whose attention counts, that of all queries ('exact') or of "
        "pooled ones ('pooled'), at a sixteenth of the cost.",
        choices=('exact', 'pooled'),
    )
    cache_budget: str = _parameter(
        'cache.budget', _CACHE.budget, "'adaptive' attends to fewer tokens while the scene is still.", choices=BUDGETS
    )
    cache_camera_frames: int = _parameter(
        'cache.camera_frames', _CACHE.camera_frames, 'Frames that the camera head remembers.', 'frames', (3, 100_000)
    )
    image_transport: str = _parameter(
        'image_transport',
        'raw',
        "Whether images come as sensor_msgs/Image on 'image' or as CompressedImage on 'image/compressed'.",
        choices=('raw', 'compressed'),
    )
    image_rectified: str = _parameter(
        'image.rectified',
        'auto',
        'Whether images come rectified, so that P of camera_info is their camera matrix and its D is left out: true, '
        "false, or 'auto': as the topic's name says (image_rect, image_rect_color, rect/image).",
        choices=('auto', 'true', 'false'),
        any_type=True,
    )
    depth_size: str = _parameter(
        'depth.size',
        'network',
        "Size of depth and cloud: the 'network' image's, or the 'camera' image's "
        '(nearest neighbour, NaN where the network saw nothing).',
        choices=('network', 'camera'),
    )
    points_min_confidence: float = _parameter(
        'points.min_confidence',
        1.1,
        'Least confidence of a pixel that becomes a point; the network answers 1 and more.',
        bounds=(1.0, 1e6),
        live=True,
    )
    points_stride: int = _parameter(
        'points.stride', 1, 'Every how many rows and columns the cloud has a point.', 'pixels', (1, 64), live=True
    )
    points_require_metric: bool = _parameter(
        'points.require_metric',
        False,
        'Whether the cloud is held back until the scale is metric, so that no '
        'costmap hears of obstacles at distances that mean nothing.',
        live=True,
    )
    publish_tf: str = _parameter(
        'publish_tf',
        'auto',
        "Whether odom -> base is sent to /tf: true, false (something else localizes the robot), or 'auto', only "
        'where somebody vouches for its lengths: while the scale is metric, or always with weights that are not for '
        'demonstration.',
        choices=('auto', 'true', 'false'),
        any_type=True,
        live=True,
    )
    tf_prediction_rate: float = _parameter(
        'tf_prediction_rate',
        0.0,
        'How often odom -> base is sent to /tf between images as well, predicted by the last twist; 30 to 50 for a '
        'controller, 0 for never.',
        'Hz',
        (0.0, 200.0),
    )
    publish_path: bool = _parameter('publish_path', True, 'Whether the path is published, with each status.', live=True)
    status_period: float = _parameter(
        'status_period', 1.0, 'Time between two messages on ~/status and /diagnostics.', 's', (0.05, 60.0), live=True
    )
    frames_odom: str = _parameter(
        'frames.odom', 'odom', 'Frame of the odometry: z up, origin at the first pose of the base.', is_frame=True
    )
    frames_base: str = _parameter(
        'frames.base',
        'base_link',
        "Frame that the odometry moves; the camera's place on it is read from /tf_static.",
        is_frame=True,
    )
    scale_source: str = _parameter(
        'scale.source',
        _SCALE.source,
        "Where metres come from: 'fixed' (scale.fixed), 'odometry' (odom_in), "
        "'depth' (depth_in), 'camera_height' (the ground, scale.camera_height below the camera); 'none' leaves "
        "lengths in the network's unit.",
        choices=SOURCES,
    )
    scale_fixed: float = _parameter(
        'scale.fixed', _SCALE.fixed, "Source 'fixed': metres for one unit of the network.", 'm', (1e-6, 1e6)
    )
    scale_camera_height: float = _parameter(
        'scale.camera_height',
        _SCALE.camera_height,
        "Source 'camera_height': height of the camera over flat ground.",
        'm',
        (0.0, 1000.0),
    )
    scale_baseline: float = _parameter(
        'scale.baseline',
        _SCALE.baseline,
        "Source 'odometry': way between two frames whose motions are compared.",
        'm',
        (0.01, 100.0),
    )
    scale_max_slew: float = _parameter(
        'scale.max_slew', _SCALE.max_slew, 'Largest relative change of a known scale a second.', '1/s', (1e-4, 10.0)
    )
    save_folder: str = _parameter(
        'save.folder',
        '~/.ros/evict3r_ros',
        'Folder in which ~/save makes a folder each time; while the node '
        "runs the trajectory is kept on its disk. '' keeps nothing and saves nothing.",
    )
    save_max_points: int = _parameter(
        'save.max_points',
        500_000,
        'Most points of a saved cloud; beyond, its voxels grow.',
        'points',
        (1000, 20_000_000),
    )
    startup_timeout: float = _parameter(
        'startup_timeout',
        2.0,
        'How long the first image of a camera waits for the static transform from its '
        'frame to the base, and for camera_info if that is published at all; and for others who would be heard on '
        '/tf since configure, before odom -> base is sent there.',
        's',
        (0.0, 60.0),
    )


PARAMETERS: tuple[Parameter, ...] = tuple(field.metadata['parameter'] for field in fields(Settings))
"""The table, in the order in which it is shown."""

_BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}
_FIELDS = {field.metadata['parameter'].name: field.name for field in fields(Settings)}


def declare(node: Node) -> None:
    """Declare all parameters; raises what rclpy raises for overrides of a wrong type or out of range."""
    for parameter in PARAMETERS:
        node.declare_parameter(parameter.name, parameter.default, parameter.descriptor())


def read(node: Node, changed: Iterable[RosParameter[Any]] = ()) -> Settings:
    """Return the settings, with values that are about to be set in place of those of the node."""
    values = {name: node.get_parameter(name).value for name in _BY_NAME}
    values.update((parameter.name, parameter.value) for parameter in changed if parameter.name in _BY_NAME)
    return _settings(values)


def from_values(values: Mapping[str, Value]) -> Settings:
    """Return the settings with these values and defaults for the rest, without a node.

    Raises UserError for a name that isn't known, and for a value of the wrong type or out of range.
    """
    checked = {}
    for name, value in values.items():
        parameter = _BY_NAME.get(name)
        if parameter is None:
            raise UserError(f'there is no parameter {name!r}; docs/parameters.md lists them all')
        checked[name] = _checked(parameter, value)
    return _settings(checked)


def _settings(values: Mapping[str, Any]) -> Settings:
    return Settings(**{_FIELDS[name]: _BY_NAME[name].plain(value) for name, value in values.items()})


def _checked(parameter: Parameter, value: Value) -> Value:
    kind = type(parameter.default)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind and not parameter.any_type:
        raise UserError(f'parameter {parameter.name}: {value!r} is no {kind.__name__}')
    if not parameter.offers(value):
        raise UserError(f'parameter {parameter.name}: {value!r} is not one of {", ".join(map(str, parameter.choices))}')
    if parameter.bounds is not None and isinstance(value, int | float):
        least, most = parameter.bounds
        if not least <= value <= most:
            raise UserError(
                f'parameter {parameter.name}: {value!r} is not within {least:g} to {most:g} {parameter.unit}'.rstrip()
            )
    if isinstance(value, int) and value % parameter.step:
        raise UserError(f'parameter {parameter.name}: {value!r} is no multiple of {parameter.step}')
    return value


def judge(changed: Iterable[RosParameter[Any]], configured: bool) -> SetParametersResult:
    """Return whether these values may be set; rclpy itself has seen to types and ranges of numbers.

    configured: whether the node has been configured, so that only live parameters would still have an effect.
    """
    for ros_parameter in changed:
        parameter = _BY_NAME.get(ros_parameter.name)
        if parameter is None:
            continue
        if not parameter.offers(ros_parameter.value):
            return SetParametersResult(
                successful=False,
                reason=(
                    f'{parameter.name}: {ros_parameter.value!r} is not one of {", ".join(map(str, parameter.choices))}'
                ),
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
    """Return the table of all parameters that docs/parameters.md shows."""
    lines = ['| parameter | default | range | live | what it is |', '|---|---|---|---|---|']
    for parameter in PARAMETERS:
        allowed = ', '.join(map(str, parameter.choices))
        if parameter.bounds is not None:
            allowed = f'{parameter.bounds[0]:g} to {parameter.bounds[1]:g} {parameter.unit}'.rstrip()
        default = repr(parameter.default).lower() if isinstance(parameter.default, bool) else repr(parameter.default)
        lines.append(
            f'| `{parameter.name}` | {default} | {allowed} | {"yes" if parameter.live else ""} | '
            f'{parameter.description} |'
        )
    return '\n'.join(lines)
