"""The people of `make demo-data`: names from many countries, the same in each run."""

import itertools
import random
import unicodedata
import uuid
from dataclasses import dataclass
from datetime import timedelta

DOMAINS = ("sales.contoso.example", "support.contoso.example")
# ruff: noqa: RUF001 # letters of many languages
NAMES = """
Alejandra Inés Mateo Ximena Joaquín Lucía | García Hernández Muñoz Peña Ibáñez Rodríguez
Chloé Benoît Zoé Mathéo Élodie François | Lefèvre Dubois Garçon Moreau Géraud Lemaître
Jürgen Anneliese Lukas Käthe Sören Marlene | Müller Schröder Weiß Köhler Krüger Hoffmann
Agnieszka Łukasz Paweł Zofia Michał Małgorzata | Kowalczyk Wiśniewska Dąbrowski Wójcik Żak Nowak
Søren Åse Bjørn Ingrid Håkon Märta | Ångström Sørensen Ødegård Lindqvist Nygård Bäckström
Ayşe Çağrı Emre Işıl Mehmet Zeynep | Yılmaz Öztürk Çelik Şahin Demir Güneş
Adaeze Chinonso Kwame Ngozi Thabo Zanele | Okafor Mensah Nkosi Achebe Dlamini Abiodun
Aisha Farid Layla Omar Yasmin Tariq | Haddad Al-Masri Benali Khoury Rahman Zayed
Ananya Arjun Kavya Rohan Priya Vikram | Iyer Chatterjee Sharma Nair Deshpande Kaur
Linh Minh Thảo Đức Hương Quân | Nguyễn Trần Phạm Hoàng Đặng Bùi
Caitlín Seán Niamh Rhys Siân Ewan | O'Brien Ó'Connor Llewellyn MacDonald Byrne Jones
Ana João Iară Thiago Conceição Luís | Gonçalves Araújo Assunção Magalhães Simões Falcão
"""
OTHER_SCRIPTS = {
    "山田 太郎": "taro.yamada",
    "佐藤 美咲": "misaki.sato",
    "김민준": "minjun.kim",
    "王秀英": "xiuying.wang",
    "Олена Шевченко": "olena.shevchenko",
    "Δημήτρης Παπαδόπουλος": "dimitris.papadopoulos",
    "فاطمة الزهراء": "fatima.alzahra",
    "נועה לוי": "noa.levi",
}
PLAIN = str.maketrans({"ł": "l", "ø": "o", "ß": "ss", "ı": "i", "đ": "d", "'": "", "-": ""})
NAMESPACE = uuid.UUID("de300000-0000-4000-8000-000000000000")


@dataclass(frozen=True, kw_only=True)
class DemoPerson:
    """Somebody with an account. `age`: since when they have an identity; `idle`: since their last token."""

    name: str
    username: str
    object_id: str
    age: timedelta
    idle: timedelta | None


def make_people(count: int) -> list[DemoPerson]:
    """Return the people; one in twelve was imported and has never requested a token."""
    chance = random.Random(count)  # noqa: S311 # nosec B311 # made-up names
    lines = [line.split(" | ") for line in NAMES.strip().splitlines()]
    pairs = [pair for firsts, lasts in lines for pair in itertools.product(firsts.split(), lasts.split())]
    chance.shuffle(pairs)
    names = OTHER_SCRIPTS | {f"{first} {last}": fold(f"{first}.{last}") for first, last in pairs}
    people = []
    for number, (name, local_part) in enumerate(itertools.islice(names.items(), count)):
        username = f"{local_part}@{DOMAINS[number % len(DOMAINS)]}"
        age = timedelta(days=730 * chance.random() ** 2, minutes=30)
        idle = None if number % 12 == 11 else min(age, timedelta(days=45)) * chance.random() ** 2
        object_id = str(uuid.uuid5(NAMESPACE, username))
        people.append(DemoPerson(name=name, username=username, object_id=object_id, age=age, idle=idle))
    return people


def fold(text: str) -> str:
    """Return the text as it may stand in an address."""
    plain = unicodedata.normalize("NFKD", text.lower().translate(PLAIN))
    return "".join(character for character in plain if character.isascii())
