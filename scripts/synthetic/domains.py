"""The things that generic rows describe: a table of fields per domain, and domains made up on the spot.

No domain is a library catalogue: the base model must not have seen a FOLIO record before its adapter is trained.
"""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Field:
    """One fact of a domain. `kind` names a drawer in `records.py`; each cue shows where `{v}` stands in the text.

    `group:` lists parts, each with its kind; what stands in brackets in its cues may be left unsaid, and is then null.
    `marker:` maps a marker after the first value to a value (the last, without a marker, is the rule); `open:` says what an
    open date (`1990-`) of another field means. Both are told by a rule and have no words of their own.
    """

    name: str
    kind: str
    cues: tuple[str, ...]


def _fields(table: str) -> tuple[Field, ...]:
    rows = [line.strip().split("|") for line in table.strip().splitlines()]
    return tuple(Field(name, kind, tuple(cues)) for name, kind, *cues in rows)


# name|kind|cue|cue…  A group's kind lists its parts; its cues use their names.
DOMAINS: dict[str, tuple[Field, ...]] = {
    "film": _fields("""
        title|title|Film {v}|The film {v}|{v}
        directors|people|directed by {v}|Directed by {v}|, a film by {v}| / {v}
        release|group:year=date,studio=organisation,city=place|Released in {year}[ by {studio}][, {city}]|Released {year}, {studio}, {city}|Shot[ in {city}] by {studio}[ ({year})]
        themes|headings|Themes are {v}|Themes: {v}|about {v}
        minutes|integer|{v} minutes|running time {v}
        language|word|in {v}|Language: {v}
        kind|marker:[silent]=silent film;[short film]=short subject;[cartoon]=animated picture;=feature film
        run|open:release.year=still shown;complete"""),
    "invoice": _fields("""
        number|identifier|Invoice {v}|Invoice no. {v}|Bill {v}
        vendor|organisation|from {v}|issued by {v}|Vendor: {v}
        issued|date|dated {v}|Date: {v}|on {v}
        lines|headings|for {v}|Items: {v}|Items are {v}
        total|decimal|total {v}|Total due: {v}|amount {v}
        currency|code|in {v}|Currency {v}"""),
    "event": _fields("""
        name|title|Event: {v}|{v}|For {v}
        speakers|people|with {v}|Speakers: {v}|Speakers are {v}
        venue|group:hall=organisation,town=place|at {hall}[, {town}]|Venue: {hall}[ in {town}]|held in {town}[, {hall}]
        day|date|on {v}|Date: {v}|held {v}
        topics|headings|Topics are {v}|Topics: {v}|covering {v}
        seats|integer|{v} seats|seats: {v}"""),
    "product": _fields("""
        name|title|Product {v}|{v}|Item: {v}
        maker|organisation|made by {v}|by {v}|Maker: {v}
        sku|identifier|SKU {v}|article {v}|code {v}
        price|decimal|costs {v}|price {v}|at {v}
        colours|words|in {v}|Colours: {v}|Colours are {v}
        origin|place|made in {v}|Origin: {v}"""),
    "painting": _fields("""
        title|title|Painting {v}|{v}|On view: {v}
        artists|people|by {v}|painted by {v}| / {v}|Artist: {v}
        made|group:year=date,place=place|painted in {place}[ in {year}]|made {year}[ in {place}]|{place}, {year}
        owner|organisation|Collection of {v}|Owned by {v}|owner {v}
        motifs|headings|Shows {v}|Motifs: {v}|Motifs are {v}
        inventory|identifier|Inv. {v}|inventory number {v}
        technique|marker:[oil]=oil on canvas;[print]=printed sheet;[drawing]=pencil work;=picture"""),
    "job": _fields("""
        position|title|Wanted: {v}|Position: {v}|{v}
        employer|organisation|at {v}|Employer: {v}|for {v}
        town|place|in {v}|Location: {v}|Place: {v}
        skills|words|Skills: {v}|Skills are {v}|must know {v}
        start|date|from {v}|Start: {v}|starting {v}
        contact|person|ask for {v}|Contact: {v}|write to {v}"""),
    "recipe": _fields("""
        dish|title|Recipe for {v}|{v}|Dish: {v}
        cook|person|by {v}|Cook: {v}|from the kitchen of {v}
        ingredients|words|Take {v}|Ingredients: {v}|Ingredients are {v}
        minutes|integer|{v} minutes|ready in {v} minutes|Time: {v}
        servings|integer|serves {v}|for {v} people
        region|place|from {v}|Region: {v}"""),
    "album": _fields("""
        name|title|Album {v}|{v}|The album {v}
        musicians|people|played by {v}|with {v}|Musicians: {v}| / {v}
        label|group:label=organisation,town=place,year=date|Issued[ in {year}] by {label}[, {town}]|{label}, {town}, {year}|Out on {label}[ ({town})][ {year}]
        tracks|titles|Tracks: {v}|Tracks are {v}
        genres|words|Genres: {v}|Genres are {v}
        carrier|marker:[tape]=cassette;[vinyl]=long-playing disc;[download]=file;=compact disc"""),
    "photograph": _fields("""
        caption|title|Photograph: {v}|{v}|Photo {v}
        photographers|people|taken by {v}|Photographer: {v}| / {v}
        taken|group:place=place,date=date|taken in {place}[, {date}]|{date}, {place}|Taken {date}[ in {place}]
        persons|people|shows {v}|Persons: {v}|with {v}
        medium|marker:[glass]=glass negative;[slide]=transparency;=print
        negative|identifier|negative {v}|Neg. {v}"""),
    "software": _fields("""
        name|word|Package {v}|{v}|Program {v}
        version|identifier|version {v}|v. {v}|release {v}
        authors|people|written by {v}|Authors: {v}|maintained by {v}
        homepage|url|at {v}|see {v}|Homepage: {v}
        depends|words|needs {v}|Depends: {v}|Depends on {v}
        summary|sentence|Summary: {v}|{v}"""),
    "case": _fields("""
        title|title|Case {v}|In the matter of {v}|{v}
        judges|people|before {v}|Judges: {v}|heard by {v}
        court|group:court=organisation,seat=place,decided=date|decided {decided}[ by {court}][, {seat}]|{court}[ at {seat}], {decided}
        docket|identifier|No. {v}|docket {v}
        issues|headings|Issues are {v}|Issues: {v}|on {v}
        status|open:court.decided=pending;closed"""),
    "letter": _fields("""
        sender|person|Letter from {v}|Sender: {v}|From {v}
        receiver|person|to {v}|Receiver: {v}|addressed to {v}
        sent|group:date=date,place=place|sent from {place}[ on {date}]|{place}, {date}|written {date}[ at {place}]
        subject|title|about {v}|Subject: {v}|Re: {v}
        enclosures|titles|Enclosed are {v}|Enclosures: {v}"""),
    "building": _fields("""
        name|title|Building {v}|{v}|The building {v}
        architects|people|designed by {v}|Architects: {v}| / {v}
        built|group:years=date,builder=organisation,town=place|Built in {years}[ by {builder}][, {town}]|Erected {years}[ in {town}][ by {builder}]
        styles|words|Styles are {v}|Styles: {v}
        condition|open:built.years=unfinished;standing
        height|decimal|{v} m high|height {v}"""),
    "dataset": _fields("""
        title|title|Dataset {v}|{v}|Data: {v}
        creators|people|Creators: {v}|collected by {v}| / {v}
        deposit|group:archive=organisation,town=place,year=date|Deposited in {year}[ with {archive}][, {town}]|Held by {archive}[, {town}], since {year}
        keywords|headings|Keywords are {v}|Keywords: {v}
        rows|integer|{v} rows|rows: {v}
        form|marker:[table]=tabular data;[images]=image collection;[spoken]=audio;=data
        state|open:deposit.year=growing;finished"""),
}  # fmt: skip

# Words that catalogues, tools and instructions are full of. Each must occur in pretraining: a token that no row holds keeps
# the embedding that it was born with, which is also its output weight (docs/log.md).
COMMON = """the and for with from that this are was not have which their published publisher publication subjects subject
contributors contributor name names title titles value values role place places date dates created created record records
classifications classification instance type text mode issuance single unit serial music score notated electronic resource
resources book books journal journals history United States America American English Germany German France French Spain
Spanish Great Britain law social science sciences study studies research international national government policy
university press London New York Washington Berlin Paris Cambridge Oxford Boston Chicago Leipzig Madrid Vienna identified
others edited editor volume edition annual report conference proceedings introduction theory analysis methods education
economic political development management language literature art philosophy women children health medicine economics
computer data engineering environmental mathematics biology chemistry physics criticism interpretation congress council
department institute society museum library archives null true false string array object number integer boolean
description parameters properties required function arguments additionalProperties items expert create answer question
passage output input fields field structure following interactions completed appropriate respond corresponding marker
ending starting must formatted valid Python list json JSON schema note produce adhere objective extract facts return"""
LABELS = (
    "owner depth supplier colour weight sample status priority branch customer driver route vessel captain port cargo "
    "shelf room floor sponsor chair winner score team league species habitat altitude soil doctor ward dose material "
    "finish width pattern brand season chapter verse witness plaintiff grade teacher course exam motto anthem flag river "
    "bridge tower engine model serial firmware license host region cluster ticket queue agent reply channel guest tenant "
    "landlord rent deposit account bank branch rate term policy claim agency editor critic stage role act scene"
).split()
LABELS += sorted(set(COMMON.lower().split()) - set(LABELS))
LABEL_KINDS = (
    "word", "heading", "title", "person", "people", "place", "organisation", "date", "integer", "decimal", "identifier",
    "words", "headings", "url", "sentence", "boolean", "code", "titles",
)  # fmt: skip
LABEL_CUES = (
    "{L}: {v}", "{L} {v}", "the {l} is {v}", "{L} is {v}", "{L} are {v}", "with {l} {v}", "{l} = {v}", "{L}s: {v}",
    "The {l} was {v}",
)  # fmt: skip


def made_up(rng: Random) -> tuple[Field, ...]:
    """A domain nobody has seen: two to eight labels of one to three words with random kinds and cues."""
    fields = []
    for label in rng.sample(LABELS, rng.randint(2, 8)):
        words = [label] if rng.random() < 0.8 else [label, *rng.sample(LABELS, rng.randint(1, 2))]
        said, name = " ".join(words), "".join([label, *(w.capitalize() for w in words[1:])])
        cues = tuple(
            cue.replace("{L}", said.capitalize()).replace("{l}", said)
            for cue in rng.sample(LABEL_CUES, 3)
        )
        fields.append(Field(name, rng.choice(LABEL_KINDS), cues))
    return tuple({field.name: field for field in fields}.values())
