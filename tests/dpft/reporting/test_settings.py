from dpft.reporting.facts import Facts
from dpft.reporting.settings import public_settings


def test_settings_show_no_place_of_a_file(facts: Facts) -> None:
    shown = dict(facts.settings)
    assert "xyzzy" not in str(shown)
    assert "t.csv" not in str(shown)
    assert shown["model"] == "tiny"
    assert "privacy.ledger" not in shown


def test_settings_show_what_was_chosen(facts: Facts) -> None:
    shown = dict(facts.settings)
    assert shown["optim.betas"] == "0.9, 0.999"
    assert shown["optim.learning_rate"] == "0.005"
    assert shown["task.labels"] == "no, yes"


def test_windows_places_are_shortened_and_templates_are_not() -> None:
    settings = {
        "model": r"C:\Users\me\tiny",
        "architecture": {"template": "yes/no", "head": None},
        "task": {"text_column": "text", "train": "t.csv"},
    }
    assert public_settings(settings) == (
        ("model", "tiny"),
        ("task.text_column", "text"),
        ("architecture.template", "yes/no"),
    )
