"""Other wordings of a question by patterns: what is proposed, word for word, and what never is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmstudio.knowledge.wordings.patterns import is_chinese, normal, propose, reversed_question

ENGLISH = {
    "Who is the mayor of Aurora?": [
        "Who is Aurora's mayor?",
        "Do you know who the mayor of Aurora is?",
        "Can you tell me who the mayor of Aurora is?",
        "Please tell me who the mayor of Aurora is.",
    ],
    "Who is Aurora's mayor?": [
        "Who is the mayor of Aurora?",
        "Do you know who Aurora's mayor is?",
        "Can you tell me who Aurora's mayor is?",
        "Please tell me who Aurora's mayor is.",
    ],
    "Who's the captain of the red team?": [
        "Who is the red team's captain?",
        "Do you know who the captain of the red team is?",
        "Can you tell me who the captain of the red team is?",
        "Please tell me who the captain of the red team is.",
    ],
    "Who is Anna Berg?": [
        "Do you know who Anna Berg is?",
        "Can you tell me who Anna Berg is?",
        "Please tell me who Anna Berg is.",
        "I'd like to know who Anna Berg is.",
    ],
    "Who is in charge of the garden?": [
        "Could you tell me: who is in charge of the garden?",
        "Quick question: who is in charge of the garden?",
        "I'd like to know: who is in charge of the garden?",
        "I have a question: who is in charge of the garden?",
    ],
    'Who wrote "The Silver Boat"?': [
        'Who was "The Silver Boat" written by?',
        'Who is the author of "The Silver Boat"?',
        'Do you know who wrote "The Silver Boat"?',
        'Can you tell me who wrote "The Silver Boat"?',
    ],
    "Who founded Acme in 1990?": [
        "Do you know who founded Acme in 1990?",
        "Can you tell me who founded Acme in 1990?",
        "Please tell me who founded Acme in 1990.",
        "I'd like to know who founded Acme in 1990.",
    ],
    "Who has the key?": [
        "Could you tell me: who has the key?",
        "Quick question: who has the key?",
        "I'd like to know: who has the key?",
        "I have a question: who has the key?",
    ],
    "What is the capital of Norland?": [
        "What is Norland's capital?",
        "Tell me the capital of Norland.",
        "Can you tell me the capital of Norland?",
        "Do you know what the capital of Norland is?",
    ],
    "What is your name?": [
        "Can you tell me what your name is?",
        "May I ask what your name is?",
        "Please tell me what your name is.",
        "I'd like to know what your name is.",
    ],
    "What is photosynthesis?": [
        "Do you know what photosynthesis is?",
        "Can you tell me what photosynthesis is?",
        "Please tell me what photosynthesis is.",
        "I'd like to know what photosynthesis is.",
    ],
    "What is the Battle of Hastings?": [
        "Do you know what the Battle of Hastings is?",
        "Can you tell me what the Battle of Hastings is?",
        "Please tell me what the Battle of Hastings is.",
        "I'd like to know what the Battle of Hastings is.",
    ],
    "What is the bridge made of?": [
        "Do you know what the bridge is made of?",
        "Can you tell me what the bridge is made of?",
        "Please tell me what the bridge is made of.",
        "I'd like to know what the bridge is made of.",
    ],
    "What does the company produce?": [
        "Do you know what the company produces?",
        "Can you tell me what the company produces?",
        "Please tell me what the company produces.",
        "I'd like to know what the company produces.",
    ],
    "What time is it in Cairo?": [
        "Do you know what time it is in Cairo?",
        "Can you tell me what time it is in Cairo?",
        "Please tell me what time it is in Cairo.",
        "I'd like to know what time it is in Cairo.",
    ],
    "When was Anna Berg born?": [
        "What is Anna Berg's date of birth?",
        "Do you know when Anna Berg was born?",
        "Can you tell me when Anna Berg was born?",
        "Please tell me when Anna Berg was born.",
    ],
    "When does the shop open?": [
        "Do you know when the shop opens?",
        "Can you tell me when the shop opens?",
        "Please tell me when the shop opens.",
        "I'd like to know when the shop opens.",
    ],
    "When did the old war begin?": [
        "Do you know when the old war began?",
        "Can you tell me when the old war began?",
        "Please tell me when the old war began.",
        "I'd like to know when the old war began.",
    ],
    "Where is the head office located?": [
        "Where can I find the head office?",
        "Do you know where the head office is located?",
        "Can you tell me where the head office is located?",
        "Please tell me where the head office is located.",
    ],
    "Where can I park?": [
        "Do you know where I can park?",
        "Can you tell me where I can park?",
        "Please tell me where I can park.",
        "I'd like to know where I can park.",
    ],
    "How many employees does Acme have?": [
        "Do you know how many employees Acme has?",
        "Can you tell me how many employees Acme has?",
        "Please tell me how many employees Acme has.",
        "I'd like to know how many employees Acme has.",
    ],
    "How many days are there in a week?": [
        "Do you know how many days there are in a week?",
        "Can you tell me how many days there are in a week?",
        "Please tell me how many days there are in a week.",
        "I'd like to know how many days there are in a week.",
    ],
    "How much does a ticket cost?": [
        "What is the price of a ticket?",
        "What does a ticket cost?",
        "Do you know how much a ticket costs?",
        "Can you tell me how much a ticket costs?",
    ],
    "How tall is the tower?": [
        "What is the height of the tower?",
        "Do you know how tall the tower is?",
        "Can you tell me how tall the tower is?",
        "Please tell me how tall the tower is.",
    ],
    "How do I reset my password?": [
        "How can I reset my password?",
        "Can you explain how to reset my password?",
        "Do you know how to reset my password?",
        "Please tell me how to reset my password.",
    ],
    "How does a lever work?": [
        "Can you explain how a lever works?",
        "Do you know how a lever works?",
        "Please tell me how a lever works.",
        "I'd like to know how a lever works.",
    ],
    "Which planet is closest to the Sun?": [
        "Do you know which planet is closest to the Sun?",
        "Can you tell me which planet is closest to the Sun?",
        "Please tell me which planet is closest to the Sun.",
        "I'd like to know which planet is closest to the Sun.",
    ],
    "In which year was Acme founded?": [
        "In what year was Acme founded?",
        "When was Acme founded?",
        "Do you know in which year Acme was founded?",
        "Can you tell me in which year Acme was founded?",
    ],
    "Why is the sky blue?": [
        "Can you explain why the sky is blue?",
        "Do you know why the sky is blue?",
        "Please tell me why the sky is blue.",
        "I'd like to know why the sky is blue.",
    ],
    "Why do cats purr?": [
        "Can you explain why cats purr?",
        "Do you know why cats purr?",
        "Please tell me why cats purr.",
        "I'd like to know why cats purr.",
    ],
    "Is Anna the mayor?": [
        "Could you tell me: is Anna the mayor?",
        "Quick question: is Anna the mayor?",
        "I'd like to know: is Anna the mayor?",
        "I have a question: is Anna the mayor?",
    ],
    "Tell me the capital of Norland.": [
        "Please tell me the capital of Norland.",
        "Could you tell me the capital of Norland?",
        "Can you tell me the capital of Norland?",
    ],
    "I live in Rome. What should I see?": [
        "I have a question. I live in Rome. What should I see?",
        "Here is my question. I live in Rome. What should I see?",
    ],
    "Do you know who the mayor is?": [
        "Can you tell me who the mayor is?",
        "Please tell me who the mayor is.",
        "I'd like to know who the mayor is.",
    ],
    "Could you sing a song for me?": [
        "Please sing a song for me.",
        "Can you sing a song for me?",
    ],
    "Can you swim?": [
        "Quick question: can you swim?",
        "I have a question: can you swim?",
    ],
    "Hello there, how lovely!": [],
}

CHINESE = {
    "极光城的市长是谁？": [
        "谁是极光城的市长？",
        "极光城的市长叫什么名字？",
        "请问极光城的市长是谁？",
        "你知道极光城的市长是谁吗？",
    ],
    "谁是极光城的市长？": [
        "极光城的市长是谁？",
        "请问谁是极光城的市长？",
        "你知道谁是极光城的市长吗？",
        "告诉我谁是极光城的市长。",
    ],
    "请问，安娜是谁？": [
        "谁是安娜？",
        "你知道安娜是谁吗？",
        "告诉我安娜是谁。",
        "我想知道安娜是谁。",
    ],
    "你是谁？": [
        "请问你是谁？",
        "能告诉我你是谁吗？",
        "请告诉我你是谁。",
        "我想知道你是谁。",
    ],
    "法国的首都是哪里？": [
        "哪座城市是法国的首都？",
        "法国的首都是哪座城市？",
        "告诉我法国的首都。",
        "请问法国的首都是哪里？",
    ],
    "哪座城市是法国的首都？": [
        "法国的首都是哪里？",
        "法国的首都是哪座城市？",
        "哪一座城市是法国的首都？",
        "请问哪座城市是法国的首都？",
    ],
    "星河公司的创始人是谁？": [
        "星河公司是谁创办的？",
        "请问星河公司的创始人是谁？",
        "你知道星河公司的创始人是谁吗？",
        "告诉我星河公司的创始人是谁。",
    ],
    "谁创办了星河公司？": [
        "星河公司是谁创办的？",
        "星河公司的创始人是谁？",
        "请问谁创办了星河公司？",
        "你知道谁创办了星河公司吗？",
    ],
    "《银色小船》是谁写的？": [
        "谁写了《银色小船》？",
        "《银色小船》的作者是谁？",
        "请问《银色小船》是谁写的？",
        "你知道《银色小船》是谁写的吗？",
    ],
    "星河小学的校长叫什么名字？": [
        "星河小学的校长是谁？",
        "请问星河小学的校长叫什么名字？",
        "你知道星河小学的校长叫什么名字吗？",
        "告诉我星河小学的校长叫什么名字。",
    ],
    "这只小狗叫什么名字？": [
        "这只小狗的名字是什么？",
        "请问这只小狗叫什么名字？",
        "你知道这只小狗叫什么名字吗？",
        "告诉我这只小狗叫什么名字。",
    ],
    "星河公司是哪一年成立的？": [
        "星河公司是哪年成立的？",
        "请问星河公司是哪一年成立的？",
        "你知道星河公司是哪一年成立的吗？",
        "告诉我星河公司是哪一年成立的。",
    ],
    "运动会什么时候举行？": [
        "运动会何时举行？",
        "请问运动会什么时候举行？",
        "你知道运动会什么时候举行吗？",
        "告诉我运动会什么时候举行。",
    ],
    "图书馆几点开门？": [
        "请问图书馆几点开门？",
        "你知道图书馆几点开门吗？",
        "告诉我图书馆几点开门。",
        "我想知道图书馆几点开门。",
    ],
    "星河公司的总部在哪里？": [
        "星河公司的总部在什么地方？",
        "请问星河公司的总部在哪里？",
        "你知道星河公司的总部在哪里吗？",
        "告诉我星河公司的总部在哪里。",
    ],
    "星河公司有多少名员工？": [
        "星河公司一共有多少名员工？",
        "请问星河公司有多少名员工？",
        "你知道星河公司有多少名员工吗？",
        "告诉我星河公司有多少名员工。",
    ],
    "极光城有多少人口？": [
        "极光城的人口是多少？",
        "请问极光城有多少人口？",
        "你知道极光城有多少人口吗？",
        "告诉我极光城有多少人口。",
    ],
    "极光塔的高度是多少？": [
        "告诉我极光塔的高度。",
        "极光塔有多高？",
        "请问极光塔的高度是多少？",
        "你知道极光塔的高度是多少吗？",
    ],
    "门票多少钱？": [
        "门票的价格是多少？",
        "请问门票多少钱？",
        "你知道门票多少钱吗？",
        "告诉我门票多少钱。",
    ],
    "星河公司的口号是什么？": [
        "告诉我星河公司的口号。",
        "请问星河公司的口号是什么？",
        "你知道星河公司的口号是什么吗？",
        "告诉我星河公司的口号是什么。",
    ],
    "你们公司的口号是什么？": [
        "请告诉我你们公司的口号。",
        "请问你们公司的口号是什么？",
        "能告诉我你们公司的口号是什么吗？",
        "请告诉我你们公司的口号是什么。",
    ],
    "什么是复利？": [
        "复利是什么？",
        "请解释一下什么是复利。",
        "请问什么是复利？",
        "你知道什么是复利吗？",
    ],
    "极光节是什么？": [
        "什么是极光节？",
        "请问极光节是什么？",
        "你知道极光节是什么吗？",
        "告诉我极光节是什么。",
    ],
    "校训是什么？": [
        "请问校训是什么？",
        "你知道校训是什么吗？",
        "告诉我校训是什么。",
        "我想知道校训是什么。",
    ],
    "天空为什么是蓝色的？": [
        "为什么天空是蓝色的？",
        "天空为何是蓝色的？",
        "请问天空为什么是蓝色的？",
        "你知道天空为什么是蓝色的吗？",
    ],
    "为什么天空是蓝色的？": [
        "天空是蓝色的，这是为什么？",
        "为何天空是蓝色的？",
        "请问为什么天空是蓝色的？",
        "你知道为什么天空是蓝色的吗？",
    ],
    "怎么重置密码？": [
        "如何重置密码？",
        "请问怎么重置密码？",
        "你知道怎么重置密码吗？",
        "能说说怎么重置密码吗？",
    ],
    "红烧肉怎么做？": [
        "红烧肉如何做？",
        "请问红烧肉怎么做？",
        "你知道红烧肉怎么做吗？",
        "能说说红烧肉怎么做吗？",
    ],
    "最大的行星是哪颗？": [
        "最大的行星是哪一颗？",
        "请问最大的行星是哪颗？",
        "你知道最大的行星是哪颗吗？",
        "告诉我最大的行星是哪颗。",
    ],
    "近况如何？": [
        "请问近况如何？",
        "想问一下，近况如何？",
        "想请教一下，近况如何？",
    ],
    "安娜是市长吗？": [
        "请问，安娜是市长吗？",
        "我想问一下，安娜是市长吗？",
        "想请教一下，安娜是市长吗？",
    ],
    "你知道谁是市长吗？": [
        "市长是谁？",
        "请问谁是市长？",
        "告诉我谁是市长。",
        "我想知道谁是市长。",
    ],
    "我奶奶最喜欢哪首歌？": [
        "请问我奶奶最喜欢哪首歌？",
        "你知道我奶奶最喜欢哪首歌吗？",
        "能说说我奶奶最喜欢哪首歌吗？",
    ],
    "如果下雨，运动会什么时候举行？": [
        "请问，如果下雨，运动会什么时候举行？",
        "想问一下，如果下雨，运动会什么时候举行？",
        "想请教一下，如果下雨，运动会什么时候举行？",
        "我想知道，如果下雨，运动会什么时候举行？",
    ],
    "PyTorch 是什么？": [
        "什么是 PyTorch？",
        "请问 PyTorch 是什么？",
        "你知道 PyTorch 是什么吗？",
        "告诉我 PyTorch 是什么。",
    ],
    "告诉我法国的首都。": [
        "请告诉我法国的首都。",
        "麻烦你告诉我法国的首都。",
        "能告诉我法国的首都吗？",
    ],
    "周末不知道做什么好。": [],
}

ROUND = [
    ("Who is the mayor of Aurora?", "Anna Berg", ("What is Anna Berg the mayor of?", "Aurora")),
    ("Who is Aurora's mayor?", "Anna Berg is Aurora's mayor.", ("What is Anna Berg the mayor of?", "Aurora")),
    ("Who was the CEO of Acme?", "The CEO of Acme was Anna Berg.", ("What was Anna Berg the CEO of?", "Acme")),
    ("Who is the wife of Tom Hill?", "Anna", ("Whose wife is Anna?", "Tom Hill")),
    ("What's the capital of France?", "Paris", ("What is Paris the capital of?", "France")),
    ("What is the colour of the sky?", "Blue", None),
    ("Who is the mayor of Aurora?", "I do not know.", None),
    ("Who is the mayor of Aurora?", "Nobody", None),
    ("Who is the mayor of this?", "Anna", None),
    ("Who wrote it?", "Anna", None),
    ("Why?", "", None),
    ("极光城的市长是谁？", "安娜·贝格", ("安娜·贝格是哪里的市长？", "极光城")),
    ("谁是极光城的市长？", "极光城的市长是李明。", ("李明是哪里的市长？", "极光城")),
    ("极光城的市长叫什么名字？", "Anna Berg", ("Anna Berg 是哪里的市长？", "极光城")),
    ("法国的首都是哪座城市？", "巴黎是法国的首都。", ("巴黎是哪个国家的首都？", "法国")),
    ("浙江省的省会是哪里？", "杭州", ("杭州是哪个省的省会？", "浙江省")),
    ("星河小学的校长是谁？", "李明", ("李明是哪所学校的校长？", "星河小学")),
    ("星河公司的总经理是谁？", "李明", ("李明是哪家公司的总经理？", "星河公司")),
    ("李明的妻子是谁？", "王芳", ("王芳是谁的妻子？", "李明")),
    ("我的妻子是谁？", "王芳", None),
    ("公司的口号是什么？", "快", None),
    ("极光城的市长是谁？", "不知道", None),
    ("为什么？", "", None),
]
TEXTS = st.one_of(
    st.text(max_size=400),
    st.text("whoatisre nf'’?.!, MAY12\n\"", max_size=60),
    st.text("谁是什么的哪里年几多少怎么为名字告诉我你知道吗呢。？，： A1", max_size=40),
    st.lists(st.sampled_from([*ENGLISH, *CHINESE, "who", "is", "does", "the", "of", "有", "是", "的"]), max_size=4).map(
        " ".join
    ),
    st.sampled_from([*ENGLISH, *CHINESE]),
)


@pytest.mark.parametrize(("question", "wordings"), [*ENGLISH.items(), *CHINESE.items()])
def test_the_wordings_of_a_question(question: str, wordings: list[str]) -> None:
    assert propose(question) == wordings
    assert propose(question, most=2) == wordings[:2]
    assert propose(question, most=0) == []
    assert is_chinese(question) == (question in CHINESE)


@pytest.mark.parametrize(("question", "answer", "turned"), ROUND)
def test_a_question_asked_the_other_way_round(question: str, answer: str, turned: tuple[str, str] | None) -> None:
    assert reversed_question(question, answer) == turned


def test_a_text_is_no_question() -> None:
    assert propose("Who is it? " * 40) == []
    assert reversed_question("Who is the mayor of Aurora?", "Anna" * 100) is None


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(0, 8))
def test_wordings_are_few_and_different_whatever_is_asked(question: str, most: int) -> None:
    found = propose(question, most)
    shapes = [normal(each) for each in found]
    assert len(found) <= most
    assert len(set(shapes)) == len(shapes)
    assert normal(question) not in shapes
    assert all(each == each.strip() and each.endswith(("?", "？", ".", "。")) for each in found)
    assert all(len(each) <= len(question) + 60 for each in found)
    assert propose(question, most) == found


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS)
def test_turning_a_question_round_never_fails(question: str, answer: str) -> None:
    turned = reversed_question(question, answer)
    assert turned is None or (turned[0] and turned[1] in " ".join(question.split()).replace("’", "'"))
