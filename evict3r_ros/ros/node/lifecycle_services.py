# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What rclpy's lifecycle services lack, in each of its releases: answers during a transition, and refusals.

rclpy serves all five in one callback group, so that nobody learns the state while a transition runs. And up to Jazzy a
transition that the state does not allow raises inside rclpy, which ends the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetAvailableTransitions
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.service import Service

_CHANGE, _AVAILABLE = 'change_state', 'get_available_transitions'
_QUESTIONS = ('get_state', 'get_available_states', _AVAILABLE, 'get_transition_graph')


def answer_questions_in(node: Node, group: CallbackGroup) -> None:
    """Let a lifecycle node's services that only ask be served in a callback group of their own."""
    services = _services(node)
    for name in _QUESTIONS:
        service = services[name]
        service.callback_group = group  # the executor asks the service for its group each time
        group.add_entity(service)


def refuse_impossible_transitions(node: Node, refused: Callable[[str], None]) -> None:
    """Answer requests for transitions that the state does not allow with success false. refused(text): is told."""
    services = _services(node)
    change, available = services[_CHANGE], services[_AVAILABLE]
    trigger = change.callback

    def guarded(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        answer = available.callback(GetAvailableTransitions.Request(), GetAvailableTransitions.Response())
        allowed = [description.transition for description in answer.available_transitions]
        if any(_is_meant(request.transition, transition) for transition in allowed):
            return trigger(request, response)
        wanted = request.transition.label or request.transition.id
        names = ', '.join(sorted({transition.label for transition in allowed})) or 'none'
        refused(f'transition {wanted} is refused: the state allows {names}')
        response.success = False
        return response

    change.callback = guarded


def _is_meant(wanted: Transition, transition: Transition) -> bool:
    if wanted.label:
        return bool(wanted.label == transition.label)
    return bool(wanted.id == transition.id)


def _services(node: Node) -> dict[str, Service[Any, Any]]:
    """Return a node's services by the last part of their names."""
    return {service.srv_name.rsplit('/', 1)[-1]: service for service in node.services}
