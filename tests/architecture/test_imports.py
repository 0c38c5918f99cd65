"""Who may import whom, and what an import may do."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import medfusion

PACKAGE = Path(medfusion.__file__).parent
ROOT = PACKAGE.parent
STAGES = ("cohort", "modalities", "evidence", "fusion", "explain", "evaluation", "outputs", "deidentify", "review")
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path):
    """Return the modules of medfusion that a file imports anywhere in it, function bodies included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {str(node.module)} | {f"{node.module}.{name.name}" for name in node.names}
    return {name.split(".")[1] for name in found if name.startswith("medfusion.")}, found


def test_import_linter_finds_every_contract_kept():
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("the contracts stand in pyproject.toml, which an installed package does not have")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_core_and_itself_alone(stage):
    for path in (PACKAGE / stage).rglob("*.py"):
        assert imported(path)[0] <= {"core", stage}, path


def test_core_imports_nothing_else_of_medfusion():
    for path in (PACKAGE / "core").rglob("*.py"):
        assert imported(path)[0] <= {"core"}, path


def test_no_modality_imports_another():
    for folder in sorted(path for path in (PACKAGE / "modalities").iterdir() if (path / "__init__.py").exists()):
        for path in folder.rglob("*.py"):
            mine = {name for name in imported(path)[1] if name.startswith("medfusion.modalities.")}
            assert all(name.split(".")[2] == folder.name for name in mine), path


def test_only_the_command_line_imports_the_pipeline():
    for path in FILES:
        if "pipeline" in imported(path)[0]:
            assert path.parent.name in {"pipeline", "cli"}, path


def test_the_command_line_starts_without_the_heavy_libraries():
    heavy = ["torch", "monai", "sklearn", "pandas", "xgboost", "shap", "scipy", "pyarrow", "pydicom", "matplotlib"]
    heavy += ["sqlalchemy", "alembic"]
    code = f"import sys, medfusion.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


NETWORKS = {f"medfusion.fusion.{name}" for name in ("learned", "networks", "training")}
NETWORKS |= {f"medfusion.modalities.imaging.{name}" for name in ("network", "backends.torch", "backends.openvino")}
NETWORKS |= {"medfusion.modalities.imaging.backends.onnxruntime"}
"""What is torch from the first line on; loaded only where such a network is wanted."""


def test_importing_everything_says_nothing_and_sets_nothing_up():
    code = (
        "import logging, pkgutil, sys, warnings, medfusion\n"
        "before = (list(warnings.filters), list(logging.root.handlers), logging.root.level)\n"
        "names = {m.name for m in pkgutil.walk_packages(medfusion.__path__, 'medfusion.')}\n"
        f"names = sorted(names - {NETWORKS})\n"
        "import numpy, pandas, pyarrow, scipy.optimize, sklearn, sklearn.model_selection, xgboost\n"
        "loaded = list(warnings.filters)\n"
        "for name in names: __import__(name)\n"
        "assert len(names) > 60, names\n"
        "assert (logging.root.handlers, logging.root.level) == before[1:]\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
        "print(len(list(warnings.filters)) - len(loaded))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (done.stdout.strip(), done.stderr) == ("0", "")


def test_torch_is_loaded_where_a_network_is_wanted_and_not_for_a_sum():
    code = (
        "import sys, medfusion.fusion as fusion; fusion.new_fusion('late'); before = 'torch' in sys.modules\n"
        "fusion.new_fusion('joint'); print(before, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False True"


def modules():
    for module in pkgutil.walk_packages([str(PACKAGE)], "medfusion."):
        if "__all__" in (Path(module.module_finder.path) / _file(module)).read_text(encoding="utf-8"):
            yield module.name


def _file(module):
    name = module.name.rsplit(".", 1)[1]
    return f"{name}/__init__.py" if module.ispkg else f"{name}.py"


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_package_offers_the_names_that_it_shows(name):
    module = importlib.import_module(name)
    visible = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and not isinstance(value, ModuleType) and key != "annotations"
    }
    assert sorted(module.__all__) == sorted(visible)
