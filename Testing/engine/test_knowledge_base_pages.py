"""Cards and the atlas: what a reader sees, and that a hostile entry is only ever text."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from velcro_engine.errors import InputError
from velcro_engine.knowledge_base import Code, Entry, load_knowledge_base
from velcro_engine.knowledge_base.card import card_html, code_address
from velcro_engine.knowledge_base.site import write_site
from velcro_engine.knowledge_base.site_mentions import Mentions
from velcro_engine.knowledge_base.store import KnowledgeBase, merge, read_file

HOSTILE = '<script>document.title="owned"</script><img src=x onerror=alert(1)>"\'&</style>'
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def hostile(identifier="hostile", **changes):
    return Entry(
        identifier,
        HOSTILE[:150],
        HOSTILE,
        "anatomy",
        **{
            "synonyms": (f"a{HOSTILE[:100]}",),
            "latin": (f"b{HOSTILE[:100]}",),
            "abbreviations": ("</table>",),
            "codes": (Code("99X", '"><script>1</script>', HOSTILE[:100]), Code("UBERON", "1&2")),
            "links": ("https://en.wikipedia.org/wiki/Crohn's_disease?a=1&b=2",),
        }
        | changes,
    )


class Reader(HTMLParser):
    """Collects tags, attributes and text; fails on a tag that is closed but was never opened."""

    VOID = frozenset({"meta", "link", "br", "input", "img"})

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.open, self.text = [], [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def parsed(page):
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


@pytest.mark.parametrize("for_qt", [False, True])
def test_a_card_shows_name_side_confidence_texts_attributes_codes_and_links(for_qt):
    kb = load_knowledge_base()
    page = card_html(
        kb.by_id["hippocampus"],
        "left",
        0.834,
        {"longest_diameter_mm": 31.24, "area_mm2": 412.4, "zone": "temporal", "side": "left"},
        for_qt,
        source="velcrolink 1",
    )
    text = parsed(page).text
    for shown in ("Hippocampus, left", "83 %", "31.2 mm", "412 mm²", "temporal", "velcrolink 1"):
        assert shown in text
    assert "SNOMED CT 5366008" in text and "http://snomed.info/id/5366008" in page
    assert kb.by_id["hippocampus"].definition[:40] in text


@pytest.mark.parametrize("for_qt", [False, True])
def test_a_hostile_entry_is_text_on_its_card(for_qt):
    page = card_html(hostile(), "left", 2.0, {"<b>k</b>": "<i>v</i>", "n": float("nan")}, for_qt)
    reader = parsed(page)
    assert not {"script", "img", "style"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert HOSTILE in reader.text and "100 %" in reader.text and "<i>v</i>" in reader.text
    addresses = [value for name, value in reader.attributes if name == "href"]
    assert all(re.match(r"https?://", address) for address in addresses)


def test_no_confidence_shows_no_bar():
    entry = Entry("a", "A", "", "anatomy")
    assert "%" not in card_html(entry) and "%" not in card_html(entry, None, float("nan"))
    assert "meter" not in card_html(entry)


def test_addresses_of_codes_are_stable_ones():
    assert code_address(Code("uberon", "UBERON:0002421")).endswith("/obo/UBERON_0002421")
    assert code_address(Code("UMLS", "C0019564")) is None
    assert "<" not in code_address(Code("SCT", "<1>"))


def test_qt_draws_the_card(tmp_path, monkeypatch):
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    gui = pytest.importorskip("PySide6.QtGui", reason="PySide6 is not installed")
    widgets = pytest.importorskip("PySide6.QtWidgets", reason="PySide6 is not installed")
    widgets.QApplication.instance() or widgets.QApplication([])
    document = gui.QTextDocument()
    document.setHtml(card_html(hostile(), "right", 0.5, {"zone": "x"}, for_qt=True))
    document.setTextWidth(320)
    assert HOSTILE in document.toPlainText() and document.size().height() > 100
    assert document.idealWidth() < 2000


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    """Atlas of the bundled knowledge base and a hostile entry."""
    folder = tmp_path_factory.mktemp("atlas") / "pages"
    source, entries = read_file(load_knowledge_base().sources[0].path)
    kb = merge([(source, [*entries, hostile(part_of=("liver",))])])
    assert write_site(kb, folder) == folder / "index.html"
    return folder


def test_every_page_is_whole_and_leads_only_to_pages_that_exist(atlas):
    pages = [atlas / "index.html", *sorted((atlas / "entries").glob("*.html"))]
    assert len(pages) > 600
    for page in pages:
        reader = parsed(page.read_text(encoding="utf-8"))
        assert reader.tags.count("script") == 2 and "img" not in reader.tags
        for name, value in reader.attributes:
            if name in ("src", "href") and not value.startswith(("http", "data:,")):
                assert (page.parent / value).is_file(), (page.name, value)
            assert not name.startswith("on") and name != "style"


def test_nothing_is_loaded_from_elsewhere(atlas):
    page = (atlas / "entries" / "liver.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    reader = parsed(page)
    assert all(not value.startswith("http") for name, value in reader.attributes if name == "src")
    for asset in ("style.css", "search.js"):
        assert "http" not in (atlas / "assets" / asset).read_text(encoding="utf-8")


def test_an_atlas_replaces_an_earlier_one_and_nothing_else(atlas, tmp_path):
    kb = merge([(load_knowledge_base().sources[0], [Entry("a", "A", "Words.", "anatomy")])])
    folder = tmp_path / "out"
    write_site(kb, folder)
    (folder / "entries" / "stale.html").write_text("old")
    write_site(kb, folder)
    assert [p.name for p in (folder / "entries").iterdir()] == ["a.html"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("words")
    with pytest.raises(InputError, match="is not empty"):
        write_site(kb, other)
    assert (other / "thesis.txt").read_text() == "words"


def browse(tmp_path, address):
    """(HTML after scripts have run, console messages) of a page in headless Chromium."""
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
        f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr",
        "--virtual-time-budget=3000", address,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE:" in line]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("hipocampus", "hippocampus"),
        ("IVC", "inferior_vena_cava"),
        ("oedema around tumour", "peritumoral_edema"),
        ("left lung", "lung"),
        ("document", "hostile"),
        ("GCT of bone", "giant_cell_tumour_of_bone"),
        ("broken wrist", "distal_radius_fracture"),
        ("uvula", "soft_palate"),
    ],
)
def test_search_runs_in_a_browser_without_console_messages(atlas, tmp_path, query, expected):
    address = (atlas / "index.html").as_uri() + "?q=" + query.replace(" ", "+")
    page, console = browse(tmp_path, address)
    assert console == []
    found = re.search(r'<ul id="found">(.*?)</ul>', page, re.DOTALL).group(1)
    hits = re.findall(r'href="entries/([a-z0-9_]+)\.html"', found)
    assert expected in hits[:3]
    assert "<script" not in found and "<img" not in found


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_hostile_page_does_nothing_in_a_browser(atlas, tmp_path):
    page, console = browse(tmp_path, (atlas / "entries" / "hostile.html").as_uri())
    assert console == []
    assert "<title>owned</title>" not in page and "<img" not in page


def test_every_finding_stands_once_under_its_own_region(tmp_path):
    kb = load_knowledge_base()
    page = write_site(kb, tmp_path / "all").read_text(encoding="utf-8")
    findings = page[page.index("<h2>Findings") : page.index("<h2>Devices")]
    regions = re.split(r"<li><details><summary>(?=Brain|Head|Neck|Spine|Chest|Abd|Pel|Limbs|Fe|Any)",
                       findings)[1:]  # fmt: skip
    shown = [re.findall(r'href="entries/([a-z0-9_]+)\.html"', part) for part in regions]
    assert sorted(sum(shown, [])) == sorted(
        e.id for e in kb.entries if e.kind == "pathology" and e.id != "imaging_finding"
    )
    assert all(len({kb.by_id[e].region for e in ids}) == 1 for ids in shown)
    counts = [int(re.search(r'count">(\d+)<', part).group(1)) for part in regions]
    assert counts == [len(ids) for ids in shown]


def test_a_word_that_means_another_thing_in_another_region_is_no_cross_link(tmp_path):
    entries = (
        Entry("meniscus_of_knee", "Meniscus", "In the knee.", "anatomy", region="limb"),
        Entry("fluid", "Fluid", "Rises as a meniscus.", "pathology", region="chest"),
        Entry("tear", "Tear", "Splits a meniscus.", "pathology", region="limb"),
    )
    mentions = Mentions(KnowledgeBase(entries, ()))
    assert mentions.of(entries[1]) == [] and mentions.of(entries[2]) == ["meniscus_of_knee"]
