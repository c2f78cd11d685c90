"""What `corpusmill browse` answers, and whom it answers."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape
from pathlib import Path

import duckdb
import pytest
from starlette.testclient import TestClient

from pipeline.errors import UserError
from pipeline.look import labels
from pipeline.look.browse.again import compared, tokens_of
from pipeline.look.browse.document import Library
from pipeline.look.browse.filters import Filter
from pipeline.look.browse.guard import Door
from pipeline.look.browse.rows import Place, Rows
from pipeline.look.browse.server import Browser
from pipeline.look.database import connect
from tests.conftest import Shared
from tests.pipeline.browse_run import ARABIC, CHINESE, DOCUMENTS, SCRIPT, write

HOST = "http://127.0.0.1:8080"
TOKEN = "token"


@pytest.fixture(scope="module")
def folder(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over hostile documents, which the tests of this file may label."""
    made = shared("hostile", write) / "out"
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("server") / "out"))


@pytest.fixture(scope="module")
def library(folder: Path) -> Library:
    return Library.of(folder)


@pytest.fixture
def client(library: Library) -> TestClient:
    """A browser at the address where the server listens."""
    app = Browser(library, Door(8080, TOKEN), "ann").app()
    return TestClient(app, base_url=HOST, raise_server_exceptions=False)


def links(page: str) -> list[str]:
    return [unescape(one) for one in re.findall(r'class="row" href="([^"]*)"', page)]


def test_only_its_own_pages_are_answered(client: TestClient) -> None:
    """A page elsewhere, whose name leads to this machine, would read the corpus or label it."""
    assert client.get("/").status_code == 200
    for host in ("evil.example:8080", "127.0.0.1:9", "127.0.0.1", "", "127.0.0.1:8080.evil.example"):
        assert client.get("/", headers={"host": host}).status_code == 403
    assert client.get("/", headers={"host": "localhost:8080"}).status_code == 200
    other = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    assert client.get("/api/count", headers=other).status_code == 403
    body = {"table": "documents", "place": "0.0", "label": "good"}
    good = {"origin": HOST, "x-corpusmill-token": TOKEN}
    for wrong in ({}, {"origin": "http://evil.example"}, {"x-corpusmill-token": "guess"}, {"origin": "null"}):
        headers = good | wrong if wrong else {}
        assert client.post("/api/label", json=body, headers=headers).status_code == 403
    assert client.post("/api/label", json=body | {"label": "none"}, headers=good).status_code == 200


def test_every_answer_forbids_what_pages_may_not_do(client: TestClient) -> None:
    """A mistake in a page would let a document's script run."""
    for path in ("/", "/document?at=0.0", "/nothing", "/static/browse.js", "/document?at=x", "/api/count?table=x"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in client.get("/", headers={"host": "evil"}).headers["content-security-policy"]


def test_markup_of_documents_is_escaped(client: TestClient, library: Library) -> None:
    """A document's title, URL, text or reason would become part of the page."""
    for query in ("search=needle", "table=dropped&search=javascript"):
        page = client.get(f"/?{query}").text
        (link, *_) = links(page)
        for html in (page, client.get(link).text):
            assert "pwned" in html
            assert "<script>document" not in html
            assert "<img src=x" not in html


def test_pages_walk_through_everything_once(library: Library) -> None:
    """Documents would be shown twice or never, forwards or backwards."""
    rows = library.table("documents")
    for asked in (Filter(), Filter(source="odd"), Filter(search="committee")):
        everything = [row["place"] for row in rows.find(asked, None, 10_000).rows]
        ahead: list[Place] = []
        start: Place | None = None
        while page := rows.find(asked, start, 7).rows:
            ahead += [row["place"] for row in page]
            start = Place(ahead[-1].part, ahead[-1].row + 1)
        back: list[Place] = []
        start = None
        while page := rows.find(asked, start, 7, backwards=True).rows:
            back = [row["place"] for row in page] + back
            start = back[0]
        assert everything == ahead == back
        assert len(everything) == rows.count(asked, 60) > 40


def test_filters_give_what_they_say(library: Library) -> None:
    """A user would draw conclusions from the wrong documents."""

    def texts(**asked: object) -> list[str]:
        rows = library.table("documents")
        return [rows.whole(row["place"])["text"] for row in rows.find(Filter(**asked), None, 500).rows]  # type: ignore[arg-type]

    known = library.columns
    assert len(texts()) == DOCUMENTS + 4
    assert texts(host="zh.example") == [CHINESE]
    assert texts(search="停火") == [CHINESE]
    assert texts(search="ميزانية") == [ARABIC]
    assert texts(search="NEEDLE in") == [f"{SCRIPT} needle in a text"]
    assert texts(search="' OR true --") == []
    assert texts(search="c.mmittee") == []
    assert texts(search=SCRIPT[:40]) == [f"{SCRIPT} needle in a text"]
    assert len(texts(search=".\nand 0 more.")) == 1
    short = Filter.of([("column", "characters"), ("low", ""), ("high", str(len(CHINESE)))], known)
    assert [len(text) for text in texts(ranges=short.ranges)] == [len(CHINESE)]
    assert all("word5 " in text for text in texts(ranges=Filter.of([("column", "cluster_size"), ("low", "2"), ("high", "")], known).ranges))  # fmt: skip  # noqa: E501
    dropped = library.table("dropped")
    assert len(dropped.find(Filter(table="dropped", reason="dedup.near_duplicate"), None, 9).rows) == 1


def test_what_fits_on_a_page_is_not_counted_again(client: TestClient) -> None:
    """Millions of rows would be searched twice for a few of them, or a page say that there are no more."""
    for query, known in {"host=zh.example": "1", "host=no.example": "0", "": "", "search=committee": ""}.items():
        assert f'data-known="{known}"' in client.get(f"/?{query}").text
    (first, *_) = links(client.get("/?host=zh.example").text)
    place = first.partition("at=")[2]
    assert 'data-known=""' in client.get(f"/?host=zh.example&at={place}").text


def test_unknown_is_a_name_as_well_as_none_at_all() -> None:
    """Documents of a source that somebody called `unknown` could not be looked at."""
    (condition,), values = Filter(source="unknown").conditions({}, False)
    query = f"SELECT count(*) FROM (VALUES ('unknown'), (NULL), ('odd')) AS rows(source) WHERE {condition}"
    assert duckdb.execute(query, values).fetchall() == [(2,)]


def test_a_filter_survives_the_address_bar(library: Library) -> None:
    """A link that is sent to a colleague would show other documents."""
    given = (
        "search=a+%26+b&source=odd&column=characters&low=10&high=&column=cluster_size&low=1&high=2&sample=9&by=source"
    )
    from urllib.parse import parse_qsl

    asked = Filter.of(parse_qsl(given, keep_blank_values=True), library.columns)
    assert asked.search == "a & b"
    assert len(asked.ranges) == 2
    assert Filter.of(parse_qsl(asked.query(), keep_blank_values=True), library.columns) == asked


def test_mistakes_in_addresses_get_messages(client: TestClient) -> None:
    """A mistyped address would end in a traceback, or in a list that ignores it."""
    for path, words in {
        "/?table=documnts": "Did you mean &#39;documents&#39;",
        "/?column=charcters&low=1&high=2": "Did you mean &#39;characters&#39;",
        "/?column=characters&low=x&high=": "needs a number",
        "/?at=nowhere": "a place is FILE.ROW",
        "/?sample=1e9": "give a number",
        "/?label=great": "no such label",
        "/document?at=0.999999": "has no row",
        "/document?at=99.0": "there is no file 99",
        "/document": "a place is FILE.ROW",
        "/document?sample=3&at=77": "the sample has 3 documents",
        "/id/xyz": "32 hex digits",
        f"/id/{'0' * 32}": "has the id",
        "/nothing": "Not Found",
    }.items():
        answer = client.get(path)
        assert answer.status_code in (400, 404), path
        assert words in answer.text, path
        assert "Traceback" not in answer.text


def test_a_sample_is_the_same_each_time_and_by_stratum(library: Library, folder: Path) -> None:
    """Two reviewers would not judge the same documents, or a small source would not be judged at all."""
    asked = Filter(sample=5, by="source")
    first = library.table("documents").sample(asked)
    assert Library.of(folder).table("documents").sample(asked) == first
    assert len(library.table("documents").sample(Filter(sample=7))) == 7
    sources = [row["source"] for row in library.table("documents").at(first)]
    assert sorted(sources) == ["even"] * 5 + ["odd"] * 5
    assert sources != sorted(sources)


def test_labels_are_stored_and_found(client: TestClient, folder: Path, library: Library) -> None:
    """A reviewer's work would be lost, or name the wrong text."""
    (shown, *_) = links(client.get("/?search=needle").text)
    place = shown.partition("at=")[2]
    headers = {"origin": HOST, "x-corpusmill-token": TOKEN}
    body = {"table": "documents", "place": place, "label": "bad", "why": f"spam {SCRIPT}"}
    half = client.post("/api/label", content=json.dumps(body | {"why": "\ud800"}), headers=headers)
    assert (half.status_code, labels.read(folder)) == (400, {})
    answer = client.post("/api/label", json=body, headers=headers)
    assert answer.json()["labelled"] == 1
    (label,) = labels.read(folder).values()
    assert (label.label, label.by, label.digest) == ("bad", "ann", labels.digest(f"{SCRIPT} needle in a text"))
    assert links(client.get("/?label=bad").text) == [f"/document?label=bad&at={place}"]
    assert len(library.table("documents").find(Filter(label="none"), None, 500).rows) == DOCUMENTS + 3
    assert "<script>document" not in client.get(shown).text
    with connect(folder) as database:
        query = "SELECT label, reviewer FROM labels JOIN documents USING (id)"
        assert database.execute(query).fetchall() == [("bad", "ann")]
    for wrong in (b"{", b"[]", b'{"table": "documents", "place": "0.0", "label": "great"}', b"x" * 99_999):
        assert client.post("/api/label", content=wrong, headers=headers).status_code == 400
    client.post("/api/label", json=body | {"label": "none"}, headers=headers)
    assert labels.read(folder) == {}


def test_a_dropped_record_is_extracted_again(client: TestClient, library: Library) -> None:
    """A user could not see what a rule dropped, or why."""
    (row,) = library.table("dropped").find(Filter(table="dropped", search="javascript"), None, 2).rows
    found = client.get(f"/api/record?table=dropped&place={row['place']}").json()
    assert found["raw"] == f"REFUSED {SCRIPT}"
    assert found["text"] == found["raw"]
    assert (found["dropped"]["stage"], found["dropped"]["value"], found["dropped"]["limit"]) == ("hostile", 3.0, 2.0)
    pieces = client.get(f"/api/tokens?table=dropped&place={row['place']}").json()["pieces"]
    assert "".join(text for text, _ in pieces) == found["text"]


def test_duplicates_show_their_differences(client: TestClient, library: Library) -> None:
    """A user could not judge whether near duplicates are ones."""
    (row,) = library.table("dropped").find(Filter(table="dropped", reason="dedup.near_duplicate"), None, 2).rows
    mine = client.get(f"/api/duplicates?id={row['id'].hex()}").json()
    survivor = mine["lost"][0]["survivor"]
    theirs = client.get(f"/api/duplicates?id={survivor}").json()
    assert [one["loser"] for one in theirs["won"]] == [row["id"].hex()]
    found = client.get(f"/api/difference?id={row['id'].hex()}&other={survivor}").json()
    changed = {text.strip() for kind, text in found if kind in ("gone", "came")}
    assert changed == {"word199", "other"}


@pytest.mark.parametrize("text", [CHINESE, ARABIC, "a  b\n\n c ▁ é e\u0301 👩‍🚀 ", "<0x0A></s>", "x"], ids=str.__len__)
def test_tokens_follow_each_other(library: Library, text: str) -> None:
    """Tokens would be shown beside the wrong text, in scripts without spaces or with characters of several tokens."""
    found = tokens_of(library._model, text)
    assert "".join(piece for piece, _ in found["pieces"]) == text
    assert sum(len(ids) for _, ids in found["pieces"]) == found["total"]


@pytest.mark.parametrize(
    ("old", "new"), [("", "a"), ("a b\nc d\n", "a b\nc e\nf"), (CHINESE, CHINESE[:9] + CHINESE[11:])]
)
def test_both_texts_can_be_read_from_their_differences(old: str, new: str) -> None:
    """What is marked as a difference would not be one."""
    found = compared(old, new)
    assert "".join(one.text for one in found if one.kind != "came") == old
    assert "".join(one.text for one in found if one.kind != "gone") == new
    assert sum(len(one.text) for one in found if one.kind != "same") < max(4, len(old))


def test_a_search_that_takes_long_says_where_it_stopped(
    library: Library, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search through ten million texts would keep a user waiting, or end as if there were nothing."""
    rows = library.table("documents")
    monkeypatch.setattr("pipeline.look.browse.rows.SECONDS", 0.0)
    monkeypatch.setattr(Rows, "_chunks", lambda self, place, size, backwards, even: iter([(0, 1), (1, 2)]))
    page = rows.find(Filter(search="in no text"), None, 5, seconds=0.0)
    assert page.rows == []
    assert page.stopped == Place(1, 0)
    assert rows.find(Filter(search="in no text"), page.stopped, 5, seconds=60).stopped is None


def test_damage_is_a_message(folder: Path, tmp_path: Path) -> None:
    """A damaged part would end in a traceback."""
    copy = Path(shutil.copytree(folder, tmp_path / "out"))
    library = Library.of(copy)
    app = Browser(library, Door(8080, TOKEN), "ann").app()
    client = TestClient(app, base_url=HOST, raise_server_exceptions=False)
    (copy / "labels").mkdir(exist_ok=True)
    (copy / labels.NAME).write_text("no label\n")
    assert "this is no label" in client.get("/").text
    (copy / labels.NAME).unlink()
    part = max(library.table("documents").files, key=lambda path: path.stat().st_size)
    data = bytearray(part.read_bytes())
    data[100:-2_000] = bytes(len(data) - 2_100)
    part.write_bytes(data)
    answer = client.get("/?search=committee")
    assert answer.status_code == 500
    assert "corpusmill verify" in answer.text
    part.unlink()
    assert "corpusmill verify" in client.get("/?source=odd").text


def test_a_folder_without_documents_is_refused(tmp_path: Path) -> None:
    """An empty page would come up for a wrong path."""
    with pytest.raises(UserError):
        Library.of(tmp_path)
    facts = {
        "dtype": "uint16",
        "vocabulary": 9,
        "boundary": "eot-last",
        "layout": "mixed",
        "tokenizer": {"special": {}},
    }
    (tmp_path / "corpus.json").write_text(
        json.dumps({"format": "corpusmill-corpus", "format_version": 1, "splits": {}} | facts)
    )
    with pytest.raises(UserError, match="nothing to browse"):
        Library.of(tmp_path)
