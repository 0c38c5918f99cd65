import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medfusion.core.errors import MedfusionWarning
from medfusion.modalities.imaging.cache import FILE, EmbeddingCache

IDENTITY = {"backbone": "b", "weights": "w", "preprocessing": "p"}


def vectors(count: int, start: int = 0) -> dict[str, np.ndarray]:
    return {
        f"film {n}": np.random.default_rng(n).normal(size=8).astype(np.float32) for n in range(start, start + count)
    }


def test_what_was_put_comes_back_bit_by_bit(tmp_path: Path) -> None:
    films = vectors(1500)
    EmbeddingCache(tmp_path / "new", IDENTITY, 8).put(films)
    found = EmbeddingCache(tmp_path / "new", IDENTITY, 8).get([*films, "unknown"])
    assert found.keys() == films.keys()
    assert all(np.array_equal(found[name], films[name]) and found[name].dtype == np.float32 for name in films)


@pytest.mark.parametrize("key", sorted(IDENTITY))
def test_another_backbone_weights_or_preprocessing_finds_nothing(tmp_path: Path, key: str) -> None:
    EmbeddingCache(tmp_path, IDENTITY, 8).put(vectors(3))
    assert EmbeddingCache(tmp_path, {**IDENTITY, key: "other"}, 8).get(vectors(3)) == {}


def test_without_a_folder_nothing_is_kept() -> None:
    cache = EmbeddingCache(None, IDENTITY, 8)
    cache.put(vectors(3))
    assert cache.get(vectors(3)) == {}


def test_a_value_of_the_wrong_length_is_not_used(tmp_path: Path) -> None:
    EmbeddingCache(tmp_path, IDENTITY, 8).put(vectors(2))
    assert EmbeddingCache(tmp_path, IDENTITY, 9).get(vectors(2)) == {}


def test_a_damaged_cache_is_told_of_once_and_done_without(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database" * 100)
    cache = EmbeddingCache(tmp_path, IDENTITY, 8)
    with pytest.warns(MedfusionWarning, match="delete it if it is damaged"):
        assert cache.get(vectors(2)) == {}
    cache.put(vectors(2))
    assert cache.get(vectors(2)) == {}


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, numpy as np; from medfusion.modalities.imaging.cache import EmbeddingCache as C;"
        "c = C(pathlib.Path(sys.argv[1]), {}, 8); s = int(sys.argv[2]);"
        "[c.put({f'{n}': np.full(8, n, np.float32)}) for n in range(s, s + 40)]"
    )
    writers = [subprocess.Popen([sys.executable, "-W", "error", "-c", code, tmp_path, f"{s}"]) for s in (0, 20, 40)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    found = EmbeddingCache(tmp_path, {}, 8).get(str(n) for n in range(80))
    assert {name: float(vector[0]) for name, vector in found.items()} == {str(n): float(n) for n in range(80)}


def test_the_file_holds_plain_values_only(tmp_path: Path) -> None:
    EmbeddingCache(tmp_path, IDENTITY, 8).put(vectors(1))
    with sqlite3.connect(tmp_path / FILE) as connection:
        ((key, value),) = connection.execute("SELECT key, value FROM embedding").fetchall()
    connection.close()
    assert len(key) == 64
    np.testing.assert_array_equal(np.frombuffer(value, "<f4"), vectors(1)["film 0"])
