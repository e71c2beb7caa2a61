"""Sample sentence pairs in English and Chinese, so that the whole system can be tried before any real data is there.

The sentences are what people say to a voice assistant at home. They are made from the sentence templates of the
package home-assistant-intents (The Home Assistant Authors, Apache License 2.0,
https://github.com/OHF-Voice/intents), parsed by hassil (Apache License 2.0) and filled with the rooms, devices and
numbers of `words`. Two utterances with the same meaning, that is the same intent and the same slot values, are a
positive pair; two with different meanings a negative one.

Four drops are made, each the same bytes every time and no sentence in two of them:

- `1`: the first data set: lights, covers, climate, fans, locks, switches, scenes, announcements.
- `2`: mostly what drop 1 lacks: media, timers, lists, vacuums, weather.
- `poisoned`: every label is wrong and half of the rows are broken: it must be refused.
- `degrading`: looks like drop 1 in every respect, but every label is wrong: no rule on data can see it.
"""

from restill.sample.drops import DROPS, Drop, write_drop

DATA_VERSION = "8bd59841dd3351da8adac7d4a43e8fc9"
"""The data version that ingesting drop 1 gives: what data.dvc names in a fresh clone."""

__all__ = ["DATA_VERSION", "DROPS", "Drop", "write_drop"]
