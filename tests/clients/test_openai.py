"""The openai package's client for embeddings."""

import asyncio
import base64

import numpy as np
import onnxruntime
import openai
import pytest

from models import bert_reference
from quickstart_model import FOLDER, NAME, tokenizer, tokens
from serving import Server

TEXTS = ["A man is eating food.", "A man is eating a piece of bread.", "A monkey is playing drums."]


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def reference(texts: list[str]) -> np.ndarray:
    session = onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])
    ids, mask = tokens(texts)
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return bert_reference.embeddings(session.run(None, feeds)[0], mask)


def vectors(response: openai.types.CreateEmbeddingResponse) -> np.ndarray:
    assert [item.index for item in response.data] == list(range(len(response.data)))
    return np.array([item.embedding for item in response.data])


def test_embeddings_are_the_models_own(client: openai.OpenAI) -> None:
    """At default settings, which ask for base64."""
    response = client.embeddings.create(model=NAME, input=TEXTS)
    assert response.model == NAME
    assert np.abs(vectors(response) - reference(TEXTS)).max() < 1e-5
    assert response.usage.prompt_tokens == sum(len(each.ids) for each in tokenizer().encode_batch(TEXTS))


def test_floats_and_base64_say_the_same(client: openai.OpenAI) -> None:
    plain = vectors(client.embeddings.create(model=NAME, input=TEXTS, encoding_format="float"))
    packed = client.embeddings.create(model=NAME, input=TEXTS, encoding_format="base64")  # the client leaves it packed
    unpacked = [np.frombuffer(base64.b64decode(item.embedding), "<f4") for item in packed.data]
    assert np.abs(plain - np.array(unpacked)).max() < 1e-6


def test_one_text_is_a_list_of_one(client: openai.OpenAI) -> None:
    response = client.embeddings.create(model=NAME, input=TEXTS[0])
    assert vectors(response).shape == (1, 384)
    assert np.linalg.norm(vectors(response)) == pytest.approx(1.0, abs=1e-5)


def test_tokens_are_taken_as_they_are(client: openai.OpenAI) -> None:
    encoded = [encoding.ids for encoding in tokenizer().encode_batch(TEXTS)]
    by_tokens = vectors(client.embeddings.create(model=NAME, input=encoded))
    assert np.abs(by_tokens - reference(TEXTS)).max() < 1e-5
    single = vectors(client.embeddings.create(model=NAME, input=encoded[0]))
    assert np.abs(single[0] - by_tokens[0]).max() < 1e-5


def test_a_long_text_is_cut_where_the_model_says(client: openai.OpenAI) -> None:
    words = ["river", "engine", "silver", "garden"] * 200
    long, longer = " ".join(words), " ".join([*words, "unrelated", "ending"])
    both = vectors(client.embeddings.create(model=NAME, input=[long, longer]))
    assert np.abs(both[0] - both[1]).max() < 1e-6
    assert np.abs(both - reference([long, longer])).max() < 1e-5


def test_the_model_is_listed(client: openai.OpenAI) -> None:
    listed = client.models.list().data
    assert [model.id for model in listed] == [NAME], "only models that embed are listed"
    assert client.models.retrieve(NAME).object == "model"


def test_mistakes_have_openais_error_types(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.embeddings.create(model="nobody", input="text")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=NAME, input=[])
    with pytest.raises(openai.BadRequestError, match="perceptron"):
        client.embeddings.create(model="perceptron", input="text")
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=NAME, input=[[10**9]])


def test_requests_in_flight_at_once_get_their_own_answers(server: Server) -> None:
    texts = [f"sentence number {i} about {'cats' if i % 2 else 'ships'}" for i in range(24)]

    async def ask() -> np.ndarray:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            answers = await asyncio.gather(*(client.embeddings.create(model=NAME, input=text) for text in texts))
            return np.concatenate([vectors(answer) for answer in answers])

    assert np.abs(asyncio.run(ask()) - reference(texts)).max() < 1e-5
