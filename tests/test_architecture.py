"""Arrows point one way: who may import what."""

import ast
import subprocess
import sys
from pathlib import Path

import d2cli

ROOT = Path(d2cli.__file__).parent

# The layers, and the parts of the project that each may import. This table is their documentation.
LAYERS = {
    "errors": set(),
    "interrupts": set(),
    "config": {"errors"},
    "params": {"errors", "params"},
    "precedence": set(),
    "quantities": {"errors"},
    "stages": {"errors", "params", "stages"},
    "render": {"quantities", "stages", "render"},
    "files": {
        "__init__",
        "errors",
        "files",
        "footers",
        "interrupts",
        "params",
        "quantities",
        "render",
        "stages",
    },
    "pipeline": {"errors", "params", "quantities", "stages", "render", "files", "pipeline"},
    "api": {"errors", "params", "stages"},
    "footers": set(),
    "column_names": {"footers"},
    "completion": {"column_names", "completion"},
    "options": {"completion", "errors", "options", "params", "quantities"},
    "display": {"errors", "interrupts", "stages", "render", "files"},
    "commands": {
        "commands",
        "config",
        "display",
        "errors",
        "files",
        "params",
        "pipeline",
        "quantities",
        "render",
        "stages",
    },
    "cli": {
        "__init__",
        "cli",
        "commands",
        "completion",
        "config",
        "errors",
        "options",
        "params",
        "precedence",
        "quantities",
    },
    "__main__": {"cli", "completion", "config", "errors", "display", "files", "interrupts"},
    "__init__": {"api", "errors"},
}

# Heavy or special packages, and the only places that may import them.
ONLY_IN = {
    "typer": {"cli", "completion/answers.py", "options"},
    "PIL": {"files/thumbnails.py"},
    "grpc": {"pipeline/cluster.py"},
    "ray": {"pipeline/cluster.py"},
    "rich": {"display"},
    "pyarrow": {"files", "render/explanations.py"},
    "hnswlib": {"stages/hnsw.py"},
    "blake3": {"files"},
    "filelock": {"files"},
    "platformdirs": {"files"},
    "safetensors": {"files"},
    "fsspec": {"files/filesystems.py"},
    "aiohttp": {"files/filesystems.py"},
}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "d2cli":
                yield from (f"d2cli.{alias.name}" for alias in node.names)
            else:
                yield node.module


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        yield path, relative.parts[0].removesuffix(".py"), relative.as_posix()


def test_layers_import_downwards_only():
    for path, layer, relative in modules():
        for name in imports_of(path):
            package, *rest = name.split(".")
            if package == "d2cli":
                target = rest[0] if rest and rest[0] in LAYERS else "__init__"
                assert target in LAYERS[layer] | {layer}, f"{relative} imports {name}"


def test_heavy_packages_stay_in_their_places():
    for path, layer, relative in modules():
        for name in imports_of(path):
            allowed = ONLY_IN.get(name.split(".")[0])
            if allowed is not None:
                assert {layer, relative} & allowed, f"{relative} imports {name}"


def test_no_module_is_a_drawer():
    for path, _, relative in modules():
        assert path.stem not in {"utils", "helpers", "common", "base", "misc"}, relative


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys\n"
        "from d2cli.__main__ import main\n"
        "for line in (['--help'], ['prune', '--help'], ['--version']):\n"
        "    try:\n"
        "        main(line)\n"
        "    except SystemExit:\n"
        "        pass\n"
        "heavy = {'numpy', 'pyarrow', 'hnswlib', 'rich', 'pydantic', 'blake3', 'platformdirs'}\n"
        "found = sorted({name.split('.')[0] for name in sys.modules} & heavy)\n"
        "sys.exit(f'imported {found}' if found else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: d2 [OPTIONS] COMMAND" in done.stdout


def test_pickle_is_never_allowed():
    for path, _, relative in modules():
        text = path.read_text(encoding="utf-8")
        assert "allow_pickle=True" not in text, relative
        assert "import pickle" not in text, relative
