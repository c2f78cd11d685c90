"""Block lists and words for URLs."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_helpers import DATA, batch, bound, reasons

from pipeline.errors import RecipeError
from pipeline.resources import digests, load
from stages.base import Outcome, Processor
from stages.registry import make
from stages.url import Url
from stages.url.hosts import split
from stages.url.words import automaton
from stages.words import fold, is_spaceless

WORDS = {"words/0": (DATA / "url_words.json").read_bytes()}


def with_list(data: str | bytes, urls: Sequence[str | None], name: str = "list.txt", **settings: object) -> Outcome:
    """What becomes of documents with these URLs under one block list and no words."""
    content = data if isinstance(data, bytes) else data.encode()
    stage = Url(**{"blocklists": (name,), "words": (), **settings})
    path = name.rpartition(":")[2]
    return stage.bind({f"blocklists/0/{path}": content})(batch(["text"] * len(urls), url=list(urls)))


def blocked(data: str | bytes, *urls: str | None, **settings: object) -> list[bool]:
    """Which of the URLs are dropped."""
    rows = {row for row, _ in reasons(with_list(data, urls, **settings))}
    return [row in rows for row in range(len(urls))]


def words_of(**lists: str) -> Processor:
    """The stage with these words alone."""
    settings = {"words": (), **dict.fromkeys(lists, ("file",))}
    return Url(**settings).bind({f"{name}/0": words.encode() for name, words in lists.items()})


def condemned(process: Processor, *urls: str) -> list[bool]:
    rows = {row for row, reason in reasons(process(batch([None] * len(urls), url=list(urls)))) if reason}
    return [row in rows for row in range(len(urls))]


SPELLINGS = [
    "http://bad.example", "https://BAD.Example/", "bad.example/x", "//bad.example", "http://www.bad.example/a?b#c",
    "http://a.b.bad.example:8080/", "http://user:pw@bad.example/", "http://bad.example./", " http://bad.example \n",
    "ftp://bad.example", "http://good.example@bad.example/", "http://bad.example\\x", "http://bad.example?x",
    "http://%62ad.example/", "http://ｂａｄ.example/", "http://bad。example",
]  # fmt: skip


@pytest.mark.parametrize("url", SPELLINGS)
def test_a_listed_domain_is_found_however_it_is_spelled(url: str) -> None:
    """A blocked site would come in under another spelling of its name."""
    assert blocked("bad.example\n", url) == [True]


@pytest.mark.parametrize(
    "url",
    [
        "http://notbad.example",
        "http://bad.example.org",
        "http://example",
        "http://bad.example@fine.org/",
        "http://x.org/bad.example",
        "http://x.org/?u=http://bad.example",
        "urn:isbn:1",
        "",
        None,
        "not a url",
        "http://",
        "http://[::1]/",
        "http://b%00ad.example/",
        "://",
        "http://" + "ü." * 5000 + "bad.example",
    ],
)
def test_what_is_not_in_the_list_passes(url: str | None) -> None:
    """Documents of others, or without a URL, would be lost."""
    assert blocked("bad.example\n", url) == [False]


def test_names_beyond_ascii_are_one_with_their_punycode() -> None:
    """A list in one spelling would miss pages in the other."""
    urls = [
        "http://bücher.example",
        "http://B%C3%9CCHER.example/",
        "http://xn--bcher-kva.example",
        "http://XN--BCHER-KVA.example.",
    ]
    assert blocked("bücher.example", *urls) == [True] * 4
    assert blocked("xn--bcher-kva.example", *urls) == [True] * 4


def test_a_listed_url_covers_the_paths_below_it() -> None:
    """A list of pages would block whole sites, or nothing."""
    data = "site.example/Foo/\nsite.example/q?id=3\nport.example:8080\numl.example/%C3%BC\n/adult\n"
    urls = {
        "http://site.example/foo": True, "http://www.site.example/foo/bar?x": True, "http://site.example/foo?x": True,
        "http://site.example/foobar": False, "http://site.example/": False, "http://sub.site.example/foo": False,
        "http://site.example/%66oo": True, "http://site.example:81/foo": True, "http://site.example/q?id=3&x=1": True,
        "http://site.example/q?id=34": False, "http://port.example/": False, "http://port.example:8080/x": True,
        "http://uml.example/ü": True, "http://uml.example/%c3%BC": True, "http://any.example/adult/x": True,
        "http://any.example/adults": False, "http://any.example/x/adult": False,
    }  # fmt: skip
    assert dict(zip(urls, blocked(data, *urls), strict=True)) == urls


def test_forms_of_lists_are_found_out() -> None:
    """Users bring lists as they are kept; each would have to be rewritten."""
    urls = ["http://bad.example", "http://x.worse.example/", "http://fine.worse.example", "http://ok.example"]
    hosts = (
        "# hosts\n127.0.0.1 localhost\n::1 ip6-localhost\n0.0.0.0 bad.example # why\n"
        "0.0.0.0\tworse.example www.worse.example\n"
    )
    adblock = (
        "[Adblock Plus 2.0]\n! c\n||bad.example^\n||worse.example^$document\n@@||fine.worse.example^\n"
        "ok.example##.ad\n||ok.example^$script\n/ads/*\n"
    )
    plain = "# plain\r\nBAD.example\r\n*.worse.example # why\r\n\r\n"
    assert blocked(hosts, *urls) == [True, True, True, False]
    assert blocked(adblock, *urls) == [True, True, False, False]
    assert blocked(plain, *urls) == [True, True, True, False]
    assert blocked("||deep.example/x^", "http://a.deep.example/x/y", "http://deep.example/") == [True, False]
    assert blocked("\ufeffbad.example", urls[0]) == [True]
    assert blocked(gzip.compress(plain.encode()), *urls, name="list.txt.gz") == [True, True, True, False]


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("hosts:x", "0.0.0.0 a.example\nbad.example\n", 2),
        ("plain:x", "a.example\n\n0.0.0.0 bad.example\n", 3),
        ("adblock:x", "||a.example^\n0.0.0.0 b.example\n", 2),
        ("x", "a.example\n||b.example^\n", 2),
        ("x", "a.example\nporn\n", 2),
        ("x", "a.example\n<html>\n", 2),
        ("expressions:x", "a\n(?=b)\n", 2),
        ("x", "a.example\n" * 3 + "co.uk\n", 4),
        ("x", "foo.ck\n", 1),
        ("x", "xn--p1ai", 1),
    ],
)
def test_a_list_in_the_wrong_form_stops_before_work(name: str, data: str, line: int) -> None:
    """A list would silently block nothing, or half the web."""
    with pytest.raises(ValueError, match=rf"^x line {line}: "):
        with_list(data, [], name=name)


def test_public_suffixes_may_be_passed_over_or_meant() -> None:
    """A list with one odd line could not be used, and nobody could block a whole top-level domain."""
    urls = ["http://a.co.uk", "http://bad.example", "http://x.www.ck", "http://x.github.io"]
    data = "co.uk\nbad.example\nwww.ck\ngithub.io\n"
    assert blocked(data, *urls, public_suffixes="skip") == [False, True, True, True]
    assert blocked(data, *urls, public_suffixes="block") == [True, True, True, True]
    assert blocked("www.com", "http://www.com/x", "http://a.com") == [True, False]
    assert blocked("bad.example\nexample.co.uk", "http://co.uk", "http://example.co.uk", "http://s.example.co.uk") == [
        False, True, True,
    ]  # fmt: skip


def test_categories_are_the_folders_of_the_list() -> None:
    """Nobody could tell for which list a document went, or take only some of a large collection."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in (
            ("b/adult/domains", "bad.example"),
            ("b/adult/expressions", "(sex|xx)[0-9]+"),
            ("b/games/urls", "x.example/play"),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    urls = ["http://bad.example", "http://y.example/SEX12", "http://x.example/play/1", "http://x.example"]
    name = "b.tar.gz"
    assert reasons(with_list(packed.getvalue(), urls, name)) == [
        (0, "blocked_domain"),
        (1, "blocked_url"),
        (2, "blocked_url"),
    ]
    assert with_list(packed.getvalue(), urls, name).counts == {"category_adult": 2, "category_games": 1}
    tagged = with_list(packed.getvalue(), urls, name, mode="tag", categories=("games",))
    assert tagged.batch.column("url_category").to_pylist() == [None, None, "games", None]
    with pytest.raises(ValueError, match="there are adult"):
        with_list(packed.getvalue(), urls, name, categories=("game", "adult"))


def test_allow_lists_win_and_curated_sources_have_their_own_reason() -> None:
    """A site could not be saved from a list of others; sites taken from elsewhere would look blocked."""
    stage = Url(blocklists=("b",), allowlists=("a",), curated=("builtin",), words_anywhere=("w",), words=())
    files = {"blocklists/0/b": b"bad.example", "allowlists/0/a": b"good.bad.example\nok.example/news\n"}
    files |= {"curated/0/url_curated.txt": (DATA / "url_curated.txt").read_bytes(), "words_anywhere/0": b"porn"}
    urls = [
        "http://good.bad.example/porn",
        "http://bad.example",
        "http://de.wikipedia.org/wiki/Porn",
        "http://ok.example/news/porn",
        "http://ok.example/porn",
    ]
    assert reasons(stage.bind(files)(batch([None] * 5, url=urls))) == [
        (1, "blocked_domain"), (2, "curated_source"), (4, "blocked_word"),
    ]  # fmt: skip


def test_words_are_whole_and_soft_ones_need_company() -> None:
    """`essex.ac.uk` and `/sex-education` would be lost, or nothing be found."""
    process = words_of(words="porn\n成人\nПорно", soft_words="sex\ncam\ngirl", words_anywhere="livesex")
    urls = {
        "http://x.example/porn-1.html": True, "http://x.example/PORN": True, "http://x.example/p%6Frn": True,
        "http://popcorn.example/": False, "http://essex.example/": False, "http://x.example/sex/sex": False,
        "http://sex.example/cam": True, "http://mylivesexy.example": True, "http://x.example/%E6%88%90%E4%BA%BAx": True,
        "http://x.example/大成人电": True, "http://x.example/%d0%9f%d0%9e%D0%A0%D0%9D%D0%9E": True,
        "http://x.example/porn123": True, "http://x.example/pornö": False,
    }  # fmt: skip
    assert dict(zip(urls, condemned(process, *urls), strict=True)) == urls


def test_the_built_in_words_spare_ordinary_addresses() -> None:
    """The default would cost pages of towns, schools and news."""
    process = bound(Url())
    urls = [
        "https://www.essex.ac.uk/",
        "https://www.pornichet.fr/",
        "https://x.example/sex-education",
        "https://x.example/cockpit-analysis",
        "https://x.example/hot-dogs",
        "https://x.example/xxx-volume",
        "https://scunthorpe.example/",
        "https://dickens.example/tits-and-finches",
    ]
    assert condemned(process, *urls) == [False] * len(urls)
    assert condemned(process, "https://x.example/free-porn", "https://hot-sexy-girls.example") == [True, True]


def test_settings_that_cannot_be_are_refused() -> None:
    """A slip in the recipe would show only after hours, or never."""
    with pytest.raises(ValueError, match="categories"):
        Url(categories=("adult",))
    with pytest.raises(ValueError, match="names no file"):
        Url(blocklists=("hosts:",))
    assert Url(blocklists=("hosts:lists/a",)).files()["blocklists/0/"] == "lists/a"
    for empty in ("", "# nothing\n", "||bad.example^$script\nbad.example##.ad\n"):
        with pytest.raises(ValueError, match=r"list\.txt has no entry"):
            with_list(empty, [])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        with_list(b"\x1f\x8bbroken", [])
    assert make(Url, {"blocklists": ["a"]}) == Url(blocklists=("a",))


def test_a_list_may_be_a_folder(tmp_path: Path) -> None:
    """UT1 and its like come as folders; a changed file in one must change the resume key."""
    (tmp_path / "lists" / "adult").mkdir(parents=True)
    (tmp_path / "lists" / "adult" / "domains").write_text("bad.example\n")
    (tmp_path / "lists" / "adult" / "usage").write_text("for people\n")
    stage = Url(blocklists=("lists",), words=())
    files = load(stage.files(), tmp_path)
    assert set(files) == {"blocklists/0/adult/domains", "blocklists/0/adult/usage"}
    tagged = stage.bind(files)(batch([None], url=["http://bad.example"]))
    assert tagged.counts == {"category_adult": 1}
    before = digests(stage.files(), tmp_path)
    (tmp_path / "lists" / "adult" / "domains").write_text("worse.example\n")
    assert digests(stage.files(), tmp_path) != before
    (tmp_path / "empty").mkdir()
    for path in ("empty", "none"):
        with pytest.raises(RecipeError, match=path):
            load({"blocklists/0/": path}, tmp_path)


ENTRIES = [
    "bad.example",
    "a.b.bad2.example",
    "x.example/p",
    "x.example/p/q?r",
    "y.example:81/z",
    "y.example:81",
    "/root/%41",
    "ü.example/é",
]
PIECES = st.one_of(
    st.sampled_from(
        [
            "http://",
            "https://",
            "//",
            "www.",
            "WWW.",
            "bad.example",
            "BAD",
            ".example",
            "a.b.bad2.example",
            "x.example",
            "y.example",
            ":81",
            ":80",
            ":0081",
            "/p",
            "/P",
            "/q",
            "?r",
            "/",
            "#",
            "\\",
            "@",
            "user:pw@",
            ".",
            "%70",
            "%2F",
            "%C3%A9",
            "é",
            "ü.example",
            "xn--tda.example",
            "/root",
            "/a",
            "&",
            ";",
            " ",
            "\t",
            "\x00",
            "[",
            "]",
            ":",
            "%",
            "%4",
            "z",
            "/z",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
)


LISTED = Url(blocklists=("x",), words=()).bind({"blocklists/0/x": "\n".join(ENTRIES).encode()})


def reference(url: str) -> set[str]:
    """What the entries say of a URL, in plain Python."""
    host, port, path = split(url)
    if not host:
        return set()
    said = set()
    for entry in ENTRIES:
        listed, listed_port, rest = split("h.example" + entry if entry.startswith("/") else entry)
        if not rest and not listed_port:
            if host == listed or host.endswith("." + listed):
                said.add("blocked_domain")
        elif (listed == host or entry.startswith("/")) and listed_port in ("", port):
            whole = path if path.startswith("/") or not path else "/" + path
            if whole.startswith(rest) and (whole[len(rest) :][:1] in ("", "/", "?", "&", ";")):
                said.add("blocked_url")
    return said


@settings(max_examples=400)
@given(st.lists(st.lists(PIECES, max_size=7).map("".join), min_size=1, max_size=4))
def test_the_kernels_read_urls_as_plain_python_does(urls: list[str]) -> None:
    """A URL would be read one way in a list and another way in a page."""
    outcome = LISTED(batch([None] * len(urls), url=urls))
    found: list[set[str]] = [set() for _ in urls]
    for row, reason in reasons(outcome):
        found[row].add(reason)
    for url, one in zip(urls, found, strict=True):
        wanted = reference(url)
        assert one == (wanted & {"blocked_domain"} or wanted), url


@given(
    st.lists(st.text("abсд成人", min_size=1, max_size=4), max_size=5),
    st.lists(st.text("abсд成人", min_size=1, max_size=4), max_size=5),
    st.lists(st.sampled_from([*"abсд成人AB-1", "%61", "%E6%88%90", "%e4%ba%ba", "%"]), max_size=14).map("".join),
)
def test_the_automaton_finds_what_looking_for_each_word_finds(words: list[str], anywhere: list[str], url: str) -> None:
    """Words that lie inside of others, or overlap, would be missed."""
    process = words_of(words="\n".join(words), words_anywhere="\n".join(anywhere))
    plain = split("h.example/" + url)[2].encode("latin-1").decode("utf-8", "replace")
    wanted = False
    for word in words:
        inside = is_spaceless(word)
        wanted |= word in plain if inside else re.search(rf"(?<![^\W\d_]){word}(?![^\W\d_])", plain) is not None
    wanted |= any(word in plain for word in anywhere)
    assert all(fold(word) == word for word in words + anywhere)
    assert condemned(process, "http://h.x/" + url) == [wanted]


def test_no_words_no_automaton() -> None:
    """Empty lists would cost time, or a crash."""
    assert automaton([], [""], []) is None
    assert condemned(Url(words=()).bind({}), "http://porn.example") == [False]
