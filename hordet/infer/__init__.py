"""From pictures to answers: the predictor, and what `tools/infer.py` reads and writes."""

from hordet.infer.inputs import Picture, Source, find_sources, read_pictures
from hordet.infer.outputs import Numbers, PredictionWriter
from hordet.infer.prediction import ClassMap, Instances, Prediction
from hordet.infer.predictor import Predictor
from hordet.infer.stream import predict_sources

__all__ = [
    "ClassMap",
    "Instances",
    "Numbers",
    "Picture",
    "Prediction",
    "PredictionWriter",
    "Predictor",
    "Source",
    "find_sources",
    "predict_sources",
    "read_pictures",
]
