"""Where the model runs: the processor, or a graphics processor if onnxruntime has one to offer."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from velcro_engine.errors import InputError, ModelError

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from velcro_engine.model import onnx_runtime  # noqa: E402
from velcro_engine.model.opening import open_runtime  # noqa: E402


@pytest.fixture
def model_input():
    """A blank slice in the model's own size."""
    encoder = open_runtime()._session("encoder")
    shapes = {
        i.name: [n if isinstance(n, int) else 1 for n in i.shape] for i in encoder.get_inputs()
    }
    arrays = {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}
    return SimpleNamespace(**arrays)


def test_a_graphics_processor_that_is_not_there_is_an_error_with_a_way_out(
    model_input, monkeypatch
):
    monkeypatch.setattr(onnx_runtime, "GRAPHICS_PROVIDERS", ("NoSuchExecutionProvider",))
    with pytest.raises(ModelError, match="choose the processor"):
        open_runtime(device="gpu").encode(model_input)


def test_a_provider_that_does_not_start_is_not_replaced_in_silence(model_input, monkeypatch):
    """The library itself would go on with the processor."""
    monkeypatch.setattr(onnx_runtime, "GRAPHICS_PROVIDERS", ("CUDAExecutionProvider",))
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(ModelError, match="choose the processor"):
        open_runtime(device="gpu").encode(model_input)


def test_another_device_gives_the_same_answer(model_input, monkeypatch):
    """With the one further provider of the plain package, which leaves the work to the processor."""
    import onnxruntime

    others = [p for p in onnxruntime.get_available_providers() if p != "CPUExecutionProvider"]
    if not others:
        pytest.skip("this onnxruntime knows the processor only")
    monkeypatch.setattr(onnx_runtime, "GRAPHICS_PROVIDERS", tuple(others))
    there, here = open_runtime(device="gpu"), open_runtime()
    first, second = there.encode(model_input).maps, here.encode(model_input).maps
    assert there.device == "gpu" and here.device == "cpu"
    assert there._session("decoder").get_providers() == ["CPUExecutionProvider"]
    for name, values in first.items():
        assert np.allclose(values, second[name], atol=1e-4)


def test_devices_have_names():
    with pytest.raises(ModelError, match="no device 'abacus'"):
        open_runtime(device="abacus")
    from velcro_engine.worker.handlers import _open

    with pytest.raises(InputError, match="must be named"):
        _open({"device": 3}, None)
