"""Reads the file of an offline W&B run, for which wandb itself has no reader.

It is a LevelDB log: a header of seven bytes, then blocks of 32 KiB of records (checksum, length, type),
where a record that does not fit is continued in the next block. Each holds one protobuf message.
"""

import json
import struct
import time
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

BLOCK, HEADER, RECORD_HEADER, FULL, LAST = 32768, 7, 7, 1, 4


def records(path: Path) -> list[Record]:
    """Returns all records of a ``.wandb`` file."""
    data, position, parts, found = path.read_bytes(), HEADER, b"", []
    assert data[:4] == b":W&B"
    while position + RECORD_HEADER <= len(data):
        if BLOCK - position % BLOCK < RECORD_HEADER:
            position += BLOCK - position % BLOCK  # a block's last bytes that no header fits into are padding
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + RECORD_HEADER])
        position += RECORD_HEADER
        parts += data[position : position + length]
        position += length
        if kind in (FULL, LAST):
            found.append(Record.FromString(parts))
            parts = b""
    return found


def read(folder: Path) -> dict[str, Any]:
    """Returns id, project, name, config, history and artifacts of the one offline run in ``folder``.

    A process of its own writes the file, and may still do so when ``wandb.finish()`` has returned.
    """
    (path,) = folder.glob("*.wandb")
    while not any(record.HasField("exit") for record in records(path)):
        time.sleep(0.05)
    run: dict[str, Any] = {"config": {}, "history": [], "artifacts": [], "files": folder / "files"}
    for record in records(path):
        if record.HasField("run"):
            run.update(id=record.run.run_id, project=record.run.project, name=record.run.display_name)
        updates = [record.run.config] if record.HasField("run") else [record.config]
        for update in (item for config in updates for item in config.update):
            run["config"][update.key or ".".join(update.nested_key)] = json.loads(update.value_json)
        if record.HasField("history"):
            row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            run["history"].append(row)
        if record.HasField("artifact"):
            run["artifacts"].append(record.artifact.name)
    return run
