# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r bench --messages`: time of message conversions."""

from __future__ import annotations

import argparse
import json

from tqdm import tqdm


def run(args: argparse.Namespace) -> int:
    """Measure --frames conversions of each kind and print them."""
    from evict3r_ros.errors import UserError
    from evict3r_ros.ros.tools.message_benchmark import conversions_measured, measure, table

    if args.frames < 1:
        raise UserError(f'--frames {args.frames} must be at least 1')
    with tqdm(total=conversions_measured(), unit='conversion', disable=None) as bar:
        rows = measure(args.frames, bar.update)
    print(json.dumps(rows) if args.json else table(rows))
    return 0
