"""Finding data: the order of places, the checks, and downloads that fail. The mirror is a local server."""

import gzip
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from datamodules.sources import find
from datamodules.sources.debian import DebianError
from datamodules.sources.find import DamagedDataError, DataNotFoundError
from datamodules.sources.public_files import FASHION_MNIST, PublicDataset, PublicFile

CONTENT = {"a.gz": bytes(range(256)) * 40, "b.bin": b"labels" * 100}
SERVED = {"a.gz": gzip.compress(CONTENT["a.gz"], mtime=1), "b.bin": CONTENT["b.bin"]}


def public(name: str, unpacked: bool = False) -> PublicFile:
    content = (len(CONTENT[name]), hashlib.sha256(CONTENT[name]).hexdigest()) if unpacked else ()
    return PublicFile(name, len(SERVED[name]), hashlib.sha256(SERVED[name]).hexdigest(), *content)


class Mirror(ThreadingHTTPServer):
    """Serves ``files``; ``faults`` says how the download of a file fails."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.requests = dict(SERVED), dict[str, str](), list[str]()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server.requests.append(name)
        fault, body = self.server.faults.get(name), self.server.files.get(name)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "corrupt":
            body = body[:-1] + bytes([body[-1] ^ 1])
        elif fault == "long":
            body += b"more"
        elif fault == "interrupted":
            body = body[: len(body) // 2]
        elif fault == "slow":
            time.sleep(0.3)
        self.wfile.write(body)

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder below which a test finds everything: the cache is in it, and no environment variable is set."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(find.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(find, "CONNECT_TIMEOUT", 60.0)
    return tmp_path


def dataset(*mirrors: str, system: Path | None = None, package: str = "", unpacked: bool = True) -> PublicDataset:
    files = (public("a.gz", unpacked), public("b.bin"))
    return PublicDataset("Set", ("set", "Set/raw"), files, mirrors, str(system or ""), package)


def put(folder: Path, **changed: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in SERVED.items():
        (folder / name).write_bytes(changed.get(name.partition(".")[0], body))
    return folder


def visible(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".lock" and path.is_file()
    )


def test_places_are_searched_in_order(
    places: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folders = [places / name for name in ("given", "environment", "system", "cache/generative-zoo")]
    for folder in folders[:2]:
        put(folder / "set")
    put(folders[2])
    put(folders[3] / "set")
    monkeypatch.setenv(find.ENVIRONMENT_VARIABLE, str(folders[1]))
    wanted = dataset(system=folders[2])
    expected = [folders[0] / "set", folders[1] / "set", folders[2], folders[3] / "set"]
    for place in expected:
        caplog.clear()
        with caplog.at_level("INFO"):
            assert find.find(wanted, str(folders[0])) == [place / "a.gz", place / "b.bin"]
        # A folder that was named, but does not hold the data, is not passed over in silence.
        assert any(str(place) in message for message in caplog.messages) == (place != expected[0])
        (place / "b.bin").unlink()
    with pytest.raises(DataNotFoundError):
        find.find(wanted, str(folders[0]))


@pytest.mark.parametrize("folder", ["", "set", "Set/raw"])
def test_sub_folders_of_a_named_folder_are_searched(places: Path, folder: str) -> None:
    put(places / "data" / folder)
    assert find.find(dataset(), str(places / "data"))[0] == places / "data" / folder / "a.gz"


def test_a_file_of_the_same_content_is_accepted(places: Path) -> None:
    folder = put(places / "data", a=gzip.compress(CONTENT["a.gz"], compresslevel=1, mtime=7))
    assert find.find(dataset(), str(folder))[0] == folder / "a.gz"
    (folder / "a.gz").unlink()
    (folder / "a").write_bytes(CONTENT["a.gz"])
    assert find.find(dataset(), str(folder))[0] == folder / "a"
    with pytest.raises(DataNotFoundError):
        find.find(dataset(unpacked=False), str(folder))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (SERVED["a.gz"][:-9], rf"end-of-stream.*\b{len(SERVED['a.gz']) - 9}\b"),
        (b"", r"\b0 bytes"),
        (b"<html>not found</html>", r"Not a gzipped file.*\b22\b"),
        (gzip.compress(CONTENT["a.gz"][:-1]), "bytes|SHA-256"),
        (gzip.compress(CONTENT["a.gz"] + b"0"), "bytes|SHA-256"),
        (SERVED["a.gz"][:40] + b"\x00\x00" + SERVED["a.gz"][42:], "bytes|SHA-256"),
    ],
)
@pytest.mark.parametrize("unpacked", [True, False])
def test_a_damaged_file_is_named(places: Path, body: bytes, reason: str, unpacked: bool) -> None:
    folder = put(places / "data", a=body)
    with pytest.raises(DamagedDataError) as error:
        find.find(dataset(unpacked=unpacked), str(folder))
    assert str(folder / "a.gz") in str(error.value)
    if unpacked:
        assert error.match(reason)


@pytest.mark.parametrize("change", [-7, 3])
def test_the_size_of_a_damaged_file_and_the_published_one_are_named(places: Path, change: int) -> None:
    size = len(SERVED["b.bin"])
    folder = put(places / "data", b=b"x" * (size + change))
    with pytest.raises(DamagedDataError, match=rf"b\.bin .*\b{size + change}\b.*\b{size}\b"):
        find.find(dataset(), str(folder))


def test_same_size_but_changed_is_damaged(places: Path) -> None:
    folder = put(places / "data", b=b"x" * len(SERVED["b.bin"]))
    with pytest.raises(DamagedDataError, match=r"b\.bin .*SHA-256"):
        find.find(dataset(), str(folder))


def test_a_process_checks_a_file_once_and_again_when_it_was_written_to(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(places / "data")
    find.find(dataset(), str(folder))
    with monkeypatch.context() as patched:
        patched.setattr(find, "_digest", lambda *arguments, **settings: pytest.fail("It was read again."))
        find.find(dataset(), str(folder))
    status = (folder / "b.bin").stat()
    (folder / "b.bin").write_bytes(b"x" * len(SERVED["b.bin"]))
    os.utime(folder / "b.bin", ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DamagedDataError, match=r"b\.bin .*SHA-256"):
        find.find(dataset(), str(folder))
    for name in SERVED:  # what is right in one folder says nothing of another
        (folder / name).unlink()
    put(places / "other", b=b"y" * len(SERVED["b.bin"]))
    with pytest.raises(DamagedDataError, match=r"b\.bin .*SHA-256"):
        find.find(dataset(), str(places / "other"))


def test_another_sets_file_of_the_same_name_is_skipped(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = b"of another set" * 9
    file = PublicFile("b.bin", len(other), hashlib.sha256(other).hexdigest())
    monkeypatch.setattr(find, "PUBLIC_DATASETS", (PublicDataset("Sibling", ("sibling",), (file,)),))
    folder = put(places / "data", b=other)
    with pytest.raises(DataNotFoundError, match=r"b\.bin .*Sibling"):
        find.find(dataset(), str(folder))


def test_a_download_lands_in_the_cache_and_is_not_repeated(places: Path, mirror: Mirror) -> None:
    for _ in range(2):
        paths = find.find(dataset(mirror.address))
        assert [path.read_bytes() for path in paths] == list(SERVED.values())
    assert mirror.requests == ["a.gz", "b.bin"]
    assert visible(places) == ["cache/generative-zoo/set/a.gz", "cache/generative-zoo/set/b.bin"]


def test_a_download_lands_in_the_folder_that_was_named(places: Path, mirror: Mirror) -> None:
    assert find.find(dataset(mirror.address), str(places / "data"))[0] == places / "data/set/a.gz"
    assert visible(places) == ["data/set/a.gz", "data/set/b.bin"]


def test_the_folder_of_the_environment_variable_is_never_written_to(
    places: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    (places / "shared").mkdir()
    monkeypatch.setenv(find.ENVIRONMENT_VARIABLE, str(places / "shared"))
    find.find(dataset(mirror.address))
    assert list((places / "shared").iterdir()) == []


def test_the_cache_replaces_a_folder_that_is_not_writable(places: Path, mirror: Mirror) -> None:
    (places / "data").mkdir()
    (places / "data/set").write_text("a file, so that no folder can be made there")
    assert find.find(dataset(mirror.address), str(places / "data"))[0].parent == places / "cache/generative-zoo/set"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("corrupt", "SHA-256"), ("interrupted", r"\b{half}\b.*\b{size}\b"), ("missing", "404")],
)
@pytest.mark.parametrize("name", ["a.gz", "b.bin"])
def test_a_failed_download_leaves_nothing_behind(
    places: Path, mirror: Mirror, fault: str, reason: str, name: str
) -> None:
    mirror.faults[name] = fault
    if fault == "missing":
        del mirror.files[name]
    size = len(SERVED[name])
    with pytest.raises(DataNotFoundError, match=reason.format(half=size // 2, size=size)) as error:
        find.find(dataset(mirror.address))
    assert mirror.address in str(error.value)
    assert name not in {Path(path).name for path in visible(places)}
    assert not [path for path in visible(places) if ".part-" in path]
    mirror.faults.clear()
    mirror.files.update(SERVED)
    assert [path.read_bytes() for path in find.find(dataset(mirror.address))] == list(SERVED.values())


def test_a_second_mirror_is_tried(places: Path, mirror: Mirror) -> None:
    paths = find.find(dataset("http://127.0.0.1:9/", mirror.address))
    assert paths[0].read_bytes() == SERVED["a.gz"]


def test_files_that_a_killed_process_left_are_removed(places: Path, mirror: Mirror) -> None:
    target = places / "cache/generative-zoo/set"
    (target / ".part-folder/deep").mkdir(parents=True)
    (target / ".part-123").write_bytes(SERVED["a.gz"][:10])
    find.find(dataset(mirror.address))
    assert sorted(path.name for path in target.iterdir()) == [".lock", "a.gz", "b.bin"]


def test_two_processes_fetch_once(places: Path, mirror: Mirror) -> None:
    mirror.faults["a.gz"] = "slow"
    script = (
        f"import sys; sys.path.insert(0, {str(Path(find.__file__).parents[2])!r})\n"
        "from datamodules.sources.find import find\n"
        "from datamodules.sources.public_files import PublicDataset, PublicFile\n"
        f"find({dataset(mirror.address)!r})\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script], env=dict(os.environ)) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    assert sorted(mirror.requests) == ["a.gz", "b.bin"]


def test_a_folder_that_is_named_but_missing_is_not_replaced_by_another(places: Path, mirror: Mirror) -> None:
    found = put(places / "system")
    wanted = dataset(mirror.address, system=found)
    for name in ("nope", "file"):
        (places / "file").write_text("no folder")
        with pytest.raises(DataNotFoundError, match=f"data_dir='{places / name}' is not a folder.* lies in {found}:"):
            find.find(wanted, str(places / name))
    assert mirror.requests == []
    assert find.find(wanted, str(found))[0].parent == find.find(wanted)[0].parent == found


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_nothing_is_fetched_for_a_folder_that_cannot_be_made(places: Path, mirror: Mirror, name: str) -> None:
    (places / "file").write_text("no folder")
    with pytest.raises(DataNotFoundError, match=f"data_dir='{places / name}' (is a file|does not exist)"):
        find.find(dataset(mirror.address), str(places / name))
    assert mirror.requests == []


def test_the_environment_variable_must_name_a_folder(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(find.ENVIRONMENT_VARIABLE, str(places / "nope"))
    wanted = dataset(system=put(places / "system"))
    with pytest.raises(DataNotFoundError, match=f"GENERATIVE_ZOO_DATA='{places / 'nope'}' is not a folder"):
        find.find(wanted)
    assert find.find(wanted, str(places / "system"))[0].parent == places / "system"  # which is looked into first


def test_the_error_names_every_place_and_what_to_do(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (places / "shared").mkdir()
    monkeypatch.setenv(find.ENVIRONMENT_VARIABLE, str(places / "shared"))
    monkeypatch.setattr(find, "unpack_package", fails)
    wanted = dataset("http://127.0.0.1:9/", system=places / "system", package="dataset-set")
    with pytest.raises(DataNotFoundError) as error:
        find.find(wanted, str(places / "data"))
    message = str(error.value)
    for place in ("data/set", "shared/set", "system", "cache/generative-zoo/set"):
        assert str(places / place) in message
    for part in ("http://127.0.0.1:9/", "dataset-set: no luck", "data_dir", "GENERATIVE_ZOO_DATA", "a.gz, b.bin"):
        assert part in message
    assert all(len(line) < 400 for line in message.splitlines())


def fails(package: str, folder: Path) -> Path:
    raise DebianError("no luck")


def test_debians_archive_is_tried_last(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpacks(package: str, folder: Path) -> Path:
        assert package == "dataset-set"
        put(folder / "root" / "usr/share/set")
        return folder / "root"

    monkeypatch.setattr(find, "unpack_package", unpacks)
    wanted = dataset("http://127.0.0.1:9/", system=Path("/usr/share/set"), package="dataset-set")
    assert find.find(wanted)[1].read_bytes() == SERVED["b.bin"]
    assert visible(places) == ["cache/generative-zoo/set/a.gz", "cache/generative-zoo/set/b.bin"]


def test_a_package_with_other_files_is_refused(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpacks(package: str, folder: Path) -> Path:
        put(folder / "root" / "usr/share/set", b=b"changed")
        return folder / "root"

    monkeypatch.setattr(find, "unpack_package", unpacks)
    with pytest.raises(DataNotFoundError, match=r"dataset-set.*b\.bin"):
        find.find(dataset(system=Path("/usr/share/set"), package="dataset-set"))
    assert visible(places) == []


@pytest.mark.slow
def test_debians_archive_has_fashion_mnist(places: Path) -> None:
    """The one test that needs the network, through apt alone."""
    try:
        find._from_debian(FASHION_MNIST, places)
    except DebianError as error:
        pytest.skip(f"Debian's archive cannot be reached: {error}")
    assert visible(places) == sorted(file.name for file in FASHION_MNIST.files)
