"""Shared by the tests of E2: a report to send, certificates, and an xApp that runs in a thread."""

import datetime
import ipaddress
import threading
import time

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kpi_reports import kpi_report

from distila.replay.e2_node import E2Node
from distila.xapp.app import Xapp

PATIENCE_S = 30.0


def _report(cell_id="cell", sequence=1, ues=2, cqi=9, **settings):
    """A report of UEs with RNTIs from 0x4601 that have measured a CQI and nothing else."""
    return kpi_report(sequence, 0x4601 + np.arange(ues), cell=cell_id, cqi=cqi, **settings)


@pytest.fixture(scope="session")
def make_report():
    return _report


class Running:
    """An xApp in a thread. ``error`` is what `Xapp.run` raised."""

    def __init__(self, config, exit_on_end):
        self.xapp = Xapp(config, exit_on_end)
        self.stop = threading.Event()
        self.error = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self.xapp.run(self.stop)
        except Exception as error:
            self.error = error

    def stats(self):
        return self.xapp.stats()

    def ended(self):
        """Wait for the end of the run; its counters."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return self.stats()


@pytest.fixture
def start():
    """Starts xApps; those that still run at the end of the test are stopped."""
    started = []

    def run(config, exit_on_end=True):
        started.append(Running(config, exit_on_end))
        return started[-1]

    yield run
    for running in started:
        running.stop.set()
        running.ended()


@pytest.fixture
def nodes():
    """Starts E2 nodes; those that still run at the end of the test are ended."""
    started = []

    def run(*args, **kwargs):
        started.append(E2Node(*args, **kwargs))
        return started[-1]

    yield run
    for node in started:
        node.end(0)


@pytest.fixture(scope="session")
def eventually():
    """Wait until something that another thread brings about is so."""

    def wait(condition, patience_s=PATIENCE_S):
        end = time.monotonic() + patience_s
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            threading.Event().wait(0.01)

    return wait


def _name(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _authority(folder, name):
    """A certificate authority in ``folder``; gives the function that issues certificates."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)

    def issue(subject, ca=False):
        subject_key = key if ca else ec.generate_private_key(ec.SECP256R1())
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name(name))
            .public_key(subject_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(address, critical=False)
            .sign(key, hashes.SHA256())
        )
        (folder / f"{subject}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / f"{subject}.key").write_bytes(
            subject_key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    issue(name, ca=True)
    return issue


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A folder with PEM files: ``ca`` signed ``node`` and ``xapp``, ``other`` signed ``spy``."""
    folder = tmp_path_factory.mktemp("certificates")
    issue = _authority(folder, "ca")
    issue("node")
    issue("xapp")
    _authority(folder, "other")("spy")
    return folder
