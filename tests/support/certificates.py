"""Certificates for tests, made by the openssl command.

They have what RFC 5280 asks for, since Python 3.13 verifies with VERIFY_X509_STRICT by default.
"""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of our own, and certificates that it has signed."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Authority:
        authority = cls(folder)
        (folder / "req.cnf").write_text(_REQUESTS)
        authority._openssl(
            "req", "-x509", *_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test CA"
        )
        return authority

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, name: str, *, alt_names: str, days: int = 2) -> None:
        """Makes NAME.pem, which is good for servers and clients, and NAME.key."""
        self._openssl(
            "req", "-new", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
        )
        (self.folder / f"{name}.ext").write_text(f"subjectAltName = {alt_names}\n{_SIGNED}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", f"{name}.ext")
        self._openssl(
            "x509", "-req", "-in", f"{name}.csr", *signed, "-days", str(days), "-out", f"{name}.pem"
        )

    def server_context(self, name: str, *, alt_names: str, days: int = 2) -> ssl.SSLContext:
        self.issue(name, alt_names=alt_names, days=days)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


_KEY = ("-config", "req.cnf", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
#: Instead of the machine's openssl.cnf, whose authorities commonly have no keyUsage.
_REQUESTS = """\
[req]
distinguished_name = name
x509_extensions = authority
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_SIGNED = """\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
LOOPBACK_NAMES = "DNS:localhost,IP:127.0.0.1"
