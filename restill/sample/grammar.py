"""Templates of one language, and utterances made from them one at a time; nothing is enumerated."""

import functools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import home_assistant_intents
from hassil import expression as nodes
from hassil.intents import IntentData, Intents, RangeSlotList, TextSlotList
from hassil.parse_expression import parse_sentence

from restill.errors import ConfigurationError
from restill.sample.dice import Dice
from restill.sample.topics import Topic
from restill.sample.words import (
    AFTER,
    BEFORE,
    PACKAGE_LANGUAGE,
    RULES,
    VERBS,
    WRONG,
    WRONG_COMMAND,
    WRONG_PLACE,
    WRONG_QUESTION,
    WRONG_ROOM,
    Language,
    pool,
)


class _CannotSay(Exception):
    """This template has no word for a slot's value, or needs a slot that the meaning lacks."""


@dataclass(frozen=True)
class Meaning:
    """What an utterance asks for: two utterances match when their meanings are equal."""

    topic: Topic
    act: str
    slots: tuple[tuple[str, int | str], ...]  # sorted by slot

    @property
    def identity(self) -> str:
        """Return the meaning as text, the same everywhere; the topic counts by source and domain only."""
        values = ",".join(f"{slot}={value}" for slot, value in self.slots)
        return f"{self.topic.source}/{self.topic.combination}/{self.act}/{values}"


def normalise(sentence: str) -> str:
    """Return what two sentences share when they differ in case, width or spacing only."""
    return " ".join(unicodedata.normalize("NFKC", sentence).casefold().split())


class Grammar:
    """The package's templates of one language, under the narrower rules of `words`."""

    def __init__(self, language: Language) -> None:
        """Read and parse the templates of `language`.

        Raises: ConfigurationError if the installed package has no such language.
        """
        self.language = language
        content = home_assistant_intents.get_intents(PACKAGE_LANGUAGE[language])
        if content is None:
            raise ConfigurationError(
                f"The installed home-assistant-intents has no templates for {PACKAGE_LANGUAGE[language]}.",
                hint="Install the version that the lock file names.",
            )
        intents = Intents.from_dict(content)
        self._intents: dict[str, Any] = intents.intents
        self._lists: dict[str, Any] = intents.slot_lists
        self._rules: dict[str, Any] = intents.expansion_rules | {
            name: parse_sentence(template) for name, template in RULES[language].items()
        }
        self._found: dict[tuple[str, str, str], list[tuple[dict[str, Any], Any]]] = {}

    def utterances(self, meaning: Meaning, dice: Dice, *, tries: int) -> Iterator[str]:
        """Yield natural sentences that mean `meaning`, at most `tries`; some may repeat."""
        templates = self._templates(meaning.act, meaning.topic.combination, meaning.topic.domain)
        slots = dict(meaning.slots)
        wrong, must = _judges(meaning.topic, self.language)
        for _ in range(tries if templates else 0):
            fixed, template = dice.pick(templates)
            if any(slots.get(slot) != value for slot, value in fixed.items()):
                continue
            used = set(fixed)
            try:
                spoken = self._say(template, slots, used, dice)
            except _CannotSay:
                continue
            sentence = " ".join(spoken.split())
            if used == slots.keys() and must.search(sentence) and not wrong.search(sentence):
                yield sentence if meaning.topic.question else self._politely(sentence, dice)

    def _templates(self, act: str, combination: str, domain: str) -> list[tuple[dict[str, Any], Any]]:
        key = (act, combination, domain)
        if key not in self._found:
            intent, _, response = act.partition(":")
            self._found[key] = [
                ({slot: value for slot, value in block.slots.items() if slot != "domain"}, sentence.expression)
                for block in self._intents[intent].data
                if (block.metadata or {}).get("slot_combination") == combination
                and _about(block, domain)
                and response in ("", block.response)
                for sentence in block.sentences
            ]
        return self._found[key]

    def _say(self, node: Any, slots: dict[str, int | str], used: set[str], dice: Dice) -> str:
        if isinstance(node, nodes.TextChunk):
            return str(node.original_text)
        if isinstance(node, nodes.RuleReference):
            return self._say(self._rules[node.rule_name].expression, slots, used, dice)
        if isinstance(node, nodes.ListReference):
            return self._say_value(node, slots, used, dice)
        if isinstance(node, nodes.Alternative):
            return self._say(dice.pick(node.items), slots, used, dice)
        items = dice.shuffled(node.items) if isinstance(node, nodes.Permutation) else node.items
        return "".join(self._say(item, slots, used, dice) for item in items)

    def _say_value(self, node: Any, slots: dict[str, int | str], used: set[str], dice: Dice) -> str:
        if node.slot_name not in slots:
            raise _CannotSay
        value = slots[node.slot_name]
        used.add(node.slot_name)
        known = self._lists.get(node.list_name)
        if isinstance(known, RangeSlotList):
            if isinstance(value, int) and known.start <= value <= known.stop:
                return str(value)
            raise _CannotSay
        if isinstance(known, TextSlotList):
            words = [item.text_in for item in known.values if item.value_out == value]
            if not words:
                raise _CannotSay
            return self._say(dice.pick(words), slots, used, dice)
        return self._say(_parse_value(str(value)), slots, used, dice)

    def _politely(self, sentence: str, dice: Dice) -> str:
        if not re.match(VERBS[self.language], sentence) or dice.toss(0.6):
            return sentence
        if AFTER[self.language] and dice.toss(0.3):
            return sentence + dice.pick(AFTER[self.language])
        return dice.pick(BEFORE[self.language]) + sentence


@functools.cache
def load_grammar(language: Language) -> Grammar:
    """Return the grammar of a language, read once in a process."""
    return Grammar(language)


@functools.cache
def _parse_value(template: str) -> Any:
    return parse_sentence(template).expression


@functools.cache
def _judges(topic: Topic, language: Language) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what a sentence of this topic must not contain, and what it must."""
    kind = WRONG_QUESTION if topic.question else WRONG_COMMAND
    wrong = [*WRONG[language], kind[language], topic.wrong.get(language, "")]
    for slot, name in topic.pools.items():
        if name in ("areas", "floors", "player_names"):
            place = "|".join(str(value) for value in pool(language, name))
            wrong.append(WRONG_PLACE[language].replace("{place}", place))
            if slot == "area":
                wrong.append(WRONG_ROOM[language].replace("{place}", place))
    return re.compile("|".join(part for part in wrong if part)), re.compile(topic.must.get(language, ""))


def _about(block: IntentData, domain: str) -> bool:
    named = block.slots.get("domain", block.requires_context.get("domain", ""))
    return domain in named if isinstance(named, list) else bool(domain == named)
