"""Words beside a number that say what it is. What a number looks like is seldom enough."""

from __future__ import annotations

import regex

BEFORE = 48
"""Code points before a number in which words are looked for."""
AFTER = 24


_LETTER = r"[\p{Latin}\p{Cyrillic}\p{Greek}\p{Devanagari}\p{N}]"
"""What parts whole words from longer ones; a letter of a script without spaces does not."""


def _words(spaced: str, glued: str = "") -> regex.Pattern[str]:
    """A pattern of whole words (`_` for a blank, `*` for any ending), and of words of scripts without spaces."""
    whole = "|".join(regex.escape(word).replace("_", " ").replace(r"\*", r"\w*") for word in spaced.split())
    parts = [rf"(?<!{_LETTER})(?:{whole})(?!{_LETTER})", *map(regex.escape, glued.split())]
    return regex.compile("|".join(parts), regex.I)


PHONE = _words(
    """tel telephone teléphone phone phones mob mobile mobil cellphone fax telefax sms whatsapp viber hotline
    helpline landline tél téléphone telephone portable appelez appeler joindre telefon* telefón* móvil movil
    celular teléfono* handy* rufnummer anruf* durchwahl telefone telemóvel ligue ligar cellulare chiama*
    telefoon* bel bellen puhelin puh gsm cep zadzwoń komórka điện_thoại sđt di_động telp telepon hubungi тел
    телефон* моб мобильн* звони* факс τηλ* τηλέφωνο κινητό phone_number फोन फ़ोन मोबाइल""",
    """هاتف جوال تلفن تلفون اتصل موبايل טלפון נייד โทร มือถือ แฟกซ์
    电话 電話 手机 手機 传真 傳真 致电 致電 拨打 撥打 热线 熱線 联系方式 座机
    携帯 ファックス ファクス フリーダイヤル 전화 휴대폰 핸드폰 연락처 팩스""",
)
PHONE_WEAK = _words(
    """call calls called calling cell dial dialled text texts signal telegram reach reached answering contact
    kontakt contacto llame llámame llámenos llamar registered message messages""",
    "联系 聯絡 聯繫 短信 連絡先 お問い合わせ",
)
"""Words that say phone of a number that is also written as one."""
PHONE_AFTER = regex.compile(
    r"[\s\-–—,(/]{0,3}(?:office|fax|mobile|mob|cell|home|work|phone|tel|desk|direct|hotline)\b", regex.I
)
CARD = _words(
    """card cards cc credit debit visa mastercard amex american_express discover diners maestro jcb unionpay
    carte tarjeta karte kreditkarte* kartennummer cartão cartao carta kaart kort karta karty kartu karte* kartı
    kortti κάρτα* thẻ bankkártya карт карта карты карте карту कार्ड""",
    "卡 カード 카드 بطاقة כרטיס บัตรเครดิต บัตรเดบิต",
)
OTHER = _words(
    """isbn issn doi arxiv pmid pmc order orders invoice receipt serial s/n sku upc ean gtin asin tracking parcel ticket
    *nummer docket patent account acct imei imsi iccid vin hash sha* md5 commit uuid guid timestamp unix epoch latitude
    longitude
    coordinate* equation population bestellnummer bestellung rechnung* auftrag* artikel* sendung* commande facture suivi
    pedido factura referencia fattura ordine заказ* накладн* счет*
    ssn cpf pesel sin tfn bsn cnp nif dni rut снилс инн aadhaar personnummer""",
    """订单 訂單 单号 單號 编号 編號 序列号 流水号 账号 帐号 发票 快递 物流 运单 注文 品番 型番 製造番号 伝票
    주문 송장 일련번호
    マイナンバー 身份证 身分證 주민등록번호 บัตรประชาชน""",
)
"""What a number is when it is neither a phone's nor a card's."""
_RIGHT_BEFORE = """no nr num number part model version ver release build firmware ref reference track case batch lot
    revision rev time date dated log line lines page pages pp chapter section fig figure table eq
    zip postcode item id uid pid session total price cost costs usd eur gbp jpy cny rmb score
    value seed byte bytes size length width lat lon gps"""
OTHER_NEAR = regex.compile(
    rf"(?:{_words(_RIGHT_BEFORE, '$ € £ ¥ ₹ ₽ ₩ # № = 价格 版本 商品 상품').pattern})[\s:.#°]{{0,3}}$", regex.I
)
"""The same, of words that say so only right before the number."""

IP = _words(
    """ip ips ipv4 ipv6 address addresses adresse host server dns ping from client gateway router peer proxy
    connect* ssh http""",
    "地址 服务器 主机 アドレス サーバ 주소",
)
_VERSIONED = """v ver vers version versions versión versão versione wersja sürüm release released build firmware driver
    sdk section sections chapter clause article paragraph fig figure table oid rev revision upgrade*
    update* patch kapitel abschnitt версия версии"""
VERSION = regex.compile(
    rf"(?:{_words(_VERSIONED, '§ 版本 バージョン 第 버전 版').pattern})[\s:.\-=v(（]*(?:to |is |to v)?$", regex.I
)


def last(pattern: regex.Pattern[str], left: str) -> int:
    """Where the last match ends in the text before a number; -1 where there is none."""
    found = -1
    for match in pattern.finditer(left):
        found = match.end()
    return found


def other(left: str) -> int:
    """Where the last word that names a number otherwise ends; -1 where there is none."""
    return len(left) if OTHER_NEAR.search(left) else last(OTHER, left)


_NEUTRAL = regex.compile(r"[\W_]*(?:(?:number|numbers|no|nr|num|nummer|numéro|número|id)[\W_]*)*", regex.I)
_SENTENCE = regex.compile(r"\w[\"')\]»”]*[.!?。！？]")


def named(left: str, wanted: regex.Pattern[str]) -> bool:
    """Whether the text before a number names it `wanted`, with nothing else and no end of a sentence behind that."""
    found = last(wanted, left)
    if found < 0:
        return False
    return _NEUTRAL.fullmatch(left, found) is not None or (other(left) <= found and not _SENTENCE.search(left, found))


def hinted(left: str) -> bool:
    """Whether the words just before a number speak of calls."""
    found = last(PHONE_WEAK, left)
    return found >= max(0, len(left) - 12) and other(left) <= found and not _SENTENCE.search(left, found)
