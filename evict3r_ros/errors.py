# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Errors that a user can mend, told in one line."""

from __future__ import annotations


class UserError(ValueError):
    """A wrong file, setting or input; the message says what was found, what was expected and what to do."""


class MessageError(ValueError):
    """A message that cannot be used; the message says what is wrong with it. The stream goes on without it."""
