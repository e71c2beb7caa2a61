"""Load the champion and answer. Needs neither TensorFlow nor Prefect: LiteRT, a tokenizer, NumPy and boto3.

champion = Champion.load("s3://bucket/prefix/registry/default")
champion.similarity([("turn on the light", "switch the light on")])

live = LiveChampion(champion)  # the same, and follows promotions
"""

from restill.serving.champion import Champion
from restill.serving.encoder import Encoder
from restill.serving.live import LiveChampion
from restill.serving.pair_model import CARD, CARD_FORMAT, PairModel, Prediction
from restill.serving.tokenizing import tokenize

__all__ = ["CARD", "CARD_FORMAT", "Champion", "Encoder", "LiveChampion", "PairModel", "Prediction", "tokenize"]
