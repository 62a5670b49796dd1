"""The anomaly model, served: how unusual an event is among those the model was trained on, and what makes it so.

    model = read_model(folder, "3fa9…")             # ModelUnavailable: missing, changed, or not what its card says
    odd = model.look(row, segment="electronics")    # row: one float a feature, NaN where it is unknown
    odd.percentile                                  # Decimal('99.7'): more unusual than 99.7 % of the training rows
    model.why(row, segment="electronics")           # the features that contribute most, with what is usual

Isolation Forest: Liu, Ting and Zhou, "Isolation-based anomaly detection", ACM TKDD 6(1), 2012. It is trained elsewhere
(`engine.training`); here it is one ONNX operator and the walk through the same trees that explains its score.
"""

from engine.anomaly.card import CARD, Card, FeatureCard, Parts, Period, Ranking, Reference, SegmentCard, Usual, name_of
from engine.anomaly.drift import Drift
from engine.anomaly.model import Model, Odd, Share, read_model
from engine.anomaly.percentiles import GRID, percentile, table

__all__ = [
    "CARD",
    "GRID",
    "Card",
    "Drift",
    "FeatureCard",
    "Model",
    "Odd",
    "Parts",
    "Period",
    "Ranking",
    "Reference",
    "SegmentCard",
    "Share",
    "Usual",
    "name_of",
    "percentile",
    "read_model",
    "table",
]
