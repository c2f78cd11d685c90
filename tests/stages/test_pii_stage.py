"""Personal data goes out of the text; what only looks like it stays."""

from __future__ import annotations

import numpy as np
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from stage_helpers import batch, reasons, texts

from stages.pii import Pii, scan
from stages.pii.found import TYPES
from stages.pii.national import KINDS
from stages.text import characters, column


def pii(text: str, language: str | None = None, **settings: object) -> str:
    """The text as the stage leaves it."""
    return texts(Pii(**settings).process(batch([text], language=[language])))[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "language", "wanted"),
    [
        ("Write to foo.bar+x@mail.co.uk.", "en", "Write to <EMAIL>."),
        ("请联系foo@bar.com获取，电话13812345678谢谢", "zh", "请联系<EMAIL>获取，电话<PHONE>谢谢"),
        ("メールはtaro@docomo.ne.jpまで", "ja", "メールは<EMAIL>まで"),
        ("메일은 foo@naver.com으로", "ko", "메일은 <EMAIL>으로"),
        ("ｆｏｏ＠ｂａｒ．ｃｏｍ", None, "<EMAIL>"),
        ("mailto:joe@münchen.de 用户@例子.中国谢谢", None, "mailto:<EMAIL> <EMAIL>谢谢"),
        ("josé@ejemplo.es; <a@b.museum>", None, "<EMAIL>; <<EMAIL>>"),
        ("E-mail.....joe@bar.com, ...joe..b@bar.com", None, "E-mail.....<EMAIL>, ...joe..<EMAIL>"),
        ("?to=foo@bar.com&cc=a.b@bar.org", None, "?to=<EMAIL>&cc=<EMAIL>"),
        ("from 8.8.8.8:53, 2001:4860:4860::8888.", None, "from <IP>:53, <IP>."),
        ("IPv6:2a02:26f0::b839, 地址：2a02:26f0:0:0:0:0:0:b839。", "zh", "IPv6:<IP>, 地址：<IP>。"),
        ("服务器52.14.88.201上线", "zh", "服务器<IP>上线"),
        ("call +1 650-253-0000 now", "en", "call <PHONE> now"),
        ("Tel.: +49 (0)30 901820-12 oder 0171 1234567", "de", "Tel.: <PHONE> oder <PHONE>"),
        ("Phone: 345-899-3560x4587", "en", "Phone: <PHONE>"),
        ("tel ٠١٠٠١٢٣٤٥٦٧", "ar", "tel <PHONE>"),
        ("電話：０３－１２３４－５６７８です", "ja", "電話：<PHONE>です"),
        ("My card 4539 1488 0343 6467 ok", "en", "My card <CARD> ok"),
        ("卡号6222021234567890123不对，4539148803436467对", "zh", "卡号6222021234567890123不对，<CARD>对"),
        ("DE89 3704 0044 0532 0130 00, gb33bukb20201555555555", None, "<IBAN>, <IBAN>"),
        ("身份证11010519491231002X号", "zh", "身份证<NATIONAL_ID>号"),
        ("SSN 460-89-9847; RSSMRA85T10A562S; 12345678Z", None, "SSN <NATIONAL_ID>; <NATIONAL_ID>; <NATIONAL_ID>"),
        ("CPF 529.982.247-25, PESEL 44051401359", None, "CPF <NATIONAL_ID>, PESEL <NATIONAL_ID>"),
    ],
)
def test_what_is_personal_goes(text: str, language: str | None, wanted: str) -> None:
    """A person's address or number would be taught to a model."""
    assert pii(text, language) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "me@example.com, @user@mastodon.social, git@github.com:a/b, react@18.2.0, icon@2x.png, a@b, @media x.y",
        "https://user:secret@host.com/path",
        "192.168.1.1 10.0.0.1 127.0.0.1 203.0.113.9 ::1 fe80::1 2001:db8::1 169.254.1.1 224.0.0.1",
        "version 4.15.22.112, v8.8.8.8, see section 3.2.1.4 and 1.2.3.4.5; 256.1.1.1 and 08.8.8.8",
        "at 12:30:45, std::vector<int>, a::b::c, 00:1A:2B:3C:4D:5E",
        "ISBN 978-3-16-148410-0, doi:10.1000/182123456, arXiv 2101.00001, order 4539148803436467",
        "2024-01-15 10:30:00, 15.01.2024, 1998-2003, 20240115103000, 1700000000000",
        "1,234,567.89 or 1 234 567 and $12345678, 3.14159265358979, 40.7128, -74.0060123",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 and 550e8400-e29b-41d4-a716-446655440000",
        "test card 4242 4242 4242 4242, 4539148803436468, 0000000000000000",
        "12345678A, 529.982.247-26, 11010519491331002X, 666-12-3456, DE89370400440532013001",
        "1 2 3 4 5 6 7 8 9 10 11 12, 2001 2002 2003 2004",
        "订单号13812345678901，价格12345678元",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    """Dates, versions, sums and links of a text would be lost."""
    data = batch([text])
    outcome = Pii().process(data)
    assert texts(outcome) == [text]
    assert outcome.batch.column("text").buffers()[2].address == data.column("text").buffers()[2].address


def test_offsets_are_those_of_the_text_written_out() -> None:
    """Nobody could find again what was replaced."""
    text = "雪😀 foo@bar.com 和 52.14.8.9，foo@bar.com"
    for settings, wanted in (
        ({"placeholders": {"email": "【邮件】"}}, ["【邮件】", "<IP>", "【邮件】"]),
        ({"mode": "tag"}, ["foo@bar.com", "52.14.8.9", "foo@bar.com"]),
    ):
        outcome = Pii(**settings).process(batch([None, "x", text]))  # type: ignore[arg-type]
        row = outcome.batch.to_pylist()[1]
        assert [row["text"][span["start"] : span["end"]] for span in row["pii"]] == wanted
        assert [span["type"] for span in row["pii"]] == ["email", "ip", "email"]
        assert reasons(outcome) == [(0, "no_text")]
    assert Pii().process(batch([text])).counts == {"email": 2, "ip": 1, "characters_cut": 31}


def test_fakes_are_valid_stable_and_nobodys() -> None:
    """Fakes would be somebody's data, differ from mention to mention, or be replaced again by the next run."""
    text = "a@bar.com 52.14.8.9 2001:4860:4860::8888 +1 650-253-0000 4539148803436467 DE89370400440532013000 "
    text += "SSN 460-89-9847 "
    outcome = Pii(mode="fake").process(batch([text + text, text]))
    first, second = texts(outcome)
    half = first[: len(first) // 2]
    assert first == half * 2  # the same in one document
    assert second != half  # another in the next
    assert regex.match(r"user\w{8}@example\.com (192\.0\.2|198\.51\.100|203\.0\.113)\.\d+ 2001:db8:", half)
    assert Pii().process(outcome.batch).counts == {}


def test_documents_are_dropped_by_their_finds() -> None:
    """A recipe that would rather lose a list of addresses than mask it could not."""
    data = batch(["a@bar.com", "a@bar.com b@bar.com", "clean"])
    assert reasons(Pii(mode="drop").process(data)) == [(0, "found"), (1, "found")]
    outcome = Pii(mode="drop", max_found=1).process(data)
    assert outcome.dropped == [(1, "found", 2.0, 1.0)]
    assert texts(outcome) == ["a@bar.com", "clean"]
    assert reasons(Pii(placeholders={"email": ""}).process(batch(["a@bar.com"]))) == [(0, "empty_text")]


def test_regions_say_which_national_forms_are_phones() -> None:
    """Numbers of other countries would be cut, or those of the recipe's own be left."""
    text = "Büro 030 9018-2012 Ende"
    assert pii(text, regions=("DE",)) == "Büro <PHONE> Ende"
    assert pii(text, regions=("US",)) == text
    assert pii(text, "de") == "Büro <PHONE> Ende"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"types": ("mail",)}, "types: there is no 'mail'. Did you mean 'email'"),
        ({"placeholders": {"phones": "x"}}, "Did you mean 'phone'"),
        ({"regions": ("de",)}, "Did you mean 'DE'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    """A misspelt type would quietly stay in the corpus."""
    with pytest.raises(ValueError, match=regex.escape(message)):
        Pii(**settings)  # type: ignore[arg-type]


def test_the_bytes_do_not_hang_on_the_batching() -> None:
    """The same documents would come out with other bytes on another number of workers."""
    data = batch(
        [f"文{row} a{row % 3}@bar.com 52.14.88.{row + 1} tel 030 9018201{row}" for row in range(12)] + [None, ""]
    )
    for mode in ("placeholder", "fake"):
        whole = Pii(mode=mode).process(data).batch.select(["id", "text", "pii"]).to_pylist()
        for size in (1, 2, 5, 9):
            parts = [Pii(mode=mode).process(data.slice(start, size)).batch for start in range(0, data.num_rows, size)]
            assert [row for part in parts for row in part.select(["id", "text", "pii"]).to_pylist()] == whole


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("cn_id", "11010519491231002X"), ("us_ssn", "536903399"), ("de_steuer", "36574261809"), ("es_dni", "54362315K"),
        ("es_dni", "X2482300W"), ("br_cpf", "39053344705"), ("nl_bsn", "111222333"), ("pl_pesel", "44051401359"),
        ("in_aadhaar", "234123412346"), ("ch_ahv", "7569217076985"), ("fi_hetu", "131052308T"),
        ("se_pnr", "8803200016"),
        ("no_fnr", "15108695088"), ("be_nn", "85073003328"), ("ro_cnp", "1630615123457"), ("kr_rrn", "9001011234568"),
        ("tw_id", "A123456789"), ("sg_nric", "S1234567D"), ("hk_id", "A1234563"), ("cl_rut", "760864285"),
        ("tr_tckn", "17291716060"), ("za_id", "7503305044089"), ("ru_snils", "11223344595"), ("ru_inn", "500100732259"),
        ("th_id", "1234545678781"), ("pt_nif", "123456789"), ("ca_sin", "123456782"), ("au_tfn", "123456782"),
        ("fr_nir", "295109912611193"),
    ],
)  # fmt: skip
def test_check_digits_are_those_of_the_states(kind: str, value: str) -> None:
    """Numbers would be taken for a person's, or a person's be left: published ones, each also with a digit changed."""
    check = next(one.check for one in KINDS if one.name == kind)
    assert check(value)
    changed = [value[:-2] + str((int(value[-2]) + step) % 10) + value[-1] for step in range(1, 10)]
    assert kind == "us_ssn" or sum(map(check, changed)) <= 2


PIECES = st.one_of(
    st.text("0123456789 .-()/+:@aFXé雪٣９\u00a0", max_size=24),
    st.sampled_from(
        ["a@bar.com", "8.8.8.8", "+16502530000", "4539148803436467", "DE89370400440532013000", " tel ", "x"]
    ),
)


@given(st.lists(st.lists(PIECES, max_size=6).map("".join), max_size=4))
def test_the_gate_finds_every_number(rows: list[str]) -> None:
    """What the gate does not see no rule can find."""
    view = column.texts(batch(list(rows)).column("text"))
    places = scan.places(view, characters.classes())
    number = regex.compile(r"\p{Nd}+(?:[ .()/+\-\u00a0]{1,3}\p{Nd}+)*")
    wanted = []
    for row, text in enumerate(rows):
        for match in number.finditer(text):
            dots = len(regex.findall(r"(?<=\p{Nd})\.(?=\p{Nd})", match.group()))
            parts = regex.findall(r"\p{Nd}+", match.group())
            nothing = (len(parts) == 1 and len(parts[0]) > 19) or (len(parts) == 2 and dots == 1)
            if dots >= 3 or (sum(map(len, parts)) >= 7 and not nothing):
                wanted.append([row, *match.span(), scan.NUMBER])
    assert places[places[:, 3] == scan.NUMBER].tolist() == wanted
    assert (np.diff(places[:, 0]) >= 0).all()


@given(st.lists(PIECES, max_size=8).map("".join), st.sampled_from(["zh", "en", None]))
def test_what_is_found_lies_in_order_and_nothing_else_changes(text: str, language: str | None) -> None:
    """Text beside personal data would be damaged."""
    outcome = Pii(mode="tag").process(batch([text], language=[language]))
    spans = outcome.batch.to_pylist()[0]["pii"]
    rest, at = [], 0
    for span in spans:
        assert at <= span["start"] < span["end"] <= len(text)
        assert span["type"] in TYPES
        rest.append(text[at : span["start"]])
        at = span["end"]
    placeholders = dict.fromkeys(TYPES, "\x01")
    replaced = Pii(placeholders=placeholders).process(batch([text], language=[language]))
    if texts(replaced):
        assert texts(replaced)[0] == "\x01".join([*rest, text[at:]])


@pytest.mark.parametrize(
    "text", ["1" * 300_000, "1 " * 20_000, "a@" * 20_000, "1.2.3.4." * 5_000, "::1" * 9_000, "\0", ""]
)
def test_odd_texts_come_through(text: str) -> None:
    """One page of digits would stop a run."""
    assert texts(Pii(mode="tag").process(batch([text]))) == [text]
