"""Versions whose right answer anyone can compute: each multiplies by a factor of its own."""

from pathlib import Path

COLUMNS = ["do", "x"]
MODULE = '''
from pathlib import Path

hoard = []


def _load_pyfunc(data):
    factor = Path(data, "factor.txt").read_text()
    return Scaled(float(factor))


class Scaled:
    """Answers with x times its factor; where it is told "eat N" it takes N bytes and keeps them."""

    def __init__(self, factor):
        self.factor = factor

    def predict(self, table):
        for what in table["do"]:
            if what:
                hoard.append(bytearray(b"x") * int(what.split()[1]))
        return [x * self.factor for x in table["x"]]
'''
MLMODEL = """
flavors:
  python_function:
    loader_module: {module}
    code: code
    data: data
    python_version: 3.11.7
mlflow_version: 3.1.0
signature:
  inputs: '[{{"type": "string", "name": "do"}}, {{"type": "double", "name": "x"}}]'
"""


def made(folder: Path, factor: str) -> Path:
    """A version in *folder*; with "nan" it fails its canary, with no number at all its load."""
    module = f"scaled_{folder.name}"
    (folder / "code").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "code" / f"{module}.py").write_text(MODULE, "utf-8")
    (folder / "data" / "factor.txt").write_text(factor, "ascii")
    (folder / "MLmodel").write_text(MLMODEL.format(module=module), "utf-8")
    return folder
