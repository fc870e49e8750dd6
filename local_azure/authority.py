"""The throwaway certificate authority behind every TLS endpoint of the local Azure."""

import ssl
from pathlib import Path

import trustme

NAMES = ("localhost", "127.0.0.1", "::1")


class Authority:
    """A CA with its certificate in a folder, for `REQUESTS_CA_BUNDLE` and `SSL_CERT_FILE`."""

    def __init__(self, folder: Path) -> None:
        """Load the CA from `folder`, or create one there."""
        self._folder = folder
        self.certificate_path = folder / "ca.pem"
        key_path = folder / "ca-key.pem"
        if key_path.exists():
            self._ca = trustme.CA.from_pem(self.certificate_path.read_bytes(), key_path.read_bytes())
        else:
            self._ca = trustme.CA(organization_name="Local Azure")
            self._ca.cert_pem.write_to_path(self.certificate_path)
            key_path.touch(mode=0o600)
            self._ca.private_key_pem.write_to_path(key_path)

    def make_server_context(self) -> ssl.SSLContext:
        """Return a context with a fresh certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._issue().configure_cert(context)
        return context

    def write_server_certificate(self, name: str) -> tuple[Path, Path]:
        """Write a fresh certificate and its key for the program `name`, and return both paths."""
        issued, certificate, key = (
            self._issue(),
            self._folder / f"{name}.pem",
            self._folder / f"{name}-key.pem",
        )
        issued.cert_chain_pems[0].write_to_path(certificate)
        key.touch(mode=0o600)
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    def _issue(self) -> trustme.LeafCert:
        return self._ca.issue_cert(*NAMES)
