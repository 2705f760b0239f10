"""What a run of `refine` is about, wherever the work is done: its files, its bad records, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from crispmask._version import __version__
from crispmask.coco import CocoDataset
from crispmask.coco.images import ImageFolder
from crispmask.coco.results import images_file_beside
from crispmask.errors import DataError
from crispmask.files import checksum
from crispmask.pipeline.progress import RefineReport
from crispmask.pipeline.provenance import beside, describe, write_provenance
from crispmask.pipeline.records import RecordPlan
from crispmask.pipeline.settings import Settings
from crispmask.refinement import LearnedParams


class RefineJob:
    """A results file to refine; the arguments are those of `crispmask.pipeline.refine_results`.

    Attributes:
        state: the folder that keeps progress until the output is complete.
        skipped: bad records until now.

    Raises:
        DataError: a file or folder that cannot be used.
    """

    def __init__(
        self,
        results: str | Path,
        images: str | Path,
        output: str | Path,
        settings: Settings | None,
        annotations: str | Path | None,
        skip_bad: bool,
        on_bad: Callable[[str], None] | None,
    ) -> None:
        self.results, self.images, self.output = Path(results), Path(images), Path(output)
        settings = settings or Settings()
        self.score = settings.score or 0.0
        self.settings = replace(settings, score=self.score)
        self.named_by = Path(annotations) if annotations else images_file_beside(self.results)
        _check_output(self.output, self.results, self.named_by)
        dataset = CocoDataset.from_file(self.named_by, annotations=False) if self.named_by else None
        self.folder = ImageFolder(self.images, dataset)
        self.state = self.output.with_name(self.output.name + ".unfinished")
        self.skipped = 0
        self._skip_bad, self._on_bad = skip_bad, on_bad

    def bad(self, sentence: str) -> None:
        """Count a record that cannot be refined.

        Raises:
            DataError: with the sentence, unless such records are to be left out.
        """
        if not self._skip_bad:
            raise DataError(f"{sentence}; --skip-bad leaves such records out")
        self.skipped += 1
        if self._on_bad:
            self._on_bad(sentence)

    def fingerprint(self) -> dict[str, Any]:
        """What decides the output."""
        checksums = {
            "results": checksum(self.results),
            "annotations": checksum(self.named_by) if self.named_by else None,
        }
        return {"crispmask": __version__, **checksums, **self.settings.as_dict()}

    def plan(self, file: BinaryIO) -> RecordPlan:
        """The records of the opened file, checked; those that cannot be refined are `bad`."""
        learned = isinstance(self.settings.params, LearnedParams)  # which make masks from boxes
        return RecordPlan.make(file, self.results, self.folder, self.score, self.bad, box_suffices=learned)

    def conclude(
        self, plan: RecordPlan, numbers: Sequence[int], resumed: int, left_alone: Mapping[str, int]
    ) -> RefineReport:
        """Write the provenance of an output that holds these records of the plan, and report."""
        facts = {
            "results": describe(self.results),
            "annotations": describe(self.named_by) if self.named_by else None,
            "images": str(self.images),
            "settings": self.settings.as_dict(),
            "records": {"refined": len(numbers), "below_score": plan.below, "skipped": self.skipped},
        }
        write_provenance(beside(self.output), "refine", facts, [self.output])
        images = len({plan.owner[k] for k in numbers})
        return RefineReport(len(numbers), images, resumed, plan.below, self.skipped, self.named_by, left_alone)


def _check_output(output: Path, *inputs: Path | None) -> None:
    """Raise DataError where the output is a folder or one of the inputs."""
    if output.is_dir():
        raise DataError(f"the output {output} is a folder: name a file")
    for path in inputs:
        if path is not None and output.exists() and path.exists() and output.samefile(path):
            raise DataError(f"the output {output} is also an input: name another file")
