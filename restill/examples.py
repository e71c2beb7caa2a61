"""Rows that show a person why a batch rule spoke: ten a rule, found only when they are asked for."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from restill import history
from restill import keys as hashing
from restill.figures import POSITIVE_FROM, BatchFigures
from restill.history import History
from restill.pairs import CODES, NO_FAULT
from restill.settings import BatchRuleSettings
from restill.splits import TEST, Known
from restill.staging import Staged, as_it_came

ROWS = 10
_LOOKED_AT = 100_000  # rows whose texts are looked through: what is rarer than that is no reason to refuse a batch

Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class Examples:
    """What is known of a batch when its rules are judged."""

    staged: Staged
    batch: BatchFigures
    past: History
    limits: BatchRuleSettings
    known: Known  # sentences of the batch that the data set has
    stored_labels: NDArray[np.float32]  # [rows], of the same pair in the data set; NaN: none
    giant: Rows  # [rows], in a group that was divided
    leaked: hashing.Keys  # sentences in more than one split

    def of(self, rule: str) -> pl.DataFrame | None:
        """Return up to ten rows with `row`, `text_a`, `text_b`, `label` and `note`; None where rows show nothing."""
        staged = self.staged
        if rule == "quarantine-share":
            faults = [code for name, code in CODES.items() if name and name not in NO_FAULT]
            return self._rows(np.isin(staged.reason, faults))
        if rule == "repeated-pairs":
            return self._rows(staged.reason == CODES["already_stored"])
        if rule == "contradicting-pairs":
            return self._rows(staged.reason == CODES["contradicts_stored"], note=self._stored_label)
        if rule == "positive-share":
            before = self.past.figures
            more = before is None or (self.batch.accepted.positive_share or 0) > (before.positive_share or 0)
            positive = staged.labels >= POSITIVE_FROM
            return self._rows(staged.accepted & (positive if more else staged.labels < POSITIVE_FROM))
        if rule == "test-overlap":
            return self._rows(staged.accepted & self._has(self.known.keys[self.known.splits == TEST]))
        if rule == "leaked-sentences":
            return self._rows(staged.accepted & self._has(self.leaked))
        if rule == "giant-groups":
            return self._rows(self.giant)
        found = {
            "mean-length-ratio": self._unusual_length,
            "language-shift": self._surplus_language,
            "new-characters": self._new_characters,
            "new-words": self._new_words,
        }.get(rule)
        return None if found is None else self._searched(found)

    def _has(self, sentences: hashing.Keys) -> Rows:
        return np.isin(self.staged.key_a, sentences) | np.isin(self.staged.key_b, sentences)

    def _stored_label(self, place: int) -> str:
        return f"the data set says {self.stored_labels[place]:g}"

    def _rows(self, which: Rows, *, note: Callable[[int], str] | None = None) -> pl.DataFrame:
        """Return ten of these rows, spread over the file, as they came."""
        places = np.flatnonzero(which)
        places = places[np.linspace(0, len(places) - 1, min(ROWS, len(places))).astype(int)]
        found = []
        for place, frame in self.staged.chunks():
            here = places[(places >= place.start) & (places < place.stop)]
            if len(here):
                notes = [note(int(one)) if note else "" for one in here]
                found.append(_shown(frame[here - place.start], pl.Series("note", notes, pl.String)))
            if not len(places) or place.stop > places[-1]:
                break
        return pl.concat(found) if found else pl.DataFrame(schema=_SHOWN)

    def _searched(self, search: Callable[[pl.DataFrame], pl.Series]) -> pl.DataFrame:
        """Return the first ten accepted rows for which `search` has something to say."""
        found, wanted = [pl.DataFrame(schema=_SHOWN)], ROWS
        for place, frame in self.staged.chunks():
            rows = frame.filter(pl.Series(self.staged.accepted[place]))
            notes = search(rows).alias("note")
            is_said = notes.is_not_null()
            found.append(_shown(rows.filter(is_said).head(wanted), notes.filter(is_said).head(wanted)))
            wanted -= found[-1].height
            if not wanted or place.stop >= _LOOKED_AT:
                break
        return pl.concat(found)

    def _unusual_length(self, rows: pl.DataFrame) -> pl.Series:
        before = self.past.figures
        usual = before.mean_length if before else 0.0
        length = rows["text_a"].str.len_chars() + rows["text_b"].str.len_chars()
        longer = self.batch.accepted.mean_length > usual
        factor = self.limits.max_length_ratio
        unusual = length > 2 * usual * factor if longer else length < 2 * usual / factor
        return pl.select(pl.when(unusual).then(pl.format("{} characters", length))).to_series()

    def _surplus_language(self, rows: pl.DataFrame) -> pl.Series:
        before = self.past.figures.language_shares if self.past.figures else {}
        here = self.batch.accepted.language_shares
        surplus = max(here, key=lambda name: here[name] - before.get(name, 0.0), default="")
        return pl.select(pl.when(rows["language"] == surplus).then(rows["language"])).to_series()

    def _new_characters(self, rows: pl.DataFrame) -> pl.Series:
        unseen = self.past.unseen_characters()
        texts = (rows["text_a"] + rows["text_b"]).to_list()
        new = ("".join(dict.fromkeys(one for one in text if unseen[ord(one)])) for text in texts)
        return pl.Series([f"new: {found}" if found else None for found in new], dtype=pl.String)

    def _new_words(self, rows: pl.DataFrame) -> pl.Series:
        words = history.words_of(rows["text_a"] + " " + rows["text_b"]).rename("word")
        each = words.to_frame().with_row_index("at").explode("word").drop_nulls()
        each = each.filter(pl.Series(self.past.unseen_words(hashing.text_keys(each["word"])), dtype=pl.Boolean))
        said = each.group_by("at", maintain_order=True).agg(pl.col("word").unique(maintain_order=True))
        said = said.select("at", note="new: " + pl.col("word").list.join(", "))
        places = pl.DataFrame({"at": pl.Series(range(rows.height), dtype=said.schema["at"])})
        return places.join(said, on="at", how="left", maintain_order="left")["note"]


_SHOWN = {"row": pl.Int64, "text_a": pl.String, "text_b": pl.String, "label": pl.String, "note": pl.String}


def _shown(rows: pl.DataFrame, notes: pl.Series) -> pl.DataFrame:
    return as_it_came(rows).select("row", "text_a", "text_b", "label").with_columns(note=notes)
