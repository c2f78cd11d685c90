"""What is counted of a page's blocks, against rules written out in plain Python."""

from __future__ import annotations

import unicodedata

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from stages.extract.blocks import Blocks, read
from stages.extract.said import PAGE_WORDS
from stages.extract.scan import TAGS, canonical, scan
from stages.extract.tokens import COUNTS, tokens, word_hash

SPACELESS = (("\u0e00", "\u0eff"), ("\u1000", "\u109f"), ("\u1780", "\u17ff"), ("\u3040", "\u30ff"),
             ("\u3400", "\u9fff"), ("\uf900", "\ufaff"))  # fmt: skip


def blocks(html: str) -> Blocks:
    return read(scan(canonical(html)))


def table(found: Blocks) -> list[dict[str, int]]:
    """The counts of each block by their names."""
    return [dict(zip(COUNTS, map(int, row), strict=True)) for row in found.counts]


def small(character: str) -> str:
    """Lower case where that is one character of the basic plane, else the character itself."""
    lower = character.lower()
    return lower if len(lower) == 1 and lower < "\U00010000" else character


def words(text: str) -> list[str]:
    """The tokens of a text: runs of letters, marks and digits, or single characters of scripts without blanks."""
    found: list[str] = []
    inside = False
    for character in text:
        category = unicodedata.category(character)[0]
        spaceless = any(first <= character <= last for first, last in SPACELESS) and category in "LM"
        if "\U00020000" <= character < "\U00040000" or spaceless:
            found.append(character)
            inside = False
        elif character < "\U00010000" and category in "LMN":
            found[len(found) - inside :] = [(found[-1] if inside else "") + small(character)]
            inside = True
        else:
            inside = False
    return found


def hashed(word: str) -> int:
    value = 2166136261
    for character in word:
        value = ((value ^ ord(character)) * 16777619) & 0xFFFFFFFF
    return value


@given(st.text(max_size=60) | st.text(alphabet="aÄ1 .,'-中。\u0e01\u0e34한\U00020000𝒜İΣ\u0301\ud800", max_size=60))
@example("Zwei Wörter, 3,5 km: 今天 ไทย 한국어 naïve İstanbul")
def test_tokens_are_words_or_single_characters(text: str) -> None:
    """Chinese or Thai would be one endless word each line, and every share of words, links and titles meaningless."""
    readable = text.encode("utf-8", "replace").decode()  # as a page is before it is scanned
    assert tokens(text).tolist() == [hashed(word) for word in words(readable)]


@given(st.lists(st.sampled_from(("&", "<", ">", "a", "B2", " ", "\u00a0", "。", "中", '"', ";", "nbsp")), max_size=20))
def test_tokens_of_a_page_are_those_of_its_text(parts: list[str]) -> None:
    """Entities would become words: `lt`, `amp` and `nbsp` all over the page."""
    text = "".join(parts)
    html = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    found = blocks(f"<p>{html}</p>")
    assert found.token.tolist() == tokens(text).tolist()
    assert found.counts[:, COUNTS.index("tokens")].sum() == len(found.token)


def test_what_a_block_is_counted_by() -> None:
    """The model would judge blocks by figures of other blocks, or by none."""
    first, second, third = table(
        blocks(
            "<p>One <a href=/x>two Three</a>, <b>four</b> <code>x = 5</code>.<img src=i> 1,000!<br>Go</p>"
            "<pre>a b</pre><li>中文，字。</li>"
        )
    )
    assert {name: value for name, value in first.items() if value and name != "digest"} == {
        "tokens": 9, "linked": 2, "characters": 28, "capitalised": 3, "numbers": 3, "stops": 2, "commas": 2,
        "symbols": 1, "stressed": 1, "images": 1, "breaks": 1, "coded": 2, "links": 1, "capital": 1, "trigrams": 7,
    }  # fmt: skip
    assert (second["tokens"], second["coded"], second["capital"], second["ends"]) == (2, 2, 0, 0)
    assert (third["tokens"], third["stops"], third["commas"], third["ends"]) == (3, 1, 1, 1)


def test_what_the_page_says_of_itself_is_counted_where_it_stands() -> None:
    """An article could not be told from its teasers by the description that its publisher wrote."""
    found = blocks(
        "<head><title>Fox &amp; dog</title><meta name=description content='The quick brown fox jumps'>"
        "<meta property=og:type content=article>"
        '<script type="application/ld+json">{"@type": "NewsArticle", "text": "over the lazy d\\u006fg"}</script></head>'
        "<body><p>A quick brown fox jumps.<p>Over the lazy dog<p>Something else"
    )
    rows = table(found)
    assert [row["described"] for row in rows] == [2, 2, 0]
    assert [row["trigrams"] for row in rows] == [3, 2, 0]
    assert [row["titled"] for row in rows] == [1, 1, 0]
    assert {word for word, count in zip(PAGE_WORDS, found.page, strict=True) if count} == {"article", "newsarticle"}


def test_equal_texts_have_one_digest_whatever_their_markup() -> None:
    """A text that stands twice, for narrow and for wide screens, would be in the corpus twice."""
    rows = table(blocks("<p>Same <b>words</b> here</p><div><span>same words, HERE</span></div><p>other words here"))
    assert rows[0]["digest"] == rows[1]["digest"] != rows[2]["digest"]


def test_elements_know_their_blocks_their_parents_and_their_words() -> None:
    """The features that look at a block's surroundings would look elsewhere."""
    found = blocks(
        "<body><nav class='siteMenu-2 top'><a>Home</a></nav><article id=main hidden><p>One<p><b>Two</b></article>"
    )
    names = [TAGS[tag] for tag in found.tag]
    assert names == ["html", "head", "body", "nav", "a", "article", "p", "p", "b"]
    assert [names[parent] if parent >= 0 else None for parent in found.parent] == [
        None, "html", "html", "body", "nav", "body", "article", "article", "p",
    ]  # fmt: skip
    assert [names[e] for e in found.element] == ["nav", "p", "p"]
    spans = {name: (first, last) for name, first, last in zip(names, found.first, found.last, strict=True)}
    assert (spans["body"], spans["nav"], spans["article"], spans["b"]) == ((0, 3), (0, 1), (1, 3), (2, 3))
    assert [name for name, hidden in zip(names, found.hidden, strict=True) if hidden] == ["article", "p", "p", "b"]
    sizes = dict(zip(names, np.diff(found.word_start), strict=True))
    assert (sizes["nav"], sizes["article"], sizes["a"]) == (3 + 1 + 1, 1 + 1, 1)  # site, menu, sitemenu-, top; the tag


def test_words_of_attributes_have_room_however_many_they_are() -> None:
    """A page full of camelCase names would write beyond the memory that its words were given."""
    name = " ".join(["aaBb"] * 8)
    found = blocks(f"<p id='{name}'>x</p>" * 200)
    assert found.word_start[-1] == len(found.word)
    sizes = np.diff(found.word_start)
    assert (sizes[found.tag == TAGS.index("p")] == 25).all()


@given(
    st.lists(
        st.sampled_from(
            "<p> <div> </div> <a> </a> <b> <ul> <li> </ul> <pre> </pre> <br> <br><br> <table> <td> </table> <svg> "
            "<?pi?> <!--c--> <script>x</script> text 中文 &amp; </p> <h1> </body> <template> <img>".split()
        ),
        max_size=40,
    ).map(" ".join)
)
def test_the_arrays_of_any_page_fit_together(html: str) -> None:
    """A kernel that trusts them would read memory that is not its own, and the run would die or give noise."""
    found = blocks(html)
    size, elements = len(found.counts), len(found.tag)
    assert (np.diff(found.token_block) >= 0).all()
    assert (np.bincount(found.token_block, minlength=size) == found.counts[:, COUNTS.index("tokens")]).all()
    assert (found.parent < np.arange(elements)).all()
    assert (found.depth[1:] == found.depth[found.parent[1:]] + 1).all()
    assert ((found.first <= found.last) & (found.last <= size)).all()
    inside = found.parent[1:]
    assert (found.first[inside] <= found.first[1:]).all()
    assert (found.last[1:] <= found.last[inside]).all()
    for block, element in enumerate(found.element):
        assert found.first[element] <= block < found.last[element]


def test_a_word_has_the_hash_that_tokens_have() -> None:
    """The words of a page's declared type would never be found."""
    assert [word_hash(word) for word in ("Article", "中")] == tokens("article 中").tolist()
