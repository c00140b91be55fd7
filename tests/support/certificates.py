"""A certificate for localhost, signed by itself."""

import subprocess
from pathlib import Path

from seresnext_client.transports.base import Tls


def make_certificate(folder: Path) -> Tls:
    """Write a certificate and its key into `folder`; it is its own authority, for servers and for clients."""
    key, certificate = folder / "tls.key", folder / "tls.crt"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return Tls(ca=certificate, certificate=certificate, key=key)
