"""What no source may hold: whatever runs code when it is read, and files that nobody reads to the end."""

import ast
from pathlib import Path

import pytest

import medfusion

PACKAGE = Path(medfusion.__file__).parent
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
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")
}


def offenders(rule):
    """Return what a rule finds, by file; files where it finds nothing are left out."""
    return {name: found for name, tree in sorted(TREES.items()) if (found := rule(tree))}


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


def test_no_source_reads_what_could_run_code():
    assert offenders(unsafe) == {}


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


def test_no_file_is_longer_than_anybody_reads():
    lengths = {name: len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) for name in TREES}
    assert {name: length for name, length in lengths.items() if length > 450} == {}


def test_every_file_says_what_it_is():
    assert offenders(lambda tree: not ast.get_docstring(tree)) == {}


def test_user_input_is_not_checked_by_assert():
    """An assertion is gone with ``python -O``; one that narrows a type is no check of input."""

    def checks(tree):
        tests = [ast.unparse(node.test) for node in ast.walk(tree) if isinstance(node, ast.Assert)]
        return [test for test in tests if "is not None" not in test and "isinstance" not in test]

    assert offenders(checks) == {}


def test_nothing_is_printed_past_the_command_line():
    def printing(tree):
        return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and called(node) == "print"]

    assert offenders(printing) == {}


def test_no_source_has_a_client_of_the_network():
    clients = {"requests", "urllib", "http", "httpx", "aiohttp", "socket", "ftplib", "huggingface_hub"}

    def opening(tree):
        plain = [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
        of = [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        return [name for name in plain + of if name.split(".")[0] in clients]

    assert offenders(opening) == {}
