"""Fetches the files of a package from Debian's archive, without root and without changing the system.

apt is given its own folders for package lists and state. So it works where the system's lists are empty, as in most
containers, and for a user who may not write to ``/var/lib/apt``. apt checks the archive's signature itself.
"""

import shutil
import subprocess
from pathlib import Path

LISTS_TIMEOUT, DOWNLOAD_TIMEOUT = 120, 600
"""Seconds that apt may take for the package lists, and for a package."""


class DebianError(RuntimeError):
    """The package could not be downloaded or unpacked; the message is one line that says why."""


def unpack_package(package: str, folder: Path) -> Path:
    """Downloads a Debian package and unpacks it.

    Args:
        package: Name of the package, ``"dataset-fashion-mnist"``.
        folder: An empty folder to work in; the caller removes it.

    Returns:
        The folder that corresponds to ``/`` in the package.

    Raises:
        DebianError: If apt is not installed, or has no such package, or cannot reach the archive.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise DebianError(f"{program} is not installed (this is not a Debian or Ubuntu system)")
    for name in ("state/lists/partial", "cache/archives/partial", "download", "root"):
        (folder / name).mkdir(parents=True)
    apt = [
        "apt-get",
        "-qq",
        f"-oDir::State={folder / 'state'}",
        "-oDir::State::status=/var/lib/dpkg/status",
        f"-oDir::Cache={folder / 'cache'}",
        "-oAcquire::http::Timeout=10",
        "-oAcquire::https::Timeout=10",
        "-oAcquire::Retries=1",
        # As root, apt would switch to the user _apt, who cannot write to a private folder.
        "-oAPT::Sandbox::User=root",
        "-oDebug::NoLocking=1",
    ]
    # One unreachable third-party source must not make the whole fail, so only the download decides.
    update = _run([*apt, "update"], folder, LISTS_TIMEOUT)
    download = _run([*apt, "download", package], folder / "download", DOWNLOAD_TIMEOUT)
    archives = list((folder / "download").glob("*.deb"))
    if download.returncode or not archives:
        raise DebianError(_reason(download) or _reason(update) or "apt-get download left no file")
    unpack = _run(["dpkg-deb", "-x", str(archives[0]), str(folder / "root")], folder, DOWNLOAD_TIMEOUT)
    if unpack.returncode:
        raise DebianError(_reason(unpack) or "dpkg-deb could not unpack the package")
    return folder / "root"


def _run(command: list[str], folder: Path, timeout: int) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, cwd=folder, timeout=timeout, capture_output=True, text=True, errors="replace", check=False
        )
    except subprocess.TimeoutExpired:
        raise DebianError(f"{command[0]} took longer than {timeout} s") from None


def _reason(result: subprocess.CompletedProcess[str]) -> str:
    """Returns the last line that a failed command wrote to stderr; empty if it succeeded."""
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    return lines[-1] if lines and result.returncode else ""
