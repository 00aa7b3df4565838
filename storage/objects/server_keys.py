"""The certificate that all ports of an embedded S3 server ask for, except its S3 port.

SeaweedFS's master, volume, filer and admin servers take requests from everybody who can connect. With these files they
talk TLS only, and only with those who hold the key: themselves.

    python -m storage.objects.server_keys FOLDER HOST

writes them for a server that is started in the parent of FOLDER with ``-config_dir=FOLDER``.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_GRPC = ("master", "volume", "filer", "s3", "admin", "worker", "client")
_HTTPS = ("master", "volume", "filer", "admin", "client")
_VALID = datetime.timedelta(days=3650)
_CLOCK_SET_BACK = datetime.timedelta(days=30)
_TIMEOUT_S = 5.0


def write_server_keys(folder: Path, host: str) -> None:
    """Write a new key, its self-signed certificate and SeaweedFS's ``security.toml``, readable by the owner alone.

    Args:
        folder: Created if missing.
        host: The address of the server, or its name.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    pem, pkcs8, clear = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    _write(certificate_file, _certificate(key, host).public_bytes(pem))
    _write(key_file, key.private_bytes(pem, pkcs8, clear))
    names = {"ca": certificate_file, "cert": certificate_file, "key": key_file}
    # SeaweedFS runs in the parent folder: a relative path needs no escaping.
    lines = {name: f'{name} = "{folder.name}/{path.name}"\n' for name, path in names.items()}
    grpc = "".join(f"[grpc.{server}]\n{lines['cert']}{lines['key']}" for server in _GRPC)
    https = "".join(f"[https.{server}]\n{''.join(lines.values())}" for server in _HTTPS)
    _write(folder / "security.toml", f"[grpc]\n{lines['ca']}{grpc}{https}enabled = true\n".encode())  # of https.client


def refuses_strangers(host: str, port: int) -> bool:
    """Whether a port is closed to those without the key; one where nobody listens is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        plain = socket.create_connection((host, port), _TIMEOUT_S)
    except ConnectionRefusedError:
        return True
    with plain:
        try:
            connection = context.wrap_socket(plain)
        except OSError:  # no TLS there
            return False
        with connection:
            try:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return connection.recv(1) == b""
            except (ssl.SSLError, ConnectionError):  # with TLS 1.3 a refusal follows the handshake
                return True


def _certificate(key: ec.EllipticCurvePrivateKey, host: str) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "layerprint")])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SET_BACK)
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)


if __name__ == "__main__":
    write_server_keys(Path(sys.argv[1]), sys.argv[2])
