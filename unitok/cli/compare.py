"""`unitok compare`: several settings trained on the same records with the same budget, in one table and one plot."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from unitok.cards import find_card
from unitok.cli.fit import calm, check_config
from unitok.cli.parser import Parser
from unitok.errors import UnitokError

__all__ = ["EXAMPLE", "run"]

EXAMPLE = """examples:
  unitok compare --base mini/lm --configs patterns/delay patterns/parallel patterns/flatten --trainer.max_steps 3000
  unitok compare --configs a.yaml b.yaml --trainer.max_time 00:00:20:00"""


def run(argv: Sequence[str]) -> int:
    """Compare; 0, or 1 if a setting failed."""
    parser = Parser(
        prog="unitok compare",
        description="Train several settings on the same records with the same budget, and compare them: loss of each "
        "codebook, frames per second in training and generation, the metrics of the tasks. What unitok fit takes "
        "(--trainer.max_steps, --data.init_args.…) goes to every run. A comparison that was stopped goes on.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--configs", nargs="+", required=True, metavar="CONFIG", help="the settings: configs, or overlays of --base"
    )
    parser.add_argument("--base", nargs="+", default=[], metavar="CONFIG", help="configs that all have in common")
    parser.add_argument("--out", type=Path, default=Path("out/compare"), metavar="DIR", help="default: out/compare")
    parser.add_argument(
        "--items", type=int, default=8, metavar="N", help="validation examples generated of each task (default: 8)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of their sampling (default: 0)")
    args, flags = parser.parse_known_args(list(argv)[1:])
    if args.items < 1:
        raise UnitokError(f"--items is {args.items}; it must be 1 or more.")
    base = [str(_found(name)) for name in args.base]
    settings: dict[str, list[str]] = {}
    for name in args.configs:
        path = _found(name)
        if path.stem in settings:
            raise UnitokError(f"two settings are called '{path.stem}'. Rename one of the files.")
        settings[path.stem] = [argument for one in (*base, str(path)) for argument in ("--config", one)] + flags
    from unitok.training.compare import compare, table

    with calm():
        outcomes = compare(settings, args.out, args.items, args.seed)
    print(table(outcomes))
    print(", ".join(str(file) for name in ("compare.md", "compare.png") if (file := args.out / name).is_file()))
    return int(any(one.error for one in outcomes))


def _found(name: str) -> Path:
    if not Path(name).is_file():
        return Path(find_card("configs", name.removesuffix(".yaml")))
    check_config(name)
    return Path(name)
