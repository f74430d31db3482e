from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from polymix.data.schema import Kind, Modality, Schema, Statistics, Target, Task
from polymix.errors import DataError

RANKS = {
    Kind.IMAGE: 3,
    Kind.AUDIO: 3,
    Kind.TIMESERIES: 2,
    Kind.TEXT: 1,
    Kind.TABULAR: 1,
    Kind.FEATURES: 2,
}
names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,9}\Z")
sizes = st.integers(1, 9)
finite = st.floats(-1e300, 1e300)
spread = st.floats(min_value=1e-300, max_value=1e300)


@st.composite
def statistics(draw, count):
    return Statistics(
        mean=tuple(draw(finite) for _ in range(count)),
        std=tuple(draw(spread) for _ in range(count)),
    )


@st.composite
def modalities(draw, name):
    kind = draw(st.sampled_from(list(Kind)))
    shape = tuple(draw(sizes) for _ in range(RANKS[kind]))
    text = kind is Kind.TEXT
    bare = Modality(
        name=name,
        kind=kind,
        shape=shape,
        dtype=draw(st.sampled_from(["uint8", "int64", "float16", "float32"])),
        optional=draw(st.booleans()),
        vocabulary=draw(sizes) if text else None,
    )
    if text or draw(st.booleans()):
        return bare
    fitted = draw(statistics(draw(st.sampled_from([1, bare.channels]))))
    return Modality.model_validate(bare.model_dump() | {"statistics": fitted.model_dump()})


@st.composite
def schemas(draw):
    found = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    task = draw(st.sampled_from(list(Task)))
    least = {Task.BINARY: 2, Task.MULTICLASS: 2, Task.MULTILABEL: 1, Task.REGRESSION: 0}[task]
    most = {Task.BINARY: 2, Task.REGRESSION: 0}.get(task, 5)
    classes = draw(st.lists(st.text(max_size=5), min_size=least, max_size=most, unique=True))
    return Schema(
        modalities=tuple(draw(modalities(name)) for name in found),
        target=Target(name=draw(names), task=task, classes=tuple(classes)),
    )


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


def read(text: str) -> Schema | None:
    """The schema, or none where it was refused as it should be."""
    refused: tuple[str, ...] = ()
    try:
        return Schema.from_json(text)
    except DataError as error:
        refused = error.problems
    assert refused
    assert all(problem.startswith("schema.json: ") for problem in refused)
    return None


@given(schemas())
def test_a_schema_is_read_back_as_it_was(schema):
    assert Schema.from_json(schema.to_json()) == schema


@given(st.text(max_size=40) | values.map(json.dumps))
def test_any_text_is_a_schema_or_refused(text):
    assert read(text) is None


@settings(max_examples=200)
@given(schemas(), st.data())
def test_an_edited_schema_is_refused_or_reads_back_as_it_is(schema, data):
    tree = json.loads(schema.to_json())
    where, place = tree, data.draw(st.sampled_from(list(tree)))
    while isinstance(where[place], dict | list) and where[place] and data.draw(st.booleans()):
        where = where[place]
        keys = list(where) if isinstance(where, dict) else range(len(where))
        place = data.draw(st.sampled_from(list(keys)))
    if data.draw(st.booleans()):
        where[place] = data.draw(values)
    else:
        del where[place]
    found = read(json.dumps(tree))
    if found is not None:
        assert Schema.from_json(found.to_json()) == found


def modality(**changes):
    return {"name": "a", "kind": "tabular", "shape": [2], "dtype": "float32", **changes}


def fitted(mean, std):
    return {"statistics": {"mean": mean, "std": std}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "video"}, "kind"),
        ({"kind": "image"}, "takes a shape of 3 axes"),
        ({"kind": "features", "shape": [1, 2, 3]}, "1 or 2 axes"),
        ({"shape": []}, "shape"),
        ({"shape": [0]}, "shape.0"),
        ({"dtype": "object"}, "dtype"),
        ({"name": "../a"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a" * 101}, "name"),
        ({"vocabulary": 3}, "a vocabulary goes with kind text alone"),
        ({"kind": "text"}, "a vocabulary goes with kind text alone"),
        (fitted([0, 0, 0], [1, 1, 1]), "3 statistics for 2 channels"),
        (fitted([0, 0], [1]), "2 means, 1 standard deviations"),
        (fitted([0], [0]), "not finite and positive"),
        (fitted([0], [-1]), "not finite and positive"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_wrong_with_a_modality_is_named(changes, said):
    tree = {"modalities": [modality(**changes)], "target": {"name": "y", "task": "regression"}}
    with pytest.raises(DataError, match=said):
        Schema.from_json(json.dumps(tree))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"task": "binary", "classes": ["a"]}, "two classes"),
        ({"task": "multiclass", "classes": ["a"]}, "needs classes"),
        ({"task": "multilabel"}, "needs classes"),
        ({"task": "regression", "classes": ["a"]}, "no classes"),
        ({"task": "ranking"}, "task"),
    ],
)
def test_what_is_wrong_with_a_target_is_named(target, said):
    tree = {"modalities": [modality()], "target": {"name": "y", **target}}
    with pytest.raises(DataError, match=said):
        Schema.from_json(json.dumps(tree))


def test_all_problems_are_told_at_once():
    tree = {"modalities": [modality(dtype="object", name="?")], "target": {"name": "y"}}
    with pytest.raises(DataError) as error:
        Schema.from_json(json.dumps(tree), "there.json")
    said = "\n".join(error.value.problems)
    assert all(part in said for part in ("modalities.0.name", "modalities.0.dtype", "target.task"))
    assert all(problem.startswith("there.json: ") for problem in error.value.problems)


def test_names_differ():
    target = Target(name="y", task=Task.REGRESSION)
    twin = Modality.model_validate(modality())
    with pytest.raises(ValidationError, match="names must differ"):
        Schema(modalities=(twin, twin), target=target)


def test_a_modality_is_found_by_its_name(schema):
    assert schema["words"].vocabulary == 50
    assert [schema.index(name) for name in schema.names] == [0, 1, 2]
    assert [schema[name].channels for name in schema.names] == [3, 2, 1]
    with pytest.raises(DataError, match="did you mean 'image'"):
        schema["imge"]


def test_outputs_by_task():
    assert Target(name="y", task=Task.BINARY, classes=("a", "b")).outputs == 2
    assert Target(name="y", task=Task.MULTILABEL, classes=("a",)).outputs == 1
    assert Target(name="y", task=Task.REGRESSION).outputs == 1


def test_padding_is_for_tokens_and_leaves_other_schemas_as_they_were():
    fields = {"name": "x", "dtype": "float32"}
    plain = Modality(kind="features", shape=(3, 2), **fields)
    assert "padded" not in plain.model_dump_json()  # fingerprints of data built before hold
    assert "focus" not in plain.model_dump_json()
    padded = plain.model_copy(update={"padded": True})
    assert Modality.model_validate_json(padded.model_dump_json()) == padded
    for kind, shape in (("features", (3,)), ("image", (1, 2, 2)), ("timeseries", (3, 1))):
        with pytest.raises(ValidationError, match="padding is for tokens"):
            Modality(kind=kind, shape=shape, padded=True, **fields)


def test_the_token_that_a_row_is_about():
    fields = {"name": "x", "dtype": "float32"}
    focused = Modality(kind="features", shape=(5, 3), focus=4, **fields)
    assert Modality.model_validate_json(focused.model_dump_json()) == focused
    for kind, shape, focus in (
        ("features", (5, 3), 5),
        ("features", (5,), 0),
        ("tabular", (5,), 0),
    ):
        with pytest.raises(ValidationError, match=f"'x': focus is one of .* but got {focus}"):
            Modality(kind=kind, shape=shape, focus=focus, **fields)
