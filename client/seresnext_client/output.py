"""Results as a person, a program or a spreadsheet reads them."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from enum import StrEnum
from typing import Any, TextIO, assert_never

from seresnext_client.prediction import Result

COLUMNS = ("image", "model", "rank", "index", "wnid", "label", "probability", "error")
BAR = 20
EIGHTHS = " ▏▎▍▌▋▊▉"


class Output(StrEnum):
    """The forms in which results are printed; all hold the same facts."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


def write(results: Iterable[Result], output: Output, file: TextIO = sys.stdout) -> None:
    """Write results as they come; only JSON, a single list, is not complete before the last."""
    match output:
        case Output.TABLE:
            lines = table(results)
        case Output.JSON:
            lines = json_list(results)
        case Output.JSONL:
            lines = (json.dumps(record(result), ensure_ascii=False) for result in results)
        case Output.CSV:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for result in results:
                writer.writerows(rows(result))
                file.flush()
            return
        case _:
            assert_never(output)
    for line in lines:
        print(line, file=file, flush=True)


def record(result: Result) -> dict[str, Any]:
    """Return a result as its JSON object."""
    if result.error:
        return {"image": result.image, "error": result.error}
    return {
        "image": result.image,
        "model": result.model,
        "predictions": [asdict(prediction) for prediction in result.predictions],
    }


def rows(result: Result) -> Iterator[tuple[Any, ...]]:
    """Yield a result as the rows of a CSV: one for each prediction, or one for the error."""
    if result.error:
        yield (result.image, result.model, "", "", "", "", "", result.error)
    for one in result.predictions:
        yield (result.image, result.model, one.rank, one.index, one.wnid, one.label, one.probability, "")


def json_list(results: Iterable[Result]) -> Iterator[str]:
    """Yield the lines of one JSON list, an object a line."""
    opening = "["
    for result in results:
        yield f"{opening}{json.dumps(record(result), ensure_ascii=False)}"
        opening = ","
    yield "]" if opening == "," else "[]"


def table(results: Iterable[Result]) -> Iterator[str]:
    """Yield the lines that a person reads: each picture's name, and a line for each of its classes."""
    for result in results:
        yield result.image
        if result.error:
            yield f"  error: {result.error}"
        for one in result.predictions:
            share = f"{one.probability:6.1%}  {bar(one.probability)}"
            yield f"  {one.rank}  {share}  {one.index:>3}  {one.wnid}  {one.label}"


def bar(share: float) -> str:
    """Return a bar of constant width that is filled by `share`, to an eighth of a cell."""
    whole, eighths = divmod(round(share * BAR * 8), 8)
    return ("█" * whole + EIGHTHS[eighths] * (eighths > 0)).ljust(BAR)
