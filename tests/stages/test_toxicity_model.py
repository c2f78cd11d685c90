"""The shipped toxicity model: what it finds, where it says it is, and what is cut."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from stage_helpers import DATA, SHARED, batch, bound, needs_shared, reasons, texts

from pipeline.train_classifier.figures import at, auc
from pipeline.train_toxicity.clean import clean
from pipeline.train_toxicity.posts import posts
from stages.base import Outcome
from stages.classifier.model import ONE, load
from stages.registry import make
from stages.toxicity_model import ToxicityModel

RUDE = (
    "Shut up you stupid bitch, you are a worthless piece of shit and everybody hates you, you dumb cunt, so go to hell "
    "and stay there.\n"
)
CALM = (
    "We went home after the concert, had supper with our old neighbours and read a long book until we fell asleep on "
    "the sofa.\n"
)
CALM_2 = (
    "The committee will meet again in March to discuss the budget for schools and the repair of the two bridges in the "
    "old town.\n"
)


def run(rows: list[str | None], **fields: Any) -> Outcome:
    return bound(ToxicityModel(**fields))(batch(rows))


@pytest.mark.parametrize(
    ("text", "toxic"),
    [
        (RUDE, True),
        ("you are a fucking idiot", True),
        ("f\u200bu\u00adck you, as\u200bshole", True),
        ("你就是个傻逼，滚出去", True),
        ("Du bist ein dreckiges Arschloch", True),
        (CALM, False),
        ("The cockpit of the Scunthorpe aircraft was assembled in Essex by an assistant.", False),
        ("My gay Muslim neighbour is a transgender teacher from Nigeria.", False),
        ("今天天气很好，我们去公园散步吧。", False),
        ("def kill(process): os.kill(process.pid, 9)  # master, slave, dummy", False),
        ("", False),
        ("!", False),
        ("a" * 5000, False),
    ],
)
def test_verdicts(text: str, toxic: bool) -> None:
    """Insults would stay, or ordinary text go."""
    assert reasons(run([text])) == ([(0, "toxic")] if toxic else [])


def test_paragraphs_and_causes_are_counted_in_characters() -> None:
    """The spans would point beside the words (dolma mixes characters and bytes on text that is not English)."""
    text = "“Größe” — 你好 👋🏽 " * 9 + "\n" + CALM + RUDE + CALM_2
    outcome = run(["", text], mode="tag")
    score, paragraphs = (outcome.batch.column(name)[1].as_py() for name in ("toxicity_score", "toxicity_paragraphs"))
    (one,) = paragraphs
    assert text[one["start"] : one["end"]] == RUDE
    assert score == one["score"] > 0.9
    named = [text[cause["start"] : cause["end"]] for cause in one["causes"]]
    assert 1 <= len(named) <= 3
    assert any(word in "".join(named) for word in ("bitch", "shit", "cunt"))


def test_length_neither_hides_nor_makes_toxicity() -> None:
    """A page of insults would pass behind a long menu; a book would go for one line."""
    outcome = run([RUDE * 50, RUDE + CALM * 40, RUDE * 12 + CALM * 40, CALM * 5000])
    assert [row for row, _ in reasons(outcome)] == [0, 2]
    worst = run([RUDE + CALM * 40], share=0.0)
    assert reasons(worst) == [(0, "toxic")]


def test_cutting_leaves_the_rest_as_it_was() -> None:
    """Calm paragraphs would be lost or changed, or the cut not be accounted for."""
    outcome = run([CALM + RUDE + CALM_2, CALM, RUDE * 2, None], mode="cut")
    assert texts(outcome) == [CALM + CALM_2, CALM]
    assert reasons(outcome) == [(2, "toxic"), (3, "no_text")]
    assert outcome.counts["characters_cut"] == 3 * len(RUDE)
    assert outcome.counts["toxic_paragraphs"] == 3
    calm = batch([CALM])
    assert bound(ToxicityModel(mode="cut"))(calm).batch.column("text") is not None
    assert bound(ToxicityModel(mode="cut"))(calm).batch.column("text").buffers()[2] == calm.column("text").buffers()[2]


def test_a_short_insult_takes_no_clean_line_along() -> None:
    """What is judged together would go together: a paragraph of an article for the comment above it."""
    insult = "you fucking idiot, you are a stupid bitch and a whore\n"
    outcome = run([CALM + insult + "\n" + CALM_2, insult + insult, insult[:10] + "\n" + insult[10:]], mode="cut")
    assert texts(outcome)[0] == CALM + "\n" + CALM_2
    tagged = run([CALM + insult + "\n" + CALM_2], mode="tag").batch.column("toxicity_paragraphs")[0].as_py()
    assert [(one["start"], one["end"]) for one in tagged] == [(len(CALM), len(CALM + insult))]
    assert all(len(CALM) <= cause["start"] < cause["end"] <= len(CALM + insult) for cause in tagged[0]["causes"])
    assert [row for row, _ in reasons(outcome)] == [1, 2]


def test_lines_that_are_toxic_only_together_go_together() -> None:
    """They would end the run, or stay."""
    together = (
        "puts the bloody kybosh on it if old sloppy eyes is mucking up the show.\n"
        "Give us a bloody chance. God save Ireland from the likes of that bloody\n"
    )
    assert not any(run([line], mode="tag").counts.get("toxic_paragraphs") for line in together.splitlines())
    (one,) = run([together], mode="tag").batch.column("toxicity_paragraphs")[0].as_py()
    assert (one["start"], one["end"]) == (0, len(together))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*RUDE.split(), *CALM.split(), "\n", "\n", "\n\n", "你就是个傻逼", "👋🏽"]), max_size=60)
)
def test_what_is_cut_is_what_is_tagged(words: list[str]) -> None:
    """A document would lose what no column tells of, or a line that is broken in an odd place end the run."""
    text = " ".join(words)
    tagged = run([text], mode="tag").batch.column("toxicity_paragraphs")[0].as_py()
    spans = [(one["start"], one["end"]) for one in tagged]
    assert spans == sorted(spans)
    assert all(a < b <= c for (a, b), (c, _) in itertools.pairwise([*spans, (len(text), 0)]))
    for one in tagged:
        assert all(one["start"] <= cause["start"] < cause["end"] <= one["end"] for cause in one["causes"])
    kept = "".join(text[b:a] for (_, b), (a, _) in itertools.pairwise([(0, 0), *spans, (len(text), 0)]))
    assert texts(run([text], mode="cut")) == ([kept] if kept or not spans else [])


def test_the_limit_is_the_model_s_or_the_user_s() -> None:
    """A threshold in the recipe would be ignored, or the file of the run would not say which one was used."""
    advised = load((DATA / "toxicity.npz").read_bytes(), "toxicity.npz").threshold / 10_000
    assert run([RUDE]).dropped[0][3] == advised
    (row, reason, value, limit) = run([RUDE], max_score=0.95).dropped[0]
    assert (row, reason, limit) == (0, "toxic", 0.95)
    assert value is not None
    assert value > 0.95
    assert not run(["You are an idiot"], max_score=0.9999).dropped
    with pytest.raises(ValidationError):
        make(ToxicityModel, {"max_score": 0})


def test_a_file_that_is_no_toxicity_model_stops_the_run() -> None:
    """A topic model would be taken for one of toxicity."""
    stage = ToxicityModel(model="mine.npz")
    with pytest.raises(ValueError, match=r"'mine\.npz' is no model"):
        stage.bind({"model": b"something"})


@needs_shared
def test_it_keeps_what_its_card_promises() -> None:
    """A model trained anew would find less, or flag clean text, and nobody would notice."""
    comments = [post for post in posts(SHARED) if post.name == "surge"]
    process = bound(ToxicityModel(mode="tag"))
    scores = process(batch([post.text for post in comments])).batch.column("toxicity_score").to_numpy()
    truth = np.array([post.toxic for post in comments])
    limit = load((DATA / "toxicity.npz").read_bytes(), "toxicity.npz").threshold
    scores = np.rint(scores.astype(np.float64) * ONE).astype(np.int32)
    assert auc(scores, truth) >= 0.84
    found = at(scores, truth, limit)
    assert found["recall"] is not None
    assert found["recall"] >= 0.35
    held_out = [
        text.text[:2500] for text in clean(SHARED) if text.part == "test" and text.kind in ("encyclopedia", "books")
    ]
    assert len(held_out) > 1000
    assert len(run([*held_out]).dropped) <= 0.005 * len(held_out)
