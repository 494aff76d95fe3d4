"""Every section that the tree cites of the three papers it rests on is one that the paper has, and is about that.

Alone: pytest tests/test_citations.py
"""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent

# What each cited section speaks of, read from the papers; of the others nothing is cited.
SECTIONS = {
    "conrec": {
        "2.1": "U-Net|projection|encoder and decoder",
        "2.3": "pooling",
        "2.4": "lars|lr =|schedule|weight_decay|batch|temperature|alpha|settings",
        "2.5": "probe|eval_every|fitted|settings|monitor|score",
        "3.1": "Circle-Square|Rectangle-Triangle",
        "3.2": r"n = |n_test|epochs|600/400|settings",
        "4": "epochs",
        "4.1": "train_with_val",
        "4.2": "folds|Cross-validation",
    },
    "lcr": {
        "3.2": "EPSILON|temperature|Inference",
        "4.1": "lr =|projection_dim|epochs|batch|size|MoCo|crop",
        "4.3": "retrieval",
        "4.5": "filters|rank-1",
    },
    "xcorr": {
        "1.2": "sigmoid|recipe|normalise|clusters|mu|cls|temperature|lr_share|epochs|runs|batch|prototypes|warm",
        "2": "sigmoid",
        "1.3": "linear",
        "1.5": "nearest",
        "3.1": "MONITOR_K|knn|neighbours|after each epoch|memory bank",
        "3.3": "optimizer|average precision",
    },
}
OF_FILE = {  # where a bare "paper, section" means which
    "probekit/presets/paper.toml": "conrec",
    "probekit/presets/quick.toml": "conrec",
    "probekit/presets/sweeps/lcr": "lcr",
    "probekit/presets/sweeps/xcorr": "xcorr",
    "probekit/presets/sweeps": "conrec",
    "probekit/methods/conrec.py": "conrec",
    "probekit/models": "conrec",
    "probekit/branches/lcr": "lcr",
    "probekit/presets/paper/lcr": "lcr",
    "probekit/branches/xcorr.py": "xcorr",
    "probekit/presets/paper/xcorr": "xcorr",
}
OTHERS = re.compile("SimCLR|SimSiam|BYOL|SwAV|Salmon", re.IGNORECASE)


def cited() -> list[tuple[str, str, str, str]]:
    """(where, paper, section, line) of every citation of the three papers in code, presets and generators."""
    found = []
    for folder, ending in (("probekit", "py"), ("probekit", "toml"), ("generators", "py")):
        for path in sorted((ROOT / folder).rglob(f"*.{ending}")):
            name = str(path.relative_to(ROOT))
            usual = next((paper for start, paper in OF_FILE.items() if name.startswith(start)), None)
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                for match in re.finditer(r"sections? (\d(?:\.\d)?)", line):
                    before = line[: match.start()].lower()
                    named = [(before.rfind(paper), paper) for paper in SECTIONS if paper in before]
                    paper = max(named)[1] if named else None if OTHERS.search(before) else usual
                    if paper:
                        found.append((f"{name}:{number}", paper, match[1], line))
    return found


def test_cited_sections_are_about_what_they_are_cited_for() -> None:
    found = cited()
    assert len(found) > 30, "else this proves nothing"
    assert {paper for _, paper, _, _ in found} == set(SECTIONS)
    wrong = [
        f"{where}: {paper}, section {section}: {line.strip()}"
        for where, paper, section, line in found
        if section not in SECTIONS[paper] or not re.search(SECTIONS[paper][section], line, re.IGNORECASE)
    ]
    assert not wrong, "\n".join(wrong)
