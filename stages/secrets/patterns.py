"""The secrets that are known by their form: keys and tokens of services, private keys, passwords in URLs.

Forms as the services document them, or as their secret scanners' public rules have them.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import NamedTuple

import regex

from stages.pii.found import Found
from stages.secrets.entropy import is_random, is_stand_in

_EDGE, _END = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"


_LONG = 300
"""A random string of so many characters holds a word by chance."""


class Kind(NamedTuple):
    """One kind of secret."""

    name: str
    literals: tuple[str, ...]
    """A text with none of these holds none."""
    gate: str
    """The beginning, for RE2, which looks at every text."""
    pattern: regex.Pattern[str]
    """The whole; the group `secret`, where there is one, is what goes."""
    alphabet: int = 16
    """How many equally likely letters the random part must look made of; 0: not looked at."""


def _kind(name: str, literals: str, pattern: str, gate: str = "", alphabet: int = 16) -> Kind:
    words = tuple(literals.split())
    return Kind(name, words, gate or "|".join(map(regex.escape, words)), regex.compile(pattern), alphabet)


KINDS = (
    _kind(
        "aws_key",
        "AKIA ASIA AIDA AROA",
        rf"{_EDGE}(?:AKIA|ASIA|AIDA|AROA)(?P<random>[A-Z2-7]{{16}}){_END}",
        "(?:AKIA|ASIA|AIDA|AROA)[A-Z2-7]{4}",
        8,
    ),
    _kind(
        "aws_secret",
        "aws_secret AWS_SECRET SecretAccessKey secretAccessKey",
        r"(?:aws_secret\w*|AWS_SECRET\w*|[sS]ecretAccessKey)[\"']?\s{0,4}[=:]\s{0,4}[\"']?"
        r"(?P<secret>(?P<random>[A-Za-z0-9/+]{40}))(?![A-Za-z0-9/+=])",
    ),
    _kind(
        "google_key", "AIza", rf"{_EDGE}AIza(?P<random>[0-9A-Za-z_-]{{35}})(?![0-9A-Za-z_-])", "AIza[0-9A-Za-z_-]{6}"
    ),
    _kind(
        "google_oauth",
        "ya29. GOCSPX-",
        rf"{_EDGE}(?:ya29\.(?P<random>[0-9A-Za-z_-]{{24,400}})|GOCSPX-(?P<random>[0-9A-Za-z_-]{{28}}))",
    ),
    _kind(
        "github_token",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        rf"{_EDGE}(?:gh[pousr]_(?P<random>[A-Za-z0-9]{{36,255}})|github_pat_(?P<random>[A-Za-z0-9]{{22}}_[A-Za-z0-9]{{59}})){_END}",
        "gh[pousr]_[A-Za-z0-9]{6}|github_pat_",
    ),
    _kind(
        "gitlab_token",
        "glpat- gldt- glrt- glptt-",
        rf"{_EDGE}gl(?:pat|dt|rt|ptt)-(?P<random>[A-Za-z0-9_-]{{20,60}}){_END}",
    ),
    _kind(
        "slack_token",
        "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs- xapp-",
        rf"{_EDGE}(?:xox[abeoprs]|xapp)-(?P<random>[0-9A-Za-z-]{{20,250}}){_END}",
        "xox[abeoprs]-|xapp-",
        8,
    ),
    _kind(
        "slack_webhook",
        "hooks.slack.com",
        r"hooks\.slack\.com/services/(?P<secret>T[A-Z0-9]{6,12}/B[A-Z0-9]{6,12}/(?P<random>[A-Za-z0-9]{20,30}))",
    ),
    _kind(
        "stripe_key",
        "sk_live_ sk_test_ rk_live_ rk_test_ whsec_",
        rf"{_EDGE}(?:[sr]k_(?:live|test)_|whsec_)(?P<random>[0-9A-Za-z]{{20,250}}){_END}",
        "[sr]k_(?:live|test)_|whsec_",
    ),
    _kind(
        "model_key",  # OpenAI, Anthropic, OpenRouter, DeepSeek
        "sk-",
        rf"{_EDGE}sk-(?:proj-|svcacct-|admin-|ant-\w{{3,8}}-|or-v1-)?(?P<random>[A-Za-z0-9_-]{{20,250}}){_END}",
        "(?:^|[^A-Za-z0-9])sk-[A-Za-z0-9_-]{8}",
        12,
    ),
    _kind("hugging_face_token", "hf_", rf"{_EDGE}hf_(?P<random>[A-Za-z0-9]{{34,40}}){_END}", "hf_[A-Za-z0-9]{8}"),
    _kind(
        "jwt",
        "eyJ",
        rf"{_EDGE}(?P<header>eyJ[A-Za-z0-9_-]{{8,500}})\.eyJ[A-Za-z0-9_-]{{8,8000}}\.(?P<random>[A-Za-z0-9_-]{{20,1000}})",
        r"eyJ[A-Za-z0-9_-]+\.eyJ",
    ),
    _kind("npm_token", "npm_", rf"{_EDGE}npm_(?P<random>[A-Za-z0-9]{{36}}){_END}", "npm_[A-Za-z0-9]{8}"),
    _kind("pypi_token", "pypi-Ag", rf"{_EDGE}pypi-Ag(?P<random>[A-Za-z0-9_-]{{60,500}})"),
    _kind("twilio_key", "SK", rf"{_EDGE}SK(?P<random>[0-9a-f]{{32}}){_END}", "(?:^|[^A-Za-z0-9])SK[0-9a-f]{8}", 8),
    _kind(
        "sendgrid_key",
        "SG.",
        rf"{_EDGE}SG\.(?P<random>[A-Za-z0-9_-]{{22}}\.[A-Za-z0-9_-]{{43}}){_END}",
        r"SG\.[A-Za-z0-9_-]{8}",
    ),
    _kind(
        "telegram_token",
        ":AA",
        r"(?<![0-9])(?P<secret>[0-9]{8,10}:AA(?P<random>[A-Za-z0-9_-]{33}))(?![A-Za-z0-9_-])",
        "[0-9]:AA[A-Za-z0-9_-]{8}",
    ),
    _kind(
        "azure_key",
        "AccountKey= SharedAccessKey=",
        r"(?:Account|SharedAccess)Key=(?P<secret>(?P<random>[A-Za-z0-9+/]{43,86}={1,2}))",
    ),
    _kind(
        "mailgun_key", "key-", rf"{_EDGE}key-(?P<random>[0-9a-f]{{32}}){_END}", "(?:^|[^A-Za-z0-9])key-[0-9a-f]{8}", 8
    ),
    _kind("mailchimp_key", "-us", rf"{_EDGE}(?P<random>[0-9a-f]{{32}})-us[0-9]{{1,2}}{_END}", "[0-9a-f]{4}-us[0-9]", 8),
    _kind(
        "digitalocean_token",
        "dop_v1_ doo_v1_ dor_v1_",
        rf"{_EDGE}do[opr]_v1_(?P<random>[0-9a-f]{{64}}){_END}",
        alphabet=8,
    ),
    _kind(
        "shopify_token",
        "shpat_ shpca_ shppa_ shpss_",
        rf"{_EDGE}shp(?:at|ca|pa|ss)_(?P<random>[0-9a-fA-F]{{32}}){_END}",
        alphabet=8,
    ),
    _kind("databricks_token", "dapi", rf"{_EDGE}dapi(?P<random>[0-9a-f]{{32}}){_END}", "dapi[0-9a-f]{8}", 8),
    _kind(
        "vault_token",
        "hvs. hvb.",
        rf"{_EDGE}hv[sb]\.(?P<random>[A-Za-z0-9_-]{{24,250}}){_END}",
        r"hv[sb]\.[A-Za-z0-9_-]{8}",
    ),
    _kind("atlassian_token", "ATATT3", rf"{_EDGE}ATATT3(?P<random>[A-Za-z0-9_=-]{{50,250}})"),
    _kind("linear_key", "lin_api_", rf"{_EDGE}lin_api_(?P<random>[A-Za-z0-9]{{40}}){_END}"),
    _kind("postman_key", "PMAK-", rf"{_EDGE}PMAK-(?P<random>[0-9a-f]{{24}}-[0-9a-f]{{34}}){_END}", alphabet=8),
    _kind(
        "discord_webhook",
        "/api/webhooks/",
        r"discord(?:app)?\.com/api/webhooks/(?P<secret>[0-9]{15,22}/(?P<random>[A-Za-z0-9_-]{60,80}))",
    ),
    _kind("age_key", "AGE-SECRET-KEY-1", rf"{_EDGE}AGE-SECRET-KEY-1(?P<random>[A-Z0-9]{{58}}){_END}"),
    _kind(
        "private_key",
        "-----BEGIN",
        # RFC 7468 and 1421, OpenPGP: headers, lines of base64 (also as `\n` in a string), the end where it is there.
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?>(?:\s|\\[nr]){0,8})"
        r"(?>(?:[A-Za-z][A-Za-z-]{1,40}: ?[^\n\\]{0,200}(?:\s|\\[nr]){1,8}){0,16})"
        r"(?P<random>(?>(?:[A-Za-z0-9+/=]{16,20000}(?:\s|\\[nr]|[\"',+]){0,16}){1,600}))"
        r"(?:[A-Za-z0-9+/=\s]{0,80}(?:\\n)?-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----)?",
        "-----BEGIN [A-Z0-9 ]*PRIVATE KEY",
        8,
    ),
    _kind(
        "url_password",
        "://",
        r"[a-z][a-z0-9+.-]{1,20}://(?P<user>[^\s/?#@:\"'<>]{0,64}):"
        r"(?P<secret>(?P<random>[^\s/?#@\"'<>]{3,128}))@(?!localhost|127\.|0\.0\.|example|host|server)(?=[A-Za-z0-9\[])",
        r"://[^\s/?#@:\"'<>]*:[^\s/?#@\"'<>]+@",
        0,
    ),
)
ASSIGNMENT = _kind(
    "assignment",
    "",
    r"(?i:(?<![A-Za-z])(?:[a-z0-9]{1,20}[_-]){0,3}(?:password|passwd|pwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key))"
    r"[\"']?\s{0,4}(?:=>|:=|=|:)\s{0,4}(?P<quote>[\"'`]?)(?P<secret>(?P<random>[^\s\"'`,;<>()\[\]{}$]{8,128}))(?P=quote)(?![(\[.])",
    r"(?i:password|passwd|pwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key)[\"']?\s{0,4}(?:=|:)",
    10,
)
"""`password = ...`: only by choice, for what stands there is known by its randomness alone."""
NAMES = tuple(kind.name for kind in KINDS)


def secrets(text: str, kinds: tuple[Kind, ...]) -> list[Found]:
    """What is found of these kinds, ascending; of two that overlap that which begins, or is listed, first."""
    found: list[Found] = []
    for kind in kinds:
        if kind.literals and not any(literal in text for literal in kind.literals):
            continue
        for match in kind.pattern.finditer(text):
            group = "secret" if "secret" in kind.pattern.groupindex else 0
            random = match["random"]
            if (len(random) < _LONG and is_stand_in(match[group])) or (
                kind.alphabet and not is_random(random, kind.alphabet)
            ):
                continue
            if kind.name == "jwt" and not _is_header(match["header"]):
                continue
            if kind.name == "url_password" and match["user"] == random:
                continue
            if kind.name in ("model_key", "assignment") and not _mixed(random):
                continue
            found.append(Found(kind.name, match.start(group), match.end(group), match[group]))
    found.sort(key=lambda one: one.start)
    kept: list[Found] = []
    for one in found:
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
    return kept


def _mixed(random: str) -> bool:
    """Whether there are digits and letters, as in words joined by hyphens there are not."""
    return any(c.isdigit() for c in random) and any(c.isalpha() for c in random)


def _is_header(part: str) -> bool:
    """Whether a JWT's first part is one (RFC 7515, section 4.1): JSON with `alg`."""
    try:
        return "alg" in json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, binascii.Error, TypeError):
        return False
