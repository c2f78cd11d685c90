"""Words beside a number that say what it is. What a number looks like is seldom enough."""

from __future__ import annotations

import regex

BEFORE = 48
"""Code points before a number in which words are looked for."""
AFTER = 24


def _words(spaced: str, glued: str = "") -> regex.Pattern[str]:
    """A pattern of whole words (`_` for a blank, `*` for any ending), and of words of scripts without spaces."""
    whole = "|".join(regex.escape(word).replace("_", " ").replace(r"\*", r"\w*") for word in spaced.split())
    parts = [rf"(?<![\p{{L}}\p{{N}}])(?:{whole})(?![\p{{L}}\p{{N}}])", *map(regex.escape, glued.split())]
    return regex.compile("|".join(parts), regex.I)


PHONE = _words(
    """tel telephone teléphone phone phones ph mob mobile mobil cellphone fax telefax sms whatsapp viber hotline
    helpline landline tél téléphone telephone portable appelez appeler joindre telefon* telefón* móvil movil
    celular llam* teléfono* handy* rufnummer anruf* durchwahl telefone telemóvel ligue ligar cellulare chiama*
    telefoon* bel bellen puhelin puh gsm cep zadzwoń komórka điện_thoại sđt di_động hp telp telepon hubungi тел
    телефон* моб мобильн* звони* факс τηλ* τηλέφωνο κινητό phone_number फोन फ़ोन मोबाइल""",
    """هاتف جوال تلفن تلفون اتصل موبايل טלפון נייד โทร มือถือ แฟกซ์
    电话 電話 手机 手機 传真 傳真 致电 致電 拨打 撥打 热线 熱線 联系方式 联系 聯絡 短信 座机
    携帯 ファックス ファクス 連絡先 お問い合わせ フリーダイヤル 전화 휴대폰 핸드폰 연락처 팩스""",
)
PHONE_WEAK = _words(
    """call calls called calling cell dial dialled text texts signal telegram reach reached answering contact
    kontakt contacto registered message messages"""
)
"""Words that say phone of a number that is also written as one."""
PHONE_AFTER = regex.compile(
    r"[\s\-–—,(/]{0,3}(?:office|fax|mobile|mob|cell|home|work|phone|tel|desk|direct|hotline)\b", regex.I
)
CARD = _words(
    """card cards cc credit debit visa mastercard amex american_express discover diners maestro jcb unionpay
    carte tarjeta karte kreditkarte* kartennummer cartão cartao carta kaart kort karta karty kartu karte* kartı
    kortti κάρτα* thẻ bankkártya карт карта карты карте карту कार्ड""",
    "卡 カード 카드 بطاقة כרטיס บัตร",
)
OTHER = _words(
    """isbn issn doi arxiv pmid pmc order orders invoice receipt serial s/n sku upc ean gtin asin part model
    version ver release build firmware ref reference tracking track parcel ticket case docket patent account
    acct imei imsi iccid vin batch lot hash sha* md5 commit revision rev timestamp epoch unix time date dated
    log line lines page pages pp chapter section fig figure table eq equation zip postcode item id uid uuid guid
    pid session population total price cost costs usd eur gbp jpy cny rmb score value seed byte bytes size
    length width lat lon latitude longitude coordinate* gps bestellnummer bestellung rechnung* auftrag* artikel*
    sendung* commande facture suivi pedido factura referencia fattura ordine заказ* накладн* счет* no nr num""",
    """订单 訂單 单号 單號 编号 編號 序列号 流水号 账号 帐号 发票 价格 版本 快递 物流 运单 注文 品番 型番 製造番号 伝票
    주문 송장 일련번호 상품 $ € £ ¥ ₹ ₽ ₩ # № =""",
)
"""What a number is when it is neither a phone's nor a card's."""

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


def names(left: str, wanted: regex.Pattern[str]) -> bool:
    """Whether the text before a number names it `wanted`, and nothing else behind that."""
    found = last(wanted, left)
    return found >= 0 and last(OTHER, left) <= found
