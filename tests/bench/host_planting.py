"""Real pages with boilerplate of hosts planted in them: what the host phase finds of it, and what else it cuts."""

from __future__ import annotations

import gzip
import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.recipe import RepeatedLines
from tests.pipeline.host_reference import Page, batch_of, phase

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
HEADS = (
    ("Home", "About us", "Contact", "Sign in"), ("首页", "关于我们", "登录 | 注册"),
    ("ホーム", "サイトマップ", "ログイン"),
    ("الرئيسية", "اتصل بنا", "تسجيل الدخول"), ("Главная | О нас | Контакты",), ("หน้าแรก", "เกี่ยวกับเรา"),
    ("Startseite » Nachrichten", "Anmelden"), ("मुख्य पृष्ठ", "हमारे बारे में"), ("Skip to main content",), ("메인", "로그인"),
)  # fmt: skip
INSIDE = (
    "Sign up for our newsletter and never miss a story from us again",
    "Lesen Sie dazu auch die anderen Artikel aus dieser Reihe",
    "点击这里订阅我们的电子报，每天早上准时收到最新的消息", "ニュースレターに登録すると、毎朝最新の記事が届きます",
    "اشترك في نشرتنا الإخبارية ليصلك كل جديد من موقعنا كل صباح",
    "Подпишитесь на нашу рассылку, чтобы не пропустить новые статьи",
)  # fmt: skip
TAILS = (
    ("Privacy policy", "Imprint", "© 2024 All rights reserved"), ("隐私政策", "版权所有 不得转载"),
    ("利用規約", "無断転載を禁じます"),
    ("سياسة الخصوصية", "جميع الحقوق محفوظة"), ("Все права защищены",), ("สงวนลิขสิทธิ์",), ("Impressum", "Datenschutz"),
    ("सर्वाधिकार सुरक्षित",), ("Terms | Privacy | Cookies", "Back to top"), ("이용약관", "개인정보처리방침"),
)  # fmt: skip


class Planted(NamedTuple):
    """A page as it was, and with its host's lines."""

    before: str
    page: Page


class Score(NamedTuple):
    """Characters."""

    pages: int
    planted: int
    found: int
    """Of the planted ones, those that are gone."""
    unplanted: int
    """Others that are gone."""
    wrong: int
    """Pages that are neither as they were before nor as they were planted."""


def real_pages() -> dict[str, list[str]]:
    """Texts by source: web pages as annotators extracted them, and texts of many kinds and languages."""
    found: dict[str, list[str]] = defaultdict(list)
    with gzip.open(SHARED / "crawl" / "gold.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            text = json.loads(line)["gold_text"]
            if text and len(text) >= 500:
                found["web"].append(text)
    for path in sorted((SHARED / "text").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            found[path.name.removesuffix(".jsonl.gz")] += [json.loads(line)["text"] for line in file]
    return dict(found)


def generated_pages(number: int, seed: int) -> list[str]:
    """Texts of random words, no two lines alike."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(3_000)]
    return [
        "\n".join(" ".join(rng.choices(words, k=rng.randint(6, 30))) for _ in range(rng.randint(4, 20)))
        for _ in range(number)
    ]


def planted(texts: Sequence[str], name: str, seed: int, share: float = 0.8) -> list[Planted]:
    """The texts as the pages of one host; this share of them has its lines: some at the head, one inside, some at the
    tail, not all on each."""
    rng = random.Random(f"{name} {seed}")
    head, inside, tail = rng.choice(HEADS), rng.choice(INSIDE), rng.choice(TAILS)
    found = []
    for number, text in enumerate(texts):
        lines = text.split("\n")
        if rng.random() < share:
            place = rng.randint(0, len(lines))
            lines[place:place] = [inside] if rng.random() < 0.8 else []
            lines[:0] = head if rng.random() < 0.8 else ()
            lines += tail if rng.random() < 0.8 else ()
        found.append(Planted(text, Page(f"https://{name}.example/{number}", "\n".join(lines))))
    return found


def scored(pages: Iterable[Planted], settings: RepeatedLines) -> Score:
    """What the phase makes of planted pages."""
    pages = list(pages)
    with tempfile.TemporaryDirectory() as folder:
        batches = [batch_of([one.page for one in pages[at : at + 4096]]) for at in range(0, len(pages), 4096)]
        texts = phase(batches, settings, Path(folder)).texts
    total = found = unplanted = wrong = 0
    for one, text in zip(pages, texts, strict=True):
        assert one.page.text is not None
        assert text is not None
        put = len(one.page.text) - len(one.before)
        gone = len(one.page.text) - len(text)
        total += put
        if text == one.before:
            found += put
        elif len(text) < len(one.before) or not _within(text, one.page.text):
            unplanted += max(0, len(one.before) - len(text))
            found += min(put, gone)
            wrong += 1
        elif _within(one.before, text):
            found += gone
        else:
            unplanted += 1
            wrong += 1
    return Score(len(pages), total, found, unplanted, wrong)


def _within(part: str, whole: str) -> bool:
    """Whether the lines of a text stand, in order, among those of another one."""
    lines = iter(whole.split("\n"))
    return all(any(line == other for other in lines) for line in part.split("\n"))


def spread(sources: dict[str, list[str]], names: Sequence[str], size: int, seed: int) -> list[Planted]:
    """The texts of these sources, mixed, as hosts of so many pages, with their lines planted."""
    texts = [text for name in names for text in sources[name]]
    random.Random(seed).shuffle(texts)
    made: list[Planted] = []
    for number, at in enumerate(range(0, len(texts) - size + 1, size)):
        made += planted(texts[at : at + size], f"host-{number}", seed)
    return made
