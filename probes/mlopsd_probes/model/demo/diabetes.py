"""A small real regression: the progress of diabetes in a year (scikit-learn's ``load_diabetes``)."""

from dataclasses import dataclass
from typing import Any

from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ALPHA = 1.0
EXAMPLE_ROWS = 3


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted model, its data and its metrics.

    Attributes:
        model: a scikit-learn pipeline.
        inputs: the training rows, a data frame.
        example: rows outside the training data.
        metrics: measured on the quarter of the patients that no version is trained on.
    """

    model: Any
    inputs: Any
    example: Any
    params: dict[str, float]
    metrics: dict[str, float]


def train(seed: int) -> Trained:
    """Fit a model to four fifths of the training patients, drawn by *seed*, so that versions differ."""
    data = load_diabetes(as_frame=True, scaled=False)
    known, unseen, known_target, unseen_target = train_test_split(data.data, data.target, random_state=1)
    inputs, _, target, _ = train_test_split(known, known_target, test_size=0.2, random_state=seed)
    model = make_pipeline(StandardScaler(), Ridge(alpha=ALPHA)).fit(inputs, target)
    predicted = model.predict(unseen)
    metrics = {
        "r2": float(r2_score(unseen_target, predicted)),
        "mean_absolute_error": float(mean_absolute_error(unseen_target, predicted)),
    }
    example = unseen.head(EXAMPLE_ROWS)
    return Trained(model, inputs, example, {"alpha": ALPHA, "seed": seed}, metrics)
