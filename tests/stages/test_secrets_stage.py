"""Keys and tokens go out of the text; what stands in for them in manuals stays."""

from __future__ import annotations

import base64
import random
import string

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from stage_helpers import batch, reasons, texts

from stages.secrets import Secrets
from stages.secrets.entropy import is_random
from stages.secrets.patterns import KINDS, NAMES

RNG = random.Random(5)
ALNUM = string.ascii_letters + string.digits


def drawn(number: int, letters: str = ALNUM) -> str:
    """That many letters by chance; never written down here, so that no scanner takes this file for a leak."""
    return "".join(RNG.choice(letters) for _ in range(number))


def jwt() -> str:
    """A signed token's form."""
    parts = (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"77","name":"Li"}', RNG.randbytes(32))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


HEX = "0123456789abcdef"
PEM = "-----BEGIN {0}PRIVATE KEY-----\n{1}-----END {0}PRIVATE KEY-----"


def pem(kind: str = "RSA ", headers: str = "") -> str:
    """A private key block."""
    return PEM.format(kind, headers + "".join(drawn(64, ALNUM + "+/") + "\n" for _ in range(12)))


SAMPLES = {
    "aws_key": lambda: "AKIA" + drawn(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
    "aws_secret": lambda: "aws_secret_access_key = " + drawn(40, ALNUM + "/+"),
    "google_key": lambda: "AIza" + drawn(35),
    "google_oauth": lambda: "GOCSPX-" + drawn(28),
    "github_token": lambda: "ghp_" + drawn(36),
    "gitlab_token": lambda: "glpat-" + drawn(20),
    "slack_token": lambda: f"xoxb-{drawn(12, string.digits)}-{drawn(12, string.digits)}-{drawn(24)}",
    "slack_webhook": lambda: (
        f"https://hooks.slack.com/services/T{drawn(8, HEX.upper())}/B{drawn(8, HEX.upper())}/{drawn(24)}"
    ),
    "stripe_key": lambda: "sk_live_" + drawn(24),
    "model_key": lambda: "sk-proj-" + drawn(48) + "7a",
    "hugging_face_token": lambda: "hf_" + drawn(34, string.ascii_letters),
    "jwt": jwt,
    "npm_token": lambda: "npm_" + drawn(36),
    "pypi_token": lambda: "pypi-AgEIcHlwaS5vcmc" + drawn(120),
    "twilio_key": lambda: "SK" + drawn(32, HEX),
    "sendgrid_key": lambda: f"SG.{drawn(22)}.{drawn(43)}",
    "telegram_token": lambda: f"{drawn(9, '123456789')}:AA{drawn(33)}",
    "azure_key": lambda: f"AccountName=x;AccountKey={drawn(86)}==",
    "mailgun_key": lambda: "key-" + drawn(32, HEX),
    "mailchimp_key": lambda: drawn(32, HEX) + "-us12",
    "digitalocean_token": lambda: "dop_v1_" + drawn(64, HEX),
    "shopify_token": lambda: "shpat_" + drawn(32, HEX),
    "databricks_token": lambda: "dapi" + drawn(32, HEX),
    "vault_token": lambda: "hvs." + drawn(90),
    "atlassian_token": lambda: "ATATT3" + drawn(180),
    "linear_key": lambda: "lin_api_" + drawn(40),
    "postman_key": lambda: f"PMAK-{drawn(24, HEX)}-{drawn(34, HEX)}",
    "discord_webhook": lambda: f"https://discord.com/api/webhooks/{drawn(18, '123456789')}/{drawn(68)}",
    "age_key": lambda: "AGE-SECRET-KEY-1" + drawn(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"),
    "private_key": pem,
    "url_password": lambda: f"postgres://anna:{drawn(9)}@db.host.net:5432/x",
}


@pytest.mark.parametrize("name", NAMES)
def test_each_kind_is_found_in_any_text(name: str) -> None:
    """A key of this service would be taught to a model, and be drawn out of it again."""
    assert set(SAMPLES) == set(NAMES)
    for before, after in (("", ""), ("密钥是", "，请保密"), ("key: '", "'\nnext"), ('{"k":"', '"}')):
        for _ in range(20):
            text = before + SAMPLES[name]() + after
            outcome = Secrets().process(batch(["x", text]))
            assert outcome.counts.get(name) == 1, text
            new = texts(outcome)[1]
            assert new.startswith(before)
            assert new.endswith(after)
            (span,) = outcome.batch.to_pylist()[1]["secrets"]
            assert span["type"] == name
            assert new[span["start"] : span["end"]] == "<SECRET>"


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE and wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx sk-your-api-key-here-0123 sk-this-is-a-long-slug-of-words-and-more",
        "ghp_" + "x" * 36,
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "SK" + "0" * 32,
        "eyJhbGciOiJ.eyJub3QgYSBoZWFkZXI.aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "postgres://user:password@localhost/db http://a:b@c.d https://user:${TOKEN}@host ftp://u:<pw>@h",
        "https://example.com:8080/a@b http://x.y/z:1@2",
        "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----\n" + "MIIB" * 40 + "\n-----END CERTIFICATE-----",
        "password = hunter2, token: str, api_key=os.environ['KEY']",
        "risk-assessment-of-things-in-2024-and-later, disk-utility",
    ],
)
def test_stand_ins_stay(text: str) -> None:
    """The manuals of a corpus would lose their examples."""
    data = batch([text])
    outcome = Secrets().process(data)
    assert texts(outcome) == [text]
    assert outcome.batch.column("text").buffers()[2].address == data.column("text").buffers()[2].address


def test_private_keys_go_whole_and_nothing_beside_them() -> None:
    """Half a key would stay, or the text behind it would go."""
    headers = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,8F3A\n\n"
    text = f"Before.\n{pem('EC ', headers)}\nBetween.\n{pem('')}\nAfter."
    assert texts(Secrets().process(batch([text]))) == ["Before.\n<SECRET>\nBetween.\n<SECRET>\nAfter."]
    escaped = pem().replace("\n", "\\n")
    assert texts(Secrets().process(batch([f'{{"k": "{escaped}"}}']))) == ['{"k": "<SECRET>"}']


def test_assignments_are_looked_at_by_choice() -> None:
    """Secrets without a form would stay in spite of the setting, or code be cut without it."""
    value = "q7" + drawn(14)
    text = (
        f"DB_PASSWORD={value}\napi_key: '{value}'\ntoken = get_token(request)\npassword: string\nsecret = 'right horse'"
    )
    assert texts(Secrets().process(batch([text]))) == [text]
    assert texts(Secrets(assignments=True).process(batch([text]))) == [text.replace(value, "<SECRET>")]


def test_modes() -> None:
    """A recipe could not choose what becomes of documents with secrets."""
    key = SAMPLES["github_token"]()
    data = batch([f"{key} {key}", "clean", None])
    outcome = Secrets(mode="fake").process(data)
    first = texts(outcome)[0].split()
    assert first[0] == first[1] != key
    assert Secrets(assignments=True).process(outcome.batch).counts == {}
    assert reasons(Secrets(mode="drop").process(data)) == [(0, "found"), (2, "no_text")]
    assert Secrets(mode="drop", max_found=2).process(data).counts == {"github_token": 2}
    assert texts(Secrets(mode="tag").process(data))[0] == f"{key} {key}"
    assert texts(Secrets(types=("jwt",)).process(data))[0] == f"{key} {key}"
    with pytest.raises(ValueError, match=r"types: there is no 'github'\. Did you mean"):
        Secrets(types=("github",))


@given(st.sampled_from(NAMES), st.text("aZ09-_./:=@\n \"'", max_size=30), st.text("aZ09-_./:=@\n \"'", max_size=30))
def test_the_gate_lets_through_what_the_patterns_find(name: str, before: str, after: str) -> None:
    """Secrets would stay in documents that the gate keeps from the patterns."""
    text = before + SAMPLES[name]() + after
    (kind,) = (kind for kind in KINDS if kind.name == name)
    if kind.pattern.search(text):
        assert regex.search(kind.gate, text)


def test_randomness_is_in_integers() -> None:
    """Two machines could disagree about a secret."""
    assert is_random(drawn(36), 16)
    assert not is_random("a" * 36, 2)
    assert not is_random("abcdefghijklmnop", 2)
    assert is_random("0123456789abcdef"[::-1], 8)
    assert not is_random("short", 1)


@pytest.mark.parametrize(
    "text", ["-----BEGIN RSA PRIVATE KEY-----" * 2000, "eyJ" * 50_000, "://a:" * 20_000, "sk-" * 50_000]
)
def test_odd_texts_come_through(text: str) -> None:
    """One page made to be slow would stop a run."""
    assert len(texts(Secrets(assignments=True).process(batch([text])))) == 1
