"""Families: a handful of meanings, some utterances of each, and pairs drawn only among them.

A data set is split by connected sentences, so a sentence belongs to one family, and a family stays small.
"""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from restill.sample.dice import Dice
from restill.sample.grammar import Meaning, load_grammar, normalise
from restill.sample.topics import Topic
from restill.sample.words import Language, pool

SEED = "restill-sample-1"  # another seed is another data set
BASE_UTTERANCES = 6
VARIANTS = 3
VARIANT_UTTERANCES = 5
STRANGERS = 2
STRANGER_UTTERANCES = 4
TRIES = 40  # templates tried for each utterance wanted
FAMILY_PAIRS = 58
POSITIVE_SHARE = 0.43
HARD_SHARE = 0.6  # of the negatives


@dataclass(frozen=True)
class Pair:
    """One row of a drop, as text: a drop may hold rows that are broken on purpose."""

    text_a: str
    text_b: str
    label: str
    source: str
    language: str


@dataclass(frozen=True)
class Territory:
    """The sentences that a drop may use: those whose digest falls between two hundredths.

    So drops share no sentence, and each can be made without the others.
    """

    start: int
    stop: int

    def holds(self, language: Language, sentence: str) -> bool:
        """Tell whether a sentence belongs here; case, width and spacing make no difference."""
        digest = hashlib.blake2b(f"{language}:{normalise(sentence)}".encode(), digest_size=8).digest()
        return self.start <= int.from_bytes(digest, "big") % 100 < self.stop


class FamilyMaker:
    """Makes families of one language one after the other; no sentence is used twice."""

    def __init__(
        self,
        name: str,
        language: Language,
        topics: tuple[Topic, ...],
        territory: Territory,
        *,
        matching_share: float = POSITIVE_SHARE,
    ) -> None:
        """Draw families from `topics`, using only sentences of `territory`; another `name` draws others.

        `matching_share` is the share of pairs whose two sentences mean the same.
        """
        self._name = name
        self._language = language
        self._topics = [topic for topic in topics if language in topic.languages]
        self._territory = territory
        self._matching_share = matching_share
        self._grammar = load_grammar(language)
        self._taken: set[str] = set()

    def families(self, pairs: int) -> Iterator[list[Pair]]:
        """Yield families until they hold `pairs` pairs; a draw that finds too few new sentences makes none.

        Raises: RuntimeError if the sentences run out: the recipe asks for more than the words can give.
        """
        weighted = [topic for topic in self._topics for _ in range(topic.weight)]
        made = 0
        for number in range(pairs):
            dice = Dice(SEED, self._name, self._language, number)
            family = self._family(dice.pick(weighted), dice)
            if family:
                made += len(family)
                yield family
            if made >= pairs:
                return
        raise RuntimeError(f"Only {made} of {pairs} pairs could be made for {self._name} ({self._language}).")

    def _family(self, topic: Topic, dice: Dice) -> list[Pair]:
        base = self._meaning(topic, dice)
        spoken: set[str] = set()
        base_said = self._speak(base, BASE_UTTERANCES, spoken, dice)
        if not base_said:
            return []
        variants: list[list[str]] = []
        for meaning in dice.shuffled(self._variants(base)):
            if sentences := self._speak(meaning, VARIANT_UTTERANCES, spoken, dice):
                variants.append(sentences)
            if len(variants) == VARIANTS:
                break
        strangers: dict[str, tuple[str, list[str]]] = {}
        for _ in range(1 + dice.below(STRANGERS)):
            meaning = self._stranger(base, dice)
            if meaning.identity not in strangers:
                said = self._speak(meaning, STRANGER_UTTERANCES, spoken, dice)
                strangers[meaning.identity] = (meaning.topic.source, said)
        if not variants:
            return []
        pairs = self._pairs(topic.source, base_said, variants, list(strangers.values()), dice)
        self._taken.update(normalise(text) for pair in pairs for text in (pair.text_a, pair.text_b))
        return pairs

    def _meaning(self, topic: Topic, dice: Dice, like: Meaning | None = None) -> Meaning:
        shared = dict(like.slots) if like else {}
        slots: list[tuple[str, int | str]] = []
        for slot, name in sorted(topic.pools.items()):
            values = pool(self._language, name)
            value = dice.pick(values)
            if shared.get(slot) in values and dice.toss(0.5):
                value = shared[slot]
            slots.append((slot, value))
        return Meaning(topic, dice.pick(topic.acts), tuple(slots))

    def _variants(self, base: Meaning) -> Iterator[Meaning]:
        """Yield meanings that differ from `base` in the act, or in the value of one slot."""
        for act in base.topic.acts:
            if act != base.act:
                yield Meaning(base.topic, act, base.slots)
        for place, (slot, value) in enumerate(base.slots):
            others = [other for other in pool(self._language, base.topic.pools[slot]) if other != value]
            # Only some, so that a slot with many values does not crowd out the others.
            for other in Dice(SEED, self._name, base.identity, slot).shuffled(others)[:VARIANTS]:
                yield Meaning(base.topic, base.act, (*base.slots[:place], (slot, other), *base.slots[place + 1 :]))

    def _stranger(self, base: Meaning, dice: Dice) -> Meaning:
        """Return a meaning of another source; often about the same room."""
        return self._meaning(dice.pick([t for t in self._topics if t.source != base.topic.source]), dice, base)

    def _speak(self, meaning: Meaning, count: int, spoken: set[str], dice: Dice) -> list[str]:
        """Return up to `count` new sentences, or none if there are fewer than two."""
        found: dict[str, str] = {}
        for sentence in self._grammar.utterances(meaning, dice, tries=count * TRIES):
            identity = normalise(sentence)
            known = identity in spoken or identity in self._taken
            if not known and self._territory.holds(self._language, sentence):
                found.setdefault(identity, sentence)
            if len(found) == count:
                break
        if len(found) < 2:
            return []
        spoken.update(found)
        return list(found.values())

    def _pairs(
        self,
        source: str,
        base: list[str],
        variants: list[list[str]],
        strangers: list[tuple[str, list[str]]],
        dice: Dice,
    ) -> list[Pair]:
        same = [(source, sentences) for sentences in (base, *variants)] + strangers
        positives = [(name, pair) for name, said in same for pair in itertools.combinations(said, 2)]
        hard = [(source, pair) for said in variants for pair in itertools.product(base, said)]
        easy = [(source, pair) for _, said in strangers for pair in itertools.product(base, said)]

        share = self._matching_share
        matching = min(len(positives), round(FAMILY_PAIRS * share))
        differing = round(matching * (1 - share) / share)
        difficult = min(len(hard), max(round(differing * HARD_SHARE), differing - len(easy)))
        chosen = [("1", item) for item in dice.shuffled(positives)[:matching]]
        chosen += [("0", item) for item in dice.shuffled(hard)[:difficult]]
        chosen += [("0", item) for item in dice.shuffled(easy)[: differing - difficult]]
        return [self._pair(label, name, pair, dice) for label, (name, pair) in chosen]

    def _pair(self, label: str, source: str, pair: tuple[str, str], dice: Dice) -> Pair:
        text_a, text_b = dice.shuffled(pair)
        return Pair(text_a, text_b, label, f"home-assistant-{source}", self._language)
