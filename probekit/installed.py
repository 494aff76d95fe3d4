"""What stands in the way of the package where it is installed: another project's files among ours, or no OpenCV."""

from pathlib import Path

HERE = Path(__file__).resolve().parents[1]  # what holds the package
# The packages that bring its module cv2; whichever is installed is taken.
OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
NO_OPENCV = "expected OpenCV, found no module cv2; type: pip install opencv-python-headless"  # opencv-python would do


def warning(folder: Path = HERE) -> str | None:
    """A line if the distribution `probekit`, which is another project's, has its files in the folder of ours.

    Args:
        folder: What holds the package; in that of a checkout no distribution lies.
    """
    for record in folder.glob("probekit-*.dist-info/RECORD"):
        if "probekit/__init__.py," in record.read_text(encoding="utf-8", errors="replace"):
            found = record.parent.name.removesuffix(".dist-info").replace("-", " ")
            return (
                f"warning: expected probekit-vision alone, found the distribution {found} of another project, too, "
                "and either has replaced files of the other; type: pip uninstall probekit probekit-vision, and then "
                "install the one that you want"
            )
    return None
