"""Settings of the rollout in an xApp's configuration."""

import os
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from distila.xapp.errors import InputError

TOKEN_VARIABLE: Final = "DISTILA_ROLLOUT_TOKEN"
_SHORTEST_TOKEN: Final = 16


class RolloutConfig(BaseModel):
    """The store of A/B rollouts, and access to their commands."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    store: str = Field(
        default="rollout.sqlite",
        min_length=1,
        description="store of the rollout: a SQLite file, or redis://HOST:PORT/DB for several replicas",
    )
    token_file: Path | None = Field(
        default=None,
        description=f"file with the bearer token of the HTTP API; null: the token is read from ${TOKEN_VARIABLE}",
    )

    a1_policy_type: int | None = Field(
        default=20131,
        ge=0,
        le=2**31 - 1,
        description="id of the A1 policy type for rollout commands; null: no commands over A1",
    )

    def token(self) -> str | None:
        """The bearer token; None: no token is configured, and the API rejects every request.

        Raises:
            InputError: the file cannot be read, or the token is too short to be one.
        """
        where, text = f"${TOKEN_VARIABLE}", os.environ.get(TOKEN_VARIABLE)
        if self.token_file is not None:
            where = str(self.token_file)
            try:
                text = self.token_file.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{where}: {getattr(error, 'strerror', None) or 'not text'}") from None
        if text is None or not text.strip():
            return None
        if len(text.strip()) < _SHORTEST_TOKEN:
            raise InputError(f"{where}: a token of {len(text.strip())} characters, expected {_SHORTEST_TOKEN} or more")
        return text.strip()
