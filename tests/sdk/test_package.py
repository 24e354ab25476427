"""The package as it is shipped: complete types, one version."""

import importlib
import pkgutil
import tomllib
from pathlib import Path

import aigateway
import aigateway.v1
from aigateway import errors, types

ROOT = Path(__file__).resolve().parents[2]
SDK = ROOT / "clients" / "python"


def test_types_has_every_message_and_enum_of_the_contract() -> None:
    names = set()
    for module in pkgutil.iter_modules(aigateway.v1.__path__):
        if module.name.endswith("_pb2"):
            descriptor = importlib.import_module(f"aigateway.v1.{module.name}").DESCRIPTOR
            names |= {*descriptor.message_types_by_name, *descriptor.enum_types_by_name}

    assert names
    assert set(types.__all__) == names
    assert all(hasattr(types, name) for name in names)


def test_every_reason_has_a_class_of_errors_and_every_class_is_public() -> None:
    reasons = {name.removeprefix("ERROR_REASON_") for name in types.ErrorReason.keys()}  # noqa: SIM118
    assert errors._BY_REASON.keys() == reasons - {"UNSPECIFIED"}
    for family in {*errors._BY_REASON.values(), *errors._BY_CODE.values()}:
        assert getattr(aigateway, family.__name__) is family


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((SDK / "pyproject.toml").read_text())["project"]

    assert aigateway.__version__ == project["version"]


def test_the_package_is_typed() -> None:
    assert (SDK / "src" / "aigateway" / "py.typed").is_file()
