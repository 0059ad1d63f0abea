"""The whole shape of a policy: the shape tests of the runtime in the policy's own episodes too, and unknown columns."""

from distila.replay.record_reports import own_episodes
from distila.replay.unknown_columns import unknown_columns
from distila.xapp.policy.bundle import Bundle
from distila.xapp.policy.recordings import load_recordings
from distila.xapp.policy.shape import shape_of
from distila.xapp.policy.shape_report import ShapeReport


def whole_shape(bundle: Bundle) -> ShapeReport:
    """All shape tests, in states of the policy's own episodes and of those that ship.

    Raises:
        InputError: see `distila.xapp.policy.shape.shape_of`.
    """
    shape = shape_of(bundle, [*own_episodes(bundle), *load_recordings()])
    return shape.model_copy(update={"unknown_columns": unknown_columns(bundle)})
