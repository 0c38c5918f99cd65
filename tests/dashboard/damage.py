"""Folders of scores that something has happened to."""

import shutil

import pyarrow.parquet as pq


def damaged(scored, work, harm):
    """Return a copy with one kind of harm done to it."""
    folder = work / "harmed"
    if harm == "nothing":
        folder.mkdir()
        return folder
    shutil.copytree(scored, folder)
    files = sorted((folder / "predictions.parquet").iterdir())
    if harm == "one file":
        shutil.rmtree(folder / "predictions.parquet")
        shutil.copy(scored / "predictions.parquet" / files[0].name, folder / "predictions.parquet")
    elif harm == "no column":
        for file in files:
            table = pq.read_table(file)
            pq.write_table(table.drop_columns(["input_hash"]), file)
    elif harm == "no record":
        shutil.rmtree(folder / ".state")
    elif harm == "cut":
        for file in files:
            file.write_bytes(file.read_bytes()[:-100])
    elif harm == "empty":
        shutil.rmtree(folder / ".state")
        for file in files:
            file.unlink()
    return folder
