"""What all commands do alike, and these tests do not look at, is done less often."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _few_strengths(few_strengths: None) -> None: ...
