"""What no source may hold: whatever runs code when it is read, and files that nobody reads to the end."""

import ast
from pathlib import Path

import pytest

import medfusion

PACKAGE = Path(medfusion.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
UNSAFE_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "joblib",
    "dill",
    "cloudpickle",
    "skops",
    "shelve",
    "marshal",
    "jsonpickle",
}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "read_pickle", "to_pickle", "load_module"}
NEEDED = {
    # What a call must say where its default, or another library version's default, would let a file run code.
    "torch.load": ("weights_only", True),
    "from_pretrained": ("trust_remote_code", False),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
NAMES = [path.relative_to(PACKAGE).as_posix() for path in FILES]


def tree(name):
    return ast.parse((PACKAGE / name).read_text(encoding="utf-8"))


def called(node):
    return ast.unparse(node.func)


def unsafe(source):
    """Return what in a source could run code that stands in a file."""
    found = []
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.split(".")[0] in UNSAFE_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module] if node.module.split(".")[0] in UNSAFE_MODULES else []
        elif isinstance(node, ast.Call):
            name = called(node)
            bare = isinstance(node.func, ast.Name) or name.split(".")[-1] in {"read_pickle", "to_pickle"}
            if bare and name.split(".")[-1] in UNSAFE_CALLS:
                found.append(name)
            for ending, (key, value) in NEEDED.items():
                if name == ending or name.endswith(f".{ending}"):
                    said = {word.arg: ast.unparse(word.value) for word in node.keywords}
                    found += [] if said.get(key) == str(value) else [f"{name} without {key}={value}"]
            found += [name for word in node.keywords if ast.unparse(word) in {"allow_pickle=True", "shell=True"}]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_no_source_reads_what_could_run_code(name):
    assert unsafe(tree(name)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "def read():\n    import skops.io",
        "eval(text)",
        "pd.read_pickle(path)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "AutoModel.from_pretrained(folder, trust_remote_code=True)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_this_search_finds_what_it_looks_for(source):
    assert unsafe(ast.parse(source)) != []


@pytest.mark.parametrize("source", ["model.eval()", "re.compile(text)", "torch.load(path, weights_only=True)"])
def test_this_search_leaves_alone_what_is_harmless(source):
    assert unsafe(ast.parse(source)) == []


@pytest.mark.parametrize("name", NAMES)
def test_no_file_is_longer_than_anybody_reads(name):
    assert len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) <= 450


@pytest.mark.parametrize("name", NAMES)
def test_every_file_says_what_it_is(name):
    assert ast.get_docstring(tree(name))


@pytest.mark.parametrize("name", NAMES)
def test_user_input_is_not_checked_by_assert(name):
    """An assertion is gone with ``python -O``; one that narrows a type is none."""
    checks = [node for node in ast.walk(tree(name)) if isinstance(node, ast.Assert)]
    assert all("is not None" in ast.unparse(check.test) or "isinstance" in ast.unparse(check.test) for check in checks)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_printed_past_the_command_line(name):
    calls = [node for node in ast.walk(tree(name)) if isinstance(node, ast.Call)]
    assert not [call for call in calls if called(call) == "print"]


def test_no_address_is_opened_by_any_source():
    clients = {"requests", "urllib", "http", "httpx", "aiohttp", "socket", "ftplib", "huggingface_hub"}
    for name in NAMES:
        for node in ast.walk(tree(name)):
            module = node.names[0].name if isinstance(node, ast.Import) else getattr(node, "module", None)
            if isinstance(node, ast.Import | ast.ImportFrom) and module:
                assert module.split(".")[0] not in clients, name
