"""Names of the months in fifty languages, as dates on pages spell them.

From the Unicode CLDR (Unicode License v3); made by `python -m tests.peers.test_months`.
"""

from __future__ import annotations

import re

WORD = re.compile(r"[^\W\d_][\w'’]{1,19}")
"""What a name may look like."""

_NAMES = {
    1: (
        "ean eanáir ene enero gen gener gennaio ian ianuarie ion ionawr jaan jaanuar jan janar janeiro januar januari "
        "januarie january január januára janv janvier janvāris janúar led leden ledna oca ocak saus sausio sausis sij "
        "siječanj siječnja sty styczeń stycznia tammi tammikuu tammikuuta urt urtarrila xan xaneiro yan yanvar ιαν "
        "ιανουάριος ιανουαρίου сту студзень студзеня січ січень січня янв январь января яну януари јан јануар јануари "
        "қаң қаңтар հնվ հունվար հունվարի يناير ژانویه იან იანვარი "
    ),
    2: (
        "chw chwef chwefror feabh feabhra feb febbraio febr febreiro febrer febrero februar februari februarie "
        "february február februára februāris febrúar fev fevereiro fevral févr février helmi helmikuu helmikuuta lut "
        "lutego luty ots otsaila shk shkurt vas vasario vasaris veebr veebruar velj veljača veljače úno únor února "
        "şub şubat φεβ φεβρουάριος φεβρουαρίου ақп ақпан лют лютага лютий лютого люты феб фебруар фев февр февраль "
        "февраля февруари փետրվար փետրվարի փտվ فبراير فوریه თებ თებერვალი "
    ),
    3: (
        "bře březen března kov kovas kovo maalis maaliskuu maaliskuuta maart mac machi mar marca march marec maret "
        "mars mart martie marts martxoa marzec marzo març março maw mawrth mrt márc március márta mär märts märz ožu "
        "ožujak ožujka μάρ μάρτιος μαρ μαρτίου бер березень березня мар март марта нау наурыз сак сакавік сакавіка "
        "մարտ մարտի մրտ مارس მარ მარტი "
    ),
    4: (
        "abr abril aib aibreán api apirila apr aprel april aprile aprili aprilie aprill apríl apríla aprīlis avr "
        "avril bal balandis balandžio dub duben dubna d’abr d’abril ebr ebrill huhti huhtikuu huhtikuuta kwi kwiecień "
        "kwietnia nis nisan pri prill tra travanj travnja ápr április απρ απρίλιος απριλίου апр апрель апреля април "
        "квіт квітень квітня кра красавік красавіка сәу сәуір ապր ապրիլ ապրիլի آوریل أبريل აპრ აპრილი "
    ),
    5: (
        "beal bealtaine geg gegužė gegužės kvě květen května mag maggio mai maiatza maig maijs maio maj maja may mayo "
        "mayıs maí mei máj mája május svi svibanj svibnja touko toukokuu toukokuuta μάι μάιος μαΐ μαΐου май мам мамыр "
        "мая мај трав травень травня մայիս մայիսի մյս مايو مه მაი მაისი "
    ),
    6: (
        "birž birželio birželis cze czerwca czerwiec eka ekaina giu giugno haz haziran iun iunie iyn iyun juin jun "
        "june junho juni junie junij junio juny juuni jún júna június júní jūn jūnijs kesä kesäkuu kesäkuuta lipanj "
        "lipnja meh mehefin meith meitheamh qer qershor xuño červen června čvn ιουν ιουνίου ιούν ιούνιος июн июнь "
        "июня мау маусым черв червень червня чэр чэрвень чэрвеня юни јун јуни հնս հունիս հունիսի يونيو ژوئن ივნ "
        "ივნისი "
    ),
    7: (
        "gor gorff gorffennaf heinä heinäkuu heinäkuuta iul iulie iyl iyul iúil juil juillet jul julai julho juli "
        "julie julij julio juliol july juuli júl júla július júlí jūl jūlijs korr korrik liep liepa liepos lipca "
        "lipiec lug luglio srpanj srpnja tem temmuz uzt uztaila xul xullo července červenec čvc ιουλ ιουλίου ιούλ "
        "ιούλιος июл июль июля лип липень липня ліп ліпень ліпеня шіл шілде юли јул јули հլս հուլիս հուլիսի يوليو "
        "ژوئیه ივლ ივლისი "
    ),
    8: (
        "abu abuztua ag ago agost agosti agosto agu agustus août aug august augusta augusti augusts augustus "
        "augusztus avg avgust avq avqust awst ağu ağustos d’ag d’agost elo elokuu elokuuta gush gusht kol kolovoz "
        "kolovoza lún lúnasa ogo ogos rugp rugpjūtis rugpjūčio sie sierpień sierpnia srpen srpna ágú ágúst αυγ "
        "αυγούστου αύγ αύγουστος авг август августа жні жнівень жніўня серп серпень серпня там тамыз օգոստոս օգոստոսի "
        "օգս أغسطس اوت আগ აგვ აგვისტო "
    ),
    9: (
        "eyl eylül ira iraila medi mfómh rugs rugsėjis rugsėjo ruj rujan rujna sen sentabr sentyabr sep sept septemba "
        "septembar september septembra septembre septembrie septembris septiembre set setembre setembro settembre sht "
        "shtator syys syyskuu syyskuuta szept szeptember wrz wrzesień września zář září σεπ σεπτέμβριος σεπτεμβρίου "
        "вер верасень верасня вересень вересня сент сентябрь сентября сеп септембар септември қыр қыркүйек սեպ "
        "սեպտեմբեր սեպտեմբերի سبتمبر سپتامبر სექ სექტემბერი "
    ),
    10: (
        "dfómh d’oct d’octubre eki ekim hyd hydref loka lokakuu lokakuuta oct october octobre octombrie octubre okt "
        "oktabr oktoba oktobar oktober oktobris oktoober oktyabr október októbra ott ottobre out outubro paź "
        "październik października spal spalio spalis tet tetor urr urria říj říjen října οκτ οκτωβρίου οκτώβριος жовт "
        "жовтень жовтня кас кастрычнік кастрычніка окт октобар октомври октябрь октября қаз қазан հոկ հոկտեմբեր "
        "հոկտեմբերի أكتوبر اکتبر ოქტ ოქტომბერი "
    ),
    11: (
        "aza azaroa kas kasım lapkr lapkritis lapkričio listopadu marras marraskuu marraskuuta noiembrie nov novemba "
        "novembar november novembra novembre novembris novembro noviembre noy noyabr nën nëntor nóv nóvember samh "
        "samhain stu studeni studenoga tach tachwedd νοέ νοέμβριος νοε νοεμβρίου лист листопад листопада ліс лістапад "
        "лістапада нов новембар ное ноември нояб ноябрь ноября қар қараша նոյ նոյեմբեր նոյեմբերի نوامبر نوفمبر ნოე "
        "ნოემბერი "
    ),
    12: (
        "abe abendua ara aralık dec decembar december decembra decembrie decembris decembro dek dekabr des desemba "
        "desember desembre dets detsember dez dezember dezembro dhj dhjetor dic dicembre diciembre dis disember déc "
        "décembre gru grudnia grudzień gruod gruodis gruodžio joulu joulukuu joulukuuta noll nollaig pro prosinac "
        "prosinca prosince prosinec rhag rhagfyr δεκ δεκέμβριος δεκεμβρίου груд грудень грудня дек декабрь декабря "
        "декември дец децембар жел желтоқсан сне снежань снежня դեկ դեկտեմբեր դեկտեմբերի دسامبر ديسمبر დეკ დეკემბერი "
    ),
}

NUMBER = {name: number for number, names in _NAMES.items() for name in names.split()}
"""1 to 12 by name, lower case, without the dot of an abbreviation."""
