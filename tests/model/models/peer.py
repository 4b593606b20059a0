"""MLflow's own scoring server for several models: ``python peer.py PORT FOLDER…``, each below its name."""

import sys
from pathlib import Path

import uvicorn
from mlflow.pyfunc import load_model
from mlflow.pyfunc.scoring_server import init
from starlette.applications import Starlette
from starlette.routing import Mount


def main(port: int, folders: list[Path]) -> None:
    mounts = [Mount(f"/{folder.name}", app=init(load_model(str(folder)))) for folder in folders]
    uvicorn.run(Starlette(routes=mounts), port=port, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
