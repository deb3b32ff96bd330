"""`lldeg` on logs of `llama-perplexity --kl-divergence`, with numbers counted from their rows."""

import numpy as np
import pytest
from analyze_runner import run_analyze

import lldeg

HEADER = (
    "chunk             PPL               ln(PPL(Q)/PPL(base))          KL Divergence              Δp RMS"
    "            Same top p"
)
CHUNKS = 60
DRAW = np.random.default_rng(5)
BASE = DRAW.normal(2.4, 0.3, CHUNKS)
"""Negative log-likelihood of a token in each chunk."""


def log(path, excess, divergence, same, chunks=CHUNKS, base=BASE):
    """A log as llama.cpp prints it: running means, with what it prints before and after them."""
    count = np.arange(1, chunks + 1)
    running = [np.cumsum(one[:chunks]) / count for one in (base + excess, excess, divergence, same)]
    lines = ["llama_model_loader: - kv 0: general.name str = KL", "kl_divergence: 1.4 seconds per pass"]
    for number, (nll, ratio, kl, top) in zip(count, np.transpose(running), strict=True):
        lines += ["", HEADER]
        lines.append(
            f"{number:4d}    {np.exp(nll):9.4f} ± {0.2:9.4f}    {ratio:10.5f} ±       -nan    {kl:10.5f} ± "
            f"{0.00006:10.5f}    {4.5:6.3f} ± {0.1:6.3f} %    {100 * top:6.3f} ± {0.3:6.3f} %"
        )
    lines += [
        "",
        "====== KL divergence statistics ======",
        f"Mean    KLD: {divergence.mean():10.6f} ±   0.000990",
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def logs(tmp_path):
    """A folder of two logs, of a model that is close to the base and one that is far."""
    numbers = {"Q8_0": (1e-4, 1e-3, 0.99), "Q2_K": (0.2, 0.15, 0.8)}
    for name, (excess, kl, same) in numbers.items():
        spread = DRAW.uniform(0.5, 1.5, (2, CHUNKS))
        log(tmp_path / "logs" / f"{name}.log", excess * spread[0], kl * spread[1], np.full(CHUNKS, same))
    return tmp_path / "logs"


def rows(path):
    """The last row of a log: running means over all of it."""
    return [line.split() for line in path.read_text().splitlines() if line.endswith("%")][-1]


def test_a_folder_of_logs_is_one_base_and_its_variants(logs, tmp_path):
    """The means over chunks are those of the last rows; what is far is degraded, and has changed."""
    ran = run_analyze(logs, "--control", "Q8_0", out=tmp_path / "out")
    assert {one["variant"] for one in ran.verdicts["comparisons"]} == {"Q8_0", "Q2_K"}
    for one in ran.verdicts["comparisons"]:
        last = rows(logs / f"{one['variant']}.log")
        found = {change["measurement"]: change for change in one["changes"]}
        assert found["kl"]["variant_mean"] == pytest.approx(float(last[7]), abs=1e-5)
        assert found["log_ratio"]["variant_mean"] == pytest.approx(float(last[4]), abs=1e-5)
        assert found["other_top"]["variant_mean"] == pytest.approx(1 - float(last[14]) / 100, abs=1e-4)
        assert one["variant_score"] == pytest.approx(np.log(float(last[1])), abs=1e-4)
        assert (one["items"], one["tasks"][0]["task"]) == (CHUNKS, "perplexity")
    far = ran.comparison("Q2_K", None)
    assert far["verdict"] == "degraded"
    assert {change["measurement"]: change["verdict"] for change in far["changes"]}["kl"] == "changed"


def test_of_a_log_of_two_runs_the_last_counts(logs):
    """As after `>>`."""
    path, other = logs / "Q8_0.log", (logs / "Q2_K.log").read_text()
    path.write_text(other + "\n" + path.read_text())
    (result,) = lldeg.analyze(path).comparisons
    assert next(one for one in result.changes if one.measurement == "kl").variant_mean < 0.01


@pytest.mark.parametrize("names", [("Q2_K", "Q8_0"), ("Q8_0", "Q2_K")])
def test_a_cut_log_is_read_as_far_as_it_goes(logs, tmp_path, names):
    """A run that was stopped has fewer chunks, which is said of it alone; the base has all of them."""
    whole = (logs / f"{names[1]}.log").read_text()
    (logs / f"{names[1]}.log").write_text(whole[: whole.index("  41 ")])
    ran = run_analyze(logs, out=tmp_path / "out")
    found = [ran.comparison(name, None) for name in names]
    assert [(one["items"], one["missing"]) for one in found] == [(CHUNKS, 0), (40, 20)]


def test_a_log_of_powershell_is_read(logs):
    """Its `>` writes UTF-16; a log that is passed over would be a model that nobody misses."""
    path = logs / "Q2_K.log"
    path.write_text(path.read_text(), "utf-16")
    assert {one.variant for one in lldeg.analyze(logs).comparisons} == {"Q2_K", "Q8_0"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda text: text.replace("\n   7 ", "\n   6 "), "has no row of chunk 7"),
        (lambda text: text.replace(" %", ""), "has no table of chunks"),
        (lambda text: text.replace("\n   3    ", "\n   3    nan "), "has no row of chunk 3"),
    ],
)
def test_a_damaged_table_is_refused(logs, changed, said):
    """In a sentence that names the file."""
    path = logs / "Q2_K.log"
    path.write_text(changed(path.read_text()))
    with pytest.raises(lldeg.UserError, match=f"Q2_K.log {said}"):
        lldeg.analyze(logs)


def test_logs_of_two_bases_are_refused(logs):
    """Their chunks would not be pairs."""
    small = np.full(CHUNKS, 1e-3)
    log(logs / "other.log", small, small, 1 - small, base=BASE + 0.5)
    with pytest.raises(lldeg.UserError, match=r"other.log has another base or another text than .*Q2_K.log"):
        lldeg.analyze(logs)


@pytest.mark.parametrize("name", ["base.log", "Q2_K.txt"])
def test_two_logs_of_one_name_are_refused(logs, name):
    """They would be the reruns of one model; the base is in every log."""
    (logs / name).write_bytes((logs / "Q8_0.log").read_bytes())
    with pytest.raises(lldeg.UserError, match=f"{name} has the name of another log, or of the base"):
        lldeg.analyze(logs)
