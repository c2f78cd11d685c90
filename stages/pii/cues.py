"""Words beside a number that say what it is. What a number looks like is seldom enough."""

from __future__ import annotations

import regex

BEFORE = 48
"""Code points before a number in which words are looked for."""
AFTER = 24


_LETTERS = r"\p{Latin}\p{Cyrillic}\p{Greek}\p{Devanagari}\p{Nd}"
_WORD = regex.compile(rf"(?!\p{{M}})[{_LETTERS}][{_LETTERS}\p{{M}}]*")
"""What may be a word of its own; letters of scripts without spaces part words here."""


class Cues:
    """A list of words: whole ones, beginnings (`handy*`), endings (`*nummer`), and what may stand inside of a text:
    phrases (`di_động`) and words of scripts without spaces."""

    def __init__(self, words: str, inside: str = "") -> None:
        found = words.split()
        self.whole = frozenset(word for word in found if not regex.search(r"[*_]", word))
        self.starts = tuple(word[:-1] for word in found if word.endswith("*"))
        self.ends = tuple(word[1:] for word in found if word.startswith("*"))
        self.inside = (*(word.replace("_", " ") for word in found if "_" in word), *inside.split())

    def last(self, left: str) -> int:
        """Where the last of the words ends in `left`, small letters that a number follows; -1 where there is none."""
        found: int = max((left.rfind(word) + len(word) for word in self.inside if word in left), default=-1)
        for match in reversed(list(_WORD.finditer(left))):
            if match.end() <= found:
                break
            word = match.group()
            if word in self.whole or word.startswith(self.starts) or word.endswith(self.ends):
                found = match.end()
                break
        return found


def before(text: str, start: int) -> str:
    """The text before a number, in small letters, letter for letter."""
    left = text[max(0, start - BEFORE) : start]
    low = left.lower()
    return low if len(low) == len(left) else "".join(c.lower() if len(c.lower()) == 1 else c for c in left)


PHONE = Cues(
    """tel telephone teléphone phone phones mob mobile mobil cellphone fax telefax sms whatsapp viber hotline
    helpline landline tél téléphone telephone portable appelez appeler joindre telefon* telefón* móvil movil
    celular teléfono* handy* rufnummer anruf* durchwahl telefone telemóvel ligue ligar cellulare chiama*
    telefoon* bel bellen puhelin puh gsm cep zadzwoń komórka điện_thoại sđt di_động telp telepon hubungi тел
    телефон* моб мобильн* звони* факс τηλ* τηλέφωνο κινητό phone_number फोन फ़ोन मोबाइल""",
    """هاتف جوال تلفن تلفون اتصل موبايل טלפון נייד โทร มือถือ แฟกซ์
    电话 電話 手机 手機 传真 傳真 致电 致電 拨打 撥打 热线 熱線 联系方式 座机
    携帯 ファックス ファクス フリーダイヤル 전화 휴대폰 핸드폰 연락처 팩스""",
)
_PHONE_WEAK = Cues(
    """call calls called calling cell dial dialled text texts signal telegram reach reached answering contact
    kontakt contacto llame llámame llámenos llamar registered message messages""",
    "联系 聯絡 聯繫 短信 連絡先 お問い合わせ",
)
"""Words that say phone of a number that is also written as one."""
PHONE_AFTER = regex.compile(
    r"[\s\-–—,(/]{0,3}(?:office|fax|mobile|mob|cell|home|work|phone|tel|desk|direct|hotline)\b", regex.I
)
CARD = Cues(
    """card cards cc credit debit visa mastercard amex american_express discover diners maestro jcb unionpay
    carte tarjeta karte kreditkarte* kartennummer cartão cartao carta kaart kort karta karty kartu karte* kartı
    kortti κάρτα* thẻ bankkártya карт карта карты карте карту कार्ड""",
    "卡 カード 카드 بطاقة כרטיס บัตรเครดิต บัตรเดบิต",
)
_OTHER = Cues(
    """isbn issn doi arxiv pmid pmc order orders invoice receipt serial sku upc ean gtin asin tracking parcel ticket
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
_NEAR = Cues(_RIGHT_BEFORE, "$ € £ ¥ ₹ ₽ ₩ # № = 价格 版本 商品 상품")
"""The same, of words that say so only right before the number."""
_NEAR_REST = regex.compile(r"[\s:.#°]{0,3}")

IP = Cues(
    """ip ips ipv4 ipv6 address addresses adresse host server dns ping from client gateway router peer proxy
    connect* ssh http""",
    "地址 服务器 主机 アドレス サーバ 주소",
)
_VERSIONED = """v ver vers version versions versión versão versione wersja sürüm release released build firmware driver
    sdk section sections chapter clause article paragraph fig figure table oid rev revision upgrade*
    update* patch kapitel abschnitt версия версии"""
_VERSION = Cues(_VERSIONED, "§ 版本 バージョン 第 버전 版")
_VERSION_REST = regex.compile(r"[\s:.\-=v(（]*(?:to |is |to v)?")


_NEUTRAL = regex.compile(r"[\W_]*(?:(?:number|numbers|no|nr|num|nummer|numéro|número|id)[\W_]*)*", regex.I)
_SENTENCE = regex.compile(r"\w[\"')\]»”]*[.!?。！？]")


def other(left: str) -> int:
    """Where the last word that names a number otherwise ends; -1 where there is none."""
    near = _NEAR.last(left)
    return len(left) if near >= 0 and _NEAR_REST.fullmatch(left, near) else _OTHER.last(left)


def versioned(left: str) -> bool:
    """Whether the words before a number call it a version or a section."""
    found = _VERSION.last(left)
    return found >= 0 and _VERSION_REST.fullmatch(left, found) is not None


def named(left: str, wanted: Cues) -> bool:
    """Whether the text before a number names it `wanted`, with nothing else and no end of a sentence behind that."""
    found = wanted.last(left)
    if found < 0:
        return False
    if _NEUTRAL.fullmatch(left, found):
        return True
    return other(left) <= found and not _SENTENCE.search(left, found)


def hinted(left: str) -> bool:
    """Whether the words just before a number speak of calls."""
    found = _PHONE_WEAK.last(left)
    return found >= max(0, len(left) - 12) and other(left) <= found and not _SENTENCE.search(left, found)
