"""What a person changes for one run."""

import pytest
from pydantic import ValidationError

from restill.errors import ConfigurationError
from restill.recipes import training_key
from restill.settings import DistillationSettings, Settings, StudentSettings
from restill.settings.overrides import Overrides


def test_only_what_was_given_is_changed(tmp_path):
    settings = Settings(root=tmp_path, distillation=DistillationSettings(epochs=5, alpha=0.4))
    changed = Overrides.model_validate({"epochs": 9, "student_kind": "cnn", "exports": ["litert"]}).apply(settings)
    assert (changed.distillation.epochs, changed.distillation.alpha) == (9, 0.4)
    assert (changed.student.kind, changed.student.exports) == ("cnn", ("litert",))
    assert Overrides().apply(settings) == settings
    assert Overrides.model_validate({"epochs": None}).apply(settings) == settings


def test_a_student_is_known_by_them(tmp_path):
    settings = Settings(root=tmp_path)
    keys = {
        training_key("data", "teacher", Overrides.model_validate(given).apply(settings))
        for given in ({}, {"epochs": 9}, {"temperature": 3.0}, {"student_kind": "cnn"}, {"seed": 8})
    }
    assert len(keys) == 5


def test_every_field_is_a_setting_with_its_meaning_and_its_limits():
    schema = Overrides.model_json_schema()["properties"]
    of_settings = (
        StudentSettings.model_json_schema()["properties"] | DistillationSettings.model_json_schema()["properties"]
    )
    assert set(schema) == set(Overrides.model_fields)
    for name, field in schema.items():
        setting = of_settings["kind" if name == "student_kind" else name]
        assert field["description"].startswith(setting["description"])
        inside = {**setting, **next(iter(setting.get("anyOf", [{}])))}  # of `float | None`
        for limit in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "enum"):
            assert field.get(limit) == inside.get(limit), f"{name}: {limit}"


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"alpha": 1.5}, {"student_kind": "bart"}, {"epoch": 3}])
def test_wrong_values_are_refused(wrong):
    with pytest.raises(ValidationError):
        Overrides.model_validate(wrong)


def test_values_that_do_not_go_together_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(ConfigurationError, match="embeddings = word-vectors needs word_vectors"):
        Overrides.model_validate({"embeddings": "word-vectors"}).apply(Settings(root=tmp_path))
