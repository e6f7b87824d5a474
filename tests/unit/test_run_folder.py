"""What is read back of a run."""

from pathlib import Path

import numpy as np
import torch

from momkd.workflows.run_folder import describe_machine, read_predictions


def test_ids_are_text_whatever_they_look_like(tmp_path: Path) -> None:
    ids = ["NULL", "nan", "NA", "None", "007", "1e5", "true"]
    rows = [f"{i},{i},abmil,{n / 10}" for n, i in enumerate(ids)]
    text = "\n".join(["case_id,slide_id,model,low", *rows, "c,s,abmil,"])
    (tmp_path / "predictions.csv").write_text(text + "\n", encoding="utf-8")
    table = read_predictions(tmp_path)
    assert list(table["case_id"]) == [*ids, "c"]
    assert list(table["slide_id"]) == [*ids, "s"]
    assert np.isnan(table["low"].iloc[-1])
    assert table["low"].dtype == np.float64


def test_a_manifest_names_the_processor_and_its_instructions() -> None:
    name, _, instructions = describe_machine()["processor"].rpartition(", ")
    assert name.strip()
    assert instructions == torch.backends.cpu.get_cpu_capability()
