from pathlib import Path

import evaluate
import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.metrics import metric

_PREDICTIONS = ["the cat sat on the mat", "a dog ran", ""]
_REFERENCES = [["the cat is on the mat", "a cat sat"], ["a dog ran away"], ["nothing"]]


def test_it_is_a_metric_of_evaluate() -> None:
    assert isinstance(metric("bleu"), evaluate.Metric)
    assert metric("bleu").name == "bleu"


def test_batches_and_single_records_give_what_the_whole_gives() -> None:
    whole = metric("nist").compute(predictions=_PREDICTIONS, references=_REFERENCES)
    pieces = metric("nist")
    pieces.add(prediction=_PREDICTIONS[0], reference=_REFERENCES[0])
    pieces.add_batch(predictions=_PREDICTIONS[1:], references=_REFERENCES[1:])
    assert pieces.compute() == whole


def test_one_metric_serves_several_computations() -> None:
    accuracy = metric("accuracy")
    assert accuracy.compute(predictions=[1, 0], references=[1, 1]) == {"accuracy": 0.5}
    assert accuracy.compute(predictions=[1], references=[1]) == {"accuracy": 1.0}


def test_it_combines_with_others() -> None:
    both = evaluate.combine([metric("accuracy"), metric("matthews_correlation")])
    found = both.compute(predictions=[0, 1, 1], references=[0, 1, 0])
    assert found == pytest.approx({"accuracy": 2 / 3, "matthews_correlation": 0.5})


def test_nothing_is_written_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(folder))
    monkeypatch.chdir(tmp_path)
    metric("bleu").compute(predictions=_PREDICTIONS, references=_REFERENCES)
    assert list(tmp_path.iterdir()) == []


def test_no_records_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="metric bleu to have at least one record"):
        metric("bleu").compute()


def test_a_bad_record_is_named_by_its_row_over_all_batches_and_leaves_no_trace() -> None:
    pieces = metric("pearson")
    pieces.add_batch(predictions=[1.0, 2.0], references=[1.0, 2.0])
    with pytest.raises(ConfigurationError, match="row 3"):
        pieces.add_batch(predictions=[1.0, float("nan")], references=[1.0, 1.0])
    pieces.add(prediction=3.0, reference=3.0)
    assert pieces.compute() == pytest.approx({"pearson": 1.0})


def test_the_signature_names_options_version_and_number_of_references() -> None:
    signature = metric("bleu").signature
    assert "nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:" in signature(_REFERENCES)
    assert "nrefs:1|" in signature(["one", "two"])
