"""The table of public files."""

from datamodules.sources.public_files import PUBLIC_DATASETS


def test_every_public_file_has_a_source_and_a_digest() -> None:
    for entry in PUBLIC_DATASETS:
        assert entry.mirrors or entry.instructions
        for file in entry.files:
            assert len(bytes.fromhex(file.sha256)) == 32
            assert bool(file.content_size) == bool(file.content_sha256)
    assert len({file.sha256 for entry in PUBLIC_DATASETS for file in entry.files}) == 26
