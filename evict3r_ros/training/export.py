# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Makes the file of weights that ships with the package from the shards of a training: ``--help`` says how."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from evict3r_ros.cache import POLICIES
from evict3r_ros.cache.config import AUTO
from evict3r_ros.errors import UserError
from evict3r_ros.network import PRESETS, StreamVGGT
from evict3r_ros.network.checkpoint import DEMONSTRATION_KEY, POLICY_KEY, PRESET_KEY
from evict3r_ros.network.int8 import pack, unpacking
from evict3r_ros.stream.default_policy import choose_policy
from evict3r_ros.training import state

MOST_BYTES = 32_000_000
_PRESET = 'tiny'


def main(arguments: list[str] | None = None) -> int:
    """Run. Returns the exit code: 2 for an error that the user can mend."""
    parser = argparse.ArgumentParser(
        prog='python -m evict3r_ros.training.export',
        description='Packs the weights of a '
        'training, matrices and kernels as int8 with a scale an output channel, into one '
        'file that load_network reads.',
    )
    parser.add_argument('shards', type=Path, metavar='SHARDS_DIR', help='the folder that a training wrote')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.safetensors')
    parser.add_argument(
        '--float16', action='store_true', help='all of it in half precision, twice as large: to see what int8 costs'
    )
    parser.add_argument(
        '--policy',
        choices=tuple(POLICIES),
        help='eviction policy that was measured to suit these weights, which policy auto then stands for (default: '
        'what was measured for weights of their preset)',
    )
    args = parser.parse_args(arguments)
    try:
        export(args.shards, args.out, args.float16, args.policy)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


def export(shards: Path, out: Path, float16: bool = False, policy: str | None = None) -> None:
    """Write the file, and say what was written.

    policy: what ``auto`` shall stand for with these weights; by default as for any weights of their preset. Raises
    UserError for shards that are not whole or not ``tiny``'s.
    """
    policy = policy or choose_policy(AUTO, _PRESET).policy
    weights, progress = state.read_shards(shards), state.read_progress(shards)
    with torch.device('meta'):
        network = StreamVGGT(PRESETS[_PRESET], heads=('camera', 'depth'))
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    if {key: value.shape for key, value in weights.items()} != shapes:
        raise UserError(f'{shards}: not the weights of preset {_PRESET!r}')
    wrong = [key for key, value in weights.items() if not value.isfinite().all()]
    if wrong:
        raise UserError(f'{shards}: {len(wrong)} tensors hold numbers that are not finite, such as {wrong[0]}')
    packed = {key: value.contiguous() for key, value in (weights if float16 else pack(weights)).items()}
    metadata = {
        PRESET_KEY: _PRESET,
        # Small, and trained on worlds made by rule: its lengths move no robot unless something else knows metres.
        DEMONSTRATION_KEY: 'true',
        POLICY_KEY: policy,
        'format': 'pt',
        'license': 'Apache-2.0',
        'source': 'evict3r_ros, trained from scratch on its own synthetic worlds; see docs/model_card.md',
        'packing': 'float16' if float16 else 'int8 with a float32 scale an output channel; the rest float16',
        'calls': json.dumps(progress.calls),
        'minutes': f'{progress.seconds / 60:.1f}',
        'steps': str(progress.step),
        'frames': str(progress.frames),
        'finished': str(progress.finished).lower(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_file(packed, out, metadata)
        out.chmod(0o644)  # it is written for its owner alone
    except OSError as error:
        raise UserError(f'{out}: cannot be written: {error}') from error
    size = out.stat().st_size
    if size > MOST_BYTES and not float16:
        raise UserError(f'{out}: {size} bytes, more than {MOST_BYTES}')
    read = unpacking(packed, packed.__getitem__)
    changed = sum(float((read(key).float() - value.float()).square().sum()) for key, value in weights.items())
    total = sum(float(value.float().square().sum()) for value in weights.values())
    count = sum(value.numel() for value in packed.values() if value.dtype == torch.int8)
    print(
        f'{out}: {size / 1e6:.1f} MB, {sum(value.numel() for value in weights.values()) / 1e6:.1f} M numbers, '
        f'{count / 1e6:.1f} M of them int8; rounding changed the weights by {100 * (changed / total) ** 0.5:.2f} % '
        f'(root mean square)'
    )
    if not progress.finished:
        print(
            f'warning: this training was not finished (step {progress.step}, {progress.seconds / 60:.1f} minutes)',
            file=sys.stderr,
        )


if __name__ == '__main__':
    sys.exit(main())
