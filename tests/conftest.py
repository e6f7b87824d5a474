"""Shapes and dtypes in annotations are checked in every test; torch runs on one thread."""

from pathlib import Path

from jaxtyping import install_import_hook

install_import_hook("momkd", "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the project; a test that asks for it is skipped where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("real data are absent: ../shared/data is not beside the project")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Golden numbers of the published implementations."""
    folder = SHARED / "specs" / "methods" / "golden"
    if not folder.is_dir():
        pytest.skip("golden numbers are absent: ../shared/specs is not beside the project")
    return folder
