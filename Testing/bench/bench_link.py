"""How long linking takes, through the real worker process: `python Testing/bench/bench_link.py`.

Prints JSON: seconds until the worker is ready (from its start to the answer to `load`), milliseconds
of the first result on a new slice and of a further region on it (median and worst, measured by the
client, so pipes are included), and the worker's resident memory in MB. With --compare-sam the same
linker runs a SAM ViT-B backbone (random weights: time does not depend on them) in torch, and the
ratios are printed beside. Benchmarks never fail on a time.

The slices come from the MNI152 brain in nilearn, or from --volume.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ENGINE = Path(__file__).parents[2] / "VelcroLink"
sys.path.insert(0, str(ENGINE))

from velcro_engine.messages.protocol import encode_frame, read_frame  # noqa: E402
from velcro_engine.messages.request import SliceRequest  # noqa: E402

BOX_SHARE = 0.18  # of the slice's sides: a structure such as the thalamus


def slices_of(path: Path, count: int) -> list[SliceRequest]:
    """`count` axial slices from the middle half of a volume, each with a box in its middle."""
    from velcro_engine.imaging.reading import read_volume
    from velcro_engine.imaging.slices import anatomical_axes, cut_plane

    volume = read_volume(path)
    layers = int(volume.shape_ijk[anatomical_axes(volume)[2][0]])
    requests = []
    for index in np.linspace(layers * 0.3, layers * 0.7, count).astype(int):
        cut = cut_plane(volume, "axial", index=int(index))
        requests.append(cut.request(box=box_at(cut.pixels.shape, 0.0)))
    return requests


def box_at(shape: tuple[int, ...], shift: float) -> tuple[float, float, float, float]:
    """Box in the middle of a slice, moved right by a share of its width."""
    height, width = shape
    x, y = width * (0.42 + shift), height * 0.42
    return x, y, x + width * BOX_SHARE, y + height * BOX_SHARE


class Client:
    """One worker process of the installed engine."""

    def __init__(self, home: str) -> None:
        paths = os.pathsep.join([str(ENGINE), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "velcro_engine.commands.cli", "worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths, "VELCROLINK_HOME": home},
        )
        self._number = 0

    def ask(self, header: dict, payload: bytes = b"") -> dict:
        assert self.process.stdin is not None
        self._number += 1
        self.process.stdin.write(encode_frame({**header, "id": self._number}, payload))
        self.process.stdin.flush()
        while True:
            answer = self.read()
            if answer.get("id") == self._number and answer["type"] != "progress":
                if answer["type"] == "error":
                    raise SystemExit(f"{answer['message']} {answer['detail']}")
                return answer

    def read(self) -> dict:
        assert self.process.stdout is not None
        frame = read_frame(self.process.stdout)
        if frame is None:
            raise SystemExit("The worker left.")
        return frame[0]

    def link(self, request: SliceRequest) -> float:
        """Milliseconds from asking to answer."""
        header, payload = request.to_message()
        start = time.perf_counter()
        self.ask({"type": "link", "request": header}, payload)
        return 1000 * (time.perf_counter() - start)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


def measure_worker(requests: list[SliceRequest], model: str | None) -> dict:
    """Figures of the module docstring for one model folder (None: the bundled one)."""
    import psutil

    with tempfile.TemporaryDirectory() as home:
        start = time.perf_counter()
        client = Client(home)
        client.read()
        hello = time.perf_counter() - start
        client.ask({"type": "load", "model": model})
        ready = time.perf_counter() - start
        first, further = [], []
        for request in requests:
            first.append(client.link(request))
            for shift in (0.01, 0.02, 0.03, 0.04):
                moved = request.with_prompt(box=box_at(request.pixels.shape, shift))
                further.append(client.link(moved))
        memory = psutil.Process(client.process.pid).memory_info().rss / 2**20
        client.close()
    return {
        "hello_s": round(hello, 3),
        "ready_s": round(ready, 3),
        "first_result_ms": summary(first),
        "further_region_ms": summary(further),
        "resident_mb": round(memory),
    }


def measure_sam(requests: list[SliceRequest]) -> dict:
    """The same steps with a SAM ViT-B encoder, prompt encoder and decoder in torch."""
    import torch
    from segment_anything import sam_model_registry

    from velcro_engine.model.network import Encoded, VelcroNetwork
    from velcro_engine.model.network_parts import NetworkConfig
    from velcro_engine.model.preprocess import (
        letterbox_of,
        mask_to_slice,
        model_input,
        prompt_arrays,
    )

    torch.manual_seed(0)
    sam = sam_model_registry["vit_b"](checkpoint=None)
    config = NetworkConfig(backbone="sam_vit_b", size=1024, width=256, mlp=2048)
    network = VelcroNetwork(config, sam).eval()
    first, further = [], []
    with torch.inference_mode():
        for request in requests:
            start = time.perf_counter()
            box = letterbox_of(request, config.size)
            picture = model_input(request, config.size, box)
            encoded: Encoded = network.encode(
                torch.from_numpy(picture.image), torch.from_numpy(picture.position)
            )
            for number, shift in enumerate((0.0, 0.01, 0.02, 0.03, 0.04)):
                if number:
                    start = time.perf_counter()
                moved = request.with_prompt(box=box_at(request.pixels.shape, shift))
                points, labels = (torch.from_numpy(a) for a in prompt_arrays(moved, box))
                decoded = network.decode(encoded, points, labels)
                mask_to_slice(decoded.masks[0].numpy(), box, request.pixels.shape)
                (further if number else first).append(1000 * (time.perf_counter() - start))
    return {"first_result_ms": summary(first), "further_region_ms": summary(further)}


def summary(values: list[float]) -> dict:
    return {"median": round(float(np.median(values)), 1), "worst": round(max(values), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--volume", type=Path, help="else the MNI152 brain of nilearn")
    parser.add_argument("--model", help="model folder (else the bundled one)")
    parser.add_argument("--slices", type=int, default=10)
    parser.add_argument("--compare-sam", action="store_true")
    parser.add_argument("--out", type=Path, help="also write the JSON there")
    args = parser.parse_args()
    if args.volume is None:
        from velcro_engine.commands.demo import brain_path

        args.volume = brain_path()
    requests = slices_of(args.volume, args.slices)
    figures: dict = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
            "python": platform.python_version(),
        },
        "slice_pixels": list(requests[0].pixels.shape),
        "worker": measure_worker(requests, args.model),
    }
    if args.compare_sam:
        sam = measure_sam(requests[:2])
        figures["sam_vit_b"] = sam
        figures["times_faster_than_sam"] = {
            key: round(sam[key]["median"] / figures["worker"][key]["median"], 1)
            for key in ("first_result_ms", "further_region_ms")
        }
    text = json.dumps(figures, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
