"""Rules that every class of the package keeps: what a base may define, and which classes are methods."""

import ast
import inspect
import pkgutil
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

import datamodules
import lightning_modules
import zoo
from lightning_modules import FAMILIES, METHODS
from lightning_modules.adversarial.joint_game import JointModule
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.base import ZooModule
from lightning_modules.image.image_optimization import ImageOptimization
from lightning_modules.latent.latent_variable import LatentVariableModule

LIGHTNING_HOOKS = {name for base in (LightningModule, LightningDataModule) for name in dir(base) if name[0] != "_"}
"""Public methods of Lightning's own bases, which it calls or which users call."""
LIGHTNING_BASES = (LightningModule, LightningDataModule)
OVERRIDDEN_FREELY = {
    "__init__",  # each class has its own hyperparameters
    "hyperparameters_for",  # families add what else the data decide
}
EXCEPTIONS: dict[tuple[str, str], str] = {}
"""Base and method to the reason why subclasses may replace what the base does."""
BUILT_DIRECTLY = {
    AdversarialModule: "a loop that takes any generator and discriminator",
    JointModule: "a game of any generator, encoder and discriminator of pairs",
    LatentVariableModule: "a bound that takes any encoder and decoder",
}
"""Bases that are not abstract, with the reason; the zoo refuses them, because a file cannot say how to build them."""


def classes_of_the_house() -> list[type]:
    """Returns all classes that a module of the packages defines."""
    found: dict[type, None] = {}
    for package in (lightning_modules, datamodules, zoo):
        for place in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if place.name != "zoo.__main__":
                members = vars(import_module(place.name)).values()
                found |= {value: None for value in members if inspect.isclass(value) and value.__module__ == place.name}
    return list(found)


# Bases


def function_of(member: Any) -> Callable[..., Any] | None:
    """Returns the function behind a method, a class method, a static method or a property; else ``None``."""
    member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    return member if inspect.isfunction(member) else None


def syntax_of(function: Callable[..., Any]) -> ast.FunctionDef:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(definition, ast.FunctionDef)
    return definition


def is_hook(function: Callable[..., Any]) -> bool:
    """Whether a method is documented and does nothing: it returns a constant, an argument or something empty."""
    definition = syntax_of(function)
    if ast.get_docstring(definition) is None or len(definition.body) > 2:
        return False
    if len(definition.body) == 1:
        return True
    last = definition.body[1]
    if not isinstance(last, ast.Return):
        return False
    arguments = [argument.arg for argument in (*definition.args.args, *definition.args.kwonlyargs)]
    if isinstance(last.value, ast.Name):
        return last.value.id in arguments
    if isinstance(last.value, ast.Dict):
        return not last.value.keys
    if isinstance(last.value, ast.List):
        return not last.value.elts
    constants = last.value.elts if isinstance(last.value, ast.Tuple) else [last.value]
    return all(value is None or isinstance(value, ast.Constant) for value in constants)


def calls_of_super(function: Callable[..., Any]) -> int:
    """Counts the places where an override calls the method that it overrides."""
    calls = [node.func for node in ast.walk(syntax_of(function)) if isinstance(node, ast.Call)]
    return sum(ast.unparse(called) == f"super().{function.__name__}" for called in calls)


def broken_rules(classes: list[type]) -> Iterator[tuple[str, str, str]]:
    """Yields base, method and subclass wherever a method is overridden that has to be final."""
    for base, subclass in [(base, other) for base in classes for other in classes if base in other.__mro__[1:]]:
        for name, member in vars(base).items():
            function, override = function_of(member), function_of(vars(subclass).get(name))
            if function is None or override is None or name in OVERRIDDEN_FREELY:
                continue
            if inspect.unwrap(function).__code__.co_filename == "<string>":  # written by ``dataclass``
                continue
            if getattr(member, "__isabstractmethod__", False) or is_hook(function):
                continue
            if name in LIGHTNING_HOOKS and issubclass(base, LIGHTNING_BASES) and calls_of_super(override) == 1:
                continue
            yield base.__name__, name, subclass.__name__


def test_a_method_of_a_base_is_abstract_a_hook_or_final() -> None:
    found = list(broken_rules(classes_of_the_house()))
    assert [broken for broken in found if broken[:2] not in EXCEPTIONS] == []
    assert EXCEPTIONS.keys() - {broken[:2] for broken in found} == set()


def test_the_rule_sees_what_breaks_it() -> None:
    class Base(LightningModule, ABC):
        @abstractmethod
        def says(self) -> str:
            """Returns what a subclass says."""

        def hook(self, x: int) -> int:
            """Hook: returns something else than x."""
            return x

        def undocumented(self) -> None:
            return None

        def final(self) -> list[int]:
            """Returns numbers."""
            return [1]

        def setup(self, stage: str) -> None:
            """Sets the stage."""
            self.stage = stage

        def on_fit_start(self) -> None:
            """Sets the stage."""
            self.stage = "fit"

    class Kept(Base):
        def says(self) -> str:
            return ""

        def hook(self, x: int) -> int:
            return x + 1

        def setup(self, stage: str) -> None:
            super().setup(stage)

    class Broken(Base):
        def undocumented(self) -> None:
            return None

        @property
        def final(self) -> list[int]:  # type: ignore[override]
            return [2]

        def setup(self, stage: str) -> None:
            self.stage = "none"

        def on_fit_start(self) -> None:
            super().on_fit_start()
            super().on_fit_start()

    assert list(broken_rules([Base, Kept])) == []
    found = {(base, subclass, name) for base, name, subclass in broken_rules([Base, Kept, Broken])}
    assert found == {("Base", "Broken", name) for name in ("undocumented", "final", "setup", "on_fit_start")}


# Methods


def test_every_class_that_trains_is_a_method_exactly_once_or_a_base() -> None:
    house = [value for value in classes_of_the_house() if issubclass(value, ZooModule)]
    bases = [value for value in house if any(value in other.__mro__[1:] for other in house)]
    methods = [method for family in FAMILIES.values() for method in family]
    leaves = [value for value in house if value not in bases]
    assert sorted(method.__name__ for method in methods) == sorted(leaf.__name__ for leaf in leaves)
    assert all(METHODS.get(leaf.__name__) is (None if issubclass(leaf, ImageOptimization) else leaf) for leaf in leaves)
    assert [leaf.__name__ for leaf in leaves if inspect.isabstract(leaf)] == []
    concrete = [base for base in bases if not str(base.__doc__).startswith("Abstract: ")]
    assert set(concrete) == BUILT_DIRECTLY.keys()
