"""How long work says how far it is: a function that is called with what is done and what there is in all."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the count that is done and the count of all."""


def no_progress(done: int, total: int) -> None:
    """Report nothing."""
