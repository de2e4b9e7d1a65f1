"""Kill small runs at random moments; only the epoch in flight may be lost.

python tests/robustness/kills.py --kills 100

Each job runs once undisturbed, then in a new folder until as many kills have hit it as its share of
`--kills`. A kill is SIGKILL, half of them at a random moment of the process's life, which begins
with the imports, half within a random call that writes a file: before its data reach the disk, or
before the file is renamed into place. A killed job starts again in the same folder; a finished one
in another new folder. Afterwards:

- no epoch whose checkpoint was written is trained again, and no run of a sweep or notebook of a
  book that was finished is run again;
- what is left at the end equals, bit for bit, what the undisturbed run left.

Temporary files that are left are counted; the next run that claims a folder removes them.

The jobs: training with evaluation, a detector's fit, rounds of active learning, the verdicts of a
folder of images by an exported model, a sweep of two notebook runs, and the build of a book of one
page and two notebooks. Of the last two the main process is killed, always at a random moment, since
it writes no such files; the job starts again at once, while its other processes may still run.
Prints a line per job, and ends with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOG = "log.txt"
SETTINGS: dict[str, Any] = {
    "epochs": 4, "batch_size": 8, "accelerator": "cpu", "progress": False, "seed": 1,
}  # fmt: skip


def log(folder: Path, words: str) -> None:
    """Append a line, on the disk at once."""
    with (folder / LOG).open("a") as file:
        file.write(words + "\n")
        file.flush()
        os.fsync(file.fileno())


def watch_epochs(folder: Path) -> None:
    """Log with which epoch a run starts, and each one whose checkpoint was written."""
    from gainmtl.training.run import TrainingRun

    resume, checkpoint = TrainingRun.resume, TrainingRun._checkpoint

    def logged_resume(self: TrainingRun) -> None:
        resume(self)
        log(folder, f"start {self.epoch}")

    def logged_checkpoint(self: TrainingRun) -> None:
        checkpoint(self)
        log(folder, f"written {self.epoch}")

    TrainingRun.resume = logged_resume  # type: ignore[method-assign]
    TrainingRun._checkpoint = logged_checkpoint  # type: ignore[method-assign]


def data() -> Any:
    import gainmtl

    return gainmtl.datasets.load("synthetic", image_size=32, train=40, val=16, test=16)


def training(folder: Path) -> str:
    """Training and its evaluation: a digest of weights, threshold and measures."""
    import torch

    import gainmtl

    watch_epochs(folder)
    torch.manual_seed(0)
    model, parts = gainmtl.GAINMTL("test_efficientnet", "S5"), data()
    gainmtl.fit(model, parts, output_dir=folder / "run", **SETTINGS)
    measures = gainmtl.evaluate(model, parts.test)
    return digest(folder / "run/model.safetensors", f"{model.threshold} {measures.to_csv()}")


def detector(folder: Path) -> str:
    """The fit of a detector."""
    import torch

    import gainmtl

    watch_epochs(folder)
    torch.manual_seed(0)
    model = gainmtl.ReverseDistillation("test_efficientnet")
    gainmtl.fit_detector(model, data(), output_dir=folder / "run", **SETTINGS)
    return digest(folder / "run/model.safetensors", str(model.threshold))


def active(folder: Path) -> str:
    """Rounds of active learning on frozen features."""
    import torch
    from gainbook.chapters.ch14_active import loop, tasks

    from gainmtl.backbone import Backbone

    torch.manual_seed(0)
    split, setting = tasks.synthetic(32, 2), tasks.Setting(1, 4, 6, 32)
    parts = tasks.encode_split(split, Backbone("test_efficientnet"), folder / "features")
    problem = loop.Problem(split.classes, parts, setting)
    loop.run(problem, loop.Plan("badge"), 0, folder / "run/rounds.json")
    return digest(folder / "run/rounds.json")


def predict(folder: Path) -> str:
    """The verdicts of a folder of images."""
    from gainmtl.runner import OnnxModel, predict_folder

    shared = folder.parents[1] / "predict-input"
    predict_folder(
        OnnxModel(shared / "model.onnx"), shared / "images", folder / "run/verdicts.csv",
        maps=folder / "run/maps",
    )  # fmt: skip
    maps = hashlib.sha256()
    for path in sorted((folder / "run/maps").rglob("*.png")):
        maps.update(path.read_bytes())
    return digest(folder / "run/verdicts.csv", maps.hexdigest())


def sweep(folder: Path) -> str:
    """A sweep of small notebooks."""
    from gainbook.lab.sweep.__main__ import main as sweep_main

    os.chdir(folder)
    write_notebook(Path("square.ipynb"))
    Path("grid.yaml").write_text(
        "notebook: square.ipynb\noutput_dir: out\ngrid: {number: [1, 2]}\n"
    )
    if sweep_main(["grid.yaml", "--workers", "2", "--collect", "table.csv"]):
        raise SystemExit("the sweep failed")
    return digest(Path("table.csv"))


def book(folder: Path) -> str:
    """The build of a small book, by its own copy of the packages."""
    tree = folder.absolute() / "tree"
    if not tree.is_dir():
        shutil.copytree(folder.parents[1] / "book-input", folder / "copy", dirs_exist_ok=True)
        os.replace(folder / "copy", tree)
    sys.path[:0] = paths = [str(tree), str(tree / "book")]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    sys.argv = ["build_book.py", "--jobs", "1"]
    from tools import build_book

    if build_book.main():
        raise SystemExit("the build failed")
    pages = [path.read_text() for path in sorted((tree / "_build/html/notebooks").glob("*.html"))]
    return digest(tree / "_build/html/book/intro.html", "".join(pages))


JOBS: dict[str, Callable[[Path], str]] = {
    "training": training, "detector": detector, "active": active, "predict": predict,
    "sweep": sweep, "book": book,
}  # fmt: skip
FINISHED = {"sweep": "out/*/done.json", "book": "tree/_build/keys/*.key"}
"""Jobs of several processes: the files that are written when a part is finished."""


def write_notebook(path: Path) -> None:
    """A notebook with the parameters `output_dir` and `number`, which writes a square."""
    import nbformat

    parameters = 'output_dir: str = "runs"  # results.json\nnumber: int = 3  # what is squared'
    body = """
    import json
    from pathlib import Path

    row = {"dataset": "none", "split": "test", "system": "s", "condition": {}, "map": None,
           "seed": 0, "fold": None, "metric": "square", "value": float(number**2),
           "ci_low": None, "ci_high": None, "n": 1}
    result = {"notebook": "square", "parameters": {}, "provenance": {}, "rows": [row]}
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    Path(output_dir, "results.json").write_text(json.dumps(result))
    print(number**2)
    """
    cells = [
        nbformat.v4.new_markdown_cell("# A square\n" + "A sentence of a page.\n" * 200),
        nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(textwrap.dedent(body).strip()),
    ]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"  # else random
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


def prepare_book(folder: Path) -> None:
    """The packages with a table of contents of one page and two notebooks."""
    root = Path(__file__).resolve().parents[2]
    kept = shutil.ignore_patterns("__pycache__", "*.md", "results", "*.egg-info")
    for name in ("gainmtl", "book", "tools"):
        shutil.copytree(root / name, folder / name, ignore=kept)
    shutil.copy(root / "_config.yml", folder)
    (folder / "book/intro.md").write_text("# A book\n\nA sentence.\n")
    (folder / "book/glossary.md").write_text("# Terms\n")
    (folder / "notebooks").mkdir()
    for name in ("first", "second"):
        write_notebook(folder / f"notebooks/{name}.ipynb")
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n"
        "- file: notebooks/first\n- file: notebooks/second\n"
    )


def prepare_predict(folder: Path, images: int = 300) -> None:
    """A model file and images."""
    import numpy as np
    import torch
    from PIL import Image

    import gainmtl

    (folder / "images").mkdir(parents=True)
    for k in range(images):
        pixels = np.random.default_rng(k).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{k:03}.png")
    torch.manual_seed(0)
    model = gainmtl.GAINMTL("test_efficientnet", "S5").eval()
    model.image_size, model.threshold = 32, 0.5
    gainmtl.export(model, folder / "model.onnx")


PREPARE = {"predict": prepare_predict, "book": prepare_book}


def digest(path: Path, words: str = "") -> str:
    """Of the tensors of a model file, or of the bytes of another file, and of words.

    A model file also contains times.
    """
    found = hashlib.sha256(words.encode())
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        for name, value in sorted(load_file(path).items()):
            found.update(name.encode() + value.tobytes())
    else:
        found.update(path.read_bytes())
    return found.hexdigest()


def die_while_writing(call: int) -> None:
    """Kill this process at its n-th call of `os.fsync` or `os.replace`, before it is done."""
    counter = itertools.count(1)

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            if next(counter) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return called

    os.fsync, os.replace = deadly(os.fsync), deadly(os.replace)


def start(job: str, folder: Path, call: int = 0) -> subprocess.Popen[bytes]:
    """The job in a process of its own; its digest is the last word in `output_of(folder)`."""
    command = [sys.executable, __file__, "--job", job, "--output", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with output_of(folder).open("wb") as output:  # a pipe would wait for processes of a killed one
        return subprocess.Popen([*command, "--call", str(call)], stdout=output, env=environment)


def output_of(folder: Path) -> Path:
    """The standard output of the last job in `folder`."""
    return folder.with_suffix(".txt")


def finish(process: subprocess.Popen[bytes], folder: Path) -> str | None:
    """The digest that a process printed; `None` if it was killed."""
    process.wait()
    if process.returncode == -signal.SIGKILL:
        return None
    if process.returncode:
        raise SystemExit(f"a job ended with {process.returncode}; see its error above")
    return output_of(folder).read_text().split()[-1]


def finished_parts(job: str, folder: Path) -> dict[Path, int]:
    """The parts that are finished, and when."""
    found: dict[Path, int] = {}
    for path in folder.glob(FINISHED[job]) if job in FINISHED else ():
        with contextlib.suppress(FileNotFoundError):
            found[path] = path.stat().st_mtime_ns
    return found


def lost_epochs(folder: Path) -> int:
    """How many epochs with a checkpoint were trained again, from the job's log."""
    lost, written = 0, 0
    text = (folder / LOG).read_text().splitlines() if (folder / LOG).is_file() else []
    for word, number in (line.split() for line in text):
        if word == "start":
            lost += max(0, written - int(number))
        else:
            written = int(number)
    return lost


def trial(job: str, kills: int, output: Path, chance: random.Random) -> bool:
    """Kill a job `kills` times; whether nothing was lost. Prints a line."""
    shutil.rmtree(output / job, ignore_errors=True)
    folders = (output / job / f"{k}" for k in itertools.count())
    begin = time.monotonic()
    folder = next(folders)
    whole = finish(start(job, folder), folder)
    seconds = time.monotonic() - begin
    unit = "finished parts" if job in FINISHED else "epochs"
    hits, finished, different, lost, left = 0, 0, 0, 0, 0
    folder, parts = next(folders), {}
    while True:
        within = job not in FINISHED and hits < kills and chance.random() < 0.5
        call = chance.randint(1, 14) if within else 0
        process = start(job, folder, call)
        if hits < kills and not call:
            time.sleep(chance.uniform(0, seconds))
            process.kill()
        found = finish(process, folder)
        before, parts = parts, finished_parts(job, folder)
        lost += sum(parts.get(path) != written for path, written in before.items())
        if found is None:
            hits += 1
            continue
        finished += 1
        different += found != whole
        lost += lost_epochs(folder)
        left += len(list(folder.rglob("*.tmp"))) + len(list(folder.rglob(".tmp??????")))
        if hits >= kills:
            break
        folder, parts = next(folders), {}
    print(
        f"{job}: {hits} kills, {finished} runs finished, {lost} {unit} lost, {different} results "
        f"differ from the undisturbed run, {left} temporary files left",
        flush=True,
    )
    return not (lost or different)


def main() -> int:
    """All jobs, or one of them in this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--output", type=Path, default=Path("runs/kills"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--call", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        options.output.mkdir(parents=True, exist_ok=True)
        if options.call:
            die_while_writing(options.call)
        print(JOBS[options.job](options.output))
        return 0
    chance, whole = random.Random(options.seed), True
    for place, job in enumerate(options.jobs):
        if job in PREPARE:
            shared = options.output / f"{job}-input"
            shutil.rmtree(shared, ignore_errors=True)
            PREPARE[job](shared)
        share = options.kills * (place + 1) // len(options.jobs)
        share -= options.kills * place // len(options.jobs)
        whole &= trial(job, share, options.output, chance)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
