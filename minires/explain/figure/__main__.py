"""python -m minires.explain.figure: measures golden.json again, with minires (a few seconds)."""

from pathlib import Path

from minires.explain.figure.measure import measured, written


def main() -> None:
    target = Path(__file__).with_name("golden.json")
    fresh = target.with_suffix(".new")
    fresh.write_text(written(measured()), encoding="utf-8")
    fresh.replace(target)
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
