"""What `tritonclient` and `openai` get: run with the address of HTTP and that of gRPC, by the interpreter of their own
environment."""

import sys

import numpy as np
import openai
import tritonclient.grpc as triton_grpc
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


def v2_grpc(address: str) -> None:
    """The same over gRPC, tensors as bytes, which is the one form that the client sends."""
    client = triton_grpc.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready()
    server = client.get_server_metadata()
    assert server.name == "foremesh" and "model_repository" in server.extensions
    assert not client.is_model_ready("intent.mini")
    client.load_model("intent.mini")
    assert client.is_model_ready("intent.mini")
    about = client.get_model_metadata("intent.mini", as_json=True)
    assert [(one["name"], one["shape"]) for one in about["inputs"]] == [
        ("ids", ["-1", "-1"]),
        ("lengths", ["-1"]),
    ]
    states = {row.name: row.state for row in client.get_model_repository_index().models}
    assert states["intent.mini"] == "READY"
    ids, lengths = np.array([[5, 6, 7, 0], [8, 9, 10, 11]], np.int64), np.array([3, 4], np.int64)
    inputs = [triton_grpc.InferInput("ids", [2, 4], "INT64"), triton_grpc.InferInput("lengths", [2], "INT64")]
    for one, values in zip(inputs, (ids, lengths), strict=True):
        one.set_data_from_numpy(values)
    outputs = [triton_grpc.InferRequestedOutput(name) for name in ("logits", "embedding")]
    result = client.infer("intent.mini", inputs, outputs=outputs, request_id="7", client_timeout=10.0)
    assert result.get_response().id == "7"
    assert result.as_numpy("logits").shape == (2, 64) and result.as_numpy("embedding").shape == (2, 384)
    text = triton_grpc.InferInput("text", [2], "BYTES")
    text.set_data_from_numpy(np.array(["play some jazz", "wake me at six"], dtype=object))
    wanted = [triton_grpc.InferRequestedOutput(name) for name in ("intent", "score")]
    result = client.infer("intent", [text], outputs=wanted, compression_algorithm="gzip")
    assert result.as_numpy("intent").tolist() == [b"play_music", b"alarm_set"]
    assert result.as_numpy("score").min() > 0.3
    client.unload_model("intent.mini")
    assert not client.is_model_ready("intent.mini")
    for name, status, said in (
        ("huge", "NOT_FOUND", "not in the catalog"),
        ("intent.tiny", "INVALID_ARGUMENT", "no output 'nothing'"),
    ):
        try:
            client.infer(name, [text], outputs=[triton_grpc.InferRequestedOutput("nothing")])
        except triton_grpc.InferenceServerException as error:
            assert said in str(error) and error.status() == f"StatusCode.{status}", error
        else:
            raise AssertionError(f"{name} answered")
    client.close()


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
    v2_grpc(sys.argv[2])
    embeddings(sys.argv[1])
