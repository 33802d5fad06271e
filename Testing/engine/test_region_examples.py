"""A user's example regions: kept for one model, blended with the text, forgotten again."""

import numpy as np
import pytest

from standin_runtime import standin_linker, text_vector
from test_linker import disc_request
from velcro_engine.errors import InputError, KnowledgeBaseError
from velcro_engine.linking.region_examples import (
    MOST_EXAMPLES,
    Example,
    add_example,
    blended,
    examples_path,
    read_examples,
    remove_examples,
)
from velcro_engine.worker.handlers import example as example_handler

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def linker(bundled):
    """Its model calls every region a putamen."""
    return standin_linker(bundled, ["putamen"])


def test_one_example_lets_an_entry_be_found_and_forgetting_undoes_it(linker):
    linker.runtime.trained_entities = frozenset({"thalamus"})
    seen = linker.link(disc_request())
    assert seen.entries[0].id == "putamen"
    # the same region shown as an example of another entry ranks that one far higher
    before = {e.id: e.confidence for e in linker.link(disc_request(top_k=400)).entries}
    assert linker.remember("liver", Example(seen.embedding, "patient")) == 1
    after = linker.link(disc_request(top_k=2))
    assert {e.id for e in after.entries} == {"putamen", "liver"}
    assert after.entries[0].id == "putamen"  # its text says all of it, the example only a part
    told = {e.id: e.confidence for e in after.entries}
    assert told["liver"] > 10 * before.get("liver", 0.0)
    assert linker.forget("liver") == 1
    assert linker.link(disc_request()).entries[0].confidence == pytest.approx(
        seen.entries[0].confidence
    )


def test_examples_are_kept_for_their_own_model_only(linker):
    linker.remember("liver", Example(text_vector("liver")))
    assert list(read_examples("standin")) == ["liver"]
    assert read_examples("another") == {}


def test_unknown_entry_gets_no_example(linker):
    with pytest.raises(KnowledgeBaseError):
        linker.remember("no_such_entry", Example(text_vector("x")))
    assert not examples_path("standin").exists()


def test_stored_embedding_is_the_one_given(linker):
    vector = text_vector("some region")
    add_example("standin", "liver", Example(vector, "patient.nrrd axial"))
    kept = read_examples("standin")["liver"][0]
    assert np.allclose(kept.embedding, vector, atol=1e-5) and kept.source == "patient.nrrd axial"


def test_an_entry_keeps_its_latest_examples():
    for n in range(MOST_EXAMPLES + 3):
        count = add_example("standin", "liver", Example(text_vector(str(n)), str(n)))
    assert count == MOST_EXAMPLES
    assert read_examples("standin")["liver"][0].source == "3"
    assert remove_examples("standin", "liver") == MOST_EXAMPLES
    assert read_examples("standin") == {}


def test_more_examples_weigh_more_and_never_much_for_what_was_trained():
    words, region = text_vector("text"), Example(text_vector("region"))
    alone = [blended(words, (region,) * n, trained=False) @ region.embedding for n in (1, 2, 5)]
    assert alone == sorted(alone) and alone[0] > 0.8
    assert blended(words, (region,), trained=True) @ words > 0.95


def test_damaged_file_and_another_models_vectors_are_told(linker):
    path = examples_path("standin")
    path.parent.mkdir(parents=True)
    path.write_text('{"schema_version": 1, "entries": {"liver": [{"embedding": [0]}]}}')
    with pytest.raises(InputError, match="damaged"):
        read_examples("standin")
    with pytest.raises(InputError, match="another model"):
        linker.use_examples({"liver": (Example(np.ones(3, np.float32)),)})


def test_worker_remembers_and_forgets_a_region(linker):
    class Context:
        session = {"linker": linker}

        @staticmethod
        def check_cancelled():
            pass

    message, payload = disc_request().to_message()
    asked = {"entry_id": "liver", "request": message, "source": "scene"}
    answer, _ = example_handler(asked, payload, Context)
    assert answer == {"type": "remembered", "entry_id": "liver", "examples": 1}
    answer, _ = example_handler({"entry_id": "liver", "remove": True}, b"", Context)
    assert answer == {"type": "forgotten", "entry_id": "liver", "examples": 1}
    with pytest.raises(InputError, match="holds no slice"):
        example_handler({"entry_id": "liver"}, b"", Context)
