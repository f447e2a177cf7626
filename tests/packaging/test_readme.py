"""What the README says is so: its Python runs and has types, its commands parse, its table is that of the cards."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lightning_modules import FAMILIES
from tests.packaging.readme_tables import EQUATIONS, HEADINGS, README, ROOT, equation, paper, written
from tests.processes import execute, output_of
from zoo.arguments import build_parser

METHODS = {method.__name__: method for family in FAMILIES.values() for method in family}
TEXT = README.read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = re.findall(r"^(?:srun )?python -m (zoo .*?)(?:\s+#.*)?$", TEXT.replace("\\\n", ""), re.MULTILINE)


def test_the_table_is_up_to_date() -> None:
    assert written(TEXT) == TEXT, "run `make readme`"


def test_every_family_has_a_heading_and_every_method_an_equation_and_its_own_paper() -> None:
    assert list(HEADINGS) == list(FAMILIES)
    assert set(EQUATIONS) <= set(METHODS)
    assert [name for name, method in METHODS.items() if name != "Classifier" and not equation(method)] == []
    authors = {
        "Gaussian": "Lamb, 2021",
        "GaussianMixture": "Dempster, Laird and Rubin, 1977",
        "RBM": "Hinton, 2002",
        "EBM": "Du and Mordatch, 2019",
        "PixelCNNPlusPlus": "Salimans et al., 2017",
        "TeacherForcing": "Williams and Zipser, 1989",
        "ScheduledSampling": "Bengio et al., 2015",
        "ProfessorForcing": "Lamb et al., 2016",
        "MixtureDensityRNN": "Graves, 2013",
        "VAE": "Kingma & Welling, 2013",
        "IWAE": "Burda et al., 2015",
        "LadderVAE": "Sonderby et al., 2016",
        "NCE": "Gutmann and Hyvarinen, 2010",
        "MinimaxGAN": "Goodfellow et al., 2014",
        "NonSaturatingGAN": "Goodfellow et al., 2014",
        "LSGAN": "Mao et al., 2017",
        "InstanceNoiseGAN": "Sonderby et al., 2016",
        "RothGAN": "Roth et al., 2017",
        "WGAN": "Arjovsky et al., 2017",
        "WGANGP": "Gulrajani et al., 2017",
        "SNGAN": "Miyato et al., 2018",
        "JacobianClampingGAN": "Odena et al., 2018",
        "R3GAN": "Huang et al., 2024",
        "StyleTransfer": "Gatys et al., 2016",
        "TextureSynthesis": "Gatys et al., 2015",
        "DeepImagePrior": "Ulyanov et al., 2018",
    }
    assert set(authors) <= set(METHODS)
    without = [name for name, method in METHODS.items() if not paper(method)]
    assert without == ["ComposedGAN", "Classifier"], "a method's module ends in its reference"
    for name, expected in authors.items():
        assert paper(METHODS[name]).endswith(f"), {expected}")


def test_one_moving_image_is_above_the_fold() -> None:
    (path,) = re.findall(r"^!\[.*\]\((docs/.*\.gif)\)$", TEXT[: TEXT.index("## ")], re.MULTILINE)
    assert f"--out {path}" in TEXT  # the command that makes it
    assert (ROOT / path).stat().st_size < 2e6
    with Image.open(ROOT / path) as image:
        assert image.n_frames > 10


@pytest.mark.usefixtures("fashion_mnist")
def test_python_runs(tmp_path: Path) -> None:
    short = [code.replace("max_steps=1_000", 'max_steps=2, accelerator="cpu"') for code in PYTHON]
    returned, _, error = output_of(execute, [("README.md", code) for code in short], folder=str(tmp_path))
    assert returned == 0, error
    assert (tmp_path / "runs/my-gan/zoo/model.safetensors").is_file()


def test_python_is_found() -> None:
    assert len(PYTHON) == 3
    assert "max_steps=1_000" in PYTHON[1]


class Reveal(ast.NodeTransformer):
    """Wraps every name, call and item that a program reads in ``reveal_type``, imported modules aside."""

    def __init__(self, modules: set[str]) -> None:
        self.modules = modules

    def visit(self, node: ast.AST) -> ast.AST:
        node = super().visit(node)
        read = isinstance(node, (ast.Call, ast.Subscript, ast.Name)) and not isinstance(
            getattr(node, "ctx", ast.Load()), ast.Store
        )
        if not read or (isinstance(node, ast.Name) and node.id in self.modules):
            return node
        return ast.copy_location(ast.Call(ast.Name("reveal_type", ast.Load()), [node], []), node)


def revealed(code: str, folder: Path) -> list[str]:
    """Returns the type of every expression of a program, as mypy sees it."""
    tree = ast.parse(code)
    modules = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    source = ast.unparse(ast.fix_missing_locations(Reveal(modules).visit(tree)))
    file = folder / "example.py"
    file.write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--no-pretty", file]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "error:" not in ran.stdout, ran.stdout + ran.stderr
    return re.findall(r'Revealed type is "(.*)"', ran.stdout)


@pytest.mark.parametrize("code", PYTHON, ids=["load", "train", "continue"])
def test_every_expression_of_the_python_has_a_type(code: str, tmp_path: Path) -> None:
    types = revealed(code, tmp_path)
    assert types
    assert [found for found in types if re.search(r"\bAny\b", found)] == []


def test_a_missing_type_would_be_seen(tmp_path: Path) -> None:
    assert revealed("import json\nx = json.loads('1')\n", tmp_path)[-1] == "Any"


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    _, *arguments = shlex.split(command, comments=True)
    parsed, overrides = build_parser().parse_known_args(arguments)
    assert parsed.command == arguments[0]
    assert parsed.command in ("train", "resume") or not overrides


def test_commands_are_found() -> None:
    shown = {shlex.split(command)[1] for command in COMMANDS}
    assert shown >= {"list", "show", "sample", "evaluate", "train", "resume", "fine-tune"}


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT) + re.findall(r'src="([^"]+)"', TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
