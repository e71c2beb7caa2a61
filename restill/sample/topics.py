"""Which of the package's templates are used, for what, and with which values."""

from dataclasses import dataclass, field

from restill.sample.words import LANGUAGES, Language


@dataclass(frozen=True, eq=False)
class Topic:
    """A kind of request: templates that differ only in the act (on, off, …) and in the slot values."""

    source: str
    acts: tuple[str, ...]  # intent, or intent:response where the response tells what is asked
    combination: str  # the package's name for a set of slots
    pools: dict[str, str]  # slot → name of its pool in `words`
    domain: str = ""
    question: bool = False
    wrong: dict[Language, str] = field(default_factory=dict)
    must: dict[Language, str] = field(default_factory=dict)
    languages: tuple[Language, ...] = LANGUAGES
    weight: int = 2


ON_OFF = ("HassTurnOn", "HassTurnOff")
STATE = ("HassGetState:any", "HassGetState:all", "HassGetState:which", "HassGetState:how_many")

COMMON: tuple[Topic, ...] = (
    Topic("light", ON_OFF, "area_domain", {"area": "areas"}, "light", weight=4),
    Topic("light", ON_OFF, "floor_domain", {"floor": "floors"}, "light", must={"en": "floor|basement"}, weight=1),
    Topic(
        "light",
        ON_OFF,
        "name_only",
        {"name": "light_names"},
        "light",
        wrong={"zh": "开关|电源|插座|通断器|[灯带]的?(灯|照明)"},
        must={"en": r"\b(on|off|activate|deactivate|light up)\b"},
    ),
    Topic(
        "light",
        ("HassLightSet",),
        "area_brightness",
        {"area": "areas", "brightness": "percentages"},
        "light",
        must={"en": "^(set|change|turn).*(brightness|light).* to ", "zh": "[到至为成]"},
        weight=3,
    ),
    Topic(
        "light",
        ("HassLightSet",),
        "name_brightness",
        {"name": "light_names", "brightness": "percentages"},
        "light",
        must={"en": "^(set|change|turn).* to ", "zh": "[到至为成]"},
    ),
    Topic(
        "light",
        ("HassLightSet",),
        "area_color",
        {"area": "areas", "color": "colors"},
        "light",
        must={"en": "^(set|change|turn).*light", "zh": "(灯|照明).*[到至为成]"},
    ),
    Topic(
        "light",
        ("HassLightSet",),
        "name_color",
        {"name": "light_names", "color": "colors"},
        "light",
        must={"en": "^(set|change|turn)", "zh": "[到至为成]"},
    ),
    Topic("light", STATE, "domain_state_area", {"area": "areas", "state": "on_off"}, "light", question=True, weight=3),
    Topic(
        "fan", ON_OFF, "area_domain", {"area": "areas"}, "fan", must={"en": r"\b(turn|switch|activate|deactivate)\b"}
    ),
    Topic(
        "fan",
        ON_OFF,
        "name_only",
        {"name": "fan_names"},
        "fan",
        wrong={"zh": "灯|照明|插座|通断器|[扇机]的?开关"},
        must={"en": r"\b(on|off|activate|deactivate)\b"},
    ),
    Topic(
        "fan",
        ("HassFanSetSpeed",),
        "area_only",
        {"area": "areas", "percentage": "percentages"},
        wrong={"en": r"\bspeed (?!to\b|of\b)|fans? on\b"},
        must={"en": "^(set|change|turn).* to ", "zh": "[到为至成]"},
    ),
    Topic(
        "fan",
        ("HassFanSetSpeed",),
        "name_only",
        {"name": "fan_names", "percentage": "percentages"},
        "fan",
        wrong={"en": r"\bspeed (?!to\b|of\b)|fans? on\b"},
        must={"en": "^(set|change|turn).* to ", "zh": "[到为至成]"},
    ),
    Topic("fan", STATE, "domain_state_area", {"area": "areas", "state": "on_off"}, "fan", question=True),
    Topic("cover", ON_OFF, "area_device_class_cover", {"area": "areas", "device_class": "covers"}, "cover", weight=4),
    Topic("cover", ON_OFF, "name_only", {"name": "cover_names"}, "cover"),
    Topic(
        "cover",
        ("HassSetPosition",),
        "area_device_class",
        {"area": "areas", "device_class": "covers", "position": "percentages"},
        "cover",
        wrong={"en": r"\b(open|close|shut)\b"},
    ),
    Topic(
        "cover",
        ("HassSetPosition",),
        "name_only",
        {"name": "cover_names", "position": "percentages"},
        "cover",
        wrong={"en": r"\b(open|close|shut)\b"},
    ),
    Topic(
        "cover",
        STATE,
        "device_class_state_area",
        {"area": "areas", "device_class": "covers", "state": "open_closed"},
        "cover",
        question=True,
        weight=3,
    ),
    Topic("climate", ("HassClimateGetTemperature",), "area_only", {"area": "areas"}, wrong={"en": "how's|how is"}),
    Topic(
        "climate",
        ("HassClimateGetTemperature",),
        "name_only",
        {"name": "climate_names"},
        "climate",
        wrong={"en": "how's|how is|temp(erature)? (?!of)[a-zA-Z]|is (?!the |my )[a-zA-Z ]+$"},
        weight=1,
    ),
    Topic(
        "climate",
        ("HassClimateSetTemperature",),
        "area_temperature",
        {"area": "areas", "temperature": "degrees"},
        weight=4,
    ),
    Topic(
        "climate",
        ("HassClimateSetTemperature",),
        "name_temperature",
        {"name": "climate_names", "temperature": "degrees"},
        "climate",
    ),
    Topic(
        "lock", ON_OFF, "name_only", {"name": "lock_names"}, "lock", wrong={"zh": "给.*(锁上|关上)|锁关上"}, weight=3
    ),
    Topic(
        "lock",
        ("HassGetState:one_yesno",),
        "name_state",
        {"name": "lock_names", "state": "locked"},
        "lock",
        question=True,
        wrong={"zh": "的[开打关已没锁]"},
        languages=("zh",),
    ),
    Topic("lock", STATE, "domain_state_area", {"area": "areas", "state": "locked"}, "lock", question=True),
    Topic(
        "switch",
        ON_OFF,
        "name_only",
        {"name": "switch_names"},
        "switch",
        wrong={"zh": "灯|照明|插座|通断器"},
        must={"en": r"\b(on|off|activate|deactivate)\b"},
        weight=4,
    ),
    Topic(
        "switch",
        ("HassGetState:one_yesno",),
        "name_state",
        {"name": "switch_names", "state": "on_off"},
        "switch",
        question=True,
        wrong={"zh": "的[开打关已没锁]"},
        languages=("zh",),
        weight=1,
    ),
    Topic(
        "scene",
        ("HassTurnOn",),
        "name_scene",
        {"name": "scenes"},
        "scene",
        wrong={"en": r"\bmy\b|scene the"},
        must={"en": "^(activate|turn|switch|change|transition)", "zh": "(打开|开启|启动|切|进入).*(场景|模式)|^把场景"},
        weight=3,
    ),
    Topic("broadcast", ("HassBroadcast",), "message_only", {"message": "messages"}),
)

TIMER_STATES = ("HassCancelTimer", "HassPauseTimer", "HassUnpauseTimer", "HassTimerStatus")
_TIMER: dict[Language, str] = {"en": "^time is", "zh": "停止|关闭|计时(?!器)|定时(?!器)"}

SKIP = ("HassMediaNext", "HassMediaPrevious")
_SKIP: dict[Language, str] = {"en": r"^(next|previous|skip|go back|replay|play)\b.*(song|track)"}
_ITEM: dict[Language, str] = {"en": "item", "zh": "台$"}
_VOLUME: dict[Language, str] = {"en": "^(set|change|turn).*volume"}
_LOUDER: dict[Language, str] = {"en": "^(turn|increase|decrease).*volume"}
_NOT_LOUDER: dict[Language, str] = {"en": "turn (increase|decrease|volume)|volume (increase|decrease)"}
_NOT_LISTED: dict[Language, str] = {
    "en": r"complete|(remove|delete) off| off (in|on|from)\b|^(check|remove|delete).* (on|in) (the |my )?([\w-]+ )?list"
    r"|^check (?!off)(?!.* off )|\b(to|on|in|off|from) (?!the |my )([\w-]+ )?list"
}

# Kept out of drop 1, so that a model trained with drop 2 knows something that its champion does not.
HELD_BACK: tuple[Topic, ...] = (
    Topic("timer", ("HassStartTimer",), "minutes_only", {"minutes": "minutes"}, wrong=_TIMER, weight=3),
    Topic("timer", ("HassStartTimer",), "hours_only", {"hours": "hours"}, wrong=_TIMER),
    Topic(
        "timer",
        ("HassStartTimer",),
        "name_minutes",
        {"name": "timer_names", "minutes": "minutes"},
        wrong=_TIMER,
        weight=3,
    ),
    Topic("timer", ("HassIncreaseTimer", "HassDecreaseTimer"), "minutes_only", {"minutes": "minutes"}, wrong=_TIMER),
    Topic(
        "timer",
        ("HassIncreaseTimer", "HassDecreaseTimer"),
        "name_minutes",
        {"name": "timer_names", "minutes": "minutes"},
        wrong=_TIMER,
    ),
    Topic("timer", TIMER_STATES, "name_only", {"name": "timer_names"}, wrong=_TIMER, weight=3),
    Topic("timer", TIMER_STATES, "area_only", {"area": "areas"}, wrong=_TIMER, weight=3),
    Topic("media", SKIP, "area_only", {"area": "areas"}, must=_SKIP, wrong=_ITEM),
    Topic("media", SKIP, "name_only", {"name": "player_names"}, "media_player", must=_SKIP, wrong=_ITEM),
    Topic(
        "media",
        ("HassMediaPause", "HassMediaUnpause"),
        "area_only",
        {"area": "areas"},
        must={"en": "music|show|player"},
    ),
    Topic(
        "media",
        ("HassSetVolume",),
        "area_only",
        {"area": "areas", "volume_level": "percentages"},
        must=_VOLUME,
        weight=3,
    ),
    Topic(
        "media",
        ("HassSetVolume",),
        "name_only",
        {"name": "player_names", "volume_level": "percentages"},
        "media_player",
        must=_VOLUME,
        weight=3,
    ),
    Topic(
        "media",
        ("HassSetVolumeRelative",),
        "area_only",
        {"area": "areas", "volume_step": "up_down"},
        must=_LOUDER,
        wrong=_NOT_LOUDER,
    ),
    Topic(
        "media",
        ("HassSetVolumeRelative",),
        "name_only",
        {"name": "player_names", "volume_step": "up_down"},
        "media_player",
        must=_LOUDER,
        wrong=_NOT_LOUDER,
    ),
    Topic(
        "media",
        ("HassMediaPlayerMute", "HassMediaPlayerUnmute"),
        "name_only",
        {"name": "player_names"},
        "media_player",
        wrong={"en": "media"},
    ),
    Topic(
        "media",
        ("HassMediaSearchAndPlay",),
        "area_only",
        {"area": "areas", "search_query": "songs"},
        languages=("en",),
    ),
    Topic(
        "list",
        ("HassShoppingListAddItem", "HassShoppingListCompleteItem"),
        "item_only",
        {"item": "groceries"},
        wrong=_NOT_LISTED,
        weight=4,
    ),
    Topic(
        "list",
        ("HassListAddItem", "HassListCompleteItem", "HassListRemoveItem"),
        "name_item",
        {"name": "list_names", "item": "chores"},
        "todo",
        wrong=_NOT_LISTED,
        must={"en": "list$"},
        weight=4,
    ),
    Topic("vacuum", ("HassVacuumCleanArea",), "area_only", {"area": "areas"}),
    Topic(
        "vacuum", ("HassVacuumCleanArea",), "name_area", {"name": "vacuum_names", "area": "areas"}, "vacuum", weight=3
    ),
    Topic("vacuum", ("HassVacuumStart", "HassVacuumReturnToBase"), "name_only", {"name": "vacuum_names"}, "vacuum"),
    Topic(
        "weather",
        ("HassGetWeather",),
        "name_only",
        {"name": "cities"},
        "weather",
        question=True,
        wrong={"en": r"\bmy\b|\bthe (?!weather)|tell me.* like|(is|'s|me) weather"},
    ),
)
