"""What the templates leave open: rooms, devices, numbers, phrases; and what makes a sentence sound wrong.

A value is a template in hassil's notation: `(hallway|corridor)` is one room with two names.
"""

from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
PACKAGE_LANGUAGE: dict[Language, str] = {"en": "en", "zh": "zh-CN"}

_TENS = tuple(range(10, 100, 10))
_NUMBERS: dict[str, tuple[int, ...]] = {
    "percentages": (*_TENS, 15, 25, 35, 45, 55, 65, 75, 85, 100),
    "degrees": tuple(range(16, 30)),
    "minutes": (2, 3, 5, 7, 8, 10, 12, 15, 20, 25, 30, 35, 40, 45, 50, 55),
    "hours": (2, 3, 4, 5, 6, 8, 10, 12),
}
_CODES: dict[str, tuple[str, ...]] = {  # values of the package's own lists
    "on_off": ("on", "off"),
    "open_closed": ("open", "closed"),
    "locked": ("locked", "unlocked"),
    "up_down": ("up", "down"),
    "colors": ("white", "red", "orange", "yellow", "green", "blue", "purple", "pink"),
}
_COVERS: dict[Language, tuple[str, ...]] = {
    "en": ("blind", "curtain", "shade", "shutter", "window", "door"),
    "zh": ("blind", "curtain", "window", "door"),
}

_PHRASES: dict[Language, dict[str, str]] = {
    "en": {
        "areas": """living room; kitchen; bedroom; bathroom; dining room; (study|home office); (hallway|corridor);
            garage; (guest room|spare room); nursery; laundry room; balcony; patio; entryway; master bedroom; playroom;
            pantry; library; gym; workshop; attic; conservatory""",
        "floors": "ground floor; first floor; second floor; third floor; top floor; basement",
        "light_names": """floor lamp; desk lamp; reading lamp; bedside lamp; ceiling light; night light; porch light;
            chandelier; lava lamp; wall light; mirror light; vanity light; stair light; pendant lamp""",
        "fan_names": "ceiling fan; tower fan; desk fan; exhaust fan; pedestal fan; window fan; box fan; wall fan",
        "cover_names": """garage door; roller blind; skylight; sun awning; left curtain; right curtain; front gate;
            roof window; storm shutter; projector screen""",
        "climate_names": """thermostat; (air conditioner|AC); heat pump; towel radiator; floor heating; water heater;
            upstairs thermostat; wine cooler""",
        "lock_names": """front door; back door; side door; garden gate; garage side door; cellar door; basement door;
            shed; safe; mailbox; terrace door; medicine cabinet""",
        "switch_names": """(coffee maker|coffee machine); kettle; space heater; humidifier; dehumidifier; air purifier;
            dishwasher; washing machine; electric blanket; aquarium pump; christmas tree; rice cooker; towel warmer;
            sprinkler; doorbell; printer; toaster; router""",
        "scenes": """movie night; bedtime; party; sunset; dinner time; good morning; study time; romantic; vacation;
            workout; gaming; cleaning; breakfast; meditation; rainy day; sleepover""",
        "messages": """dinner is ready; it is time to go to bed; the taxi is here; breakfast is on the table;
            we are leaving in five minutes; the guests have arrived; the laundry is done; someone is at the door;
            the movie is about to start; the dog needs a walk; lunch will be late; the pizza has arrived;
            it is time for homework; the school bus is coming; please be quiet; the cake is ready""",
        "player_names": """(tv|television); living room speaker; kitchen speaker; radio; soundbar; record player;
            bedroom speaker; projector; stereo; media box""",
        "songs": """jazz; classical music; the beatles; abba; christmas songs; the news; whale sounds; rain sounds;
            some blues; miles davis; country music; lullabies""",
        "timer_names": "pizza; pasta; laundry; egg; tea; homework; nap; cake; bread; workout; rice; meditation",
        "groceries": """milk; eggs; bread; apples; bananas; coffee; butter; rice; tomatoes; toilet paper; olive oil;
            cheese; chicken; yogurt; batteries; dish soap; onions; sugar; flour; orange juice""",
        "chores": """water the plants; call the dentist; pay the rent; wash the car; book a flight; mow the lawn;
            renew the passport; clean the windows; buy stamps; feed the cat; fix the bike; return the books""",
        "list_names": "(to-do|todo); packing; weekend; chores; garden; work; family; holiday",
        "vacuum_names": "robot vacuum; vacuum cleaner; cleaning robot; mopping robot; roomba; floor sweeper",
        "cities": "london; paris; new york; tokyo; berlin; sydney; chicago; madrid; toronto; oslo; rome; dublin",
    },
    "zh": {
        "areas": """客厅; 厨房; 主卧; 次卧; (卫生间|洗手间); 书房; 餐厅; 阳台; (玄关|门厅); 儿童房; 走廊; 车库; 客房;
            储物间; 洗衣房; 衣帽间; 影音室; 健身房; 办公室; 茶室; 露台; 院子""",
        "floors": "一楼; 二楼; 三楼; 四楼; 顶楼; 地下室",
        "light_names": """落地灯; 台灯; 床头灯; 吊灯; 吸顶灯; 夜灯; 镜前灯; 壁灯; 灯带; 射灯; 阅读灯; 水晶灯; 庭院灯;
            楼梯灯""",
        "fan_names": "吊扇; 塔扇; 落地扇; 排气扇; 循环扇; 台扇; 壁扇; 新风机",
        "cover_names": "车库门; 罗马帘; 天窗; 遮阳棚; 左边的窗帘; 右边的窗帘; 电动门; 纱帘; 遮光帘; 投影幕布",
        "climate_names": "空调; 中央空调; 地暖; 暖气; 热水器; 壁挂炉; 热泵; 恒温器",
        "lock_names": "前门; 后门; 侧门; 正门; 防盗门; 铁门; 地下室门; 工具房门; 保险柜; 信箱; 围栏门; 药柜",
        "switch_names": """咖啡机; (电水壶|热水壶); 电暖器; 加湿器; 除湿机; 空气净化器; 洗碗机; 洗衣机; 电热毯;
            鱼缸水泵; 圣诞树; 电饭煲; 打印机; 路由器; 烤箱; 饮水机; 抽油烟机; 消毒柜""",
        "scenes": "观影; 晚安; 派对; 休闲; 晚餐; 起床; 阅读; 离家; 回家; 会客; 学习; 睡眠; 浪漫; 运动; 游戏; 打扫",
        "messages": """晚饭做好了; 该睡觉了; 出租车到了; 早餐在桌上; 我们五分钟后出发; 客人到了; 衣服洗好了; 门口有人;
            电影要开始了; 该遛狗了; 午饭要晚一点; 快递到了; 该写作业了; 校车来了; 请安静一点; 蛋糕烤好了""",
        "player_names": "电视; 客厅音箱; 厨房音箱; 收音机; 回音壁; 投影仪; 卧室音箱; 唱片机; 音响; 电视盒子",
        "songs": "爵士乐",
        "timer_names": "披萨; 面条; 洗衣; 鸡蛋; 泡茶; 作业; 午睡; 蛋糕; 面包; 健身; 米饭; 冥想",
        "groceries": """牛奶; 鸡蛋; 面包; 苹果; 香蕉; 咖啡; 黄油; 大米; 西红柿; 卫生纸; 橄榄油; 奶酪; 鸡肉; 酸奶; 电池;
            洗洁精; 洋葱; 白糖; 面粉; 橙汁""",
        "chores": "浇花; 打电话给牙医; 交房租; 洗车; 订机票; 修剪草坪; 换护照; 擦窗户; 寄包裹; 喂猫; 修自行车; 还书",
        "list_names": "待办清单; 旅行清单; 周末清单; 家务清单; 花园清单; 工作清单; 家庭清单; 假期清单",
        "vacuum_names": "扫地机; 小白; 吸尘器; 清洁机器人; 小胖; 拖地机",
        "cities": "北京; 上海; 广州; 深圳; 成都; 杭州; 西安; 南京; 武汉; 重庆; 青岛; 厦门",
    },
}


def pool(language: Language, name: str) -> tuple[int | str, ...]:
    """Return the values that a slot may take, in a fixed order."""
    if name in _NUMBERS:
        return _NUMBERS[name]
    if name == "covers":
        return _COVERS[language]
    if name in _CODES:
        return _CODES[name]
    return tuple(phrase.strip() for phrase in _PHRASES[language][name].split(";"))


# The package's rules are wide enough to understand almost anything; these say only what people would say.
RULES: dict[Language, dict[str, str]] = {
    "en": {
        "turn": "(turn|switch)",
        "set": "(set|change|turn)",
        "numeric_value_set": "(set|change|turn)",
        "open": "(open|open up)",
        "close": "(close|shut)",
        "the": "(the|my)",
        "in": "in",
        "is": "(is|are)",
        "all": "all [the|my]",
        "light": "(light|lights|lighting)",
        "lockable": "(doors|locks)",
        "are_any": "(are any [of the]|are there any)",
        "are_all": "are all [(the|my|of the)]",
        "which": "(which|what)",
        "how_many": "how many [of the]",
        "what_is": "(what's|what is|tell me)",
        "how_is": "(how is|how's)",
    },
    "zh": {
        "light": "(灯|灯光|照明)",
        "which": "(哪些|有哪些|哪几个)",
        "how_many_is": "(有多少|有几个)",
        "numeric_value_set": "(设置|设定|调节|调)",
        "current": "(现在|当前|目前)",
        "name": "{name}",
        "area": "{area}",
    },
}

# A sentence in which one of these is found is not said that way.
WRONG: dict[Language, tuple[str, ...]] = {
    "en": (
        r"\b(the|my) (the|my)\b",
        r"\bfloor floor\b",
        r" %|°|\bdegree\b",
        r"\bout\b",
        r"\bin (the |my )?\w+ floor\b",
        r"\ball\b.*\b(light|fan|blind|curtain|shade|shutter|window|door)\b",
        r" to (on|off)$",
        r"\b(lamp|light|chandelier) (light|lights|lighting)\b",
        r"\bare there any of\b",
        r"\b\d+[ -](minute|hour)\b(?! timer)|-(minutes|hours)\b|\b(minutes|hours) timer\b",
        r"\b(an hours|a minutes|1/2)\b",
        r"\ba 8\b|\ban (?!8)",
    ),
    "zh": (
        r"的的|百分之\d+%|处于|钟头|门门|锁上锁|楼[楼层]|室[楼层]|播放播放",
        r"^让|^给(?!.*上锁)|^上锁",
        r"的(打开|开启|关|调|设|锁上|上锁|解锁|静音|取消|恢复|暂停|停止|继续|别|拉开|[为成到至是在有\d]|百分|当前|目前|现在|几度|多少度|切|回)",
        r"(有没有|是不是|是否).*吗$|不$",
        r"\d分(?!钟)|[钟时]后|[钟时]开始",
    ),
}
WRONG_COMMAND: dict[Language, str] = {"en": r"^(the|my|all)\b", "zh": r"的$|(?<![打拉])开$|关$"}
WRONG_QUESTION: dict[Language, str] = {
    "en": r"\b(light|lighting|fan|blind|curtain|shade|shutter|window|door|lock)\b"
    r"|\b(on|off|open|closed|shut|locked|unlocked) (?!in )"
    r"|\b(which|what|how many)\b.* is ",
    "zh": r"^(?!.*(吗$|有没有|是否|是不是|哪|多少|几|怎么样|如何))|[开关]$|[开关]吗$|(关闭|打开)(吗)?$"
    r"|是[开关][着了]$|有没有[开关]了|在[开关打已没锁]|是(没|已|没有)(上锁|解锁)$|是锁上吗|没有锁",
}
# Around the name of a room or player ({place}): prepositions and articles that the templates leave out.
WRONG_PLACE: dict[Language, str] = {
    "en": r"\b(lights?|lighting|fans?|music|shows?|players?|track|song|again|volume|\d+%?|percent|skip|back|last"
    r"|previous|next|volume (up|down)|(blind|curtain|shade|shutter|window|door)s?|replay) (the |my )?({place})\b"
    r"|^(the |my )?({place}) (skip|go|replay|play)\b",
    "zh": "",
}
WRONG_ROOM: dict[Language, str] = {
    "en": r"\bin ({place})\b|(?<!turn )(?<!switch )\bon (the |my )?({place})\b"
    r"|\b(is|clean|vacuum|illuminate|light up) ({place})\b",
    "zh": "",
}

# Said before or after a command that begins with a verb.
VERBS: dict[Language, str] = {
    "en": r"(turn|switch|set|change|open|close|shut|lock|unlock|activate|deactivate|light up|illuminate|broadcast|"
    r"announce|pause|resume|unpause|mute|unmute|skip|play|replay|increase|decrease|add|put|check|delete|remove|take|"
    r"start|create|cancel|stop|vacuum|clean|return|dock|continue|go|tell|adjust|complete)\b",
    "zh": r"把|将|打开|开启|开始|关|启动|切|进入|调|设|锁上|解锁|暂停|恢复|继续|取消|删|清|打扫|移除|添加|创建|往|"
    r"在购物|广播|通知|向所有|用",
}
BEFORE: dict[Language, tuple[str, ...]] = {
    "en": ("please ", "can you ", "could you ", "would you "),
    "zh": ("请", "帮我", "麻烦", "请帮我", "麻烦你"),
}
AFTER: dict[Language, tuple[str, ...]] = {"en": (" please", " for me"), "zh": ()}
