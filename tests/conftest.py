"""The files that take longest go first, so that no process is left with one at the end while others have none."""

LONGEST = ("tasks_learn", "training_cli", "recipes", "patterns", "end_to_end", "examples", "cli_doctor", "data_corpora",
           "training_compare", "training_codecs")  # fmt: skip


def pytest_collection_modifyitems(items):
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
