"""Decide by a model's library whether the model predicts each row by itself.

A trial proves nothing about other rows. So requests are batched only if the predicting code is the library's
own, or if the operator says so. A scikit-learn model is a graph of objects: its steps, their fitted copies
and their values. Any other class or function in it may compare rows, so it prevents batching.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import functools
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

from .libraries import numpy

SCIKIT_LEARN = "mlflow.sklearn"
LIBRARIES = {  # by the loader module of the flavor: the package that the model's class must come from
    SCIKIT_LEARN: "sklearn",
    "mlflow.xgboost": "xgboost",
    "mlflow.lightgbm": "lightgbm",
    "mlflow.catboost": "catboost",
}
# Without "score", which sums over rows.
PREDICTS = frozenset({"predict", "predict_proba", "predict_log_proba"})
# Classes of scikit-learn that answer a row differently beside others, and the setting that causes it.
ROWS_DEPEND: dict[str, tuple[str, frozenset[Any]] | None] = {
    "NMF": None,  # its solver stops when the whole batch has converged
    "MiniBatchNMF": None,
    "SparsePCA": None,  # its answer to one row has another shape than to several
    "MiniBatchSparsePCA": None,
    "PatchExtractor": None,  # it gives several rows for one
    "DummyClassifier": ("strategy", frozenset({"stratified", "uniform"})),  # random, by position in the batch
    "IterativeImputer": ("sample_posterior", frozenset({True})),
}
OWN = ("numpy", "scipy", "sklearn")
LEAVES = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, bytearray, memoryview, range, slice),
        *(type(...), type(NotImplemented), datetime.datetime, datetime.date, datetime.time),
        *(datetime.timedelta, datetime.timezone, decimal.Decimal),
    }
)
SEQUENCES = (list, tuple, set, frozenset, collections.deque)
MAPPINGS = (dict, collections.OrderedDict, collections.defaultdict, collections.Counter)
FUNCTIONS = (
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodWrapperType),
    *(types.WrapperDescriptorType, types.MethodDescriptorType, functools.partial),
)
FUNCTION_PARAMETERS = ("func", "inverse_func")  # of FunctionTransformer, called with the whole batch
# Functions that rank, score or select during fitting, or that take one row or one pair of rows.
HARMLESS = ("sklearn.feature_selection.", "sklearn.metrics.", "scipy.")
LONGEST_NAME = 120  # characters
HINT = '; set batching = "on" if each row is predicted by itself'


def why_rows_may_depend(model: Any) -> str | None:
    """Return the reason, for an operator, why rows of *model*, a loaded pyfunc, may affect each other.

    None means that its library predicts row by row.
    """
    loader = str(model.loader_module)
    if (package := LIBRARIES.get(loader)) is None:
        known = "scikit-learn, XGBoost, LightGBM and CatBoost"
        return f"only {known} are known to predict row by row, and {_short(loader)} is none of them{HINT}"
    flavors = model.metadata.flavors
    if any(flavor.get("code") for flavor in flavors.values() if isinstance(flavor, dict)):
        return f"this version brings code of its own (code_paths){HINT}"
    if (name := str(flavors["python_function"].get("predict_fn", "predict"))) not in PREDICTS:
        return f"it predicts with {_short(name)}, which may look at all rows"
    raw = model.get_raw_model()
    if not _is_of(type(raw), (package,)):
        return f"this model is not the library's own ({_named(type(raw))}){HINT}"
    if loader != SCIKIT_LEARN:
        own = next((value for value in vars(raw).values() if isinstance(value, FUNCTIONS)), None)
        return None if own is None else f"this model calls a function of its own ({_named(own)}){HINT}"
    return _fault_in(raw)


def _fault_in(model: Any) -> str | None:
    """Return the first fault in the object graph of *model*, an estimator of scikit-learn."""
    seen: dict[int, Any] = {}  # keeps the objects alive, so that no id is reused
    left = [model]
    while left:
        one = left.pop()
        if type(one) in LEAVES or id(one) in seen:
            continue
        seen[id(one)] = one
        if (fault := _fault_of(one)) is not None:
            return fault
        left.extend(_parts(one))
    return None


def _fault_of(one: Any) -> str | None:
    kind = type(one)
    if isinstance(one, numpy.ufunc):
        return None if _is_elementwise(one) else _not_own("calls a function", one)
    if isinstance(one, FUNCTIONS) or kind is _ARRAY_FUNCTION:
        return None if _is_harmless(one) else _not_own("calls a function", one)
    if isinstance(one, type):
        is_own = one in LEAVES or _is_of(one, ("builtins", "collections", *OWN))
        return None if is_own else _not_own("uses a class", one)
    if kind in SEQUENCES or kind in MAPPINGS:
        return None
    if not _is_of(kind, OWN):
        return f"a step of this model is not scikit-learn's own ({_named(kind)}){HINT}"
    return _fault_of_estimator(one)


def _fault_of_estimator(one: Any) -> str | None:
    name = type(one).__name__
    if name == "FunctionTransformer":
        for function in (vars(one).get(parameter) for parameter in FUNCTION_PARAMETERS):
            if function is not None and not (isinstance(function, numpy.ufunc) and _is_elementwise(function)):
                return f"a FunctionTransformer calls {_named(function)} with all rows at once{HINT}"
    if name in ROWS_DEPEND:
        setting = ROWS_DEPEND[name]
        if setting is None or vars(one).get(setting[0]) in setting[1]:
            setting_text = "" if setting is None else f" with {setting[0]} = {vars(one).get(setting[0])!r}"
            return f"{name}{setting_text} answers a row otherwise beside others"
    return None


def _not_own(does: str, one: Any) -> str:
    return f"this model {does} that is not known to take each row by itself ({_named(one)}){HINT}"


def _is_harmless(function: Any) -> bool:
    """Return whether *function* belongs to a known library and does not take a whole batch."""
    inner = getattr(function, "__func__", function)  # the function of a bound method
    return str(getattr(inner, "__module__", "")).startswith(HARMLESS) and _is_found(inner)


def _is_elementwise(function: Any) -> bool:
    """Return whether *function* is a ufunc of numpy or scipy that takes single values."""
    places = (numpy, sys.modules.get("scipy.special"))
    is_own = any(getattr(place, function.__name__, None) is function for place in places)
    return is_own and function.signature is None


def _is_of(kind: type, packages: tuple[str, ...]) -> bool:
    """Return whether *kind* is the class found under its name in one of *packages*."""
    return kind.__module__.partition(".")[0] in packages and _is_found(kind)


def _is_found(one: Any) -> bool:
    """Return whether *one* is the object that its module has under its name."""
    found: Any = sys.modules.get(one.__module__)
    for name in one.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is one


def _parts(one: Any) -> Iterable[Any]:
    """Return the objects that *one* holds."""
    if isinstance(one, types.MethodType):
        return (one.__self__,)
    if isinstance(one, (type, numpy.ufunc, numpy.dtype, *FUNCTIONS)) or type(one) is _ARRAY_FUNCTION:
        return ()
    if isinstance(one, numpy.ndarray):
        held = one.ravel().tolist() if one.dtype.hasobject else ()
        return (*held, *_attributes(one))
    if isinstance(one, dict):
        factory = getattr(one, "default_factory", None)
        return (factory, *one.keys(), *one.values(), *_attributes(one))
    if isinstance(one, SEQUENCES):
        return (*one, *_attributes(one))
    return _attributes(one)


def _attributes(one: Any) -> Iterator[Any]:
    kind = type(one)
    if (found := getattr(one, "__dict__", None)) is not None:
        yield from found.values()
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            yield getattr(one, name, None)
    get_state = getattr(kind, "__getstate__", None)
    is_compiled = found is None and kind.__module__.startswith("sklearn.")
    if is_compiled and get_state is not None and get_state is not getattr(object, "__getstate__", None):
        yield one.__getstate__()


def _named(one: Any) -> str:
    inner = one.func if isinstance(one, functools.partial) else one
    if not hasattr(inner, "__qualname__") and not hasattr(inner, "__name__"):
        inner = type(inner)
    module = getattr(inner, "__module__", None)
    name = getattr(inner, "__qualname__", None) or inner.__name__
    return _short(f"{module}.{name}" if module else str(name))


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"


_ARRAY_FUNCTION = type(numpy.mean)  # numpy's functions have their own class since 1.25
