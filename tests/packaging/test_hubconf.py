"""``torch.hub`` finds every checkpoint in a checkout that is not installed."""

import json
import subprocess
import sys
from pathlib import Path

import torch

import zoo

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys
import torch

root = sys.argv[1]
points = torch.hub.load(root, "wgan_gp_ring8", source="local")
same = torch.hub.load(root, "wgan_gp.ring8", source="local", weights="raw")
named = torch.hub.load(root, "load", "nce.ring8", source="local")
samples = points.sample(3, generator=torch.Generator().manual_seed(0))
sys.path.insert(0, root)
import hubconf, zoo
print(json.dumps({
    "zoo": zoo.__file__,
    "samples": samples.tolist(),
    "classes": [type(module).__name__ for module in (points, same, named)],
    "raw": not torch.equal(samples, same.sample(3, generator=torch.Generator().manual_seed(0))),
    "entries": [name for name in dir(hubconf) if callable(getattr(hubconf, name)) and not name.startswith("_")],
    "undocumented": [name for name in dir(hubconf) if not name.startswith("_") and not getattr(hubconf, name).__doc__],
}))
"""


def test_torch_hub_loads_by_name_from_a_checkout(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(ROOT)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert Path(found["zoo"]).parents[1] == ROOT
    assert found["classes"] == ["WGANGP", "WGANGP", "NCE"]
    assert found["raw"]
    expected = zoo.load("wgan_gp.ring8").sample(3, generator=torch.Generator().manual_seed(0))
    assert found["samples"] == expected.tolist()
    names = set(zoo.names())
    assert set(found["entries"]) == {"load"} | names | {name.replace(".", "_") for name in names}
    assert found["undocumented"] == []
