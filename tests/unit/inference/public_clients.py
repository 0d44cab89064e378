"""What `tritonclient` and `openai` get: run with an address, by the interpreter of their own environment."""

import sys

import numpy as np
import openai
import tritonclient.http as triton


def v2(address: str) -> None:
    """Every call of the protocol that a client makes, tensors as JSON and as bytes."""
    client = triton.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready()
    assert client.get_server_metadata()["name"] == "foremesh"
    assert not client.is_model_ready("intent.mini")
    client.load_model("intent.mini")
    assert client.is_model_ready("intent.mini")
    about = client.get_model_metadata("intent.mini")
    assert [one["name"] for one in about["inputs"]] == ["ids", "lengths"]
    states = {row["name"]: row["state"] for row in client.get_model_repository_index()}
    assert states["intent.mini"] == "READY"
    ids, lengths = np.array([[5, 6, 7, 0], [8, 9, 10, 11]], np.int64), np.array([3, 4], np.int64)
    answers = []
    for binary in (True, False):
        inputs = [triton.InferInput("ids", [2, 4], "INT64"), triton.InferInput("lengths", [2], "INT64")]
        for one, values in zip(inputs, (ids, lengths), strict=True):
            one.set_data_from_numpy(values, binary_data=binary)
        outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("logits", "embedding")]
        result = client.infer("intent.mini", inputs, outputs=outputs, request_id="7")
        assert result.get_response()["id"] == "7"
        assert result.as_numpy("embedding").shape == (2, 384)
        answers.append(result.as_numpy("logits"))
    assert answers[0].shape == (2, 64) and np.allclose(answers[0], answers[1], atol=1e-5)
    text = triton.InferInput("text", [2], "BYTES")
    text.set_data_from_numpy(np.array(["play some jazz", "wake me at six"], dtype=object))
    wanted = [triton.InferRequestedOutput(name) for name in ("intent", "score")]
    result = client.infer("intent", [text], outputs=wanted)
    assert result.as_numpy("intent").tolist() == [b"play_music", b"alarm_set"]
    assert result.as_numpy("score").min() > 0.3
    client.unload_model("intent.mini")
    assert not client.is_model_ready("intent.mini")
    for name, said in (("huge", "not in the catalog"), ("intent.tiny", "no output 'nothing'")):
        try:
            client.infer(name, [text], outputs=[triton.InferRequestedOutput("nothing")])
        except triton.InferenceServerException as error:
            assert said in str(error), error
        else:
            raise AssertionError(f"{name} answered")


def embeddings(address: str) -> None:
    """Vectors in both encodings and of fewer dimensions, usage, models, an error that the client understands."""
    client = openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0)
    both = client.embeddings.create(model="intent.mini", input=["play some jazz", "will it rain"])
    assert [len(one.embedding) for one in both.data] == [384, 384]
    assert both.usage.prompt_tokens == both.usage.total_tokens > 4
    plain = client.embeddings.create(model="intent.mini", input="play some jazz", encoding_format="float")
    assert np.allclose(plain.data[0].embedding, both.data[0].embedding, atol=1e-5)
    short = client.embeddings.create(model="intent.mini", input="play some jazz", dimensions=16)
    assert len(short.data[0].embedding) == 16
    assert {"intent.tiny", "intent.mini"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("intent.mini").owned_by == "foremesh"
    try:
        client.embeddings.create(model="intent.tiny", input="x")
    except openai.BadRequestError as error:
        assert error.code == "no-such-output" and "no output 'embedding'" in error.message
    else:
        raise AssertionError("a model without vectors gave some")


if __name__ == "__main__":
    v2(sys.argv[1])
    embeddings(sys.argv[1])
