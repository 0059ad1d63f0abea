"""TLS and mutual TLS for gRPC, from files."""

from pathlib import Path

import grpc
from pydantic import BaseModel, ConfigDict, model_validator

from xapp.errors import InputError


class TlsConfig(BaseModel):
    """Certificates in PEM files. With ``cert_file`` and ``key_file`` on both ends TLS is mutual."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _paired(self) -> "TlsConfig":
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file come together")
        return self

    def client_credentials(self) -> grpc.ChannelCredentials:
        """Credentials of the end that connects; without ``ca_file`` the system's roots are trusted.

        Raises:
            InputError: a file cannot be read.
        """
        return grpc.ssl_channel_credentials(
            _read("ca_file", self.ca_file), _read("key_file", self.key_file), _read("cert_file", self.cert_file)
        )

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials of the end that listens; with ``ca_file`` every client must show a certificate it signed.

        Raises:
            InputError: a file cannot be read, or there is no certificate.
        """
        certificate, key = _read("cert_file", self.cert_file), _read("key_file", self.key_file)
        if certificate is None or key is None:
            raise InputError("tls: a server needs cert_file and key_file")
        ca = _read("ca_file", self.ca_file)
        return grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=ca is not None)


def _read(field: str, path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"tls.{field}: {path}: {error.strerror}") from None
