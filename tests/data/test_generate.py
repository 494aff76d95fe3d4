"""Generated files: bytes that depend on nothing but the command, counterfactuals, bounded memory, and kill -9.

Alone: pytest tests/data/test_generate.py
"""

import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from generators import GENERATORS
from probekit.data import generate as generate_module
from probekit.data.generate import generate, rendered
from probekit.data.truth import read_truth
from probekit.h5 import Block, DatasetInfo, Split, pack, read_info, read_split, verify
from tests.forked import SERVER
from tests.generators.bar_dot import BarDot


def gen(out: Path, name: str = "rect-tri", **options: Any) -> DatasetInfo:
    settings: dict[str, Any] = {"n": 20, "n_test": 6, "size": 32, "workers": 2}
    return generate(name, out=out, **(settings | options))


def test_products_of_generators_take_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two take twice the time of the curve of enclosed, and that of the thread that compresses."""
    threads: list[int] = []

    def drawn(*args: Any, **options: Any) -> Any:
        threads.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return rendered(*args, **options)

    monkeypatch.setattr(generate_module, "rendered", drawn)
    with threadpool_limits(2, user_api="blas"):
        gen(tmp_path / "a.h5", "enclosed")
        assert max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas") == 2
    assert set(threads) == {1}


@pytest.mark.parametrize("name", GENERATORS)
def test_the_file_holds_what_the_generator_gives(tmp_path: Path, name: str) -> None:
    info = gen(tmp_path / "a.h5", name, seed=3)
    generator = GENERATORS[name](size=32)
    assert (info.generator, info.seed, info.classes) == (name, 3, generator.classes)
    assert info.parameters == generator.values
    assert info.mask_names == generator.mask_names
    assert [factor["name"] for factor in info.factors] == [factor.name for factor in generator.factors]
    for split, n in (("train", 20), ("test", 6)):
        factors = generator.sample(3, split, np.arange(n))
        drawn = generator.render(factors)
        found = read_split(info.path, split, masks=True)
        np.testing.assert_array_equal(found.images, drawn.images)
        np.testing.assert_array_equal(found.masks, drawn.masks)
        np.testing.assert_array_equal(found.labels, generator.labels(factors))
        for column in found.factors:
            np.testing.assert_array_equal(found.factors[column], factors[column])


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("name", GENERATORS)
def test_without_masks_all_else_is_the_same(tmp_path: Path, name: str, pairs: bool) -> None:
    full, plain = (gen(tmp_path / f"{masks}.h5", name, masks=masks, pairs=pairs, n=6) for masks in (True, False))
    assert verify(plain.path).mask_names == ()
    for split in ("train", "test"):
        assert not plain.splits[split].masked
        found, expected = (read_split(info.path, split, masks=True) for info in (plain, full))
        assert found.masks is None
        np.testing.assert_array_equal(found.images, expected.images)
        np.testing.assert_array_equal(found.labels, expected.labels)
        for column in expected.factors:
            np.testing.assert_array_equal(found.factors[column], expected.factors[column])


# Content hashes of `gen NAME --n 20 --n-test 6 --seed 0 --size 32`; they hold on any machine.
GOLDEN = {
    "rect-tri": "b9b56feca1af6d78851c281ec92ceac64184895d4463b7f01589cb6eda4369ef",
    "vernier": "6f7d6d17c46209c9050652fe093410d2393aaf67d37c110cd9a4230fd749606d",
    "bind": "1d47687fb2dee901e46768bd8e51913c91fe7f4945237deb7b719620b4285795",
    "enclosed": "67c3bfd3e4d5f269717ac1b26bd43e111fd42baa6985dd67d0b17930e27669e3",
    "navon": "8f9ec8045b090b23259f81d2a81cd1b9d8594f9c3b80bf32fb6c57043bf89b68",
    "trace": "33fb872e52cbfdd6a42a7dbe60ab63c0a300c291b64f84a44c1e506e4bf9bb23",
    "same": "e39949796be1737e19db88083e13729f24aba3799fdc3b288ebe2361fbcabb86",
    "align": "6e8926867863ee2d2b14578833116aa734a15710a2a695699cea0e12595d551d",
    "rect-tri-published": "7214c11b54f4466e41dac82c3c90fed222f6bfb4a9b1aa91e2f47c18cae31155",
    "circ-sq": "e039fa140339de7b60da6c7b1024aad483084be7bdf5cd6df164d4e55dddaa57",
    "circ-sq-published": "5e7eb669dca577d9a2c773a1742cc5abf400f9f16202d20dcb57060739fa26be",
    "landolt": "f827ffdd7ccc1b21249c778201edeec5e2e46ef9e2d77aba78ed03682747e4e1",
}


@pytest.mark.parametrize("name", GENERATORS)
def test_the_content_hash_is_the_same_on_any_machine(tmp_path: Path, name: str) -> None:
    assert gen(tmp_path / "a.h5", name).content_hash == GOLDEN.get(name)


def test_one_file_and_one_line_of_the_table_make_a_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GENERATORS, BarDot.name, BarDot)
    info = gen(tmp_path / "a.h5", "bar-dot", pairs=True)
    assert verify(info.path).content_hash == info.content_hash
    assert info.mask_names == ("bar", "dot", "evidence:bar", "evidence:side")
    truth = read_truth(info, "train", 20)
    for factor, other in truth.counterfactuals.items():
        np.testing.assert_array_equal(truth.split.images != other.images, truth.masks[f"evidence:{factor}"])


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("name", GENERATORS)
def test_bytes_do_not_depend_on_workers(
    tmp_path: Path, name: str, pairs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate_module, "BLOCK_IMAGES", 64)  # many small blocks
    one = gen(tmp_path / "1.h5", name, n=300, workers=1, pairs=pairs)
    eight = gen(tmp_path / "8.h5", name, n=300, workers=8, pairs=pairs)
    again = gen(tmp_path / "8.h5", name, n=300, workers=8, pairs=pairs, overwrite=True)
    assert one.path.read_bytes() == eight.path.read_bytes()
    assert one.content_hash == eight.content_hash == again.content_hash


@pytest.mark.parametrize("name", GENERATORS)
def test_fewer_images_are_a_prefix_of_more(tmp_path: Path, name: str) -> None:
    few = read_split(gen(tmp_path / "few.h5", name, n=70).path, "train", masks=True)
    many = read_split(gen(tmp_path / "many.h5", name, n=300).path, "train", stop=70, masks=True)
    np.testing.assert_array_equal(few.images, many.images)
    np.testing.assert_array_equal(few.masks, many.masks)
    np.testing.assert_array_equal(few.labels, many.labels)


def test_the_hash_depends_on_seed_and_settings_but_not_on_compression(tmp_path: Path) -> None:
    hashes = [
        gen(tmp_path / "a.h5", overwrite=True, **options).content_hash
        for options in ({}, {"seed": 1}, {"n": 21}, {"size": 48}, {"parameters": {"contrast": 0.5}}, {"pairs": True})
    ]
    assert len(set(hashes)) == len(hashes)
    for compression in ("none", "lzf"):
        assert gen(tmp_path / "a.h5", overwrite=True, compression=compression).content_hash == hashes[0]


@pytest.mark.parametrize("name", GENERATORS)
def test_pairs_are_images_with_their_counterfactuals(tmp_path: Path, name: str) -> None:
    info = gen(tmp_path / "a.h5", name, pairs=True, size=64)
    plain = gen(tmp_path / "b.h5", name, size=64)
    generator = GENERATORS[name](size=64)
    roles = ["base", *generator.class_factors]
    for split, n in (("train", 20), ("test", 6)):
        assert info.splits[split].n == n * len(roles)
        rows = read_split(info.path, split, masks=True)
        assert rows.factors["pair_id"].tolist() == [base for base in range(n) for _ in roles]
        assert rows.factors["pair_role"].tolist() == [role.encode() for _ in range(n) for role in roles]
        base = read_split(plain.path, split, masks=True)
        np.testing.assert_array_equal(rows.images[:: len(roles)], base.images)
        assert rows.masks is not None
        assert rows.labels is not None
        for step, role in enumerate(roles[1:], start=1):
            bit = info.mask_names.index(f"evidence:{role}")
            changed = rows.images[:: len(roles)] != rows.images[step :: len(roles)]
            np.testing.assert_array_equal(changed, rows.masks[:: len(roles)] >> bit & 1)
            assert (rows.labels[:: len(roles)] != rows.labels[step :: len(roles)]).all()
            for factor in generator.factors:
                same = rows.factors[factor.name][:: len(roles)] == rows.factors[factor.name][step :: len(roles)]
                assert same.all() == (factor.name != role)


def test_progress_counts_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_module, "BLOCK_IMAGES", 1)
    seen: list[tuple[int, int]] = []
    gen(tmp_path / "a.h5", n=200, pairs=True, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (206 * 3, 206 * 3)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_a_split_without_images_is_absent_and_the_other_one_is_the_same(tmp_path: Path) -> None:
    both, train, test = (
        gen(tmp_path / f"{name}.h5", "rect-tri", **counts)
        for name, counts in (("a", {}), ("b", {"n_test": 0}), ("c", {"n": 0}))
    )
    assert (list(train.splits), list(test.splits)) == (["train"], ["test"])
    for info, split in ((train, "train"), (test, "test")):
        np.testing.assert_array_equal(read_split(info.path, split).images, read_split(both.path, split).images)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "rect-tree"}, ["rect-tree", "rect-tri"]),
        ({"n": -1}, ["--n "]),
        ({"n": 0, "n_test": 0}, ["--n "]),
        ({"n": 10**20}, ["found 100000000000000000000", "--n "]),
        ({"n_test": 2**63 - 1}, ["at most 1000000000 images"]),
        ({"n_test": -1}, ["--n-test"]),
        ({"seed": -1}, ["--seed"]),
        ({"seed": 2**63}, ["--seed"]),
        ({"workers": 0}, ["--workers"]),
        ({"size": 8}, ["16"]),
        ({"compression": "zip"}, ["gzip"]),
        ({"parameters": {"contrasts": 1.0}}, ["contrast"]),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path: Path, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError, match=words[0]) as caught:
        gen(tmp_path / "a.h5", **options)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_needs_overwrite(tmp_path: Path) -> None:
    gen(tmp_path / "a.h5")
    with pytest.raises(FileExistsError, match="--overwrite"):
        gen(tmp_path / "a.h5", seed=1)
    assert read_info(tmp_path / "a.h5").seed == 0
    assert gen(tmp_path / "a.h5", seed=1, overwrite=True).seed == 1


def test_memory_does_not_grow_with_n(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many blocks are under way at once is a matter of threads, and of 2 MB here at most."""
    monkeypatch.setattr(generate_module, "BLOCK_IMAGES", 64)
    gen(tmp_path / "a.h5", n=500)  # what is loaded once
    tracemalloc.start()  # NumPy reports its arrays to it
    gen(tmp_path / "a.h5", n=8000, compression="none", overwrite=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * 8000 * 32**2, "half of the images alone"


def test_blocks_do_not_pile_up_before_a_slow_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_module, "BLOCK_IMAGES", 64)
    begun: list[int] = []

    def counting(rows: Split, compression: str) -> Block:
        begun.append(len(rows.images))
        return pack(rows, compression)

    def slow(done: int, total: int) -> None:
        time.sleep(0.01)
        waiting.append(len(begun) - -(-done // 64))

    monkeypatch.setattr(generate_module, "pack", counting)
    waiting: list[int] = []
    gen(tmp_path / "a.h5", n=64 * 30, size=16, workers=3, progress=slow)
    assert max(waiting) <= 3 + generate_module.AHEAD


def interrupt(done: int, total: int) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        gen(tmp_path / "a.h5", n=500, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def endless(out: Path) -> None:
    gen(out, n=10**7, overwrite=True)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("existing", [False, True])
def test_a_killed_run_leaves_no_half_file(tmp_path: Path, existing: bool) -> None:
    out = tmp_path / "a.h5"
    before = gen(out, seed=5).path.read_bytes() if existing else None
    process = SERVER.Process(target=endless, args=(out,))
    process.start()
    partial = tmp_path / ".a.h5.partial"
    while not (partial.exists() and partial.stat().st_size > 50_000):
        assert process.exitcode is None
        time.sleep(0.01)
    with pytest.raises(OSError, match="another process"):  # two writers do not mix
        gen(out, overwrite=True)
    process.kill()
    process.join()
    assert out.exists() == existing
    assert before is None or out.read_bytes() == before
    assert gen(out, overwrite=True).splits["train"].n == 20  # the next run replaces what the killed one left
    assert list(tmp_path.iterdir()) == [out]


def test_gen_waits_for_no_library_that_it_does_not_use(tmp_path: Path) -> None:
    words = ["probekit", "gen", "landolt", "--n", "2", "--n-test", "1", "--size", "32", "--out", str(tmp_path / "a.h5")]
    code = f"""
import runpy, sys
sys.argv = {words}
try:
    runpy.run_module("probekit", run_name="__main__")
finally:
    print([name for name in ("torch", "matplotlib", "sklearn", "scipy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (tmp_path / "a.h5").exists()
    assert done.stdout.splitlines()[-1] == "[]"
