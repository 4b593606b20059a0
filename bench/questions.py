"""Bodies of requests for predictions of the demo's model: patients as in scikit-learn's diabetes data."""

import json
import random
from collections.abc import Mapping

FEATURES: Mapping[str, tuple[float, float]] = {  # least and greatest in the data
    "age": (19, 79),
    "sex": (1, 2),
    "bmi": (18, 42.2),
    "bp": (62, 133),
    "s1": (97, 301),
    "s2": (41.6, 242.4),
    "s3": (22, 99),
    "s4": (2, 9.09),
    "s5": (3.2581, 6.107),
    "s6": (58, 124),
}
JSON = "application/json"


def body(rows: int, seed: int) -> bytes:
    """Return that many patients, the same for the same *seed*, as ``dataframe_split``."""
    draw = random.Random(seed)
    data = [[round(draw.uniform(*span), 2) for span in FEATURES.values()] for _ in range(rows)]
    return json.dumps({"dataframe_split": {"columns": list(FEATURES), "data": data}}).encode()
