"""TLS and mutual TLS for gRPC, from files."""

import ssl
from pathlib import Path

import grpc
from pydantic import BaseModel, ConfigDict, Field, model_validator

from distila.xapp.errors import InputError


class TlsConfig(BaseModel):
    """Certificates in PEM files. With ``cert_file`` and ``key_file`` on both ends TLS is mutual."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca_file: Path | None = Field(default=None, description="certificate of the authority that signed the other end's")
    cert_file: Path | None = Field(default=None, description="own certificate")
    key_file: Path | None = Field(default=None, description="private key of the own certificate")

    @model_validator(mode="after")
    def _paired(self) -> "TlsConfig":
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file need each other: give both, or neither")
        return self

    def client_credentials(self) -> grpc.ChannelCredentials:
        """Credentials of the end that connects; without ``ca_file`` the system's roots are trusted.

        Raises:
            InputError: a file cannot be read.
        """
        ca, key, certificate = self._checked()
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials of the end that listens; with ``ca_file`` every client must show a certificate it signed.

        Raises:
            InputError: a file cannot be read, or there is no certificate.
        """
        ca, key, certificate = self._checked()
        if certificate is None or key is None:
            raise InputError("tls: a server needs cert_file and key_file")
        return grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=ca is not None)

    def _checked(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Contents of ``ca_file``, ``key_file``, ``cert_file``, checked here because gRPC's own error names no file."""
        contents = tuple(_read(field, getattr(self, field)) for field in ("ca_file", "key_file", "cert_file"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.ca_file is not None:
            try:
                context.load_verify_locations(self.ca_file)
            except ssl.SSLError:
                raise InputError(f"tls.ca_file: {self.ca_file}: holds no certificate in PEM format") from None
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file)
            except ssl.SSLError as error:
                files = f"{self.cert_file} and {self.key_file}"
                raise InputError(
                    f"tls.cert_file, tls.key_file: {files}: no pair in PEM format ({error.reason})"
                ) from None
        ca, key, certificate = contents
        return ca, key, certificate


def _read(field: str, path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"tls.{field}: {path}: {error.strerror}") from None
