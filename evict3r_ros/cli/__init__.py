# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command `evict3r` and its subcommands: each module has add_parser(subparsers) and run(args) -> exit code."""
