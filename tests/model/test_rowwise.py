"""Which models predict row by row by their library's means, and which of scikit-learn's own do not."""

import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import preprocessing
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.decomposition import NMF
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.utils import all_estimators
from threadpoolctl import threadpool_limits

with warnings.catch_warnings():  # MLflow warns of itself as it is imported
    warnings.simplefilter("ignore")
    from mlopsd_probes.model.mlopsd_host.rowwise import ROWS_DEPEND, why_rows_may_depend

X, Y = load_iris(return_X_y=True)
X, Y = X[::3], Y[::3]
SEVERAL = np.abs(np.random.default_rng(0).normal(3, 2, (5, 4)))


@dataclass
class Metadata:
    """The content of the ``MLmodel`` file."""

    flavors: dict[str, Any] = field(
        default_factory=lambda: {"python_function": {"predict_fn": "predict"}, "sklearn": {"code": None}}
    )


@dataclass
class Pyfunc:
    """A loaded model, as MLflow wraps it."""

    raw: Any
    loader_module: str = "mlflow.sklearn"
    metadata: Metadata = field(default_factory=Metadata)

    def get_raw_model(self) -> Any:
        return self.raw


class Scaler(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """What a unit heuristic looks like in a pipeline."""

    def fit(self, x: Any, y: Any = None) -> "Scaler":
        self.is_fitted_ = True
        return self

    def transform(self, x: Any) -> Any:
        return x / 255 if np.max(x) > 1 else x


class Regression(LinearRegression):  # type: ignore[misc]
    """A subclass from elsewhere."""


def own_function(x: Any) -> Any:
    return x - np.mean(x)


class Forged(LinearRegression):  # type: ignore[misc]
    """A class that says it is scikit-learn's."""


Forged.__module__, Forged.__qualname__ = LinearRegression.__module__, "LinearRegression"


def fitted(model: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, Y)


def patched() -> Any:
    model = fitted(LogisticRegression(max_iter=500))
    model.predict = own_function
    return model


OWN: dict[str, Callable[[], Any]] = {
    "a pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "columns": lambda: make_pipeline(
        ColumnTransformer([("some", StandardScaler(), [0, 1]), ("as they are", "passthrough", [2])]), Ridge()
    ),
    "a union": lambda: make_pipeline(FeatureUnion([("a", StandardScaler())]), Ridge()),
    "a search": lambda: GridSearchCV(
        LogisticRegression(max_iter=500), {"C": [1.0, 2.0]}, cv=2, scoring="accuracy"
    ),
    "votes": lambda: VotingClassifier([("a", LogisticRegression(max_iter=500)), ("b", SVC())]),
    "a stack": lambda: StackingRegressor([("a", Ridge())], cv=2),
    "a target by ufuncs": lambda: TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
    "calibrated": lambda: CalibratedClassifierCV(LogisticRegression(max_iter=500), cv=2),
    "calibrated by steps": lambda: CalibratedClassifierCV(SVC(), cv=2, method="isotonic"),
    "a forest": lambda: RandomForestClassifier(5),
    "boosted": lambda: GradientBoostingClassifier(n_estimators=3),
    "the best columns": lambda: make_pipeline(SelectKBest(f_classif, k=2), SVC()),
    "an elementwise function": lambda: make_pipeline(FunctionTransformer(np.log1p), Ridge()),
    "no function": lambda: make_pipeline(FunctionTransformer(), Ridge()),
    "the most frequent": lambda: DummyClassifier(strategy="most_frequent"),
}


@pytest.mark.parametrize("name", OWN)
def test_what_is_made_of_scikit_learns_own_is_row_by_row(name: str) -> None:
    assert why_rows_may_depend(Pyfunc(fitted(OWN[name]()))) is None


def in_pipeline(step: Any) -> Any:
    return make_pipeline(step, Ridge())


def nested(step: Any) -> Any:
    inner = make_pipeline(step, LogisticRegression(max_iter=500))
    return VotingClassifier([("a", CalibratedClassifierCV(BaggingClassifier(inner, n_estimators=2), cv=2))])


FOREIGN: dict[str, tuple[Callable[[], Any], str]] = {
    "a step": (
        lambda: in_pipeline(Scaler()),
        "is not scikit-learn's own (tests.model.test_rowwise.Scaler); set",
    ),
    "a step deep below": (lambda: nested(Scaler()), "test_rowwise.Scaler"),
    "a step of columns": (
        lambda: in_pipeline(ColumnTransformer([("a", Scaler(), [0])])),
        "test_rowwise.Scaler",
    ),
    "a step of a union": (lambda: in_pipeline(FeatureUnion([("a", Scaler())])), "test_rowwise.Scaler"),
    "several outputs": (
        lambda: StackingRegressor([("a", in_pipeline(Scaler()))], cv=2),
        "test_rowwise.Scaler",
    ),
    "a subclass": (Regression, "this model is not the library's own (tests.model.test_rowwise.Regression)"),
    "a forged class": (Forged, "this model is not the library's own (sklearn.linear_model"),
    "a function": (
        lambda: in_pipeline(FunctionTransformer(own_function)),
        "calls tests.model.test_rowwise.own",
    ),
    "a lambda": (lambda: in_pipeline(FunctionTransformer(lambda x: x)), "<lambda>"),
    "scikit-learn's scale": (
        lambda: in_pipeline(FunctionTransformer(preprocessing.scale)),
        "a FunctionTransformer calls sklearn.preprocessing._data.scale",
    ),
    "scikit-learn's minmax_scale": (
        lambda: in_pipeline(FunctionTransformer(preprocessing.minmax_scale)),
        "minmax_scale",
    ),
    "a numpy function": (lambda: in_pipeline(FunctionTransformer(np.sort)), "numpy.sort"),
    "a partial": (lambda: in_pipeline(FunctionTransformer(partial(np.clip, a_min=0, a_max=1))), "clip"),
    "a vectorised function": (
        lambda: in_pipeline(FunctionTransformer(np.vectorize(abs))),
        "a FunctionTransformer calls",
    ),
    "a ufunc of somebody's": (
        lambda: in_pipeline(FunctionTransformer(np.frompyfunc(abs, 1, 1))),
        "calls",
    ),
    "a target by a function": (
        lambda: TransformedTargetRegressor(Ridge(), func=own_function, inverse_func=own_function),
        "own_function",
    ),
    "a kernel": (lambda: SVC(kernel=lambda a, b: a @ b.T), "<lambda>"),
    "a metric": (
        lambda: KNeighborsClassifier(metric=lambda a, b: abs(a - b).sum(), algorithm="brute"),
        "<lambda>",
    ),
    "stratified draws": (lambda: DummyClassifier(strategy="stratified"), "strategy = 'stratified'"),
    "a solver over the batch": (lambda: in_pipeline(NMF(2, max_iter=20)), "NMF answers a row otherwise"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_one_part_from_elsewhere_or_that_reads_all_rows_disqualifies(name: str) -> None:
    make, reason = FOREIGN[name]
    assert reason in (why_rows_may_depend(Pyfunc(fitted(make()))) or "")


def test_a_method_that_was_replaced_disqualifies() -> None:
    assert "test_rowwise.own_function" in (why_rows_may_depend(Pyfunc(patched())) or "")


def test_an_analyzer_of_somebodys_disqualifies() -> None:
    texts = pd.Series(["a b", "b c"])
    own = Pipeline([("words", TfidfVectorizer()), ("classes", MultinomialNB())]).fit(
        ["ab bc", "cd bc"], [0, 1]
    )
    assert why_rows_may_depend(Pyfunc(own)) is None
    foreign = make_pipeline(CountVectorizer(analyzer=str.split), MultinomialNB()).fit(texts, [0, 1])
    assert "calls a function" in (why_rows_may_depend(Pyfunc(foreign)) or "")


def test_several_outputs_are_searched() -> None:
    both = np.c_[Y, Y]
    own = MultiOutputClassifier(LogisticRegression(max_iter=500)).fit(X, both)
    assert why_rows_may_depend(Pyfunc(own)) is None
    foreign = MultiOutputClassifier(make_pipeline(Scaler(), LogisticRegression(max_iter=500))).fit(X, both)
    assert "Scaler" in (why_rows_may_depend(Pyfunc(foreign)) or "")


def test_a_part_that_holds_itself_is_searched_once() -> None:
    model = fitted(Ridge())
    model.itself_ = [model, {"again": model}]
    assert why_rows_may_depend(Pyfunc(model)) is None


@pytest.mark.parametrize(
    ("flavors", "reason"),
    [
        ({"python_function": {"code": "code"}}, "brings code of its own (code_paths)"),
        ({"python_function": {}, "sklearn": {"code": "code"}}, "brings code of its own"),
        ({"python_function": {"predict_fn": "score"}}, "it predicts with score"),
    ],
)
def test_what_a_version_says_of_itself_disqualifies(flavors: dict[str, Any], reason: str) -> None:
    found = why_rows_may_depend(Pyfunc(fitted(Ridge()), metadata=Metadata(flavors)))
    assert reason in (found or "")


@pytest.mark.parametrize("loader", ["mlflow.pyfunc.model", "mlflow.pytorch", "mlflow.statsmodels", "loader"])
def test_another_flavour_is_not_vouched_for(loader: str) -> None:
    found = why_rows_may_depend(Pyfunc(None, loader))
    assert f"{loader} is none of them; set batching" in (found or "")


@pytest.mark.parametrize("flavour", ["lightgbm", "xgboost"])
def test_a_boosters_own_class_is_row_by_row_and_no_other(flavour: str, tmp_path: Path) -> None:
    library: Any = import_module(flavour)
    flavor: Any = import_module(f"mlflow.{flavour}")
    kind = {"lightgbm": "LGBMClassifier", "xgboost": "XGBClassifier"}[flavour]
    trained = getattr(library, kind)(n_estimators=2).fit(X, Y)
    booster = trained.booster_ if flavour == "lightgbm" else trained.get_booster()
    for place, model in enumerate((trained, booster)):
        folder = tmp_path / str(place)
        flavor.save_model(model, folder, pip_requirements=[flavour])
        assert why_rows_may_depend(flavor.pyfunc.load_model(str(folder))) is None
    elsewhere = type("Elsewhere", (getattr(library, kind),), {})()
    loader = f"mlflow.{flavour}"
    assert "is not the library's own" in (why_rows_may_depend(Pyfunc(elsewhere, loader)) or "")
    trained.predict = own_function
    assert "own_function" in (why_rows_may_depend(Pyfunc(trained, loader)) or "")


def made(name: str, kind: Any) -> Any:
    """An estimator with the usual settings, around a simple one where it needs others."""
    inner = Ridge() if name.endswith("Regressor") or name == "RegressorChain" else LogisticRegression()
    needed = {
        "estimator": inner,
        "base_estimator": inner,
        "estimators": [("a", inner)],
        "steps": [("a", inner)],
        "transformers": [("a", StandardScaler(), [0, 1])],
        "transformer_list": [("a", StandardScaler())],
        "dictionary": np.eye(4),
        "param_grid": {"tol": [1e-3]},
        "param_distributions": {"tol": [1e-3]},
    }
    few = {"n_estimators": 3, "cv": 2, "max_subpopulation": 100}  # which costs less and changes nothing here
    parameters = inspect.signature(kind).parameters
    given = {
        name: needed[name] for name, one in parameters.items() if one.default is one.empty and name in needed
    }
    given |= {name: value for name, value in few.items() if name in parameters}
    return kind(**given)


def estimators() -> Iterator[tuple[str, Any, Any]]:
    """Each estimator of scikit-learn that can be fitted simply, and rows for it."""
    for name, kind in all_estimators():
        for x, y in ((X, Y), (X, Y == 0), (X[:, 0], Y.astype(float)), (X, np.c_[Y, Y])):
            try:
                estimator = made(name, kind).fit(x, y)
            except Exception:  # noqa: BLE001  # it takes other data
                continue
            yield name, estimator, SEVERAL if np.ndim(x) > 1 else SEVERAL[:, 0]
            break


@pytest.mark.timeout(900)
def test_every_estimator_of_scikit_learns_that_answers_rows_otherwise_together_is_in_the_list() -> None:
    compared: set[str] = set()
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        for name, estimator, rows in estimators():
            if why_rows_may_depend(Pyfunc(estimator)) is not None:
                continue
            for method in ("predict", "predict_proba", "predict_log_proba", "transform", "decision_function"):
                answers = alone_and_together(estimator, method, rows)
                if answers is not None:
                    np.testing.assert_allclose(*answers, rtol=1e-6, atol=1e-9, err_msg=f"{name}.{method}")
                    compared.add(name)
    assert len(compared) > 100, "nothing was compared"
    assert not compared & {name for name, setting in ROWS_DEPEND.items() if setting is None}


def alone_and_together(estimator: Any, method: str, rows: Any) -> tuple[Any, Any] | None:
    """What *rows* are answered one by one and at once; None if the estimator does not take them so."""
    try:
        together = getattr(estimator, method)(rows)
    except Exception:  # noqa: BLE001  # it has no such method, or takes other rows
        return None
    if isinstance(together, list):  # an array for each output, which is no list of a value a row
        return None
    alone = [getattr(estimator, method)(rows[at : at + 1]) for at in range(len(rows))]
    return np.concatenate([dense(one) for one in alone]), dense(together)


def dense(answer: Any) -> Any:
    return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer, dtype=float)
