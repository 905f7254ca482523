"""Models in transformers' format, as unitok checkpoints and back: files are read and written here, by name and shape.

`files.py` finds and reads what a folder holds, `text_models.py` turns text models into the start of an audio model,
`speech_models.py` takes released speech models as they are: `csm.py` and `flattened.py`, with `tokenizer_files.py`.
`mixing.py` makes one model of relatives.
"""
