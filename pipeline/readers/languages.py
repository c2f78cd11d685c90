"""Language codes of WET headers (ISO 639-2 and 639-3) as the two letters of ISO 639-1."""

from __future__ import annotations

_PAIRS = """
afr af  amh am  ara ar  asm as  aze az  bel be  ben bn  bod bo  bos bs  bre br  bul bg  cat ca  ces cs  cos co  cym cy
dan da  deu de  dzo dz  ell el  eng en  epo eo  est et  eus eu  fao fo  fas fa  fin fi  fra fr  fry fy  gla gd  gle ga
glg gl  guj gu  hat ht  hau ha  heb he  hin hi  hrv hr  hun hu  hye hy  ibo ig  ind id  isl is  ita it  jav jv  jpn ja
kal kl  kan kn  kas ks  kat ka  kaz kk  khm km  kin rw  kir ky  kor ko  kur ku  lao lo  lat la  lav lv  lit lt  ltz lb
mal ml  mar mr  mkd mk  mlg mg  mlt mt  mon mn  mri mi  msa ms  mya my  nep ne  nld nl  nno nn  nob nb  nor no  oci oc
ori or  orm om  pan pa  pol pl  por pt  pus ps  que qu  roh rm  ron ro  rus ru  sin si  slk sk  slv sl  sna sn  snd sd
som so  spa es  sqi sq  srp sr  sun su  swa sw  swe sv  tam ta  tat tt  tel te  tgk tg  tgl tl  tha th  tir ti  ton to
tur tr  tuk tk  uig ug  ukr uk  urd ur  uzb uz  vie vi  wol wo  xho xh  yid yi  yor yo  zho zh  zul zu  cmn zh  zsm ms
"""

TWO_LETTERS = dict(zip(_PAIRS.split()[::2], _PAIRS.split()[1::2], strict=True))


def two_letters(code: str | None) -> str | None:
    """The two-letter code of a single language; None where several are named or the code is not known."""
    code = (code or "").strip().lower()
    return code if len(code) == 2 and code in TWO_LETTERS.values() else TWO_LETTERS.get(code)
