"""Report tables as they come: encodings, delimiters, missing columns, hostile text; the command."""

import csv
import json

import pytest

from velcro_engine.commands.cli import main
from velcro_engine.errors import InputError
from velcro_engine.reports.language.report_file import read_report_file

HEADER = "uid,MeSH,findings,impression\n"


def table(tmp_path, data):
    path = tmp_path / "reports.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_common_encodings_are_read(tmp_path, encoding):
    path = table(tmp_path, (HEADER + "1,normal,Größe normal,naïve\n").encode(encoding))
    (row,) = read_report_file(path, ("MeSH",))
    assert row["uid"] == "1" and row["MeSH"] == "normal"
    assert row["findings"] == "Größe normal" and row["impression"] == "naïve"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_common_delimiters_are_read(tmp_path, delimiter):
    path = table(tmp_path, delimiter.join(["uid", "findings"]) + f"\n7{delimiter}Clear lungs.\n")
    assert read_report_file(path) == [{"uid": "7", "findings": "Clear lungs.", "impression": ""}]


def test_one_column_of_text_is_enough_and_lines_are_numbered(tmp_path):
    path = table(tmp_path, 'REPORT\n"Two\nlines."\n\nSecond.\n')
    rows = read_report_file(path)
    assert [(r["uid"], r["findings"]) for r in rows] == [("1", "Two\nlines."), ("2", "Second.")]


def test_short_rows_count_as_empty_cells(tmp_path):
    (row,) = read_report_file(table(tmp_path, HEADER + "1,normal\n"))
    assert row["findings"] == row["impression"] == ""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("uid,name\n1,x\n", "no column named"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not a text file"),
    ],
)
def test_what_is_no_report_table_is_refused_in_one_line(tmp_path, data, message):
    with pytest.raises(InputError, match=message) as caught:
        read_report_file(table(tmp_path, data))
    assert "\n" not in caught.value.message


def test_a_missing_column_or_file_is_named(tmp_path):
    with pytest.raises(InputError, match="MeSH"):
        read_report_file(table(tmp_path, "uid,findings\n1,x\n"), ("MeSH",))
    with pytest.raises(InputError, match="cannot be read"):
        read_report_file(tmp_path / "none.csv")


def test_a_report_of_a_megabyte_in_a_table_is_read(tmp_path):
    long = "Clear lungs. " * 80_000
    (row,) = read_report_file(table(tmp_path, f"{HEADER}1,normal,{long},Emphysema.\n"))
    assert len(row["findings"]) > 1_000_000


def run(tmp_path, text, *options):
    out = tmp_path / "out"
    path = table(tmp_path, text)
    code = main(["report", "entities", str(path), "--out", str(out), *options])
    return code, out


def rows_of(out):
    with open(out / "entities.csv", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_command_writes_one_line_a_mention_and_one_a_report(tmp_path, capsys):
    text = "uid,findings,impression\na,Small left pleural effusion.,No pneumothorax.\nb,Clear.,\n"
    code, out = run(tmp_path, text)
    assert code == 0
    (row,) = rows_of(out)
    assert (row["uid"], row["finding"], row["entry"]) == ("a", *["pleural_effusion"] * 2)
    assert row["sides"] == "left" and row["summary"] == "yes" and row["section"] == "findings"
    lines = [json.loads(x) for x in (out / "reports.jsonl").read_text("utf-8").splitlines()]
    assert [line["uid"] for line in lines] == ["a", "b"]
    assert lines[0]["absent"] == ["pneumothorax"]
    assert [s["finding"] for s in lines[0]["summary"]] == ["pleural_effusion"]
    assert lines[1]["findings"] == {} and lines[1]["summary"] == []
    assert "2 reports, 1 mentions" in capsys.readouterr().out


def test_command_lists_denied_findings_when_asked(tmp_path):
    _, out = run(tmp_path, "uid,findings\na,No pneumothorax.\n", "--absent")
    (row,) = rows_of(out)
    assert (row["finding"], row["certainty"], row["summary"]) == ("pneumothorax", "absent", "no")


def test_no_cell_can_start_a_formula_in_a_spreadsheet(tmp_path):
    _, out = run(tmp_path, 'uid,findings\n"=cmd()","=1+1 cardiomegaly <script>x</script>"\n')
    for row in rows_of(out):
        assert all(not cell.startswith(("=", "+", "-", "@")) for cell in row.values())
        assert "<script" not in row["sentence"]


def test_command_leaves_no_folder_behind_when_the_table_cannot_be_used(tmp_path, capsys):
    code, out = run(tmp_path, "uid,name\n1,x\n")
    assert code == 2 and not out.exists()
    assert capsys.readouterr().err.count("\n") == 1


def test_names_of_the_knowledge_base_are_read_when_asked(tmp_path):
    text = "uid,findings\n1,Large glioblastoma in the left frontal lobe. No haemorrhage.\n"
    _, out = run(tmp_path, text)
    assert rows_of(out) == []
    _, out = run(tmp_path, text, "--entries")
    (row,) = rows_of(out)
    assert row["finding"] == row["entry"] == "glioblastoma"
    assert row["sides"] == "left" and row["places"] == "frontal_lobe"
