"""`unitok train-tokenizer` from manifests."""

import json
from pathlib import Path

import pytest

from unitok.cli.main import main
from unitok.tokenizers import load_text_tokenizer


@pytest.fixture
def manifests(tmp_path: Path) -> list[str]:
    """Two manifests, with letters of their own in one field or another."""
    rows = ([{"text": "the doctor is here"}] * 20, [{"text": "the garden", "target_text": "el jardín"}] * 20)
    paths = [tmp_path / f"{i}.jsonl" for i in range(2)]
    for path, those in zip(paths, rows, strict=True):
        path.write_text("\n".join(json.dumps({"id": str(i), **row}) for i, row in enumerate(those)))
    return [str(path) for path in paths]


def test_several_manifests_and_fields_make_one_vocabulary(manifests, tmp_path, capsys):
    out = str(tmp_path / "text")
    flags = ["--text-fields", "text,target_text", "--size", "276", "--out", out, "--model-type", "char"]
    assert main(["train-tokenizer", "--manifest", *manifests, *flags[:-2]]) == 0
    assert "ids" in capsys.readouterr().out
    tokenizer = load_text_tokenizer(out)
    assert tokenizer.size <= 276
    assert tokenizer.decode(tokenizer.encode("El jardín")) == "el jardín"
    assert len(tokenizer.encode("í")) <= 2  # a letter of its own, not bytes


def test_a_manifest_without_text_is_named(manifests, tmp_path, capsys):
    flags = ["--text-fields", "target_text", "--size", "276", "--out", str(tmp_path / "text")]
    assert main(["train-tokenizer", "--manifest", *manifests, *flags]) == 2
    assert "0.jsonl: no row has text in target_text" in capsys.readouterr().err
    assert not (tmp_path / "text").exists()


def test_time_stamps_and_notes_are_one_id_each_and_come_back_as_they_were(tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("<0.00>the<0.40>doctor is here\n<A4><0.50>la<C#5><0.25>li<rest><1.00>\n" * 20)
    flags = ["--time-stamps", "2", "--time-step", "0.05", "--notes", "--size", "460", "--model-type", "char"]
    assert main(["train-tokenizer", "--text-file", str(texts), *flags, "--out", str(tmp_path / "text")]) == 0
    tokenizer = load_text_tokenizer(str(tmp_path / "text"))
    for text, n_symbols in (("<A4><0.50>la<C#5><0.25>li<rest><1.00>", 6), ("<0.00>the<0.40>doctor", 2)):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert sum(tokenizer.piece(id).startswith("<") for id in ids) == n_symbols
        assert len(ids) <= n_symbols + sum(map(str.isalpha, text)) + 1


def test_time_stamps_finer_than_they_show_are_refused(tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("a\n")
    flags = ["--text-file", str(texts), "--size", "300", "--time-stamps", "2", "--time-step", "0.001"]
    assert main(["train-tokenizer", *flags, "--out", str(tmp_path / "text")]) == 2
    assert "steps from 0.01 s to the whole" in capsys.readouterr().err
