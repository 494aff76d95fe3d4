"""MLflow: into the store that MLFLOW_TRACKING_URI names."""

import os
import re
import time
from collections.abc import Mapping

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from probekit.train.loggers.base import Begun, Ending, Logger
from probekit.visible import first_line

EXPERIMENT = "probekit"  # unless MLFLOW_EXPERIMENT_NAME names another
AT_ONCE = 100  # parameters a request, MLflow's own limit
LONGEST = 500  # characters of a parameter, which older servers take
ODD = re.compile(r"[^\w\-. :/]")  # in names, which MLflow refuses
STATES = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MLflow(Logger):
    """A run of the same name in an experiment; resumed, it is the same run there, by its id."""

    def __init__(self, begun: Begun) -> None:
        # Twice again, five seconds: MLflow asks a server that is not there for over a minute, at every call.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        try:
            self.client = MlflowClient()
            self.key = begun.key or self._create(begun)
            self.client.update_run(self.key, status="RUNNING")
        except MlflowException as error:  # its own line says neither place nor remedy
            uri = os.environ.get("MLFLOW_TRACKING_URI")
            raise ValueError(
                f"expected a store of MLflow at {uri or 'its default place'}, found: {first_line(error)[:80]}; "
                "mlflow-skinny alone has no database, which sqlalchemy and alembic bring; "
                "for a server set MLFLOW_TRACKING_URI=http://...; "
                "for a folder set MLFLOW_TRACKING_URI=mlruns and MLFLOW_ALLOW_FILE_STORE=true"
            ) from error
        self.place = f"{self.client.tracking_uri}, run {self.key}"

    def _create(self, begun: Begun) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self.client.get_experiment_by_name(name)
        experiment = self.client.create_experiment(name) if found is None else found.experiment_id
        key: str = self.client.create_run(experiment, run_name=begun.name).info.run_id
        params = [Param(ODD.sub("_", name), str(value)[:LONGEST]) for name, value in begun.settings.items()]
        for first in range(0, len(params), AT_ONCE):
            self.client.log_batch(key, params=params[first : first + AT_ONCE])
        return key

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """All of a step in one request."""
        now = round(1000 * time.time())
        self.client.log_batch(self.key, [Metric(ODD.sub("_", name), v, now, step) for name, v in numbers.items()])

    def picture(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """As a series by step."""
        self.client.log_image(self.key, pixels, key=ODD.sub("_", name), step=step, synchronous=True)

    def close(self, ending: Ending) -> None:
        """Says how the run ended."""
        self.client.set_terminated(self.key, STATES[ending])
